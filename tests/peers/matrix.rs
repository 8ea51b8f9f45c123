//! These tests prove each combination of entry, protocol and TLS stack.
//!
//! A device logs in, lists, fetches 1 KB and 25 MB byte for byte, deletes, and logs out.

use std::sync::OnceLock;

use support::device::Device;
use support::dovecot::{Dovecot, PASSWORD};
use support::imap::Imap;
use support::message;
use support::pop3::Pop3;
use support::proxy::{AUTO_FAST, AUTO_SLOW, Proxy, detect_delay, entry, listener, upstreams};
use support::stacks::{Stack, Start, Version};

/// Entries of a listener, and whether the device uses STARTTLS.
pub(crate) const ENTRIES: &[(&str, bool)] =
    &[("implicit", false), ("starttls", true), (AUTO_SLOW, false), (AUTO_FAST, true)];

fn big() -> &'static [u8] {
    static BIG: OnceLock<Vec<u8>> = OnceLock::new();
    BIG.get_or_init(|| message(25 * 1024 * 1024))
}

/// Runs one stack through every entry, both protocols, and both kinds of upstream.
fn every_entry(stack: Stack, profile: &str, tls_version: &str) {
    let dovecot = Dovecot::start();
    let mut configuration = upstreams(&dovecot);
    for protocol in ["imap", "pop3"] {
        for &(name, _) in ENTRIES {
            let upstream = if name == "starttls" { "starttls" } else { "implicit" };
            let more = format!("profile = \"{profile}\"\nupstream = \"{upstream}\"\n{}", detect_delay(name));
            configuration += &listener(&format!("{protocol}-{name}"), protocol, entry(name), &more);
        }
    }
    let proxy = Proxy::start(&configuration);
    let small = message(1024);
    for protocol in ["imap", "pop3"] {
        for &(entry, starttls) in ENTRIES {
            let name = format!("{protocol}-{entry}");
            let user = dovecot.user_with(&[&small, big()]);
            let start = if starttls { Start::StartTls(protocol) } else { Start::Implicit };
            let device = stack.connect(proxy.address(&name), start);
            whole_session(protocol, device, starttls, &user, &[&small, big()]);
            assert_eq!(dovecot.messages_of(&user), 0, "{name}: not deleted");
            let line = proxy.session_of("login", &user).to_string();
            assert!(line.contains("the device logged out") && line.contains(tls_version), "{line}");
            assert!(
                line.contains("\"upstream_tls\":\"TLSv1.3 ") || line.contains("\"upstream_tls\":\"TLSv1.2 "),
                "{line}"
            );
        }
    }
}

fn whole_session(protocol: &str, device: Device, starttls: bool, user: &str, messages: &[&[u8]]) {
    match (protocol, starttls) {
        ("imap", false) => Imap::greeted(device).session(user, PASSWORD, messages),
        ("imap", true) => Imap::over(device).session(user, PASSWORD, messages),
        (_, false) => Pop3::greeted(device).session(user, PASSWORD, messages),
        (_, true) => Pop3::over(device).session(user, PASSWORD, messages),
    }
}

#[test]
fn openssl_at_tls_1_0() {
    every_entry(
        Stack::Openssl { version: Version::Tls1_0, ciphers: "ECDHE-RSA-AES256-SHA" },
        "legacy",
        "TLSv1 ECDHE-RSA-AES256-SHA",
    );
}

#[test]
fn openssl_at_tls_1_1() {
    every_entry(Stack::Openssl { version: Version::Tls1_1, ciphers: "AES128-SHA" }, "legacy", "TLSv1.1 AES128-SHA");
}

#[test]
fn openssl_at_tls_1_2_with_static_rsa() {
    every_entry(
        Stack::Openssl { version: Version::Tls1_2, ciphers: "AES256-SHA256" },
        "legacy",
        "TLSv1.2 AES256-SHA256",
    );
}

#[test]
fn openssl_at_sslv3_with_rc4() {
    every_entry(Stack::Openssl { version: Version::Ssl3, ciphers: "RC4-SHA" }, "ancient", "SSLv3 RC4-SHA");
}

#[test]
fn s_client_at_tls_1_0() {
    every_entry(Stack::SClient("-tls1"), "legacy", "TLSv1 ");
}

#[test]
fn s_client_at_tls_1_1() {
    every_entry(Stack::SClient("-tls1_1"), "legacy", "TLSv1.1 ");
}

#[test]
fn gnutls_at_tls_1_0() {
    every_entry(Stack::Gnutls, "legacy", "TLSv1 ");
}

#[test]
fn mbedtls_at_tls_1_0() {
    every_entry(Stack::Mbedtls, "legacy", "TLSv1 ");
}

#[test]
fn java_with_a_client_hello_in_sslv2_format() {
    every_entry(Stack::JavaSslv2Hello, "legacy", "TLSv1 ");
    every_entry(Stack::JavaSslv2Hello, "ancient", "TLSv1 ");
}

/// The suites that only `ancient` has, and DHE, each once.
#[test]
fn every_old_cipher_suite() {
    let dovecot = Dovecot::start();
    let ancient = listener("imap", "imap", "implicit", "profile = \"ancient\"\nupstream = \"implicit\"");
    let proxy = Proxy::start(&(upstreams(&dovecot) + &ancient));
    let small = message(1024);
    for ciphers in
        ["DES-CBC3-SHA", "RC4-MD5", "RC4-SHA", "ECDHE-RSA-RC4-SHA", "DHE-RSA-AES128-SHA", "DHE-RSA-DES-CBC3-SHA"]
    {
        let user = dovecot.user_with(&[&small]);
        let device =
            Stack::Openssl { version: Version::Tls1_0, ciphers }.connect(proxy.address("imap"), Start::Implicit);
        Imap::greeted(device).session(&user, PASSWORD, &[&small]);
        let line = proxy.log.wait_for("session line", |line| line.contains(&format!("\"login\":\"{user}\"")));
        assert!(line.contains(&format!("TLSv1 {ciphers}")), "{line}");
    }
}

#[test]
fn plaintext_needs_two_settings() {
    let dovecot = Dovecot::start();
    let more = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]\nupstream = \"implicit\"";
    let listeners = ["imap", "pop3"].map(|protocol| listener(protocol, protocol, "plaintext", more));
    let proxy = Proxy::start(&(upstreams(&dovecot) + &listeners.concat()));
    let small = message(1024);
    for protocol in ["imap", "pop3"] {
        let user = dovecot.user_with(&[&small, big()]);
        whole_session(protocol, Device::plain(proxy.address(protocol)), false, &user, &[&small, big()]);
        assert_eq!(dovecot.messages_of(&user), 0);
    }
}
