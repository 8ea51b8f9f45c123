//! Accepting connections: each is counted, and refused before anything is spent on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::debug;

use crate::lifecycle::{Lifecycle, Phase};
use crate::proxy::connection::Accepted;
use crate::proxy::connection::refuse::refuse;
use crate::proxy::current_service::CurrentService;
use crate::proxy::limits::{Connections, Peer};
use crate::proxy::registry::Registry;
use crate::transport::tune;

/// The front of one address: its service, and the counters and registry of its connections.
#[derive(Clone)]
pub(in crate::proxy) struct Frontend {
    pub(in crate::proxy) current: Arc<CurrentService>,
    pub(in crate::proxy) connections: Arc<Connections>,
    pub(in crate::proxy) registry: Arc<Registry>,
    pub(in crate::proxy) lifecycle: Lifecycle,
    /// True if the service manager has the sockets as well: they outlive this process.
    pub(in crate::proxy) is_inherited: bool,
}

/// Accepts connections at an address until it is closed or the drain begins. Serves those that are allowed.
pub(in crate::proxy) async fn accept(socket: TcpListener, frontend: Frontend, serve: impl Fn(TcpStream, Accepted)) {
    let (mut open, mut lifecycle) = (frontend.current.open.clone(), frontend.lifecycle.clone());
    let mut keep_alive = frontend.current.load().limits.keep_alive;
    let admit = |stream, source| {
        frontend.admit(stream, source).into_iter().for_each(|(stream, accepted)| serve(stream, accepted))
    };
    loop {
        let accepted = tokio::select! {
            biased;
            // Connections that wait in a socket that outlives this process are for the next process.
            () = lifecycle.reached(Phase::Draining) => if frontend.is_inherited { return } else { break },
            () = open.reached(Phase::Draining) => break,
            accepted = socket.accept() => accepted,
        };
        let service = frontend.current.load();
        match accepted {
            Ok((stream, source)) => {
                if service.limits.keep_alive != keep_alive {
                    keep_alive = service.limits.keep_alive;
                    // Accepted sockets inherit the setting. Failures concern connections that are gone.
                    let _ = tune(&socket, keep_alive).and_then(|()| tune(&stream, keep_alive));
                }
                admit(stream, source);
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(listener = service.listener.name, %error, "not accepted")
            }
            // File descriptors or memory ran out: a pause lets connections end and free some.
            Err(error) => {
                service.telemetry.accept_paused(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let Ok(socket) = socket.into_std() else { return };
    accept_queued(&socket, admit);
}

/// Accepts the connections that wait in the kernel's queue, which would be reset with the socket. A balancer, for one, has
/// already sent a device there. The socket is asked itself, because the event loop may not know of them yet.
fn accept_queued(socket: &std::net::TcpListener, admit: impl Fn(TcpStream, SocketAddr)) {
    for _ in 0..QUEUE {
        match socket.accept() {
            Ok((stream, source)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                // A stream that the event loop does not take is closed.
                stream.into_iter().for_each(|stream| admit(stream, source));
            }
            Err(error) if is_of_one_connection(&error) => {}
            // The queue is empty.
            Err(_) => return,
        }
    }
}

impl Frontend {
    /// Admits or refuses a connection, before anything is spent on it.
    fn admit(&self, stream: TcpStream, source: SocketAddr) -> Option<(TcpStream, Accepted)> {
        let service = self.current.load();
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let peer = Peer { id: self.connections.next_id(), source };
        // The PROXY header, which names the balancer's client, is read later.
        let admitted = if service.listener.proxy_protocol.contain(source.ip()) {
            self.connections.admit()
        } else {
            service.admits(source.ip()).and_then(|()| self.connections.admit()).and_then(|mut admitted| {
                admitted.assign_source(source.ip())?;
                Ok(admitted)
            })
        };
        match admitted {
            Ok(admitted) => {
                let (current, registry) = (Arc::clone(&self.current), Arc::clone(&self.registry));
                let lifecycle = self.lifecycle.clone();
                Some((stream, Accepted { peer, service, current, registry, admitted, lifecycle }))
            }
            Err(failure) => {
                refuse(stream, &service, &self.connections, peer, &failure);
                None
            }
        }
    }
}

/// Closes every connection to a socket that no listener has, until a reload.
pub(in crate::proxy) async fn refuse_all(socket: TcpListener, mut lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            biased;
            () = lifecycle.reached(Phase::Draining) => return,
            accepted = socket.accept() => match accepted {
                Ok((stream, source)) => {
                    debug!(%source, "closed: no listener has the socket that it connected to");
                    drop(stream);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// More connections than the kernel's queue holds.
const QUEUE: usize = 8192;
