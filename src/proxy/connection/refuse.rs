//! Refusals: a connection over a limit is told so where it would have been greeted in clear, and is then closed.
//!
//! Before TLS nothing can be said on an implicit port. A source that may not come at all, and a balancer without its
//! header, are closed without a word: a stranger learns nothing. All of them have their line in the log.

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

/// Closes a connection that was only just accepted, and tells it why where it can be told.
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
    // Nobody knows how the device behind a balancer begins before its header is read.
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
        // Many come. One call that does not wait still tells most of them; who begins with TLS must not hear it.
        None if entry == Entry::Auto => {}
        None => drop(send(&stream, &words, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)),
    }
}

/// The same for one whose balancer has said where it comes from.
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

/// What the device hears in place of the greeting.
fn refusal(service: &Service, entry: Entry, failure: &Failure) -> Option<Vec<u8>> {
    let is_over_limit = matches!(failure.kind, Kind::TooManyConnections | Kind::TooManyFromSource);
    if !is_over_limit || entry == Entry::Implicit {
        return None;
    }
    let mut out = Outbox::default();
    service.session(false).bye(failure, &mut out);
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
            // What the device has sent and nobody has read would become a reset, which takes our words with it.
            let mut unread = [0; 512];
            while socket.read(&mut unread).await.is_ok_and(|count| count > 0) {}
        }
    };
    // Whoever does not take it in time does without.
    let _ = timeout(delay + LINGER, told).await;
}

/// For a device to close in its turn.
const LINGER: Duration = Duration::from_secs(2);
