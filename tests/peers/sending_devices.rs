//! These tests prove that a device which sends has a state of its own, and its mailbox a count of recipients: on the
//! page, in commands, metrics and files, over restarts.

mod hour;
mod recipients;
mod trial;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use packetboat::simulator::quirks::smtp::{Afterwards, LoginRefusal, SmtpFault, SmtpMoment};
use packetboat::simulator::{Quirks, RepeatedError};
use serde_json::{Value, json};

use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, PASSWORD, Ran, SCAN, account};
use support::process::{PATIENCE, program};
use support::proxy::{Proxy, translating_listener};

use crate::submission_exchange::Scanner;

/// A message as it goes over the wire, with its end.
const MESSAGE: &[u8] =
    b"From: Scanner <scan@contoso.example>\r\nTo: <scan@contoso.example>\r\nSubject: page\r\n\r\nx\r\n.\r\n";

/// The listeners of a scanner that sends, and whose mailbox is read as well.
fn configuration(exchange: &Exchange, more: &str) -> String {
    exchange.submission_frame()
        + &translating_listener("smtps", "smtp", "implicit", "")
        + &exchange.identity(BY_SECRET)
        + &account("scans", SCAN, "").replace("[[device]]", "[[device]]\ndescription = \"Copier, reception\"")
        + more
}

/// Sends one message to these recipients; returns the last response.
fn send(scanner: &mut Scanner, recipients: &[&str]) -> String {
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    for recipient in recipients {
        scanner.ok(&format!("RCPT TO:<{recipient}>"));
    }
    scanner.ok("DATA");
    scanner.0.send(MESSAGE);
    scanner.reply()
}

/// Sends one message that the mail server accepts.
fn send_well(proxy: &Proxy, recipients: &[&str]) {
    let mut scanner = Scanner::log_in(proxy);
    let answer = send(&mut scanner, recipients);
    assert!(answer.starts_with("250 "), "{answer}");
    scanner.ok("QUIT");
}

/// Waits until a part of an answer satisfies the condition: status answers are kept for a moment.
fn wait<T>(what: &str, ask: impl Fn() -> T, condition: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let one = ask();
        if condition(&one) {
            return one;
        }
        assert!(Instant::now() < deadline, "{what}: {one:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The report on the device, once it satisfies the condition.
fn until(proxy: &Proxy, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    wait(what, || proxy.status()["configured"][0].clone(), condition)
}

fn until_metric(proxy: &Proxy, line: &str) {
    wait(line, || proxy.metrics(), |metrics| metrics.lines().any(|one| one == line));
}

fn view(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.get(&format!("/device.json?name={LOGIN}"))).unwrap()
}

fn command(proxy: &Proxy, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program());
    Ran::of(command.args(arguments).arg("--config").arg(proxy.configuration()).output().unwrap())
}

/// The cells of the device's row in the CSV, by their column. Those of a configured device come last, and need no quotation
/// marks.
fn cells(csv: &str) -> impl Fn(&str) -> String {
    let line =
        |index: usize| -> Vec<String> { csv.lines().nth(index).unwrap().rsplit(',').map(str::to_owned).collect() };
    let (columns, row) = (line(0), line(1));
    move |column| row[columns.iter().position(|one| one == column).unwrap()].clone()
}

