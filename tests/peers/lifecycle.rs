//! These tests prove how connections and the process end: deletions happen or do not, closes are passed on, SIGTERM
//! drains.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};

use openssl::ssl::Ssl;
use support::device::Device;
use support::dovecot::{Dovecot, PASSWORD};
use support::harness::Harness;
use support::imap::{Imap, status};
use support::message;
use support::process::{Lines, Process};
use support::proxy::{Proxy, listener};
use support::server;
use support::stacks::{Version, context, old};
use support::strain::until;

/// Signals that logrotate, shells and container runtimes send by habit end no session; QUIT and PWR drain as TERM does.
#[test]
fn habitual_signals_end_no_session() {
    let dovecot = Dovecot::start();
    for last in ["QUIT", "PWR"] {
        let mut proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "");
        let mut device = proxy.imap("imap");
        device.login(&dovecot.user_with(&[]), PASSWORD);
        for signal in ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PIPE", "WINCH", "URG", "CHLD"] {
            proxy.process.signal(signal);
            device.ok("NOOP");
        }
        for signal in ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO"] {
            proxy.log.wait_for(signal, |line| line.contains(&format!("SIG{signal} is ignored: SIGHUP reloads")));
        }
        proxy.process.signal(last);
        proxy.log.wait_for("drain", |line| line.contains(&format!("SIG{last}: no new connections")));
        device.ok("NOOP");
        device.ok("LOGOUT");
        assert!(proxy.process.wait().success());
    }
}

/// Connections that the kernel has taken before the signal are served, because the next process has other sockets. The
/// proxy stands still while they come, so that it finds them together with the signal.
#[test]
fn connections_that_wait_at_the_signal_are_served() {
    let dovecot = Dovecot::start();
    for _ in 0..5 {
        let mut proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "");
        let user = dovecot.user_with(&[]);
        proxy.process.signal("STOP");
        let waiting: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(proxy.address("imap")).unwrap()).collect();
        proxy.process.signal("TERM");
        proxy.process.signal("CONT");
        for stream in waiting {
            let context = context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
            let stream = Ssl::new(&context).unwrap().connect(stream).expect("handshake");
            let mut device = Imap::greeted(Device::over(stream));
            device.login(&user, PASSWORD);
            device.ok("LOGOUT");
        }
        assert!(proxy.process.wait().success());
    }
}

/// Signals count from the first moment, here while the configuration is still being read.
#[test]
fn signals_while_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("packetboat.toml");
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.args(["run", "--config"]).arg(&file).stderr(Stdio::piped());
    let mut process = Process::start(&mut command);
    let log = Lines::of(process.0.stderr.take().unwrap());
    // Each of the two opens only once the proxy reads.
    let mut written = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    ["USR1", "USR2", "ALRM", "HUP", "PIPE"].iter().for_each(|signal| process.signal(signal));
    let state = directory.path().join("state");
    let listener = listener("imap", "imap", "implicit", "");
    let text = format!("state_directory = {state:?}\n[admin]\nlisten = []\n{listener}");
    // SIGHUP asks for a reload, which reads this file.
    std::fs::write(directory.path().join("next"), &text).unwrap();
    std::fs::rename(directory.path().join("next"), &file).unwrap();
    written.write_all(text.as_bytes()).unwrap();
    drop(written);
    for words in ["ready", "SIGUSR1 is ignored", "SIGUSR2 is ignored", "SIGALRM is ignored", "SIGHUP: reading"] {
        log.wait_for(words, |line| line.contains(words));
    }
}

/// The device sends QUIT and leaves before the answer; the server still gets the QUIT. The proxy never turns a lost
/// device into a QUIT.
#[test]
fn deletions_happen_with_quit_and_only_then() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "");
    let small = message(1024);
    for (last, left) in [("QUIT\r\n", 0), ("", 1), ("QUI", 1), ("NOOP\r\n", 1)] {
        for close in ["close_notify", "fin", "reset"] {
            let user = dovecot.user_with(&[&small]);
            let mut ssl = proxy.tls("pop3");
            let socket = ssl.get_ref().try_clone().unwrap();
            ssl.write_all(format!("USER {user}\r\nPASS {PASSWORD}\r\nDELE 1\r\n").as_bytes()).unwrap();
            let mut heard = Vec::new();
            let mut chunk = [0; 4096];
            while heard.iter().filter(|&&octet| octet == b'\n').count() < 4 {
                let count = ssl.read(&mut chunk).unwrap();
                heard.extend_from_slice(&chunk[..count]);
            }
            if !last.is_empty() {
                ssl.write_all(last.as_bytes()).unwrap();
            }
            match close {
                "close_notify" => drop(ssl.shutdown()),
                "fin" => socket.shutdown(Shutdown::Write).unwrap(),
                _ => {
                    let socket = socket2::SockRef::from(&socket);
                    socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                }
            }
            drop((ssl, socket));
            let line = proxy.session_of("login", &user);
            let messages = dovecot.messages_of(&user);
            assert_eq!(messages, left, "{last:?} {close}: {line}\n{}", dovecot.log());
        }
    }
}

