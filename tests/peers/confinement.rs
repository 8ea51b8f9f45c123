//! These tests prove that the confined process keeps its memory from other processes, and cannot do what it has given
//! up.
//!
//! They compare it with its neighbours, with root where that is possible, and with its own memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::dovecot::{Dovecot, PASSWORD};
use support::imap::{Imap, status};
use support::issuer::Issuer;
use support::pop3::Pop3;
use support::process::{Lines, Process, copy_program};
use support::proxy::{Proxy, listener, upstreams};
use support::stacks::{Stack, Start, Version};
use support::translated::{self, account, device};

const DEVICE: &str = "Zq7-only-for-this-device-Zq7";
const WRONG: &str = "Zq8-wrong-but-still-one-Zq8";

const STACKS: [Stack; 3] = [
    Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" },
    Stack::Openssl { version: Version::Tls1_2, ciphers: "ECDHE-RSA-AES128-GCM-SHA256" },
    Stack::Gnutls,
];

/// The passwords of devices are gone after their logout: from the heap, the stacks, and the TLS libraries' buffers.
#[test]
fn a_devices_password_is_gone_from_memory_after_logout() {
    let issuer = Issuer::start();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let mailbox = dovecot.user_with(&[b"Subject: x\r\n\r\nx\r\n"]);
    let scanner = device("scanner-in-memory", "scans", DEVICE, "") + &account("scans", &mailbox, "implicit", &issuer);
    let proxy = translated::proxy(&dovecot, &scanner);
    let plain = |password: &str| openssl::base64::encode_block(format!("\0scanner-in-memory\0{password}").as_bytes());
    for stack in STACKS {
        let imap = || Imap::greeted(stack.connect(proxy.address("imap"), Start::Implicit));
        let mut one = imap();
        assert!(status(&one.command(&format!("LOGIN scanner-in-memory {WRONG}"))).starts_with("NO"));
        one.login("scanner-in-memory", DEVICE);
        one.ok("SELECT INBOX");
        one.ok("LOGOUT");
        let mut one = imap();
        one.device.send(format!("a LOGIN scanner-in-memory {{{}}}\r\n", DEVICE.len()));
        assert!(one.device.line().starts_with("+ "));
        one.device.send(format!("{DEVICE}\r\n"));
        assert!(status(&one.answer("a")).starts_with("OK"));
        one.ok("LOGOUT");
        let mut one = imap();
        one.ok(&format!("AUTHENTICATE PLAIN {}", plain(DEVICE)));
        one.ok("LOGOUT");
        // The password stands far into a record and a buffer, where later octets do not overwrite it.
        let mut one = imap();
        one.device.send(format!("{}z LOGIN scanner-in-memory {DEVICE}\r\n", "n NOOP\r\n".repeat(1500)));
        assert!(status(&one.answer("z")).starts_with("OK"));
        one.ok("LOGOUT");
        let mut one = Pop3::greeted(stack.connect(proxy.address("pop3"), Start::Implicit));
        one.ok("USER scanner-in-memory");
        one.ok(&format!("PASS {DEVICE}"));
        one.ok("QUIT");
    }
    proxy.logs(5 * STACKS.len(), "session ended");
    let memory = Memory::of(proxy.process.0.id());
    // The search works, because it finds values that must be there.
    assert!(memory.holds(mailbox.as_bytes()) && memory.holds(b"scanner-in-memory"));
    for secret in [DEVICE, WRONG] {
        assert_eq!(memory.around(secret.as_bytes()), [""; 0], "{secret}");
    }
    for secret in [plain(DEVICE), openssl::base64::encode_block(format!("\0{DEVICE}").as_bytes())] {
        assert_eq!(memory.around(secret.trim_end_matches('=').as_bytes()), [""; 0], "{secret}");
    }
}

/// A password that passes through to the server leaves no trace either.
#[test]
fn a_password_that_passes_through_is_gone_as_well() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::start(&(upstreams(&dovecot) + &listener("imap", "imap", "implicit", "upstream = \"implicit\"")));
    let user = dovecot.user_with(&[]);
    for stack in STACKS {
        let mut one = Imap::greeted(stack.connect(proxy.address("imap"), Start::Implicit));
        one.device.send(format!("{}z LOGIN {user} {PASSWORD:?}\r\n", "n NOOP\r\n".repeat(1500)));
        assert!(status(&one.answer("z")).starts_with("OK"));
        one.ok("LOGOUT");
    }
    proxy.logs(STACKS.len(), "session ended");
    let memory = Memory::of(proxy.process.0.id());
    assert!(memory.holds(user.as_bytes()));
    assert_eq!(memory.around(PASSWORD.as_bytes()), [""; 0]);
}

