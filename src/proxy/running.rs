//! All that runs: it begins with one configuration, and goes on with others, without losing a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::backend::Directory;
use super::listen::accept;
use super::listen::bind::{ActiveAddress, BindKey};
use super::listen::worker::{self, Heartbeat, Workers};
use super::{Prepared, ProcessState, Revoked, Servers, warm};
use crate::config::{Config, Limits, Logins};
use crate::lifecycle::{self, Lifecycle, Phase, Trigger};
use crate::protocol::Protocol;
use crate::token::{TokenStatus, Tokens};
use crate::transport::adopt;
use crate::transport::upstream::Server;

/// What runs at one moment.
pub struct Snapshot {
    config: Config,
    running: Vec<(BindKey, SocketAddr)>,
    ports: Vec<u16>,
    directory: Option<(Arc<Directory>, Arc<Tokens>)>,
    servers: Servers,
}

/// All that runs. Dropping it ends every connection at once.
pub struct RunningProxy {
    process: ProcessState,
    config: Config,
    /// None once the drain has begun.
    lifecycle: Option<Lifecycle>,
    running: Vec<ActiveAddress>,
    /// Ports that were closed lately: their sockets may be there for a moment.
    closed: Vec<(u16, Instant)>,
    directory: Option<(Arc<Directory>, Arc<Tokens>)>,
    servers: Servers,
    /// Servers that connections are kept ready for.
    warm: Vec<(Arc<Server>, Protocol)>,
    /// What is done beside the connections, with the present configuration: it ends when that does.
    background: Trigger,
    workers: Workers,
}

impl RunningProxy {
    /// Takes connections, and keeps tokens fresh, until the lifecycle says otherwise. Returns at once: workers serve.
    ///
    /// # Errors
    /// The operating system has no threads for them.
    pub fn start(opened: Prepared, config: &Config, process: &ProcessState, lifecycle: &Lifecycle) -> io::Result<Self> {
        let workers = Workers::start(worker::count(), &process.metrics)?;
        // What is done beside the connections is done here.
        process.metrics.add_event_loop(Handle::current().metrics());
        let (background, _) = lifecycle::begin();
        let mut running = Self {
            process: process.clone(),
            config: config.clone(),
            lifecycle: Some(lifecycle.clone()),
            running: Vec::new(),
            closed: Vec::new(),
            directory: None,
            servers: Servers::new(),
            warm: Vec::new(),
            background,
            workers,
        };
        // Nothing was open before.
        let _ = running.reload(opened, config);
        Ok(running)
    }

    /// Goes on with what was opened for another configuration: newcomers come to the new services, places that are not
    /// wanted any more close, and open connections go on, unless the configuration has withdrawn what they rest on.
    /// Nothing of it can fail.
    pub fn reload(&mut self, opened: Prepared, config: &Config) -> Revoked {
        let Prepared { services, directory, servers, warm } = opened;
        self.process.connections.limit(&config.limits);
        self.process.inventory.set_limits(config.inventory);
        self.process.quota.limit(&config.log);
        let mut running = Vec::new();
        for open in services {
            for bound in open.bound {
                let known = self.running.iter().position(|one| one.key == bound.key);
                if let Some(one) = known.map(|index| self.running.swap_remove(index)) {
                    one.current.replace(&open.service);
                    running.push(one);
                    continue;
                }
                let one = ActiveAddress::new(&bound, &open.service);
                if let Some(lifecycle) = &self.lifecycle {
                    self.workers.accept(bound.sockets, &one.current, &self.process.connections, lifecycle);
                }
                running.push(one);
            }
        }
        // What is left of the old ones closes here.
        self.running.iter().for_each(|one| one.current.close());
        let now = Instant::now();
        self.closed.retain(|(_, when)| when.elapsed() < CLOSING);
        self.closed.extend(self.running.drain(..).map(|one| (one.address.port(), now)));
        self.running = running;
        let (background, life) = lifecycle::begin();
        std::mem::replace(&mut self.background, background).enter(Phase::Draining);
        if let Some((directory, tokens)) = &directory {
            directory.devices.begin();
            directory.mailboxes.begin();
            tokens.keep_fresh(&life);
        } else {
            self.process.known.retain_devices(|_| None);
        }
        if !config.listeners.iter().any(|one| matches!(one.logins, Logins::PassThrough(_))) {
            self.process.known.forget_passed();
        }
        for (server, protocol) in &warm {
            tokio::spawn(warm::keep(Arc::clone(server), *protocol, life.clone()));
        }
        // Whoever comes to a socket that no listener has would wait for ever.
        for socket in self.process.idle_sockets(config) {
            if let Ok(socket) = adopt(socket, config.limits.keep_alive).and_then(TcpListener::from_std) {
                tokio::spawn(accept::refuse_all(socket, life.clone()));
            }
        }
        // Of servers that go on their connections do, too.
        let goes_on = |server: &Arc<Server>, protocol| {
            warm.iter().any(|(other, of)| Arc::ptr_eq(other, server) && *of == protocol)
        };
        for (server, protocol) in self.warm.iter().filter(|(server, protocol)| !goes_on(server, *protocol)) {
            server.clear_warm(*protocol);
        }
        self.warm = warm;
        self.directory = directory;
        self.servers = servers;
        self.config = config.clone();
        self.process.metrics.set_connection_limit(config.limits.connections);
        self.process.registry.revoke(config.limits.revoked_sessions)
    }

