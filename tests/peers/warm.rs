//! These tests prove that warm connections to the mail server are used, replaced, and never noticed by a device.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use openssl::ssl::SslVersion;

use support::certificates::Certificates;
use support::connection::TlsStream;
use support::dovecot::{Dovecot, PASSWORD};
use support::imap::status;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener, upstream, upstreams};
use support::server;

/// Events of the server's connections, by the connection's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Greeted(usize),
    Login(usize),
    Closed(usize),
}

/// Starts an IMAP server that reports its events; `serve` gets each connection with its number after the greeting.
fn server(serve: fn(usize, &mut TlsStream, &Sender<Seen>)) -> (Proxy, Receiver<Seen>) {
    server_with("", serve)
}

fn server_with(more: &str, serve: fn(usize, &mut TlsStream, &Sender<Seen>)) -> (Proxy, Receiver<Seen>) {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let (sender, seen) = channel();
    let count = AtomicUsize::new(0);
    let port = server::tls(&certificates, SslVersion::TLS1_3, move |mut stream| {
        let (number, sender) = (count.fetch_add(1, Ordering::Relaxed) + 1, sender.clone());
        std::thread::spawn(move || {
            stream.write_all(b"* OK ready\r\n").unwrap();
            let _ = sender.send(Seen::Greeted(number));
            serve(number, &mut stream, &sender);
            let _ = sender.send(Seen::Closed(number));
        });
    });
    let upstream = upstream("x", [port; 2], directory.path(), &format!("warm_connections = 2\n{more}"));
    (Proxy::start(&(upstream + &listener("imap", "imap", "implicit", ""))), seen)
}

fn answer(number: usize, stream: &mut TlsStream, seen: &Sender<Seen>) {
    server::answer_by(stream, |command| {
        if command.contains("LOGIN") {
            let _ = seen.send(Seen::Login(number));
        }
        Some("OK done")
    });
}

fn wait_for(seen: &Receiver<Seen>, what: impl Fn(Seen) -> bool) -> Seen {
    loop {
        let next = seen.recv_timeout(PATIENCE).expect("the server does not see it");
        if what(next) {
            return next;
        }
    }
}

/// Four devices log in one after the other, once two warm connections are ready; the server closes the first of these.
fn four_get_in(proxy: &Proxy, seen: &Receiver<Seen>) {
    wait_for(seen, |seen| seen == Seen::Greeted(2));
    for _ in 0..4 {
        let mut imap = proxy.imap("imap");
        imap.login("user0", PASSWORD);
        imap.ok("NOOP");
    }
    wait_for(seen, |seen| seen == Seen::Closed(1));
}

#[test]
fn a_login_takes_a_warm_connection_and_another_replaces_it() {
    let (proxy, seen) = server(answer);
    wait_for(&seen, |seen| seen == Seen::Greeted(2));
    let mut imap = proxy.imap("imap");
    // A connection counts as parked once its greeting is read. The first login may come too early for that, a third one
    // cannot.
    imap.login("user0", PASSWORD);
    let Seen::Login(first) = wait_for(&seen, |seen| matches!(seen, Seen::Login(_))) else { unreachable!() };
    wait_for(&seen, |seen| seen == Seen::Greeted(first + 2));
    let mut again = proxy.imap("imap");
    again.login("user0", PASSWORD);
    let Seen::Login(second) = wait_for(&seen, |seen| matches!(seen, Seen::Login(_))) else { unreachable!() };
    assert!(second <= first + 2, "{second} after {first}");
    imap.ok("NOOP");
    again.ok("NOOP");
    assert_eq!(proxy.log.count(|line| line.contains("login failed")), 0);
    drop(again);
    proxy.logs(1, "\"server_connection\":\"warm\"");
}

/// The connection closes at the very moment of the login, and the device notices nothing.
#[test]
fn a_connection_lost_in_the_login_is_replaced() {
    let (proxy, seen) = server(|number, stream, seen| {
        if number <= 2 {
            // The server reads the login, and closes the connection without an answer.
            if server::hear(stream).contains("LOGIN") {
                let _ = seen.send(Seen::Login(number));
            }
        } else {
            answer(number, stream, seen);
        }
    });
    four_get_in(&proxy, &seen);
    assert_eq!(proxy.log.count(|line| line.contains("login failed")), 0);
}

