//! These tests prove that the metrics count what becomes of each message that a device submits.

use std::time::{Duration, Instant};

use packetboat::simulator::RepeatedError;
use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, SmtpFault, SmtpMoment};
use support::exchange::*;
use support::process::PATIENCE;
use support::proxy::Proxy;

use super::{MESSAGE, Scanner, proxy, proxy_with};

const MESSAGES: &str = "packetboat_submitted_messages_total";

/// A sample of the metrics by its whole name with all its labels, as Prometheus reads it.
#[track_caller]
fn sample(proxy: &Proxy, name: &str, labels: &str) -> String {
    let metrics = proxy.metrics();
    let begin = format!("{name}{{listener=\"smtps\"{labels}}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("no {begin} in {metrics}")).to_owned()
}

#[track_caller]
fn messages(proxy: &Proxy, result: &str, reason: &str) -> String {
    sample(proxy, MESSAGES, &format!(",reason=\"{reason}\",result=\"{result}\""))
}

/// Waits until a sample has this value: the device hears the response before it is counted, and the answer to a request
/// for the metrics is kept for a moment.
#[track_caller]
fn until_sample(proxy: &Proxy, name: &str, labels: &str, value: &str) {
    let deadline = Instant::now() + PATIENCE;
    while sample(proxy, name, labels) != value {
        assert!(Instant::now() < deadline, "{name} {labels} does not become {value}: {}", proxy.metrics());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many messages have this result.
#[track_caller]
fn until(proxy: &Proxy, result: &str, reason: &str, count: &str) {
    until_sample(proxy, MESSAGES, &format!(",reason=\"{reason}\",result=\"{result}\""), count);
}

#[test]
fn accepted_messages_are_counted_with_octets_recipients_and_time() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    assert_eq!(messages(&proxy, "accepted", "none"), "0", "there before the first message");
    let data = stuffed(MESSAGE);
    let mut scanner = Scanner::log_in(&proxy);
    for _ in 0..2 {
        let answer = scanner.submit(&data);
        assert!(answer.starts_with("250 "), "{answer}");
    }
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("RCPT TO:<other@contoso.example>");
    scanner.ok("DATA");
    scanner.0.send(&data);
    assert!(scanner.reply().starts_with("250 "));
    until(&proxy, "accepted", "none", "3");
    until_sample(&proxy, "packetboat_submitted_bytes_total", "", &(3 * data.len()).to_string());
    until_sample(&proxy, "packetboat_submitted_recipients_total", ",result=\"accepted\"", "4");
    until_sample(&proxy, "packetboat_submission_answer_seconds_count", "", "3");
    let seconds: f64 = sample(&proxy, "packetboat_submission_answer_seconds_sum", "").parse().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    assert!(!proxy.metrics().contains("packetboat_submitted_messages_total{listener=\"imap\""), "no submission there");
}

#[test]
fn each_refusal_is_counted_by_who_refuses_and_why() {
    let exchange = Exchange::new();
    let rules = "sender = \"pass\"\nrecipients = [\"*@contoso.example\"]";
    let proxy = proxy_with(&exchange, BY_SECRET, rules);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(scanner.ask("MAIL FROM:<boss@contoso.example>").starts_with("550 5.7."));
    until(&proxy, "refused_by_rules", "sender_refused", "1");
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    assert!(scanner.ask("RCPT TO:<out@fabrikam.example>").starts_with("550 5.7."));
    scanner.ok("RSET");
    until_sample(&proxy, "packetboat_submitted_recipients_total", ",result=\"refused\"", "1");
    exchange.quirk(|quirks| quirks.smtp.mailbox_full = true);
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("452 "));
    until(&proxy, "deferred", "mailbox_full", "1");
    // A refusal at the end of a message is an answer.
    until_sample(&proxy, "packetboat_submission_answer_seconds_count", "", "1");
    exchange.quirk(|quirks| {
        quirks.smtp.mailbox_full = false;
        quirks.smtp.sends_as_nobody = true;
    });
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("550 "));
    until(&proxy, "refused", "sender_refused", "1");
    assert_eq!(messages(&proxy, "accepted", "none"), "0");
    assert_eq!(sample(&proxy, "packetboat_submitted_bytes_total", ""), "0");
}

#[test]
fn a_throttled_mailbox_and_an_unknown_outcome_are_counted() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    exchange.quirk(|quirks| {
        quirks.smtp.faults.push(SmtpFault::silent(SmtpMoment::EndOfData, Afterwards::Close).times(1));
    });
    assert!(Scanner::log_in(&proxy).submit(&stuffed(MESSAGE)).starts_with('4'));
    proxy.log.wait_for("end of the session", |line| line.contains("outcome_unknown"));
    until(&proxy, "unknown", "outcome_unknown", "1");
    exchange.simulator.throttle_submission(SCAN, Some(RepeatedError::SendAsDenied));
    assert!(Scanner::log_in(&proxy).submit(&stuffed(MESSAGE)).starts_with("451 4.7.1 "));
    until(&proxy, "deferred", "mailbox_throttled", "1");
    assert_eq!(messages(&proxy, "accepted", "none"), "0");
}

/// All recipients are refused: the message counts as one that was refused, whoever has refused them.
#[test]
fn a_message_without_a_recipient_left_is_a_refused_message() {
    let exchange = Exchange::new();
    let proxy = proxy_with(&exchange, BY_SECRET, "recipients = [\"*@contoso.example\"]");
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    assert!(scanner.ask("RCPT TO:<out@fabrikam.example>").starts_with("550 5.7.1 "));
    assert!(scanner.ask("DATA").starts_with('5'));
    until(&proxy, "refused_by_rules", "recipient_refused", "1");
    scanner.ok("RSET");
    exchange.quirk(|quirks| {
        quirks.smtp.faults.push(SmtpFault::reply(SmtpMoment::Recipient, "550 5.1.1 User unknown").times(1));
    });
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    assert!(scanner.ask(&format!("RCPT TO:<{SCAN}>")).starts_with("550 5.1.1 "));
    assert!(scanner.ask("DATA").starts_with('5'));
    until(&proxy, "refused", "recipient_refused", "1");
    let line = proxy.log.wait_for("the line", |line| line.contains("a message has no recipient, and is not sent"));
    assert!(line.contains("recipient_refused"), "{line}");
    until_sample(&proxy, "packetboat_submitted_recipients_total", ",result=\"refused\"", "2");
}
