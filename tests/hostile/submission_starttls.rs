//! These tests prove that neither side can attack STARTTLS of SMTP, and that no login passes in clear.

use std::net::{Ipv4Addr, TcpListener};

use openssl::ssl::SslContext;

use crate::peer::{Peer, accept, client_hello, lossy};
use crate::setup;
use support::certificates::Certificates;
use support::process::PATIENCE;
use support::proxy::{Proxy, listener};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// NUL, user0, NUL, topsecret-mark
const LOGIN: &str = "AUTH PLAIN AHVzZXIwAHRvcHNlY3JldC1tYXJr\r\n";
const MARKS: [&str; 2] = ["AHVzZXIwAHRvcHNlY3JldC1tYXJr", "topsecret-mark"];

struct Between {
    proxy: Proxy,
    server: TcpListener,
    context: SslContext,
    _directory: tempfile::TempDir,
}

impl Between {
    fn new() -> Self {
        let (certificates, directory) = Certificates::ecdsa_for_name("localhost", 30).in_directory();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, roots) = (server.local_addr().unwrap().port(), directory.path().join("ca.pem"));
        let proxy = Proxy::start(&format!(
            "[upstream.x]\nroots = {roots:?}\n[upstream.x.smtp]\nhost = \"127.0.0.1\"\n\
             server_name = \"localhost\"\nport = {port}\nsecurity = \"starttls\"\n{}{}{}",
            listener("smtp", "smtp", "implicit", ""),
            listener("smtp-clear", "smtp", "starttls", ""),
            listener("smtp-both", "smtp", "starttls", PLAINTEXT),
        ));
        Self { proxy, server, context: setup::server(&certificates), _directory: directory }
    }

    /// A device that has sent its login, and the proxy's connection to the server for it.
    fn dialled(&self) -> (Peer, Peer) {
        let mut device = Peer::connect(HERE, self.proxy.address("smtp"));
        device.shake_as_device().unwrap();
        device.line_with("220 ").unwrap();
        device.send(LOGIN);
        (device, Peer::over(accept(&self.server).unwrap()))
    }

    /// The same, behind the greeting.
    fn asked(&self) -> (Peer, Peer) {
        let (device, mut server) = self.dialled();
        server.send("220 hi\r\n");
        server.line_with("EHLO ").unwrap();
        (device, server)
    }

    /// Reads at the server until the proxy has closed, and finds nothing of the login. The device gets its refusal, and
    /// the log has the reason.
    fn came_to_nothing(&self, what: &str, device: &mut Peer, server: &mut Peer, refusal: &str, reason: &str) {
        server.hear_to_the_end().unwrap();
        let heard = lossy(&server.heard);
        assert!(!heard.contains("AUTH") && !heard.contains(MARKS[0]), "{what}: {heard:?}");
        device.line_with(refusal).unwrap_or_else(|other| panic!("{what}: {other}"));
        let from = device.tcp().unwrap().local_addr().unwrap().to_string();
        let reason = format!("\"{reason}\"");
        self.proxy
            .log
            .wait_for(&format!("{reason} for {what:?}"), |line| line.contains(&from) && line.contains(&reason));
    }
}

/// An attacker has injected the octets, whether they come with the answer to STARTTLS or before its command.
#[test]
fn octets_in_clear_behind_the_servers_answer_are_an_attack() {
    let between = Between::new();
    for injected in [
        "250 AUTH PLAIN\r\n235 in\r\n",
        "250-mail\r\n250 AUTH PLAIN\r\n235 in\r\n",
        "235 in\r\n",
        "220 go\r\n",
        "421 gone\r\n",
        "250-",
        "2",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\0",
        "\u{16}\u{3}\u{3}\0\u{2}",
    ] {
        let (mut device, mut server) = between.asked();
        server.send("250-mail\r\n250 STARTTLS\r\n");
        server.line_with("STARTTLS").unwrap();
        server.send(&format!("220 go\r\n{injected}"));
        between.came_to_nothing(injected, &mut device, &mut server, "454 4.7.0 ", "injection");
        assert!(server.heard.is_empty(), "{injected:?}: {:?}", lossy(&server.heard));
    }
    // Replies that come before their commands.
    let (mut device, mut server) = between.dialled();
    server.send("220 hi\r\n250-mail\r\n250 STARTTLS\r\n220 go\r\n250 AUTH PLAIN\r\n235 in\r\n");
    between.came_to_nothing("all at once", &mut device, &mut server, "454 4.7.0 ", "injection");
    // Octets after the ClientHello are not TLS.
    let (mut device, mut server) = between.asked();
    server.send("250-mail\r\n250 STARTTLS\r\n");
    server.line_with("STARTTLS").unwrap();
    server.send("220 go\r\n");
    server.hear_for(PATIENCE);
    server.send("250 AUTH PLAIN\r\n235 in\r\n");
    between.came_to_nothing("in clear behind the hello", &mut device, &mut server, "535 5.7.0 ", "upstream_tls");
}

