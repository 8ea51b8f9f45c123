//! These tests prove the page in a real browser: devices appear live, hostile names stay text, and its content is
//! correct.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use openssl::ssl::{Ssl, SslContextBuilder};
use openssl::x509::X509;
use serde_json::{Value, json};

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
    assert!(browser.evaluate("document.querySelector('#seen').textContent").as_str().unwrap().contains("No device"));

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
    // The CA needs no token.
    browser.wait_for("CA", "document.querySelector('#locked-ca').offsetParent != null");
    browser.click("#locked-ca a[href='ca.pem']");
    X509::from_pem(&browser.downloaded("packetboat-ca.pem")).unwrap();
    browser.type_into("#token", "not-the-right-one\u{e007}");
    browser.wait_for("refusal", "document.querySelector('#token-problem').textContent.length > 0");
    browser.type_into("#token", "a-token-of-enough-length\u{e007}");
    browser.wait_for("device", &format!("!!({})", row("td.verdict", "needs packetboat: TLS 1.0 only")));
    browser.click("#csv");
    assert!(String::from_utf8(browser.downloaded("packetboat-inventory.csv")).unwrap().contains("TLS 1.0 only"));
    browser.wait_for("listener", "document.querySelector('#listeners').textContent.includes('Observes')");
}

/// The directory of the pictures: that of the README's, if SCREENSHOTS says so.
pub(crate) fn pictures() -> PathBuf {
    let directory = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots"));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Two frames later everything is drawn.
pub(crate) const DRAWN: &str =
    "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))";

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
    keep(&exchange, &[record(LOGIN, 240, None), record("fax", 3 * 3600, None)]);
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
    // The controller has never come as far as a login: its row has the reason all the same.
    let cell = "document.querySelector('#configured tr[data-device=plc] td.failure')";
    let reason = "set profile = \"ancient\" on this listener";
    browser.wait_for("the controller's reason", &format!("!!{cell} && {cell}.textContent.includes('{reason}')"));
    let pictures = pictures();
    for (name, width, height, dark) in
        [("page-light", 1280, 900, false), ("page-dark", 1280, 900, true), ("page-phone", 390, 844, false)]
    {
        browser.resize(width, height);
        browser.dark(dark);
        browser
            .wait_for("width", &format!("innerWidth <= {width} && document.documentElement.scrollWidth <= innerWidth"));
        let picture = pictures.join(format!("{name}.png"));
        browser.evaluate(DRAWN);
        browser.screenshot(&picture);
        assert!(std::fs::metadata(&picture).unwrap().len() > 10_000);
    }
}

/// The record of a configured device, as packetboat keeps it: last seen so many seconds ago, every five minutes before.
fn record(login: &str, ago: u64, failure: Option<&str>) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seen = now - ago;
    let failed = failure.map(|_| seen);
    json!({
        "login": login, "known_since": seen - 900_000, "last_login": seen, "visit": seen, "last_seen": seen,
        "last_mail": seen - 60, "gaps": [300, 300, 300, 300], "source": "127.0.0.1", "failure": failure,
        "hours": [{ "hour": now / 3600, "sessions": 12, "messages": 4, "octets": 123_456 }],
        "failed": failed, "failing_since": failed, "is_silent": ago > 7200,
    })
}

/// Puts records into the state directory, before the proxy starts.
fn keep(exchange: &Exchange, records: &[Value]) {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(exchange.state()).unwrap();
    let path = exchange.state().join("device-activity.json");
    std::fs::write(&path, json!({ "version": 1, "saved": 0, "devices": records }).to_string()).unwrap();
    exchange::mode(&path, 0o600);
}

/// More devices for the usual account.
fn devices(logins: impl Iterator<Item = String>) -> String {
    let hash = packetboat::device::password::hash(exchange::PASSWORD.as_bytes()).unwrap();
    logins
        .map(|login| format!("[[device]]\nlogin = \"{login}\"\npasswords = [\"{hash}\"]\naccount = \"scans\"\n"))
        .collect()
}

fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.evaluate(&format!("document.querySelector({}).textContent", Value::from(selector)));
    text.as_str().unwrap_or_else(|| panic!("{selector}: {text}")).to_owned()
}

