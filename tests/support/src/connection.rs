//! This file is one end of a connection, in clear or inside TLS, which returns errors where other support panics.
//!
//! It can do what a decent TLS library does not: speak beneath its own encryption, and be made to send a fatal alert.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use openssl::ssl::{HandshakeError, Ssl, SslContext, SslRef, SslSession, SslStream};
use socket2::{Domain, SockRef, Type};

use crate::forgotten::{forget, is_held};
use crate::process::PATIENCE;

/// A TCP connection that repeats a read after a signal. The kernel interrupts reads of sockets with a timeout
/// (signal(7)).
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    /// Octets that a read returns in place of those from the other end.
    forged: Vec<u8>,
}

pub type TlsStream = SslStream<Socket>;

pub trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

pub struct Connection {
    stream: Stream,
    /// The octets that have come; those from `start` on are not yet taken.
    buffer: Vec<u8>,
    start: usize,
    /// The number of octets that a read asks for. It grows with the traffic, because ten thousand connections may be
    /// open.
    chunk: usize,
    patience: Duration,
}

enum Stream {
    Clear(Socket),
    Tls(TlsStream),
    Other(Box<dyn ReadWrite>),
    /// The connection ended in the middle of a handshake, or with a reset.
    Gone,
}

impl Connection {
    pub fn over(tcp: TcpStream) -> io::Result<Self> {
        let connection = Self::of(Stream::Clear(tcp.into()));
        connection.be_patient()?;
        Ok(connection)
    }

    /// Connects from this address.
    pub fn connect(from: impl Into<IpAddr>, to: SocketAddr) -> io::Result<Self> {
        Self::over(bound(from.into(), to)?)
    }

    /// Wraps any stream, which keeps its own rules about time-outs and signals.
    pub fn within(stream: impl ReadWrite + 'static) -> Self {
        Self::of(Stream::Other(Box::new(stream)))
    }

