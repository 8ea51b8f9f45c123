//! These tests prove that a device that dribbles its message does not hold a connection of the mailbox for ever.

use std::time::{Duration, Instant};

use support::exchange::*;
use support::strain::until;

use super::{Scanner, proxy_at};

/// An octet now and then is never silence: the whole message has a time.
#[test]
fn a_device_that_dribbles_is_cut_off_and_named() {
    let exchange = Exchange::new();
    let limits = "[submission]\nmessage_timeout = \"2s\"\nmessage_rate = 100\nconnections_per_mailbox = 1\n";
    let below = exchange.identity(BY_SECRET) + &account("scans", SCAN, "") + limits;
    let proxy = proxy_at(&exchange, "", &below);
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    let began = Instant::now();
    while !proxy.log.all().contains("message_too_slow") {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", proxy.log.all());
        std::thread::sleep(Duration::from_millis(200));
        // The connection may be over.
        let _ = scanner.0.0.send(b"x");
    }
    assert!(began.elapsed() >= Duration::from_secs(2));
    let answer = scanner.reply();
    assert!(answer.starts_with("421 4.4.2 the device took too long over a message"), "{answer}");
    let line = proxy.session_line("smtps");
    assert_eq!(line["reason"], "message_too_slow");
    assert!(line.to_string().contains("submission.message_timeout = 2s, submission.message_rate = 100"), "{line}");
    let labels = "reason=\"message_too_slow\",result=\"refused_by_rules\"";
    until("the count", || {
        proxy.metric("packetboat_mailbox_messages_total", &format!("account=\"scans\",{labels}")) == 1
    });
    // Half a message is none, and the mailbox's one connection is free.
    let mut other = Scanner::log_in(&proxy);
    assert!(other.submit(b"Subject: x\r\n\r\n.\r\n").starts_with("250 "));
    assert_eq!(exchange.simulator.messages(SCAN), 1);
}
