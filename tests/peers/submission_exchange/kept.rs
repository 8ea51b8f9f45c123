//! These tests prove that a listener with `spool = "fallback"` keeps what Exchange Online does not take at once, tells
//! the device 250, and keeps nothing else.

use std::time::Duration;

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, SmtpFault, SmtpMoment};
use support::exchange::*;
use support::proxy::Proxy;
use support::strain::until;

use super::{MESSAGE, Scanner, proxy_at};

/// packetboat that keeps messages, with more lines for the spool.
pub fn keeping(exchange: &Exchange, spool: &str) -> Proxy {
    let below = exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    proxy_at(exchange, "spool = \"fallback\"\n", &(below + "[spool]\n" + spool))
}

/// The number of messages in the spool.
pub fn in_spool(exchange: &Exchange) -> usize {
    let files = std::fs::read_dir(exchange.state().join("spool")).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|one| one == "message")).count()
}

pub fn fault(exchange: &Exchange, moment: SmtpMoment, reply: Option<&str>, times: Option<u32>) {
    let (reply, then) =
        (reply.map(str::to_owned), if reply.is_some() { Afterwards::Continue } else { Afterwards::Close });
    exchange.quirk(|quirks| {
        quirks.smtp.faults = vec![SmtpFault { moment, reply, then, is_kept: false, times }];
    });
}

pub const KEPT: &str = "250 2.6.0 kept here, it will be sent later";

#[test]
fn a_temporary_refusal_and_a_lost_server_keep_the_message() {
    for (moment, reply) in [
        (SmtpMoment::Mail, Some("451 4.3.2 busy")),
        (SmtpMoment::Recipient, Some("450 4.2.0 later")),
        (SmtpMoment::Data, Some("451 4.3.2 busy")),
        (SmtpMoment::EndOfData, Some("451 4.7.500 Server busy.")),
        (SmtpMoment::EndOfData, Some("421 4.4.2 Connection dropped")),
        (SmtpMoment::EndOfData, None),
    ] {
        let exchange = Exchange::new();
        let proxy = keeping(&exchange, "");
        let mut scanner = Scanner::log_in(&proxy);
        fault(&exchange, moment, reply, None);
        assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT, "{moment:?} {reply:?}");
        let line = proxy.log.wait_for("the line", |line| line.contains("message kept in the spool"));
        let why = if reply.is_none() { "the mail server was lost behind the message" } else { "the mail server said" };
        assert!(line.contains(why), "{line}");
        assert_eq!(in_spool(&exchange), 1, "{moment:?}");
        // The session is as good as before.
        exchange.quirk(|quirks| quirks.smtp.faults.clear());
        scanner.ok("NOOP");
    }
}

#[test]
fn a_refusal_keeps_nothing() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    let mut scanner = Scanner::log_in(&proxy);
    fault(&exchange, SmtpMoment::EndOfData, Some("554 5.6.0 no"), Some(1));
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), "554 5.6.0 no");
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    until("an empty spool", || in_spool(&exchange) == 0);
    assert!(!proxy.log.all().contains("message kept"));
    assert_eq!(exchange.simulator.messages(SCAN), 1);
}

/// A device that is lost in the middle leaves nothing, neither at the server nor here.
#[test]
fn half_a_message_is_not_kept() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    scanner.0.send(&stuffed(MESSAGE)[..100]);
    drop(scanner);
    proxy.session_line("smtps");
    until("an empty spool", || in_spool(&exchange) == 0);
    assert!(!proxy.log.all().contains("message kept"));
    assert_eq!(exchange.simulator.messages(SCAN), 0);
}

/// The device was verified by its own password; the server is away for everything, from the login on.
#[test]
fn a_session_begins_without_a_server() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    fault(&exchange, SmtpMoment::Login, Some("454 4.7.0 Temporary authentication failure"), None);
    let mut scanner = Scanner::log_in(&proxy);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    assert_eq!(in_spool(&exchange), 2);
    // A wrong password opens nothing.
    let mut stranger = Scanner::greeted(&proxy);
    let answer = stranger.ask(&format!("AUTH PLAIN {}", super::base64(&format!("\0{LOGIN}\0wrong"))));
    assert!(answer.starts_with("535 5.7.8 "), "{answer}");
}

/// The server's answer comes after the device's patience: the message is kept until then, and not sent again.
#[test]
fn a_late_answer_settles_the_message() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "patience = \"1s\"\n");
    let mut scanner = Scanner::log_in(&proxy);
    exchange.quirk(|quirks| quirks.smtp.final_delay = Duration::from_secs(4));
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    assert_eq!(in_spool(&exchange), 1);
    exchange.quirk(|quirks| quirks.smtp.final_delay = Duration::ZERO);
    // The device goes on meanwhile.
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    until("the late answer", || exchange.simulator.messages(SCAN) == 2);
    until("an empty spool", || in_spool(&exchange) == 0);
    assert_eq!(exchange.simulator.messages(SCAN), 2, "none is sent twice");
}

/// A full spool changes nothing: the message streams, and the device hears the server's words.
#[test]
fn a_full_spool_only_streams() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "max_messages = 1\n");
    let mut scanner = Scanner::log_in(&proxy);
    fault(&exchange, SmtpMoment::EndOfData, Some("451 4.3.2 busy"), None);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), "451 4.3.2 busy");
    assert_eq!(in_spool(&exchange), 1);
}
