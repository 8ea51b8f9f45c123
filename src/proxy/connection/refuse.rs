//! Refusals: a connection over a limit gets a reply in place of the greeting, and is closed.
//!
//! On a port with implicit TLS there is no reply, because it would have to come before the handshake. A source that is
//! not allowed, and a balancer without its header, get none, so that strangers learn nothing. Each refusal is logged.

use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Entry;
use crate::failure::{Failure, Kind};
use crate::proto::Outbox;
use crate::proxy::limits::{Connections, Peer};
use crate::proxy::service::Service;
use crate::transport::detect::Opening;
use crate::transport::socket::Socket;

/// Closes a connection that was just accepted, with a reply if possible.
pub(in crate::proxy) fn refuse(
    stream: TcpStream,
    service: &Arc<Service>,
    connections: &Arc<Connections>,
    peer: Peer,
    failure: &Failure,
) {
    service.telemetry.refused(peer, failure);
    let entry = service.listener.entry_at(stream.local_addr().map_or(0, |address| address.port()));
    let Some(words) = refusal(service, entry, failure) else { return };
    // The balancer's header, not read yet, would tell how the device behind it begins.
    if entry == Entry::Auto && service.listener.proxy_protocol.contain(peer.source.ip()) {
        return;
    }
    match connections.refusal_permit(peer.source.ip()) {
        Some(room) => {
            let service = Arc::clone(service);
            tokio::spawn(async move {
                send_refusal(Socket::new(stream), &service, &words).await;
                drop(room);
            });
        }
        // In a flood, a single call that does not wait still reaches most devices. A device that begins with TLS must
        // get no octet in clear.
        None if entry == Entry::Auto => {}
        None => drop(send(&stream, &words, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)),
    }
}

/// Refuses a connection whose balancer has named the source.
pub(in crate::proxy) async fn refuse_announced(
    socket: Socket,
    service: &Service,
    connections: &Arc<Connections>,
    peer: Peer,
    failure: &Failure,
) {
    service.telemetry.refused(peer, failure);
    let Some(words) = refusal(service, service.entry_of(&socket), failure) else { return };
    if let Some(_room) = connections.refusal_permit(peer.source.ip()) {
        send_refusal(socket, service, &words).await;
    }
}

/// The reply in place of the greeting.
fn refusal(service: &Service, entry: Entry, failure: &Failure) -> Option<Vec<u8>> {
    let is_over_limit = matches!(failure.kind, Kind::TooManyConnections | Kind::TooManyFromSource);
    if !is_over_limit || entry == Entry::Implicit {
        return None;
    }
    let mut out = Outbox::default();
    service.session(false, None).bye(failure, &mut out);
    Some(out.downstream)
}

async fn send_refusal(mut socket: Socket, service: &Service, words: &[u8]) {
    let delay = service.listener.detect_delay;
    let told = async {
        if service.entry_of(&socket) == Entry::Auto
            && !matches!(socket.opening(Some(delay)).await, Ok(Opening::Silence | Opening::Plaintext))
        {
            return;
        }
        let said = async {
            socket.write_all(words).await?;
            socket.shutdown().await
        };
        if said.await.is_ok() {
            // Unread octets of the device would cause a reset, which destroys the reply on its way.
            let mut unread = [0; 512];
            while socket.read(&mut unread).await.is_ok_and(|count| count > 0) {}
        }
    };
    // A device that does not read the reply in time goes without.
    let _ = timeout(delay + LINGER, told).await;
}

/// The time for a device to close its side.
const LINGER: Duration = Duration::from_secs(2);
