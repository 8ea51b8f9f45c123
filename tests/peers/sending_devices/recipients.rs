//! These tests prove that the recipients of a mailbox are counted for a day, shown, and refused where the operator asks
//! for it.

use packetboat::simulator::quirks::smtp::{SmtpFault, SmtpMoment};
use serde_json::Value;

use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{BY_SECRET, Exchange, SCAN, account};
use support::proxy::{Proxy, translating_listener};

use super::{MESSAGE, command, configuration, send, send_well, until, until_metric, wait};
use crate::submission_exchange::Scanner;

/// The account of the status, once it satisfies the condition.
fn until_account(proxy: &Proxy, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait(what, || proxy.status()["accounts"][0].clone(), condition)
}

/// The recipients of a day are counted for the mailbox, and outlive a restart.
#[test]
fn recipients_of_a_mailbox_are_counted_for_a_day() {
    let exchange = Exchange::new();
    let bound = "[submission]\nrecipients_per_day = 5\n";
    let proxy = exchange.proxy(&configuration(&exchange, bound));
    let gauge = |count: u32| format!("packetboat_mailbox_recipients_day{{account=\"scans\"}} {count}");
    let messages = |result: &str, reason: &str, count: u32| {
        format!(
            "packetboat_mailbox_messages_total{{account=\"scans\",reason=\"{reason}\",result=\"{result}\"}} {count}"
        )
    };
    until_metric(&proxy, &gauge(0));
    until_metric(&proxy, "packetboat_mailbox_recipients_day_limit{account=\"scans\"} 5");
    until_metric(&proxy, &messages("refused", "sender_refused", 0));
    send_well(&proxy, &[SCAN, "b@contoso.example", "c@contoso.example", "d@contoso.example"]);
    until_metric(&proxy, &gauge(4));
    until_metric(&proxy, &messages("accepted", "none", 1));
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    let shown = "document.querySelector('#accounts .day.badge.soon')?.textContent === '4 of 5 recipients in 24 hours'";
    browser.wait_for("80 % stand out", shown);
    assert_accessible(&browser, "a mailbox near its recipients of a day");
    // Nothing is refused here: the mail server knows its own bound.
    send_well(&proxy, &[SCAN, "b@contoso.example"]);
    until_account(&proxy, "six", |one| one["recipients_day"] == 6 && one["recipients_bound"] == 5);
    exchange.quirk(|quirks| quirks.smtp.sends_as_nobody = true);
    assert!(send(&mut Scanner::log_in(&proxy), &[SCAN]).starts_with("550 "));
    until_metric(&proxy, &messages("refused", "sender_refused", 1));
    until_metric(&proxy, &gauge(6));

    let mut proxy = proxy;
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    drop(proxy);
    let proxy = exchange.proxy(&configuration(&exchange, bound));
    until_account(&proxy, "still six", |one| one["recipients_day"] == 6);
    // Without a listener that sends, nothing is counted.
    proxy.configure(&exchange.configuration(BY_SECRET));
    assert_eq!(proxy.reload().0, 0);
    wait("no count", || proxy.metrics(), |metrics| !metrics.contains("packetboat_mailbox_"));
    assert_eq!(
        until_account(&proxy, "no count", |one| one["recipients_bound"].is_null())["recipients_day"],
        Value::Null
    );
}

