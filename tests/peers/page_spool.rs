//! These tests prove the page's section of the spool in a real browser: what it shows to whom, and its two buttons.

use std::fs;
use std::path::PathBuf;

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Afterwards, SmtpFault, SmtpMoment};
use serde_json::Value;

use super::page::{DRAWN, pictures};
use super::page_actions::{post, text};
use super::submission_exchange::Scanner;
use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::proxy::{Proxy, translating_listener};
use support::strain::until;

const ADMINISTRATOR: &str = "the-administrators-token";
const TECHNICIAN: &str = "the-technicians-token";
const RECIPIENT: &str = "archive@contoso.example";
const MESSAGE: &[u8] = b"From: <scan@contoso.example>\r\nDate: Fri, 27 Nov 2026 10:00:00 +0000\r\n\
    Message-ID: <1@contoso.example>\r\nSubject: a page of the spool\r\n\r\nhello\r\n";
const BUSY: &str = "451 4.3.2 busy now";
/// For this answer packetboat leaves the mailbox alone for some minutes.
const THROTTLED: &str = "451 4.7.500 Server busy.";

/// A configuration with both tokens; `edit` and `spool` are lines of the admin section and of the listener.
fn configuration(exchange: &Exchange, edit: &str, spool: &str) -> String {
    let file = |name: &str, token: &str| {
        let path = exchange.file(name, token);
        exchange::mode(&path, 0o600);
        path
    };
    let (all, some) = (file("admin-token", ADMINISTRATOR), file("technician-token", TECHNICIAN));
    format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {all:?}\ntechnician_token_file = {some:?}\n{edit}")
        + &exchange.submission_frame()
        + &translating_listener("smtps", "smtp", "implicit", spool)
        + &exchange.identity(BY_SECRET)
        + &exchange::account("scans", SCAN, "")
}

const EDIT: &str = "edit = true\n";
const SPOOL: &str = "spool = \"fallback\"\n";

/// Has the mail server answer each message so; without an answer it takes all of them.
fn answer(exchange: &Exchange, reply: Option<&str>) {
    let fault = |reply: &str| SmtpFault {
        moment: SmtpMoment::EndOfData,
        reply: Some(reply.to_owned()),
        then: Afterwards::Continue,
        is_kept: false,
        times: None,
    };
    exchange.quirk(|quirks| quirks.smtp.faults = reply.map(fault).into_iter().collect());
}

/// Sends messages that are kept.
fn keep(exchange: &Exchange, proxy: &Proxy, messages: usize) {
    keep_with(exchange, proxy, messages, BUSY);
}

/// The same, by this answer of the mail server.
fn keep_with(exchange: &Exchange, proxy: &Proxy, messages: usize, reply: &str) {
    answer(exchange, Some(reply));
    let mut scanner = Scanner::log_in(proxy);
    for _ in 0..messages {
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        scanner.ok(&format!("RCPT TO:<{RECIPIENT}>"));
        scanner.ok(&format!("RCPT TO:<{SCAN}>"));
        scanner.ok("DATA");
        scanner.0.send(stuffed(MESSAGE));
        assert!(scanner.reply().contains("kept here"));
    }
}

/// The files of messages in the spool, in the order of their names.
fn files(exchange: &Exchange) -> Vec<PathBuf> {
    let files = fs::read_dir(exchange.state().join("spool")).into_iter().flatten().flatten().map(|file| file.path());
    let is_message = |path: &PathBuf| {
        path.extension().is_some_and(|one| ["message", "kept", "damaged"].iter().any(|phase| one == *phase))
    };
    let mut files: Vec<PathBuf> = files.filter(is_message).collect();
    files.sort();
    files
}

fn open(browser: &Browser, proxy: &Proxy, token: &str) {
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.evaluate("sessionStorage.clear()");
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("question", "document.querySelector('#token')?.offsetParent != null");
    browser.type_into("#token", &format!("{token}\u{e007}"));
    browser.wait_for("page", "document.querySelector('#ready')?.textContent === 'Ready'");
}

fn rows(browser: &Browser, number: usize) {
    browser.wait_for("rows", &format!("document.querySelectorAll('#spool tbody tr').length === {number}"));
}