/// The first line of the page is the answer; a row for each configured device has the reason, problems first. All of it
/// works with the keyboard, in the dark and on a phone.
#[test]
fn the_page_answers_whether_everybody_gets_mail() {
    let exchange = Exchange::new();
    let wrong = "user name or password is wrong: the password is not one of device copier";
    keep(&exchange, &[record("fax2", 3 * 3600, None), record("copier", 60, Some(wrong)), record("plotter", 60, None)]);
    let more = ["copier", "fax2", "plotter"].map(str::to_owned).into_iter();
    let configuration = exchange.configuration(&format!("{BY_SECRET}\nclient_secret_expires = \"2099-11-26\""))
        + &devices(more)
        + &translating_listener("imap-old", "imap", "auto", "profile = \"ancient\"\nobserve = false")
        + "[certificate.default]\nnames = [\"mailproxy.example\", \"127.0.0.1\"]\n";
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    open(&browser, &proxy);
    let answer = text(&browser, "#summary");
    let clock = r"\d\d:\d\d|\d{4}-\d\d-\d\d \d\d:\d\d";
    assert_eq!(
        browser.evaluate(&format!(
            "/^1 of 4 devices get their mail; logins of copier have failed since ({clock}); fax2 has been silent since \
             ({clock}); scanner3 has never logged in\\.$/.test(document.querySelector('#summary').textContent)"
        )),
        true,
        "{answer}"
    );
    assert!(text(&browser, "title").starts_with("(3) "));
    let rows = browser.evaluate(
        "[...document.querySelectorAll('#configured tbody tr')].map(row => [row.dataset.device, row.querySelector('.badge').textContent])",
    );
    let expected = json!([
        ["copier", "Logins fail"],
        ["fax2", "Silent"],
        ["scanner3", "Never logged in"],
        ["plotter", "Gets its mail"]
    ]);
    assert_eq!(rows, expected, "problems first");
    assert!(text(&browser, "#configured tr[data-device=copier] td.failure").contains(wrong));
    assert!(text(&browser, "#configured tr[data-device=fax2] td.state").contains("usually comes every 5 min"));
    let day = text(&browser, "#configured tr[data-device=plotter] td.day");
    assert!(day.contains("12 logins") && day.contains("4 messages") && day.contains("123 kB"), "{day}");

    // A login changes row and answer, without a reload of the page.
    browser.evaluate("window.same = true");
    exchange::fetch_both(&exchange, &proxy, SCAN, LOGIN);
    browser.wait_for(
        "answer",
        "document.querySelector('#summary').textContent.startsWith('2 of 4 devices get their mail')",
    );
    let scanner = "document.querySelector('#configured tr[data-device=scanner3]')";
    browser.wait_for("mail", &format!("{scanner}.querySelector('td.day').textContent.includes('2 messages')"));
    assert_eq!(browser.evaluate("window.same"), true);

    // Identities once, marks and names of listeners, and the CA.
    browser.wait_for(
        "identity",
        "document.querySelector('#identities td.number').textContent === '1 of 1 account has a token'",
    );
    assert_eq!(text(&browser, "#identities td.state"), "OK until 2099-11-26");
    assert!(text(&browser, "#listeners").contains("Ancient TLS"));
    let lines = "new Set([...document.querySelector('#listeners td.names .list').children].map(one => one.getBoundingClientRect().top)).size";
    assert_eq!(
        (text(&browser, "#listeners td.names .listener").as_str(), browser.evaluate(lines)),
        ("mailproxy.example", 2.into())
    );
    browser.click("#ca-der");
    let authority = X509::from_pem(&std::fs::read(proxy.authority()).unwrap()).unwrap();
    assert!(X509::from_der(&browser.downloaded("packetboat-ca.cer")).unwrap() == authority);

    // With the keyboard alone: from the search field to the next thing, and into what is folded away.
    browser.evaluate("document.querySelector('#find').focus()");
    browser.press("fax2");
    browser.wait_for("search", "document.querySelectorAll('#configured tbody tr:not([hidden])').length === 1");
    assert_eq!(text(&browser, "#found"), "1 of 4 shown");
    browser.press(&"\u{e003}".repeat(4));
    browser.press("\u{e004}");
    for device in ["copier", "fax2", "plotter", "scanner3"] {
        browser
            .wait_for(device, &format!("document.activeElement.matches('#configured tr[data-device={device}] a.own')"));
        browser.press("\u{e004}");
    }
    browser.wait_for("next", "document.activeElement.id === 'csv'");
    let unreachable =
        "[...document.querySelectorAll('#listeners summary, #ca summary')].filter(one => one.tabIndex !== 0).length";
    assert_eq!(browser.evaluate(unreachable), 0);
    browser.evaluate("document.querySelector('#ca summary').focus()");
    browser.press("\u{e007}");
    browser.wait_for("fingerprint", "document.querySelector('#ca details').open");
    let digest = authority.digest(openssl::hash::MessageDigest::sha256()).unwrap();
    let digest: Vec<String> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
    assert!(text(&browser, "#ca").contains(&digest.join(":")), "{}", text(&browser, "#ca"));

    for (name, width, height, dark) in
        [("answer-light", 1280, 900, false), ("answer-dark", 1280, 900, true), ("answer-phone", 390, 844, false)]
    {
        browser.resize(width, height);
        browser.dark(dark);
        browser
            .wait_for("width", &format!("innerWidth <= {width} && document.documentElement.scrollWidth <= innerWidth"));
        browser.evaluate("scrollTo(0, 0)");
        browser.evaluate(DRAWN);
        browser.screenshot(pictures().join(format!("{name}.png")));
        browser.evaluate("document.querySelector('#identities').scrollIntoView()");
        browser.evaluate(DRAWN);
        browser.screenshot(pictures().join(format!("{name}-below.png")));
    }
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}

