//! These tests compare the fast framing with the slow, obvious one of `support::fuzz::model`, on realistic
//! conversations cut anywhere.
//!
//! The conversations have literals, pipelining, IDLE, and mail that looks like protocol. The device gets the server's
//! octets unchanged, except for capability lists.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod parked;

use std::collections::BTreeMap;

use packetboat::failure::{Failure, Kind};
use packetboat::proto::{Deletes, Relogin, Side};
use support::fuzz::pair::{Pair, Protocol, Settings};
use support::fuzz::random::Random;

/// Counts of events, which show that the tests have reached each case.
type Seen = BTreeMap<&'static str, u32>;

#[test]
fn imap_conversations() {
    let mut seen = Seen::new();
    for seed in 0..CONVERSATIONS {
        let mut random = Random(seed ^ 0x1a4a_9000_0000);
        let mut pair = logged_in(Protocol::Imap, seed, b"a LOGIN u p\r\n", b"* OK ready\r\nP2 OK in\r\n");
        let mut server = Vec::new();
        let mut device = Vec::new();
        let mut open: Vec<String> = Vec::new();
        for turn in 0..24 {
            match random.below(2) {
                0 => command(turn, &mut device, &mut open, &mut random, &mut seen),
                _ => response(&mut server, &mut open, &mut random, &mut seen),
            }
            some_of(&mut pair, Side::Downstream, &mut device, &mut random);
            some_of(&mut pair, Side::Upstream, &mut server, &mut random);
        }
        say_the_rest(pair, &device, &server);
    }
    for what in ["literal", "literal+", "refused", "idle", "fetch", "list", "code", "braces", "compressed", "login"] {
        assert!(seen.get(what).is_some_and(|&times| times > 100), "{what}: {seen:?}");
    }
}

#[test]
fn pop3_conversations() {
    let mut seen = Seen::new();
    for seed in 0..CONVERSATIONS {
        let mut random = Random(seed ^ 0x0909_3000_0000);
        let mut pair = logged_in(Protocol::Pop3, seed, b"USER u\r\nPASS p\r\n", b"+OK\r\n+OK\r\n+OK\r\n");
        let mut server = Vec::new();
        let mut device = Vec::new();
        for _ in 0..24 {
            let (command, is_long, what) = *[
                ("RETR 1", true, "retr"),
                ("top 1 0", true, "retr"),
                ("LIST", true, "list"),
                ("LIST 1", false, "line"),
                ("UIDL ", true, "list"),
                ("uidl 2", false, "line"),
                ("DELE 1", false, "line"),
                ("NOOP", false, "line"),
                ("CAPA", true, "capa"),
                ("XTND", false, "line"),
                ("PASS two words", false, "login"),
                ("AUTH PLAIN", false, "login"),
                ("LIST                             1", false, "line"),
                (" \tuidl \t ", true, "list"),
            ]
            .get(random.below(14))
            .unwrap();
            let is_answered_here = what == "login" && !seed.is_multiple_of(2);
            device.extend(format!("{command}{}", if random.below(5) == 0 { "\n" } else { "\r\n" }).bytes());
            if is_answered_here {
                *seen.entry("login").or_insert(0) += 1;
            } else if random.below(6) == 0 {
                server.extend(b"-ERR no such thing\r\n");
            } else {
                server.extend(b"+OK here it is\r\n");
                if is_long {
                    *seen.entry(what).or_insert(0) += 1;
                    for _ in 0..random.below(6) {
                        server.extend(random.pick(if what == "capa" { CAPABILITIES } else { LINES }));
                    }
                    server.extend(b".\r\n");
                }
            }
            some_of(&mut pair, Side::Downstream, &mut device, &mut random);
            // An answer never comes before its command.
            if device.is_empty() {
                some_of(&mut pair, Side::Upstream, &mut server, &mut random);
            }
        }
        say_the_rest(pair, &device, &server);
    }
    for what in ["retr", "list", "capa", "login"] {
        assert!(seen.get(what).is_some_and(|&times| times > 100), "{what}: {seen:?}");
    }
}

