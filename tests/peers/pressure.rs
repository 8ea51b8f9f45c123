//! These tests prove that peers that do not read, do not answer, dawdle or leave early have bounded effect, and get a
//! true reason.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::planted::Wires;
use support::connection::Socket;
use support::device::{Device, tcp};
use support::dovecot::{Dovecot, PASSWORD};
use support::harness::Harness;
use support::imap::{Imap, status};
use support::message;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, upstreams};
use support::server;
use support::stacks::{Start, TLS_1_0, Version, old, openssl};
use support::strain::until;
use support::translated::DEVICE_PASSWORD;

/// A proxy in front of a server that takes connections and never says a word.
fn in_front_of_silence(limits: &str) -> (TcpListener, Proxy) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::for_port(silent.local_addr().unwrap().port(), &format!("[limits]\n{limits}"));
    (silent, proxy)
}

/// Writes until the other side accepts no more for a while; returns the number of octets.
fn stuff(stream: &mut impl Write, words: &[u8], most: usize) -> usize {
    let mut taken = 0;
    while taken < most {
        match stream.write(words) {
            Ok(count) => taken += count,
            Err(_) => break,
        }
    }
    taken
}

#[test]
fn a_device_that_does_not_read_cannot_fill_the_memory() {
    let proxy = Proxy::start(&listener("imap", "imap", "starttls", ""));
    let mut stream = tcp(proxy.address("imap"));
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let before = proxy.process.figure("VmRSS:");
    let taken = stuff(&mut stream, &b"a CAPABILITY\r\n".repeat(1000), 256 << 20);
    let grown = proxy.process.figure("VmRSS:").saturating_sub(before);
    assert!(taken < 64 << 20, "the device was never held up: {taken} octets");
    assert!(grown < 4096, "grown by {grown} KiB for {taken} octets");
}

#[test]
fn a_server_that_floods_an_unread_device_cannot_fill_the_memory() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let harness = Harness::with("", move |mut stream| {
        let _ = stream.write_all(b"* OK ready\r\n");
        server::hear(&mut stream);
        let _ = stream.write_all(b"P2 OK in\r\n");
        stream.get_ref().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let taken = stuff(&mut stream, &b"* CAPABILITY IMAP4rev1 STARTTLS\r\n".repeat(400), 256 << 20);
        let _ = sender.send(taken);
        let _ = stream.read(&mut [0]);
    });
    let mut stream = harness.tls("imap");
    stream.write_all(b"a LOGIN u p\r\n").unwrap();
    let before = harness.process.figure("VmRSS:");
    let taken = receiver.recv_timeout(PATIENCE).unwrap();
    let grown = harness.process.figure("VmRSS:").saturating_sub(before);
    assert!(taken < 64 << 20, "the server was never held up: {taken} octets");
    assert!(grown < 4096, "grown by {grown} KiB for {taken} octets");
}

