//! The running proxy: it starts with one configuration, and goes on with others without losing a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::backend::sent_mail::SentMail;
use super::backend::{Directory, Servers};
use super::current_service::CurrentService;
use super::listen::accept::{self, Frontend};
use super::listen::bind::{AddressesInUse, BindKey, BoundAddress};
use super::listen::worker::{self, Heartbeat, Workers};
use super::login_check::LoginChecks;
use super::prepare::{Prepared, PreparedService};
use super::process::ProcessState;
use super::revocation::Revoked;
use super::service::Service;
use super::snapshot::Snapshot;
use super::spool_sender::SpoolSender;
use super::warm;
use crate::config::{Config, Identity, Logins};
use crate::lifecycle::{self, Lifecycle, Phase, Trigger};
use crate::protocol::Protocol;
use crate::spool;
use crate::token::{CachedToken, TokenStatus};
use crate::transport::adopt;
use crate::transport::downstream::Acceptor;
use crate::transport::upstream::{MailServer, Server};

/// The proxy that serves devices. Dropping it ends every connection at once.
pub struct RunningProxy {
    process: ProcessState,
    config: Config,
    /// The lifecycle; `None` after the drain has begun.
    lifecycle: Option<Lifecycle>,
    running: Vec<ActiveAddress>,
    /// Ports that were closed lately. Their sockets may exist for another moment.
    closed: Vec<(u16, Instant)>,
    directory: Option<Arc<Directory>>,
    servers: Servers,
    /// Servers that connections are kept warm for.
    warm: Vec<Arc<Server>>,
    /// Ends the background tasks of the present configuration.
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
    /// Accepts connections and keeps tokens fresh until the drain. Returns at once: worker threads serve.
    ///
    /// # Errors
    /// The operating system has no threads for them.
    pub fn start(opened: Prepared, config: &Config, process: &ProcessState, lifecycle: &Lifecycle) -> io::Result<Self> {
        let workers = Workers::start(worker::count(), &process.metrics)?;
        // Background tasks run on this event loop.
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
        // No connection is open that could be revoked.
        let _ = running.reload(opened, config);
        Ok(running)
    }

    /// Goes on with another configuration. New connections come to its services, and addresses that it does not have
    /// are closed. Open connections go on, unless the configuration has withdrawn a permission that they rest on. No
    /// step of this can fail.
    pub fn reload(&mut self, opened: Prepared, config: &Config) -> Revoked {
        let Prepared { services, directory, servers, warm } = opened;
        self.process.connections.limit(&config.limits);
        self.process.inventory.set_limits(config.inventory);
        self.process.inventory.activities().configure(config);
        self.process.quota.limit(&config.log);
        self.listen_for(services);
        let most = if self.lifecycle.is_some() { config.limits.parked } else { 0 };
        self.process.parking.begin(most);
        self.restart_background(directory.as_ref(), &warm, config);
        // A server that goes on keeps its warm connections.
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

    /// Swaps the services of addresses that stay open, opens new addresses, and closes all others.
    fn listen_for(&mut self, services: Vec<PreparedService>) {
        let mut running = Vec::new();
        for prepared in services {
            for bound in prepared.bound {
                let known = self.running.iter().position(|one| one.key == bound.key);
                if let Some(one) = known.map(|index| self.running.swap_remove(index)) {
                    one.current.replace(&prepared.service);
                    running.push(one);
                    continue;
                }
                let one = ActiveAddress::new(&bound, &prepared.service);
                if let Some(lifecycle) = &self.lifecycle {
                    let frontend = self.frontend(&one.current, lifecycle, bound.is_inherited);
                    self.workers.accept(bound.sockets, &frontend);
                }
                running.push(one);
            }
        }
        self.running.iter().for_each(|one| one.current.close());
        let now = Instant::now();
        self.closed.retain(|(_, when)| when.elapsed() < CLOSING);
        self.closed.extend(self.running.drain(..).map(|one| (one.address.port(), now)));
        self.running = running;
    }

    /// Ends the tasks of the configuration before, and starts those of this one: fresh tokens, warm connections, and
    /// refusals at sockets that no listener has.
    fn restart_background(&mut self, directory: Option<&Arc<Directory>>, warm: &[Arc<Server>], config: &Config) {
        let (background, lifecycle) = lifecycle::begin();
        std::mem::replace(&mut self.background, background).enter(Phase::Draining);
        if let Some(directory) = directory {
            directory.devices.begin();
            directory.mailboxes.begin();
            directory.tokens.keep_fresh(&lifecycle);
        } else {
            self.process.known.retain_devices(|_| None);
        }
        if !config.listeners.iter().any(|one| matches!(one.logins, Logins::PassThrough(_))) {
            self.process.known.forget_passed();
        }
        if let Some(process) = &self.lifecycle {
            let sent_mail = SentMail::new(&self.process.metrics, &self.process.inventory);
            let sender = Arc::new(SpoolSender::new(directory.map(Arc::clone), sent_mail, config.limits));
            let spool = Arc::clone(&self.process.spool);
            tokio::spawn(spool::run(spool, sender, lifecycle.clone(), process.clone()));
        }
        tokio::spawn(Arc::clone(&self.process.parking).keep(lifecycle.clone()));
        if let Some(fleet) = &self.process.fleet {
            if let Some(password) = fleet.password() {
                password.follow(config);
                tokio::spawn(password.keep_fresh(lifecycle.clone()));
            }
            tokio::spawn(Arc::clone(&self.process.parking).yield_to(Arc::clone(fleet.slots()), lifecycle.clone()));
        }
        for server in warm {
            tokio::spawn(warm::keep(Arc::clone(server), lifecycle.clone()));
        }
        // A device that connects to a socket without a listener would wait for ever.
        for socket in self.process.inherited.idle(config) {
            if let Ok(socket) = adopt(socket, config.limits.keep_alive).and_then(TcpListener::from_std) {
                tokio::spawn(accept::refuse_all(socket, lifecycle.clone()));
            }
        }
    }

    fn frontend(&self, current: &Arc<CurrentService>, lifecycle: &Lifecycle, is_inherited: bool) -> Frontend {
        let (connections, registry) = (Arc::clone(&self.process.connections), Arc::clone(&self.process.registry));
        Frontend { current: Arc::clone(current), connections, registry, lifecycle: lifecycle.clone(), is_inherited }
    }

    /// The running configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The state of each account's access token.
    pub fn token_statuses(&self) -> Vec<TokenStatus> {
        self.directory.as_ref().map(|directory| directory.tokens.statuses()).unwrap_or_default()
    }

    /// The login checks of one account; `None` if no listener translates logins, or there is no such account.
    pub fn login_checks(&self, account: &str) -> Option<LoginChecks> {
        let tokens = Arc::clone(&self.directory.as_ref()?.tokens);
        let mut config = self.config.clone();
        config.accounts.retain(|name, _| name == account);
        (!config.accounts.is_empty()).then(|| LoginChecks::with(config, tokens, &self.servers))
    }

    /// The time for which the mail server throttles what an account's mailbox sends, if it does.
    pub fn sending_throttled_for(&self, account: &str) -> Option<Duration> {
        self.directory.as_ref()?.mailboxes.of(account, Protocol::Smtp)?.quiet_for()
    }

    /// The token of an account, where its grant needs a person who signs in.
    pub fn sign_in_of(&self, account: &str) -> Option<(Arc<CachedToken>, &Identity)> {
        let token = self.directory.as_ref()?.tokens.of(account)?;
        let identity = self.config.identities.get(&self.config.accounts.get(account)?.identity)?;
        identity.grant.needs_login().then(|| (Arc::clone(token), identity))
    }

    /// The open addresses, each with the name of its listener.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.running.iter().map(|one| (one.current.load().listener.name.clone(), one.address)).collect()
    }

