//! These tests prove the program, the packages and the image of arm64 on Debian for arm64, which QEMU emulates.
//!
//! QEMU translates the program's instructions and passes its system calls to this machine's kernel. systemd does not boot
//! that way, so the tests start the program as the unit would.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::engine::{Engine, alone, binary_for, package, root};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// The kernel runs arm64 programs by QEMU, also in containers, until the guard ends.
struct Emulation {
    directory: TempDir,
}

impl Emulation {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "binfmt_misc", "none"]).arg(directory.path()).status();
        assert!(mounted.unwrap().success(), "this kernel has no binfmt_misc");
        // O and F: the kernel opens QEMU now, so that a container does not need it. C: as the program's own user.
        let magic = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
        let mask = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
        let rule = format!(":{RULE}:M::{magic}:{mask}:/usr/bin/qemu-aarch64-static:OCF");
        let emulation = Self { directory };
        fs::write(emulation.directory.path().join("register"), rule).unwrap();
        emulation
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.path().join(RULE), "-1");
        let _ = Command::new("umount").arg(self.directory.path()).status();
    }
}

const RULE: &str = "packetboat-test-arm64";

/// Debian 12 for arm64 in a container, which runs until the engine ends.
fn machine(engine: &Engine) -> impl Fn(&str) -> String {
    engine.ok(&["run", "-d", "--platform", "linux/arm64", "--name", "machine", "debian:bookworm-slim", "sleep", "inf"]);
    |command: &str| engine.ok(&["exec", "machine", "sh", "-c", &format!("{{ {command}; }} 2>&1")])
}

#[test]
#[ignore = "minutes: make test-packages"]
fn the_arm64_package_observes_and_the_program_translates() {
    let _alone = alone();
    let program = binary_for(TARGET);
    let _emulation = Emulation::start();
    let engine = Engine::with("bookworm", "arm64");
    let directory = tempfile::tempdir().unwrap();
    let deb = package("debian", &program, directory.path());
    assert!(deb.to_str().unwrap().ends_with("_arm64.deb"));
    let rpm = package("rpm", &program, directory.path());
    assert!(rpm.to_str().unwrap().ends_with(".aarch64.rpm"));
    let run = machine(&engine);
    let bring = |file: &Path, to: &str| engine.ok(&["cp", file.to_str().unwrap(), &format!("machine:{to}")]);
    bring(&deb, "/root/packetboat.deb");
    bring(&rpm, "/root/packetboat.rpm");

    assert_eq!(run("uname -m; dpkg --print-architecture"), "aarch64\narm64");
    assert!(run("rpm -qp --requires /root/packetboat.rpm").contains("libc.so.6(GLIBC_2.34)(64bit)"));
    run("dpkg -i /root/packetboat.deb");
    assert!(run("dpkg -s packetboat").contains("Depends: libc6 (>= 2.34), "));
    assert!(run("packetboat --version").contains("OpenSSL 3.5."));
    assert_eq!(run("stat -c '%U:%G %a' /etc/packetboat/packetboat.toml"), "root:packetboat 640");
    run("packetboat check");
    // The demonstration: a device with TLS 1.0, a login, a mail, and both again over POP3.
    let shown = run("packetboat demo --once --state-directory /root/demo");
    for words in ["TLS 1.0 AES128-SHA ==> packetboat == TLS 1.3 ==>", "The mail came through, both ways."] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    // The service, as the unit starts it.
    run("install -d -o packetboat -g packetboat -m 700 /var/lib/packetboat");
    engine.ok(&["exec", "-d", "-u", "packetboat", "machine", "packetboat", "run"]);
    engine.until("health", &["exec", "machine", "packetboat", "health"], "alive");
    let hello = "printf 'a LOGIN scanner3 secret\\r\\na LOGOUT\\r\\n' | openssl s_client -quiet -tls1 -cipher \
                 AES128-SHA:@SECLEVEL=0 -connect 127.0.0.1:993";
    assert!(run(hello).contains("a NO [UNAVAILABLE]"));
    let devices = run("packetboat devices");
    assert!(devices.contains("needs packetboat: TLS 1.0 only") && devices.contains("scanner3"), "{devices}");
}

#[test]
#[ignore = "minutes: make test-packages"]
fn the_arm64_image_observes() {
    let _alone = alone();
    let program = binary_for(TARGET);
    let _emulation = Emulation::start();
    let engine = Engine::with("bookworm", "arm64");
    let source = root().to_str().unwrap();
    let file = format!("{source}/docker/Dockerfile");
    let prebuilt = format!("PREBUILT={}", program.parent().unwrap().strip_prefix(root()).unwrap().display());
    let build = ["build", "-q", "--platform", "linux/arm64", "-f", &file, "-t", "packetboat:arm64"];
    let arguments = ["--build-arg", "BINARY=prebuilt", "--build-arg", &prebuilt, source];
    engine.ok(&[&build[..], &arguments].concat());
    assert_eq!(engine.ok(&["image", "inspect", "-f", "{{.Architecture}}", "packetboat:arm64"]), "arm64");
    let configuration = format!("{source}/config/debian/packetboat.toml:/etc/packetboat/packetboat.toml:ro");
    let run =
        "run -d --name proxy --platform linux/arm64 --read-only --cap-drop ALL --security-opt no-new-privileges -v";
    let mut arguments: Vec<&str> = run.split(' ').collect();
    arguments.extend([&configuration, "packetboat:arm64"]);
    engine.ok(&arguments);
    engine.until("health", &["exec", "proxy", "packetboat", "health"], "alive");
    assert!(engine.ok(&["exec", "proxy", "packetboat", "--version"]).starts_with("packetboat "));
}
