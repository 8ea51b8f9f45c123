//! Octets to and from both sides: a stream that is plain or TLS, and what is known of its TLS.

pub mod detect;
pub mod downstream;
pub mod host;
pub mod http;
pub mod upstream;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use detect::Peeked;

/// One side of a connection. TLS is put over it in place, by taking it out and putting the result back.
pub enum Stream {
    /// In clear.
    Plain(Peeked),
    /// TLS towards a device.
    Device(Box<downstream::Tls>),
    /// TLS towards a mail server.
    Server(Box<upstream::Tls>),
}

/// What is known of a TLS connection, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// As `TLSv1`, in OpenSSL's words.
    pub version: String,
    /// In OpenSSL's words downstream, in IANA's upstream.
    pub cipher: String,
    /// The session was resumed.
    pub resumed: bool,
}

impl Stream {
    /// What is known of its TLS; nothing in clear.
    pub fn facts(&self) -> Option<Facts> {
        match self {
            Stream::Plain(_) => None,
            Stream::Device(tls) => Some(downstream::facts(tls)),
            Stream::Server(tls) => Some(upstream::facts(tls)),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Device(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Stream::Server(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, octets),
            Stream::Device(stream) => Pin::new(stream.as_mut()).poll_write(cx, octets),
            Stream::Server(stream) => Pin::new(stream.as_mut()).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Device(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Stream::Server(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Device(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Stream::Server(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// Listens. An IPv6 address takes IPv6 alone, so that `0.0.0.0` and `[::]` can stand beside each other.
///
/// # Errors
/// What the operating system says: in use, not allowed (ports below 1024), not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted proxy takes its port back although old connections linger in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Sets what every connection has: no delay for small segments (40 ms each with old peers), and keep-alive.
///
/// # Errors
/// The connection is gone already.
pub fn tune(stream: &TcpStream, keep_alive: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(keep_alive).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

const BACKLOG: i32 = 1024;
const PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_have_keep_alive_and_no_delay() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream, Duration::from_secs(77)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
    }
}