/// The server closes; the device gets all of the server's octets, then close_notify.
#[test]
fn a_server_that_closes_is_passed_on() {
    for notify in [true, false] {
        let proxy = Harness::with("", move |mut stream| {
            let _ = stream.write_all(b"* OK ready\r\n");
            server::hear(&mut stream);
            let last = format!(
                "P2 OK in\r\n* 1 FETCH (BODY[] {{3}}\r\nabc)\r\n* BYE Session invalidated{}",
                "\r\n".repeat(500)
            );
            let _ = stream.write_all(last.as_bytes());
            if notify {
                let _ = stream.shutdown();
            }
        });
        let mut stream = proxy.tls("imap");
        stream.write_all(b"a LOGIN u p\r\n").unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        let heard = String::from_utf8(heard).unwrap();
        assert!(
            heard.ends_with(&format!(
                "a OK logged in\r\n* 1 FETCH (BODY[] {{3}}\r\nabc)\r\n* BYE Session invalidated{}",
                "\r\n".repeat(500)
            )),
            "{heard}"
        );
        assert_eq!(stream.get_shutdown(), openssl::ssl::ShutdownState::RECEIVED);
        drop(stream);
        assert_eq!(proxy.session_line("imap")["reason"], "server_closed");
    }
}

/// A device that has closed its half after the last command still gets its answers.
#[test]
fn a_half_closed_device_gets_its_answers() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "");
    let small = message(1024);
    let user = dovecot.user_with(&[&small]);
    let mut stream = proxy.tls("pop3");
    stream.write_all(format!("USER {user}\r\nPASS {PASSWORD}\r\nRETR 1\r\nQUIT\r\n").as_bytes()).unwrap();
    stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains("quick brown fox") && heard.matches("+OK").count() >= 5, "{heard}");
}

#[test]
fn sigterm_lets_sessions_end_and_then_ends_them() {
    let dovecot = Dovecot::start();
    let small = message(1024);
    let user = dovecot.user_with(&[&small]);
    let mut proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "[limits]\ndrain_timeout = \"1500ms\"\n");
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    proxy.process.signal("TERM");
    proxy.log.wait_for("drain", |line| line.contains("SIGTERM: no new connections"));
    until("the listener closes", || TcpStream::connect(proxy.address("imap")).is_err());
    // The running session goes on until its time is over.
    imap.ok("SELECT INBOX");
    assert!(imap.fetch(1) == small);
    assert_eq!(imap.device.line(), "* BYE proxy is going down");
    assert!(imap.device.has_ended());
    assert!(proxy.process.wait().success());
    assert_eq!(proxy.session_line("imap")["reason"], "drained");
}

#[test]
fn sigterm_waits_no_longer_than_the_last_session() {
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let mut proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "[limits]\ndrain_timeout = \"1h\"\n");
    let mut pop3 = proxy.pop3("pop3");
    pop3.login(&user, PASSWORD);
    proxy.process.signal("TERM");
    proxy.log.wait_for("drain", |line| line.contains("SIGTERM"));
    pop3.ok("STAT");
    pop3.ok("QUIT");
    drop(pop3);
    assert!(proxy.process.wait().success());
    proxy.log.wait_for("stop", |line| line.contains("stopped"));
}

/// The server goes away in the middle; the device is closed, and its next login is refused with the reason.
#[test]
fn a_server_that_dies_takes_no_device_with_it() {
    let mut dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "");
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    dovecot.stop();
    while imap.device.try_line().is_some() {}
    assert!(status(&proxy.imap("imap").command(&format!("LOGIN {user} {PASSWORD}"))).starts_with("NO [UNAVAILABLE]"));
}
