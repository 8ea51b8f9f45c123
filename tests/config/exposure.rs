//! These tests prove which networks get in, as people write them, and the warnings about listeners and devices.

use packetboat::config::Networks;

use super::{ACCOUNT, DEVICE, IDENTITY, SECRET, imap, parse, problems, warnings};

fn networks(all: &[&str]) -> Networks {
    Networks(all.iter().map(|one| one.parse().unwrap()).collect())
}

/// One identity, its account and a device.
fn device(more: &str) -> String {
    format!("{IDENTITY}{SECRET}{ACCOUNT}{DEVICE}account = \"scans\"\n{more}\n")
}

fn listener(name: &str, port: u16, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:{port}\"]\n{more}\n")
}

#[test]
fn an_address_alone_is_a_network_of_its_own() {
    let listed = "[\"192.168.1.21\", \" fd00::7 \", \"10.0.0.0/8\"]";
    let expected = networks(&["192.168.1.21/32", "fd00::7/128", "10.0.0.0/8"]);
    let listener = parse(&imap(&format!("allowed_networks = {listed}\nproxy_protocol = {listed}"))).listeners.remove(0);
    assert_eq!((&listener.allowed_networks, &listener.proxy_protocol), (&expected, &expected));
    let config = parse(&device(&format!("networks = {listed}")));
    assert_eq!(config.devices[0].networks.as_ref(), Some(&expected));
}

/// A list has one problem if one network is wrong, or if it is empty.
#[test]
fn one_mistake_in_a_list_is_one_problem() {
    for (text, expected) in [
        (imap("allowed_networks = [\"10.0.0.0/33\"]"), "listener.allowed_networks: is no network"),
        (imap("allowed_networks = [\"::ffff:10.0.0.1\"]"), "listener.allowed_networks: is IPv4 in the form of IPv6"),
        (imap("allowed_networks = []"), "listener.allowed_networks: allows nobody"),
        (device("networks = [\"printers\"]"), "device.networks: is no network"),
        (device("networks = []"), "device.networks: allows nobody"),
    ] {
        let found = problems(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}\n{found:?}");
    }
}

#[test]
fn ancient_tls_for_whole_networks_is_warned_of() {
    let ancient = |more: &str| warnings(&imap(&format!("profile = \"ancient\"\n{more}")));
    let found = ancient("");
    let expected = "test.toml:1: listener.imap-1143: ancient: accepts SSLv3, 3DES, RC4 from private networks; ";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    assert_eq!(ancient("allowed_networks = [\"192.168.1.33\"]"), [""; 0]);
    let found = ancient("minimum_version = \"tls1.0\"\nciphers = [\"DES-CBC3-SHA\", \"AES128-SHA\"]");
    assert!(found[0].contains("ancient: accepts 3DES from"), "{found:?}");
    assert_eq!(warnings(&imap("")), [""; 0]);
    // A listener that observes is there to see ancient devices.
    assert_eq!(warnings(&listener("imap", 143, "profile = \"ancient\"\nobserve = true")), [""; 0]);
}

/// No listener is warned of if all of them observe.
#[test]
fn a_listener_that_still_observes_is_warned_of() {
    let (one, other) = (listener("imap", 143, "observe = true"), listener("imaps", 993, "observe = true"));
    assert_eq!(warnings(&(one.clone() + &other)), [""; 0]);
    let found = warnings(&(one.clone() + &listener("imaps", 993, "") + &device("")));
    let expected = "test.toml:1: listener.imap: observes: nobody is let in; remove observe = true";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
}

/// The printed line lets the device in, and keeps every network that was allowed.
#[test]
fn networks_of_a_device_that_no_listener_allows() {
    let near = device("networks = [\"192.168.1.21\"]");
    assert_eq!(warnings(&(listener("imaps", 993, "") + &near)), [""; 0]);
    let text = |networks: &str| listener("imaps", 993, networks) + &device("networks = [\"203.0.113.0/24\"]");
    let found = warnings(&text(""));
    let expected = "device.scanner3: no listener allows 203.0.113.0/24, so the device cannot log in from there; write in \
                    listener imaps: ";
    assert!(found.len() == 1, "{found:?}");
    let (_, line) = found[0].split_once(expected).unwrap_or_else(|| panic!("{found:?}"));
    let mended = text(line);
    assert_eq!(warnings(&mended), [""; 0]);
    let (before, after) = (parse(&text("")), parse(&mended));
    let mut all = before.listeners[0].allowed_networks.0.clone();
    all.push("203.0.113.0/24".parse().unwrap());
    assert_eq!(after.listeners[0].allowed_networks.0, all);
    // A listener that passes logins through has no devices.
    let passing = listener("old", 143, "logins = \"pass-through\"\nallowed_networks = [\"203.0.113.0/24\"]");
    assert!(warnings(&(passing + &text(""))).iter().any(|one| one.contains("no listener allows")));
}
