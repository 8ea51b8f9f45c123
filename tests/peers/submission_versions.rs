//! This test proves that mail of 1 KB arrives octet for octet by each entry, form of login and TLS version, and mail of
//! 35 MB by each entry and version, but for the documented changes.

use support::message;
use support::proxy::{AUTO_FAST, AUTO_SLOW, Proxy, detect_delay, entry, translating_listener};
use support::smtp::{Login, Smtp};
use support::stacks::{Stack, Start, Version};
use support::translated::DEVICE_PASSWORD;

use crate::submission_tokens::{RECIPIENT, Server, changed, postfix};

/// The ways in: a listener's entry, and the device's beginning there; none is plaintext.
const WAYS: [(&str, Option<Start>); 6] = [
    ("implicit", Some(Start::Implicit)),
    ("starttls", Some(Start::StartTls("smtp"))),
    (AUTO_SLOW, Some(Start::Implicit)),
    (AUTO_FAST, Some(Start::StartTls("smtp"))),
    (AUTO_FAST, None),
    ("plaintext", None),
];

/// The versions, the oldest last: it needs a profile of its own.
const VERSIONS: [(Version, &str, &str); 4] = [
    (Version::Tls1_0, "legacy", "TLSv1 "),
    (Version::Tls1_1, "legacy", "TLSv1.1 "),
    (Version::Tls1_2, "legacy", "TLSv1.2 "),
    (Version::Ssl3, "ancient", "SSLv3 "),
];

/// A listener for each entry and profile.
fn listeners() -> String {
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.1\"]\n";
    let one = |profile: &str, name: &str| {
        let clear = if ["implicit", "starttls"].contains(&name) { "" } else { clear };
        let more = format!("{clear}profile = \"{profile}\"\n{}", detect_delay(name));
        translating_listener(&format!("{profile}-{name}"), "smtp", entry(name), &more)
    };
    let profiles = ["legacy", "ancient"].into_iter();
    profiles
        .flat_map(|profile| ["implicit", "starttls", AUTO_SLOW, AUTO_FAST, "plaintext"].map(|name| one(profile, name)))
        .collect()
}

/// A device that has been greeted by this way.
fn greeted(proxy: &Proxy, (entry, start): (&str, Option<Start>), version: Version, profile: &str) -> Smtp {
    let address = proxy.address(&format!("{profile}-{entry}"));
    let ciphers = if version == Version::Ssl3 { "RC4-SHA" } else { "AES128-SHA" };
    let Some(start) = start else { return Smtp::greeted(support::device::Device::plain(address)) };
    let device = Stack::Openssl { version, ciphers }.connect(address, start);
    if start == Start::Implicit {
        return Smtp::greeted(device);
    }
    let mut device = Smtp::over(device);
    device.say("EHLO printer_3", "250 ");
    device
}

#[test]
fn mail_arrives_by_each_entry_login_and_version() {
    let (issuer, _judge, postfix) = postfix();
    let proxy = Server::from(&postfix).proxy_with(&issuer, &listeners());
    let (small, big) = (message(1024), message(35 * 1024 * 1024));
    let (small_changed, big_changed) = (changed(&small), changed(&big));
    for (version, profile, name) in VERSIONS {
        for way in WAYS.into_iter().filter(|(_, start)| start.is_some() || version == Version::Tls1_0) {
            // Each form of login with 1 KB, and one with 35 MB where the entry has not had it.
            let each = Login::ALL.map(|login| (login, &small, &small_changed)).into_iter();
            let is_second = way.0 == AUTO_FAST;
            let one = (!is_second).then_some((Login::Plain, &big, &big_changed));
            for (login, content, expected) in each.chain(one) {
                let mut device = greeted(&proxy, way, version, profile);
                device.log_in(login, "starttls", DEVICE_PASSWORD);
                let answer = device.submit("scanner@example.test", RECIPIENT, content);
                assert!(answer.starts_with("250 2.0.0 Ok: queued as "), "{way:?} {version:?} {login:?}: {answer}");
                device.say("QUIT", "221 ");
                let one = postfix.take();
                assert!(one == *expected, "{way:?} {version:?} {login:?}: {one:?}");
            }
            let listener = format!("{profile}-{}", way.0);
            let tls = if way.1.is_some() { name } else { "none\"" };
            let tls = format!("\"device_tls\":\"{tls}");
            proxy.log.wait_for(&tls, |line| line.contains(&listener) && line.contains(&tls));
        }
    }
}