/// The same happens with a reset, as from a server that closes with unread octets.
#[test]
fn a_connection_reset_in_the_login_is_replaced() {
    let (proxy, seen) = server(|number, stream, seen| {
        if number > 2 {
            return answer(number, stream, seen);
        }
        let mut first = [0];
        stream.get_ref().peek(&mut first).unwrap();
        // Closing the connection from here on sends a reset.
        socket2::SockRef::from(stream.get_ref()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    four_get_in(&proxy, &seen);
    assert_eq!(proxy.log.count(|line| line.contains("login failed") || line.contains("device_lost")), 0);
}

/// The login is not repeated at a server that says it is busy.
#[test]
fn a_refusal_is_not_tried_again() {
    let (proxy, seen) = server(|number, stream, seen| {
        let line = server::hear(stream);
        if line.contains("LOGIN") {
            let _ = seen.send(Seen::Login(number));
            let tag = line.split(' ').next().unwrap_or_default().to_owned();
            let no = "NO Request is throttled. Suggested Backoff Time: 299961 milliseconds";
            let _ = stream.write_all(format!("{tag} {no}\r\n").as_bytes());
            server::hear(stream);
        }
    });
    wait_for(&seen, |seen| seen == Seen::Greeted(2));
    let mut imap = proxy.imap("imap");
    let answer = imap.command("LOGIN user0 whatever");
    assert!(status(&answer).starts_with("NO [UNAVAILABLE] "), "{answer:?}");
    imap.ok("NOOP");
    proxy.log.wait_for("refusal", |line| line.contains("login failed"));
    assert_eq!(seen.try_iter().filter(|seen| matches!(seen, Seen::Login(_))).count(), 1);
}

/// The connection was closed while it was parked, so it is not tried.
#[test]
fn a_connection_that_has_closed_or_said_goodbye_is_not_used() {
    let (proxy, seen) = server(|number, stream, seen| match number {
        1 => {}
        2 => drop(stream.write_all(b"* BYE idle for too long\r\n")),
        _ => answer(number, stream, seen),
    });
    wait_for(&seen, |seen| seen == Seen::Closed(2));
    let mut imap = proxy.imap("imap");
    imap.login("user0", PASSWORD);
    let login = wait_for(&seen, |seen| matches!(seen, Seen::Login(_)));
    assert!(matches!(login, Seen::Login(3..)), "{login:?}");
    imap.ok("NOOP");
    assert_eq!(proxy.log.count(|line| line.contains("login failed")), 0);
}

#[test]
fn warm_connections_are_replaced_in_time_and_closed_at_the_drain() {
    let (proxy, seen) = server_with("warm_time = \"1s\"", answer);
    wait_for(&seen, |seen| seen == Seen::Closed(1));
    wait_for(&seen, |seen| seen == Seen::Greeted(5));
    proxy.process.signal("TERM");
    proxy.log.to_the_end();
    assert_eq!(proxy.log.count(|line| line.contains("\"message\":\"stopped\"")), 1);
}

#[test]
fn dovecot_accepts_warm_connections() {
    let dovecot = Dovecot::start();
    let upstreams = upstreams(&dovecot).replacen("[upstream.starttls]", "warm_connections = 3\n[upstream.starttls]", 1);
    let listeners = ["imap", "pop3"].map(|name| listener(name, name, "implicit", "upstream = \"implicit\""));
    let proxy = Proxy::start(&(upstreams + &listeners.concat()));
    let user = dovecot.user_with(&[b"Subject: x\r\n\r\nbody\r\n"]);
    for _ in 0..6 {
        let mut imap = proxy.imap("imap");
        imap.login(&user, PASSWORD);
        imap.ok("SELECT INBOX");
        imap.ok("LOGOUT");
        let mut pop3 = proxy.pop3("pop3");
        pop3.login(&user, PASSWORD);
        pop3.ok("STAT");
        pop3.ok("QUIT");
    }
    assert_eq!(proxy.log.count(|line| line.contains("login failed")), 0);
}
