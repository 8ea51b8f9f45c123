//! These tests prove that neither side can attack STARTTLS of SMTP, and that no login passes in clear.

use crate::between::{Between, Marks, PLAINTEXT};
use crate::peer::{Peer, lossy};
use support::process::PATIENCE;
use support::proxy::listener;

/// NUL, user0, NUL, topsecret-mark
const LOGIN: &str = "AUTH PLAIN AHVzZXIwAHRvcHNlY3JldC1tYXJr\r\n";
const MARKS: [&str; 2] = ["AHVzZXIwAHRvcHNlY3JldC1tYXJr", "topsecret-mark"];

fn between() -> Between {
    Between::new(Marks { heard: &["AUTH", MARKS[0]], logged: &MARKS }, |port, directory| {
        let roots = directory.join("ca.pem");
        format!(
            "[upstream.x]\nroots = {roots:?}\n[upstream.x.smtp]\nhost = \"127.0.0.1\"\n\
             server_name = \"localhost\"\nport = {port}\nsecurity = \"starttls\"\n{}{}{}",
            listener("smtp", "smtp", "implicit", ""),
            listener("smtp-clear", "smtp", "starttls", ""),
            listener("smtp-both", "smtp", "starttls", PLAINTEXT),
        )
    })
}

/// A device that has sent its login, and the proxy's connection to the server for it.
fn dialled(between: &Between) -> (Peer, Peer) {
    let mut device = between.device("smtp");
    device.shake_as_device().unwrap();
    device.line_with("220 ").unwrap();
    device.send(LOGIN);
    (device, between.accepted())
}

/// The same, behind the greeting.
fn asked(between: &Between) -> (Peer, Peer) {
    let (device, mut server) = dialled(between);
    server.send("220 hi\r\n");
    server.line_with("EHLO ").unwrap();
    (device, server)
}

/// An attacker has injected the octets, whether they come with the answer to STARTTLS or before its command.
#[test]
fn octets_in_clear_behind_the_servers_answer_are_an_attack() {
    let between = between();
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
        let (mut device, mut server) = asked(&between);
        server.send("250-mail\r\n250 STARTTLS\r\n");
        server.line_with("STARTTLS").unwrap();
        server.send(&format!("220 go\r\n{injected}"));
        between.came_to_nothing(injected, &mut device, &mut server, "454 4.7.0 ", "injection");
        assert!(server.heard.is_empty(), "{injected:?}: {:?}", lossy(&server.heard));
    }
    // Replies that come before their commands.
    let (mut device, mut server) = dialled(&between);
    server.send("220 hi\r\n250-mail\r\n250 STARTTLS\r\n220 go\r\n250 AUTH PLAIN\r\n235 in\r\n");
    between.came_to_nothing("all at once", &mut device, &mut server, "454 4.7.0 ", "injection");
    // Octets after the ClientHello are not TLS.
    let (mut device, mut server) = asked(&between);
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
    let between = between();
    for (behind, login, mail) in [
        ("250 AUTH PLAIN\r\n", "AUTH PLAIN AHVz", "MAIL FROM:<a@b.example>\r\n"),
        (
            "250-SIZE 1000\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH PLAIN AHVz",
            "MAIL FROM:<a@b.example> SIZE=99 BODY=8BITMIME\r\n",
        ),
    ] {
        let (mut device, mut server) = asked(&between);
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
    let (mut device, mut server) = asked(&between);
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
    let between = between();
    for (ehlo, starttls) in [
        // Somebody on the way may have removed it.
        ("250-mail\r\n250 AUTH PLAIN\r\n", "502 what\r\n"),
        ("250-mail\r\n250 AUTH PLAIN\r\n", "235 in\r\n"),
        ("250-mail\r\n250 STARTTLS\r\n", "454 not now\r\n"),
        ("250-mail\r\n250 STARTTLS\r\n", "250 in\r\n"),
        ("250-mail\r\n250 STARTTLS\r\n", "334 \r\n"),
    ] {
        let (mut device, mut server) = asked(&between);
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
    let between = between();
    let mut device = between.device("smtp-clear");
    device.line_with("220 ").unwrap();
    for command in [LOGIN, "AUTH LOGIN\r\n", "AUTH LOGIN dXNlcjA=\r\n", "MAIL FROM:<a@b.example>\r\n"] {
        device.send(command);
        device.line_with("530 5.7.0 ").unwrap_or_else(|other| panic!("{command}: {other}"));
    }
    let more: [&[u8]; 7] = [
        b"EHLO x\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"AUTH LOGIN\r\ndXNlcjA=\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"Q",
        b"\xef\xbb\xbfE",
    ];
    let answers = ["220 2.0.0 begin TLS negotiation\r\n", "250", "334", "235"];
    between.never_obeys("smtp-clear", "EHLO x\r\nSTARTTLS\r\n", answers, LOGIN, &more);
    between.had_no_login(&MARKS);
}

/// The handshake discards earlier state, even where logins in clear are allowed (RFC 3207 §4.2).
#[test]
fn a_user_given_in_clear_is_forgotten_behind_starttls() {
    let between = between();
    let mut device = between.device("smtp-both");
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
    let mut server = between.accepted();
    server.send("220 hi\r\n");
    server.line_with("EHLO ").unwrap();
    assert_eq!(between.proxy.log.count(|line| line.contains("attacker")), 0);
}
