//! A parked connection is logged in at a mail server and belongs to no event loop and to no device. It has no buffer.

use std::io;

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
            Stream::Server(tls) if tls.is_idle() => tls.park(Vec::new()).await.map(Self).map_err(|_| None),
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
