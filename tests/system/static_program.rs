//! These tests prove the program that is linked statically with musl: in a root without any library, and by its archive on
//! a booted system.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::process::copy_executable;
use tempfile::TempDir;

use crate::engine::{PATIENCE, alone, binary_for};
use crate::packages::archive;
use crate::service::Machine;

const TARGET: &str = "x86_64-unknown-linux-musl";

/// A root directory with the program, devices, /proc, an empty /tmp, and /etc/hosts: no C library, no shell.
struct Bare(TempDir);

impl Bare {
    fn with(program: &Path) -> Self {
        let bare = Self(tempfile::tempdir().unwrap());
        for directory in ["dev", "proc", "tmp", "etc"] {
            fs::create_dir(bare.0.path().join(directory)).unwrap();
        }
        copy_executable(program, &bare.0.path().join("packetboat"));
        for device in ["null", "urandom"] {
            let from = format!("/dev/{device}");
            let copied = Command::new("cp").arg("-a").arg(from).arg(bare.0.path().join("dev")).status();
            assert!(copied.unwrap().success(), "{device}");
        }
        bare.write("etc/hosts", "127.0.0.1 localhost\n");
        bare
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }

    /// The program in this root, with a /proc of its own.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.arg(format!("--mount-proc={}", self.0.path().join("proc").display()));
        command.arg("chroot").arg(self.0.path()).arg("/packetboat").args(arguments);
        command
    }

    /// Runs the program in this root; returns whether it succeeds, and its output.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.command(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}

/// A service that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An observing listener on a free port, and no page.
const RUN: &str = r#"
state_directory = "/tmp/run"
[admin]
listen = []
[[listener]]
name = "imap"
protocol = "imap"
listen = ["127.0.0.1:0"]
observe = true
"#;

#[test]
#[ignore = "minutes: make test-packages"]
fn the_static_program_needs_no_other_file() {
    let program = binary_for(TARGET);
    let headers = Command::new("readelf").args(["-h", "-l", "-d", "-W"]).arg(&program).output().unwrap();
    let headers = String::from_utf8(headers.stdout).unwrap();
    assert!(!headers.contains("INTERP") && !headers.contains("(NEEDED)"), "{headers}");
    assert!(headers.contains("DYN (Position-Independent Executable file)"), "its addresses are random: {headers}");

    let bare = Bare::with(&program);
    let (is_well, said) = bare.run(&["--version"]);
    assert!(is_well && said.contains("OpenSSL 3.5."), "{said}");
    bare.write("run.toml", RUN);
    let (is_well, said) = bare.run(&["check", "-c", "/run.toml"]);
    assert!(is_well && said.contains("Observes private networks"), "{said}");
    // A device with TLS 1.0 sends a scan and reads its mail. Names come from /etc/hosts.
    let demo = ["demo", "--once", "--listen", "127.0.0.1", "--state-directory", "/tmp/demo"];
    let (is_well, said) = bare.run(&demo);
    assert!(is_well && said.contains("TLS 1.0 AES128-SHA ==> packetboat == TLS 1.3 ==>"), "{said}");
    assert!(said.contains("the mail came through, both ways."), "{said}");
    // The service, and a command that queries it by its socket alone.
    let service = Running(bare.command(&["run", "-c", "/run.toml"]).stderr(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    loop {
        let (is_well, said) = bare.run(&["health", "--state-directory", "/tmp/run"]);
        if is_well && said.contains("alive") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(service);
    // Without the name no mail server is found, and the device is told so.
    bare.write("etc/hosts", "");
    let (is_well, said) = bare.run(&demo);
    assert!(!is_well && said.contains("mail server not reachable, try again later"), "{said}");
}

#[test]
#[ignore = "minutes: make test-packages"]
fn the_static_archive_on_a_booted_system() {
    let _alone = alone();
    let machine = Machine::boot();
    archive(&machine, &binary_for(TARGET));
    let bill = machine.ok("cat /root/archive/local/share/doc/packetboat/packetboat.cdx.json");
    assert!(bill.contains(TARGET), "{bill}");
}
