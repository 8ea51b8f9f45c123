//! Commands that change the configuration while they are killed at any moment: the file is never torn, and comments stay.

use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use packetboat::config::Config;

use super::*;

const DEVICES: usize = 300;
const EDITS: usize = 1000;

/// A configuration of 300 devices, each with a comment of its own and one apart.
fn large() -> String {
    let mut text = format!(
        "# The first line.\n{}[identity.office]\ntenant = \"contoso.example\"\n\
         client_id = \"11111111-2222-3333-4444-555555555555\" # an id\nclient_secret_file = \"/nowhere\"\n\
         [account.scans]\nmailbox = \"scans@contoso.example\"\n",
        listener("").replace("logins = \"pass-through\"\n", "")
    );
    for number in 0..DEVICES {
        let _ = write!(
            text,
            "\n# Room {number}.\n\n# Device {number}.\n[[device]]\nlogin = \"device{number}\" # login {number}\n\
             passwords = [\"{HASH}\"]\n"
        );
    }
    // One that stays: its edits are not killed, and measured.
    let _ = write!(text, "\n[[device]]\nlogin = \"kept\"\npasswords = [\"{HASH}\"]\n");
    text + "# The last line.\n"
}

/// Lines that no edit of the test may change: comments apart, and those of devices that stay.
fn lasting(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("# Room") || line.ends_with(" line.") || line.contains("an id"))
        .collect()
}

#[test]
fn a_thousand_edits_under_kill_tear_nothing() {
    let bench = Bench::new();
    fs::write(bench.path("secret"), "secret").unwrap();
    let file = bench.configure(&large().replace("/nowhere", bench.path("secret").to_str().unwrap()));
    fs::set_permissions(bench.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(arguments).arg("--config").arg(&file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // The certificate is there, as beside a proxy that has run; and this is how long an edit takes here.
    assert!(command(&["certificate", "renew"]).status().unwrap().success());
    let measure = || {
        let begun = Instant::now();
        assert!(command(&["device", "password", "kept"]).status().unwrap().success());
        begun.elapsed()
    };
    let whole = Mutex::new(measure());
    let before = fs::read_to_string(&file).unwrap();
    let (next, finished) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let edit = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= EDITS {
                return;
            }
            // Other tests make the computer slower and faster.
            if number % 50 == 49 {
                let measured = measure();
                *whole.lock().unwrap() = measured;
            }
            let whole = *whole.lock().unwrap();
            let device = format!("device{}", number % DEVICES);
            let arguments: Vec<&str> = match number % 4 {
                0 | 1 => vec!["device", "remove", &device],
                2 => vec!["device", "password", &device, "--keep"],
                _ => vec!["device", "add", &device, "--account", "scans"],
            };
            let mut child = command(&arguments).spawn().unwrap();
            // A moment that differs from edit to edit, up to somewhat longer than an edit takes.
            std::thread::sleep(whole * (number as u32 * 37 % 160) / 100);
            let is_over = child.try_wait().unwrap().is_some_and(|status| status.success());
            finished.fetch_add(usize::from(is_over), Ordering::Relaxed);
            let _ = child.kill();
            child.wait().unwrap();
            let text = fs::read_to_string(&file).unwrap();
            assert!(Config::parse(&text, &file).is_ok(), "torn by edit {number}");
            assert_eq!(lasting(&text), lasting(&before), "edit {number}");
        }
    };
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(edit));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let finished = finished.into_inner();
    assert!(finished > 20, "only {finished} edits came to their end");
    assert!(finished < EDITS - 100, "only {} edits were killed", EDITS - finished);
    // What the kills have left is swept by the next edit.
    assert!(command(&["device", "add", "last", "--account", "scans"]).status().unwrap().success());
    let mut there: Vec<String> = fs::read_dir(bench.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, ["packetboat.toml", "packetboat.toml.lock", "secret", "state"]);
}

pub(crate) const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$Wq1yEfx1cGDDHgCN5n7zYyUVbnpmqIkpVzF0TwOLrqs";
