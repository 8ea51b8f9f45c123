//! How a device begins: with a ClientHello, with plaintext, or with silence.

pub mod hello;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use hello::{ClientHello, Parsed};

/// A TCP stream of which something may have been read ahead; that comes first when it is read.
pub struct Peeked {
    tcp: TcpStream,
    /// In clear it may hold a password: it is wiped.
    ahead: Zeroizing<Vec<u8>>,
    /// How much of `ahead` has been read.
    at: usize,
}

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

impl Peeked {
    /// A stream of which nothing has been read.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, ahead: Zeroizing::default(), at: 0 }
    }

    /// Puts octets back in front of the stream.
    pub fn put_back(&mut self, octets: &[u8]) {
        let unread = self.ahead.get(self.at..).unwrap_or_default();
        self.ahead = Zeroizing::new([octets, unread].concat());
        self.at = 0;
    }

    /// The stream alone. What was read ahead and not read again is dropped.
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// Waits for the device's first octets, at most `patience`; a ClientHello that has begun is read to its end
    /// (bound the whole with a timeout). Nothing is lost: all of it is read again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn opening(&mut self, patience: Option<Duration>) -> io::Result<Opening> {
        loop {
            match ClientHello::parse(self.ahead.get(self.at..).unwrap_or_default()) {
                Parsed::Complete(hello) => return Ok(Opening::Hello(hello)),
                Parsed::NotTls => return Ok(Opening::Plaintext),
                Parsed::Malformed => return Ok(Opening::Strange),
                Parsed::Incomplete => {}
            }
            if self.ahead.capacity() == self.ahead.len() {
                self.ahead.reserve_exact(FIRST_READ);
            }
            let patience = patience.filter(|_| self.ahead.is_empty());
            let reading = self.tcp.read_buf(&mut *self.ahead);
            let read = match patience {
                Some(patience) => match timeout(patience, reading).await {
                    Ok(read) => read?,
                    Err(_) => return Ok(Opening::Silence),
                },
                None => reading.await?,
            };
            if read == 0 {
                return Ok(if self.ahead.is_empty() { Opening::Closed } else { Opening::Strange });
            }
        }
    }
}

impl AsyncRead for Peeked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let ahead = this.ahead.get(this.at..).unwrap_or_default();
        if ahead.is_empty() {
            return Pin::new(&mut this.tcp).poll_read(cx, buffer);
        }
        let taken = ahead.len().min(buffer.remaining());
        buffer.put_slice(ahead.get(..taken).unwrap_or_default());
        this.at += taken;
        if this.at == this.ahead.len() {
            this.ahead = Zeroizing::default();
            this.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peeked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tcp).poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }
}

const FIRST_READ: usize = 1024;
