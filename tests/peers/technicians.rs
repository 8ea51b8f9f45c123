//! These tests prove the technicians' token: it shows devices, and no mailbox, account, tenant, configuration or metric.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use support::browser::Browser;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::proxy::Proxy;
use support::stacks::{Start, Version, old, openssl};

const ADMINISTRATOR: &str = "the-administrators-token";
const TECHNICIAN: &str = "the-technicians-token";
const FAX: &str = "fax-mailbox@fabrikam.example";

/// Sends a request with a token; returns the status and the whole answer.
fn ask(proxy: &Proxy, method: &str, path: &str, token: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    let head = format!("Host: mailproxy\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close");
    // A stream of events has no end of its own: the first event is enough.
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !(path.contains("events") && answer.windows(2).any(|pair| pair == b"\"}")) {
        match stream.read(&mut part).unwrap() {
            0 => break,
            length => answer.extend_from_slice(&part[..length]),
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// A proxy with both tokens, at which devices have succeeded and failed in the ways that name mailboxes.
fn proxy(exchange: &Exchange) -> Proxy {
    let file = |name: &str, token: &str| {
        let path = exchange.file(name, token);
        exchange::mode(&path, 0o600);
        path
    };
    let (all, some) = (file("admin-token", ADMINISTRATOR), file("technician-token", TECHNICIAN));
    let tokens =
        format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {all:?}\ntechnician_token_file = {some:?}\n");
    let described = format!("[[device]]\ndescription = \"sends to {SCAN}\"\naliases = [\"{SCAN}\"]");
    let accounts =
        exchange::account("scans", SCAN, "").replace("[[device]]", &described) + &exchange::account("fax", FAX, "");
    let proxy = exchange.proxy(&(tokens + &exchange.configured(BY_SECRET, &accounts)));
    // A login by the mailbox's address, one that fails, and one that the mail server refuses.
    let mut device = exchange::imap(&proxy);
    device.login(SCAN, exchange::PASSWORD);
    device.ok("LOGOUT");
    exchange::imap(&proxy).command(&format!("LOGIN {SCAN} guess"));
    exchange::imap(&proxy).command(&format!("LOGIN {FAX} guess"));
    exchange::imap(&proxy).command(&format!("LOGIN fax {}", exchange::PASSWORD));
    openssl(proxy.address("pop3"), Start::Implicit, |context| old(context, Version::Tls1_0, "RC4-SHA")).unwrap_err();
    proxy
}

/// Every path, with this token: each answer, searched for everything that a technician must not see.
#[test]
fn a_technician_sees_devices_and_no_mailbox() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange);
    let device = |name: &str| format!("/device.json?name={name}");
    let events = format!("/device.events?name={LOGIN}");
    let secret = [SCAN, FAX, "contoso", "fabrikam", "office", "tenant", "client_id", ADMINISTRATOR, exchange::PASSWORD];
    for (path, code) in [
        ("/", 200),
        ("/device", 200),
        ("/ca.pem", 200),
        ("/ca.cer", 200),
        ("/live", 200),
        ("/ready", 200),
        ("/status.json", 200),
        (device(LOGIN).as_str(), 200),
        (device("fax").as_str(), 200),
        (device(SCAN).as_str(), 404),
        (&events, 200),
        ("/metrics", 403),
        ("/inventory.json", 403),
        ("/inventory.csv", 403),
        ("/nothing", 403),
    ] {
        let (got, answer) = ask(&proxy, "GET", path, TECHNICIAN);
        assert_eq!(got, code, "{path}\n{answer}");
        // The empty page is the same for everybody, and names none.
        let is_page = ["/", "/device"].contains(&path);
        for one in secret.iter().filter(|_| !is_page) {
            assert!(!answer.to_lowercase().contains(&one.to_lowercase()), "{path} says {one}:\n{answer}");
        }
    }
    for path in ["/forget", "/status.json", "/anything"] {
        assert_eq!(ask(&proxy, "POST", path, TECHNICIAN).0, 403, "{path}");
    }
    // The administrator's answers do name them: the search would find them.
    for path in ["/status.json", &device(LOGIN)] {
        let (code, answer) = ask(&proxy, "GET", path, ADMINISTRATOR);
        assert!(code == 200 && answer.contains(SCAN), "{path}\n{answer}");
    }
    assert_eq!(ask(&proxy, "GET", "/status.json", "the-technicians-tokem").0, 401);

    let fields = |text: &str| -> BTreeSet<String> {
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let value: Value = serde_json::from_str(body).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    };
    let (_, status) = ask(&proxy, "GET", "/status.json", TECHNICIAN);
    let expected = ["ca", "configured", "devices", "fleet", "now", "ready", "role", "spool", "started", "version"];
    assert_eq!(fields(&status), expected.map(str::to_owned).into());
    // Of the spool they see numbers alone.
    let (_, body) = status.split_once("\r\n\r\n").unwrap();
    let spool = serde_json::from_str::<Value>(body).unwrap()["spool"].take();
    assert_eq!(spool, serde_json::json!({ "on": false, "waiting": 0, "needs_operator": 0, "oldest": 0 }));
    // The advice for the device is there.
    let (_, view) = ask(&proxy, "GET", &device(LOGIN), TECHNICIAN);
    for words in ["user name or password is wrong", "\"user name\",\"scanner3\"", "SHA-256", "\"logged_in\":true"] {
        assert!(view.contains(words), "{words}\n{view}");
    }
}

/// The page works with the technicians' token, and shows what there is.
#[test]
fn the_page_of_a_technician() {
    let exchange = Exchange::new();
    let proxy = proxy(&exchange);
    let browser = Browser::start();
    browser.open(&format!("http://{}/device?name={LOGIN}", proxy.admin()));
    browser.wait_for("question", "document.querySelector('#token')?.offsetParent != null");
    browser.type_into("#token", &format!("{TECHNICIAN}\u{e007}"));
    browser.wait_for("live", "document.querySelector('#live').textContent.startsWith('Live')");
    browser.wait_for("connections", "document.querySelectorAll('#connections tbody tr').length > 0");
    assert_eq!(browser.evaluate("document.body.innerText.includes('@')"), false);
    browser.click("#nav a");
    browser.wait_for("devices", "document.querySelectorAll('#configured tbody tr').length === 2");
    browser.wait_for("seen", "document.querySelectorAll('#devices tbody tr').length > 0");
    let shown = "[...document.querySelectorAll('main section')].filter(one => one.offsetParent).map(one => one.id)";
    assert_eq!(browser.evaluate(shown), serde_json::json!(["configured", "devices", "ca"]));
    assert_eq!(browser.evaluate("document.body.innerText.includes('@')"), false);
    assert_eq!(browser.evaluate("document.querySelectorAll('button.forget, .admission').length"), 0);
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("401")), "{console:?}");
}

/// A technicians' token that is the administrator's would show everything: the reload is refused.
#[test]
fn two_tokens_are_two() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a-token-of-enough-length\n").unwrap();
    exchange::mode(&file, 0o600);
    let observe = "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";
    let admin = format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {file:?}\n");
    let proxy = Proxy::start(&(admin.clone() + observe));
    proxy.configure(&format!("{admin}technician_token_file = {file:?}\n{observe}"));
    let (code, text) = proxy.reload();
    assert!(code != 0 && text.contains("admin.technician_token_file: holds the same token"), "{text}");
}
