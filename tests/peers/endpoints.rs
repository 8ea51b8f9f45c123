//! This test proves that one mail server may have an endpoint for each protocol: IMAP with implicit TLS, POP3 with STLS
//! elsewhere.

use support::dovecot::{Dovecot, PASSWORD};
use support::imap::Imap;
use support::pop3::Pop3;
use support::proxy::{Proxy, listener};
use support::stacks::{Stack, Start, Version};

const TLS_1_0: Stack = Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" };

#[test]
fn devices_reach_each_protocol_at_its_own_endpoint() {
    let (imap, pop3) = (Dovecot::start(), Dovecot::start());
    // Each endpoint has a CA of its own.
    let directory = tempfile::tempdir().unwrap();
    let roots = directory.path().join("roots.pem");
    let both = [imap.roots(), pop3.roots()].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(&roots, both).unwrap();
    let letter = |text: &str| format!("Subject: {text}\r\n\r\nHello\r\n").into_bytes();
    let (first, second) = (letter("IMAP"), letter("POP3"));
    let (reader, fetcher) = (imap.user_with(&[&first]), pop3.user_with(&[&second]));
    let proxy = Proxy::start(&format!(
        "[upstream.x]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nroots = {roots:?}\nwarm_connections = 1\n\
         [upstream.x.imap]\nport = {}\n[upstream.x.pop3]\nhost = \"localhost\"\nport = {}\nsecurity = \"starttls\"\n{}{}",
        imap.imaps,
        pop3.pop3,
        listener("imap", "imap", "implicit", ""),
        listener("pop3", "pop3", "implicit", ""),
    ));
    let device = TLS_1_0.connect(proxy.address("imap"), Start::Implicit);
    Imap::greeted(device).session(&reader, PASSWORD, &[&first]);
    let device = TLS_1_0.connect(proxy.address("pop3"), Start::Implicit);
    Pop3::greeted(device).session(&fetcher, PASSWORD, &[&second]);
    for name in ["imap", "pop3"] {
        let line = proxy.session_line(name);
        assert_eq!(line["reason"], "logged_out", "{line}");
        assert!(line["upstream_tls"].as_str().unwrap().starts_with("TLSv1.3"), "{line}");
    }
}