/// A device sends another login while its server closes. The device would take an answer of packetboat's for the rest
/// of the server's line.
#[test]
fn nothing_is_said_behind_half_a_line() {
    let imap = (Protocol::Imap, &b"a LOGIN u p\r\n"[..], &b"* OK ready\r\nP2 OK in\r\n"[..], &b"* CAPABILITY IM"[..]);
    let pop3 = (Protocol::Pop3, &b"USER u\r\nPASS p\r\n"[..], &b"+OK\r\n+OK\r\n+OK\r\n"[..], &b"-ERR [IN-USE] lo"[..]);
    for (protocol, login, server, half) in [imap, pop3] {
        for deletes in [Deletes::Allowed, Deletes::Refused] {
            let settings = Settings { relogin: Relogin::Refused, deletes, ..Settings::default() };
            let mut pair = Pair::new(settings, protocol);
            pair.send(Side::Downstream, login, |left| left);
            pair.send(Side::Upstream, server, |left| left);
            pair.send(Side::Upstream, half, |left| left);
            pair.close(Side::Upstream);
            pair.send(Side::Downstream, login, |left| left);
            pair.end(&Failure::new(Kind::Drained, ""));
            let heard = pair.all_received();
            assert!(heard.device.ends_with(std::str::from_utf8(half).unwrap()), "{heard:?}");
        }
    }
}

/// Returns a session after its login; every other login is translated.
fn logged_in(protocol: Protocol, seed: u64, device: &[u8], server: &[u8]) -> Pair {
    let relogin = if seed.is_multiple_of(2) { Relogin::Allowed } else { Relogin::Refused };
    let mut pair = Pair::new(Settings { relogin, ..Settings::default() }, protocol);
    pair.send(Side::Downstream, device, |left| left);
    pair.send(Side::Upstream, server, |left| left);
    pair
}

/// Sends the remaining input, and closes. The model is compared at the end.
fn say_the_rest(mut pair: Pair, device: &[u8], server: &[u8]) {
    pair.send(Side::Downstream, device, |left| left);
    pair.send(Side::Upstream, server, |left| left);
    pair.close(Side::Downstream);
    pair.close(Side::Upstream);
    pair.all_received();
}

/// Sends a random amount of the remaining input, in pieces.
fn some_of(pair: &mut Pair, side: Side, coming: &mut Vec<u8>, random: &mut Random) {
    let now: Vec<u8> = coming.drain(..random.below(coming.len() + 1)).collect();
    let piece = 1 + random.below(40);
    pair.send(side, &now, |left| left.min(piece));
}

fn command(turn: usize, device: &mut Vec<u8>, open: &mut Vec<String>, random: &mut Random, seen: &mut Seen) {
    let tag = format!("t{turn}");
    let text = match random.below(10) {
        0 => {
            *seen.entry("literal").or_insert(0) += 1;
            let mail = mail(random);
            // Half of the devices wait for the server's reply, half do not.
            let with = if random.below(2) == 0 { mail.as_slice() } else { b"" };
            device.extend(format!("{tag} APPEND x (\\Seen) {{{}}}\r\n", mail.len()).bytes());
            device.extend(with);
            device.extend(b"\r\n");
            open.push(tag);
            return;
        }
        1 => {
            *seen.entry("literal+").or_insert(0) += 1;
            let mail = mail(random);
            device.extend(format!("{tag} APPEND x {{{}+}}\r\n", mail.len()).bytes());
            device.extend(mail);
            device.extend(b" {0+}\r\n\r\n");
            open.push(tag);
            return;
        }
        2 => {
            *seen.entry("idle").or_insert(0) += 1;
            "IDLE\r\nDONE"
        }
        3 => "CAPABILITY",
        4 if random.below(4) == 0 => "COMPRESS DEFLATE",
        5 => "UID FETCH 1:* (FLAGS BODY.PEEK[])",
        6 => "SEARCH TEXT \"{5}\"",
        7 => "STORE 1 +FLAGS (\\Deleted)",
        8 => {
            *seen.entry("login").or_insert(0) += 1;
            ["LOGIN u p", "AUTHENTICATE PLAIN\r\nAHUAcA==", "LOGIN {1+}\r\nu {1+}\r\np", "login u {5}\r\nt w o"]
                [random.below(4)]
        }
        _ => "NOOP",
    };
    device.extend(format!("{tag} {text}\r\n").bytes());
    if text.starts_with("COMPRESS") {
        open.push(format!("{tag}*"));
    } else {
        open.push(tag);
    }
}

