//! Listening: each listener with its limits, its TLS and its mail server; each connection a task of its own.

mod backend;
mod connection;
mod current_service;
mod limits;
mod listen;
mod login_check;
mod registry;
mod running;
mod service;
mod telemetry;
mod warm;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, Entry, Listener, Logins, Roots};
use crate::device::{Devices, KnownSources};
use crate::diagnostic::Diagnostic;
use crate::inventory::Inventory;
use crate::metrics::Metrics;
use crate::mode::Mode;
use crate::protocol::Protocol;
use crate::token::{self, Tokens};
use crate::transport::downstream::Acceptor;
use crate::transport::downstream::certificate::{self, Loaded};
use crate::transport::upstream::{self, Server};
use crate::transport::{http, serves, takes_ipv4_too};
use backend::mailbox::Mailboxes;
use backend::pass_through::PassThroughState;
use backend::{Backend, Directory};
use limits::Connections;
use limits::log_quota::LogQuota;
use listen::bind::{self, BoundAddress};
pub use listen::bind::{is_beside_own, why_not_bound};
use listen::worker;
pub use listen::worker::Heartbeat;
pub use login_check::LoginChecks;
use registry::Registry;
pub use registry::Revoked;
pub use running::{RunningProxy, Snapshot};
use service::Service;
use telemetry::Telemetry;

/// What outlives every configuration: what is counted, who was seen, who is connected, and sockets that the service
/// manager has handed over.
#[derive(Clone)]
pub struct ProcessState {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who was seen.
    pub inventory: Arc<Inventory>,
    /// Where devices have logged in from.
    pub known: Arc<KnownSources>,
    connections: Arc<Connections>,
    pass_through: Arc<PassThroughState>,
    /// What the log takes of it.
    quota: Arc<LogQuota>,
    /// The connections that a reload looks at.
    registry: Arc<Registry>,
    inherited: Arc<[TcpListener]>,
}

/// All that is open: the services, and what their logins are translated with.
pub struct Prepared {
    /// What listens.
    pub services: Vec<PreparedService>,
    directory: Option<(Arc<Directory>, Arc<Tokens>)>,
    servers: Servers,
    /// Servers with the protocols that connections are to be kept ready for.
    warm: Vec<(Arc<Server>, Protocol)>,
}

/// A service, and where it is reached.
pub struct PreparedService {
    service: Arc<Service>,
    bound: Vec<BoundAddress>,
}

/// The mail servers by name, with their roots loaded.
type Servers = BTreeMap<String, Arc<Server>>;

/// What does not keep the proxy from starting, but should be known.
pub fn remarks(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, certificate) in &config.certificates {
        let remarks = certificate::remarks(certificate, &config.state_directory, name);
        found.extend(remarks.into_iter().map(|one| one.below(format_args!("certificate.{name}"))));
    }
    found.extend(remarks_on_roots(config));
    found.extend(token::remarks(config));
    found
}

fn remarks_on_roots(config: &Config) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut add = |key: String, roots: &Roots, hosts: &[String]| {
        let remarks = upstream::remarks(roots, hosts);
        found.extend(remarks.into_iter().map(|message| Diagnostic::new(&key, message)));
    };
    for (name, one) in &config.upstreams {
        let hosts =
            one.server_name.clone().map_or_else(|| vec![one.host.clone(), one.pop3_host.clone()], |name| vec![name]);
        add(format!("upstream.{name}.roots"), &one.roots, &hosts);
    }
    for (name, one) in &config.identities {
        let hosts = [&one.token_endpoint, &one.device_endpoint].into_iter().filter_map(|url| http::host_of(url));
        add(format!("identity.{name}.roots"), &one.roots, &hosts.collect::<Vec<_>>());
    }
    found
}

impl ProcessState {
    /// Nothing counted, nobody seen, nothing handed over.
    ///
    /// # Errors
    /// See [`Metrics::new`].
    pub fn new(config: &Config) -> Result<Self, String> {
        Self::with(config, Vec::new())
    }

    /// The same with sockets that the service manager has handed over.
    ///
    /// # Errors
    /// See [`Metrics::new`].
    pub fn with(config: &Config, inherited: Vec<TcpListener>) -> Result<Self, String> {
        let known = Arc::default();
        Ok(Self {
            metrics: Arc::new(Metrics::new()?),
            inventory: Inventory::new(config.inventory),
            connections: Connections::new(&config.limits, &known),
            pass_through: Arc::new(PassThroughState::new(&config.limits, &known)),
            known,
            quota: Arc::new(LogQuota::new(&config.log)),
            registry: Arc::default(),
            inherited: inherited.into(),
        })
    }

