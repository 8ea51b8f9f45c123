//! These tests prove the page of one device: its state, its last connections as they happen, and its settings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContextBuilder};
use openssl::x509::X509;
use serde_json::Value;

use support::browser::Browser;
use support::connection::TlsStream;
use support::device::{Device, tcp_from};
use support::exchange::{self, BY_SECRET, Exchange, LOGIN, SCAN};
use support::imap::Imap;
use support::process::PATIENCE;
use support::proxy::Proxy;
use support::stacks::{Version, context, old};

/// A device at 127.0.0.HOST.
fn device_at(host: u8, proxy: &Proxy, configure: impl FnOnce(&mut SslContextBuilder)) -> Option<TlsStream> {
    Ssl::new(&context(configure)).unwrap().connect(tcp_from([127, 0, 0, host], proxy.address("imap"))).ok()
}

fn legacy(context: &mut SslContextBuilder) {
    old(context, Version::Tls1_0, "AES128-SHA");
}

fn imap_at(host: u8, proxy: &Proxy) -> Imap {
    Imap::greeted(Device::over(device_at(host, proxy, legacy).unwrap()))
}

/// The usual configuration, whose device comes from 127.0.0.51 alone.
fn configuration(exchange: &Exchange) -> String {
    let device = "[[device]]\ndescription = \"Copier, reception\"\nnetworks = [\"127.0.0.51/32\"]";
    exchange.configured(BY_SECRET, &exchange::account("scans", SCAN, "").replace("[[device]]", device))
        + "[certificate.default]\nnames = [\"mailproxy.example\", \"192.0.2.5\"]\n"
}

fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.evaluate(&format!("document.querySelector({}).textContent", Value::from(selector)));
    text.as_str().unwrap_or_else(|| panic!("{selector}: {text}")).to_owned()
}

fn wait_for_text(browser: &Browser, selector: &str, part: &str) {
    let element = format!("document.querySelector({})", Value::from(selector));
    browser.wait_for(part, &format!("{element}?.textContent.includes({})", Value::from(part)));
}

