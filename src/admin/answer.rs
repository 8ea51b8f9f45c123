//! Which address answers what, and to whom.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Admin;
use crate::crypto::KeyedHash;
use crate::inventory;
use crate::pool;
use crate::proxy::Pulse;
use crate::secret::Secret;
use crate::transport::http::server::{Received, Said};
use crate::transport::upstream::Server;

impl Admin {
    /// The answer to a request.
    pub(super) async fn answer(&self, received: &Received) -> Said {
        let mut said = match self.admits(received) {
            Ok(()) => self.at(&received.path).await,
            Err(refused) => refused,
        };
        said.headers.extend(SAFE.iter().map(|(name, value)| (*name, (*value).to_owned())));
        said
    }

    /// Health and the empty page are for everybody; what is known of devices for who has the token, or is on this computer
    /// where there is none.
    fn admits(&self, received: &Received) -> Result<(), Said> {
        if !["GET", "HEAD"].contains(&received.method.as_str()) {
            return Err(Said::text(405, "GET alone is answered here\n"));
        }
        if OPEN.contains(&received.path.as_str()) {
            return Ok(());
        }
        match &self.present().token {
            Some(token) if received.bearer.as_ref().is_some_and(|given| is_same(token, given)) => Ok(()),
            Some(_) => {
                let mut said = Said::text(401, "send the content of admin.token_file as a bearer token\n");
                said.headers.push(("www-authenticate", "Bearer".to_owned()));
                Err(said)
            }
            // A page from elsewhere may have its name lead here (DNS rebinding); it cannot have it be localhost.
            None if received.host.as_deref().is_some_and(is_this_computer) => Ok(()),
            None => Err(Said::text(403, "ask for localhost or 127.0.0.1, or set admin.token_file\n")),
        }
    }

    async fn at(&self, path: &str) -> Said {
        match path {
            "/" => Said::of(200, "text/html; charset=utf-8", PAGE),
            "/page.css" => Said::of(200, "text/css; charset=utf-8", STYLE),
            "/page.js" => Said::of(200, "text/javascript; charset=utf-8", SCRIPT),
            // Browsers ask for it unasked.
            "/favicon.ico" => Said::of(204, "image/x-icon", ""),
            "/live" => match stuck(&self.pulse().await).await {
                None => Said::text(200, "alive\n"),
                Some(why) => Said::text(503, format!("{why}\n")),
            },
            "/ready" => match self.obstacle().await {
                None => Said::text(200, "ready\n"),
                Some(why) => Said::text(503, format!("{why}\n")),
            },
            "/metrics" => self.metrics().await,
            "/status.json" => Said::of(200, JSON, self.status().await),
            "/inventory.json" => {
                let devices = self.devices().await;
                let json = serde_json::json!({ "devices": inventory::to_value(&devices) });
                Said::of(200, JSON, json.to_string())
            }
            "/inventory.csv" => {
                let mut said = Said::of(200, "text/csv; charset=utf-8", inventory::csv(&self.devices().await));
                let name = "attachment; filename=\"packetboat-inventory.csv\"".to_owned();
                said.headers.push(("content-disposition", name));
                said
            }
            _ => Said::text(404, "there is nothing here\n"),
        }
    }

    async fn metrics(&self) -> Said {
        let serving = self.serving.read().await;
        let tokens = serving.token_statuses();
        drop(serving);
        let expiries = self.expiries(&tokens).await;
        let metrics = &self.common.metrics;
        metrics.devices(&self.common.inventory.counts());
        metrics.kept(self.unkept(&tokens).is_none());
        metrics.tokens(tokens.iter().map(|one| {
            (one.account.as_str(), one.until.unwrap_or_default(), one.trouble.as_ref().map(|trouble| trouble.kind))
        }));
        // The first to end comes last, and counts.
        metrics.expiries(expiries.iter().rev().map(|one| (one.kind, one.name.as_str(), one.until)));
        match metrics.text() {
            Ok(text) => Said::of(200, "text/plain; version=0.0.4; charset=utf-8", text),
            Err(why) => Said::text(500, format!("{why}\n")),
        }
    }

