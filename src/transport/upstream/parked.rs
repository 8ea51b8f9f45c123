//! A parked connection is logged in at a mail server and belongs to no event loop and to no device. It has no buffer.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::tls::{Parked, Tls};
use crate::transport::Stream;

/// A connection to a mail server that waits for the next login.
pub struct ParkedConnection(Parked);

impl ParkedConnection {
    /// Takes a connection off its event loop.
    ///
    /// # Errors
    /// The stream, where octets are on their way, the server has closed, or there is no TLS; none where it breaks.
    pub async fn of(stream: Stream) -> Result<Self, Option<Stream>> {
        match stream {
            Stream::Server(tls) if tls.is_idle() => {
                // An answer of TLS's own may be on its way to a server that reads nothing.
                let parked = timeout(PATIENCE, tls.park(Vec::new())).await;
                parked.ok().and_then(Result::ok).map(Self).ok_or(None)
            }
            stream => Err(Some(stream)),
        }
    }

    /// Puts the connection on the event loop of the calling thread.
    ///
    /// # Errors
    /// The event loop does not take it.
    pub fn unpark(self) -> io::Result<Stream> {
        Tls::unpark(self.0).map(|tls| Stream::Server(Box::new(tls)))
    }
}

/// The longest wait until the server has taken what is on its way.
const PATIENCE: Duration = Duration::from_secs(2);