#[test]
fn a_device_that_sends_has_its_state_everywhere() {
    let exchange = Exchange::new();
    let configuration = configuration(&exchange, "");
    let mut proxy = exchange.proxy(&configuration);
    assert_eq!(until(&proxy, "never", |_| true)["sending"], Value::Null);
    Scanner::log_in(&proxy).ok("QUIT");
    let nothing = until(&proxy, "a login without a message", |one| one["sending"]["state"] == "nothing");
    assert_eq!((&nothing["state"], &nothing["reading"]), (&json!("ok"), &Value::Null), "it only sends");
    let table = command(&proxy, &["devices"]).output;
    assert!(table.starts_with("the one device sends its mail\n") && table.contains("  sends nothing  "), "{table}");

    send_well(&proxy, &[SCAN, "other@contoso.example"]);
    let sends = until(&proxy, "a message", |one| one["sending"]["state"] == "sends" && one["open"] == 0);
    let sending = &sends["sending"];
    assert_eq!(
        (&sending["messages"], &sending["recipients"], &sending["octets"]),
        (&json!(1), &json!(2), &json!(MESSAGE.len()))
    );
    assert_eq!((&sends["octets"], &sends["sessions"]), (&json!(0), &json!(2)), "replies are no mail");

    exchange.quirk(|quirks| quirks.smtp.mailbox_full = true);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(send(&mut scanner, &[SCAN]).starts_with("452 "));
    let refused = until(&proxy, "refusal", |one| one["state"] == "refused");
    assert_eq!((&refused["sending"]["state"], &refused["sending"]["refused"]), (&json!("refused"), &json!(1)));
    assert!(refused["failure"].as_str().unwrap().contains("empty the mailbox, above all its Sent Items"), "{refused}");
    until_metric(&proxy, "packetboat_device_trouble{device=\"scanner3\",reason=\"refused\"} 1");
    // The session that is open shows its message already.
    let open = view(&proxy)["connections"][0].clone();
    assert_eq!((&open["ended"], &open["refused"], &open["submits"]), (&Value::Null, &json!(1), &json!(true)), "{open}");
    assert!(view(&proxy)["advice"].as_str().unwrap().contains("empty the mailbox"));
    scanner.ok("QUIT");
    let table = command(&proxy, &["devices"]).output;
    assert!(table.starts_with("0 of 1 devices send their mail; every message of scanner3 is refused\n"), "{table}");
    assert!(table.contains("messages refused for ") && table.contains("3 logins, 1 sent to 2, 1 refused"), "{table}");
    assert!(table.contains("LAST SENT") && table.contains("     mailbox is full: the mail server said"), "{table}");
    let csv = command(&proxy, &["devices", "--csv"]).output;
    let cell = cells(&csv);
    let counts = ["state", "sending", "sent_24h", "recipients_24h", "refused_24h"].map(&cell);
    assert_eq!(counts, ["refused", "refused", "1", "2", "1"], "{csv}");
    assert!(cell("last_sent").starts_with("20") && cell("sent_octets_24h") == MESSAGE.len().to_string(), "{csv}");
    let listed: Value = serde_json::from_str(&command(&proxy, &["devices", "--json"]).output).unwrap();
    assert_eq!(listed["configured"][0]["sending"]["recipients"], 2);

    // A restart forgets none of it; a message that is accepted ends it.
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    drop(proxy);
    let proxy = exchange.proxy(&configuration);
    let again = until(&proxy, "the same", |_| true);
    for key in ["state", "since", "sending", "failure"] {
        assert_eq!(again[key], refused[key], "{key}");
    }
    exchange.quirk(|quirks| quirks.smtp.mailbox_full = false);
    send_well(&proxy, &[SCAN]);
    let well = until(&proxy, "the end", |one| one["state"] == "ok");
    assert_eq!(well["sending"]["messages"], 2);
    until_metric(&proxy, "packetboat_device_trouble{device=\"scanner3\",reason=\"refused\"} 0");

    // What was seen of it is forgotten on the page; its record stays.
    proxy.until_open(0);
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("what was seen", "!!document.querySelector('#devices tbody button.forget')");
    assert!(
        browser.evaluate("document.querySelector('#devices tbody .entry').textContent").to_string().contains("SMTP")
    );
    browser.click("#devices tbody button.forget");
    browser.wait_for("forgotten", "document.querySelectorAll('#devices tbody tr').length === 0");
    let kept = until(&proxy, "record", |_| true);
    assert_eq!((&kept["state"], &kept["sending"]["messages"]), (&json!("ok"), &json!(2)));
}

