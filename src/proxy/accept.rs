//! Who comes in: accepted, counted, and refused before anything is spent on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use super::connection::Guest;
use super::doorway::Doorway;
use super::limits::Connections;
use super::quota::Line;
use super::refuse::refuse;
use super::worker::Here;
use crate::lifecycle::{Lifecycle, Phase};
use crate::transport::tune;

/// Accepts at a place until it is closed, or the drain begins.
pub(super) async fn accept(
    socket: TcpListener,
    doorway: Arc<Doorway>,
    connections: Arc<Connections>,
    mut lifecycle: Lifecycle,
    here: Here,
) {
    let mut open = doorway.open.clone();
    let mut keep_alive = doorway.door().limits.keep_alive;
    loop {
        let accepted = tokio::select! {
            biased;
            // A queue that outlives this process is the next one's.
            () = lifecycle.reached(Phase::Draining) => return,
            () = open.reached(Phase::Draining) => break,
            accepted = socket.accept() => accepted,
        };
        let door = doorway.door();
        match accepted {
            Ok((stream, source)) => {
                if door.limits.keep_alive != keep_alive {
                    keep_alive = door.limits.keep_alive;
                    // For those to come, by inheritance, and for this one; one that is gone does without.
                    let _ = tune(&socket, keep_alive).and_then(|()| tune(&stream, keep_alive));
                }
                admit(stream, source, &doorway, &connections, &lifecycle, &here);
            }
            Err(error) if is_of_one_connection(&error) => debug!(listener = door.listener.name, %error, "not accepted"),
            // Out of file descriptors or memory: a pause lets connections end and give some back.
            Err(error) => {
                if door.witness.may_write((Line::Pause, false), "open_files", None) {
                    error!(listener = door.listener.name, %error, "cannot accept connections; trying again in a second");
                }
                door.witness.common.metrics.paused(&door.listener.name);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who has come already, and waits in the kernel's queue, is still served.
    for _ in 0..QUEUE {
        let Ok(Ok((stream, source))) = timeout(Duration::ZERO, socket.accept()).await else { return };
        admit(stream, source, &doorway, &connections, &lifecycle, &here);
    }
}

/// Closes every connection at once, for as long as nobody else has the socket.
pub(super) async fn turn_away(socket: TcpListener, mut lifecycle: Lifecycle) {
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
    doorway: &Arc<Doorway>,
    connections: &Arc<Connections>,
    lifecycle: &Lifecycle,
    here: &Here,
) {
    let door = doorway.door();
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    // Whom a balancer speaks for is not known yet.
    let admitted = if door.listener.proxy_protocol.contain(source.ip()) {
        connections.admit()
    } else {
        door.admits(source.ip()).and_then(|()| connections.admit()).and_then(|mut admitted| {
            admitted.from(source.ip())?;
            Ok(admitted)
        })
    };
    match admitted {
        Ok(admitted) => {
            let (doorway, lifecycle) = (Arc::clone(doorway), lifecycle.clone());
            let guest = Guest { source, door, doorway, admitted, lifecycle };
            here.serve(stream, guest);
        }
        Err(failure) => refuse(stream, &door, connections, source, &failure),
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
