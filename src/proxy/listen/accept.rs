//! Who comes in: accepted, counted, and refused before anything is spent on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::lifecycle::{Lifecycle, Phase};
use crate::proxy::connection::Accepted;
use crate::proxy::connection::refuse::refuse;
use crate::proxy::current_service::CurrentService;
use crate::proxy::limits::{Connections, Peer};
use crate::proxy::registry::Registry;
use crate::transport::tune;

/// One address: the service behind it, and what its connections are counted and registered in.
#[derive(Clone)]
pub(in crate::proxy) struct Frontend {
    pub(in crate::proxy) current: Arc<CurrentService>,
    pub(in crate::proxy) connections: Arc<Connections>,
    pub(in crate::proxy) registry: Arc<Registry>,
    pub(in crate::proxy) lifecycle: Lifecycle,
}

/// Accepts connections at an address until it is closed, or the drain begins, and hands on those that may come.
pub(in crate::proxy) async fn accept(socket: TcpListener, frontend: Frontend, serve: impl Fn(TcpStream, Accepted)) {
    let (mut open, mut lifecycle) = (frontend.current.open.clone(), frontend.lifecycle.clone());
    let mut keep_alive = frontend.current.load().limits.keep_alive;
    let admit = |stream, source| {
        frontend.admit(stream, source).into_iter().for_each(|(stream, accepted)| serve(stream, accepted))
    };
    loop {
        let accepted = tokio::select! {
            biased;
            // A queue that outlives this process is the next one's.
            () = lifecycle.reached(Phase::Draining) => return,
            () = open.reached(Phase::Draining) => break,
            accepted = socket.accept() => accepted,
        };
        let service = frontend.current.load();
        match accepted {
            Ok((stream, source)) => {
                if service.limits.keep_alive != keep_alive {
                    keep_alive = service.limits.keep_alive;
                    // For those to come, by inheritance, and for this one; one that is gone does without.
                    let _ = tune(&socket, keep_alive).and_then(|()| tune(&stream, keep_alive));
                }
                admit(stream, source);
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(listener = service.listener.name, %error, "not accepted")
            }
            // Out of file descriptors or memory: a pause lets connections end and give some back.
            Err(error) => {
                service.telemetry.accept_paused(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who has come already, and waits in the kernel's queue, is still served.
    for _ in 0..QUEUE {
        let Ok(Ok((stream, source))) = timeout(Duration::ZERO, socket.accept()).await else { return };
        admit(stream, source);
    }
}

impl Frontend {
    /// Refuses a connection that may not come, before anything is spent on it.
    fn admit(&self, stream: TcpStream, source: SocketAddr) -> Option<(TcpStream, Accepted)> {
        let service = self.current.load();
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let peer = Peer { id: self.connections.next_id(), source };
        // Before the PROXY header is read, the balancer's client is not known.
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

/// Closes every connection at once, for as long as nobody else has the socket.
pub(in crate::proxy) async fn refuse_all(socket: TcpListener, mut lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            biased;
            () = lifecycle.reached(Phase::Draining) => return,
            accepted = socket.accept() => match accepted {
                Ok((stream, source)) => {
                    debug!(%source, "closed: no listener has the socket that it came to");
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
/// More than can be waiting.
const QUEUE: usize = 8192;
