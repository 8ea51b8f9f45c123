//! Detection of the way in which a device begins: with a ClientHello, with plaintext, or with silence.

pub mod hello;

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::socket::Socket;
use hello::{ClientHello, Parsed};

/// The first octets of a device.
#[derive(Debug)]
pub enum Opening {
    /// A whole ClientHello.
    Hello(Box<ClientHello>),
    /// TLS by its first octets, but no ClientHello that we can read; OpenSSL has the last word.
    Strange,
    /// Something that is not TLS.
    Plaintext,
    /// Silence, for as long as we waited.
    Silence,
    /// The device has closed the connection.
    Closed,
}

impl Socket {
    /// Waits for the device's first octets, at most `patience`; a ClientHello that has begun is read to its end
    /// (bound the whole with a timeout). The octets stay in the buffer, and are read again.
    ///
    /// # Errors
    /// The connection broke before anything came.
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
                    Ok(read) => read,
                    Err(_) => return Ok(Opening::Silence),
                },
                None => reading.await,
            };
            match read {
                // Closed or broken off in the middle of a ClientHello: that is a handshake which has failed.
                Ok(0) | Err(_) if begun => return Ok(Opening::Strange),
                Ok(0) => return Ok(Opening::Closed),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    /// Returns the result for a device that sends this and resets the connection.
    async fn broken_off_behind(octets: &[u8]) -> io::Result<Opening> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = Socket::new(listener.accept().await.unwrap().0);
        device.write_all(octets).await.unwrap();
        let meanwhile = async {
            // Read first, so that the reset comes behind it.
            while socket.incoming.is_empty() && !octets.is_empty() {
                poll_fn(|cx| socket.poll_fill(cx)).await.unwrap();
            }
            SockRef::from(&device).set_linger(Some(Duration::ZERO)).unwrap();
            drop(device);
            socket.opening(None).await
        };
        timeout(Duration::from_secs(60), meanwhile).await.unwrap()
    }

    #[tokio::test]
    async fn a_reset_in_the_middle_of_a_client_hello_is_no_silence() {
        assert!(broken_off_behind(&[]).await.is_err());
        assert!(matches!(broken_off_behind(&[22, 3, 1, 0, 200, 1, 0]).await, Ok(Opening::Strange)));
    }
}