/// From its row a link leads to the page of the device. The page shows each connection as it happens, the reason of each
/// refusal with what to do, and the settings that `packetboat device sheet` prints.
#[test]
fn a_device_is_followed_as_it_connects() {
    let exchange = Exchange::new();
    let configuration = configuration(&exchange);
    let proxy = exchange.proxy(&configuration);
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    browser.wait_for("row", "!!document.querySelector('#configured a.own')");
    browser.click("#configured a.own");
    wait_for_text(&browser, "#sentence", "It has never logged in. Enter the mail settings below into the device.");
    assert_eq!(text(&browser, "#name"), LOGIN);
    assert_eq!(text(&browser, "#description"), "Copier, reception");
    wait_for_text(&browser, "#live", "Live");
    browser.evaluate("window.same = true");
    let asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('device.json')).length";
    let before = browser.evaluate(asked);

    // Its TLS is refused before it could say who it is: its address tells.
    assert!(device_at(51, &proxy, |context| old(context, Version::Tls1_0, "RC4-SHA")).is_none());
    let first = "#connections tbody tr:first-child";
    wait_for_text(&browser, first, "Not let in: TLS handshake with the device failed: offers only RC4-SHA");
    wait_for_text(&browser, "#reason", "offers only RC4-SHA");
    wait_for_text(&browser, "#advice", "found no common TLS");

    let mut wrong = imap_at(51, &proxy);
    wrong.command(&format!("LOGIN {LOGIN} <b>guess</b>"));
    wait_for_text(&browser, first, "Not let in: user name or password is wrong");
    wait_for_text(&browser, "#badge", "Logins fail");
    wait_for_text(&browser, "#advice", "Enter user name and password into the device again");
    drop(wrong);

    exchange.simulator.deliver(SCAN, b"Subject: x\r\n\r\nx\r\n".to_vec());
    let mut device = imap_at(51, &proxy);
    device.login(LOGIN, exchange::PASSWORD);
    wait_for_text(&browser, first, "Logged in; the session is open");
    wait_for_text(&browser, "#facts", "1 session");
    device.ok("SELECT INBOX");
    device.ok("FETCH 1 BODY.PEEK[]");
    device.ok("LOGOUT");
    drop(device);
    wait_for_text(&browser, first, "Logged in; 1 message fetched");
    wait_for_text(&browser, first, "the device logged out");
    wait_for_text(&browser, first, "127.0.0.51");
    wait_for_text(&browser, first, "IMAP, TLS 1.0");
    wait_for_text(&browser, "#sentence", "It gets its mail. It fetched the last message at ");
    wait_for_text(&browser, "#facts", "1 message, 1 login");
    assert_eq!(text(&browser, "#advice"), "");
    assert_eq!(browser.evaluate("document.querySelectorAll('#connections tbody tr').length"), 3);
    assert_eq!((browser.evaluate("window.same"), browser.evaluate(asked)), (Value::from(true), before), "live alone");

    // The settings are those of the command.
    let sheet = exchange.run(&["device", "sheet", LOGIN], &configuration);
    let printed: Vec<String> = sheet.output.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let keys = "[...document.querySelectorAll('#settings dt')]";
    let shown = browser.evaluate(&format!(
        "{keys}.map(key => (key.textContent + key.nextSibling.textContent).replaceAll(/\\s/g, ''))"
    ));
    assert_eq!(shown, Value::from(printed));
    assert!(text(&browser, "#settings").contains("mailproxy.example  or  192.0.2.5"));
    assert!(!text(&browser, "body").contains(exchange::PASSWORD));
    wait_for_text(&browser, "#names", "mailproxy.example");
    browser.click("#downloads a[href='ca.pem']");
    X509::from_pem(&browser.downloaded("packetboat-ca.pem")).unwrap();

    // Printed, the page is the sheet.
    browser.cdp("Emulation.setEmulatedMedia", &serde_json::json!({ "media": "print" }));
    browser.wait_for("sheet alone", "document.querySelector('#connections').offsetParent === null");
    assert_eq!(browser.evaluate("document.querySelector('#settings').offsetParent !== null"), true);
    browser.cdp("Emulation.setEmulatedMedia", &serde_json::json!({ "media": "" }));

    // A device that the configuration no longer has is said so.
    browser.open(&format!("http://{}/device?name=nobody", proxy.admin()));
    wait_for_text(&browser, "#lost", "The configuration has no device nobody.");
    let console = browser.console();
    assert!(console.iter().all(|line| line.contains("404")), "{console:?}");
}

/// Without events the page goes on: it reloads. Streams are few, and none holds up a device or another reader.
/// The page and `packetboat devices --json` tell the way of a device's logins to the mail server, and the time from LOGIN
/// to OK.
#[test]
fn logins_are_counted_by_their_way_with_their_time() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.mail.login_delay = Duration::from_millis(400));
    let plain = configuration(&exchange);
    let proxy = exchange.proxy(&plain);
    let log_in = |proxy: &Proxy| {
        let mut device = imap_at(51, proxy);
        device.login(LOGIN, exchange::PASSWORD);
        device.ok("LOGOUT");
    };
    let logins = || -> Value {
        let all: Value = serde_json::from_str(&exchange.run(&["devices", "--json"], &plain).output).unwrap();
        all["configured"][0]["logins"].clone()
    };
    assert_eq!(logins()["dialled"], 0);
    log_in(&proxy);
    let first = logins();
    assert_eq!((&first["dialled"], &first["warm"], &first["parked"]), (&1.into(), &0.into(), &0.into()));
    let took = first["total_ms"].as_u64().unwrap();
    assert!(took >= 400 && first["longest_ms"] == took, "{first}");
    let browser = Browser::start();
    browser.open(&format!("http://{}/device?name={LOGIN}", proxy.admin()));
    wait_for_text(&browser, "#facts .ways", "1 dialled; ");
    wait_for_text(&browser, "#facts .ways", " from LOGIN to OK on average, ");

    let warm = plain.replacen("[upstream.exchange]\n", "[upstream.exchange]\nwarm_connections = 1\n", 1);
    proxy.configure(&warm);
    assert_eq!(proxy.reload().0, 0);
    // A connection is warm once the server has greeted, which only the login itself shows.
    let deadline = Instant::now() + PATIENCE;
    while logins()["warm"] == 0 {
        assert!(Instant::now() < deadline, "no login takes a warm connection: {}", logins());
        log_in(&proxy);
    }
    wait_for_text(&browser, "#facts .ways", "1 warm, ");
}

