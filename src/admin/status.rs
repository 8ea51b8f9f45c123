//! The status is everything that the page shows, as one JSON object.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Admin;
use super::handler::{JSON, render};
use crate::config::{Config, Logins};
use crate::inventory::{self, Inventory, SeenDevice};
use crate::lifecycle::unix_time;
use crate::metrics::{ExpiryKind, Point};
use crate::proxy::RunningProxy;
use crate::token::TokenStatus;
use crate::transport::downstream;
use crate::transport::http::server::Response;

/// Descriptions of devices in the configuration, by login and by the one address that a device may come from. The first
/// device in the configuration counts.
#[derive(Default)]
pub(super) struct Descriptions {
    by_login: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
    written: Vec<Option<String>>,
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
            all.written.push(one.description.clone());
        }
        all
    }

    fn of_device(&self, device: &SeenDevice) -> Option<&str> {
        let by_login = device.known_as.as_ref().and_then(|login| self.by_login.get(&login.to_lowercase()));
        let first = by_login.into_iter().chain(self.by_address.get(&device.source)).min()?;
        self.written.get(*first)?.as_deref()
    }

    /// The devices of the inventory, with their descriptions as names.
    pub(super) fn devices(&self, inventory: &Inventory) -> Vec<SeenDevice> {
        let mut devices = inventory.devices();
        for device in &mut devices {
            if let Some(description) = self.of_device(device) {
                device.name = Some(description.to_owned());
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
        let not_ready = self.why_not_ready().await;
        let is_ready = not_ready.is_none();
        let serving = self.serving.read().await;
        let names = Descriptions::of(serving.config());
        let tokens = serving.token_statuses();
        let listeners = listeners(&serving);
        drop(serving);
        let problem = not_ready.or_else(|| self.unsaved(&tokens));
        let expiries = self.expiries(&tokens).await;
        let counted = self.common.metrics.totals();
        self.common.metrics.history(|history| history.take(unix_time(), counted, counts(&tokens)));
        let (loaded, refused) = (self.common.metrics.config_loaded_at(), self.reloadable.lock().problem.clone());
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "openssl": format!("{}, {}", downstream::library_version(), downstream::library_support()),
            "now": unix_time(),
            "started": self.started,
            "ready": is_ready,
            "problem": problem,
            "config": { "loaded": loaded, "problem": refused },
            "listeners": listeners,
            "accounts": tokens.iter().map(account).collect::<Vec<_>>(),
            "expiries": expiries
                .iter()
                .map(|one| {
                    let (kind, name) = (kind(one.kind), &one.name);
                    json!({ "what": format!("{kind} \"{name}\""), "kind": kind, "until": one.until, "advice": one.advice })
                })
                .collect::<Vec<_>>(),
            "history": self.history(),
            "totals": {
                "sessions": counted.sessions,
                "open": counted.open,
                "handshake_failures": counted.handshake_failures,
                "login_failures": counted.login_failures,
            },
        });
        let inventory = Arc::clone(&self.common.inventory);
        render(move || {
            // Text at once: as values, a full inventory takes five times as much memory.
            let (status, devices) = (status.to_string(), inventory::to_json(&names.devices(&inventory)));
            let others = status.trim_start_matches('{');
            Response::of(200, JSON, format!("{{\"devices\":{devices},{others}"))
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

fn counts(statuses: &[TokenStatus]) -> (u64, u64) {
    let well = statuses.iter().filter(|one| one.is_well()).count();
    let troubled = statuses.iter().filter(|one| one.trouble.is_some()).count();
    (well as u64, troubled as u64)
}

fn listeners(serving: &RunningProxy) -> Vec<Value> {
    let places = serving.addresses();
    let listeners = serving.config().listeners.iter().map(|listener| {
        let of_it = places.iter().filter(|(name, _)| *name == listener.name);
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
        })
    });
    listeners.collect()
}

fn account(status: &TokenStatus) -> Value {
    let state = match (&status.trouble, status.until) {
        (Some(_), _) => "trouble",
        (None, Some(_)) => "ok",
        (None, None) => "none",
    };
    json!({
        "name": status.account,
        "mailbox": status.mailbox,
        "identity": status.identity,
        "grant": status.grant,
        "user": status.user,
        "state": state,
        "token_until": status.until,
        "advice": status.trouble.as_ref().map(ToString::to_string).unwrap_or_default(),
    })
}

fn kind(kind: ExpiryKind) -> &'static str {
    match kind {
        ExpiryKind::Certificate => "certificate",
        ExpiryKind::IdentityCertificate => "application certificate",
        ExpiryKind::ClientSecret => "client secret",
        ExpiryKind::RefreshToken => "refresh token",
    }
}