/// A technician sees whether a device sends, and no mailbox, sender or recipient.
#[test]
fn a_technician_sees_whether_a_device_sends() {
    let exchange = Exchange::new();
    let token = exchange.file("technician-token", "the-technicians-token");
    exchange::mode(&token, 0o600);
    let all = exchange.file("admin-token", "the-administrators-token");
    exchange::mode(&all, 0o600);
    let admin =
        format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {all:?}\ntechnician_token_file = {token:?}\n");
    let rules = "sender = \"pass\"\nrecipients = [\"*@contoso.example\"]";
    let proxy = exchange.proxy(
        &(admin + &configuration(&exchange, "").replace("[account.scans]\n", &format!("[account.scans]\n{rules}\n"))),
    );
    let mut scanner = Scanner::log_in(&proxy);
    assert!(scanner.ask("MAIL FROM:<boss@contoso.example>").starts_with("550 "));
    scanner.ok("QUIT");
    let ask = |token: &str, path: &str| {
        let mut stream = TcpStream::connect(proxy.admin()).unwrap();
        let head = "Host: mailproxy\r\nConnection: close";
        write!(stream, "GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n{head}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let view = format!("/device.json?name={LOGIN}");
    let refused = "\"state\":\"refused\"";
    for path in ["/status.json", &view] {
        let seen = wait(path, || ask("the-technicians-token", path), |answer| answer.contains(refused));
        assert!(
            seen.contains("the sender is refused") && !seen.contains("contoso") && !seen.contains("boss"),
            "{seen}"
        );
        let shown = wait(path, || ask("the-administrators-token", path), |answer| answer.contains(refused));
        assert!(shown.contains("boss@contoso.example"), "the search would find it: {shown}");
    }
    let seen = ask("the-technicians-token", &view);
    assert!(
        seen.contains("Enter the sender of its printed sheet into the device.") && !seen.contains("recipients_bound")
    );
    assert!(seen.contains("\"mailbox_recipients\":null"), "{seen}");
}

/// A way to refuse a message, the reason, and a word of the advice.
type Row = (&'static str, fn(&mut Quirks), &'static str, &'static str);

/// Each refusal that the program knows has its reason and its advice on the device's page.
#[test]
fn each_refusal_has_its_reason_and_advice() {
    let rows: [Row; 7] = [
        ("sender", |quirks| quirks.smtp.sends_as_nobody = true, "sender_refused", "sender"),
        ("size", |quirks| quirks.smtp.max_send_size = 10, "message_too_big", "resolution"),
        ("full", |quirks| quirks.smtp.mailbox_full = true, "mailbox_full", "Sent Items"),
        ("quota", |quirks| quirks.smtp.recipients_per_day = 0, "submission_quota", "tomorrow"),
        ("spam", |quirks| fault(quirks, "550 5.1.8 Bad outbound sender"), "message_refused", "mail server"),
        ("busy", |quirks| fault(quirks, "451 4.7.500 Server busy."), "message_deferred", "in a few minutes"),
        (
            "lost",
            |quirks| quirks.smtp.faults.push(SmtpFault::silent(SmtpMoment::EndOfData, Afterwards::Close)),
            "outcome_unknown",
            "Ask the recipient",
        ),
    ];
    for (name, change, reason, words) in rows {
        let exchange = Exchange::new();
        let proxy = exchange.proxy(&configuration(&exchange, ""));
        exchange.quirk(change);
        let answer = send(&mut Scanner::log_in(&proxy), &[SCAN]);
        assert!(answer.starts_with(['4', '5']), "{name}: {answer}");
        judged(&proxy, reason, words);
    }
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, ""));
    exchange.simulator.throttle_submission(SCAN, Some(RepeatedError::SendAsDenied));
    assert!(send(&mut Scanner::log_in(&proxy), &[SCAN]).starts_with("451 "));
    judged(&proxy, "mailbox_throttled", "the error that came before");
}

/// A recipient that is refused leaves no message; beside others it does no harm.
#[test]
fn a_refused_recipient_counts_until_the_message_is_accepted() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, ""));
    exchange.quirk(|quirks| {
        quirks.smtp.faults.push(SmtpFault::reply(SmtpMoment::Recipient, "550 5.1.1 User unknown").times(1));
    });
    let mut scanner = Scanner::log_in(&proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    assert!(scanner.ask("RCPT TO:<nobody@contoso.example>").starts_with("550 "));
    let report = judged(&proxy, "recipient_refused", "Correct the recipient's address");
    assert_eq!(report["sending"]["refused"], 0, "no message yet");
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
    scanner.0.send(MESSAGE);
    assert!(scanner.reply().starts_with("250 "));
    until(&proxy, "sends", |one| one["state"] == "ok" && one["sending"]["state"] == "sends");
}