/// Another process of the same user can read neither environment nor memory. The kernel dumps no core, whatever the
/// limits at the start were.
#[test]
fn other_processes_read_no_memory_and_no_core_is_dumped() {
    let directory = tempfile::tempdir().unwrap();
    let as_nobody = |command: &mut Command| {
        // Root may read everything, so the test becomes another user where it can.
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.stdin(Stdio::null()).current_dir("/");
    };
    let file = observing(directory.path(), "");
    let state = directory.path().join("state");
    let program = directory.path().join("packetboat");
    copy_program(&program);
    if rustix::process::geteuid().is_root() {
        for path in [directory.path(), &state] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; exec \"$0\" run --config \"$1\""]).arg(&program).arg(&file);
    command.stderr(Stdio::piped());
    as_nobody(&mut command);
    let mut proxy = Process::start(&mut command);
    let log = Lines::of(proxy.0.stderr.take().unwrap());
    log.wait_for("line that it is ready", |line| line.contains("ready"));
    let mut control = Command::new("sleep");
    control.arg("60");
    as_nobody(&mut control);
    let control = Process::start(&mut control);
    let reads = |id: u32, what: &str| {
        let mut cat = Command::new("cat");
        cat.arg(format!("/proc/{id}/{what}")).stdout(Stdio::piped()).stderr(Stdio::piped());
        as_nobody(&mut cat);
        cat.output().unwrap().status.success()
    };
    let id = proxy.0.id();
    assert!(reads(id, "status"));
    for what in ["environ", "maps", "auxv", "io"] {
        assert!(reads(control.0.id(), what), "the test can tell: {what}");
        assert!(!reads(id, what), "{what}");
    }
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    proxy.signal("ABRT");
    let ended = proxy.wait();
    assert_eq!(ended.signal(), Some(6));
    assert!(!ended.core_dumped());
}

/// Every thread is confined, and the start says so. A reload that would need other files is refused with the reason.
#[test]
fn every_thread_is_confined_and_reloads_are_bound_by_it() {
    let text = listener("imap", "imap", "implicit", "");
    let proxy = Proxy::start(&text);
    let log = proxy.log.all();
    assert!(
        log.contains("confined by Landlock: files are written in ") && log.contains("confined by seccomp: "),
        "{log}"
    );
    let threads = fs::read_dir(format!("/proc/{}/task", proxy.process.0.id())).unwrap();
    let mut count = 0;
    for thread in threads {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let value = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!((value("Seccomp:").as_str(), value("NoNewPrivs:").as_str()), ("2", "1"), "{status}");
        count += 1;
    }
    assert!(count >= 2, "{count} threads");
    let elsewhere = tempfile::tempdir().unwrap();
    let (chain, key) = (elsewhere.path().join("chain.pem"), elsewhere.path().join("key.pem"));
    proxy.configure(&format!("[certificate.default]\nchain = {chain:?}\nkey = {key:?}\n{text}"));
    let (code, said) = proxy.reload();
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&format!("{} is in a directory that packetboat may not open", chain.display())), "{said}");
    proxy.configure(&text);
    assert_eq!(proxy.reload().0, 0);
}

#[test]
fn confinement_can_be_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = observing(directory.path(), "confine = false\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let (proxy, log) = Process::logged(command.args(["run", "--config"]).arg(&file));
    log.wait_for("warning", |line| line.contains("confine = false: this process can open every file"));
    log.wait_for("line that it is ready", |line| line.contains("ready"));
    assert!(!log.all().contains("confined by"));
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.0.id())).unwrap();
    assert!(status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "0"])), "{status}");
}

/// A configuration without mail server, with its state directory beside it.
fn observing(directory: &Path, more: &str) -> PathBuf {
    let (file, state) = (directory.join("packetboat.toml"), directory.join("state"));
    fs::create_dir(&state).unwrap();
    let text = format!(
        "state_directory = {state:?}\n{more}[admin]\nlisten = []\n[[listener]]\nprotocol = \"imap\"\n\
         listen = [\"127.0.0.1:0\"]\nobserve = true\n"
    );
    fs::write(&file, text).unwrap();
    file
}

/// The memory of a process, as root reads it.
struct Memory(Vec<(String, Vec<u8>)>);

impl Memory {
    fn of(process: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("only root may read it");
        let memory = File::open(format!("/proc/{process}/mem")).unwrap();
        let mut parts = Vec::new();
        for line in maps.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words.get(5).copied().unwrap_or("anonymous").to_owned();
            if !words[1].starts_with("rw") || name.starts_with("[v") {
                continue;
            }
            let (start, end) = words[0].split_once('-').unwrap();
            let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
            let mut octets = vec![0; usize::try_from(end - start).unwrap()];
            memory.read_exact_at(&mut octets, start).unwrap();
            parts.push((format!("{name} {start:x}"), octets));
        }
        assert!(parts.iter().any(|(name, _)| name.starts_with("[heap]")) && parts.len() > 5);
        Self(parts)
    }

    fn holds(&self, what: &[u8]) -> bool {
        !self.around(what).is_empty()
    }

    /// The octets around each occurrence.
    fn around(&self, what: &[u8]) -> Vec<String> {
        let places = self.0.iter().flat_map(|(name, octets)| {
            memchr::memmem::find_iter(octets, what).take(8).map(move |at| {
                let around = &octets[at.saturating_sub(48)..(at + what.len() + 48).min(octets.len())];
                format!("{name}+{at:x}: {}", around.escape_ascii())
            })
        });
        places.collect()
    }
}

/// A user that owns no files.
const NOBODY: u32 = 65534;
