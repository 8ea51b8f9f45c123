//! All that runs: it begins with one configuration, and goes on with others, without losing a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::accept;
use super::door::Access;
use super::place::{PlaceKey, Running};
use super::worker::{self, Pulse, Workers};
use super::{Common, Opened, Revoked, Servers, warm};
use crate::config::{Config, Limits, Logins};
use crate::lifecycle::{self, Lifecycle, Phase, Trigger};
use crate::protocol::Protocol;
use crate::token::{Status, Tokens};
use crate::transport::adopt;
use crate::transport::upstream::Server;

/// What runs at one moment.
pub struct Present {
    config: Config,
    running: Vec<(PlaceKey, SocketAddr)>,
    ports: Vec<u16>,
    access: Option<(Arc<Access>, Arc<Tokens>)>,
    servers: Servers,
}

/// All that runs. Dropping it ends every connection at once.
pub struct Serving {
    common: Common,
    config: Config,
    /// None once the drain has begun.
    lifecycle: Option<Lifecycle>,
    running: Vec<Running>,
    /// Ports that were closed lately: their sockets may be there for a moment.
    closed: Vec<(u16, Instant)>,
    access: Option<(Arc<Access>, Arc<Tokens>)>,
    servers: Servers,
    /// Servers that connections are kept ready for.
    warm: Vec<(Arc<Server>, Protocol)>,
    /// What is done beside the connections, with the present configuration: it ends when that does.
    background: Trigger,
    workers: Workers,
}

impl Serving {
    /// Takes connections, and keeps tokens fresh, until the lifecycle says otherwise. Returns at once: workers serve.
    ///
    /// # Errors
    /// The operating system has no threads for them.
    pub fn start(opened: Opened, config: &Config, common: &Common, lifecycle: &Lifecycle) -> io::Result<Self> {
        let workers = Workers::start(worker::count(), &common.metrics)?;
        // What is done beside the connections is done here.
        common.metrics.runs(Handle::current().metrics());
        let (background, _) = lifecycle::begin();
        let mut serving = Self {
            common: common.clone(),
            config: config.clone(),
            lifecycle: Some(lifecycle.clone()),
            running: Vec::new(),
            closed: Vec::new(),
            access: None,
            servers: Servers::new(),
            warm: Vec::new(),
            background,
            workers,
        };
        // Nothing was open before.
        let _ = serving.go_on_with(opened, config);
        Ok(serving)
    }

