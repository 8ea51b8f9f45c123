//! These tests prove the rules for senders and recipients, and that odd scanners get their mail through.

use packetboat::simulator::client::stuffed;
use support::exchange::*;
use support::proxy::translating_listener;

use super::{MESSAGE, Scanner, base64, proxy, proxy_with, whole};

/// The scanner has its own address in the envelope, and its user's in From, perhaps twice. Exchange Online refuses both.
#[test]
fn a_walk_up_scanner_sends_as_the_mailbox() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    let mut scanner = Scanner::log_in(&proxy);
    for (number, from) in ["From: Ann <ann@contoso.example>\r\n", "From: a@b.example\r\nFrom: c@d.example\r\n", ""]
        .into_iter()
        .enumerate()
    {
        scanner.ok("MAIL FROM:<printer@device.example>");
        scanner.ok(&format!("RCPT TO:<{SCAN}>"));
        scanner.ok("DATA");
        scanner.0.send(format!("{from}Subject: page\r\n\r\nbody\r\n.\r\n"));
        let answer = scanner.reply();
        assert!(answer.starts_with("250 "), "{from:?}: {answer}");
        let one = exchange.simulator.submissions().remove(number);
        assert_eq!((one.sender.as_str(), one.defects()), (SCAN, Vec::new()), "{from:?}");
        let text = String::from_utf8(one.message()).unwrap();
        assert!(text.contains("\r\nDate: ") || text.starts_with("Date: "), "{text}");
        assert!(text.to_ascii_lowercase().contains("message-id: <") && text.ends_with("\r\n\r\nbody\r\n"), "{text}");
        if number == 0 {
            assert!(text.contains("Reply-To: ") && text.contains("ann@contoso.example"), "{text}");
        }
    }
    assert_eq!(exchange.simulator.messages(SCAN), 3);
}

/// packetboat refuses the wrong sender and the foreign recipient itself, so that Exchange Online counts nothing.
#[test]
fn senders_and_recipients_are_judged_before_exchange_counts_them() {
    const OFFICE: &str = "office@contoso.example";
    let exchange = Exchange::new();
    exchange.simulator.grant_send_as(SCAN, OFFICE);
    let rules = format!("sender = \"pass\"\nsenders = [\"{OFFICE}\"]\nrecipients = [\"*@contoso.example\"]");
    let proxy = proxy_with(&exchange, BY_SECRET, &rules);
    let mut scanner = Scanner::log_in(&proxy);
    let answer = scanner.ask("MAIL FROM:<boss@contoso.example>");
    assert!(answer.starts_with("550 5.7."), "{answer}");
    scanner.ok(&format!("MAIL FROM:<{OFFICE}>"));
    let answer = scanner.ask("RCPT TO:<out@fabrikam.example>");
    assert!(answer.starts_with("550 5.7."), "{answer}");
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    scanner.0.send(format!("From: {OFFICE}\r\n\r\nx\r\n.\r\n"));
    let answer = scanner.reply();
    assert!(answer.starts_with("250 "), "{answer}");
    let submissions = exchange.simulator.submissions();
    let [one] = submissions.as_slice() else { panic!("{submissions:?}") };
    assert_eq!((one.sender.as_str(), one.recipients.as_slice()), (OFFICE, [SCAN.to_owned()].as_slice()));
    let commands = exchange.simulator.smtp_commands();
    let is_foreign = |line: &str| line.contains("boss@") || line.contains("fabrikam");
    assert!(!commands.iter().any(|command| is_foreign(&command.line)), "{commands:?}");
}

/// Lower case, addresses without brackets, lines that end in LF alone, and QUIT before the response to the message.
#[test]
fn an_odd_scanner_gets_its_mail_through() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    let mut scanner = Scanner::greeted(&proxy);
    assert_eq!(scanner.ask("auth login"), "334 VXNlcm5hbWU6");
    assert_eq!(scanner.ask(&base64(LOGIN)), "334 UGFzc3dvcmQ6");
    let answer = scanner.ask(&base64(PASSWORD));
    assert!(answer.starts_with("235 "), "{answer}");
    scanner.ok(&format!("mail from: {SCAN} size=100"));
    scanner.ok(&format!("rcpt to: {SCAN}"));
    scanner.ok("data");
    scanner.0.send(format!("From: {SCAN}\nSubject: page\n\nline\n.\nline\r\n.\r\nquit\r\n"));
    assert!(scanner.reply().starts_with("250 "));
    assert!(scanner.reply().starts_with("221 "));
    let submissions = exchange.simulator.submissions();
    let text = String::from_utf8(whole(&submissions).message()).unwrap();
    assert!(text.ends_with("\r\n\r\nline\r\n.\r\nline\r\n"), "{text:?}");
    assert_eq!(exchange.simulator.counts().submissions.unknown_commands, 0);
}

/// A person sends from a shared mailbox: SMTP logs in as the person, IMAP opens the mailbox, and Exchange Online looks at
/// SendAs.
#[test]
fn a_person_sends_from_a_shared_mailbox() {
    let exchange = Exchange::new();
    let user = format!("user = \"{SCAN}\"");
    let accounts = account("scans", SHARED, &user);
    exchange.sign_in(&(exchange.submission_frame() + &exchange.identity(BY_PERSON) + &accounts));
    let smtps = translating_listener("smtps", "smtp", "implicit", "");
    let proxy = exchange.proxy(&(exchange.submission_frame() + &smtps + &exchange.identity(BY_PERSON) + &accounts));
    let mut scanner = Scanner::log_in(&proxy);
    let answer = scanner.submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("550 5.7.1 "), "no SendAs: {answer}");
    exchange.simulator.grant_send_as(SCAN, SHARED);
    let answer = scanner.submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("250 "), "{answer}");
    let one = exchange.simulator.submissions().remove(1);
    assert_eq!((one.mailbox.as_str(), one.principal.as_str(), one.sender.as_str()), (SCAN, SCAN, SHARED));
    assert!(imap_login(&proxy).starts_with("OK"));
}
