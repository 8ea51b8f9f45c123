//! These tests prove that a reload which takes a device without a login away ends its session, and lets others go on.

use support::exchange::*;
use support::free_ports;
use support::proxy::Proxy;

use super::{HP, NOBODY, Peer, configuration, without_login};

const LISTED: &str = "recipients = [\"*@contoso.example\"]";

/// The configuration with fixed ports, which a reload finds again.
fn fixed(exchange: &Exchange) -> impl Fn(&str) -> String {
    let frame = configuration(exchange, "");
    let ports = free_ports::<5>();
    move |devices: &str| {
        let mut text = frame.clone();
        for port in ports {
            text = text.replacen("\"127.0.0.1:0\"", &format!("\"127.0.0.1:{port}\""), 1);
        }
        text + devices
    }
}

/// A session of the device that has logged in by MAIL, and is between two messages.
fn session(proxy: &Proxy, address: [u8; 4]) -> Peer {
    let mut device = Peer::greeted(proxy, "smtp", address);
    device.send();
    device
}

#[test]
fn a_reload_ends_the_session_of_a_device_that_is_taken_away() {
    let exchange = Exchange::new();
    let text = fixed(&exchange);
    let both = without_login("hp", HP, LISTED) + &without_login("ups", NOBODY, LISTED);
    let proxy = exchange.proxy(&text(&both));
    let hash = account("scans", SCAN, "").lines().find(|line| line.starts_with("passwords")).unwrap().to_owned();
    for (hp, why) in [
        (String::new(), "login removed"),
        (without_login("hp", [127, 0, 0, 5], LISTED), "source no longer in the device's networks"),
        (without_login("hp", HP, &hash).replace("send_without_login = true\n", ""), "send_without_login removed"),
    ] {
        let mut other = session(&proxy, NOBODY);
        let mut device = session(&proxy, HP);
        proxy.configure(&text(&(hp + &without_login("ups", NOBODY, LISTED))));
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains(why), "{why}: {said}");
        let answer = device.reply();
        assert!(answer.starts_with("421 4.3.2 permission withdrawn by a reload"), "{answer}");
        other.send();
        // The next session hears what any stranger hears.
        Peer::greeted(&proxy, "smtp", HP).hears("MAIL FROM:<a@b.example>", "530 5.7.0");
        proxy.configure(&text(&both));
        assert_eq!(proxy.reload().0, 0);
    }
}

/// A session keeps no list that a reload has narrowed, be it the device's, the account's or that of `[submission]`.
#[test]
fn a_reload_that_narrows_recipients_ends_the_session() {
    let exchange = Exchange::new();
    let text = fixed(&exchange);
    let device = |recipients: &str| without_login("hp", HP, &format!("recipients = [{recipients}]"));
    let other = without_login("ups", NOBODY, &format!("recipients = [\"{SCAN}\"]"));
    let before = text(&(device("\"*@contoso.example\"") + &other));
    let proxy = exchange.proxy(&before);
    for (narrowed, others_go_on) in [
        (text(&(device(&format!("\"{SCAN}\"")) + &other)), true),
        (before.replace(&account("scans", SCAN, ""), &account("scans", SCAN, "sender = \"envelope\"")), false),
        (
            text(&(without_login("hp", HP, "") + &other)) + "[submission]\nrecipients = [\"scan@contoso.example\"]\n",
            true,
        ),
    ] {
        let mut going_on = session(&proxy, NOBODY);
        let mut device = session(&proxy, HP);
        proxy.configure(&narrowed);
        let (code, said) = proxy.reload();
        assert!(code == 0 && said.contains("rules for sending changed"), "{said}");
        let answer = device.reply();
        assert!(answer.starts_with("421 4.3.2 permission withdrawn by a reload"), "{answer}");
        if others_go_on {
            going_on.send();
        }
        proxy.configure(&before);
        assert_eq!(proxy.reload().0, 0);
    }
}

/// A reload between the greeting and MAIL counts as well.
#[test]
fn a_device_that_is_taken_away_before_mail_is_a_stranger() {
    let exchange = Exchange::new();
    let text = fixed(&exchange);
    let both = without_login("hp", HP, LISTED) + &without_login("ups", NOBODY, LISTED);
    let proxy = exchange.proxy(&text(&both));
    let mut device = Peer::greeted(&proxy, "smtp", HP);
    device.hears("EHLO hp", "250 ");
    proxy.configure(&text(&without_login("ups", NOBODY, LISTED)));
    assert_eq!(proxy.reload().0, 0);
    device.hears("MAIL FROM:<a@b.example>", "530 5.7.0 log in first");
    device.hears("NOOP", "250 ");
    assert_eq!(exchange.simulator.counts().smtp().accepted, 0);
}