    /// Why devices cannot be served, if they cannot: no listener answers, or neither a token nor a mail server is at hand.
    pub(super) async fn obstacle(&self) -> Option<String> {
        let serving = self.serving.read().await;
        let listens = !serving.places().is_empty();
        let needs_server = serving.config().listeners.iter().any(|listener| !listener.observes());
        let has_token = serving.token_statuses().iter().any(|one| one.until.is_some());
        let (pulse, servers, has_room) = (serving.pulse(), serving.mail_servers(), serving.has_room());
        // Nobody waits for a reload, nor a reload for what takes its time here.
        drop(serving);
        if !listens {
            return Some("nothing listens".to_owned());
        }
        if let Some(why) = stuck(&pulse).await {
            return Some(why.to_owned());
        }
        if !has_room {
            return Some("no login is taken: too many passwords are being verified".to_owned());
        }
        for (pool, what) in [(&pool::FILES, "secrets cannot be read"), (&pool::NAMES, "host names cannot be resolved")]
        {
            if !pool.answers(ALIVE).await {
                return Some(format!("{what}: the threads for that do not answer"));
            }
        }
        if !needs_server || has_token {
            return None;
        }
        // One who asks has it tried for all who ask meanwhile.
        let mut reached = self.reached.lock().await;
        if let Some((tried, is_reached)) = *reached
            && tried.elapsed() < TRIED
        {
            return (!is_reached).then(unreached);
        }
        let is_reached = is_any_reached(servers).await;
        *reached = Some((Instant::now(), is_reached));
        (!is_reached).then(unreached)
    }

    async fn pulse(&self) -> Pulse {
        self.serving.read().await.pulse()
    }
}

/// Why no login can be served, whatever the servers do, if so: it tries the way that a login takes through the process.
async fn stuck(pulse: &Pulse) -> Option<&'static str> {
    if !pulse.is_felt(ALIVE).await {
        return Some("an event loop does not answer");
    }
    (!pool::PASSWORDS.answers(ALIVE).await).then_some("no password can be verified: its threads do not answer")
}

/// Whether one of them takes connections.
async fn is_any_reached(servers: Vec<Arc<Server>>) -> bool {
    let mut tries: JoinSet<bool> = servers.into_iter().map(|server| async move { server.is_reached().await }).collect();
    let any = async {
        while let Some(reached) = tries.join_next().await {
            if reached.unwrap_or_default() {
                return true;
            }
        }
        false
    };
    timeout(PATIENCE, any).await.unwrap_or_default()
}

fn unreached() -> String {
    "there is no access token, and no mail server can be reached".to_owned()
}

/// In a time that does not depend on where they differ.
fn is_same(token: &Secret, given: &Secret) -> bool {
    KeyedHash::new().is_ok_and(|hash| hash.of(&[token.expose()]).is(&hash.of(&[given.expose()])))
}

/// The Host header of who means this computer.
fn is_this_computer(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const JSON: &str = "application/json";
/// What anybody may see: it says nothing of devices.
const OPEN: &[&str] = &["/", "/page.css", "/page.js", "/favicon.ico", "/live", "/ready"];
/// Nothing from elsewhere, nothing inline, nobody's frame.
const SAFE: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
];
const ALIVE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(4);
/// How long it counts whether a server was reached.
const TRIED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_means_this_computer() {
        for host in ["localhost", "localhost:9143", "127.0.0.1:9143", "[::1]:9143", "[::1]", "LOCALHOST", "127.0.0.2"] {
            assert!(is_this_computer(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:9143", "192.168.1.1", "127.0.0.1.evil.example", "", ":9143"]
        {
            assert!(!is_this_computer(host), "{host}");
        }
    }
}