    /// What it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How the tokens of its accounts are doing.
    pub fn token_statuses(&self) -> Vec<TokenStatus> {
        self.directory.as_ref().map(|(_, tokens)| tokens.statuses()).unwrap_or_default()
    }

    /// Where it listens: the listener's name, and the address.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.running.iter().map(|one| (one.current.service().listener.name.clone(), one.address)).collect()
    }

    /// Connections that are open on a listener.
    pub fn open_on(&self, listener: &str) -> usize {
        let running = self.running.iter().find(|one| one.current.service().listener.name == listener);
        running.map_or(0, |one| one.current.service().telemetry.counters.open())
    }

    /// Its mail servers.
    pub fn mail_servers(&self) -> Vec<Arc<Server>> {
        self.servers.values().map(Arc::clone).collect()
    }

    /// What tells whether it is stuck.
    pub fn heartbeat(&self) -> Heartbeat {
        self.workers.heartbeat()
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        self.process.metrics.totals().open
    }

    /// The drain: it takes nobody any more, and what is done beside the connections ends.
    pub fn drain(&mut self) {
        self.background.enter(Phase::Draining);
        for (server, protocol) in self.warm.drain(..) {
            server.clear_warm(protocol);
        }
        self.lifecycle = None;
        self.running.clear();
    }

    /// Waits for refresh tokens to reach the disk: call it last.
    pub async fn settle(&self) {
        if let Some((_, tokens)) = &self.directory {
            tokens.settle().await;
        }
    }

    /// Whether another login could be verified now, where logins are translated.
    pub fn has_room(&self) -> bool {
        self.directory.as_ref().is_none_or(|(directory, _)| directory.devices.has_room())
    }

    /// What its successor takes over, for a thread that prepares it.
    pub fn present(&self) -> Snapshot {
        let closed = self.closed.iter().filter(|(_, when)| when.elapsed() < CLOSING).map(|(port, _)| *port);
        let running: Vec<_> = self.running.iter().map(|one| (one.key.clone(), one.address)).collect();
        Snapshot {
            config: self.config.clone(),
            ports: closed.chain(running.iter().map(|(_, address)| address.port())).collect(),
            running,
            directory: self.directory.clone(),
            servers: self.servers.clone(),
        }
    }
}

impl Snapshot {
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens for this address of a configuration, if it does.
    pub(super) fn listens(&self, wanted: &BindKey) -> Option<SocketAddr> {
        self.running.iter().find(|(key, _)| key == wanted).map(|(_, address)| *address)
    }

    /// Whether a port is our own, or was a moment ago.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    pub(super) fn directory(&self) -> Option<(&Arc<Directory>, &Arc<Tokens>)> {
        self.directory.as_ref().map(|(directory, tokens)| (directory, tokens))
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }
}

const CLOSING: Duration = Duration::from_secs(10);
