//! These tests prove what people start on the page: an account is tried with its steps as they happen, and no other
//! site can start anything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::proxy::Proxy;

/// A `POST` of a form with these headers; returns the status and the whole answer.
pub(crate) fn post(proxy: &Proxy, path: &str, headers: &[&str], form: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = form.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{form}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// The header that the page sends with each change.
pub(crate) fn form_token(proxy: &Proxy) -> String {
    format!("X-Form-Token: {}", proxy.status()["form_token"].as_str().unwrap())
}

pub(crate) fn open(browser: &Browser, proxy: &Proxy) {
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("page", "document.querySelector('#ready')?.textContent === 'Ready'");
}

pub(crate) fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.evaluate(&format!("document.querySelector({})?.innerText", Value::from(selector)));
    text.as_str().unwrap_or_else(|| panic!("{selector}: {text}")).to_owned()
}

const TRY: &str = "#accounts button[data-try=scans]";
const OUTCOME: &str = "#accounts .attempt .outcome";

fn steps(browser: &Browser) -> Vec<String> {
    let steps = browser.evaluate("[...document.querySelectorAll('#accounts .step')].map(step => step.innerText)");
    steps.as_array().unwrap().iter().map(|step| step.as_str().unwrap().replace('\n', " ")).collect()
}

#[test]
fn an_account_is_tried_with_its_steps() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy);
    browser.click(TRY);
    browser.wait_for("outcome", &format!("document.querySelector('{OUTCOME}')"));
    assert_eq!(text(&browser, OUTCOME), "1 of 1 account ready");
    let steps = steps(&browser);
    assert_eq!(steps.len(), 3, "{steps:#?}");
    assert!(steps[0].starts_with("OK token of identity office ok: for https://outlook.office365.com"), "{steps:#?}");
    for (step, protocol) in steps[1..].iter().zip(["IMAP", "POP3"]) {
        let begin = format!("OK {protocol} ok: 127.0.0.1 port ");
        assert!(
            step.starts_with(&begin) && step.ends_with("certificate verified, logged in, mailbox opened"),
            "{step}"
        );
    }
    // The command says the same in the end, and nothing shows the token.
    let ran = exchange.run(&["check", "--online", "--account", "scans"], &configuration);
    assert_eq!(ran.output.lines().last(), Some(text(&browser, OUTCOME).as_str()));
    assert!(!text(&browser, "body").contains("eyJ") && !proxy.log.all().contains("eyJ"));
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// An attempt that hangs shows where, keeps no device from its mail, and counts as no device's failure.
#[test]
fn an_attempt_that_hangs_disturbs_nobody() {
    let exchange = Exchange::new();
    let limits = "[limits]\nupstream_login_timeout = \"15s\"\n";
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + limits));
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::from_secs(600));
    let browser = Browser::start();
    open(&browser, &proxy);
    browser.click(TRY);
    browser.wait_for("running step", "document.querySelectorAll('#accounts .step').length === 2");
    browser.wait_for(
        "the step under way",
        "document.querySelector('#accounts .step:last-child').innerText.includes('certificate verified; logging in')",
    );
    let running = steps(&browser);
    assert!(running[1].starts_with("Running IMAP connected to 127.0.0.1 port "), "{running:#?}");
    let token = form_token(&proxy);
    let (code, answer) = post(&proxy, "/try", &["Host: localhost", &token], "account=scans");
    assert!(code == 409 && answer.contains("is being tried already"), "{answer}");
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::ZERO);
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    assert_eq!(steps(&browser)[1], running[1], "it still hangs");
    browser.wait_for("outcome", &format!("document.querySelector('{OUTCOME}')"));
    assert_eq!(text(&browser, OUTCOME), "0 of 1 account ready; not ready: scans");
    let ended = steps(&browser);
    assert!(
        ended[1].starts_with("Failed IMAP failed at 127.0.0.1 port ") && ended[2].starts_with("OK POP3"),
        "{ended:#?}"
    );
    assert!(!proxy.metrics().lines().any(|line| {
        line.starts_with("packetboat_login_failures_total{listener=\"imap\"") && !line.ends_with(" 0")
    }));
    assert_eq!(proxy.status()["configured"][0]["state"], "ok");
}

