//! This test proves that all log lines of one connection carry one id, so that an operator can follow it.

use std::collections::BTreeMap;

use serde_json::Value;

use support::device::{Device, tcp};
use support::dovecot::{Dovecot, PASSWORD};
use support::imap::Imap;
use support::proxy::{Proxy, listener, upstreams};

/// Two devices connect at once from one address, each with a failed login and a session. A third is over the limit, and
/// a stranger begins with nonsense in place of TLS.
#[test]
fn every_line_of_a_connection_carries_its_id() {
    let dovecot = Dovecot::start();
    let users = [dovecot.user_with(&[]), dovecot.user_with(&[])];
    let proxy = Proxy::start(
        &(upstreams(&dovecot)
            + "[limits]\nconnections_per_source = 2\n"
            + &listener(
                "imap",
                "imap",
                "plaintext",
                "upstream = \"implicit\"\nallow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]",
            )
            + &listener("imaps", "imap", "implicit", "upstream = \"implicit\"")),
    );
    let mut devices = users.each_ref().map(|_| Imap::greeted(Device::plain(proxy.address("imap"))));
    for (device, user) in devices.iter_mut().zip(&users) {
        device.command(&format!("LOGIN {user} wrong"));
    }
    for (device, user) in devices.iter_mut().zip(&users) {
        device.login(user, PASSWORD);
    }
    assert_eq!(Device::plain(proxy.address("imap")).line(), "* BYE too many connections from this source");
    devices.into_iter().for_each(Imap::log_out);
    proxy.logs(2, "logged_out");
    let mut stranger = Device::over(tcp(proxy.address("imaps")));
    stranger.send("\x16\x03\x01\x00\x05hello");
    proxy.logs(1, "\"reason\":\"handshake\"");

    let mut by_connection: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for line in proxy.log.all().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line.get("source").is_some() {
            let id = line["connection"].as_u64().unwrap_or_else(|| panic!("no connection in {line}"));
            by_connection.entry(id).or_default().push(line);
        }
    }
    for lines in by_connection.values() {
        assert!(lines.iter().all(|line| line["source"] == lines[0]["source"]), "{lines:?}");
    }
    let messages = |login: &str| {
        let of_login = |lines: &&Vec<Value>| lines.iter().any(|line| line["login"] == login);
        let lines: Vec<&Vec<Value>> = by_connection.values().filter(of_login).collect();
        assert_eq!(lines.len(), 1, "{login} in one connection");
        lines[0].iter().map(|line| line["message"].as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
    };
    for user in &users {
        let messages: Vec<String> = messages(user);
        assert_eq!(messages, ["login failed", "session ended"]);
    }
    let others: Vec<&str> = by_connection
        .values()
        .filter(|lines| lines.iter().all(|line| line["login"] == "-" || line.get("login").is_none()))
        .map(|lines| {
            assert_eq!(lines.len(), 1, "{lines:?}");
            lines[0]["reason"].as_str().unwrap()
        })
        .collect();
    assert_eq!(others, ["too_many_from_source", "handshake"]);
    assert_eq!(by_connection.len(), 4);
}