/// The proxy forgets what EHLO announced in clear, and asks again (RFC 3207 §4.2).
#[test]
fn extensions_in_clear_are_not_believed() {
    let between = Between::new();
    for (behind, login, mail) in [
        ("250 AUTH PLAIN\r\n", "AUTH PLAIN AHVz", "MAIL FROM:<a@b.example>\r\n"),
        (
            "250-SIZE 1000\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH PLAIN AHVz",
            "MAIL FROM:<a@b.example> SIZE=99 BODY=8BITMIME\r\n",
        ),
    ] {
        let (mut device, mut server) = between.asked();
        server.send("250-mail\r\n250-SIZE 10\r\n250-8BITMIME\r\n250-STARTTLS\r\n250 AUTH EVIL XOAUTH2\r\n");
        server.line_with("STARTTLS").unwrap();
        server.send("220 go\r\n");
        server.shake_as_server(&between.context).unwrap();
        server.line_with("EHLO ").unwrap();
        server.send(behind);
        server.line_with(login).unwrap();
        server.send("235 in\r\n");
        device.line_with("235 ").unwrap();
        device.send("MAIL FROM:<a@b.example> SIZE=99\r\n");
        assert_eq!(server.line().unwrap(), mail);
    }
    // AUTH in clear alone is no AUTH.
    let (mut device, mut server) = between.asked();
    server.send("250-mail\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
    server.line_with("STARTTLS").unwrap();
    server.send("220 go\r\n");
    server.shake_as_server(&between.context).unwrap();
    server.line_with("EHLO ").unwrap();
    server.send("250 mail\r\n");
    between.came_to_nothing("no AUTH behind TLS", &mut device, &mut server, "535 5.7.0 ", "mechanism");
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
    let eight_bit = [&[0x80], LOGIN.as_bytes()].concat();
    let words: [&[u8]; 14] = [
        LOGIN.as_bytes(),
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"AUTH LOGIN\r\ndXNlcjA=\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"\r\n",
        b"\n",
        b" ",
        b"\0",
        b"Q",
        b"\x15\x03\x01\0\x02\x02\x28",
        b"\xef\xbb\xbfE",
        &eight_bit,
    ];
    let tls = [
        [&[22], LOGIN.as_bytes()].concat(),
        [&[0x80, 46, 1, 3, 1], LOGIN.as_bytes(), &[0; 64]].concat(),
        [&[22, 3, 1, 0, 64], LOGIN.as_bytes(), &[0; 64]].concat(),
        [&client_hello(), LOGIN.as_bytes()].concat(),
    ];
    let injections = words.iter().map(|words| (words.to_vec(), "injection"));
    for (injected, reason) in injections.chain(tls.into_iter().map(|tls| (tls, "handshake"))) {
        let mut device = Peer::connect(HERE, between.proxy.address("smtp-clear"));
        device.line_with("220 ").unwrap();
        device.try_send(&[b"EHLO x\r\nSTARTTLS\r\n", injected.as_slice()].concat()).unwrap();
        while device.line().unwrap() != "220 2.0.0 begin TLS negotiation\r\n" {}
        device.hear_to_the_end().unwrap();
        // The device gets no answer to the command: only a goodbye before TLS, or records.
        let heard = lossy(&device.heard);
        assert!(!heard.contains("250") && !heard.contains("334") && !heard.contains("235"), "{injected:?}: {heard:?}");
        let from = device.tcp().unwrap().local_addr().unwrap();
        let line = between.proxy.session_of("source", &from.to_string()).to_string();
        assert!(line.contains(&format!("\"reason\":\"{reason}\"")), "{injected:?}: {line}");
        assert!(line.contains("\"login\":\"-\""), "{injected:?}: {line}");
    }
    assert_eq!(between.proxy.log.count(|line| MARKS.iter().any(|mark| line.contains(mark))), 0);
    between.server.set_nonblocking(true).unwrap();
    assert!(between.server.accept().is_err(), "the server was dialled");
}

/// The handshake discards earlier state, even where logins in clear are allowed (RFC 3207 §4.2).
#[test]
fn a_user_given_in_clear_is_forgotten_behind_starttls() {
    let between = Between::new();
    let mut device = Peer::connect(HERE, between.proxy.address("smtp-both"));
    device.line_with("220 ").unwrap();
    device.send("AUTH LOGIN YXR0YWNrZXI=\r\n");
    device.line_with("334 ").unwrap();
    device.send("*\r\n");
    device.line_with("501 5.7.0 ").unwrap();
    device.send("STARTTLS\r\n");
    device.line_with("220 ").unwrap();
    device.shake_as_device().unwrap();
    device.send("dG9wc2VjcmV0LW1hcms=\r\n");
    device.line_with("500 5.5.1 ").unwrap();
    device.send("STARTTLS\r\n");
    device.line_with("503 5.5.1 ").unwrap();
    device.send("MAIL FROM:<a@b.example>\r\n");
    device.line_with("530 5.7.0 ").unwrap();
    device.send(LOGIN);
    let mut server = Peer::over(accept(&between.server).unwrap());
    server.send("220 hi\r\n");
    server.line_with("EHLO ").unwrap();
    assert_eq!(between.proxy.log.count(|line| line.contains("attacker")), 0);
}

const PLAINTEXT: &str = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
