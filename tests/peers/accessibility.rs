//! These tests prove that every page and state can be used without a mouse, in the dark, on a phone and with a screen
//! reader; axe-core finds no violation.

use std::path::{Path, PathBuf};

use serde_json::Value;

use support::accessibility::{assert_accessible, walk_by_keyboard};
use support::browser::Browser;
use support::device::tcp_from;
use support::exchange::{self, BY_SECRET, Exchange, LOGIN};
use support::proxy::Proxy;
use support::stacks::{Start, Version, old, openssl};

fn open(browser: &Browser, proxy: &Proxy, path: &str, ready: &str) {
    browser.open(&format!("http://{}/{path}", proxy.admin()));
    browser.wait_for(path, ready);
}

const DEVICE_READY: &str =
    "!document.querySelector('#body').hidden && document.querySelectorAll('#settings dt').length > 0";
const PAGE_READY: &str =
    "document.querySelector('#ready')?.textContent.length > 0 && !document.querySelector('#body').hidden";

/// The page looks for boxes that scroll when it shows something new, and after its width has changed.
const REACHED: &str = "[...document.querySelectorAll('#body *')].every(one => one.tabIndex === 0 || \
    one.scrollHeight <= one.clientHeight + 1 || getComputedStyle(one).overflowY !== 'auto')";

/// The directory of the pictures: that of the documentation, if SCREENSHOTS says so.
fn pictures() -> PathBuf {
    let directory = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots"));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// The page before anything was seen, with devices in every state, with its details open, and without an answer; and the
/// page of a device in each of them.
#[test]
fn every_state_is_accessible() {
    let exchange = Exchange::new();
    let fax = exchange::account("fax", "fax@contoso.example", "")
        .replace("[[device]]", "[[device]]\ndescription = \"Fax, reception\"\nnetworks = [\"127.0.0.61/32\"]");
    let configuration =
        exchange.configuration(BY_SECRET) + &fax + "[certificate.default]\nnames = [\"mailproxy.example\"]\n";
    let mut proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy, "", PAGE_READY);
    assert_accessible(&browser, "a page without devices seen");
    open(&browser, &proxy, "device?name=fax", DEVICE_READY);
    assert_accessible(&browser, "a device that was never seen");
    open(&browser, &proxy, "device?name=nobody", "!document.querySelector('#lost').hidden");
    assert_accessible(&browser, "an unknown device");

    exchange::imap(&proxy).command("LOGIN stranger guess");
    openssl(proxy.address("pop3"), Start::Implicit, |context| old(context, Version::Tls1_0, "RC4-SHA")).unwrap_err();
    let context = support::stacks::context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
    let stream = openssl::ssl::Ssl::new(&context).unwrap();
    let stream = stream.connect(tcp_from([127, 0, 0, 61], proxy.address("imap"))).unwrap();
    // A stranger's text may have any length.
    for number in 0..4 {
        let long = format!("{number} <b>{}", "long name ".repeat(80));
        exchange::imap(&proxy).command(&format!("LOGIN {:?} guess", long.trim_end()));
    }
    let mut wrong = support::imap::Imap::greeted(support::device::Device::over(stream));
    wrong.command("LOGIN fax guess");
    drop(wrong);
    exchange.simulator.deliver(exchange::SCAN, b"Subject: x\r\n\r\nx\r\n".to_vec());
    let mut device = exchange::imap(&proxy);
    device.login(LOGIN, exchange::PASSWORD);
    device.ok("SELECT INBOX");
    device.fetch(1);
    device.ok("LOGOUT");

    open(&browser, &proxy, "", "document.querySelectorAll('#devices tbody tr').length >= 2");
    assert_accessible(&browser, "a page with devices");
    browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })");
    browser.wait_for("a box that scrolls", "document.querySelectorAll('#devices .list[tabindex=\"0\"]').length > 0");
    browser.wait_for("the keyboard's way to each box that scrolls", REACHED);
    assert_accessible(&browser, "a page with its details open");
    assert!(walk_by_keyboard(&browser) > 10);
    for (name, state) in [(LOGIN, "Gets its mail"), ("fax", "Logins fail")] {
        let is_shown = format!("document.querySelector('#badge')?.textContent === {}", Value::from(state));
        open(&browser, &proxy, &format!("device?name={name}"), &is_shown);
        assert_accessible(&browser, state);
        assert!(walk_by_keyboard(&browser) >= 3);
        // The settings below have the ports of a test.
        browser.resize(1280, 570);
        browser.evaluate("scrollTo(0, 0)");
        browser.screenshot(pictures().join(format!("device-{}.png", if name == LOGIN { "ok" } else { "failing" })));
    }
    browser.resize(390, 844);
    browser.screenshot(pictures().join("device-phone.png"));
    browser.resize(1280, 570);
    browser.dark(true);
    browser.screenshot(pictures().join("device-dark.png"));
    browser.resize(1280, 900);
    proxy.process.signal("TERM");
    proxy.process.wait();
    browser.wait_for("no answer", "!document.querySelector('#lost').hidden");
    assert_accessible(&browser, "a device without an answer");
}

/// The form that asks for the token, and its refusal, on both pages; a technician's page.
#[test]
fn locked_pages_are_accessible() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, token: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, token).unwrap();
        exchange::mode(&path, 0o600);
        path
    };
    let (all, some) = (file("all", "the-administrators-token"), file("some", "the-technicians-token"));
    let exchange = Exchange::new();
    let tokens =
        format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {all:?}\ntechnician_token_file = {some:?}\n");
    let proxy = exchange.proxy(&(tokens + &exchange.configuration(BY_SECRET)));
    let browser = Browser::start();
    for path in ["", &format!("device?name={LOGIN}")] {
        open(&browser, &proxy, path, "document.querySelector('#token')?.offsetParent != null");
        assert_eq!(browser.evaluate("document.activeElement.id"), "token");
        assert_accessible(&browser, "a locked page");
        browser.type_into("#token", "not-the-right-one\u{e007}");
        browser.wait_for("refusal", "document.querySelector('#token-problem').textContent.length > 0");
        assert_accessible(&browser, "a locked page with a refusal");
    }
    browser.type_into("#token", "the-technicians-token\u{e007}");
    browser.wait_for("device", DEVICE_READY);
    assert_accessible(&browser, "a technician's page of a device");
    open(&browser, &proxy, "", PAGE_READY);
    assert_accessible(&browser, "a technician's page");
}
