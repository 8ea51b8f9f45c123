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
    /// Octets are on their way, the server has closed, or there is no TLS.
    pub async fn of(stream: Stream) -> io::Result<Self> {
        let Stream::Server(tls) = stream else { return Err(io::Error::other("it is not TLS towards a server")) };
        if !tls.is_idle() {
            return Err(io::Error::other("octets are left, or the server has closed"));
        }
        tls.park(Vec::new()).await.map(Self)
    }

    /// Puts the connection on the event loop of the calling thread.
    ///
    /// # Errors
    /// The event loop does not take it.
    pub fn unpark(self) -> io::Result<Stream> {
        Tls::unpark(self.0).map(|tls| Stream::Server(Box::new(tls)))
    }
}
