//! Everything that the page shows, as one JSON object.

use serde_json::{Value, json};

use super::Admin;
use crate::config::{Config, Logins};
use crate::inventory::{self, Device};
use crate::lifecycle::since_1970;
use crate::metrics::{Expiring, Point};
use crate::token::Status;

impl Admin {
    pub(super) async fn status(&self) -> String {
        let obstacle = self.obstacle().await;
        let is_ready = obstacle.is_none();
        let devices = self.devices().await;
        let serving = self.serving.read().await;
        let config = serving.config();
        let tokens = serving.token_statuses();
        let places = serving.places();
        let listeners: Vec<Value> = config
            .listeners
            .iter()
            .map(|listener| {
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
            })
            .collect();
        let problem = obstacle.or_else(|| self.unkept(&tokens));
        let accounts: Vec<Value> = tokens.iter().map(account).collect();
        drop(serving);
        let expiries = self.expiries(&tokens).await;
        let counted = self.common.metrics.counted();
        self.common.metrics.history(|history| history.take(since_1970(), counted, counts(&tokens)));
        let (loaded, refused) = (self.common.metrics.loaded_at(), self.present().problem.clone());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": since_1970(),
            "started": self.started,
            "ready": is_ready,
            "problem": problem,
            "config": { "loaded": loaded, "problem": refused },
            "listeners": listeners,
            "devices": inventory::to_value(&devices),
            "accounts": accounts,
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
        })
        .to_string()
    }

    /// The devices, by the names that people have given them.
    pub(super) async fn devices(&self) -> Vec<Device> {
        let mut devices = self.common.inventory.devices();
        let serving = self.serving.read().await;
        for device in &mut devices {
            if let Some(description) = described(serving.config(), device) {
                device.name = Some(description.to_owned());
            }
        }
        devices
    }

    /// Accounts that have a token, and those that have trouble; one that nobody uses has neither.
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

fn counts(statuses: &[Status]) -> (u64, u64) {
    let well = statuses.iter().filter(|one| one.is_well()).count();
    let troubled = statuses.iter().filter(|one| one.trouble.is_some()).count();
    (well as u64, troubled as u64)
}

/// By its login, or by the one address that it may come from.
fn described<'a>(config: &'a Config, device: &Device) -> Option<&'a str> {
    let found = config.devices.iter().find(|one| {
        let by_login = device.known_as.as_ref().is_some_and(|login| one.logins.contains(&login.to_lowercase()));
        let by_address = one.networks.as_ref().is_some_and(|networks| {
            networks
                .0
                .iter()
                .any(|network| network.addr() == device.source && network.prefix_len() == network.max_prefix_len())
        });
        by_login || by_address
    });
    found?.description.as_deref()
}

fn account(status: &Status) -> Value {
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

fn kind(kind: Expiring) -> &'static str {
    match kind {
        Expiring::Certificate => "certificate",
        Expiring::IdentityCertificate => "application certificate",
        Expiring::ClientSecret => "client secret",
        Expiring::RefreshToken => "refresh token",
    }
}
