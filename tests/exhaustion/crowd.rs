//! Many connections of one process, from several loopback addresses.

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

/// How many connections one process can have here: 10,000, or what its limit of open files allows. A handful proves
/// nothing, so that is a failure.
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

/// One crowd at a time: each has most of the files that a process may have.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection from 127.0.0.`last`.
pub fn tcp_from(last: u8, to: SocketAddr) -> TcpStream {
    tcp_from_address(Ipv4Addr::new(127, 0, 0, last), to)
}

/// A connection from this address.
pub fn tcp_from_address(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    connected(Socket::new(Domain::IPV4, Type::STREAM, None).unwrap(), source, to)
}

/// The same with as little room for what comes as an old device has.
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

/// One of a crowd comes from here.
pub fn source(number: usize) -> u8 {
    2 + u8::try_from(number % SOURCES).unwrap()
}

/// Devices that shake hands by TLS 1.0, with a session that is resumed where they have one.
pub struct Shaker {
    context: SslContext,
    /// In DER: OpenSSL resumes no session whose connection was left without a word.
    session: Option<Vec<u8>>,
    /// Whether the last handshake resumed one.
    pub has_resumed: bool,
}

impl Shaker {
    pub fn new() -> Self {
        let context = stacks::context(|context: &mut SslContextBuilder| old(context, Version::Tls1_0, "AES128-SHA"));
        Self { context, session: None, has_resumed: false }
    }

    /// The next handshake is a full one.
    pub fn forget(&mut self) {
        self.session = None;
    }

    /// Shakes hands and reads the greeting. What is left is the TCP connection alone: the device's memory is not the
    /// question here.
    pub fn shake(&mut self, stream: TcpStream) -> TcpStream {
        let kept = stream.try_clone().unwrap();
        let mut ssl = Ssl::new(&self.context).unwrap();
        if let Some(session) = &self.session {
            // It was made by this very context.
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

/// Does this for 0, 1, 2 and on, by several threads with a device's TLS each, until it says that it is enough; all that
/// came of it.
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

/// Whether the peer has ended the connection, within everybody's patience.
pub fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut octets = [0; 4096];
    loop {
        match stream.read(&mut octets) {
            // An alert comes first, or a farewell.
            Ok(1..) => {}
            Ok(0) => return true,
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A whole ClientHello of TLS 1.0 with one suite, DHE-RSA-AES128-SHA, in fifty octets: it costs the server most.
pub fn dear_hello() -> Vec<u8> {
    let head = [22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 1];
    [head.as_slice(), &[7; 32], &[0, 0, 2, 0, 0x33, 1, 0]].concat()
}

/// Sends that one, waits for the first octet of whatever comes, and breaks the connection off.
pub fn say_hello_and_reset(source: Ipv4Addr, to: SocketAddr) {
    let mut stream = tcp_from_address(source, to);
    // It may be closed already.
    let _ = stream.write_all(&dear_hello());
    let _ = stream.read(&mut [0]);
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// The first octets of a ClientHello in a record of 16,000.
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
/// Files of the test itself: scripted servers, good devices, a smaller scenario at the same time.
const SPARE: usize = 1000;
pub const SOURCES: usize = 8;
pub const DEVICE_ROOM: usize = 65_536;
const THREADS: usize = 4;
