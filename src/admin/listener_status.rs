//! The status of listeners: where devices connect, by which TLS and certificate, from where, and what to look out for.

use serde_json::{Value, json};

use super::certificate_facts::Facts;
use crate::config::{Entry, Listener, Logins, Profile};
use crate::proxy::RunningProxy;
use crate::transport::downstream::certificate::Description;

/// The listeners, for the page.
pub(super) fn listeners(serving: &RunningProxy, facts: &Facts) -> Vec<Value> {
    let addresses = serving.addresses();
    let listeners = serving.config().listeners.iter().map(|listener| {
        let of_it = addresses.iter().filter(|(name, _)| *name == listener.name);
        let certificate = facts.certificates.get(&listener.certificate).filter(|_| listener.entry != Entry::Plaintext);
        json!({
            "name": listener.name,
            "protocol": listener.protocol.name(),
            "addresses": of_it.map(|(_, address)| address.to_string()).collect::<Vec<_>>(),
            "tls": listener.tls_in_words(),
            "mode": match &listener.logins {
                Logins::Translate => "translate",
                Logins::PassThrough(_) => "pass-through",
                Logins::Observe => "observe",
            },
            "open": serving.open_on(&listener.name),
            "marks": marks(listener),
            "allowed_networks": listener.allowed_networks.0.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "certificate": certificate.map(|one| described(&listener.certificate, one)),
        })
    });
    listeners.collect()
}

/// A certificate: what a person compares on a device's display.
pub(super) fn described(name: &str, one: &Description) -> Value {
    json!({ "name": name, "subject": one.subject, "names": one.names, "until": one.ends, "sha256": one.sha256, "sha1": one.sha1 })
}

/// The properties of a listener that an operator should not overlook.
fn marks(listener: &Listener) -> Vec<&'static str> {
    let is_plain = listener.allow_plaintext || listener.entry == Entry::Plaintext;
    let is_ancient = listener.tls.profile == Profile::Ancient && listener.entry != Entry::Plaintext;
    let marks = [(listener.observes(), "observes"), (is_ancient, "ancient"), (is_plain, "plaintext")];
    marks.into_iter().filter(|(has, _)| *has).map(|(_, mark)| mark).collect()
}