/// The server's time during the login does not count against the device's.
#[test]
fn a_refused_login_gives_the_device_its_own_time_again() {
    let harness = Harness::with("[limits]\nupstream_login_timeout = \"300ms\"", |mut stream| {
        let _ = stream.write_all(b"* OK ready\r\n");
        server::hear(&mut stream);
        server::say(stream, "P2 NO LOGIN failed.\r\n");
    });
    let mut imap = harness.imap("imap");
    let refused = Instant::now();
    assert!(status(&imap.command("LOGIN u p")).starts_with("NO [AUTHENTICATIONFAILED]"));
    while refused.elapsed() < Duration::from_millis(700) {
        imap.ok("NOOP");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(status(&imap.command("LOGIN u p")).starts_with("NO [AUTHENTICATIONFAILED]"));
}

/// A device that has closed its half gets everything, as long as octets move.
#[test]
fn a_half_closed_device_gets_a_slow_mail_whole() {
    let harness = Harness::with("[limits]\nclose_timeout = \"600ms\"", |mut stream| {
        for (heard, said) in [("", "+OK ready"), ("USER", "+OK"), ("PASS", "+OK in"), ("RETR", "+OK mail follows")] {
            if !heard.is_empty() {
                assert!(server::hear(&mut stream).starts_with(heard));
            }
            let _ = stream.write_all(format!("{said}\r\n").as_bytes());
        }
        for number in 0..12 {
            let _ = stream.write_all(format!("line {number}\r\n").as_bytes());
            std::thread::sleep(Duration::from_millis(150));
        }
        let _ = stream.write_all(b".\r\n");
        assert!(server::hear(&mut stream).starts_with("QUIT"));
        let _ = stream.write_all(b"+OK bye\r\n");
        let _ = stream.shutdown();
    });
    let mut stream = harness.tls("pop3");
    stream.write_all(b"USER u\r\nPASS p\r\nRETR 1\r\nQUIT\r\n").unwrap();
    stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert!(heard.ends_with("line 11\r\n.\r\n+OK bye\r\n"), "{heard}");
    assert_eq!(harness.session_line("pop3")["reason"], "logged_out");
}

/// The device leaves after QUIT, and the server never answers; the log does not call that a success.
#[test]
fn a_server_that_does_not_answer_quit_is_named() {
    let harness = Harness::with("[limits]\nclose_timeout = \"300ms\"", |mut stream| {
        for said in ["+OK ready", "+OK", "+OK in"] {
            let _ = stream.write_all(format!("{said}\r\n").as_bytes());
            server::hear(&mut stream);
        }
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut stream = harness.tls("pop3");
    stream.write_all(b"USER u\r\nPASS p\r\nQUIT\r\n").unwrap();
    let mut heard = [0; 200];
    while !String::from_utf8_lossy(&heard).contains("logged in") {
        let _ = stream.read(&mut heard).unwrap();
    }
    drop(stream);
    let line = harness.session_line("pop3");
    assert_eq!(line["reason"], "upstream_timeout", "{line}");
    assert!(line["message"].as_str().unwrap().contains("limits.close_timeout = 300ms"));
}

/// The device leaves without a word, and the server neither answers nor closes. The session ends all the same, and
/// costs nothing until then.
#[test]
fn a_server_that_ignores_the_close_does_not_hold_the_connection() {
    let harness = Harness::with("[limits]\nupstream_login_timeout = \"700ms\"", |mut stream| {
        let _ = stream.write_all(b"* OK ready\r\n");
        server::hear(&mut stream);
        let _ = stream.write_all(b"P2 OK in\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
        // The proxy's half stays open until it gives up, which is an error here or an end.
        let _ = stream.get_mut().read(&mut [0]);
        std::thread::park_timeout(PATIENCE);
    });
    let mut imap = harness.imap("imap");
    imap.login("u", "p");
    drop(imap);
    let line = harness.session_line("imap");
    assert_eq!(line["reason"], "upstream_timeout", "{line}");
    assert!(line["message"].as_str().unwrap().contains("limits.upstream_login_timeout = 700ms"), "{line}");
}

/// A temporary failure is reported as such, because devices drop an account for anything else.
#[test]
fn temporary_failures_are_reported_as_temporary() {
    let port = server::plain(|stream| {
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let proxy = Proxy::for_port(port, "");
    let mut imap = proxy.imap("imap");
    assert!(status(&imap.command("LOGIN u p")).starts_with("NO [UNAVAILABLE]"));
    // The reset may meet the connection, or the attempt to connect.
    proxy.log.wait_for("reason", |line| {
        line.contains("login failed") && (line.contains("\"upstream_lost\"") || line.contains("\"connect\""))
    });
    for (words, code, log) in [
        ("P2 NO Server Unavailable. 15", "UNAVAILABLE", "it said \\\"Server Unavailable\\\""),
        ("P2 NO Request is throttled. Suggested Backoff Time: 299961 milliseconds", "UNAVAILABLE", "299961"),
        ("P2 NO [AUTHORIZATIONFAILED] not yours", "AUTHORIZATIONFAILED", "it said \\\"[AUTHORIZATIONFAILED]\\\""),
        ("P2 NO [CONTACTADMIN] see your admin", "CONTACTADMIN", "it said \\\"[CONTACTADMIN]\\\""),
        ("* BYE cannot parse: LOGIN \"u\" \"topsecret\"", "UNAVAILABLE", "mail server is unavailable"),
    ] {
        let harness = Harness::with("", move |mut stream| {
            let _ = stream.write_all(b"* OK ready\r\n");
            server::hear(&mut stream);
            let _ = stream.write_all(format!("{words}\r\n").as_bytes());
            // The device leaves with a reset; its commands count all the same.
            let _ = socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
        });
        let mut imap = harness.imap("imap");
        let answer = imap.command("LOGIN u topsecret");
        assert!(status(&answer).starts_with(&format!("NO [{code}]")), "{words}: {answer:?}");
        let line = harness.log.wait_for("login line", |line| line.contains("login failed"));
        assert!(line.contains(log) && !line.contains("topsecret"), "{line}");
    }
}

#[test]
fn a_token_that_runs_out_in_the_middle_is_passed_on() {
    let harness = Harness::with("", |mut stream| {
        let _ = stream.write_all(b"* OK ready\r\n");
        server::hear(&mut stream);
        let _ = stream.write_all(b"P2 OK in\r\n+ idling\r\n* BYE Session invalidated - AccessTokenExpired\r\n");
    });
    let mut imap = harness.imap("imap");
    imap.login("u", "p");
    assert_eq!(imap.device.line(), "+ idling");
    assert_eq!(imap.device.line(), "* BYE Session invalidated - AccessTokenExpired");
    assert!(imap.device.has_ended());
}

/// SIGTERM comes while the server is dialled; the device is told, and the log has a line.
#[test]
fn sigterm_ends_a_login_as_well() {
    let (silent, mut proxy) = in_front_of_silence("drain_timeout = \"200ms\"");
    let mut imap = proxy.imap("imap");
    imap.device.send("a LOGIN u p\r\n");
    let _dialled = silent.accept().unwrap();
    proxy.process.signal("TERM");
    assert!(imap.device.line().starts_with("a NO [UNAVAILABLE]"));
    assert_eq!(imap.device.line(), "* BYE proxy is going down");
    assert!(proxy.process.wait().success());
    assert_eq!(proxy.session_line("imap")["reason"], "drained");
}

#[test]
fn a_second_signal_ends_at_once() {
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let mut proxy = Proxy::for_dovecot(&dovecot, ["implicit"; 2], "[limits]\ndrain_timeout = \"1h\"\n");
    let mut imap = proxy.imap("imap");
    imap.login(&user, PASSWORD);
    proxy.process.signal("INT");
    proxy.log.wait_for("drain", |line| line.contains("SIGINT: no new connections"));
    imap.ok("NOOP");
    proxy.process.signal("INT");
    assert_eq!(imap.device.line(), "* BYE proxy is going down");
    assert!(proxy.process.wait().success());
}

/// A device that breaks off during the dial frees its place. A device that closes its half may have sent everything, so
/// its login ends normally, within a bound.
#[test]
fn a_device_that_leaves_during_the_dial_is_forgotten() {
    for (closes, reason) in [(false, "device_lost"), (true, "device_closed")] {
        let timeout = if closes { "1s" } else { "1h" };
        let (silent, proxy) =
            in_front_of_silence(&format!("connections = 1\nupstream_handshake_timeout = \"{timeout}\""));
        let mut stream = proxy.tls("imap");
        stream.write_all(b"a LOGIN u p\r\n").unwrap();
        let _dialled = silent.accept().unwrap();
        assert!(Device::plain(proxy.address("pop3")).has_ended());
        proxy.log.wait_for("refusal", |line| line.contains("too many connections: limits.connections = 1"));
        if closes {
            let _ = stream.shutdown();
        } else {
            SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
        assert_eq!(proxy.session_line("imap")["reason"], reason);
        until("the place is given back", || {
            openssl(proxy.address("pop3"), Start::Implicit, |context| old(context, Version::Tls1_0, "ALL")).is_ok()
        });
    }
}

/// A device that leaves after its login and returns holds neither a place in its mailbox nor the server. It is answered
/// for as long as closing takes, and never queued.
#[test]
fn devices_that_close_behind_a_login_do_not_pile_up() {
    let wires = Wires::with("close_timeout = \"500ms\"\nsessions_per_mailbox = 1\nmailbox_queue = \"1h\"\n");
    let login = format!("a LOGIN deleting {DEVICE_PASSWORD}\r\n");
    let mut inside = wires.connect("imap");
    inside.send(&login);
    assert!(inside.line().starts_with("a OK"));
    // The device closes before it enters the queue, or while it waits there.
    let mut device = tcp(wires.proxy.address("clear"));
    device.write_all(login.as_bytes()).unwrap();
    device.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    device.read_to_string(&mut heard).unwrap();
    assert!(heard.contains("a NO [INUSE]"), "{heard}");
    wires.proxy.logs(1, "the device has closed its half, and is not waited for");
    // The handshake and the login meet a server that sends nothing.
    let (_silent, dialled) = in_front_of_silence("close_timeout = \"500ms\"\nupstream_handshake_timeout = \"1h\"");
    let mute = Harness::with("[limits]\nclose_timeout = \"500ms\"\nupstream_login_timeout = \"1h\"", |mut stream| {
        let _ = stream.write_all(b"* OK ready\r\n");
        while stream.read(&mut [0; 99]).is_ok_and(|count| count > 0) {}
    });
    for proxy in [&dialled, &*mute] {
        let mut stream = proxy.tls("imap");
        stream.write_all(b"a LOGIN u p\r\n").unwrap();
        let _ = stream.shutdown();
        drop(stream);
        let line = proxy.session_line("imap");
        assert!(line["reason"] == "device_lost" && line.to_string().contains("limits.close_timeout = 500ms"), "{line}");
    }
}

/// A device that does not read must not make the server look as if it had announced too much.
#[test]
fn a_device_that_reads_slowly_is_not_the_servers_fault() {
    let wires = Wires::with("upstream_login_timeout = \"1s\"\n");
    for login in ["deleting", "guarded"] {
        let mut device = tcp(wires.proxy.address("clear"));
        device.write_all(format!("a LOGIN {login} {DEVICE_PASSWORD}\r\nb FETCH 8 BODY[]\r\n").as_bytes()).unwrap();
        let mut heard = Vec::new();
        while !heard.windows(4).any(|four| four == b"xxxx") {
            let mut some = [0; 64];
            let count = device.read(&mut some).unwrap();
            heard.extend(&some[..count]);
        }
        device.write_all(b"c LOGIN u p\r\n").unwrap();
        // The pause is longer than the server may be silent.
        std::thread::sleep(Duration::from_millis(2500));
        device.write_all(b"d LOGOUT\r\n").unwrap();
        device.read_to_end(&mut heard).unwrap();
        assert!(heard.len() > 16 << 20, "{login}: {}", heard.len());
        let end = String::from_utf8_lossy(&heard[heard.len() - 100..]).into_owned();
        assert!(["b OK", "c BAD", "d OK"].iter().all(|answer| end.contains(answer)), "{login}: {end}");
    }
}

#[test]
fn a_server_that_does_not_shake_hands_in_time() {
    let (_silent, proxy) = in_front_of_silence("upstream_handshake_timeout = \"200ms\"");
    let mut imap = proxy.imap("imap");
    assert!(status(&imap.command("LOGIN u p")).starts_with("NO [UNAVAILABLE]"));
    proxy.log.wait_for("reason", |line| line.contains("mail server did not answer in time: 127.0.0.1: TLS handshake"));
}

/// Dovecot accepts only PLAIN as Debian configures it; a device that sends AUTH=LOGIN logs in all the same.
#[test]
fn a_mechanism_that_the_server_lacks_is_replaced_by_another() {
    let dovecot = Dovecot::start_with_mechanisms("plain");
    let proxy = Proxy::start(
        &(upstreams(&dovecot)
            + &listener("imap", "imap", "implicit", "upstream = \"implicit\"")
            + &listener("imap2", "imap", "implicit", "upstream = \"starttls\"")
            + &listener("pop3", "pop3", "implicit", "upstream = \"implicit\"")),
    );
    let mail = message(1024);
    let user = dovecot.user_with(&[&mail]);
    let answers = [openssl::base64::encode_block(user.as_bytes()), openssl::base64::encode_block(PASSWORD.as_bytes())];
    for name in ["imap", "imap2", "pop3"] {
        let mut device = TLS_1_0.connect(proxy.address(name), Start::Implicit);
        device.line();
        device.send(if name == "pop3" { "AUTH LOGIN\r\n" } else { "a AUTHENTICATE LOGIN\r\n" });
        for answer in &answers {
            assert!(device.line().starts_with("+ "));
            device.send(format!("{answer}\r\n"));
        }
        let line = device.line();
        assert!(line.starts_with("a OK") || line.starts_with("+OK"), "{name}: {line}");
    }
}

/// A device that falls back after a failure is refused, so that it looks at that failure (RFC 7507).
#[test]
fn a_needless_fallback_is_refused() {
    let proxy = Proxy::start(&listener("imap", "imap", "implicit", ""));
    let mut command = std::process::Command::new("openssl");
    let address = proxy.address("imap").to_string();
    command.args(["s_client", "-connect", &address, "-tls1", "-fallback_scsv", "-cipher", "AES128-SHA:@SECLEVEL=0"]);
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("inappropriate fallback"));
    let line = proxy.session_line("imap");
    assert!(line["message"].as_str().unwrap().contains("FALLBACK_SCSV"), "{line}");
}

/// Without open files the proxy accepts no connection for a while, loses none, and goes on when files are free again.
#[test]
fn out_of_open_files_it_pauses() {
    let dovecot = Dovecot::start();
    let user = dovecot.user_with(&[]);
    let proxy = Proxy::start(&(upstreams(&dovecot) + &listener("imap", "imap", "implicit", "upstream = \"implicit\"")));
    let mut session = proxy.imap("imap");
    session.login(&user, PASSWORD);
    let id = proxy.process.0.id().to_string();
    let limit = |soft: usize| {
        let limit = format!("--nofile={soft}:20000");
        let done = std::process::Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap();
        assert!(done.success());
    };
    limit(proxy.process.open_files() + 2);
    let waiting: Vec<Socket> = (0..8).map(|_| tcp(proxy.address("imap"))).collect();
    let line = proxy.log.wait_for("pause", |line| line.contains("cannot accept connections; trying again in a second"));
    assert!(line.contains("\"level\":\"ERROR\""), "{line}");
    session.ok("NOOP");
    limit(4096);
    for stream in waiting {
        let context = support::stacks::context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
        let stream = openssl::ssl::Ssl::new(&context).unwrap().connect(stream).unwrap();
        drop(Imap::greeted(Device::over(stream)));
    }
    session.ok("LOGOUT");
    assert!(proxy.get("/metrics").contains("packetboat_accept_pauses_total{listener=\"imap\"} "));
}
