//! Transport carries octets to and from both sides: by streams that are plain or TLS.

pub mod buffer;
pub mod detect;
pub mod downstream;
pub mod host;
pub mod http;
pub mod ports;
pub mod proxy_header;
pub mod socket;
pub mod upstream;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket as Socket2, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Version;
use socket::Socket;

/// The stream of one side of a connection. TLS takes its place by taking the plain one out and putting the result back.
pub enum Stream {
    /// Plain TCP.
    Plain(Socket),
    /// TLS towards a device.
    Device(Box<downstream::Tls>),
    /// TLS towards a mail server.
    Server(Box<upstream::Tls>),
}

/// The facts of a TLS connection, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version in OpenSSL's words, as `TLSv1`.
    pub version: &'static str,
    /// The cipher suite: in OpenSSL's words downstream, in IANA's upstream.
    pub cipher: &'static str,
    /// The session was resumed.
    pub resumed: bool,
}

impl Facts {
    /// Returns the version, where it is a known one.
    pub fn version(&self) -> Option<Version> {
        Version::by_openssl_name(self.version)
    }
}

impl Stream {
    /// Returns the facts of its TLS; none in clear.
    pub fn facts(&self) -> Option<Facts> {
        match self {
            Stream::Plain(_) => None,
            Stream::Device(tls) => Some(downstream::facts(tls)),
            Stream::Server(tls) => Some(upstream::facts(tls)),
        }
    }

    /// Notes that a device has logged in: from here on no password comes.
    pub fn logged_in(&mut self) {
        if let Stream::Device(tls) = self {
            tls.stop_wiping();
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

/// Listens on an address with `count` sockets, among which the kernel spreads connections. An IPv6 address takes IPv6
/// alone, so that `0.0.0.0` and `[::]` can stand beside each other. Connections inherit the sockets' options: no delay
/// for small segments (40 ms each with old peers), and keep-alive. If the port is known to be our own, other sockets of
/// ours may still have it.
///
/// # Errors
/// The operating system's reason: in use, not allowed (ports below 1024), not ours.
pub fn listen(address: SocketAddr, count: usize, keep_alive: Duration, is_own: bool) -> io::Result<Vec<TcpListener>> {
    if !is_own {
        // Sockets that share a port share it with every other program of this user that wants to: that one is to be
        // told that the port is in use, and so are we.
        bound(address, false)?;
    }
    let mut sockets: Vec<TcpListener> = Vec::new();
    for _ in 0..count.max(1) {
        // If any port would do, all addresses share the first one's.
        let address = sockets.first().map_or(Ok(address), TcpListener::local_addr)?;
        let socket = bound(address, true)?;
        tune(&socket, keep_alive)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// Takes a socket that listens already, and that the service manager has handed over.
///
/// # Errors
/// The operating system's reason.
pub fn adopt(socket: &TcpListener, keep_alive: Duration) -> io::Result<TcpListener> {
    let socket = socket.try_clone()?;
    tune(&socket, keep_alive)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Returns whether a listening socket serves an address: its own, or, where it takes IPv4 as well (ipv6(7),
/// IPV6_V6ONLY), every address of IPv4.
pub fn serves(socket: &TcpListener, address: SocketAddr) -> bool {
    let Ok(own) = socket.local_addr() else { return false };
    own == address || own.port() == address.port() && address.ip() == Ipv4Addr::UNSPECIFIED && takes_ipv4_too(socket)
}

/// Returns whether it is bound to `[::]` for both families, as systemd binds `ListenStream=993`.
pub fn takes_ipv4_too(socket: &TcpListener) -> bool {
    let is_for_all = socket.local_addr().is_ok_and(|own| own.ip() == Ipv6Addr::UNSPECIFIED);
    is_for_all && !SockRef::from(socket).only_v6().unwrap_or(true)
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket2> {
    let socket = Socket2::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted proxy takes its port back although old connections linger in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets what every connection has; see [`listen`]. A connection whose peer acknowledges nothing for `keep_alive` and
/// the probes behind it is broken off, be it idle (SO_KEEPALIVE) or busy (TCP_USER_TIMEOUT, RFC 5482): while octets are
/// unacknowledged, no keep-alive probe is sent, and the kernel alone would send them again for a quarter of an hour.
///
/// # Errors
/// The connection is gone already.
pub fn tune<S: AsFd>(socket: &S, keep_alive: Duration) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    let keep_alive = keep_alive.clamp(SHORTEST_KEEP_ALIVE, LONGEST_KEEP_ALIVE);
    let interval = probe_interval(keep_alive);
    let probes = TcpKeepalive::new().with_time(keep_alive).with_interval(interval).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(keep_alive + interval * PROBES))
}

/// Returns the interval of probes: an eighth of the idle time, so that a peer is given up after half as long again.
fn probe_interval(keep_alive: Duration) -> Duration {
    (keep_alive / 8).clamp(SHORTEST_KEEP_ALIVE, LONGEST_PROBE_INTERVAL)
}

const BACKLOG: i32 = 1024;
/// The kernel's largest number of seconds (tcp(7), TCP_KEEPIDLE).
const SHORTEST_KEEP_ALIVE: Duration = Duration::from_secs(1);
const LONGEST_KEEP_ALIVE: Duration = Duration::from_secs(32_767);
const LONGEST_PROBE_INTERVAL: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_keep_alive_and_no_delay() {
        let listening = listen("127.0.0.1:0".parse().unwrap(), 2, Duration::from_secs(77), false).unwrap();
        let address = listening[0].local_addr().unwrap();
        let streams: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted = || listening.iter().find_map(|socket| socket.accept().ok());
        for _ in streams {
            let (stream, _) = accepted().unwrap();
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(115_500)));
        }
    }

    /// Two minutes, as by default, give three; and the longest probe interval is 15 s.
    #[test]
    fn the_end_of_keep_alive_follows_from_it() {
        let end = |seconds: u64| (seconds, probe_interval(Duration::from_secs(seconds)).as_millis());
        assert_eq!([1, 120, 3600].map(end), [(1, 1000), (120, 15_000), (3600, 15_000)]);
        // The kernel accepts each value that the configuration accepts.
        for keep_alive in [Duration::from_millis(1), Duration::from_secs(24 * 60 * 60)] {
            listen("127.0.0.1:0".parse().unwrap(), 1, keep_alive, false).unwrap();
        }
    }

    #[test]
    fn sockets_share_a_port_with_each_other_alone() {
        let listen = |address: SocketAddr| listen(address, 2, Duration::from_secs(60), false);
        let listening = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addresses: Vec<_> = listening.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!(addresses[0], addresses[1]);
        assert_eq!(listen(addresses[0]).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