/// The section in light, in dark and on a phone.
fn pictured(browser: &Browser, what: &str) {
    assert_accessible(browser, what);
    for (name, width, dark) in [("light", 1280, false), ("dark", 1280, true), ("phone", 390, false)] {
        browser.resize(width, 844);
        browser.dark(dark);
        browser.wait_for("width", &format!("innerWidth <= {width}"));
        browser.evaluate("document.querySelector('#spool').scrollIntoView()");
        browser.evaluate(DRAWN);
        browser.screenshot(pictures().join(format!("spool-{what}-{name}.png")));
    }
    browser.dark(false);
    browser.resize(1280, 900);
    browser.evaluate("scrollTo(0, 0)");
}

/// An answer to a request by a token, from curl.
fn get(proxy: &Proxy, path: &str, token: &str) -> String {
    let mut curl = std::process::Command::new("curl");
    curl.args(["-s", "--noproxy", "*", "-H", &bearer(token), &format!("http://{}{path}", proxy.admin())]);
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// A message that waits is shown with its age, its next attempt and the last answer; a retry sends it.
#[test]
fn a_waiting_message_is_shown_and_retried() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, SPOOL));
    let browser = Browser::start();
    open(&browser, &proxy, ADMINISTRATOR);
    assert_eq!(text(&browser, "#spool-summary"), "0 messages wait. 0 B on disk.");
    assert_eq!(browser.evaluate("document.querySelector('#spool table').hidden"), true);
    keep(&exchange, &proxy, 1);
    rows(&browser, 1);
    let cells = text(&browser, "#spool tbody tr");
    let last = format!("the mail server said \"{BUSY}\"");
    for words in [LOGIN, "Waits", SCAN, "just now", "next in ", &last, "Retry", "Remove"] {
        assert!(cells.to_lowercase().contains(&words.to_lowercase()), "{words}: {cells}");
    }
    assert!(text(&browser, "#spool-summary").starts_with("1 message waits, for "));
    pictured(&browser, "waiting");

    answer(&exchange, None);
    browser.click("#spool button[data-spool=retry]");
    rows(&browser, 0);
    assert!(text(&browser, "#spool-result").ends_with(" is tried now. If it stays in the list, its row says why."));
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    assert!(files(&exchange).is_empty());
    proxy.logs(1, "a kept message is tried at once, by the page");
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("401")), "{console:?}");
}

/// A retry does not break the mail server's throttle, and the row says that it is the reason.
#[test]
fn a_retry_names_what_still_holds_the_message() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, SPOOL));
    let browser = Browser::start();
    open(&browser, &proxy, ADMINISTRATOR);
    keep_with(&exchange, &proxy, 1, THROTTLED);
    let says = |words: &str| {
        let cell = "document.querySelector('#spool tbody tr td.failure')?.innerText.toLowerCase()";
        browser.wait_for(words, &format!("{cell}?.includes('{words}')"));
    };
    says("451 4.7.500 server busy.");
    answer(&exchange, None);
    browser.click("#spool button[data-spool=retry]");
    says("mail server throttles this mailbox");
    assert_eq!((exchange.simulator.messages(SCAN), files(&exchange).len()), (0, 1));
}

/// One press removes nothing: the page says first that nobody gets a report, and the question ends by itself.
#[test]
fn a_removal_asks_first() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, SPOOL));
    let browser = Browser::start();
    open(&browser, &proxy, ADMINISTRATOR);
    keep(&exchange, &proxy, 2);
    rows(&browser, 2);
    let [first, second] = [1, 2].map(|number| format!("#spool tbody tr:nth-child({number}) button[data-spool=remove]"));
    browser.click(&first);
    assert_eq!(text(&browser, &first), "Press again to remove");
    let label = browser.evaluate(&format!("document.querySelector('{first}').getAttribute('aria-label')"));
    assert!(label.as_str().unwrap().starts_with("Press again to remove: message "), "{label}");
    assert!(text(&browser, "#spool-result").ends_with("nobody gets the message, and nobody gets a report."));
    assert_accessible(&browser, "a question");
    // The question about another message takes the place of the first one.
    browser.wait_for("the question's end", &format!("document.querySelector('{first}').textContent === 'Remove'"));
    assert_eq!(text(&browser, "#spool-result"), "");
    browser.click(&first);
    browser.click(&second);
    assert_eq!(text(&browser, &first), "Remove");
    assert_eq!(files(&exchange).len(), 2);
    assert!(get(&proxy, "/metrics", ADMINISTRATOR).contains("\npacketboat_spool_removed_total 0\n"));
    let id = browser.evaluate(&format!("document.querySelector('{second}').dataset.id"));
    browser.click(&second);
    rows(&browser, 1);
    assert_eq!(text(&browser, "#spool-result"), format!("Message {} is removed.", id.as_str().unwrap()));
    until("one file", || files(&exchange).len() == 1);
    assert!(!files(&exchange)[0].to_string_lossy().contains(id.as_str().unwrap()));
    proxy.logs(1, "a kept message is removed without being sent, by the page");
    assert_eq!(exchange.simulator.messages(SCAN), 0, "neither the message nor a report");
}

