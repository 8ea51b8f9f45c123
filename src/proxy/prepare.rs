//! Preparation of a configuration: everything that it needs is loaded and bound before anything of it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use tracing::warn;

use super::backend::mailbox::{Mailboxes, Surroundings};
use super::backend::{Backend, Directory, Servers, Translation};
use super::hints::Hints;
use super::listen::bind::{Binder, BoundAddress};
use super::process::ProcessState;
use super::service::Service;
use super::snapshot::Snapshot;
use super::telemetry::Telemetry;
use crate::config::{Config, Entry, Listener, Logins, Roots};
use crate::device::Devices;
use crate::diagnostic::Diagnostic;
use crate::mode::Mode;
use crate::spool::Spool;
use crate::state;
use crate::submission::SpoolUse;
use crate::token::{Store, Tokens};
use crate::transport::downstream::Acceptor;
use crate::transport::downstream::certificate::{self, Loaded};
use crate::transport::upstream::{MailServer, Server};

/// A configuration that is ready to run.
pub struct Prepared {
    /// The service of each listener.
    pub services: Vec<PreparedService>,
    pub(super) directory: Option<Arc<Directory>>,
    pub(super) servers: Servers,
    /// Servers that connections are kept warm for.
    pub(super) warm: Vec<Arc<Server>>,
}

/// A listener's service with the addresses that are bound for it.
pub struct PreparedService {
    pub(super) service: Arc<Service>,
    pub(super) bound: Vec<BoundAddress>,
}

impl PreparedService {
    /// The listener as configured.
    pub fn listener(&self) -> &Listener {
        &self.service.listener
    }

    /// Returns whether an address is open already: packetboat or systemd listens there.
    pub fn is_open_already(&self, address: SocketAddr) -> bool {
        self.bound.iter().any(|bound| bound.address == address && bound.sockets.is_empty())
    }

    /// The listener's addresses, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }
}

/// Loads every certificate and all roots and binds every address. The proxy that runs keeps its addresses, and what has
/// not changed is taken over from it.
///
/// # Errors
/// Everything that is wrong, not just the first.
pub fn open(
    config: &Config,
    mode: Mode,
    process: &ProcessState,
    before: Option<&Snapshot>,
) -> Result<Prepared, Vec<Diagnostic>> {
    let mut opening = Opening { config, mode, process, before, diagnostics: Vec::new() };
    let certificates = opening.certificates();
    let servers = servers(config, before, &mut opening.diagnostics);
    let directory = opening.directory(&servers);
    opening.spool();
    let parts = Parts { certificates, servers: &servers, directory: directory.as_ref() };
    let services = config.listeners.iter().filter_map(|listener| opening.service(listener, &parts)).collect();
    if !opening.diagnostics.is_empty() {
        return Err(opening.diagnostics);
    }
    let warm = warm(config, &servers);
    Ok(Prepared { services, directory, servers, warm })
}

/// A configuration that is being prepared, with its diagnostics so far.
struct Opening<'a> {
    config: &'a Config,
    mode: Mode,
    process: &'a ProcessState,
    /// The running proxy, if there is one.
    before: Option<&'a Snapshot>,
    diagnostics: Vec<Diagnostic>,
}

/// The opened parts that listeners refer to by name.
struct Parts<'a> {
    certificates: BTreeMap<&'a String, Loaded>,
    servers: &'a Servers,
    directory: Option<&'a Arc<Directory>>,
}