fn response(server: &mut Vec<u8>, open: &mut Vec<String>, random: &mut Random, seen: &mut Seen) {
    let end: &[u8] = if random.below(8) == 0 { b"\n" } else { b"\r\n" };
    match random.below(8) {
        0 | 1 if !open.is_empty() => {
            let tag = open.remove(random.below(open.len()));
            let outcome = ["OK", "OK", "NO", "BAD"][random.below(4)];
            let code = ["", "[CAPABILITY IMAP4rev1 STARTTLS IDLE] ", "[READ-WRITE] "][random.below(3)];
            let braces = ["done", "done {5}", "done {12+}"][random.below(3)];
            *seen.entry(if braces == "done" { "status" } else { "braces" }).or_insert(0) += 1;
            if code.contains("CAPA") {
                *seen.entry("code").or_insert(0) += 1;
            }
            if outcome != "OK" {
                *seen.entry("refused").or_insert(0) += 1;
            } else if tag.ends_with('*') {
                *seen.entry("compressed").or_insert(0) += 1;
            }
            server.extend(format!("{} {outcome} {code}{braces}", tag.trim_end_matches('*')).bytes());
            server.extend(end);
        }
        2 | 3 => {
            *seen.entry("fetch").or_insert(0) += 1;
            let mail = mail(random);
            server.extend(format!("* {} FETCH (FLAGS (\\Seen) BODY[] {{{}}}\r\n", random.below(9), mail.len()).bytes());
            server.extend(mail);
            server.extend(b" BODY[1] {0}\r\n)");
            server.extend(end);
        }
        4 => {
            *seen.entry("list").or_insert(0) += 1;
            server.extend(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN COMPRESS=DEFLATE idle X-NEW SORT=DISPLAY ENABLE");
            server.extend(end);
        }
        5 => server.extend(b"+ go ahead {3}\r\n"),
        6 => server.extend(b"* OK [CAPABILITY IMAP4rev1] still here\r\n* LIST () \"/\" {3}\r\na\r\n\r\n"),
        _ => server.extend(b"* 3 EXISTS\r\n* STATUS \"x {4}\" (MESSAGES 3)\r\n* NO {7}\r\n"),
    }
}

/// Mail with lines that look like protocol.
fn mail(random: &mut Random) -> Vec<u8> {
    let mut mail = Vec::new();
    for _ in 0..random.below(8) {
        mail.extend(random.pick(LINES));
    }
    mail
}

const LINES: &[&[u8]] = &[
    b"Subject: scan\r\n",
    b"* CAPABILITY IMAP4rev1 STARTTLS\r\n",
    b"t3 OK [CAPABILITY STARTTLS] done\r\n",
    b"t5 APPEND x {9}\r\n",
    b"..\r\n",
    b"..leading\r\n",
    b"\r\n\r\n",
    b"\n.\n",
    b"\r.\r",
    b"+OK\r\n",
    b"-ERR\r\n",
    b"{7}\r\n",
    b"\x00\xff\x16\x03\x01",
    b"no line end",
];

const CAPABILITIES: &[&[u8]] = &[
    b"TOP\r\n",
    b"UIDL\r\n",
    b"STLS\r\n",
    b"SASL PLAIN XOAUTH2\r\n",
    b"USER\r\n",
    b"expire 60\r\n",
    b"X-NEW\r\n",
    b"\r\n",
];

const CONVERSATIONS: u64 = 6000;
