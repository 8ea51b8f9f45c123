//! `packetboat init` takes a privileged port where systemd opens it now and after the next start of the computer, and says
//! how else.

use std::process::Stdio;

use support::process::executable;

use super::service::{Host, shell};
use super::*;

/// A systemd whose socket is open and not enabled, until somebody enables it.
const SYSTEMCTL: &str = "#!/bin/sh\nenabled=/etc/packetboat-imaps.enabled\ncase \"$*\" in\n\
    *is-enabled*) test -e $enabled;;\n'enable --now packetboat-imaps.socket') touch $enabled;;\n*) true;;\nesac\n";

#[test]
fn a_socket_that_is_not_enabled_is_told_with_the_command() {
    let Some(host) = Host::new() else { return };
    let path = |name: &str| host.bench.path(name);
    executable(&path("systemctl"), SYSTEMCTL);
    shell("mkdir -p /etc/systemd/system");
    fs::write("/etc/systemd/system/packetboat-imaps.socket", "[Socket]\nListenStream=0.0.0.0:993\n").unwrap();
    fs::write(path("devices.csv"), "scanner3,scans@contoso.example,imap\n").unwrap();
    host.bench.configure("");
    let searched = format!("{}:{}", host.bench.directory.path().display(), std::env::var("PATH").unwrap());
    let init = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(["init", "--yes", "--dry-run", "--tenant", "contoso.example", "--devices"]);
        command.arg(path("devices.csv")).arg("--config").arg(path("packetboat.toml")).env("PATH", &searched);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let first = init();
    assert!(first.status.success(), "{}", err(&first));
    assert!(out(&first).contains("listen = [\"0.0.0.0:1993\", \"[::]:1993\"]"), "{}", out(&first));
    let said = err(&first);
    let words = "packetboat-imaps.socket is not enabled: devices shall use port 1993 instead of 993. For 993, run ";
    let line = said.lines().find_map(|line| line.strip_prefix(words)).unwrap_or_else(|| panic!("{said}"));
    let command = line.strip_suffix(", then this command again").unwrap();
    shell(&format!("PATH={searched}; {command}"));
    let second = init();
    assert!(out(&second).contains("listen = [\"0.0.0.0:993\", \"[::]:993\"]"), "{}{}", out(&second), err(&second));
    assert!(!err(&second).contains("not enabled"), "{}", err(&second));
}
