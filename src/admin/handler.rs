//! The handler decides which path gets which answer, and which client may have it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Admin;
use super::account_status::{has_no_token, pauses, senders};
use super::cache::Cache;
use super::role::{Client, Role};
use crate::inventory::{self, Inventory, SeenDevice};
use crate::lifecycle;
use crate::pool;
use crate::transport::http::server::{Answer, Request, Response};
use crate::transport::upstream::MailServer;

/// Answers that take time, one cache for each kind.
#[derive(Default)]
pub(super) struct Caches {
    live: Cache,
    ready: Cache,
    metrics: Cache,
    status: Cache,
    inventory: Cache,
    table: Cache,
    ca_pem: Cache,
    ca_der: Cache,
}

impl Caches {
    fn outdate(&self) {
        let Self { live, ready, metrics, status, inventory, table, ca_pem, ca_der } = self;
        [live, ready, metrics, status, inventory, table, ca_pem, ca_der].into_iter().for_each(Cache::outdate);
    }
}

impl Admin {
    /// Notes a change, so that no answer from before is given to somebody who asks after it.
    pub(super) fn outdate_answers(&self) {
        [&self.caches, &self.owner_caches].into_iter().for_each(Caches::outdate);
    }

    /// The answer to a request.
    pub(super) async fn handle(self: &Arc<Self>, received: &Request, client: &Client) -> Answer {
        let mut answer = match self.role(received, client) {
            Ok(_) if received.method == "POST" => self.change(received, client).await.into(),
            Ok(role) => match received.path.as_str() {
                "/device.events" => self.device_events(received, role).await,
                "/device.json" => self.device(received, role).await.into(),
                "/spool/message" => self.spool_message(received).into(),
                "/spool/content" => self.spool_content(received, client).await.into(),
                "/status.json" if role == Role::Technician => self.technicians_status().await.into(),
                path => self.route(path, client).await.into(),
            },
            Err(refused) => refused.into(),
        };
        answer.response.headers.extend(SAFE.iter().map(|(name, value)| (*name, (*value).to_owned())));
        answer
    }

    async fn route(self: &Arc<Self>, path: &str, client: &Client) -> Response {
        let caches = match client {
            Client::Network(_) => &self.caches,
            Client::Owner => &self.owner_caches,
        };
        let (admin, client) = (Arc::clone(self), client.clone());
        match path {
            "/" => Response::of(200, "text/html; charset=utf-8", PAGE),
            "/device" => Response::of(200, "text/html; charset=utf-8", DEVICE_PAGE),
            "/page.css" => Response::of(200, "text/css; charset=utf-8", STYLE),
            "/page.js" => Response::of(200, "text/javascript; charset=utf-8", SCRIPT),
            "/devices.js" => Response::of(200, "text/javascript; charset=utf-8", DEVICES),
            "/access.js" => Response::of(200, "text/javascript; charset=utf-8", ACCESS),
            "/device.js" => Response::of(200, "text/javascript; charset=utf-8", DEVICE),
            "/strangers.js" => Response::of(200, "text/javascript; charset=utf-8", STRANGERS),
            "/actions.js" => Response::of(200, "text/javascript; charset=utf-8", ACTIONS),
            "/edit.js" => Response::of(200, "text/javascript; charset=utf-8", EDIT),
            "/sign_in.js" => Response::of(200, "text/javascript; charset=utf-8", SIGN_IN),
            "/tree.js" => Response::of(200, "text/javascript; charset=utf-8", TREE),
            // Browsers request it by themselves.
            "/favicon.ico" => Response::of(204, "image/x-icon", ""),
            "/live" => caches.live.get(|| async move { admin.alive(&client).await }).await,
            "/ready" => caches.ready.get(|| async move { admin.ready(&client).await }).await,
            "/metrics" => caches.metrics.get(|| async move { admin.metrics().await }).await,
            "/spool.js" => Response::of(200, "text/javascript; charset=utf-8", SPOOL),
            "/actions.json" => self.actions(),
            "/pauses" => Response::text(200, pauses(&self.serving.read().await.token_statuses())),
            "/spool.json" => self.spool_list(),
            "/status.json" => caches.status.get(|| async move { admin.status().await }).await,
            "/inventory.json" => caches.inventory.get(|| async move { admin.inventory(to_json).await }).await,
            "/inventory.csv" => caches.table.get(|| async move { admin.inventory(to_csv).await }).await,
            "/ca.pem" => caches.ca_pem.get(|| async move { admin.authority(false).await }).await,
            "/ca.cer" => caches.ca_der.get(|| async move { admin.authority(true).await }).await,
            _ => Response::text(404, "there is nothing here\n"),
        }
    }

