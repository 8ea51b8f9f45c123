//! These tests prove that a device without a login is no open relay, and keeps to its lists.

use packetboat::simulator::Submission;
use support::exchange::*;
use support::proxy::translating_listener;

use super::{HP, NOBODY, OUTSIDE, Peer, configuration, without_login};
use crate::address_tricks::{ALLOWED, PASSED, REFUSED};

/// No trick leads out of the device's own domain, and none reaches Exchange Online.
#[test]
fn no_trick_of_addresses_opens_the_relay() {
    let exchange = Exchange::new();
    let devices = without_login("hp", HP, &format!("recipients = [\"{ALLOWED}\"]"));
    let proxy = exchange.proxy(&configuration(&exchange, &devices));
    let mut device = Peer::greeted(&proxy, "smtp", HP);
    device.hears("HELO", "250 ");
    device.hears("MAIL FROM:<in@contoso.example>", "250 ");
    for path in REFUSED {
        let answer = device.ask([b"RCPT TO:", *path].concat());
        assert!(answer.starts_with('5'), "{:?}: {answer}", String::from_utf8_lossy(path));
    }
    device.hears("DATA", "5");
    device.hears("RSET", "250 ");
    device.hears("MAIL FROM:<in@contoso.example>", "250 ");
    for (path, _) in PASSED {
        let answer = device.ask([b"RCPT TO:", *path].concat());
        assert!(answer.starts_with("250 "), "{:?}: {answer}", String::from_utf8_lossy(path));
    }
    let recipients: Vec<String> = exchange
        .simulator
        .smtp_commands()
        .iter()
        .filter_map(|one| one.line.strip_prefix("RCPT TO:").map(str::to_owned))
        .collect();
    let expected: Vec<&str> = PASSED.iter().map(|(_, address)| *address).collect();
    assert_eq!(recipients, expected);
}

/// Device, account and `[submission]` each narrow the recipients; the device's senders stand in the place of the
/// account's.
#[test]
fn the_lists_of_a_device_narrow_those_of_its_account() {
    const OFFICE: &str = "office@contoso.example";
    const FAX: &str = "fax@contoso.example";
    let exchange = Exchange::new();
    exchange.simulator.grant_send_as(SCAN, OFFICE);
    exchange.simulator.grant_send_as(SCAN, FAX);
    let rules = format!("sender = \"pass\"\nsenders = [\"{OFFICE}\", \"{FAX}\"]");
    let listed = "recipients = [\"scan@contoso.example\"]\nsenders = [\"fax@contoso.example\"]";
    let devices = without_login("hp", HP, listed) + &without_login("free", NOBODY, "");
    let text = configuration(&exchange, &devices).replace(&account("scans", SCAN, ""), &account("scans", SCAN, &rules));
    let proxy = exchange.proxy(&(text + "[submission]\nrecipients = [\"*@contoso.example\"]\n"));
    for (address, sender, recipient, expected) in [
        (HP, FAX, SCAN, ["250", "250"]),
        (HP, FAX, OFFICE, ["250", "550"]),
        (HP, OFFICE, SCAN, ["550", "530"]),
        (NOBODY, OFFICE, OFFICE, ["250", "250"]),
        (NOBODY, FAX, OUTSIDE, ["250", "550"]),
    ] {
        let mut device = Peer::greeted(&proxy, "smtp", address);
        let answers = [format!("MAIL FROM:<{sender}>"), format!("RCPT TO:<{recipient}>")].map(|line| device.ask(line));
        assert_eq!(answers[0].get(..3), Some(expected[0]), "{address:?} {sender}: {answers:?}");
        if expected[0] == "250" {
            assert_eq!(answers[1].get(..3), Some(expected[1]), "{address:?} {recipient}: {answers:?}");
        }
    }
    // The device with a password has the account's lists, and those of [submission].
    let mut device = Peer::greeted(&proxy, "smtp", [127, 0, 0, 3]);
    device.hears("AUTH PLAIN AHNjYW5uZXIzAGs3bTJ4cDlhdA==", "235 ");
    device.hears(&format!("MAIL FROM:<{OFFICE}>"), "250 ");
    device.hears(&format!("RCPT TO:<{OUTSIDE}>"), "550 5.7.1");
    proxy.log.wait_for("advice", |line| line.contains("[submission] says where it may send"));
}

/// The world is open to a device that says so.
#[test]
fn everyone_is_a_recipient_where_the_device_says_so() {
    let exchange = Exchange::new();
    let devices = without_login("hp", HP, "recipients = [\"*@*\"]");
    let proxy = exchange.proxy(&configuration(&exchange, &devices));
    let mut device = Peer::greeted(&proxy, "smtp", HP);
    device.hears("MAIL FROM:<hp@device.example>", "250 ");
    device.hears(&format!("RCPT TO:<{OUTSIDE}>"), "250 ");
    device.hears("DATA", "354 ");
    device.hears("Subject: page\r\n\r\nbody\r\n.", "250 ");
    let recipients: Vec<Vec<String>> =
        exchange.simulator.submissions().into_iter().map(|one: Submission| one.recipients).collect();
    assert_eq!(recipients, [[OUTSIDE.to_owned()]]);
}

/// Behind a load balancer the address in its header counts: not the balancer's own, also where a device is there.
#[test]
fn a_balancer_names_the_device_and_is_none() {
    let exchange = Exchange::new();
    let listed = "recipients = [\"*@contoso.example\"]";
    let devices = without_login("hp", [10, 1, 2, 3], listed) + &without_login("balancer", HP, listed);
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n\
                 proxy_protocol = [\"127.0.0.2\"]";
    let text = configuration(&exchange, &devices) + &translating_listener("behind", "smtp", "auto", clear);
    let proxy = exchange.proxy(&text);
    let through = |header: &[u8]| {
        let mut peer = Peer(support::device::Device::over(support::device::tcp_from(HP, proxy.address("behind"))));
        peer.0.send(header);
        assert!(peer.reply().starts_with("220 "));
        peer
    };
    let mut device = through(b"PROXY TCP4 10.1.2.3 10.0.0.5 4711 587\r\n");
    device.hears("MAIL FROM:<hp@device.example>", "250 ");
    let line = "\"login\":\"hp\"";
    device.hears("QUIT", "221 ");
    proxy.log.wait_for("session of the device", |one| one.contains(line) && one.contains("10.1.2.3:4711"));
    // Another device behind the balancer, a health check (LOCAL), and a header that names the balancer itself.
    for header in [
        &b"PROXY TCP4 10.1.2.4 10.0.0.5 4711 587\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 127.0.0.2 10.0.0.5 4711 587\r\n",
    ] {
        through(header).hears("MAIL FROM:<hp@device.example>", "530 5.7.0");
    }
    // Without a balancer the same address is the device's own.
    Peer::greeted(&proxy, "smtp", HP).hears("MAIL FROM:<hp@device.example>", "250 ");
    // Nobody else may say who it is.
    let mut liar = Peer(support::device::Device::over(support::device::tcp_from(NOBODY, proxy.address("behind"))));
    liar.0.send(b"PROXY TCP4 10.1.2.3 10.0.0.5 4711 587\r\n");
    let answer = liar.reply();
    assert!(!answer.starts_with("250"), "{answer}");
    assert_eq!(exchange.simulator.counts().smtp().accepted, 2);
}
