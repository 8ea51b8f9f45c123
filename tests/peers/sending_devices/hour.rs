//! These tests prove that a device which is stolen or runs wild does not use up its mailbox, and that its first recipient
//! outside of the mailbox's domain is told.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use packetboat::simulator::quirks::smtp::{Afterwards, SmtpFault, SmtpMoment};
use serde_json::Value;

use support::exchange::{BY_SECRET, Exchange, LOGIN, SCAN, account};
use support::proxy::{Proxy, translating_listener};

use super::{MESSAGE, command, configuration, send, send_well, until, until_metric, wait};
use crate::submission_exchange::Scanner;

const BOUND: &str = "[submission]\nrecipients_per_hour_of_device = 3\n";
const HELD: &str = "450 4.7.1 this device has sent to as many recipients as it may in an hour, try again later";
const OUTSIDE: &str = "out@fabrikam.example";

fn mail(scanner: &mut Scanner) -> String {
    scanner.ask(&format!("MAIL FROM:<{SCAN}>"))
}

/// The words of the line for a device that is over its number, which the log has once.
fn line(proxy: &Proxy) -> String {
    let line = proxy.log.wait_for("line", |line| line.contains("recipients within an hour"));
    assert_eq!(proxy.log.all().matches("recipients within an hour").count(), 1, "{}", proxy.log.all());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["level"], &line["reason"], &line["login"]),
        (&"WARN".into(), &"device_quota".into(), &"scanner3".into())
    );
    line["message"].as_str().unwrap().to_owned()
}

/// The report on the device, once it satisfies the condition. Another device may come before it.
fn until_report(proxy: &Proxy, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let ask = || {
        let status = proxy.status();
        status["configured"].as_array().unwrap().iter().find(|one| one["device"] == LOGIN).unwrap().clone()
    };
    wait(what, ask, condition)
}

/// The text of a line between these words.
fn between<'a>(line: &'a str, before: &str, behind: &str) -> &'a str {
    let rest = line.split_once(before).unwrap_or_else(|| panic!("{line}")).1;
    rest.split_once(behind).unwrap_or_else(|| panic!("{line}")).0
}

/// The device hears 452 and 450, over restarts; another device of the mailbox goes on. Both ways out that the log prints
/// work: more recipients, and another password.
#[test]
fn a_device_sends_to_so_many_recipients_in_an_hour() {
    let exchange = Exchange::new();
    let second = account("other", "o@contoso.example", "");
    let second = second[second.find("[[device]]").unwrap()..].replace("account = \"other\"", "account = \"scans\"");
    let text = configuration(&exchange, &(second + BOUND));
    let mut proxy = exchange.proxy(&text);
    send_well(&proxy, &[SCAN]);
    until_report(&proxy, "one", |one| one["sending"]["recipients"] == 1);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(mail(&mut scanner).starts_with("250 "));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("RCPT TO:<b@contoso.example>");
    let answer = scanner.ask("RCPT TO:<c@contoso.example>");
    assert_eq!(answer, "452 4.5.3 this device has sent to as many recipients as it may in an hour, try again later");
    scanner.ok("DATA");
    scanner.0.send(MESSAGE);
    assert!(scanner.reply().starts_with("250 "), "the message with the others goes");
    for _ in 0..3 {
        assert_eq!(mail(&mut scanner), HELD);
    }
    assert_eq!(mail(&mut Scanner::log_in(&proxy)), HELD, "another session as well");
    let counted = "reason=\"device_quota\",result=\"refused_by_rules\"} 4";
    until_metric(&proxy, &format!("packetboat_mailbox_messages_total{{account=\"scans\",{counted}"));
    line(&proxy);
    let mut other = Scanner::log_in_as(&proxy, "other");
    assert!(send(&mut other, &[SCAN]).starts_with("250 "));
    let report = until_report(&proxy, "refused", |one| one["state"] == "refused");
    assert_eq!(report["reason"], "device_quota");
    assert_eq!(exchange.simulator.submissions().len(), 3, "the mail server saw no more");

    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    drop(proxy);
    let proxy = exchange.proxy(&text);
    assert_eq!(mail(&mut Scanner::log_in(&proxy)), HELD);
    let said = proxy.log.all();
    assert!(!said.contains("recipients within an hour"), "it was told before the restart: {said}");
    let raised = text.replacen("[[device]]", "[[device]]\nrecipients_per_hour = 4", 1);
    proxy.configure(&raised);
    assert_eq!(proxy.reload().0, 0);
    send_well(&proxy, &[SCAN]);
    assert_eq!(mail(&mut Scanner::log_in(&proxy)), HELD);
    let line = line(&proxy);
    let key = between(&line, "if it may send so much, write ", " into the section of device \"scanner3\"");
    assert_eq!(key, "recipients_per_hour = 8");
    proxy.configure(&text.replacen("[[device]]", &format!("[[device]]\n{key}"), 1));
    assert_eq!(proxy.reload().0, 0);
    send_well(&proxy, &[SCAN]);
    let words: Vec<&str> = between(&line, "if nobody knows why, packetboat ", " locks out").split(' ').collect();
    assert_eq!(words, ["device", "password", "scanner3"]);
    assert_eq!(command(&proxy, &words).code, 0);
    let answer = Scanner::greeted(&proxy).ask("AUTH PLAIN AHNjYW5uZXIzAGs3bTJ4cDlhdA==");
    assert!(answer.starts_with("535 "), "{answer}");
}

