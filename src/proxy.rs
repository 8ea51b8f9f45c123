//! Listening: each listener with its limits, its TLS and its mail server; each connection a task of its own.

mod connection;
mod door;
mod driver;
mod limits;
mod mailbox;
mod opened;
mod record;
mod relay;
mod trial;
mod warm;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, error, warn};

use crate::config::{Config, Entry, Limits, Listener, Logins, Protocol};
use crate::device::Devices;
use crate::failure::{Failure, Kind};
use crate::lifecycle::{Lifecycle, Phase};
use crate::token::{self, Tokens};
use crate::transport::downstream::Acceptor;
use crate::transport::downstream::certificate::{self, Making};
use crate::transport::host::{self, Program};
use crate::transport::listen;
use crate::transport::upstream::Server;
use door::{Access, Door, DoorLogins};
use limits::Connections;
use mailbox::Mailboxes;
pub use trial::Trials;
use worker::{Guest, Here, Workers};

/// All that is open: the doors, and the tokens that translate their logins.
pub struct Opened {
    /// What listens.
    pub doors: Vec<OpenDoor>,
    tokens: Option<Arc<Tokens>>,
    /// Servers with the protocols that connections are to be kept ready for.
    warm: Vec<(Arc<Server>, Protocol)>,
}

/// A door, and the sockets it is reached by.
pub struct OpenDoor {
    door: Arc<Door>,
    /// For each address, one for each worker.
    sockets: Vec<Vec<StdListener>>,
}

/// All that runs. Dropping it ends every connection at once.
pub struct Serving {
    tokens: Option<Arc<Tokens>>,
    _workers: Workers,
}

/// Something that keeps the proxy from starting.
#[derive(Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The key concerned, as `certificate.default.chain`.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// What does not keep the proxy from starting, but should be known.
pub fn remarks(config: &Config) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for (name, certificate) in &config.certificates {
        for (key, message) in certificate::remarks(certificate, &config.state_directory, name) {
            found.push(Obstacle { key: format!("certificate.{name}.{key}"), message });
        }
    }
    found.extend(token::remarks(config).into_iter().map(|(key, message)| Obstacle { key, message }));
    found
}

/// Loads every certificate and all roots and binds every address; reports all that is wrong, not just the first.
///
/// # Errors
/// Each obstacle.
pub fn open(config: &Config, making: Making) -> Result<Opened, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut certificates = BTreeMap::new();
    for (name, certificate) in &config.certificates {
        match certificate::load(certificate, &config.state_directory, name, making) {
            Ok(loaded) => drop(certificates.insert(name, loaded)),
            Err(fault) => {
                let key = format!("certificate.{name}.{}", fault.key).trim_end_matches('.').to_owned();
                obstacles.push(Obstacle { key, message: fault.message });
            }
        }
    }
    let servers = servers(config, &mut obstacles);
    let access = access(config, making, &servers, &mut obstacles);
    let mut opened = Vec::new();
    for listener in &config.listeners {
        let sockets = bind(listener, &config.limits, making, &mut obstacles);
        let acceptor = match (listener.entry, certificates.get(&listener.certificate)) {
            (Entry::Plaintext, _) => None,
            (Entry::Implicit | Entry::StartTls | Entry::Auto, None) => continue,
            (Entry::Implicit | Entry::StartTls | Entry::Auto, Some(certificate)) => {
                match Acceptor::new(&listener.tls, certificate) {
                    Ok(acceptor) => Some(acceptor),
                    Err(message) => {
                        obstacles.push(Obstacle { key: format!("listener.{}.certificate", listener.name), message });
                        continue;
                    }
                }
            }
        };
        let logins = match &listener.logins {
            Logins::PassThrough(upstream) => {
                servers.get(upstream).map(|server| DoorLogins::PassThrough(Arc::clone(server)))
            }
            Logins::Translate => access.as_ref().map(|(access, _)| DoorLogins::Translate(Arc::clone(access))),
        };
        let Some(logins) = logins else { continue };
        let door = Door { listener: listener.clone(), limits: config.limits, acceptor, logins };
        opened.push(OpenDoor { door: Arc::new(door), sockets });
    }
    let tokens = access.map(|(_, tokens)| tokens);
    let warm = warm(config, &servers);
    if obstacles.is_empty() { Ok(Opened { doors: opened, tokens, warm }) } else { Err(obstacles) }
}