/// A page that has lost its token asks for nothing until it has a new one, and then follows what runs.
#[test]
fn a_locked_page_does_not_ask_what_runs() {
    let exchange = Exchange::new();
    let file = exchange.file("ADMIN", "the-first-token-of-the-page\n");
    let limits = "[limits]\nupstream_login_timeout = \"40s\"\n";
    let admin = format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {file:?}\n");
    let proxy = exchange.proxy(&(admin + &exchange.configuration(BY_SECRET) + limits));
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::from_secs(600));
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    let shown = "document.querySelector('#token')?.offsetParent != null";
    browser.wait_for("question", shown);
    browser.type_into("#token", "the-first-token-of-the-page\u{e007}");
    browser.wait_for("button", &format!("document.querySelector('{TRY}')"));
    browser.click(TRY);
    browser.wait_for("running step", "document.querySelectorAll('#accounts .step').length === 2");
    exchange.file("ADMIN", "the-second-token-of-the-page\n");
    assert_eq!(proxy.reload().0, 0);
    browser.wait_for("locked page", shown);
    // A request that was under way when the other one locked the page may still end. After that, nothing.
    let asked = "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/actions.json')).length";
    let later = |milliseconds: u32| {
        let wait = format!("new Promise(done => setTimeout(() => done({asked}), {milliseconds}))");
        browser.evaluate(&wait)
    };
    let before = later(500);
    assert_eq!(later(2500), before, "a locked page asks");
    browser.type_into("#token", "the-second-token-of-the-page\u{e007}");
    browser.wait_for("more questions", &format!("{asked} > {before}"));
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::ZERO);
    browser.wait_for("outcome", &format!("document.querySelector('{OUTCOME}')"));
}

/// A failed attempt has the command's words and advice.
#[test]
fn a_failed_attempt_says_what_to_do() {
    let exchange = Exchange::with(|tenant| tenant.app_mailboxes.clear());
    let configuration = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy);
    browser.evaluate(&format!("document.querySelector('{TRY}').focus()"));
    browser.press("\u{e007}");
    browser.wait_for("outcome", &format!("document.querySelector('{OUTCOME}')"));
    let ran = exchange.run(&["check", "--online"], &configuration);
    assert_eq!(ran.output.lines().last(), Some(text(&browser, OUTCOME).as_str()));
    let steps = steps(&browser);
    for protocol in ["IMAP", "POP3"] {
        let line = ran.output.lines().find_map(|line| line.trim().strip_prefix(protocol)).unwrap().trim().to_owned();
        assert!(
            line.contains("FullAccess") && steps.contains(&format!("Failed {protocol} {line}")),
            "{line}\n{steps:#?}"
        );
    }
    assert_accessible(&browser, "an attempt that failed");
}

/// A page of another site, a name that leads here, and a program without the form token start nothing.
#[test]
fn no_other_site_starts_an_attempt() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let admin = proxy.admin();
    let (host, own) = (format!("Host: {admin}"), format!("Origin: http://{admin}"));
    let token = form_token(&proxy);
    for headers in [
        vec![host.as_str(), &own],
        vec![&host, &own, "X-Form-Token: 0123456789abcdef0123456789abcdef"],
        vec![&host, "Origin: http://evil.example", &token],
        vec![&host, "Origin: null", &token],
        vec![&host, &own, "Sec-Fetch-Site: cross-site", &token],
        vec![&host, &own, "Sec-Fetch-Site: same-site", &token],
        vec!["Host: evil.example", "Origin: http://evil.example", &token],
    ] {
        let (code, answer) = post(&proxy, "/try", &headers, "account=scans");
        assert_eq!(code, 403, "{headers:?}: {answer}");
    }
    let (code, _) = post(&proxy, "/try", &[&host, &own, &token], "account=nobody");
    assert_eq!(code, 404);
    // A browser with such a page open: the page's script may not even ask.
    let browser = Browser::start();
    browser.open("data:text/html,<title>another site</title>");
    let send = format!(
        "fetch('http://{admin}/try', {{ method: 'POST', mode: 'no-cors', body: new URLSearchParams({{ account: 'scans' }}) }})\
         .then(() => 'sent', () => 'not sent')"
    );
    browser.evaluate(&send);
    let actions: Value = serde_json::from_str(&proxy.get("/actions.json")).unwrap();
    assert_eq!(actions, serde_json::json!({ "attempts": {}, "sign_ins": {} }));
    // The proxy itself has connected, to see whether the mail server is there.
    let counts = exchange.simulator.counts();
    assert_eq!((counts.imap().accepted, counts.pop3().accepted), (0, 0));
    let (code, answer) = post(&proxy, "/try", &[&host, &own, "Sec-Fetch-Site: same-origin", &token], "account=scans");
    assert_eq!(code, 202, "{answer}");
    exchange.until("logins", |counts| (counts.imap().accepted, counts.pop3().accepted) == (1, 1));
}
