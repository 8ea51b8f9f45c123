//! The status is everything that the page shows, as one JSON object.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;
use super::account_status::{accounts, counts, has_no_token, identities};
use super::certificate_facts::Expiry;
use super::handler::{JSON, render};
use super::listener_status::{described, listeners};
use super::role::Role;
use super::sign_in_status;
use super::way_in::WaysIn;
use crate::config::Config;
use crate::inventory::{self, Inventory, SeenDevice};
use crate::lifecycle::unix_time;
use crate::metrics::{ExpiryKind, Point};
use crate::transport::downstream;
use crate::transport::http::server::Response;

/// Names and descriptions of devices in the configuration, by login and by the one address that a device may come from.
/// A login counts more than an address. Where several devices have the same address, the first in the configuration
/// counts.
#[derive(Default)]
pub(super) struct Descriptions {
    by_login: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
    /// The first login and the description of each.
    written: Vec<(String, Option<String>)>,
}

impl Descriptions {
    fn of(config: &Config) -> Self {
        let mut all = Self::default();
        for (index, one) in config.devices.iter().enumerate() {
            for login in &one.logins {
                all.by_login.entry(login.clone()).or_insert(index);
            }
            let alone = one.networks.iter().flat_map(|networks| &networks.0);
            for network in alone.filter(|network| network.prefix_len() == network.max_prefix_len()) {
                all.by_address.entry(network.addr()).or_insert(index);
            }
            all.written.push((one.logins.first().cloned().unwrap_or_default(), one.description.clone()));
        }
        all
    }

    fn of_device(&self, device: &SeenDevice) -> Option<&(String, Option<String>)> {
        let by_login = device.known_as.as_ref().and_then(|login| self.by_login.get(&login.to_lowercase()));
        self.written.get(*by_login.or_else(|| self.by_address.get(&device.source))?)
    }

    /// The devices of the inventory, each with its `[[device]]`, and its description as name.
    pub(super) fn devices(&self, inventory: &Inventory) -> Vec<SeenDevice> {
        let mut devices = inventory.all_devices();
        for device in &mut devices {
            if let Some((login, description)) = self.of_device(device) {
                device.configured = Some(login.clone());
                device.name = description.clone().or(device.name.take());
            }
        }
        devices
    }
}

impl Admin {
    pub(super) async fn descriptions(&self) -> Descriptions {
        Descriptions::of(self.serving.read().await.config())
    }

    pub(super) async fn status(&self) -> Response {
        self.refresh_fleet().await;
        let not_ready = self.why_not_ready().await;
        let is_ready = not_ready.is_none();
        let serving = self.serving.read().await;
        let names = Descriptions::of(serving.config());
        let tokens = serving.token_statuses();
        let may_edit = serving.config().admin.edit;
        let accounts = accounts(&tokens, serving.config(), self.common.inventory.activities());
        drop(serving);
        let problem = not_ready.or_else(|| self.unsaved(&tokens));
        let facts = self.facts().await;
        let expiries = facts.expiries(&tokens);
        let listeners = listeners(&*self.serving.read().await, &facts);
        let counted = self.common.metrics.totals();
        self.common.metrics.history(|history| history.take(unix_time(), counted, counts(&tokens)));
        let (loaded, refused) = (self.common.metrics.config_loaded_at(), self.reloadable.lock().problem.clone());
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "openssl": format!("{}, {}", downstream::library_version(), downstream::library_support()),
            "now": unix_time(),
            "started": self.started,
            "role": Role::Administrator.name(),
            "form_token": self.csrf.form_token(),
            "ready": is_ready,
            "problem": problem,
            "config": { "loaded": loaded, "problem": refused },
            "listeners": listeners,
            "accounts": accounts,
            "logins": names.by_login.keys().collect::<Vec<_>>(),
            "edit": { "on": may_edit, "problem": self.access.problem() },
            "sign_ins": sign_in_status::sign_ins(&tokens),
            "identities": identities(&tokens, &expiries),
            "no_token": has_no_token(&tokens),
            "ca": facts.authority.as_ref().map(|one| described("ca", one)),
            "expiries": expiries.iter().map(described_end).collect::<Vec<_>>(),
            "spool": self.spool_status(),
            "fleet": self.fleet_status(Role::Administrator),
            "history": self.history(),
            "totals": {
                "sessions": counted.sessions,
                "open": counted.open,
                "handshake_failures": counted.handshake_failures,
                "login_failures": counted.login_failures,
            },
        });
        let inventory = Arc::clone(&self.common.inventory);
        let ways_in = WaysIn::of(self.serving.read().await.config());
        render(move || {
            // Text at once: as values, a full inventory takes five times as much memory.
            let (status, seen) = (status.to_string(), names.devices(&inventory));
            let devices = inventory::to_json(&seen);
            let ways = ways_in.to_json(&seen);
            let configured = inventory::reports_to_json(&inventory.reports(&seen));
            let others = status.trim_start_matches('{');
            Response::of(200, JSON, format!("{{\"devices\":{devices},\"configured\":{configured},{ways},{others}"))
        })
        .await
    }

    /// The numbers of accounts that have a token, and of those that have a problem; an unused account has neither.
    pub(super) async fn token_counts(&self) -> (u64, u64) {
        counts(&self.serving.read().await.token_statuses())
    }

    fn history(&self) -> Value {
        self.common.metrics.history(|history| {
            let points: Vec<Point> = history.points().collect();
            let of = |field: fn(&Point) -> u64| points.iter().map(field).collect::<Vec<_>>();
            json!({
                "step": 60,
                "end": history.end(),
                "sessions": of(|point| point.sessions),
                "handshake_failures": of(|point| point.handshake_failures),
                "login_failures": of(|point| point.login_failures),
                "open": of(|point| point.open),
                "tokens_ok": of(|point| point.tokens_ok),
                "tokens_bad": of(|point| point.tokens_bad),
            })
        })
    }
}

/// The end of a certificate, a secret or a sign-in.
fn described_end(one: &Expiry) -> Value {
    let (kind, name) = (kind(one.kind), &one.name);
    json!({ "what": format!("{kind} \"{name}\""), "kind": kind, "until": one.until, "advice": one.advice })
}

fn kind(kind: ExpiryKind) -> &'static str {
    match kind {
        ExpiryKind::Certificate => "certificate",
        ExpiryKind::IdentityCertificate => "application certificate",
        ExpiryKind::ClientSecret => "client secret",
        ExpiryKind::RefreshToken => "refresh token",
    }
}
