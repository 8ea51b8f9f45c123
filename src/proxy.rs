//! Listening: each listener with its limits, its TLS and its mail server; each connection a task of its own.

mod connection;
mod door;
mod driver;
mod limits;
mod record;
mod relay;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, error, warn};

use crate::config::{Config, Entry, Limits, Listener};
use crate::failure::{Failure, Kind};
use crate::lifecycle::{Lifecycle, Phase};
use crate::transport::downstream::Acceptor;
use crate::transport::downstream::certificate::{self, Making};
use crate::transport::host::{self, Program};
use crate::transport::upstream::Server;
use crate::transport::{listen, tune};
use door::Door;
use limits::Connections;

/// A door, and the sockets it is reached by.
pub struct Opened {
    door: Arc<Door>,
    sockets: Vec<TcpListener>,
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
    found
}

/// Loads every certificate and all roots and binds every address; reports all that is wrong, not just the first.
///
/// # Errors
/// Each obstacle.
pub fn open(config: &Config, making: Making) -> Result<Vec<Opened>, Vec<Obstacle>> {
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
    let mut servers = BTreeMap::new();
    for (name, upstream) in &config.upstreams {
        match Server::new(upstream, &config.limits) {
            Ok(server) => drop(servers.insert(name, Arc::new(server))),
            Err((key, message)) => obstacles.push(Obstacle { key: format!("upstream.{name}.{key}"), message }),
        }
    }
    let mut opened = Vec::new();
    for listener in &config.listeners {
        let sockets = bind(listener, making, &mut obstacles);
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
        let Some(server) = servers.get(&listener.upstream).map(Arc::clone) else { continue };
        let door = Door { listener: listener.clone(), limits: config.limits, acceptor, server };
        opened.push(Opened { door: Arc::new(door), sockets });
    }
    if obstacles.is_empty() { Ok(opened) } else { Err(obstacles) }
}

impl Opened {
    /// The listener as configured.
    pub fn listener(&self) -> &Listener {
        &self.door.listener
    }

    /// Where it listens, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

/// Takes connections until the lifecycle says otherwise. Returns at once; each socket is served by a task.
pub fn serve(opened: Vec<Opened>, limits: &Limits, lifecycle: &Lifecycle) {
    let connections = Connections::new(limits.connections, limits.connections_per_source);
    for Opened { door, sockets } in opened {
        for socket in sockets {
            tokio::spawn(accept(socket, Arc::clone(&door), Arc::clone(&connections), lifecycle.clone()));
        }
    }
}

fn bind(listener: &Listener, making: Making, obstacles: &mut Vec<Obstacle>) -> Vec<TcpListener> {
    let mut sockets = Vec::new();
    for &address in &listener.listen {
        let error = match listen(address) {
            Ok(socket) => {
                sockets.push(socket);
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

async fn accept(socket: TcpListener, door: Arc<Door>, connections: Arc<Connections>, mut lifecycle: Lifecycle) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = lifecycle.reached(Phase::Draining) => return,
        };
        match accepted {
            Ok((stream, source)) => admit(stream, source, &door, &connections, &lifecycle),
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
) {
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let admitted = if door.listener.allowed_networks.contain(source.ip()) {
        connections.admit(source.ip())
    } else {
        Err(Failure::new(Kind::NotAllowed, format!("add {} to it if this is a device of yours", source.ip())))
    };
    match admitted {
        Ok(admitted) => {
            if let Err(error) = tune(&stream, door.limits.keep_alive) {
                debug!(%source, %error, "gone before it was served");
                return;
            }
            tokio::spawn(connection::serve(stream, source, Arc::clone(door), admitted, lifecycle.clone()));
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
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