/// A technician sees numbers alone. The page changes nothing without `admin.edit`, or for another site.
#[test]
fn only_an_administrator_with_edit_changes_messages() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, "", SPOOL));
    let browser = Browser::start();
    open(&browser, &proxy, ADMINISTRATOR);
    keep(&exchange, &proxy, 1);
    rows(&browser, 1);
    assert_eq!(browser.evaluate("document.querySelectorAll('#spool button').length"), 0);
    assert_eq!(text(&browser, "#spool td.do"), "nothing");
    let form = format!("id={}", id(&proxy));
    for path in ["/spool/remove", "/spool/retry"] {
        let (code, answer) = changed(&proxy, path, ADMINISTRATOR, &[], &form);
        assert!(code == 403 && answer.contains("set admin.edit = true, or run packetboat spool"), "{answer}");
    }
    drop(proxy);

    let proxy = exchange.proxy(&configuration(&exchange, EDIT, SPOOL));
    let own = format!("Origin: http://{}", proxy.admin());
    let foreign: [&[&str]; 4] = [
        &["Origin: http://evil.example"],
        &["Sec-Fetch-Site: cross-site"],
        &["Origin: null"],
        &["Sec-Fetch-Site: none"],
    ];
    for path in ["/spool/remove", "/spool/retry"] {
        for headers in foreign {
            assert_eq!(changed(&proxy, path, ADMINISTRATOR, headers, &form).0, 403, "{path} {headers:?}");
        }
        let wrong = ["Host: localhost", "X-Form-Token: wrong", &bearer(ADMINISTRATOR)];
        assert_eq!(post(&proxy, path, &wrong, &form).0, 403, "{path}");
        let (code, answer) = changed(&proxy, path, TECHNICIAN, &[&own], &form);
        assert!(code == 403 && answer.contains("the technicians' token"), "{path}: {answer}");
        assert_eq!(changed(&proxy, path, "no-token-at-all", &[&own], &form).0, 401, "{path}");
        assert_eq!(changed(&proxy, path, ADMINISTRATOR, &[&own], "id=..%2Fstore.key").0, 400, "{path}");
        assert_eq!(changed(&proxy, path, ADMINISTRATOR, &[&own], "id=0123456789abcdef").0, 404, "{path}");
    }
    for path in ["/spool.json", "/spool/message?id=", "/spool/content?id="] {
        let answer = get(&proxy, &format!("{path}{}", id(&proxy)), TECHNICIAN);
        assert!(answer.contains("the technicians' token"), "{path}: {answer}");
    }
    open(&browser, &proxy, TECHNICIAN);
    browser.wait_for("count", "document.querySelector('#spool-summary').innerText.startsWith('1 message waits, ')");
    assert_eq!(browser.evaluate("document.querySelectorAll('#spool tbody tr').length"), 0);
    let (body, status) = (text(&browser, "body"), get(&proxy, "/status.json", TECHNICIAN));
    for words in [RECIPIENT, SCAN, "busy now", id(&proxy).as_str()] {
        assert!(!body.contains(words) && !status.contains(words), "{words}: {body}\n{status}");
    }
    assert!(body.contains("No device has connected yet.") && !body.contains("listener"), "{body}");
    pictured(&browser, "technician");
    assert_eq!(files(&exchange).len(), 1);
    assert_eq!(exchange.simulator.messages(SCAN), 0);
}