impl<'a> Opening<'a> {
    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn certificates(&mut self) -> BTreeMap<&'a String, Loaded> {
        let mut certificates = BTreeMap::new();
        for (name, certificate) in &self.config.certificates {
            match certificate::load(certificate, &self.config.state_directory, name, self.mode) {
                Ok(loaded) => drop(certificates.insert(name, loaded)),
                Err(error) => self.report(Diagnostic::from(error).below(format_args!("certificate.{name}"))),
            }
        }
        certificates
    }

    /// Devices, mailboxes and tokens, where a listener translates logins.
    fn directory(&mut self, servers: &Servers) -> Option<Arc<Directory>> {
        let listener = self.config.listeners.iter().find(|listener| listener.logins == Logins::Translate)?;
        if self.config.devices.is_empty() {
            self.report(without_devices(listener));
            return None;
        }
        let before = self.before.and_then(|before| before.directory.as_ref());
        let devices = before.map(|before| before.devices.as_ref());
        let devices = Devices::new(self.config, &self.process.known, devices);
        let (before_tokens, fleet) = (before.map(|before| before.tokens.as_ref()), self.process.fleet.as_ref());
        let tokens = Tokens::open(self.config, self.mode, before_tokens, fleet);
        match (devices, tokens) {
            (Ok(devices), Ok(tokens)) => {
                let before = before.map(|before| &before.mailboxes);
                let slots = self.process.fleet.as_ref().map(|fleet| fleet.slots());
                let surroundings = Surroundings { inventory: Some(&self.process.inventory), slots };
                let mailboxes = Mailboxes::new(self.config, &tokens, servers, before, surroundings);
                Some(Arc::new(Directory { devices: Arc::new(devices), mailboxes, tokens: Arc::new(tokens) }))
            }
            (devices, tokens) => {
                self.diagnostics.extend([devices.err(), tokens.err()].into_iter().flatten().flatten());
                None
            }
        }
    }

    /// Opens the spool where a listener uses it, or where it has messages from before.
    fn spool(&mut self) {
        let Config { spool, state_directory, store_key, .. } = self.config;
        if !self.config.uses_spool() && !Spool::has_messages(&spool.directory) {
            return;
        }
        let key = match Store::key(state_directory, store_key.as_deref(), self.mode) {
            Ok(key) => key,
            Err(error) => {
                let message = format_args!("messages are sealed with the store's key: {error}");
                return self.report(Diagnostic::new("store_key", message));
            }
        };
        if self.mode == Mode::DryRun {
            if let Err(error) = state::could_make_directory(&spool.directory) {
                self.report(Diagnostic::new("spool.directory", error));
            }
            return;
        }
        match self.process.spool.open(spool, &key) {
            Ok(()) => {}
            Err(error) if error.passes() => {
                warn!(
                    "the spool is not open, and messages only stream: {error}; mend it: packetboat tries again with each \
                     message, and every minute"
                );
                self.process.spool.open_later(spool, &key, &error);
            }
            Err(error) => self.report(Diagnostic::new("spool.directory", error)),
        }
    }

    fn service(&mut self, listener: &Listener, parts: &Parts<'_>) -> Option<PreparedService> {
        let bound = self.bind(listener);
        let acceptor = match listener.entry {
            Entry::Plaintext => None,
            Entry::Implicit | Entry::StartTls | Entry::Auto => {
                Some(self.acceptor(listener, parts.certificates.get(&listener.certificate)?)?)
            }
        };
        let (process, limits) = (self.process, self.config.limits);
        let logins = match &listener.logins {
            Logins::PassThrough(upstream) => {
                let server = parts.servers.get(upstream)?.of(listener.protocol)?;
                Backend::PassThrough(process.pass_through.to(server, &limits))
            }
            Logins::Translate => Backend::Translate(Translation::new(Arc::clone(parts.directory?), listener.protocol)),
            Logins::Observe => Backend::Observe,
        };
        let telemetry = Telemetry::new(listener, &process.metrics, &process.inventory, &process.quota);
        let connections = Arc::clone(&process.connections);
        let hints = Hints::new(self.config, listener, parts.certificates.get(&listener.certificate));
        let spool = (listener.spool == SpoolUse::Fallback).then(|| Arc::clone(&process.spool));
        let (listener, logins) = (listener.clone(), Arc::new(logins));
        let parking = Arc::clone(&process.parking);
        let service = Service { listener, limits, acceptor, logins, connections, telemetry, spool, parking, hints };
        Some(PreparedService { service: Arc::new(service), bound })
    }

    fn bind(&mut self, listener: &Listener) -> Vec<BoundAddress> {
        let (inherited, in_use) = (&self.process.inherited, self.before.map(|before| &before.addresses));
        let binder = Binder { config: self.config, mode: self.mode, inherited, in_use };
        let mut bound = Vec::new();
        for &address in &listener.listen {
            match binder.bind(listener, address) {
                Ok(address) => bound.extend(address),
                Err(message) => self.report(Diagnostic::new(format!("listener.{}.listen", listener.name), message)),
            }
        }
        bound
    }

    /// The TLS acceptor of a listener. An unchanged one goes on, so that devices can resume their TLS sessions behind a
    /// reload.
    fn acceptor(&mut self, listener: &Listener, certificate: &Loaded) -> Option<Arc<Acceptor>> {
        let running = self.before.and_then(|before| before.acceptors.get(&listener.name));
        if let Some(same) = running.filter(|running| running.is_of(&listener.tls, certificate)) {
            return Some(Arc::clone(same));
        }
        match Acceptor::new(&listener.tls, certificate) {
            Ok(acceptor) => Some(Arc::new(acceptor)),
            Err(message) => {
                self.report(Diagnostic::new(format!("listener.{}.certificate", listener.name), message));
                None
            }
        }
    }
}

/// The mail servers. An unchanged server goes on with its warm connections, unless its roots are files: these may have
/// changed under the same name.
pub(super) fn servers(config: &Config, before: Option<&Snapshot>, diagnostics: &mut Vec<Diagnostic>) -> Servers {
    let mut servers = BTreeMap::new();
    for (name, upstream) in &config.upstreams {
        let running = before.filter(|before| {
            before.limits().of_servers() == config.limits.of_servers() && upstream.roots == Roots::Bundled
        });
        let same = running.and_then(|before| before.servers.get(name)).filter(|server| server.is_of(upstream));
        if let Some(server) = same {
            servers.insert(name.clone(), Arc::clone(server));
            continue;
        }
        match MailServer::new(upstream, &config.limits) {
            Ok(server) => drop(servers.insert(name.clone(), Arc::new(server))),
            Err(found) => diagnostics.push(found.below(format_args!("upstream.{name}"))),
        }
    }
    servers
}

fn without_devices(listener: &Listener) -> Diagnostic {
    let message = "no device could log in, because there is no [[device]]: write one with login, passwords and account, \
                   as config/packetboat.toml shows; or set logins = \"pass-through\" in front of a server that takes \
                   passwords, or observe = true to take inventory first";
    Diagnostic::of_file(format!("listener.{}.logins", listener.name), message)
}

/// The servers that connections are to be kept warm for.
fn warm(config: &Config, servers: &Servers) -> Vec<Arc<Server>> {
    let mut wanted = BTreeSet::new();
    for listener in &config.listeners {
        match &listener.logins {
            Logins::PassThrough(upstream) => wanted.extend([(upstream, listener.protocol)]),
            Logins::Translate => {
                wanted.extend(config.accounts.values().map(|account| (&account.upstream, listener.protocol)));
            }
            Logins::Observe => {}
        }
    }
    let server = |(name, protocol)| Some(Arc::clone(servers.get(name)?.of(protocol)?));
    wanted.into_iter().filter_map(server).filter(|server| server.is_kept_warm()).collect()
}