    /// Tells what the log did not take, some seconds later; call it every few seconds.
    pub fn report_suppressed_lines(&self) {
        self.quota.report(Instant::now());
    }

    /// The same at the end, with nothing more to come.
    pub fn report_all_suppressed_lines(&self) {
        self.quota.report_all(Instant::now());
    }

    /// Sockets that were handed over, and that no listener has.
    pub fn unclaimed(&self, config: &Config) -> Vec<SocketAddr> {
        self.idle_sockets(config).filter_map(|socket| socket.local_addr().ok()).collect()
    }

    fn idle_sockets<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a TcpListener> {
        let wanted = config.listeners.iter().flat_map(|listener| &listener.listen).chain(&config.admin.listen);
        let claimed: Vec<SocketAddr> = wanted
            .filter_map(|address| self.handed_over(*address).and_then(|socket| socket.local_addr().ok()))
            .collect();
        self.inherited.iter().filter(move |socket| !socket.local_addr().is_ok_and(|own| claimed.contains(&own)))
    }

    /// The socket that was handed over for an address: bound to the address itself, or, for `0.0.0.0`, to `[::]` for both
    /// families.
    pub fn handed_over(&self, address: SocketAddr) -> Option<&TcpListener> {
        let mut sockets = self.inherited.iter();
        let own = sockets.clone().find(|socket| socket.local_addr().is_ok_and(|own| own == address));
        own.or_else(|| sockets.find(|socket| serves(socket, address)))
    }

    /// What to write where the sockets that were handed over for a port are for other addresses than this one.
    pub fn handed_over_otherwise(&self, address: SocketAddr) -> Option<String> {
        let sockets = self.inherited.iter().filter(|socket| {
            socket.local_addr().is_ok_and(|own| own.port() == address.port()) && !serves(socket, address)
        });
        let shown: Vec<String> = sockets
            .filter_map(|socket| {
                let families = if takes_ipv4_too(socket) { " (IPv6 and IPv4)" } else { "" };
                Some(format!("{}{families}", socket.local_addr().ok()?))
            })
            .collect();
        (!shown.is_empty()).then(|| {
            format!(
                "the service manager has handed over {} for this port: write that address here, or have its socket unit say \
                 ListenStream={address} and BindIPv6Only=ipv6-only",
                shown.join(" and ")
            )
        })
    }
}

/// Loads every certificate and all roots and binds every address; reports all that is wrong, not just the first. What
/// runs already keeps its places, and what has not changed is taken over from it.
///
/// # Errors
/// Each diagnostic.
pub fn open(
    config: &Config,
    making: Mode,
    process: &ProcessState,
    before: Option<&Snapshot>,
) -> Result<Prepared, Vec<Diagnostic>> {
    let mut diagnostics = Vec::new();
    let certificates = certificates(config, making, &mut diagnostics);
    let servers = servers(config, before, &mut diagnostics);
    let translating = config.listeners.iter().find(|listener| listener.logins == Logins::Translate);
    let directory = translating.and_then(|listener| {
        if config.devices.is_empty() {
            diagnostics.push(without_devices(listener));
            return None;
        }
        directory(config, making, &servers, process, before).map_err(|found| diagnostics.extend(found)).ok()
    });
    let mut opened = Vec::new();
    for listener in &config.listeners {
        let bound = bind::bind_all(config, listener, making, process, before, &mut diagnostics);
        let acceptor = match (listener.entry, certificates.get(&listener.certificate)) {
            (Entry::Plaintext, _) => None,
            (Entry::Implicit | Entry::StartTls | Entry::Auto, None) => continue,
            (Entry::Implicit | Entry::StartTls | Entry::Auto, Some(certificate)) => {
                match Acceptor::new(&listener.tls, certificate) {
                    Ok(acceptor) => Some(acceptor),
                    Err(message) => {
                        diagnostics.push(Diagnostic::new(format!("listener.{}.certificate", listener.name), message));
                        continue;
                    }
                }
            }
        };
        let logins = match &listener.logins {
            Logins::PassThrough(upstream) => servers
                .get(upstream)
                .map(|server| Backend::PassThrough(process.pass_through.to(server, &config.limits))),
            Logins::Translate => directory.as_ref().map(|(directory, _)| Backend::Translate(Arc::clone(directory))),
            Logins::Observe => Some(Backend::Observe),
        };
        let Some(logins) = logins else { continue };
        let service =
            Arc::new(Service::new(listener, config.limits, acceptor, logins, Telemetry::new(listener, process)));
        opened.push(PreparedService { service, bound });
    }
    let warm = warm(config, &servers);
    if diagnostics.is_empty() { Ok(Prepared { services: opened, directory, servers, warm }) } else { Err(diagnostics) }
}