/// The id of the only message.
fn id(proxy: &Proxy) -> String {
    let status: Value = serde_json::from_str(&get(proxy, "/status.json", ADMINISTRATOR)).unwrap();
    status["spool"]["messages"][0]["id"].as_str().unwrap().to_owned()
}

/// Asks for a change with the form token, and with these headers.
fn changed(proxy: &Proxy, path: &str, token: &str, headers: &[&str], form: &str) -> (u16, String) {
    let status: Value = serde_json::from_str(&get(proxy, "/status.json", ADMINISTRATOR)).unwrap();
    let form_token = format!("X-Form-Token: {}", status["form_token"].as_str().unwrap());
    let host = format!("Host: {}", proxy.admin());
    post(proxy, path, &[&[host.as_str(), &form_token, &bearer(token)], headers].concat(), form)
}

/// Messages that wait for an administrator are red, at the top of the page too; a damaged one cannot be tried.
#[test]
fn kept_and_damaged_messages_are_red() {
    let exchange = Exchange::new();
    let configuration = configuration(&exchange, EDIT, SPOOL);
    let proxy = exchange.proxy(&configuration);
    keep(&exchange, &proxy, 2);
    drop(proxy);
    let [kept, damaged] = <[PathBuf; 2]>::try_from(files(&exchange)).unwrap();
    fs::rename(&kept, kept.with_extension("kept")).unwrap();
    fs::write(&damaged, "no message").unwrap();
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy, ADMINISTRATOR);
    rows(&browser, 2);
    let row = |words: &str| {
        format!("[...document.querySelectorAll('#spool tbody tr')].find(row => row.innerText.includes('{words}'))")
    };
    for (words, buttons) in [("Given up", 2), ("File damaged", 1)] {
        let row = row(words);
        assert_eq!(browser.evaluate(&format!("({row}).matches('.attention')")), true, "{words}");
        assert_eq!(browser.evaluate(&format!("({row}).querySelectorAll('button').length")), buttons, "{words}");
        let color = browser.evaluate(&format!("getComputedStyle(({row}).querySelector('.badge')).color"));
        assert_eq!(color, "rgb(155, 16, 32)", "{words}");
    }
    let summary = text(&browser, "#spool-summary");
    assert!(summary.starts_with("0 messages wait. 2 messages need an administrator."), "{summary}");
    assert_eq!(text(&browser, "#notices .notice.refused"), "2 messages in the spool need an administrator");
    pictured(&browser, "given-up");

    answer(&exchange, None);
    browser.click("#spool button[data-spool=retry]");
    rows(&browser, 1);
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    browser.click("#spool button[data-spool=remove]");
    browser.click("#spool button[data-spool=remove]");
    rows(&browser, 0);
    browser.wait_for("no notice", "document.querySelectorAll('#notices .notice').length === 0");
    assert!(files(&exchange).is_empty());
}

/// The page lists a hundred messages, counts all, and says where the others are.
#[test]
fn more_messages_than_the_page_lists_are_counted() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, SPOOL));
    keep(&exchange, &proxy, 101);
    let browser = Browser::start();
    open(&browser, &proxy, ADMINISTRATOR);
    rows(&browser, 100);
    let summary = text(&browser, "#spool-summary");
    assert!(summary.starts_with("101 messages wait, the oldest for "), "{summary}");
    assert!(summary.ends_with(" The list has the oldest 100; packetboat spool list has all."), "{summary}");
}

/// The section is absent where no listener has a spool, unless messages are left of one that had.
#[test]
fn the_section_is_absent_without_a_spool() {
    let exchange = Exchange::new();
    let browser = Browser::start();
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, ""));
    for token in [ADMINISTRATOR, TECHNICIAN] {
        open(&browser, &proxy, token);
        assert_eq!(browser.evaluate("document.querySelector('#spool').offsetParent === null"), true, "{token}");
        assert!(!text(&browser, "body").to_lowercase().contains("spool"));
    }
    drop(proxy);
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, SPOOL));
    keep(&exchange, &proxy, 1);
    drop(proxy);
    let proxy = exchange.proxy(&configuration(&exchange, EDIT, ""));
    open(&browser, &proxy, ADMINISTRATOR);
    rows(&browser, 1);
    assert_eq!(browser.evaluate("document.querySelector('#spool').offsetParent !== null"), true);
}
