//! These tests prove that one device or a broken server does not cost a mailbox its sessions, nor an operator the line
//! about a message.

use std::time::{Duration, Instant};

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, SmtpFault, SmtpMoment};
use support::exchange::*;

use super::{MESSAGE, Scanner, proxy, proxy_at, proxy_with, whole};

/// A server that gives up and does not close holds neither the device nor a session of the mailbox: the device's next
/// command is answered, or its connection ends.
#[test]
fn a_server_that_gives_up_without_closing_is_left() {
    let bye = "421 4.3.2 Service not active";
    for (moment, command, reply) in [
        (SmtpMoment::Noop, "NOOP", format!("250 2.0.0 OK\r\n{bye}")),
        (SmtpMoment::Noop, "NOOP", bye.to_owned()),
        (SmtpMoment::Reset, "RSET", bye.to_owned()),
        (SmtpMoment::Reset, "EHLO scanner", bye.to_owned()),
        (SmtpMoment::Mail, "MAIL FROM:<scan@contoso.example>", bye.to_owned()),
    ] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        let mut scanner = Scanner::log_in(&proxy);
        let fault = SmtpFault::reply(moment, &reply).then(Afterwards::Hang).times(1);
        exchange.quirk(|quirks| quirks.smtp.faults.push(fault));
        scanner.ask(command);
        let begun = Instant::now();
        scanner.0.send("RSET\r\n");
        while scanner.0.try_line().is_some_and(|line| line.starts_with(b"421")) {}
        assert!(begun.elapsed() < Duration::from_secs(30), "{command}: {reply:?}");
    }
}

/// C firmware sends the NUL of its strings behind each line, also behind DATA. It is no octet of the message, and no
/// sign of a device that does not wait.
#[test]
fn a_nul_behind_data_belongs_to_no_message() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    let mut scanner = Scanner::log_in(&proxy);
    let mut said = |line: &str| {
        scanner.0.send(format!("{line}\r\n\0"));
        scanner.reply()
    };
    // DATA without a recipient is refused, and the session goes on.
    assert!(said("DATA").starts_with("503 "));
    for line in [&format!("MAIL FROM:<{SCAN}>"), &format!("RCPT TO:<{SCAN}>"), "DATA"] {
        let answer = said(line);
        assert!(answer.starts_with(['2', '3']), "{line}: {answer}");
    }
    scanner.0.send(stuffed(MESSAGE));
    let answer = scanner.reply();
    assert!(answer.starts_with("250 "), "{answer}");
    let submissions = exchange.simulator.submissions();
    assert_eq!(String::from_utf8_lossy(&whole(&submissions).message()), String::from_utf8_lossy(MESSAGE));
}

/// Refused recipients do not use up the lines of a session: what becomes of a message is told.
#[test]
fn a_refused_message_is_told_whatever_was_refused_before() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "recipients = [\"*@contoso.example\"]");
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    for number in 0..10 {
        let answer = scanner.ask(&format!("RCPT TO:<a{number}@fabrikam.example>"));
        assert!(answer.starts_with("550 "), "{answer}");
    }
    scanner.ok("RSET");
    exchange.quirk(|quirks| quirks.smtp.mailbox_full = true);
    let answer = scanner.submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("452 "), "{answer}");
    scanner.ask("QUIT");
    proxy.session_of("listener", "smtps");
    assert!(proxy.log.all().contains("Sent Items"), "{}", proxy.log.all());
}

/// The server of a refused message is dropped at once; the device may take its time over the rest.
#[test]
fn a_refused_message_holds_no_session_of_the_mailbox() {
    let exchange = Exchange::new();
    let below = "[limits]\nmailbox_queue = \"1s\"\n".to_owned()
        + &exchange.identity(BY_SECRET)
        + &account("scans", SCAN, "sender = \"reject\"");
    let proxy = proxy_at(&exchange, "", &below);
    let mut slow = Vec::new();
    for number in 1..=3 {
        let mut scanner = Scanner::log_in(&proxy);
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        scanner.ok(&format!("RCPT TO:<{SCAN}>"));
        scanner.ok("DATA");
        scanner.0.send("From: boss@contoso.example\r\n\r\n");
        exchange.until("end of the half message", |counts| counts.submissions.cut == number);
        slow.push(scanner);
    }
    let answer = Scanner::log_in(&proxy).submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("250 "), "{answer}");
}

/// A mailbox that has sent enough for now makes its next message wait, and neither QUIT nor another device's login.
#[test]
fn a_device_may_leave_while_its_mailbox_waits() {
    let exchange = Exchange::new();
    let below = "[submission]\nmessages_per_minute = 2\n[limits]\nmailbox_queue = \"1s\"\n".to_owned()
        + &exchange.identity(BY_SECRET)
        + &account("scans", SCAN, "");
    let proxy = proxy_at(&exchange, "", &below);
    for number in 0..3 {
        let mut scanner = Scanner::log_in(&proxy);
        let answer = scanner.submit(&stuffed(MESSAGE));
        assert!(answer.starts_with("250 "), "{number}: {answer}");
        let begun = Instant::now();
        assert!(scanner.ask("QUIT").starts_with("221 "), "{number}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{number}: {:?}", begun.elapsed());
    }
}

/// A trial answers all recipients but the first by itself, and only within a message.
#[test]
fn a_trial_takes_no_recipient_without_a_sender() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "deliver = \"mailbox\"");
    let mut scanner = Scanner::log_in(&proxy);
    let answer = scanner.submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("250 "), "{answer}");
    let answer = scanner.ask("RCPT TO:<me@fabrikam.example>");
    assert!(answer.starts_with("503 "), "behind a message: {answer}");
    for end in ["RSET", "EHLO scanner"] {
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        scanner.ok("RCPT TO:<me@fabrikam.example>");
        scanner.ok("RCPT TO:<you@fabrikam.example>");
        scanner.ok(end);
        let answer = scanner.ask("RCPT TO:<me@fabrikam.example>");
        assert!(answer.starts_with("503 "), "behind {end}: {answer}");
    }
}