fn certificates<'a>(
    config: &'a Config,
    making: Mode,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<&'a String, Loaded> {
    let mut certificates = BTreeMap::new();
    for (name, certificate) in &config.certificates {
        match certificate::load(certificate, &config.state_directory, name, making) {
            Ok(loaded) => drop(certificates.insert(name, loaded)),
            Err(found) => diagnostics.push(found.below(format_args!("certificate.{name}"))),
        }
    }
    certificates
}

/// Which servers are reached by which protocol, where connections are to be ready.
fn warm(config: &Config, servers: &Servers) -> Vec<(Arc<Server>, Protocol)> {
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
    let server = |(name, protocol)| Some((Arc::clone(servers.get(name)?), protocol));
    wanted.into_iter().filter_map(server).filter(|(server, _)| server.warm_connections() > 0).collect()
}

/// The mail servers. One that has not changed goes on, with its connections that are ready; one whose roots are files may
/// have changed without a word.
fn servers(config: &Config, before: Option<&Snapshot>, diagnostics: &mut Vec<Diagnostic>) -> Servers {
    let mut servers = BTreeMap::new();
    for (name, upstream) in &config.upstreams {
        let running = before.filter(|before| {
            before.limits().of_servers() == config.limits.of_servers() && upstream.roots == Roots::Bundled
        });
        let same = running.and_then(|before| before.servers().get(name)).filter(|server| server.is_of(upstream));
        if let Some(server) = same {
            servers.insert(name.clone(), Arc::clone(server));
            continue;
        }
        match Server::new(upstream, &config.limits) {
            Ok(server) => drop(servers.insert(name.clone(), Arc::new(server))),
            Err(found) => diagnostics.push(found.below(format_args!("upstream.{name}"))),
        }
    }
    servers
}

fn without_devices(listener: &Listener) -> Diagnostic {
    let message = "nobody could log in, because there is no [[device]]: write one with login, passwords and account, as \
                   config/packetboat.toml shows; or set logins = \"pass-through\" in front of a server that takes \
                   passwords, or observe = true to take inventory first";
    Diagnostic::new(format!("listener.{}.logins", listener.name), message)
}

/// Devices, mailboxes and tokens.
fn directory(
    config: &Config,
    making: Mode,
    servers: &Servers,
    process: &ProcessState,
    before: Option<&Snapshot>,
) -> Result<(Arc<Directory>, Arc<Tokens>), Vec<Diagnostic>> {
    let (directory, tokens) =
        before.and_then(Snapshot::directory).map_or((None, None), |(one, two)| (Some(one), Some(two)));
    let devices = Devices::new(config, &process.known, directory.map(|directory| directory.devices.as_ref()));
    let tokens = Tokens::open(config, making, tokens.map(Arc::as_ref));
    let (devices, tokens) = match (devices, tokens) {
        (Ok(devices), Ok(tokens)) => (devices, Arc::new(tokens)),
        (devices, tokens) => {
            return Err([devices.err(), tokens.err()].into_iter().flatten().flatten().collect());
        }
    };
    let mailboxes = Mailboxes::new(config, &tokens, servers, directory.map(|directory| &directory.mailboxes));
    Ok((Arc::new(Directory { devices: Arc::new(devices), mailboxes }), tokens))
}

/// Open files beside those of connections: of each worker's event loop, of sockets that listen, of connections that are
/// kept ready or told why they are refused.
pub fn other_files(config: &Config) -> usize {
    let addresses: usize = config.listeners.iter().map(|listener| listener.listen.len()).sum();
    let warm: usize = config.upstreams.values().map(|upstream| 2 * upstream.warm_connections).sum();
    worker::count() * (FILES_OF_A_WORKER + addresses) + warm + limits::REFUSED
}

impl PreparedService {
    /// The listener as configured.
    pub fn listener(&self) -> &Listener {
        &self.service.listener
    }

    /// Where it listens, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }
}

/// epoll and its copy, and what wakes it.
const FILES_OF_A_WORKER: usize = 6;