    /// Goes on with what was opened for another configuration: newcomers come to the new doors, places that are not
    /// wanted any more close, and open connections go on, unless the configuration has withdrawn what they rest on.
    /// Nothing of it can fail.
    pub fn go_on_with(&mut self, opened: Opened, config: &Config) -> Revoked {
        let Opened { doors, access, servers, warm } = opened;
        self.common.connections.limit(&config.limits);
        self.common.inventory.set_limits(config.inventory);
        self.common.quota.limit(&config.log);
        let mut running = Vec::new();
        for open in doors {
            for place in open.places {
                let known = self.running.iter().position(|one| one.key == place.key);
                if let Some(one) = known.map(|index| self.running.swap_remove(index)) {
                    one.doorway.lead_to(&open.door);
                    running.push(one);
                    continue;
                }
                let one = Running::new(&place, &open.door);
                if let Some(lifecycle) = &self.lifecycle {
                    self.workers.accept(place.sockets, &one.doorway, &self.common.connections, lifecycle);
                }
                running.push(one);
            }
        }
        // What is left of the old ones closes here.
        self.running.iter().for_each(|one| one.doorway.close());
        let now = Instant::now();
        self.closed.retain(|(_, when)| when.elapsed() < CLOSING);
        self.closed.extend(self.running.drain(..).map(|one| (one.address.port(), now)));
        self.running = running;
        let (background, life) = lifecycle::begin();
        std::mem::replace(&mut self.background, background).enter(Phase::Draining);
        if let Some((access, tokens)) = &access {
            access.devices.begin();
            access.mailboxes.begin();
            tokens.keep_fresh(&life);
        } else {
            self.common.known.retain_devices(|_| None);
        }
        if !config.listeners.iter().any(|one| matches!(one.logins, Logins::PassThrough(_))) {
            self.common.known.forget_passed();
        }
        for (server, protocol) in &warm {
            tokio::spawn(warm::keep(Arc::clone(server), *protocol, life.clone()));
        }
        // Whoever comes to a socket that no listener has would wait for ever.
        for socket in self.common.idle_sockets(config) {
            if let Ok(socket) = adopt(socket, config.limits.keep_alive).and_then(TcpListener::from_std) {
                tokio::spawn(accept::turn_away(socket, life.clone()));
            }
        }
        // Of servers that go on their connections do, too.
        let goes_on = |server: &Arc<Server>, protocol| {
            warm.iter().any(|(other, of)| Arc::ptr_eq(other, server) && *of == protocol)
        };
        for (server, protocol) in self.warm.iter().filter(|(server, protocol)| !goes_on(server, *protocol)) {
            server.clear_ready(*protocol);
        }
        self.warm = warm;
        self.access = access;
        self.servers = servers;
        self.config = config.clone();
        self.common.metrics.configured(config.limits.connections);
        self.common.registry.revoke(config.limits.revoked_sessions)
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the tokens of its accounts are doing.
    pub fn token_statuses(&self) -> Vec<Status> {
        self.access.as_ref().map(|(_, tokens)| tokens.statuses()).unwrap_or_default()
    }

    /// Where it listens: the listener's name, and the address.
    pub fn places(&self) -> Vec<(String, SocketAddr)> {
        self.running.iter().map(|one| (one.doorway.door().listener.name.clone(), one.address)).collect()
    }

    /// Connections that are open on a listener.
    pub fn open_on(&self, listener: &str) -> usize {
        let running = self.running.iter().find(|one| one.doorway.door().listener.name == listener);
        running.map_or(0, |one| one.doorway.door().witness.counters.open())
    }

    /// Its mail servers.
    pub fn mail_servers(&self) -> Vec<Arc<Server>> {
        self.servers.values().map(Arc::clone).collect()
    }

    /// What tells whether it is stuck.
    pub fn pulse(&self) -> Pulse {
        self.workers.pulse()
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.common.metrics.counted().open
    }

    /// The drain: it takes nobody any more, and what is done beside the connections ends.
    pub fn drain(&mut self) {
        self.background.enter(Phase::Draining);
        for (server, protocol) in self.warm.drain(..) {
            server.clear_ready(protocol);
        }
        self.lifecycle = None;
        self.running.clear();
    }

    /// Waits for refresh tokens to reach the disk: call it last.
    pub async fn settle(&self) {
        if let Some((_, tokens)) = &self.access {
            tokens.settle().await;
        }
    }

    /// Whether another login could be verified now, where logins are translated.
    pub fn has_room(&self) -> bool {
        self.access.as_ref().is_none_or(|(access, _)| access.devices.has_room())
    }

    /// What its successor takes over, for a thread that prepares it.
    pub fn present(&self) -> Present {
        let closed = self.closed.iter().filter(|(_, when)| when.elapsed() < CLOSING).map(|(port, _)| *port);
        let running: Vec<_> = self.running.iter().map(|one| (one.key.clone(), one.address)).collect();
        Present {
            config: self.config.clone(),
            ports: closed.chain(running.iter().map(|(_, address)| address.port())).collect(),
            running,
            access: self.access.clone(),
            servers: self.servers.clone(),
        }
    }
}

impl Present {
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens for this address of a configuration, if it does.
    pub(super) fn listens(&self, wanted: &PlaceKey) -> Option<SocketAddr> {
        self.running.iter().find(|(key, _)| key == wanted).map(|(_, address)| *address)
    }

    /// Whether a port is our own, or was a moment ago.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    pub(super) fn access(&self) -> Option<(&Arc<Access>, &Arc<Tokens>)> {
        self.access.as_ref().map(|(access, tokens)| (access, tokens))
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }
}

const CLOSING: Duration = Duration::from_secs(10);