/// Which servers are reached by which protocol, where connections are to be ready.
fn warm(config: &Config, servers: &BTreeMap<&String, Arc<Server>>) -> Vec<(Arc<Server>, Protocol)> {
    let mut wanted = BTreeSet::new();
    for listener in &config.listeners {
        match &listener.logins {
            Logins::PassThrough(upstream) => wanted.extend([(upstream, listener.protocol)]),
            Logins::Translate => {
                wanted.extend(config.accounts.values().map(|account| (&account.upstream, listener.protocol)));
            }
        }
    }
    let server = |(name, protocol)| Some((Arc::clone(servers.get(name)?), protocol));
    wanted.into_iter().filter_map(server).filter(|(server, _)| server.warm_connections() > 0).collect()
}

/// The mail servers by name, with their roots loaded.
fn servers<'a>(config: &'a Config, obstacles: &mut Vec<Obstacle>) -> BTreeMap<&'a String, Arc<Server>> {
    let mut servers = BTreeMap::new();
    for (name, upstream) in &config.upstreams {
        match Server::new(upstream, &config.limits) {
            Ok(server) => drop(servers.insert(name, Arc::new(server))),
            Err((key, message)) => obstacles.push(Obstacle { key: format!("upstream.{name}.{key}"), message }),
        }
    }
    servers
}

/// Devices, mailboxes and tokens, where a listener translates.
fn access(
    config: &Config,
    making: Making,
    servers: &BTreeMap<&String, Arc<Server>>,
    obstacles: &mut Vec<Obstacle>,
) -> Option<(Arc<Access>, Arc<Tokens>)> {
    let listener = config.listeners.iter().find(|listener| listener.logins == Logins::Translate)?;
    if config.devices.is_empty() {
        let key = format!("listener.{}.logins", listener.name);
        let message = "nobody could log in, because there is no [[device]]: write one with login, passwords and account, as \
                       config/packetboat.toml shows; or set logins = \"pass-through\" in front of a server that takes passwords";
        obstacles.push(Obstacle { key, message: message.to_owned() });
        return None;
    }
    let told = |obstacles: &mut Vec<Obstacle>, found: Vec<(String, String)>| {
        obstacles.extend(found.into_iter().map(|(key, message)| Obstacle { key, message }));
    };
    let devices = Devices::new(config).map_err(|found| told(obstacles, found));
    let tokens = Tokens::open(config, making).map_err(|found| told(obstacles, found));
    let (devices, tokens) = (devices.ok()?, Arc::new(tokens.ok()?));
    let mailboxes = Mailboxes::new(config, &tokens, servers);
    Some((Arc::new(Access { devices: Arc::new(devices), mailboxes }), tokens))
}

/// Open files beside those of connections: of each worker's event loop, of sockets that listen, of connections that are
/// kept ready.
pub fn other_files(config: &Config) -> usize {
    let addresses: usize = config.listeners.iter().map(|listener| listener.listen.len()).sum();
    let warm: usize = config.upstreams.values().map(|upstream| 2 * upstream.warm_connections).sum();
    worker::count() * (FILES_OF_A_WORKER + addresses) + warm
}

impl OpenDoor {
    /// The listener as configured.
    pub fn listener(&self) -> &Listener {
        &self.door.listener
    }

    /// Where it listens, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|sockets| sockets.first()?.local_addr().ok()).collect()
    }
}

