//! These tests prove that neither side can attack STARTTLS or STLS. Octets in clear count for nothing after the
//! handshake, and no password crosses the wire before it.

use crate::between::{Between, Marks, PLAINTEXT};
use crate::peer::{Peer, lossy};
use support::process::PATIENCE;
use support::proxy::{listener, upstream};

/// A secret that must appear neither in clear nor in the log.
const MARK: &str = "topsecret-mark";
/// The next command has a blank behind its tag; two octets alone stand in the randomness of a ClientHello at times.
const MARKS: Marks = Marks { heard: &[MARK, "user0", "P2 "], logged: &[MARK] };

fn between(security: &str) -> Between {
    Between::new(MARKS, |port, directory| {
        [
            upstream("x", [port; 2], directory, &format!("security = \"{security}\"")),
            listener("imap", "imap", "implicit", ""),
            listener("pop3", "pop3", "implicit", ""),
            listener("imap-clear", "imap", "starttls", ""),
            listener("pop3-clear", "pop3", "starttls", ""),
            listener("pop3-both", "pop3", "starttls", PLAINTEXT),
        ]
        .concat()
    })
}

/// A device that has sent its login, and the proxy's connection to the server for it.
fn dialled(between: &Between, protocol: &str) -> (Peer, Peer) {
    let mut device = between.device(protocol);
    device.shake_as_device().unwrap();
    device.line().unwrap();
    if protocol == "imap" {
        device.send(&format!("x LOGIN user0 {MARK}\r\n"));
    } else {
        device.send("USER user0\r\n");
        device.line_with("+OK").unwrap();
        device.send(&format!("PASS {MARK}\r\n"));
    }
    (device, between.accepted())
}

/// PREAUTH says that the client is logged in already, where STARTTLS is not allowed (RFC 9051 §7.1.4).
#[test]
fn preauth_is_no_way_around_starttls_nor_the_login() {
    for security in ["implicit", "starttls"] {
        let between = between(security);
        for greeting in ["* PREAUTH welcome\r\n", "* preauth [CAPABILITY IMAP4rev1] hi\r\nP1 OK begin\r\nP2 OK in\r\n"]
        {
            let (mut device, mut server) = dialled(&between, "imap");
            if security == "implicit" {
                server.shake_as_server(&between.context).unwrap();
            }
            server.send(greeting);
            between.came_to_nothing(greeting, &mut device, &mut server, "x NO [UNAVAILABLE]", "upstream_greeting");
            assert!(server.heard.is_empty(), "{security}: {:?}", lossy(&server.heard));
        }
    }
}

#[test]
fn a_server_without_starttls_gets_no_password() {
    let between = between("starttls");
    for (protocol, greeting, asked, answer, refusal, reason) in [
        (
            "imap",
            "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n",
            "P1 STARTTLS",
            "P1 BAD what\r\n",
            "x NO [CONTACTADMIN]",
            "upstream_starttls",
        ),
        ("imap", "* OK hi\r\n", "P1 STARTTLS", "P1 NO not today\r\n", "x NO [CONTACTADMIN]", "upstream_starttls"),
        ("imap", "* OK hi\r\n", "P1 STARTTLS", "* BYE not today\r\n", "x NO [UNAVAILABLE]", "unavailable"),
        ("imap", "* OK hi\r\n", "P1 STARTTLS", "P2 OK in\r\n", "x NO [UNAVAILABLE]", "upstream_protocol"),
        ("imap", "* OK hi\r\n", "P1 STARTTLS", "+ go on in clear\r\n", "x NO [UNAVAILABLE]", "upstream_protocol"),
        ("pop3", "+OK hi\r\n", "STLS", "-ERR what\r\n", "-ERR [SYS/PERM]", "upstream_starttls"),
        ("pop3", "+OK hi\r\n", "STLS", "+ go on in clear\r\n", "-ERR [SYS/TEMP]", "upstream_protocol"),
    ] {
        let (mut device, mut server) = dialled(&between, protocol);
        server.send(greeting);
        server.line_with(asked).unwrap();
        server.send(answer);
        between.came_to_nothing(answer, &mut device, &mut server, refusal, reason);
        assert!(server.heard.is_empty(), "{answer}: {:?}", lossy(&server.heard));
    }
}

/// An attacker has injected the octets, whether they come with the answer to STARTTLS or before its command.
#[test]
fn answers_in_clear_behind_starttls_are_an_attack_whatever_they_are() {
    let between = between("starttls");
    for (protocol, greeting, asked, begin, refusal) in [
        ("imap", "* OK hi\r\n", "P1 STARTTLS", "P1 OK begin\r\n", "x NO [UNAVAILABLE]"),
        ("pop3", "+OK hi\r\n", "STLS", "+OK begin\r\n", "-ERR [SYS/TEMP]"),
    ] {
        for injected in [
            "P2 OK in\r\n",
            "+OK\r\n+OK in\r\n",
            "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
            "* BYE gone\r\n",
            "+ \r\n",
            "P",
            "\r\n",
            "\n",
            "\0",
            "\u{16}\u{3}\u{3}\0\u{2}",
        ] {
            let (mut device, mut server) = dialled(&between, protocol);
            server.send(greeting);
            server.line_with(asked).unwrap();
            server.send(&format!("{begin}{injected}"));
            between.came_to_nothing(injected, &mut device, &mut server, refusal, "injection");
            assert!(server.heard.is_empty(), "{injected:?}: {:?}", lossy(&server.heard));
        }
        let (mut device, mut server) = dialled(&between, protocol);
        server.send(&format!("{greeting}{begin}P2 OK in\r\n+OK in\r\n"));
        between.came_to_nothing("all at once", &mut device, &mut server, refusal, "injection");
        // Octets after the ClientHello are not TLS.
        let (mut device, mut server) = dialled(&between, protocol);
        server.send(greeting);
        server.line_with(asked).unwrap();
        server.send(begin);
        server.hear_for(PATIENCE);
        server.send("P2 OK in\r\n+OK in\r\n");
        let refusal = if protocol == "imap" { "x NO [CONTACTADMIN]" } else { "-ERR [SYS/PERM]" };
        between.came_to_nothing("in clear behind the hello", &mut device, &mut server, refusal, "upstream_tls");
    }
}

