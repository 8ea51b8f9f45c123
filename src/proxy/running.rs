//! All that runs: it begins with one configuration, and goes on with others, without losing a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::backend::{Directory, Servers};
use super::current_service::CurrentService;
use super::listen::accept::{self, Frontend};
use super::listen::bind::{AddressesInUse, BindKey, BoundAddress};
use super::listen::worker::{self, Heartbeat, Workers};
use super::prepare::Prepared;
use super::process::ProcessState;
use super::registry::Revoked;
use super::service::Service;
use super::snapshot::Snapshot;
use super::warm;
use crate::config::{Config, Logins};
use crate::lifecycle::{self, Lifecycle, Phase, Trigger};
use crate::token::{TokenStatus, Tokens};
use crate::transport::adopt;
use crate::transport::upstream::{MailServer, Server};

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
    warm: Vec<Arc<Server>>,
    /// What is done beside the connections, with the present configuration: it ends when that does.
    background: Trigger,
    workers: Workers,
}

/// An address at which connections are accepted. Dropping it closes the address.
struct ActiveAddress {
    key: BindKey,
    address: SocketAddr,
    current: Arc<CurrentService>,
    _open: Trigger,
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
                    self.workers.accept(bound.sockets, &self.frontend(&one.current, lifecycle));
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
        for server in &warm {
            tokio::spawn(warm::keep(Arc::clone(server), life.clone()));
        }
        // Whoever comes to a socket that no listener has would wait for ever.
        for socket in self.process.inherited.idle(config) {
            if let Ok(socket) = adopt(socket, config.limits.keep_alive).and_then(TcpListener::from_std) {
                tokio::spawn(accept::refuse_all(socket, life.clone()));
            }
        }
        // Of servers that go on their connections do, too.
        let goes_on = |server: &Arc<Server>| warm.iter().any(|other| Arc::ptr_eq(other, server));
        for server in self.warm.iter().filter(|server| !goes_on(server)) {
            server.clear_warm();
        }
        self.warm = warm;
        self.directory = directory;
        self.servers = servers;
        self.config = config.clone();
        self.process.metrics.set_connection_limit(config.limits.connections);
        self.process.registry.revoke(config.limits.revoked_sessions)
    }

    fn frontend(&self, current: &Arc<CurrentService>, lifecycle: &Lifecycle) -> Frontend {
        let (connections, registry) = (Arc::clone(&self.process.connections), Arc::clone(&self.process.registry));
        Frontend { current: Arc::clone(current), connections, registry, lifecycle: lifecycle.clone() }
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
        self.running.iter().map(|one| (one.current.load().listener.name.clone(), one.address)).collect()
    }

    /// Connections that are open on a listener.
    pub fn open_on(&self, listener: &str) -> usize {
        let running = self.running.iter().find(|one| one.current.load().listener.name == listener);
        running.map_or(0, |one| one.current.load().telemetry.counters.open())
    }

    /// Its mail servers.
    pub fn mail_servers(&self) -> Vec<Arc<MailServer>> {
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
        for server in self.warm.drain(..) {
            server.clear_warm();
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
        let active: Vec<_> = self.running.iter().map(|one| (one.key.clone(), one.address)).collect();
        Snapshot {
            config: self.config.clone(),
            addresses: AddressesInUse {
                ports: closed.chain(active.iter().map(|(_, address)| address.port())).collect(),
                active,
            },
            directory: self.directory.clone(),
            servers: self.servers.clone(),
        }
    }
}

impl ActiveAddress {
    fn new(bound: &BoundAddress, service: &Arc<Service>) -> Self {
        let (trigger, open) = lifecycle::begin();
        let current = Arc::new(CurrentService::new(service, open));
        Self { key: bound.key.clone(), address: bound.address, current, _open: trigger }
    }
}

const CLOSING: Duration = Duration::from_secs(10);