/// The log and a metric tell of the first recipient outside alone, and the printed line keeps the device inside.
#[test]
fn the_first_recipient_outside_of_the_domain_is_told() {
    let exchange = Exchange::new();
    let text = configuration(&exchange, "");
    let mut proxy = exchange.proxy(&text);
    let metric = |count: u32| format!("packetboat_mailbox_first_outside_total{{account=\"scans\"}} {count}");
    send_well(&proxy, &[SCAN, "b@CONTOSO.example"]);
    until_metric(&proxy, &metric(0));
    send_well(&proxy, &[SCAN, OUTSIDE]);
    let line = proxy.log.wait_for("line", |line| line.contains("has sent outside of"));
    assert!(line.contains("\"login\":\"scanner3\"") && line.contains("\"domain\":\"fabrikam.example\""), "{line}");
    assert!(!line.contains(OUTSIDE), "recipients are not in the log: {line}");
    until_metric(&proxy, &metric(1));
    send_well(&proxy, &["x@other.example"]);
    until(&proxy, "all", |one| one["sending"]["messages"] == 3);
    let told = |proxy: &Proxy| proxy.log.all().matches("has sent outside of").count();
    assert_eq!(told(&proxy), 1);
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    drop(proxy);
    let proxy = exchange.proxy(&text);
    send_well(&proxy, &[OUTSIDE]);
    until(&proxy, "four", |one| one["sending"]["messages"] == 4);
    assert_eq!(told(&proxy), 0, "it was told before the restart");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let message = line["message"].as_str().unwrap();
    let key = between(message, "if it shall not, write ", " into the section of device \"scanner3\"");
    assert_eq!(key, "recipients = [\"*@contoso.example\"]");
    proxy.configure(&text.replacen("[[device]]", &format!("[[device]]\n{key}"), 1));
    assert_eq!(proxy.reload().0, 0);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(mail(&mut scanner).starts_with("250 "));
    assert!(scanner.ask(&format!("RCPT TO:<{OUTSIDE}>")).starts_with("550 5.7.1 "));
}

/// Sessions of a device at the same time: a recipient counts from the moment in which the mail server gets it.
#[test]
fn sessions_at_the_same_time_do_not_exceed_the_number_together() {
    const MOST: usize = 10;
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.smtp.connections = 100);
    let bound = format!("[submission]\nrecipients_per_hour_of_device = {MOST}\nconnections_per_mailbox = 100\n");
    let proxy = exchange.proxy(&configuration(&exchange, &bound));
    for _ in 0..2 {
        let mut scanners: Vec<Scanner> = (0..6).map(|_| Scanner::log_in(&proxy)).collect();
        let taken = AtomicUsize::new(0);
        let all_have_asked = Barrier::new(scanners.len());
        thread::scope(|scope| {
            for scanner in &mut scanners {
                scope.spawn(|| {
                    let began = mail(scanner).starts_with("250 ");
                    let rcpt = format!("RCPT TO:<{SCAN}>");
                    let own = (0..4).filter(|_| began && scanner.ask(&rcpt).starts_with("250 ")).count();
                    taken.fetch_add(own, Ordering::Relaxed);
                    all_have_asked.wait();
                    // The first round gives all of them back, each session in one of three ways.
                    match own {
                        0 => {}
                        1 => scanner.ok("RSET"),
                        2 => scanner.ok("EHLO scanner"),
                        _ => scanner.ok("QUIT"),
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), MOST);
        drop(scanners);
        proxy.until_open(0);
    }
    let all_have_asked = Barrier::new(6);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut scanner = Scanner::log_in(&proxy);
                let began = mail(&mut scanner).starts_with("250 ");
                let rcpt = format!("RCPT TO:<{SCAN}>");
                let own = (0..4).filter(|_| began && scanner.ask(&rcpt).starts_with("250 ")).count();
                all_have_asked.wait();
                if own > 0 {
                    scanner.ok("DATA");
                    scanner.0.send(MESSAGE);
                    assert!(scanner.reply().starts_with("250 "));
                }
            });
        }
    });
    let sent: usize = exchange.simulator.submissions().iter().map(|one| one.recipients.len()).sum();
    assert_eq!(sent, MOST);
    assert_eq!(mail(&mut Scanner::log_in(&proxy)), HELD);
}