/// Ready for a balancer, and yet nobody gets mail: the badge is red, and the error stands once for all accounts.
#[test]
fn the_badge_is_red_where_no_account_has_a_token() {
    let exchange = Exchange::new();
    exchange.file("SECRET", "wrong-but-still-secret");
    let accounts: String =
        ["scans", "fax", "copier"].map(|name| exchange::account(name, &format!("{name}@contoso.example"), "")).concat();
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &accounts));
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    let badge = "document.querySelector('#ready .badge')";
    browser.wait_for("badge", &format!("{badge}?.textContent === 'Ready, but no account has a token'"));
    assert_eq!(browser.evaluate(&format!("{badge}.matches('.refused')")), true);
    assert_eq!(browser.evaluate("document.querySelectorAll('#identities tbody tr').length"), 1);
    let next = text(&browser, "#identities td.advice");
    assert!(next.contains("3 accounts: copier, fax, scans") && next.matches("AADSTS").count() == 1, "{next}");
    let accounts = text(&browser, "#accounts tbody");
    assert!(accounts.matches("see identity office").count() == 3 && !accounts.contains("AADSTS"), "{accounts}");
}

/// Refusals of one device, by two protocols and before it was mended, are one row; a login from there ends its
/// attention.
#[test]
fn what_was_seen_of_one_device_is_one_row() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    for listener in ["imap", "pop3"] {
        let address = proxy.address(listener);
        assert!(tls_from(41, address, |context| old(context, Version::Tls1_0, "RC4-SHA")).is_none());
    }
    let browser = Browser::start();
    open(&browser, &proxy);
    let rows = "document.querySelectorAll('#devices tbody tr')";
    browser.wait_for("both ways", "document.querySelector('#devices .ways')?.children.length === 1");
    assert_eq!(browser.evaluate(&format!("{rows}.length === 1 && {rows}[0].matches('.attention')")), true);
    assert!(text(&browser, "#seen").starts_with("1 device seen: 1 refused. 1 needs attention."));
    // In the second of the refusal nobody knows which came first.
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let refused = second();
    while second() == refused {
        std::thread::yield_now();
    }
    let stream = tls_from(41, proxy.address("imap"), |context| old(context, Version::Tls1_0, "AES128-SHA")).unwrap();
    Imap::greeted(Device::over(stream)).login(LOGIN, exchange::PASSWORD);
    browser.wait_for("no attention", &format!("{rows}.length === 1 && !{rows}[0].matches('.attention')"));
    assert!(text(&browser, "#seen").starts_with("1 device seen: 1 needs packetboat."), "{}", text(&browser, "#seen"));
    // The fingerprint of the ClientHello is folded away.
    assert_eq!(browser.evaluate("document.querySelector('#devices .fingerprint').closest('details').open"), false);
}

/// Thousands of configured devices: the answer is there at once, and one of them is found.
#[test]
fn thousands_of_devices_are_shown() {
    let exchange = Exchange::new();
    let names = || (0..3000).map(|number| format!("device{number:04}"));
    keep(&exchange, &names().map(|name| record(&name, 60, None)).collect::<Vec<_>>());
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + &devices(names())));
    let browser = Browser::start();
    open(&browser, &proxy);
    let answer = text(&browser, "#summary");
    assert_eq!(answer, "3,000 of 3,001 devices get their mail; scanner3 has never logged in.");
    assert_eq!(browser.evaluate("document.querySelectorAll('#configured tbody tr').length"), 3001);
    browser.type_into("#find", "device1234");
    browser.wait_for("search", "document.querySelectorAll('#configured tbody tr:not([hidden])').length === 1");
    // The page goes on refreshing, and keeps the search.
    let refreshes =
        "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('status.json')).length";
    let before = browser.evaluate(refreshes).as_u64().unwrap();
    browser.wait_for("refreshes", &format!("{refreshes} >= {}", before + 3));
    assert_eq!(browser.evaluate("document.querySelectorAll('#configured tbody tr:not([hidden])').length"), 1);
    let console = browser.console();
    assert!(console.is_empty(), "{console:?}");
}
