//! This file has devices whose logins are translated, each with an account and an identity of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use packetboat::device::password;

use crate::dovecot::Dovecot;
use crate::issuer::Issuer;
use crate::proxy::{Proxy, translating_listener, upstreams};

/// packetboat in front of this Dovecot, with these sections: the listeners `imap` and `pop3` translate logins.
pub fn proxy(dovecot: &Dovecot, devices: &str) -> Proxy {
    let listeners = ["imap", "pop3"].map(|protocol| translating_listener(protocol, protocol, "implicit", ""));
    Proxy::start(&(upstreams(dovecot) + &listeners.concat() + devices))
}

/// The password that the devices of these tests send.
pub const DEVICE_PASSWORD: &str = "k7m2-xp9at-device";

/// `[[device]]` with its login, this password and additional lines.
pub fn device(login: &str, account: &str, password: &str, more: &str) -> String {
    format!("[[device]]\nlogin = {login:?}\npasswords = [\"{}\"]\naccount = \"{account}\"\n{more}\n", hash(password))
}

/// `[account.NAME]` of this mailbox, with the identity that opens it.
pub fn account(name: &str, mailbox: &str, upstream: &str, issuer: &Issuer) -> String {
    account_of(name, mailbox, upstream, name) + &issuer.identity(name, mailbox)
}

/// `[account.NAME]` of this mailbox.
pub fn account_of(name: &str, mailbox: &str, upstream: &str, identity: &str) -> String {
    format!("[account.{name}]\nmailbox = \"{mailbox}\"\nupstream = \"{upstream}\"\nidentity = \"{identity}\"\n")
}

/// The hash of a password, which is cached, because each takes its time and tests use the same few.
fn hash(password: &str) -> String {
    static HASHES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut hashes = HASHES.lock().unwrap_or_else(PoisonError::into_inner);
    hashes.entry(password.to_owned()).or_insert_with(|| password::hash(password.as_bytes()).unwrap()).clone()
}