#[test]
fn readers_that_stop_hold_up_nobody() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&configuration(&exchange));
    let path = format!("/device.events?name={LOGIN}");
    // They read nothing, except for the status of the answer.
    let mut stopped: Vec<TcpStream> = (0..8).map(|_| stream(&proxy, &path, 200)).collect();
    drop(stream(&proxy, &path, 503));
    let browser = Browser::start();
    browser.open(&format!("http://{}/device?name={LOGIN}", proxy.admin()));
    wait_for_text(&browser, "#live", "Reloads every 5 s");
    for _ in 0..55 {
        assert!(device_at(51, &proxy, |context| old(context, Version::Tls1_0, "RC4-SHA")).is_none());
    }
    wait_for_text(&browser, "#connections tbody", "Not let in");
    let begun = Instant::now();
    let view: Value = serde_json::from_str(&proxy.get(&format!("/device.json?name={LOGIN}"))).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(view["connections"].as_array().unwrap().len(), 50, "the last fifty");
    let mut device = imap_at(51, &proxy);
    device.login(LOGIN, exchange::PASSWORD);

    // A reader that leaves makes room for another one. A reload ends its stream.
    drop(stopped.pop());
    let deadline = Instant::now() + PATIENCE;
    let mut reader = loop {
        match request(&proxy, &path) {
            (200, stream) => break BufReader::new(stream),
            (status, _) => assert!(status == 503 && Instant::now() < deadline, "{status}"),
        }
    };
    let newest = until_event(&mut reader, "\"logged_in\":true");
    assert_eq!(newest["state"], "ok");
    assert_eq!(proxy.reload().0, 0);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends as a whole: {}", String::from_utf8_lossy(&rest));
    drop(stopped);
    wait_for_text(&browser, "#live", "Live");
}

/// A device that is removed by a reload, and the drain, end the streams at once.
#[test]
fn a_reload_and_the_drain_end_streams() {
    let exchange = Exchange::new();
    let configuration = configuration(&exchange) + &exchange::account("fax", "fax@contoso.example", "");
    let mut proxy = exchange.proxy(&configuration);
    let mut reader = BufReader::new(stream(&proxy, "/device.events?name=fax", 200));
    until_event(&mut reader, "\"device\":\"fax\"");
    proxy.configure(&self::configuration(&exchange));
    assert_eq!(proxy.reload().0, 0);
    reader.read_to_end(&mut Vec::new()).unwrap();
    stream(&proxy, "/device.events?name=fax", 404);
    let mut reader = BufReader::new(stream(&proxy, &format!("/device.events?name={LOGIN}"), 200));
    until_event(&mut reader, "\"state\":\"never\"");
    let begun = Instant::now();
    proxy.process.signal("TERM");
    // The connection may end in the middle of its stream.
    let _ = reader.read_to_end(&mut Vec::new());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    proxy.process.wait();
}

/// Requests a stream, whose answer has this status.
#[track_caller]
fn stream(proxy: &Proxy, path: &str, status: u16) -> TcpStream {
    let (got, stream) = request(proxy, path);
    assert_eq!(got, status, "{path}");
    stream
}

/// Requests a stream, and reads the status of the answer.
fn request(proxy: &Proxy, path: &str) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    let status = String::from_utf8_lossy(&answer).strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap();
    (status, stream)
}

/// The first event with these words.
fn until_event(reader: &mut impl BufRead, words: &str) -> Value {
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "{words}: the stream has ended");
        if let Some(data) = line.strip_prefix("data: ")
            && data.contains(words)
        {
            return serde_json::from_str(data).unwrap();
        }
    }
}
