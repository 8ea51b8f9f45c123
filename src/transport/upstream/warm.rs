//! A warm pool keeps connections ready: TLS is done, the server has greeted. A login that takes one saves three round
//! trips.
//!
//! A parked connection belongs to no event loop and to no device. Servers close what does not log in (Exchange after a
//! minute), so none is kept for long; one that has been closed, or has said something meanwhile, is not used.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::tls::{Parked, Tls};
use crate::protocol::Protocol;

/// The connections that are ready for one endpoint.
pub(super) struct WarmPool {
    protocol: Protocol,
    /// The number of connections to keep.
    wanted: usize,
    /// The time for which each is kept.
    life: Duration,
    parked: Mutex<VecDeque<(Instant, Parked)>>,
    taken: Notify,
}

impl WarmPool {
    pub(super) fn new(protocol: Protocol, wanted: usize, life: Duration) -> Self {
        Self { protocol, wanted, life, parked: Mutex::default(), taken: Notify::new() }
    }

    /// The number of connections that are to be ready.
    pub(super) fn size(&self) -> usize {
        self.wanted
    }

    /// Takes a live connection, for the event loop of the calling thread.
    pub(super) fn take(&self) -> Option<Tls> {
        if self.wanted == 0 {
            return None;
        }
        loop {
            let (since, parked) = self.parked().pop_front()?;
            self.taken.notify_one();
            if since.elapsed() < self.life
                && parked.is_quiet()
                && let Ok(tls) = Tls::unpark(parked)
            {
                return Some(tls);
            }
        }
    }

    /// Waits until there are fewer connections than wanted. It closes those whose time is over.
    pub(super) async fn wanted(&self) {
        loop {
            let oldest = {
                let mut parked = self.parked();
                parked.retain(|(since, _)| since.elapsed() < self.life);
                if parked.len() < self.wanted {
                    return;
                }
                parked.front().map(|(since, _)| *since)
            };
            let left = oldest.map_or(self.life, |since| self.life.saturating_sub(since.elapsed()));
            // The first of the two ends the wait; then the connections are counted again.
            let _ = timeout(left, self.taken.notified()).await;
        }
    }

    /// Parks a connection, once the server has greeted.
    ///
    /// # Errors
    /// The server has closed instead, or its greeting is too long.
    pub(super) async fn park(&self, mut tls: Tls) -> io::Result<()> {
        let mut greeting = Vec::new();
        while !greeting.contains(&b'\n') {
            let mut octets = [0; 1024];
            let mut room = ReadBuf::new(&mut octets);
            poll_fn(|cx| Pin::new(&mut tls).poll_read(cx, &mut room)).await?;
            greeting.extend_from_slice(room.filled());
            if room.filled().is_empty() || greeting.len() > LONGEST_GREETING {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if !self.protocol.is_greeting(&greeting) {
            return Err(io::Error::other("it does not greet with OK"));
        }
        let parked = tls.park(greeting).await?;
        self.parked().push_back((Instant::now(), parked));
        Ok(())
    }

    /// Closes all connections.
    pub(super) fn clear(&self) {
        self.parked().clear();
    }

    fn parked(&self) -> MutexGuard<'_, VecDeque<(Instant, Parked)>> {
        self.parked.lock()
    }
}

/// RFC 3501 §2.2.2 knows no limit; RFC 2449 §4 has 512 octets for POP3.
const LONGEST_GREETING: usize = 8 * 1024;
