//! The page in a browser: the words of each mistake stand on it, for people who have no account on the server.

use std::net::SocketAddr;

use openssl::ssl::Ssl;

use packetboat::simulator::quirks::Fault;
use support::browser::Browser;
use support::connection::TlsStream;
use support::device::{Device, tcp_from};
use support::exchange::{Exchange, LOGIN, PASSWORD, SCAN};
use support::imap::{Imap, status};
use support::proxy::{Proxy, translating_listener};
use support::stacks::{Version, context, old};

use super::start;

/// A device of TLS 1.0 at an address of its own.
fn tls_from(host: u8, address: SocketAddr, ciphers: &str) -> Option<TlsStream> {
    let context = context(|tls| old(tls, Version::Tls1_0, ciphers));
    Ssl::new(&context).unwrap().connect(tcp_from([127, 0, 0, host], address)).ok()
}

fn open(proxy: &Proxy) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("http://{}/", proxy.admin()));
    browser
}

/// Waits until people see these words.
fn shows(browser: &Browser, words: &str) {
    let has = format!("document.body.innerText.includes({})", serde_json::to_string(words).unwrap());
    browser.wait_for(words, &has);
}

#[test]
fn mistakes_of_devices_stand_on_the_page() {
    let exchange = Exchange::new();
    let more = translating_listener("clear", "imap", "starttls", "")
        + &translating_listener("far", "imap", "implicit", "allowed_networks = [\"10.0.0.0/8\"]");
    let proxy = start(&exchange, &more);
    let (imap, clear) = (proxy.address("imap"), proxy.address("clear"));
    for (host, login, password) in [(31, LOGIN, "wrong"), (32, SCAN, PASSWORD)] {
        let mut device = Imap::greeted(Device::over(tls_from(host, imap, "AES128-SHA").unwrap()));
        let reply = status(&device.command(&format!("LOGIN {login} {password}")));
        assert!(reply.starts_with("NO "), "{reply}");
    }
    let mut in_clear = Imap::greeted(Device::over(tcp_from([127, 0, 0, 33], clear)));
    assert!(status(&in_clear.command("LOGIN a b")).starts_with("NO "));
    drop(in_clear);
    assert!(Device::over(tcp_from([127, 0, 0, 34], proxy.address("far"))).has_ended());
    assert!(tls_from(35, imap, "RC4-SHA").is_none());
    drop(Imap::greeted(Device::over(tls_from(36, imap, "AES128-SHA").unwrap())));
    proxy.until_open(0);
    let browser = open(&proxy);
    for words in [
        "the password is not one of device \"scanner3\"",
        "it is the mailbox of device \"scanner3\": type that name as the user name",
        "switch the device to SSL/TLS or STARTTLS",
        "write in listener far: allowed_networks = [\"10.0.0.0/8\", \"127.0.0.34/32\"]",
        "profile = \"ancient\", listen = [",
        "allowed_networks = [\"127.0.0.35/32\"]",
        "write all names into certificate.default.names, then run packetboat certificate renew",
    ] {
        shows(&browser, words);
    }
}

#[test]
fn mistakes_on_the_server_stand_on_the_page() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.fault = Some(Fault::Error("invalid_client", 7_000_222)));
    let proxy = start(&exchange, "");
    proxy.log.wait_for("refused secret", |line| line.contains("AADSTS7000222"));
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    std::fs::write(proxy.configuration(), text.replace("mailbox = ", "mailbx = ")).unwrap();
    assert_ne!(proxy.reload().0, 0);
    let browser = open(&proxy);
    shows(&browser, "the client secret has expired: make a new one, or better a certificate");
    shows(&browser, "unknown key `mailbx`; did you mean `mailbox`?");
}