/// The device is judged for this reason, and its page has this advice.
fn judged(proxy: &Proxy, reason: &str, words: &str) -> Value {
    let report = until(proxy, reason, |one| one["sending"]["reason"] == reason);
    assert_eq!((&report["state"], &report["sending"]["state"]), (&json!("refused"), &json!("refused")), "{reason}");
    let view = view(proxy);
    assert!(view["advice"].as_str().unwrap().contains(words), "{reason}: {view:#}");
    assert!(!view["reason"].as_str().unwrap().is_empty());
    report
}

fn fault(quirks: &mut Quirks, reply: &str) {
    quirks.smtp.faults.push(SmtpFault::reply(SmtpMoment::EndOfData, reply));
}

/// A device that reads and sends has both sides. A success of one does not hide failures of the other.
#[test]
fn a_device_that_reads_and_sends_shows_both_sides() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, ""));
    exchange.quirk(|quirks| quirks.smtp.login_refusal = Some(LoginRefusal::DisabledForMailbox));
    let login = openssl::base64::encode_block(format!("\0{LOGIN}\0{PASSWORD}").as_bytes());
    assert!(Scanner::greeted(&proxy).ask(&format!("AUTH PLAIN {login}")).starts_with("535 "));
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let failing = until(&proxy, "both", |one| one["messages"] == 2 && one["open"] == 0);
    assert_eq!(
        (&failing["state"], &failing["sending"]["state"]),
        (&json!("failing"), &json!("failing")),
        "{failing:#}"
    );
    assert_eq!(failing["reading"]["failing_since"], Value::Null);
    let advice = view(&proxy)["sending"]["advice"].clone();
    assert!(advice.as_str().unwrap().contains("switch SMTP AUTH on"), "{advice}");

    let browser = Browser::start();
    let page = format!("http://{}/device?name={LOGIN}", proxy.admin());
    browser.open(&page);
    let says = |selector: &str, words: &str| {
        let element = format!("document.querySelector({})?.textContent", Value::from(selector));
        browser.wait_for(words, &format!("{element}?.includes({})", Value::from(words)));
    };
    says("#sentence", "It gets its mail. It fetched the last message at ");
    says("#sentence", "It sends no mail: its logins to send have failed since ");
    says("#badge", "Logins fail");
    assert_accessible(&browser, "a device that reads, and cannot log in to send");

    exchange.quirk(|quirks| quirks.smtp.login_refusal = None);
    send_well(&proxy, &[SCAN, "other@contoso.example"]);
    says("#badge", "Gets and sends mail");
    says("#sentence", "It sends its mail. The mail server accepted the last message at ");
    says("#facts", "1 message sent to 2 recipients");
    says("#facts", "2 of 10,000 recipients in 24 hours");
    says("#connections tbody tr:first-child", "Logged in; 1 message sent to 2 recipients, ");
    says("#connections tbody tr:first-child", "SMTP, TLS 1.0");

    exchange.quirk(|quirks| quirks.smtp.max_send_size = 10);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(send(&mut scanner, &[SCAN]).starts_with("552 "));
    // The open session shows it at once.
    says("#connections tbody tr:first-child", "Logged in; 0 messages sent, 1 refused: message is too big");
    says("#connections tbody tr:first-child", "the session is open");
    says("#sentence", "It gets its mail. It fetched the last message at ");
    says("#sentence", "It sends no mail: every message has been refused since ");
    says("#badge", "Messages refused");
    says("#reason", "scan with a lower resolution");
    says("#advice", "Scan fewer pages at once");
    assert_accessible(&browser, "a device whose messages are refused");
    browser.resize(390, 844);
    assert_accessible(&browser, "a device whose messages are refused, on a phone");
    browser.resize(1280, 900);
    browser.open(&format!("http://{}/", proxy.admin()));
    says("#summary", "0 of 1 device gets and sends its mail; every message of scanner3 has been refused since ");
    says("#configured tbody .state", "Messages refused");
    says("#configured tbody .mail", "sent ");
    says("#configured tbody .day", "1 message sent to 2 recipients");
    says("#configured tbody .day", "1 refused");
    says("#accounts tbody .box", "2 of 10,000 recipients in 24 hours");
    assert_accessible(&browser, "a page with a device whose messages are refused");
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}