    fn of(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, chunk: CHUNKS[0], patience: PATIENCE }
    }

    /// Sets the longest time of a read or a write, which is [`PATIENCE`] otherwise.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.patience = patience;
        self.be_patient()
    }

    fn be_patient(&self) -> io::Result<()> {
        let Some(tcp) = self.tcp() else { return Ok(()) };
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(self.patience))?;
        tcp.set_write_timeout(Some(self.patience))
    }

    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Clear(socket) => Some(socket),
            Stream::Tls(stream) => Some(stream.get_ref()),
            Stream::Other(_) | Stream::Gone => None,
        }
    }

    pub fn ssl(&self) -> Option<&SslRef> {
        match &self.stream {
            Stream::Tls(stream) => Some(stream.ssl()),
            _ => None,
        }
    }

    /// Shakes hands as a client. `session` is resumed if it is there, and replaced by the new one.
    pub fn connect_tls(&mut self, context: &SslContext, session: &mut Option<SslSession>) -> io::Result<()> {
        let mut ssl = Ssl::new(context)?;
        if let Some(session) = session.take() {
            resume(&mut ssl, &session)?;
        }
        self.shake(|socket| ssl.connect(socket))?;
        // A copy, because OpenSSL resumes no session whose connection was left without a word.
        let copy = self.ssl().and_then(SslRef::session).map(|session| SslSession::from_der(&session.to_der()?));
        *session = copy.transpose()?;
        Ok(())
    }

    /// Shakes hands as a client that the test has configured.
    pub fn connect_with(&mut self, ssl: Ssl) -> io::Result<()> {
        self.shake(|socket| ssl.connect(socket))
    }

    pub fn accept_tls(&mut self, context: &SslContext) -> io::Result<()> {
        let ssl = Ssl::new(context)?;
        self.shake(|socket| ssl.accept(socket))
    }

    fn shake(&mut self, shake: impl FnOnce(Socket) -> Result<TlsStream, HandshakeError<Socket>>) -> io::Result<()> {
        let Stream::Clear(socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::Error::other("TLS within TLS"));
        };
        self.stream = Stream::Tls(shake(socket).map_err(|error| match error {
            HandshakeError::WouldBlock(_) => io::Error::from(ErrorKind::TimedOut),
            error => io::Error::other(format!("handshake: {error:?}")),
        })?);
        Ok(())
    }

    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Clear(socket) => socket.write_all(octets),
            Stream::Tls(stream) => stream.write_all(octets),
            Stream::Other(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
            Stream::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Sends octets beneath TLS, if the connection has TLS.
    pub fn send_beneath(&mut self, octets: &[u8]) -> io::Result<()> {
        self.tcp().map_or(Ok(()), |mut tcp| tcp.write_all(octets))
    }

    /// Reads once; returns the number of octets, which is 0 at the end. A silent peer is [`ErrorKind::TimedOut`].
    pub fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..std::mem::take(&mut self.start));
        let filled = self.buffer.len();
        self.buffer.resize(filled + self.chunk, 0);
        let read = loop {
            let unread = &mut self.buffer[filled..];
            let read = match &mut self.stream {
                Stream::Clear(socket) => socket.read(unread),
                Stream::Tls(stream) => stream.read(unread),
                Stream::Other(stream) => stream.read(unread),
                Stream::Gone => Err(ErrorKind::NotConnected.into()),
            };
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Err(ErrorKind::TimedOut.into()),
                read => break read,
            }
        };
        let count = read.as_ref().map_or(0, |read| *read);
        self.buffer.truncate(filled + count);
        if count == self.chunk {
            self.chunk = CHUNKS[1];
        }
        read
    }

    /// Reads once, for no longer than this.
    pub fn fill_within(&mut self, limit: Duration) -> io::Result<usize> {
        let patience = self.patience;
        let set = |this: &Self, limit| this.tcp().map_or(Ok(()), |tcp| tcp.set_read_timeout(Some(limit)));
        set(self, limit.max(Duration::from_millis(1)))?;
        let read = self.fill();
        set(self, patience)?;
        read
    }

    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes this many of the unread octets.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.unread()[..count].to_vec();
        self.start += count;
        taken
    }

    /// The next line, without CRLF; [`ErrorKind::UnexpectedEof`] at the end.
    pub fn octets_of_line(&mut self) -> io::Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread()[seen..]) {
                let mut line = self.take(seen + end + 1);
                line.truncate(line.strip_suffix(b"\r\n").map_or(line.len() - 1, <[u8]>::len));
                return Ok(line);
            }
            seen = self.unread().len();
            self.more()?;
        }
    }

    pub fn line(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.octets_of_line()?).into_owned())
    }

    /// A line, or `None` if the peer is silent for this long.
    pub fn line_within(&mut self, limit: Duration) -> io::Result<Option<String>> {
        if memchr::memchr(b'\n', self.unread()).is_none() {
            match self.fill_within(limit) {
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                read => read?,
            };
        }
        self.line().map(Some)
    }

    pub fn octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut octets = Vec::with_capacity(count);
        self.each(count, |some| octets.extend_from_slice(some))?;
        Ok(octets)
    }

    /// Reads this many octets, and drops them.
    pub fn skip(&mut self, count: usize) -> io::Result<()> {
        self.each(count, |_| {})
    }

    fn each(&mut self, mut left: usize, mut use_it: impl FnMut(&[u8])) -> io::Result<()> {
        if left > self.chunk {
            self.chunk = CHUNKS[1];
        }
        loop {
            let some = self.unread().len().min(left);
            use_it(&self.unread()[..some]);
            self.start += some;
            left -= some;
            if left == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        if self.fill()? == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Sends close_notify if the connection has TLS, then FIN.
    pub fn close_half(&mut self) {
        self.notify();
        self.end_half();
    }

    /// Sends FIN without close_notify.
    pub fn end_half(&mut self) {
        if let Some(tcp) = self.tcp() {
            let _ = tcp.shutdown(Shutdown::Write);
        }
    }

    fn notify(&mut self) {
        if let Stream::Tls(stream) = &mut self.stream {
            let _ = stream.shutdown();
        }
    }

    /// Sends close_notify if the connection has TLS, and waits until the other end has closed.
    pub fn close(mut self) -> io::Result<()> {
        self.notify();
        while self.fill()? > 0 {
            self.start = self.buffer.len();
        }
        Ok(())
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        if let Some(tcp) = self.tcp() {
            let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
        }
        self.stream = Stream::Gone;
    }

    /// Drops and acknowledges nothing of the peer's octets from here on.
    pub fn forget(&self) {
        self.tcp().into_iter().for_each(forget);
    }

    /// Waits until the other end has given up a forgotten connection; false if it has not.
    pub fn is_let_go(&mut self) -> bool {
        let Some(tcp) = self.tcp() else { return true };
        let (local, remote) = (tcp.local_addr().unwrap(), tcp.peer_addr().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while is_held(remote, local) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.reset();
        true
    }

    /// Sends a fatal alert that OpenSSL encrypts itself, because it reads a record that nobody has sent.
    pub fn alert(&mut self) {
        match &mut self.stream {
            Stream::Clear(socket) => drop(socket.write_all(HANDSHAKE_FAILURE)),
            Stream::Tls(stream) => {
                let version = if stream.ssl().version_str() == "TLSv1" { 1 } else { 3 };
                let mut record = vec![23, 3, version, 0, 64];
                record.extend([0; 64]);
                stream.get_mut().forged = record;
                assert!(stream.read(&mut [0; 16]).is_err(), "a forged record was taken");
            }
            Stream::Other(_) | Stream::Gone => {}
        }
    }
}

/// Connects from this address, from a port that the kernel chooses together with the destination.
pub fn bound(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    // A port may serve several destinations, because one address alone has few ports.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Makes a client resume a session, which must come from the client's own context.
pub fn resume(ssl: &mut Ssl, session: &SslSession) -> io::Result<()> {
    // SAFETY: the session comes from the same context as the client.
    #[allow(unsafe_code)]
    unsafe { ssl.set_session(session) }.map_err(io::Error::other)
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp, forged: Vec::new() }
    }
}

impl Deref for Socket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl Read for Socket {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        if !self.forged.is_empty() {
            let count = self.forged.len().min(octets.len());
            octets[..count].copy_from_slice(&self.forged[..count]);
            self.forged.drain(..count);
            return Ok(count);
        }
        go_on(|| self.tcp.read(octets))
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        go_on(|| self.tcp.write(octets))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

fn go_on(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// The alert handshake_failure, fatal, in clear (RFC 5246 §7.2).
pub const HANDSHAKE_FAILURE: &[u8] = &[21, 3, 1, 0, 2, 2, 40];
/// The sizes of a read: a line's, and a bulk read's.
const CHUNKS: [usize; 2] = [4096, 64 * 1024];