/// The proxy forgets capabilities announced in clear, whether they are too few or too many (RFC 3501 §6.2.1).
#[test]
fn capabilities_in_clear_are_not_believed() {
    let between = between("starttls");
    for (code, told) in [
        ("", "x OK logged in\r\n"),
        ("[CAPABILITY IMAP4rev1 IDLE STARTTLS] ", "x OK [CAPABILITY IMAP4rev1 IDLE] logged in\r\n"),
    ] {
        let (mut device, mut server) = dialled(&between, "imap");
        server.send("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=EVIL XEVIL] hi\r\n");
        server.line_with("P1 STARTTLS").unwrap();
        server.send(
            "* CAPABILITY IMAP4rev1 LOGINDISABLED XEVIL\r\nP1 OK [CAPABILITY IMAP4rev1 LOGINDISABLED XEVIL] begin\r\n",
        );
        server.shake_as_server(&between.context).unwrap();
        server.line_with(&format!("P2 LOGIN \"user0\" \"{MARK}\"")).unwrap();
        server.send(&format!("P2 OK {code}in\r\n"));
        let answer = device.line().unwrap();
        assert!(answer == told && !answer.contains("EVIL"), "{answer}");
    }
}

#[test]
fn alerts_of_the_server_in_the_middle_of_the_handshake_end_it() {
    let between = between("starttls");
    for (what, octets) in [
        ("handshake_failure", [21, 3, 3, 0, 2, 2, 40].to_vec()),
        ("protocol_version", [21, 3, 3, 0, 2, 2, 70].to_vec()),
        ("unrecognized_name, a warning", [21, 3, 3, 0, 2, 1, 112].repeat(10_000)),
        ("user_canceled, a warning", [21, 3, 3, 0, 2, 1, 90].repeat(10_000)),
        ("an alert of no known kind", [21, 3, 3, 0, 2, 3, 255].to_vec()),
        ("a torn alert", [21, 3, 3, 0, 1, 2].to_vec()),
        ("empty records", [22, 3, 3, 0, 0].repeat(10_000)),
        ("ChangeCipherSpec", [20, 3, 3, 0, 1, 1].repeat(10_000)),
        ("application data", [23, 3, 3, 0, 1, 1].to_vec()),
        ("HelloRequest", [22, 3, 3, 0, 4, 0, 0, 0, 0].repeat(10_000)),
    ] {
        let (mut device, mut server) = dialled(&between, "imap");
        server.send("* OK hi\r\n");
        server.line_with("P1 STARTTLS").unwrap();
        server.send("P1 OK begin\r\n");
        server.hear_for(PATIENCE);
        let _ = server.try_send(&octets);
        between.came_to_nothing(what, &mut device, &mut server, "x NO [CONTACTADMIN]", "upstream_tls");
    }
}

/// The proxy never obeys octets in the same segment as STARTTLS; it takes them for a ClientHello or refuses them.
#[test]
fn commands_in_clear_behind_starttls_are_never_obeyed() {
    let between = between("implicit");
    let imap = format!("b LOGIN user0 {MARK}\r\n");
    let pop3 = format!("USER user0\r\nPASS {MARK}\r\n");
    for (listener, start, login) in
        [("imap-clear", "a NOOP\r\ns STARTTLS\r\n", &imap), ("pop3-clear", "NOOP\r\nSTLS\r\n", &pop3)]
    {
        let answers = ["OK begin TLS negotiation", "OK", "OK ", "OK "];
        between.never_obeys(listener, start, answers, login, &[b"b", b"\xef\xbb\xbfb"]);
    }
    between.had_no_login(&[MARK, "user0"]);
}

/// The handshake discards earlier state, even where logins in clear are allowed (RFC 2595 §4).
#[test]
fn a_user_given_in_clear_is_forgotten_behind_stls() {
    let between = between("implicit");
    let mut device = between.device("pop3-both");
    device.line_with("+OK").unwrap();
    device.send("USER attacker\r\n");
    device.line_with("+OK").unwrap();
    device.send("STLS\r\n");
    device.line_with("+OK").unwrap();
    device.shake_as_device().unwrap();
    device.send(&format!("PASS {MARK}\r\n"));
    device.line_with("-ERR send USER first").unwrap();
    device.send("STLS\r\n");
    device.line_with("-ERR TLS is active already").unwrap();
}