/// Only where the operator asks for it a device hears a temporary refusal before the bound is exceeded.
#[test]
fn recipients_over_the_bound_are_refused_where_the_operator_asks_for_it() {
    let exchange = Exchange::new();
    let bound = "[submission]\nrecipients_per_day = 3\nrefuse_over_recipients_per_day = true\n";
    let proxy = exchange.proxy(&configuration(&exchange, bound));
    send_well(&proxy, &[SCAN]);
    until_account(&proxy, "one", |one| one["recipients_day"] == 1);
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    // A session at the same time has one of the three until its message comes to nothing.
    let mut other = Scanner::log_in(&proxy);
    other.ok(&format!("MAIL FROM:<{SCAN}>"));
    other.ok("RCPT TO:<d@contoso.example>");
    assert!(other.ask("RCPT TO:<e@contoso.example>").starts_with("452 4.5.3 the mailbox"));
    assert!(scanner.ask("RCPT TO:<b@contoso.example>").starts_with("452 4.5.3 the mailbox"));
    other.ok("RSET");
    scanner.ok("RCPT TO:<b@contoso.example>");
    let answer = scanner.ask("RCPT TO:<c@contoso.example>");
    assert_eq!(answer, "452 4.5.3 the mailbox has sent to as many recipients as it may in 24 hours, try again later");
    proxy.log.wait_for("line", |line| line.contains("submission.recipients_per_day is reached"));
    scanner.ok("DATA");
    scanner.0.send(MESSAGE);
    assert!(scanner.reply().starts_with("250 "));
    until_account(&proxy, "three", |one| one["recipients_day"] == 3);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    assert!(scanner.ask(&format!("RCPT TO:<{SCAN}>")).starts_with("452 4.5.3 "));
    let report = until(&proxy, "refused", |one| one["state"] == "refused");
    assert_eq!(report["sending"]["reason"], "submission_quota");
    assert_eq!(exchange.simulator.submissions().len(), 2, "the mail server saw no more");
}

/// A message whose device has heard 250 is not lost over the bound: it waits until there is room.
#[test]
fn kept_messages_wait_where_the_bound_is_reached() {
    let exchange = Exchange::new();
    let text = |most: u32| {
        exchange.submission_frame()
            + &translating_listener("smtps", "smtp", "implicit", "spool = \"fallback\"")
            + &exchange.identity(BY_SECRET)
            + &account("scans", SCAN, "")
            + &format!("[submission]\nrecipients_per_day = {most}\nrefuse_over_recipients_per_day = true\n")
    };
    let proxy = exchange.proxy(&text(3));
    exchange.quirk(|quirks| {
        quirks.smtp.faults = vec![SmtpFault::reply(SmtpMoment::EndOfData, "451 4.3.2 busy")];
    });
    let mut scanner = Scanner::log_in(&proxy);
    for _ in 0..2 {
        assert!(send(&mut scanner, &[SCAN, "b@contoso.example"]).starts_with("250 2.6.0 kept"));
    }
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    let sent = || exchange.simulator.submissions().iter().filter(|one| one.reply.starts_with("250")).count();
    let listed = || -> Vec<Value> {
        let answer = command(&proxy, &["spool", "list", "--json"]).output;
        serde_json::from_str::<Value>(&answer).unwrap()["messages"].as_array().unwrap().clone()
    };
    let retry =
        |message: &Value| assert_eq!(command(&proxy, &["spool", "retry", message["id"].as_str().unwrap()]).code, 0);
    let messages = listed();
    retry(&messages[0]);
    wait("the first one", sent, |count| *count == 1);
    wait("one left", listed, |left| left.len() == 1);
    retry(&messages[1]);
    let reason = "submission.recipients_per_day is reached";
    proxy
        .log
        .wait_for("the wait", |line| line.contains("kept messages wait, because of a limit") && line.contains(reason));
    let waits =
        |left: &Vec<Value>| left[0]["state"] == "waiting" && left[0]["last_answer"].as_str().unwrap().contains(reason);
    wait("the second one waits", listed, waits);
    // One recipient is left of the day, for a device.
    assert!(send(&mut scanner, &[SCAN]).starts_with("250 "));
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    assert!(scanner.ask(&format!("RCPT TO:<{SCAN}>")).starts_with("452 4.5.3 the mailbox"));
    assert_eq!(sent(), 2);
    proxy.configure(&text(5));
    assert_eq!(proxy.reload().0, 0);
    retry(&messages[1]);
    wait("an empty spool", listed, |left| left.is_empty());
    assert_eq!(sent(), 3);
    until_account(&proxy, "five", |one| one["recipients_day"] == 5);
}
