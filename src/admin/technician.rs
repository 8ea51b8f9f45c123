//! The technician's view shows devices without any mailbox, account, tenant, configuration or metric.
//!
//! Each field that a technician sees is named here. Texts lose every word with an at sign, since user names that devices
//! send and words of the mail server may be mailbox addresses. The user name of a `[[device]]` stays as it is: it has to
//! be typed into the device.

use serde_json::{Map, Value, json};

use super::Admin;
use super::advice::{tells_of_device, what_to_do};
use super::handler::{JSON, render};
use super::listener_status::described;
use super::role::Role;
use crate::failure::Kind;
use crate::inventory::{Report, SeenDevice, SendingReport};
use crate::lifecycle::unix_time;
use crate::transport::http::server::Response;

impl Admin {
    /// The status, as a technician sees it.
    pub(super) async fn technicians_status(&self) -> Response {
        self.refresh_fleet().await;
        let (is_ready, facts) = (self.why_not_ready().await.is_none(), self.facts().await);
        let names = self.descriptions().await;
        let (inventory, started) = (std::sync::Arc::clone(&self.common.inventory), self.started);
        let (spool, fleet) = (self.spool_counts(), self.fleet_status(Role::Technician));
        render(move || {
            let seen = names.devices(&inventory);
            let configured: Vec<Value> = inventory.reports(&seen).iter().map(report).collect();
            let status = json!({
                "role": Role::Technician.name(),
                "version": env!("CARGO_PKG_VERSION"),
                "now": unix_time(),
                "started": started,
                "ready": is_ready,
                "spool": spool,
                "fleet": fleet,
                "devices": seen.iter().map(device).collect::<Vec<_>>(),
                "configured": configured,
                "ca": facts.authority.as_ref().map(|one| described("ca", one)),
            });
            Response::of(200, JSON, status.to_string())
        })
        .await
    }
}

/// The words of a failure for a role.
pub(super) fn words(kind: Option<Kind>, text: &str, role: Role) -> String {
    match (role, kind) {
        (Role::Administrator, _) => text.to_owned(),
        (_, Some(kind)) if tells_of_device(kind) => without_addresses(text),
        (_, Some(kind)) => kind.meaning().to_owned(),
        (_, None) => UNKNOWN.to_owned(),
    }
}

/// A text without words that may be mailbox addresses.
pub(super) fn without_addresses(text: &str) -> String {
    let words = text.split(' ').map(|word| if word.contains('@') { HIDDEN } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A configured device, as a technician sees it.
fn report(report: &Report) -> Value {
    let mut device = configured(report, Role::Technician);
    let failure = report.failure.as_deref().map(|text| words(report.reason, text, Role::Technician));
    device.extend([("failure".to_owned(), json!(failure)), ("failed".to_owned(), json!(report.failed))]);
    device.into()
}

/// The fields of a configured device that name no mailbox.
pub(super) fn configured(report: &Report, role: Role) -> Map<String, Value> {
    let fields = json!({
        "device": report.device,
        "description": report.description.as_deref().map(|text| match role {
            Role::Administrator => text.to_owned(),
            Role::Technician | Role::Stranger => without_addresses(text),
        }),
        "state": report.state,
        "since": report.since,
        "last_login": report.last_login,
        "last_mail": report.last_mail,
        "last_seen": report.last_seen,
        "instance": report.instance,
        "source": report.source,
        "open": report.open,
        "sessions": report.sessions,
        "logins": report.logins,
        "messages": report.messages,
        "octets": report.octets,
        "usual_interval": report.usual_interval,
        "silent_after": report.silent_after,
        "reading": report.reading,
        "sending": report.sending.as_ref().map(|one| sending(one, role)),
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

/// The sending side of a configured device. Words of the mail server may name mailboxes and recipients.
fn sending(report: &SendingReport, role: Role) -> Value {
    let shown = |text: &str| words(report.reason, text, role);
    let mut value = json!(SendingReport { failure: report.failure.as_deref().map(shown), ..report.clone() });
    // The list of devices has the state; the device's own page has this as well.
    if let Value::Object(fields) = &mut value {
        fields.insert("advice".to_owned(), json!(report.reason.map(what_to_do)));
    }
    value
}

/// A device that was seen.
fn device(seen: &SeenDevice) -> Value {
    let is_shown = |login: &&String| !login.contains('@') || seen.configured.as_ref() == Some(login);
    json!({
        "source": seen.source,
        "name": seen.name.as_deref().map(without_addresses),
        "protocol": seen.protocol.name(),
        "listener": seen.listener,
        "entry": seen.tls_mode,
        "tls": seen.version.map(|version| version.to_string()),
        "cipher": seen.cipher,
        "offers": seen.offers,
        "fingerprint": seen.fingerprint,
        "logins": seen.logins.iter().filter(is_shown).collect::<Vec<_>>(),
        "sessions": seen.sessions,
        "open": seen.open,
        "failures": seen.failures,
        "failure": seen.failure.as_deref().map(|text| words(seen.reason, text, Role::Technician)),
        "failed": seen.failed,
        "logged_in": seen.logged_in,
        "first_seen": seen.first_seen,
        "last_seen": seen.last_seen,
        "verdict": seen.assessment,
        "attention": seen.needs_attention(),
        "device": seen.configured,
        "instance": seen.instance,
    })
}

const HIDDEN: &str = "(hidden)";
const UNKNOWN: &str = "it failed; the administrator's page has the reason";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_technician_reads_no_address() {
        let text = "user name or password is wrong: \"Scans@contoso.example\" is the mailbox of device print1";
        let shown = "user name or password is wrong: (hidden) is the mailbox of device print1";
        assert_eq!(words(Some(Kind::WrongPassword), text, Role::Technician), shown);
        assert_eq!(words(Some(Kind::WrongPassword), text, Role::Administrator), text);
        let refused = "mail server does not let this user in: account scans, tenant contoso";
        assert_eq!(words(Some(Kind::NotAuthorized), refused, Role::Technician), Kind::NotAuthorized.meaning());
        assert_eq!(words(None, refused, Role::Technician), UNKNOWN);
    }
}