    /// The number of open connections of a listener.
    pub fn open_on(&self, listener: &str) -> usize {
        let running = self.running.iter().find(|one| one.current.load().listener.name == listener);
        running.map_or(0, |one| one.current.load().telemetry.counters.open())
    }

    /// The mail servers.
    pub fn mail_servers(&self) -> Vec<Arc<MailServer>> {
        self.servers.values().map(Arc::clone).collect()
    }

    /// The heartbeat of the worker threads.
    pub fn heartbeat(&self) -> Heartbeat {
        self.workers.heartbeat()
    }

    /// The number of open connections.
    pub fn open(&self) -> u64 {
        self.process.metrics.totals().open
    }

    /// Begins the drain: no connection is accepted any more, and background tasks end.
    pub fn drain(&mut self) {
        self.background.enter(Phase::Draining);
        for server in self.warm.drain(..) {
            server.clear_warm();
        }
        self.process.parking.drain();
        self.lifecycle = None;
        self.running.clear();
    }

    /// Waits until refresh tokens are on the disk. Call it last.
    pub async fn settle(&self) {
        self.process.parking.settle().await;
        if let Some(directory) = &self.directory {
            directory.tokens.settle().await;
        }
    }

    /// Returns whether another login could be verified now. Always true where no listener translates logins.
    pub fn has_room(&self) -> bool {
        self.directory.as_ref().is_none_or(|directory| directory.devices.has_room())
    }

    /// A snapshot for the thread that prepares the next configuration.
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
            acceptors: self.running.iter().filter_map(ActiveAddress::acceptor).collect(),
        }
    }
}

impl ActiveAddress {
    fn new(bound: &BoundAddress, service: &Arc<Service>) -> Self {
        let (trigger, open) = lifecycle::begin();
        let current = Arc::new(CurrentService::new(service, open));
        Self { key: bound.key.clone(), address: bound.address, current, _open: trigger }
    }

    /// The listener's name, with its TLS acceptor where it has one.
    fn acceptor(&self) -> Option<(String, Arc<Acceptor>)> {
        let service = self.current.load();
        Some((service.listener.name.clone(), Arc::clone(service.acceptor.as_ref()?)))
    }
}

/// The time in which the sockets of a closed address may still exist.
const CLOSING: Duration = Duration::from_secs(10);
