//! These tests prove that a device notices nothing of a server connection that goes and comes between its messages, or
//! in a message before its content.

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, LoginRefusal, SmtpFault, SmtpMoment};
use support::exchange::*;
use support::proxy::{Proxy, translating_listener};

use super::{MESSAGE, Scanner, proxy, proxy_at};

/// packetboat that leaves the server soon, with this number of connections for the mailbox.
fn impatient(exchange: &Exchange, connections: usize) -> Proxy {
    let limits = format!("[submission]\nidle_server_timeout = \"1s\"\nconnections_per_mailbox = {connections}\n");
    proxy_at(exchange, "", &(exchange.identity(BY_SECRET) + &account("scans", SCAN, "") + &limits))
}

/// The device's server connection has ended.
fn until_left(exchange: &Exchange) {
    exchange
        .until("no session at the server", |counts| counts.submissions.sessions.get(SCAN).is_none_or(|one| *one == 0));
}

fn fault(exchange: &Exchange, moment: SmtpMoment, reply: Option<&str>, then: Afterwards) {
    let reply = reply.map(str::to_owned);
    exchange.quirk(|quirks| {
        quirks.smtp.faults = vec![SmtpFault { moment, reply, then, is_kept: false, times: Some(1) }];
    });
}

/// One connection serves two devices in turns, and each of them stays connected.
#[test]
fn a_silent_device_frees_its_slot_and_sends_again() {
    let exchange = Exchange::new();
    let proxy = impatient(&exchange, 1);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    until_left(&exchange);
    // The first device holds nothing of the mailbox.
    let mut other = Scanner::log_in(&proxy);
    assert!(other.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    until_left(&exchange);
    scanner.ok("NOOP");
    scanner.ok("RSET");
    scanner.ok("EHLO again");
    assert_eq!(exchange.simulator.counts().smtp().accepted, 2, "these need no server");
    for device in [&mut scanner, &mut other] {
        assert!(device.submit(&stuffed(MESSAGE)).starts_with("250 2."));
        until_left(&exchange);
    }
    assert_eq!(scanner.ask("QUIT"), "221 2.0.0 closing connection");
    assert_eq!(exchange.simulator.messages(SCAN), 4);
}

/// RFC 5321 §3.8: the server closes while the device idles, with 421 or without.
#[test]
fn a_server_that_closes_costs_the_device_nothing() {
    for life in [true, false] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        let mut scanner = Scanner::log_in(&proxy);
        assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
        if life {
            fault(&exchange, SmtpMoment::Noop, Some("421 4.4.1 Connection timed out"), Afterwards::Close);
        } else {
            fault(&exchange, SmtpMoment::Noop, None, Afterwards::Reset);
        }
        scanner.ok("NOOP");
        assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
        assert_eq!(exchange.simulator.messages(SCAN), 2);
    }
}

#[test]
fn a_server_lost_before_the_content_is_dialled_once_more() {
    for moment in [SmtpMoment::Mail, SmtpMoment::Recipient, SmtpMoment::Data] {
        for (reply, then) in [
            (None, Afterwards::Close),
            (None, Afterwards::Reset),
            (Some("421 4.3.2 Service not active"), Afterwards::Close),
        ] {
            let exchange = Exchange::new();
            let proxy = proxy(&exchange, BY_SECRET);
            let mut scanner = Scanner::log_in(&proxy);
            fault(&exchange, moment, reply, then);
            let answer = scanner.submit(&stuffed(MESSAGE));
            assert!(answer.starts_with("250 2."), "{moment:?} {reply:?}: {answer}");
            assert_eq!(exchange.simulator.messages(SCAN), 1);
        }
    }
}

/// A refusal is the answer, however often packetboat could ask again.
#[test]
fn a_refusal_is_never_tried_again() {
    for (moment, command) in [
        (SmtpMoment::Mail, "MAIL FROM:<scan@contoso.example>"),
        (SmtpMoment::Recipient, "RCPT TO:<scan@contoso.example>"),
    ] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        let mut scanner = Scanner::log_in(&proxy);
        if moment == SmtpMoment::Recipient {
            scanner.ok("MAIL FROM:<scan@contoso.example>");
        }
        let accepted = exchange.simulator.counts().smtp().accepted;
        fault(&exchange, moment, Some("550 5.7.1 no"), Afterwards::Close);
        assert_eq!(scanner.ask(command), "550 5.7.1 no");
        assert_eq!(exchange.simulator.counts().smtp().accepted, accepted);
        scanner.ok("NOOP");
    }
}

/// The mailbox has lost its right meanwhile, or has got it back.
#[test]
fn a_refused_login_at_the_next_message_leaves_the_device_connected() {
    let exchange = Exchange::new();
    let proxy = impatient(&exchange, 3);
    let mut scanner = Scanner::log_in(&proxy);
    until_left(&exchange);
    exchange.quirk(|quirks| {
        quirks.smtp.login_refusal = Some(LoginRefusal::DisabledForMailbox);
    });
    let answer = scanner.ask(&format!("MAIL FROM:<{SCAN}>"));
    assert!(answer.starts_with("550 5.7."), "{answer}");
    proxy.log.wait_for("the reason", |line| {
        line.contains("no server for the next message") && line.contains("Set-CASMailbox")
    });
    exchange.quirk(|quirks| quirks.smtp.login_refusal = None);
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
}

/// No server is there to wait for.
#[test]
fn a_device_that_leaves_meanwhile_is_gone_at_once() {
    let exchange = Exchange::new();
    let proxy = impatient(&exchange, 3);
    let scanner = Scanner::log_in(&proxy);
    until_left(&exchange);
    drop(scanner);
    let line = proxy.session_line("smtps");
    assert_eq!(line["reason"], "device_closed", "{line}");
}

/// A reload that takes the device away ends its session, although no server is there that could tell.
#[test]
fn a_permission_that_is_withdrawn_meanwhile_ends_the_session() {
    let exchange = Exchange::new();
    let proxy = impatient(&exchange, 3);
    let mut scanner = Scanner::log_in(&proxy);
    until_left(&exchange);
    let other = account("other", SCAN, "").replace(LOGIN, "other");
    let listener = translating_listener("smtps", "smtp", "implicit", "");
    proxy.configure(&(exchange.submission_frame() + &listener + &exchange.identity(BY_SECRET) + &other));
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    let end = scanner.reply();
    assert!(end.starts_with("421 4.3.2 "), "{end}");
}