/// A recipient that the server refuses, a message that it refuses, and a device that leaves in the middle use nothing up.
#[test]
fn recipients_of_what_is_not_sent_are_given_back() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, BOUND));
    let all = [SCAN, "b@contoso.example", "c@contoso.example"];
    let fault = |moment, reply: &str| {
        let one = SmtpFault::reply(moment, reply);
        exchange.quirk(|quirks| quirks.smtp.faults = vec![SmtpFault { times: Some(1), ..one }]);
    };
    let mut scanner = Scanner::log_in(&proxy);
    fault(SmtpMoment::Recipient, "550 5.1.1 no such user");
    assert!(mail(&mut scanner).starts_with("250 "));
    assert!(scanner.ask("RCPT TO:<nobody@contoso.example>").starts_with("550 "));
    all.iter().for_each(|one| scanner.ok(&format!("RCPT TO:<{one}>")));
    assert!(scanner.ask("RCPT TO:<d@contoso.example>").starts_with("452 4.5.3 this device"));
    // Another session of the device has nothing left meanwhile.
    assert_eq!(mail(&mut Scanner::log_in(&proxy)), HELD);
    scanner.ok("DATA");
    fault(SmtpMoment::EndOfData, "554 5.6.0 no");
    scanner.0.send(MESSAGE);
    assert!(scanner.reply().starts_with("554 "));
    assert!(mail(&mut scanner).starts_with("250 "));
    all.iter().for_each(|one| scanner.ok(&format!("RCPT TO:<{one}>")));
    scanner.ok("DATA");
    scanner.0.send(b"Subject: half\r\n");
    drop(scanner);
    wait("the device's end", || mail(&mut Scanner::log_in(&proxy)), |answer| answer.starts_with("250 "));
    assert!(send(&mut Scanner::log_in(&proxy), &all).starts_with("250 "));
    assert_eq!(mail(&mut Scanner::log_in(&proxy)), HELD);
}

/// The server is lost behind the final dot: it may have sent the message.
#[test]
fn messages_without_an_answer_count() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, BOUND));
    let lost = SmtpFault { times: Some(1), ..SmtpFault::silent(SmtpMoment::EndOfData, Afterwards::Close) };
    exchange.quirk(|quirks| quirks.smtp.faults = vec![lost]);
    let answer = send(&mut Scanner::log_in(&proxy), &[SCAN, "b@contoso.example"]);
    assert!(answer.starts_with("451 4.4.2 "), "{answer}");
    until_metric(&proxy, "packetboat_mailbox_recipients_day{account=\"scans\"} 2");
    let mut scanner = Scanner::log_in(&proxy);
    assert!(mail(&mut scanner).starts_with("250 "));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    assert!(scanner.ask("RCPT TO:<b@contoso.example>").starts_with("452 4.5.3 this device"));
}

/// Messages in the spool count as well: the device has heard 250.
#[test]
fn kept_messages_count() {
    let exchange = Exchange::new();
    let spool = translating_listener("smtps", "smtp", "implicit", "spool = \"fallback\"");
    let text = exchange.submission_frame() + &spool + &exchange.identity(BY_SECRET) + &account("scans", SCAN, "");
    let proxy = exchange.proxy(&(text + BOUND));
    let busy = SmtpFault::reply(SmtpMoment::EndOfData, "451 4.3.2 busy");
    exchange.quirk(|quirks| quirks.smtp.faults = vec![busy]);
    let mut scanner = Scanner::log_in(&proxy);
    let answer = send(&mut scanner, &[SCAN, OUTSIDE, "b@contoso.example"]);
    assert!(answer.starts_with("250 2.6.0 kept"), "{answer}");
    proxy.log.wait_for("outside", |line| line.contains("has sent outside of") && line.contains("fabrikam.example"));
    assert_eq!(mail(&mut scanner), HELD);
}
