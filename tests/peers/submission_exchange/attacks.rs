//! These tests attack submission from a device whose password is known: it wants another sender's name, or other devices'
//! service.

use packetboat::simulator::quirks::smtp::{SmtpFault, SmtpMoment};
use support::exchange::*;
use support::proxy::translating_listener;

use super::{Scanner, proxy, proxy_with, whole};

/// The device's own fields, in front of what the test adds.
const OWN: &str = "From: scan@contoso.example\r\nDate: today\r\nMessage-ID: <1@contoso.example>\r\n";

fn submit(scanner: &mut Scanner, message: &str) -> String {
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    scanner.0.send(message);
    scanner.reply()
}

/// A second From field stands behind more fields than packetboat looks at.
#[test]
fn no_sender_hides_behind_a_long_head() {
    let filler = format!("X-Filler: {}\r\n", "a".repeat(980)).repeat(67);
    for policy in ["rewrite", "pass", "reject"] {
        let exchange = Exchange::new();
        let proxy = proxy_with(&exchange, BY_SECRET, &format!("sender = {policy:?}"));
        let mut scanner = Scanner::log_in(&proxy);
        let answer = submit(&mut scanner, &format!("{OWN}{filler}From: ceo@contoso.example\r\n\r\npay\r\n.\r\n"));
        assert!(answer.starts_with("552 5.3.4 "), "{policy}: {answer}");
        exchange.until("end of the half message", |counts| counts.submissions.cut == 1);
        assert_eq!(exchange.simulator.submissions().len(), 0, "{policy}");
        proxy.log.wait_for("line of the refusal", |line| line.contains("header fields are longer than 65536 octets"));
        let answer = submit(&mut Scanner::log_in(&proxy), &format!("{OWN}\r\nhello\r\n.\r\n"));
        assert!(answer.starts_with("250 "), "{policy}: {answer}");
    }
}

/// Outlook shows "Sender on behalf of From".
#[test]
fn no_other_field_shows_a_foreign_sender() {
    let foreign = "Sender: CEO <ceo@contoso.example>\r\nResent-From: ceo@contoso.example\r\nresent-sender :\r\n \
                   ceo@contoso.example\r\n";
    for policy in ["rewrite", "pass", "reject"] {
        let exchange = Exchange::new();
        let proxy = proxy_with(&exchange, BY_SECRET, &format!("sender = {policy:?}"));
        let answer = submit(&mut Scanner::log_in(&proxy), &format!("{OWN}{foreign}Subject: x\r\n\r\npay\r\n.\r\n"));
        assert!(answer.starts_with("250 "), "{policy}: {answer}");
        let submissions = exchange.simulator.submissions();
        let text = String::from_utf8(whole(&submissions).message()).unwrap();
        assert_eq!(text, format!("{OWN}Subject: x\r\n\r\npay\r\n"), "{policy}");
    }
}

/// A server repeats the address that it refuses. The name of a throttle in it does not stop the mailbox's other devices.
#[test]
fn no_address_locks_other_devices_out() {
    for name in ["SubmissionQuotaExceeded", "SendAsDenied", "STOREDRV.ClientSubmit"] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        let refusal = format!("550 5.1.1 <{name}@contoso.example>: Recipient address rejected: User unknown");
        exchange.quirk(|quirks| quirks.smtp.faults.push(SmtpFault::reply(SmtpMoment::Recipient, &refusal).times(1)));
        let mut scanner = Scanner::log_in(&proxy);
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        assert_eq!(scanner.ask(&format!("RCPT TO:<{name}@contoso.example>")), refusal);
        let answer = submit(&mut Scanner::log_in(&proxy), &format!("{OWN}\r\nhello\r\n.\r\n"));
        assert!(answer.starts_with("250 "), "{name}: {answer}");
        proxy.log.wait_for("line of the refusal", |line| line.contains("\"reason\":\"recipient_refused\""));
    }
}

/// A server that is broken or hostile sends commands for a display in its texts.
#[test]
fn no_control_character_of_a_server_reaches_a_device_or_the_log() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    for (moment, code) in [(SmtpMoment::Noop, "250"), (SmtpMoment::Mail, "451"), (SmtpMoment::EndOfData, "250")] {
        let reply = format!("{code}-a\x1b[2J\r\n{code} b\x1b]0;x\x07\0\r.");
        exchange.quirk(|quirks| quirks.smtp.faults.push(SmtpFault::reply(moment, &reply).times(1)));
    }
    let mut scanner = Scanner::log_in(&proxy);
    for (command, code) in [("NOOP", "250"), ("MAIL FROM:<a@b.example>", "451")] {
        scanner.0.send(format!("{command}\r\n"));
        assert_eq!(scanner.0.line(), format!("{code}-a [2J"));
        assert_eq!(scanner.0.line(), format!("{code} b ]0;x   ."));
    }
    let answer = submit(&mut scanner, &format!("{OWN}\r\nhello\r\n.\r\n"));
    assert_eq!(answer, "250 b ]0;x   .");
    let line = proxy.log.wait_for("line of the message", |line| line.contains("message sent: the mail server said"));
    assert!(line.contains("250 b?]0;x???."), "{line}");
    assert!(!line.contains("\\u00"), "{line}");
}

/// An open session does not keep what a reload takes from its account; wider rules leave it alone.
#[test]
fn a_reload_takes_effect_on_open_sessions() {
    let exchange = Exchange::new();
    let configuration = |more: &str| {
        let listener = translating_listener("smtps", "smtp", "implicit", "");
        exchange.submission_frame() + &listener + &exchange.identity(BY_SECRET) + &account("scans", SCAN, more)
    };
    let (all, own) = ("", "recipients = [\"*@contoso.example\"]");
    for (before, after, ends) in [
        (all, own, true),
        (all, "deliver = \"mailbox\"", true),
        (all, "sender = \"reject\"", true),
        ("sender = \"pass\"\nsenders = [\"a@contoso.example\"]", "sender = \"pass\"", true),
        (own, "recipients = [\"*@fabrikam.example\", \"*@contoso.example\"]", false),
        (own, all, false),
    ] {
        let proxy = exchange.proxy(&configuration(before));
        let mut scanner = Scanner::log_in(&proxy);
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        proxy.configure(&configuration(after));
        let (code, said) = proxy.reload();
        assert_eq!(code, 0, "{said}");
        assert_eq!(said.contains("1 session ended (rules for sending changed: 1)"), ends, "{after}: {said}");
        if ends {
            let line = scanner.0.line();
            assert!(line.starts_with("421 4.3.2 permission withdrawn"), "{after}: {line}");
        } else {
            scanner.ok(&format!("RCPT TO:<{SCAN}>"));
        }
    }
}
