//! These tests prove the page in a real browser: devices appear live, hostile names stay text, and its content is
//! correct.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use openssl::ssl::{Ssl, SslContextBuilder};
use serde_json::Value;

use support::browser::Browser;
use support::connection::TlsStream;
use support::device::{Device, tcp_from};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::imap::Imap;
use support::proxy::{Proxy, translating_listener};
use support::stacks::{Stack, Start, Version, context, old, openssl};

/// A row of the table whose cell of this class has these words.
fn row(class: &str, words: &str) -> String {
    format!(
        "[...document.querySelectorAll('#devices tbody tr')].find(row => row.querySelector('{class}')?.textContent.includes({}))",
        Value::from(words)
    )
}

fn open(browser: &Browser, proxy: &Proxy) {
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("page", "document.querySelector('#ready')?.textContent === 'Ready'");
}

#[test]
fn devices_appear_live_with_verdict_and_reason() {
    let exchange = Exchange::new();
    let accounts = exchange::account("scans", SCAN, "")
        .replace("[[device]]", "[[device]]\ndescription = \"Printer, third floor\"")
        + &exchange::account("fax", "fax@contoso.example", "");
    let strict = translating_listener("imap-strict", "imap", "auto", "profile = \"legacy\"");
    let proxy = exchange.proxy(&(exchange.configured(BY_SECRET, &accounts) + &strict));
    let browser = Browser::start();
    open(&browser, &proxy);
    assert!(browser.evaluate("document.querySelector('#summary').textContent").as_str().unwrap().contains("No device"));

    // The page names the library that speaks with devices, and the end of its support.
    let library = browser.evaluate("document.querySelector('#openssl').textContent");
    let linked = format!("{}, supported until 20", ::openssl::version::version());
    assert!(library.as_str().unwrap().starts_with(&linked), "{library}");

    // A variable marks the page; a reload of the page would lose it.
    browser.evaluate("window.same = true");
    let mut device = exchange::imap(&proxy);
    device.login(LOGIN, exchange::PASSWORD);
    let old_one = row("td.verdict", "needs packetboat: TLS 1.0 only");
    browser.wait_for("old device", &format!("!!({old_one})"));
    browser.wait_for("its login", &format!("({old_one}).querySelector('td.logins').textContent.includes('{LOGIN}')"));
    let tls = browser.evaluate(&format!("({old_one}).querySelector('td.tls').textContent"));
    assert!(tls.as_str().unwrap().contains("TLS 1.0") && tls.as_str().unwrap().contains("AES128-SHA"), "{tls}");
    browser.wait_for("its name", &format!("({old_one}).textContent.includes('Printer, third floor')"));
    browser
        .wait_for("open session", &format!("({old_one}).querySelector('td.sessions').textContent.includes('1 open')"));
    device.ok("LOGOUT");
    drop(device);

    // The page shows a refused device, with the reason.
    openssl(proxy.address("pop3"), Start::Implicit, |context| old(context, Version::Tls1_0, "RC4-SHA")).unwrap_err();
    let refused = row("td.verdict", "refused: offers RC4 only");
    browser.wait_for("refused device", &format!("!!({refused})"));
    let reason = browser.evaluate(&format!("({refused}).querySelector('td.failure').textContent"));
    assert!(reason.as_str().unwrap().contains("set profile = \"ancient\" on this listener"), "{reason}");
    assert_eq!(browser.evaluate(&format!("({refused}).matches('.attention')")), true);
    assert_eq!(
        browser.evaluate(&format!("document.querySelector('#devices tbody tr') === ({refused})")),
        true,
        "first"
    );

    // A login with markup in it stays text.
    let hostile = "<img src=x onerror=window.hacked=1>";
    exchange::imap(&proxy).command(&format!("LOGIN \"{hostile}\" guess"));
    let text = row("td.logins", hostile);
    browser.wait_for("hostile login", &format!("!!({text})"));
    assert_eq!(browser.evaluate("document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.evaluate("window.hacked === undefined"), true);

    // Newer devices and others complete the picture.
    drop(openssl(proxy.address("imap"), Start::Implicit, |_| {}).unwrap());
    let _ = Stack::Openssl { version: Version::Tls1_2, ciphers: "AES128-SHA" }
        .connect(proxy.address("imap-strict"), Start::StartTls("imap"));
    openssl(proxy.address("pop3"), Start::Implicit, |context| old(context, Version::Ssl3, "DES-CBC3-SHA")).unwrap_err();
    browser.wait_for(
        "verdict",
        &format!("!!({})", row("td.verdict", "could talk to Exchange Online directly: offers TLS 1.3")),
    );
    browser.wait_for("verdict", &format!("!!({})", row("td.verdict", "needs packetboat: TLS 1.2 without ECDHE")));
    browser.wait_for("verdict", &format!("!!({})", row("td.verdict", "refused: offers at most SSLv3")));
    assert_eq!(browser.evaluate("document.querySelectorAll('#charts svg').length"), 4);
    let accounts = browser.evaluate("document.querySelector('#accounts').textContent");
    assert!(accounts.as_str().unwrap().contains(SCAN), "{accounts}");
    let expiries = browser.evaluate("document.querySelector('#expiries').textContent");
    assert!(expiries.as_str().unwrap().contains("certificate \"default\""), "{expiries}");
    assert_eq!(browser.evaluate("window.same"), true);

    // The page exports CSV for spreadsheets and JSON for programs.
    browser.click("#csv");
    let csv = String::from_utf8(browser.downloaded("packetboat-inventory.csv")).unwrap();
    assert!(csv.starts_with("source,name,") && csv.contains("needs packetboat: TLS 1.0 only"), "{csv}");
    browser.click("#json");
    let json: Value = serde_json::from_slice(&browser.downloaded("packetboat-inventory.json")).unwrap();
    assert!(json["devices"].as_array().unwrap().len() >= 5);

    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// The page asks for the token where one is configured, and shows nothing before.
#[test]
fn the_page_asks_for_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a-token-of-enough-length\n").unwrap();
    exchange::mode(&file, 0o600);
    let proxy = Proxy::start(&format!(
        "[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {file:?}\n[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\n\
         listen = [\"127.0.0.1:0\"]\nobserve = true\n"
    ));
    drop(
        openssl(proxy.address("imap"), Start::Implicit, |context| old(context, Version::Tls1_0, "AES128-SHA")).unwrap(),
    );
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("question", "document.querySelector('#token')?.offsetParent != null");
    assert_eq!(browser.evaluate("document.querySelectorAll('#devices tbody tr').length"), 0);
    browser.type_into("#token", "not-the-right-one\u{e007}");
    browser.wait_for("refusal", "document.querySelector('#token-problem').textContent.length > 0");
    browser.type_into("#token", "a-token-of-enough-length\u{e007}");
    browser.wait_for("device", &format!("!!({})", row("td.verdict", "needs packetboat: TLS 1.0 only")));
    browser.click("#csv");
    assert!(String::from_utf8(browser.downloaded("packetboat-inventory.csv")).unwrap().contains("TLS 1.0 only"));
    browser.wait_for("listener", "document.querySelector('#listeners').textContent.includes('Observes')");
}

/// The directory of the pictures: that of the README's, if SCREENSHOTS says so.
fn pictures() -> PathBuf {
    let directory = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots"));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// A device with an address of its own.
fn tls_from(host: u8, address: SocketAddr, configure: impl FnOnce(&mut SslContextBuilder)) -> Option<TlsStream> {
    Ssl::new(&context(configure)).unwrap().connect(tcp_from([127, 0, 0, host], address)).ok()
}

/// The page shows an office in light, in dark, and on a phone; nothing is cut off. The README has these pictures.
#[test]
fn pictures_of_an_office() {
    let exchange = Exchange::new();
    let mut configuration = exchange.configuration(BY_SECRET) + &exchange::account("fax", "fax@contoso.example", "");
    for (login, description, host) in [
        ("printer", "Printer, third floor", 21),
        ("copier", "Copier, reception", 22),
        ("erp", "ERP server", 23),
        ("plc", "Controller, boiler room", 24),
    ] {
        let hash = packetboat::device::password::hash(exchange::PASSWORD.as_bytes()).unwrap();
        configuration += &format!(
            "[[device]]\nlogin = \"{login}\"\ndescription = \"{description}\"\nnetworks = [\"127.0.0.{host}/32\"]\n\
             passwords = [\"{hash}\"]\naccount = \"scans\"\n"
        );
    }
    let proxy = exchange.proxy(&configuration);
    let imap = proxy.address("imap");
    for (host, login, version, ciphers) in [
        (21, "printer", Version::Tls1_0, "AES128-SHA"),
        (22, "copier", Version::Tls1_2, "AES128-SHA:AES256-SHA"),
        (23, "erp", Version::Tls1_2, "ECDHE-RSA-AES128-GCM-SHA256"),
    ] {
        let stream = tls_from(host, imap, |context| old(context, version, ciphers)).unwrap();
        let mut device = Imap::greeted(Device::over(stream));
        device.login(login, exchange::PASSWORD);
        device.ok("LOGOUT");
    }
    assert!(tls_from(24, imap, |context| old(context, Version::Tls1_0, "RC4-SHA")).is_none());
    let browser = Browser::start();
    open(&browser, &proxy);
    browser.wait_for("refused device", &format!("!!({})", row("td.verdict", "refused: offers RC4 only")));
    browser.wait_for("devices", "document.querySelectorAll('#devices tbody tr').length === 4");
    let pictures = pictures();
    for (name, width, height, dark) in
        [("page-light", 1280, 900, false), ("page-dark", 1280, 900, true), ("page-phone", 390, 844, false)]
    {
        browser.resize(width, height);
        browser.dark(dark);
        browser
            .wait_for("width", &format!("innerWidth <= {width} && document.documentElement.scrollWidth <= innerWidth"));
        let picture = pictures.join(format!("{name}.png"));
        browser.screenshot(&picture);
        assert!(std::fs::metadata(&picture).unwrap().len() > 10_000);
    }
}
