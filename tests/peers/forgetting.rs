//! These tests prove that a device that was seen can be forgotten from the page, and that no other site can ask for it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::exchange;
use support::process::PATIENCE;
use support::proxy::Proxy;
use support::stacks::{Start, Version, old, openssl};

const OBSERVE: &str =
    "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// Sends a form with these headers; returns the status and the whole answer.
fn post(proxy: &Proxy, path: &str, headers: &[&str], form: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(proxy.admin()).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = form.len();
    write!(stream, "POST {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{form}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// The form that forgets the first device that was seen.
fn form_of_first(proxy: &Proxy) -> String {
    let status = proxy.status();
    let device = &status["devices"][0];
    let field = |name: &str| device[name].as_str().unwrap_or_default().to_owned();
    format!("source={}&protocol={}&fingerprint={}", field("source"), field("protocol"), field("fingerprint"))
}

fn connect(proxy: &Proxy) {
    let legacy = |context: &mut openssl::ssl::SslContextBuilder| old(context, Version::Tls1_0, "AES128-SHA");
    drop(openssl(proxy.address("imap"), Start::Implicit, legacy).unwrap());
    until_seen(proxy, &[0]);
}

/// Waits until the page shows as many devices, with as many open connections each: its answer may be a second old.
fn until_seen(proxy: &Proxy, open: &[u64]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = proxy.status();
        let seen = status["devices"].as_array().unwrap();
        if seen.iter().map(|device| device["open"].as_u64().unwrap()).eq(open.iter().copied()) {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Another site in the same browser can send a form, but neither the form token nor a fitting origin.
#[test]
fn only_the_page_can_have_a_device_forgotten() {
    let proxy = Proxy::start(OBSERVE);
    connect(&proxy);
    let port = proxy.admin().port();
    let (host, own) = (format!("Host: localhost:{port}"), format!("Origin: http://localhost:{port}"));
    let token = format!("X-Form-Token: {}", proxy.status()["form_token"].as_str().unwrap());
    let form = form_of_first(&proxy);
    let site = "Sec-Fetch-Site: same-origin";
    for (headers, code) in [
        (&[host.as_str(), FORM, &own, site][..], 403),
        (&[&host, FORM, &own, site, "X-Form-Token: 00000000000000000000000000000000"], 403),
        (&[&host, FORM, "Origin: http://evil.example", &token], 403),
        (&[&host, FORM, &own, "Sec-Fetch-Site: cross-site", &token], 403),
        (&["Host: rebound.example", FORM, "Origin: http://rebound.example", site, &token], 403),
    ] {
        let (got, answer) = post(&proxy, "/forget", headers, &form);
        assert_eq!(got, code, "{headers:?}\n{answer}");
        assert_eq!(proxy.status()["devices"].as_array().unwrap().len(), 1, "{headers:?}");
    }
    let headers = [host.as_str(), FORM, &own, site, &token];
    // A preflight gets no permission, and other paths take no form.
    assert_eq!(post(&proxy, "/status.json", &headers, "").0, 405);
    assert_eq!(post(&proxy, "/", &headers, "").0, 405);
    assert_eq!(post(&proxy, "/forget", &headers, "source=printer").0, 400);
    assert_eq!(post(&proxy, "/forget", &headers, &form.replace("IMAP", "POP3")).0, 404);
    assert_eq!(post(&proxy, "/forget", &headers, &"x".repeat(20_000)).0, 400);
    let device = openssl(proxy.address("imap"), Start::Implicit, |context| old(context, Version::Tls1_0, "AES128-SHA"));
    until_seen(&proxy, &[1]);
    assert_eq!(post(&proxy, "/forget", &headers, &form).0, 409, "it is connected");
    drop(device);
    until_seen(&proxy, &[0]);
    let (code, answer) = post(&proxy, "/forget", &headers, &form);
    assert_eq!(code, 200, "{answer}");
    until_seen(&proxy, &[]);
    proxy.logs(1, "device forgotten: somebody asked for it on the page");
}

/// Where a token is set, the form token alone opens nothing.
#[test]
fn a_change_needs_the_bearer_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "a-token-of-enough-length\n").unwrap();
    exchange::mode(&file, 0o600);
    let proxy = Proxy::start(&format!("[admin]\nlisten = [\"127.0.0.1:0\"]\ntoken_file = {file:?}\n{OBSERVE}"));
    let bearer = "Authorization: Bearer a-token-of-enough-length";
    assert_eq!(post(&proxy, "/forget", &["Host: localhost", FORM], "source=192.0.2.1").0, 401);
    assert_eq!(post(&proxy, "/", &["Host: localhost", FORM], "").0, 401);
    assert_eq!(post(&proxy, "/forget", &["Host: localhost", FORM, bearer], "source=192.0.2.1").0, 403);
}
