//! This file opens thousands of connections from one process and several loopback addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslSession};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use support::process::PATIENCE;
use support::stacks::{self, Version, old};

/// The connections that one process can have here: 10,000, or as many as its limit of open files allows. A handful
/// would prove nothing, so that is a failure.
pub fn size() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let files = limit.maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap());
    let possible = WANTED.min(files.saturating_sub(SPARE));
    if possible < WANTED {
        println!("only {possible} connections instead of {WANTED}: the hard limit of open files is {files}");
    }
    assert!(possible >= LEAST, "raise the hard limit of open files (ulimit -Hn) to {}", LEAST + SPARE);
    possible
}

/// Runs one crowd at a time, because each needs most of the files that a process may open.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects from 127.0.0.`last`.
pub fn tcp_from(last: u8, to: SocketAddr) -> TcpStream {
    tcp_from_address(Ipv4Addr::new(127, 0, 0, last), to)
}

/// Connects from this address.
pub fn tcp_from_address(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    connected(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(), source, to)
}

/// Connects with a receive buffer as small as an old device's.
pub fn small_tcp_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(DEVICE_ROOM).unwrap();
    connected(socket, Ipv4Addr::new(127, 0, 0, last), to)
}

fn connected(socket: Socket, source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The source address of this member of a crowd, as its last octet.
pub fn source(number: usize) -> u8 {
    2 + u8::try_from(number % SOURCES).unwrap()
}

/// Devices that shake hands by TLS 1.0, with a session that is resumed where they have one.
pub struct Shaker {
    context: SslContext,
    /// The TLS session in DER, because OpenSSL resumes no session whose connection ended without close_notify.
    session: Option<Vec<u8>>,
    /// Whether the last handshake was resumed.
    pub has_resumed: bool,
}

impl Shaker {
    pub fn new() -> Self {
        let context = stacks::context(|context: &mut SslContextBuilder| old(context, Version::Tls1_0, "AES128-SHA"));
        Self { context, session: None, has_resumed: false }
    }

    /// Forgets the session, so that the next handshake is a full one.
    pub fn forget(&mut self) {
        self.session = None;
    }

    /// Shakes hands and reads the greeting. Only the TCP connection remains, because the device's memory does not
    /// matter here.
    pub fn shake(&mut self, stream: TcpStream) -> TcpStream {
        let kept = stream.try_clone().unwrap();
        let mut ssl = Ssl::new(&self.context).unwrap();
        if let Some(session) = &self.session {
            // SAFETY: this very context has made the session.
            #[allow(unsafe_code)]
            unsafe {
                ssl.set_session(&SslSession::from_der(session).unwrap()).unwrap();
            }
        }
        let mut stream = ssl.connect(stream).expect("handshake");
        let mut greeting = [0; 256];
        let read = stream.read(&mut greeting).unwrap();
        assert!(greeting[..read].starts_with(b"* OK"), "{:?}", String::from_utf8_lossy(&greeting[..read]));
        self.has_resumed = stream.ssl().session_reused();
        self.session = stream.ssl().session().map(|session| session.to_der().unwrap());
        kept
    }
}

/// Calls the function with 0, 1, 2 and so on from several threads, until it returns `None`; returns all results.
pub fn by_threads<T: Send>(each: impl Fn(&mut Shaker, usize) -> Option<T> + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let one = || {
        let mut shaker = Shaker::new();
        let work = || each(&mut shaker, next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(work).collect::<Vec<T>>()
    };
    std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(one));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Whether the peer ends the connection within [`PATIENCE`].
pub fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut octets = [0; 4096];
    loop {
        match stream.read(&mut octets) {
            // An alert or a farewell may come first.
            Ok(1..) => {}
            Ok(0) => return true,
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A complete ClientHello of TLS 1.0 in fifty octets. Its one suite, DHE-RSA-AES128-SHA, costs the server the most.
pub fn dear_hello() -> Vec<u8> {
    let head = [22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    [head.as_slice(), &[7; 32], &[0, 0, 2, 0, 0x33, 1, 0]].concat()
}

/// Sends a [`dear_hello`], waits for the first octet of the reply, and resets the connection.
pub fn say_hello_and_reset(source: Ipv4Addr, to: SocketAddr) {
    let mut stream = tcp_from_address(source, to);
    // The proxy may have closed the connection already.
    let _ = stream.write_all(&dear_hello());
    let _ = stream.read(&mut [0]);
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The first octets of a ClientHello in a record of 16,000 octets.
pub fn half_hello(length: usize) -> Vec<u8> {
    const ANNOUNCED: u16 = 16_000;
    let mut hello = vec![22, 3, 1];
    hello.extend(ANNOUNCED.to_be_bytes());
    hello.extend([1, 0]);
    hello.extend((ANNOUNCED - 4).to_be_bytes());
    hello.extend([3, 1]);
    hello.resize(length, 7);
    hello
}

pub fn say(stream: &mut TcpStream, octets: &[u8]) {
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(octets).unwrap();
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

const WANTED: usize = 10_000;
const LEAST: usize = 2000;
/// Files that the test itself needs: scripted servers, good devices, and a smaller scenario at the same time.
const SPARE: usize = 1000;
pub const SOURCES: usize = 8;
pub const DEVICE_ROOM: usize = 65_536;
const THREADS: usize = 4;