    /// Returns the attempts and sign-ins that people have started on the page, with their steps so far.
    fn actions(&self) -> Response {
        let (attempts, sign_ins) = (self.attempts.to_json(), self.sign_ins.to_json());
        Response::of(200, JSON, json!({ "attempts": attempts, "sign_ins": sign_ins }).to_string())
    }

    async fn inventory(&self, write: fn(&[SeenDevice], &Inventory, &Value) -> Response) -> Response {
        self.refresh_fleet().await;
        let (inventory, names) = (Arc::clone(&self.common.inventory), self.descriptions().await);
        let fleet = self.fleet_status(Role::Administrator);
        render(move || write(&names.devices(&inventory), &inventory, &fleet)).await
    }

    /// Whether the process is healthy.
    async fn alive(&self, client: &Client) -> Response {
        health_response("alive", self.fleet_warnings(client), self.stuck_thread().await)
    }

    /// Whether devices can be served. That nobody has a token is no reason to send devices to another packetboat, but
    /// to be said; nor is a fleet's database that is away, or other trouble of the fleet.
    async fn ready(&self, client: &Client) -> Response {
        let has_no_token = has_no_token(&self.serving.read().await.token_statuses());
        let no_token = has_no_token.then(|| "no account has a token".to_owned());
        let warnings = no_token.into_iter().chain(self.fleet_warnings(client)).collect();
        health_response("ready", warnings, self.why_not_ready().await)
    }

    async fn metrics(&self) -> Response {
        let serving = self.serving.read().await;
        let tokens = serving.token_statuses();
        let (senders, limit) = senders(serving.config());
        drop(serving);
        let expiries = self.facts().await.expiries(&tokens);
        let (unsaved, spool, fleet) = (self.unsaved(&tokens), self.spool_numbers(), self.fleet_numbers(&tokens));
        let common = self.common.clone();
        render(move || {
            let metrics = &common.metrics;
            metrics.devices(&common.inventory.counts());
            let reports = common.inventory.all_reports();
            metrics.device_states(
                reports.iter().map(|one| (one.device.as_str(), one.last_login.unwrap_or_default(), one.state.label())),
            );
            let activities = common.inventory.activities();
            let recipients =
                senders.iter().map(|(account, mailbox)| (account.as_str(), activities.recipients_of(mailbox)));
            metrics.mailboxes(recipients, limit);
            metrics.set_state_written(unsaved.is_none());
            metrics.set_spool(&spool);
            fleet.iter().for_each(|fleet| metrics.set_fleet(fleet));
            metrics.tokens(tokens.iter().map(|one| {
                (one.account.as_str(), one.until.unwrap_or_default(), one.trouble.as_ref().map(|trouble| trouble.kind))
            }));
            // The first to end comes last, and counts.
            metrics.expiries(expiries.iter().rev().map(|one| (one.kind, one.name.as_str(), one.until)));
            match metrics.text() {
                Ok(text) => Response::of(200, "text/plain; version=0.0.4; charset=utf-8", text),
                Err(why) => Response::text(500, format!("{why}\n")),
            }
        })
        .await
    }

