//! These tests prove that neither side can attack STARTTLS of SMTP, and that no login passes in clear.

use std::net::{Ipv4Addr, TcpListener};

use crate::peer::{Peer, accept, lossy};
use support::certificates::Certificates;
use support::proxy::{Proxy, listener};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// NUL, user0, NUL, topsecret-mark
const LOGIN: &str = "AUTH PLAIN AHVzZXIwAHRvcHNlY3JldC1tYXJr\r\n";
const MARKS: [&str; 2] = ["AHVzZXIwAHRvcHNlY3JldC1tYXJr", "topsecret-mark"];

struct Between {
    proxy: Proxy,
    server: TcpListener,
    _directory: tempfile::TempDir,
}

impl Between {
    fn new() -> Self {
        let (_, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, roots) = (server.local_addr().unwrap().port(), directory.path().join("ca.pem"));
        let proxy = Proxy::start(&format!(
            "[upstream.x]\nroots = {roots:?}\n[upstream.x.smtp]\nhost = \"127.0.0.1\"\n\
             server_name = \"localhost\"\nport = {port}\nsecurity = \"starttls\"\n{}{}",
            listener("smtp", "smtp", "implicit", ""),
            listener("smtp-clear", "smtp", "starttls", ""),
        ));
        Self { proxy, server, _directory: directory }
    }

    /// A device that has sent its login, and the proxy's connection to the server, behind the response to EHLO.
    fn asked(&self) -> (Peer, Peer) {
        let mut device = Peer::connect(HERE, self.proxy.address("smtp"));
        device.shake_as_device().unwrap();
        device.line_with("220 ").unwrap();
        device.send(LOGIN);
        let mut server = Peer::over(accept(&self.server).unwrap());
        server.send("220 hi\r\n");
        server.line_with("EHLO ").unwrap();
        (device, server)
    }
}

#[test]
fn octets_in_clear_behind_the_servers_answer_are_an_attack() {
    let between = Between::new();
    for injected in ["250 AUTH PLAIN\r\n235 in\r\n", "235 in\r\n", "2", "\r\n", "\0", "\u{16}\u{3}\u{3}\0\u{2}"] {
        let (mut device, mut server) = between.asked();
        server.send("250-mail\r\n250 STARTTLS\r\n");
        server.line_with("STARTTLS").unwrap();
        server.send(&format!("220 go\r\n{injected}"));
        server.hear_to_the_end().unwrap();
        assert!(server.heard.is_empty(), "{injected:?}: {:?}", lossy(&server.heard));
        device.line_with("454 4.7.0 ").unwrap_or_else(|other| panic!("{injected:?}: {other}"));
        let from = device.tcp().unwrap().local_addr().unwrap().to_string();
        between.proxy.log.wait_for("line of the attack", |line| line.contains(&from) && line.contains("\"injection\""));
    }
}

/// Whatever the server says in clear, the login does not follow.
#[test]
fn a_server_without_starttls_gets_no_login() {
    let between = Between::new();
    for (ehlo, starttls) in [
        // Somebody on the way may have removed it.
        ("250-mail\r\n250 AUTH PLAIN\r\n", "502 what\r\n"),
        ("250-mail\r\n250 AUTH PLAIN\r\n", "235 in\r\n"),
        ("250-mail\r\n250 STARTTLS\r\n", "454 not now\r\n"),
        ("250-mail\r\n250 STARTTLS\r\n", "250 in\r\n"),
        ("250-mail\r\n250 STARTTLS\r\n", "334 \r\n"),
    ] {
        let (mut device, mut server) = between.asked();
        server.send(ehlo);
        server.line_with("STARTTLS").unwrap();
        server.send(starttls);
        server.hear_to_the_end().unwrap();
        let heard = lossy(&server.heard);
        assert!(!heard.contains("AUTH") && !heard.contains("AHVz"), "{ehlo:?}, {starttls:?}: {heard:?}");
        let answer = device.line().unwrap();
        assert!(answer.starts_with('4') || answer.starts_with('5'), "{ehlo:?}, {starttls:?}: {answer}");
    }
}

/// A login in clear is refused whatever its form, and commands behind STARTTLS are not obeyed.
#[test]
fn nothing_of_a_device_counts_in_clear() {
    let between = Between::new();
    let mut device = Peer::connect(HERE, between.proxy.address("smtp-clear"));
    device.line_with("220 ").unwrap();
    for command in [LOGIN, "AUTH LOGIN\r\n", "AUTH LOGIN dXNlcjA=\r\n", "MAIL FROM:<a@b.example>\r\n"] {
        device.send(command);
        device.line_with("530 5.7.0 ").unwrap_or_else(|other| panic!("{command}: {other}"));
    }
    for injected in [LOGIN, "EHLO x\r\n", "MAIL FROM:<a@b.example>\r\n", "\r\n", "\0", "Q"] {
        let mut device = Peer::connect(HERE, between.proxy.address("smtp-clear"));
        device.line_with("220 ").unwrap();
        device.send(&format!("STARTTLS\r\n{injected}"));
        device.line_with("220 ").unwrap();
        device.hear_to_the_end().unwrap();
        let heard = lossy(&device.heard);
        assert!(heard.is_empty() || heard.starts_with("421 "), "{injected:?}: {heard:?}");
        let from = device.tcp().unwrap().local_addr().unwrap();
        let line = between.proxy.session_of("source", &from.to_string()).to_string();
        assert!(line.contains("\"reason\":\"injection\"") && line.contains("\"login\":\"-\""), "{injected:?}: {line}");
    }
    assert_eq!(between.proxy.log.count(|line| MARKS.iter().any(|mark| line.contains(mark))), 0);
    between.server.set_nonblocking(true).unwrap();
    assert!(between.server.accept().is_err(), "the server was dialled");
}
