//! These tests prove the keys for odd devices: the size of a message, a second form of AUTH, and ends of data in LF.

use packetboat::simulator::client::stuffed;
use support::device::Device;
use support::exchange::*;
use support::stacks::{Start, TLS_1_0};

use super::{MESSAGE, Scanner, proxy_at, proxy_with, whole};

const LIMIT: usize = 65536;

/// A message of this many octets, without the end of the data.
fn message_of(octets: usize) -> Vec<u8> {
    let mut message = b"From: scan@contoso.example\r\nSubject: big\r\n\r\n".to_vec();
    while message.len() + 80 <= octets - 2 {
        message.extend_from_slice(&[b"x".repeat(78).as_slice(), b"\r\n"].concat());
    }
    message.resize(octets - 2, b'y');
    message.extend_from_slice(b"\r\n");
    message
}

/// A device that names the size is refused at MAIL; one that does not, in the middle. The part that the server has
/// never becomes a whole message.
#[test]
fn a_message_that_is_too_big_is_refused_and_never_whole() {
    let exchange = Exchange::new();
    let below = exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    let proxy = proxy_at(&exchange, &format!("max_message_size = {LIMIT}"), &below);
    let mut scanner = Scanner::log_in(&proxy);
    let answer = scanner.ask(&format!("MAIL FROM:<{SCAN}> SIZE={}", LIMIT + 1));
    assert!(answer.starts_with("552 5.3.4 "), "{answer}");
    proxy.log.wait_for("line of the refusal", |line| line.contains("max_message_size of the listener"));
    let answer = scanner.submit(&[message_of(LIMIT).as_slice(), b".\r\n"].concat());
    assert!(answer.starts_with("250 "), "as large as allowed: {answer}");
    whole(&exchange.simulator.submissions());
    for (number, (octets, size)) in
        [(LIMIT + 1, usize::MAX), (LIMIT + 1, 1000), (4 * LIMIT, 1000), (4 * LIMIT, usize::MAX)].into_iter().enumerate()
    {
        let mut scanner = Scanner::log_in(&proxy);
        let message = [message_of(octets).as_slice(), b".\r\n"].concat();
        let answer = scanner.submit_in(&message.chunks(size).collect::<Vec<_>>());
        assert!(answer.starts_with("552 5.3.4 "), "{octets} in pieces of {size}: {answer}");
        assert!(scanner.0.has_ended(), "{octets} in pieces of {size}");
        exchange.until("end of the half message", |counts| counts.submissions.cut == number as u64 + 1);
        assert_eq!(exchange.simulator.submissions().len(), 1, "{octets} in pieces of {size}");
    }
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    let answer = Scanner::log_in(&proxy).submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("250 "), "the next one: {answer}");
}

/// The lines of the answer to EHLO.
fn announced(listener: &str) -> Vec<String> {
    let exchange = Exchange::new();
    let below = exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    let proxy = proxy_at(&exchange, listener, &below);
    let mut device: Device = TLS_1_0.connect(proxy.address("smtps"), Start::Implicit);
    assert!(device.line().starts_with("220 "));
    device.send("EHLO scanner\r\n");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| line.starts_with("250-")) {
        lines.push(device.line());
    }
    lines
}

#[test]
fn the_answer_to_ehlo_has_the_size_and_a_second_form_of_auth() {
    let has = |lines: &[String], line: &str| lines.iter().any(|one| one == line);
    let usual = announced("");
    assert!(has(&usual, "250-SIZE 157286400") && has(&usual, "250-AUTH LOGIN PLAIN"), "{usual:?}");
    assert!(!has(&usual, "250-AUTH=LOGIN PLAIN"), "{usual:?}");
    let odd = announced(&format!("max_message_size = {LIMIT}\nauth_equals = true"));
    assert!(has(&odd, "250-SIZE 65536") && has(&odd, "250-AUTH LOGIN PLAIN"), "{odd:?}");
    assert!(has(&odd, "250-AUTH=LOGIN PLAIN"), "{odd:?}");
}

/// LF, dot, LF ends a message without CRLF where the account says so; and never one with a CRLF, nor any by default.
#[test]
fn lf_ends_the_data_of_one_account_alone() {
    let text = "From: scan@contoso.example\nSubject: page\n\nhello\n.\n";
    let sent = |key: &str, data: &str| {
        let exchange = Exchange::new();
        let answer = Scanner::log_in(&proxy_with(&exchange, BY_SECRET, key)).submit(data.as_bytes());
        assert!(answer.starts_with("250 "), "{key}: {answer}");
        String::from_utf8(whole(&exchange.simulator.submissions()).message()).unwrap()
    };
    let key = "lf_end_of_data = true";
    let body = sent(key, text);
    assert!(body.ends_with("\r\n\r\nhello\r\n"), "{body:?}");
    for (key, text) in [(key, text.replacen('\n', "\r\n", 1)), ("", text.to_owned())] {
        let body = sent(key, &format!("{text}behind\r\n.\r\n"));
        assert!(body.ends_with("\r\nhello\r\n.\r\nbehind\r\n"), "{key}: {body:?}");
    }
}

/// Two recipients become one, the mailbox; the text names them still. The account's list of recipients counts all the same.
#[test]
fn a_trial_goes_to_the_mailbox_alone() {
    let exchange = Exchange::new();
    let key = "deliver = \"mailbox\"\nrecipients = [\"*@fabrikam.example\"]";
    let proxy = proxy_with(&exchange, BY_SECRET, key);
    let mut scanner = Scanner::log_in(&proxy);
    for number in 1..=2 {
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        for recipient in ["ann@fabrikam.example", "ben@fabrikam.example"] {
            let answer = scanner.ask(&format!("RCPT TO:<{recipient}>"));
            assert!(answer.starts_with("250 2.1.5 "), "{recipient}: {answer}");
        }
        let answer = scanner.ask("RCPT TO:<out@contoso.example>");
        assert!(answer.starts_with("550 5.7.1 "), "{answer}");
        scanner.ok("DATA");
        scanner.0.send(format!("From: {SCAN}\r\nTo: ann@fabrikam.example\r\n\r\nx\r\n.\r\n"));
        let answer = scanner.reply();
        assert!(answer.starts_with("250 "), "{answer}");
        let submissions = exchange.simulator.submissions();
        let one = whole(&submissions[number - 1..]);
        assert_eq!(one.recipients, [SCAN.to_owned()]);
        let text = String::from_utf8(one.message()).unwrap();
        assert!(text.contains("\r\nTo: ann@fabrikam.example\r\n"), "{text}");
    }
    proxy.log.wait_for("line of the message", |line| line.contains("message sent to the mailbox alone"));
    let commands = exchange.simulator.smtp_commands();
    assert!(!commands.iter().any(|command| command.line.contains("fabrikam")), "{commands:?}");
}
