//! Commands that change the configuration where something is in the way: a read-only or mounted file, a proxy that does not
//! answer; and names and line ends that differ from the usual ones.

use std::process::Stdio;

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, Signal, kill_process};

use super::credential::start;
use super::*;

/// A configuration with one device, which has an alias.
fn office() -> Bench {
    let bench = Bench::new();
    let secret = bench.path("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    bench.configure(&format!(
        "# The office.\n{}[identity.office]\ntenant = \"contoso.example\"\n\
         client_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = {secret:?}\n\
         [account.scans]\nmailbox = \"scans@contoso.example\"\n[[device]]\nlogin = \"scanner3\"\n\
         aliases = [\"Scans@contoso.example\"]\npasswords = [\"{}\"]\n",
        listener("").replace("logins = \"pass-through\"\n", ""),
        edit::HASH
    ));
    bench
}

fn text(bench: &Bench) -> String {
    fs::read_to_string(bench.path("packetboat.toml")).unwrap()
}

/// Runs a command on the file as it is.
fn run(bench: &Bench, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.args(arguments).arg("--config").arg(bench.path("packetboat.toml")).stdin(Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", out(output), err(output));
    out(output)
}

const ADD: [&str; 5] = ["device", "add", "fax", "--account", "scans"];

#[test]
fn a_device_has_its_aliases_as_names_in_every_command() {
    let bench = office();
    succeeds(&run(&bench, &ADD));
    let alias = "SCANS@contoso.example";
    let sheet = succeeds(&run(&bench, &["device", "sheet", alias]));
    assert!(sheet.contains("user name   scanner3"), "{sheet}");
    let password = succeeds(&run(&bench, &["device", "password", alias]));
    assert!(password.contains("user name   scanner3") && !text(&bench).contains(edit::HASH), "{password}");
    succeeds(&run(&bench, &["device", "remove", alias]));
    assert!(!text(&bench).contains("scanner3") && text(&bench).contains("fax"), "{}", text(&bench));
    for command in ["sheet", "password", "remove"] {
        fails(&run(&bench, &["device", command, alias]), 64, &format!("there is no device \"{alias}\""));
    }
}

#[test]
fn lines_that_end_with_cr_and_lf_still_do() {
    let bench = office();
    let before = text(&bench).replace('\n', "\r\n");
    fs::write(bench.path("packetboat.toml"), &before).unwrap();
    succeeds(&run(&bench, &ADD));
    let after = text(&bench);
    assert!(after.starts_with(&before) && after.contains("login = \"fax\"\r\n"), "{after:?}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
}

#[test]
fn a_read_only_file_stays_until_the_printed_command() {
    let bench = office();
    let (file, before) = (bench.path("packetboat.toml"), text(&bench));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o440)).unwrap();
    for arguments in [&ADD[..], &["device", "password", "scanner3"], &["account", "remove", "scans"]] {
        let refused = run(&bench, arguments);
        fails(
            &refused,
            69,
            "packetboat.toml is read-only, and nothing was changed. To let packetboat change it: chmod",
        );
        assert_eq!((text(&bench), fs::metadata(&file).unwrap().mode() & 0o777), (before.clone(), 0o440));
    }
    let said = err(&run(&bench, &ADD));
    let command = said.trim_end().split_once("change it: ").unwrap().1;
    assert!(Command::new("sh").args(["-ec", command]).status().unwrap().success(), "{command}");
    succeeds(&run(&bench, &ADD));
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640, "{command}");
}

/// Containers mount single files: such a file cannot be replaced.
#[test]
fn a_mounted_file_cannot_be_replaced_and_a_mounted_directory_can() {
    let bench = office();
    if fs::metadata(bench.directory.path()).unwrap().uid() != 0 {
        eprintln!("not root: not tried");
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("namespaces: run this as root");
    let shell = |command: &str| assert!(Command::new("sh").args(["-ec", command]).status().unwrap().success());
    let (file, directory) = (bench.path("packetboat.toml"), bench.directory.path());
    let before = text(&bench);
    shell(&format!("mount --make-rprivate /; mount --bind {0} {0}", file.display()));
    let refused = run(&bench, &ADD);
    fails(
        &refused,
        74,
        "the file itself is mounted, perhaps into a container: mount the directory that it is in instead",
    );
    assert_eq!(text(&bench), before);
    shell(&format!("umount {}; mount --bind {1} {1}", file.display(), directory.display()));
    succeeds(&run(&bench, &ADD));
    assert!(text(&bench).contains("login = \"fax\""));
    shell(&format!("umount {}", directory.display()));
}

/// A change stays if the proxy's answer does not come: the password is shown, and a reload asks again.
#[test]
fn a_change_stays_where_the_proxy_does_not_answer() {
    let bench = office();
    let service = start(&bench);
    let process = Pid::from_raw(service.0.id().try_into().unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let added = run(&bench, &ADD);
    kill_process(process, Signal::CONT).unwrap();
    fails(&added, 75, "packetboat.toml: changed, but packetboat has not answered for 30 seconds, and may use the new");
    assert!(err(&added).contains("packetboat reload asks again"), "{}", err(&added));
    assert!(out(&added).contains("password    "), "{}", out(&added));
    assert!(text(&bench).contains("login = \"fax\""), "{}", text(&bench));
    let asked = run(&bench, &["reload"]);
    assert!(succeeds(&asked).contains("configuration reloaded"), "{}", out(&asked));
}