    /// The reason why devices cannot be served, if so: no listener, or neither a token nor a mail server is available.
    pub(super) async fn why_not_ready(&self) -> Option<String> {
        let serving = self.serving.read().await;
        let listens = !serving.addresses().is_empty();
        let needs_server = serving.config().listeners.iter().any(|listener| !listener.observes());
        let has_token = serving.token_statuses().iter().any(|one| one.until.is_some());
        let (servers, has_room) = (serving.mail_servers(), serving.has_room());
        // A reload need not wait for the slow checks below.
        drop(serving);
        if !listens {
            return Some("nothing listens".to_owned());
        }
        if let Some(why) = self.stuck_thread().await {
            return Some(why);
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
            return (!is_reached).then(unreachable_message);
        }
        let is_reached = is_any_reachable(servers).await;
        *reached = Some((Instant::now(), is_reached));
        (!is_reached).then(unreachable_message)
    }

    /// The thread that keeps logins from being served, if one does not respond: each that a login passes is tried, and
    /// the control thread.
    async fn stuck_thread(&self) -> Option<String> {
        let control = lifecycle::answers(&self.loops.control, ALIVE);
        // A change of the configuration may have the lock, on a control thread that hangs.
        let pulse = async { timeout(ALIVE, self.serving.read()).await.ok().map(|serving| serving.heartbeat()) };
        let beat = async {
            match pulse.await {
                Some(pulse) => pulse.answers_within(ALIVE).await,
                None => false,
            }
        };
        let (is_controlled, beats, verifies) = tokio::join!(control, beat, pool::PASSWORDS.answers(ALIVE));
        let why = match (beats, verifies, is_controlled) {
            (true, true, true) => return None,
            (false, ..) => "an event loop does not answer",
            (true, false, _) => "no password can be verified: its threads do not answer",
            (true, true, false) => "the thread for signals and reloads does not answer",
        };
        Some(why.to_owned())
    }
}

/// The response to a health check: what is well, and what should be known nevertheless.
fn health_response(words: &str, warnings: Vec<String>, problem: Option<String>) -> Response {
    match (problem, warnings.is_empty()) {
        (Some(why), _) => Response::text(503, format!("{why}\n")),
        (None, true) => Response::text(200, format!("{words}\n")),
        (None, false) => Response::text(200, format!("{words}, but {}\n", warnings.join("; "))),
    }
}

/// Makes an answer that takes processor time, on the thread for such answers.
pub(super) async fn render(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    pool::PAGE.run(make).await.unwrap_or_else(|why| Response::text(503, format!("{why}\n")))
}

fn to_json(devices: &[SeenDevice], inventory: &Inventory, fleet: &Value) -> Response {
    let configured = inventory::reports_to_json(&inventory.reports(devices));
    let devices = inventory::to_json(devices);
    let fleet = if fleet.is_null() { String::new() } else { format!(",\"fleet\":{fleet}") };
    Response::of(200, JSON, format!("{{\"devices\":{devices},\"configured\":{configured}{fleet}}}"))
}

fn to_csv(devices: &[SeenDevice], inventory: &Inventory, _: &Value) -> Response {
    let table = inventory::csv(devices, &inventory.reports(devices));
    let mut said = Response::of(200, "text/csv; charset=utf-8", table);
    let name = "attachment; filename=\"packetboat-inventory.csv\"".to_owned();
    said.headers.push(("content-disposition", name));
    said
}

/// Returns whether one of the mail servers accepts connections.
async fn is_any_reachable(servers: Vec<Arc<MailServer>>) -> bool {
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

fn unreachable_message() -> String {
    "there is no access token, and no mail server can be reached".to_owned()
}

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const DEVICES: &str = include_str!("page/devices.js");
const DEVICE_PAGE: &str = include_str!("page/device.html");
const ACTIONS: &str = include_str!("page/actions.js");
const ACCESS: &str = include_str!("page/access.js");
const DEVICE: &str = include_str!("page/device.js");
const EDIT: &str = include_str!("page/edit.js");
const SIGN_IN: &str = include_str!("page/sign_in.js");
const SPOOL: &str = include_str!("page/spool.js");
const STRANGERS: &str = include_str!("page/strangers.js");
const TREE: &str = include_str!("page/tree.js");
pub(super) const JSON: &str = "application/json";
/// Headers that forbid a browser to load anything from elsewhere, to run inline code, and to show the page in a frame.
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
/// The time for which the last attempt to reach a server counts.
const TRIED: Duration = Duration::from_secs(30);
