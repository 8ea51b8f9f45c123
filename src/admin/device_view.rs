//! The view of one configured device: its state, its last connections, its sheet, and the certificates.

use serde_json::{Value, json};

use super::Admin;
use super::account_status::{delivers_to_mailbox, senders};
use super::advice::what_to_do;
use super::certificate_facts::Facts;
use super::handler::JSON;
use super::listener_status::described;
use super::role::Role;
use super::technician::{configured, words};
use crate::config::{CertificateSource, Config, Device};
use crate::failure::Kind;
use crate::inventory::{Connection, Report, State};
use crate::lifecycle::unix_time;
use crate::provision::{Fingerprints, ServerIdentity, Sheet};
use crate::transport::http::server::{Request, Response};

impl Admin {
    /// The view as an answer.
    pub(super) async fn device(&self, received: &Request, role: Role) -> Response {
        let name = received.field("name").unwrap_or_default();
        match self.device_view(name, role).await {
            Some(view) => Response::of(200, JSON, view.to_string()),
            None => Response::text(404, "the configuration has no device of this name\n"),
        }
    }

    /// The view; none where the configuration has no device of this name.
    pub(super) async fn device_view(&self, name: &str, role: Role) -> Option<Value> {
        let facts = self.facts().await;
        let (sheet, (senders, bound), delivers_to_mailbox) = {
            let serving = self.serving.read().await;
            let config = serving.config();
            let device =
                config.devices.iter().find(|device| device.logins.first().is_some_and(|login| login == name))?;
            (sheet(config, device, &facts, role), senders(config), delivers_to_mailbox(config, &device.account))
        };
        let activities = self.common.inventory.activities();
        let report = self.common.inventory.report(name)?;
        let connections = activities.connections(name)?;
        let mut view = state(&report, &connections, role);
        let mailbox = report.account.as_ref().and_then(|account| senders.get(account));
        let mailbox = mailbox.filter(|_| role == Role::Administrator);
        let recipients = mailbox.map(|mailbox| json!({ "count": activities.recipients_of(mailbox), "bound": bound }));
        let listed: Vec<Value> = connections.iter().map(|one| connection(one, role)).collect();
        let more = json!({
            "role": role.name(),
            "version": env!("CARGO_PKG_VERSION"),
            "now": unix_time(),
            "connections": listed,
            "mailbox_recipients": recipients,
            "sheet": sheet,
            "trial": delivers_to_mailbox,
            "names": self.names(&facts).await,
            "ca": facts.authority.as_ref().map(|one| described("ca", one)),
        });
        if let (Value::Object(view), Value::Object(more)) = (&mut view, more) {
            view.extend(more);
        }
        Some(view)
    }

    /// The names in the certificates that devices see.
    async fn names(&self, facts: &Facts) -> Vec<String> {
        server_identity(self.serving.read().await.config(), facts).names
    }
}

/// The state of a device, with the reason for a failure and what to do.
fn state(report: &Report, connections: &[Connection], role: Role) -> Value {
    let failure = (report.state != State::Ok).then(|| last_failure(report, connections)).flatten();
    let (kind, text, failed) = failure.unwrap_or_default();
    let is_shown = role == Role::Administrator;
    let mut state = configured(report, role);
    state.extend([
        ("reason".to_owned(), json!((!text.is_empty()).then(|| words(kind, text, role)))),
        ("failed".to_owned(), json!(failed)),
        ("advice".to_owned(), json!(kind.map(what_to_do))),
        ("mailbox".to_owned(), json!(report.mailbox.as_ref().filter(|_| is_shown))),
        ("account".to_owned(), json!(report.account.as_ref().filter(|_| is_shown))),
    ]);
    state.into()
}

/// The last failure since the last login: of the last connections, which know of those before the login as well, or of
/// an earlier run.
fn last_failure<'a>(report: &'a Report, connections: &'a [Connection]) -> Option<(Option<Kind>, &'a str, Option<u64>)> {
    // A refused message is in the report, whatever the end of its connection.
    let is_refused = report.reason.is_some_and(Kind::is_of_message);
    let newest = connections.iter().find(|one| one.reason.is_some()).filter(|one| one.ended >= report.failed);
    let newest = newest.filter(|_| !is_refused);
    match (newest, &report.failure) {
        (Some(one), _) => Some((one.reason, &one.text, one.ended)),
        (None, Some(text)) => Some((report.reason, text, report.failed)),
        (None, None) => None,
    }
}

/// A connection: what happened, in plain words.
fn connection(one: &Connection, role: Role) -> Value {
    let text = if one.reason.is_some() { words(one.reason, &one.text, role) } else { one.text.to_string() };
    json!({
        "number": one.number,
        "began": one.began,
        "ended": one.ended,
        "source": one.source,
        "listener": one.listener,
        "protocol": one.protocol.name(),
        "tls": one.tls.map(|version| version.to_string()),
        "logged_in": one.is_in,
        "failed": one.reason.is_some(),
        "messages": one.messages,
        "octets": one.octets,
        "sent": one.sent.messages,
        "recipients": one.sent.recipients,
        "sent_octets": one.sent.octets,
        "refused": one.sent.refused,
        "refusal": one.sent.refusal.as_ref().map(|(kind, text)| words(Some(*kind), text, role)),
        "submits": one.protocol.submits(),
        "text": text,
    })
}

/// Returns the rows of the device's sheet: the settings to type in, as `packetboat device sheet` prints them.
fn sheet(config: &Config, device: &Device, facts: &Facts, role: Role) -> Value {
    let sheet = Sheet::new(config, device, &server_identity(config, facts), &[]);
    // The printed sheet has the sender. With sender = "rewrite" any address will do.
    let is_shown = |key: &str| role == Role::Administrator || ![Sheet::MAILBOX, Sheet::SENDER].contains(&key);
    let rows: Vec<(String, String)> = sheet.rows().into_iter().filter(|(key, _)| is_shown(key)).collect();
    json!(rows)
}

/// The names in the certificate that devices see, and the CA's fingerprints.
fn server_identity(config: &Config, facts: &Facts) -> ServerIdentity {
    let listener = config.listeners.iter().find(|listener| !listener.observes());
    let certificate = listener.and_then(|listener| facts.certificates.get(&listener.certificate));
    let names = certificate.map(|one| one.names.clone()).unwrap_or_default();
    let source = listener.and_then(|listener| config.certificates.get(&listener.certificate)).map(|one| &one.source);
    let is_made = matches!(source, Some(CertificateSource::Made { .. }));
    let authority = facts.authority.as_ref().filter(|_| is_made);
    let authority = authority.map(|one| Fingerprints { sha256: one.sha256.clone(), sha1: one.sha1.clone() });
    ServerIdentity { names, authority }
}
