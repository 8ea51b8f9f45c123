//! How a device begins: with a ClientHello, with plaintext, or with silence.

pub mod hello;

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::socket::Socket;
use hello::{ClientHello, Parsed};

/// How a device begins.
#[derive(Debug)]
pub enum Opening {
    /// A whole ClientHello, understood.
    Hello(Box<ClientHello>),
    /// TLS by its first octets, but no ClientHello that we can read; OpenSSL has the last word.
    Strange,
    /// Something that is not TLS.
    Plaintext,
    /// Nothing, for as long as we waited.
    Silence,
    /// It is gone again.
    Closed,
}

impl Socket {
    /// Waits for the device's first octets, at most `patience`; a ClientHello that has begun is read to its end
    /// (bound the whole with a timeout). Nothing is lost: all of it is read again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn opening(&mut self, patience: Option<Duration>) -> io::Result<Opening> {
        loop {
            match ClientHello::parse(self.incoming.filled()) {
                Parsed::Complete(hello) => return Ok(Opening::Hello(hello)),
                Parsed::NotTls => return Ok(Opening::Plaintext),
                Parsed::Malformed => return Ok(Opening::Strange),
                Parsed::Incomplete if self.incoming.len() > hello::LONGEST_SENT => return Ok(Opening::Strange),
                Parsed::Incomplete => {}
            }
            let begun = !self.incoming.is_empty();
            let reading = poll_fn(|cx| self.poll_fill(cx));
            let read = match patience.filter(|_| !begun) {
                Some(patience) => match timeout(patience, reading).await {
                    Ok(read) => read?,
                    Err(_) => return Ok(Opening::Silence),
                },
                None => reading.await?,
            };
            if read == 0 {
                return Ok(if begun { Opening::Strange } else { Opening::Closed });
            }
        }
    }
}
