//! Who comes in: accepted, counted, and refused before anything is spent on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use super::worker::Worker;
use crate::lifecycle::{Lifecycle, Phase};
use crate::proxy::connection::Accepted;
use crate::proxy::connection::refuse::refuse;
use crate::proxy::current_service::CurrentService;
use crate::proxy::limits::Connections;
use crate::proxy::limits::log_quota::LogLine;
use crate::transport::tune;

/// Accepts at a place until it is closed, or the drain begins.
pub(in crate::proxy) async fn accept(
    socket: TcpListener,
    current: Arc<CurrentService>,
    connections: Arc<Connections>,
    mut lifecycle: Lifecycle,
    worker: Worker,
) {
    let mut open = current.open.clone();
    let mut keep_alive = current.service().limits.keep_alive;
    loop {
        let accepted = tokio::select! {
            biased;
            // A queue that outlives this process is the next one's.
            () = lifecycle.reached(Phase::Draining) => return,
            () = open.reached(Phase::Draining) => break,
            accepted = socket.accept() => accepted,
        };
        let service = current.service();
        match accepted {
            Ok((stream, source)) => {
                if service.limits.keep_alive != keep_alive {
                    keep_alive = service.limits.keep_alive;
                    // For those to come, by inheritance, and for this one; one that is gone does without.
                    let _ = tune(&socket, keep_alive).and_then(|()| tune(&stream, keep_alive));
                }
                admit(stream, source, &current, &connections, &lifecycle, &worker);
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(listener = service.listener.name, %error, "not accepted")
            }
            // Out of file descriptors or memory: a pause lets connections end and give some back.
            Err(error) => {
                if service.telemetry.may_write((LogLine::Pause, false), "open_files", None) {
                    error!(listener = service.listener.name, %error, "cannot accept connections; trying again in a second");
                }
                service.telemetry.process.metrics.accept_paused(&service.listener.name);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who has come already, and waits in the kernel's queue, is still served.
    for _ in 0..QUEUE {
        let Ok(Ok((stream, source))) = timeout(Duration::ZERO, socket.accept()).await else { return };
        admit(stream, source, &current, &connections, &lifecycle, &worker);
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

/// Refuses who may not come before anything is spent on them.
fn admit(
    stream: TcpStream,
    source: SocketAddr,
    current: &Arc<CurrentService>,
    connections: &Arc<Connections>,
    lifecycle: &Lifecycle,
    worker: &Worker,
) {
    let service = current.service();
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    // Whom a balancer speaks for is not known yet.
    let admitted = if service.listener.proxy_protocol.contain(source.ip()) {
        connections.admit()
    } else {
        service.admits(source.ip()).and_then(|()| connections.admit()).and_then(|mut admitted| {
            admitted.assign_source(source.ip())?;
            Ok(admitted)
        })
    };
    match admitted {
        Ok(admitted) => {
            let (current, lifecycle) = (Arc::clone(current), lifecycle.clone());
            let accepted = Accepted { source, service, current, admitted, lifecycle };
            worker.serve(stream, accepted);
        }
        Err(failure) => refuse(stream, &service, connections, source, &failure),
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