/// Takes connections, and keeps tokens fresh, until the lifecycle says otherwise. Returns at once: workers serve.
///
/// # Errors
/// The operating system has no threads for them.
pub fn serve(opened: Opened, limits: &Limits, lifecycle: &Lifecycle) -> io::Result<Serving> {
    let workers = Workers::start(worker::count())?;
    if let Some(tokens) = &opened.tokens {
        tokens.keep_fresh(lifecycle);
    }
    for (server, protocol) in opened.warm {
        tokio::spawn(warm::keep(server, protocol, lifecycle.clone()));
    }
    let connections = Connections::new(limits.connections, limits.connections_per_source);
    for OpenDoor { door, sockets } in opened.doors {
        for sockets in sockets {
            workers.accept(sockets, &door, &connections, lifecycle);
        }
    }
    Ok(Serving { tokens: opened.tokens, _workers: workers })
}

impl Serving {
    /// Waits for refresh tokens to reach the disk: call it last.
    pub async fn settle(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.settle().await;
        }
    }
}

fn bind(listener: &Listener, limits: &Limits, making: Making, obstacles: &mut Vec<Obstacle>) -> Vec<Vec<StdListener>> {
    let mut sockets = Vec::new();
    for &address in &listener.listen {
        let error = match listen(address, worker::count(), limits.keep_alive) {
            Ok(of_address) => {
                sockets.push(of_address);
                continue;
            }
            Err(error) => error,
        };
        let holder = (error.kind() == io::ErrorKind::AddrInUse).then(|| host::listening_program(address)).flatten();
        // Trying out a file beside the proxy that it is for is not a mistake.
        if making == Making::Tried && holder.as_ref().is_some_and(|holder| holder.name == OWN_NAME) {
            continue;
        }
        let key = format!("listener.{}.listen", listener.name);
        let message = format!("cannot listen on {address}: {}", bind_advice(address, &error, holder.as_ref()));
        obstacles.push(Obstacle { key, message });
    }
    sockets
}

fn bind_advice(address: SocketAddr, error: &io::Error, holder: Option<&Program>) -> String {
    match (error.kind(), holder) {
        (io::ErrorKind::AddrInUse, Some(Program { name, id })) => format!("the port is in use by {name}, process {id}"),
        (io::ErrorKind::AddrInUse, None) => {
            format!("the port is in use by another program (ss -ltnp 'sport = :{}')", address.port())
        }
        (io::ErrorKind::PermissionDenied, _) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; use a higher port, or grant it".to_owned()
        }
        (io::ErrorKind::AddrNotAvailable, _) => "this host does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

async fn accept(
    socket: TcpListener,
    door: Arc<Door>,
    connections: Arc<Connections>,
    mut lifecycle: Lifecycle,
    here: Here,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = lifecycle.reached(Phase::Draining) => return,
        };
        match accepted {
            Ok((stream, source)) => admit(stream, source, &door, &connections, &lifecycle, &here),
            Err(error) if is_of_one_connection(&error) => debug!(listener = door.listener.name, %error, "not accepted"),
            // Out of file descriptors or memory: a pause lets connections end and give some back.
            Err(error) => {
                error!(listener = door.listener.name, %error, "cannot accept connections; trying again in a second");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Refuses who may not come before anything is spent on them.
fn admit(
    stream: TcpStream,
    source: SocketAddr,
    door: &Arc<Door>,
    connections: &Arc<Connections>,
    lifecycle: &Lifecycle,
    here: &Here,
) {
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let admitted = if door.listener.allowed_networks.contain(source.ip()) {
        connections.admit(source.ip())
    } else {
        Err(Failure::new(Kind::NotAllowed, format!("add {} to it if this is a device of yours", source.ip())))
    };
    match admitted {
        Ok(admitted) => {
            let guest = Guest { source, door: Arc::clone(door), admitted, lifecycle: lifecycle.clone() };
            here.serve(stream, guest);
        }
        Err(failure) => {
            warn!(%source, listener = door.listener.name, reason = failure.kind.label(), "refused: {failure}")
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// As the kernel shows it for a process.
const OWN_NAME: &str = "packetboat";
/// epoll and its copy, and what wakes it.
const FILES_OF_A_WORKER: usize = 6;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
