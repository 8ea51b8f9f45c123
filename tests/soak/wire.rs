//! A device's end of a connection: from an address of its own, with old TLS, and with errors where tests elsewhere panic.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use openssl::ssl::{ErrorCode, HandshakeError, Ssl, SslContext, SslSession, SslStream};
use socket2::{Domain, Socket, Type};

use support::forgotten::forget;
use support::stacks::{self, Version, old};

pub struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
}

enum Stream {
    Plain(Steady),
    Tls(SslStream<Steady>),
    /// In the middle of a handshake.
    Gone,
}

/// Reads on where a signal has interrupted it, as happens to a socket that has a timeout (signal(7)).
#[derive(Debug)]
struct Steady(TcpStream);

impl Read for Steady {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(octets) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl Write for Steady {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(octets) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Wire {
    /// Connects from this address.
    pub fn from(source: Ipv4Addr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // A port is found once the other end is known: one address has few connections, all of them have many.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&to.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: Stream::Plain(Steady(stream)), buffer: Vec::new(), start: 0 })
    }

    /// Shakes hands; `session` is resumed, and becomes the one to resume next time.
    pub fn secure(&mut self, context: &SslContext, session: &mut Option<Vec<u8>>) -> io::Result<()> {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(io::Error::other("TLS within TLS"));
        };
        let mut ssl = Ssl::new(context)?;
        if let Some(session) = session.take() {
            let session = SslSession::from_der(&session)?;
            // It was made by this very context.
            #[allow(unsafe_code)]
            unsafe {
                ssl.set_session(&session)?;
            }
        }
        let stream = ssl.connect(stream).map_err(|error| match error {
            HandshakeError::WouldBlock(_) => io::Error::from(ErrorKind::TimedOut),
            error => io::Error::other(format!("handshake: {error}")),
        })?;
        *session = stream.ssl().session().map(|session| session.to_der()).transpose()?;
        self.stream = Stream::Tls(stream);
        Ok(())
    }

    pub fn is_resumed(&self) -> bool {
        matches!(&self.stream, Stream::Tls(stream) if stream.ssl().session_reused())
    }

    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(octets),
            Stream::Tls(stream) => stream.write_all(octets),
            Stream::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// The next line, without CRLF.
    pub fn octets_of_line(&mut self) -> io::Result<Vec<u8>> {
        let mut seen = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread()[seen..]) {
                let line = &self.unread()[..seen + end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.start += seen + end + 1;
                return Ok(line);
            }
            seen = self.unread().len();
            self.fill()?;
        }
    }

    pub fn line(&mut self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.octets_of_line()?).into_owned())
    }

    pub fn octets(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut octets = Vec::with_capacity(count);
        loop {
            let taken = self.unread().len().min(count - octets.len());
            octets.extend_from_slice(&self.unread()[..taken]);
            self.start += taken;
            if octets.len() == count {
                return Ok(octets);
            }
            self.fill()?;
        }
    }

    /// Waits no longer than that for a line; none if nothing has come.
    pub fn line_within(&mut self, limit: Duration) -> io::Result<Option<String>> {
        self.tcp(|stream| stream.set_read_timeout(Some(limit)))?;
        let line = self.line();
        self.tcp(|stream| stream.set_read_timeout(Some(PATIENCE)))?;
        match line {
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut) => Ok(None),
            line => line.map(Some),
        }
    }

    /// Leaves by a reset.
    pub fn reset(self) {
        let _ = self.tcp(|stream| socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
    }

    /// Hears nothing from here on, and acknowledges nothing, for as long as it is kept.
    pub fn forget(&self) -> io::Result<()> {
        self.tcp(|stream| {
            forget(stream);
            Ok(())
        })
    }

    /// Says farewell by TLS, and waits until the other end has closed.
    pub fn close(mut self) -> io::Result<()> {
        if let Stream::Tls(stream) = &mut self.stream {
            let _ = stream.shutdown();
        }
        loop {
            match self.fill() {
                Ok(()) => self.start = self.buffer.len(),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn tcp(&self, use_it: impl FnOnce(&TcpStream) -> io::Result<()>) -> io::Result<()> {
        match &self.stream {
            Stream::Plain(stream) => use_it(&stream.0),
            Stream::Tls(stream) => use_it(&stream.get_ref().0),
            Stream::Gone => Ok(()),
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let filled = self.buffer.len();
        self.buffer.resize(filled + CHUNK, 0);
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut self.buffer[filled..]),
            Stream::Tls(stream) => match stream.ssl_read(&mut self.buffer[filled..]) {
                Ok(read) => Ok(read),
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => Ok(0),
                Err(error) => Err(error.into_io_error().unwrap_or_else(io::Error::other)),
            },
            Stream::Gone => Err(ErrorKind::NotConnected.into()),
        };
        let read = read.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
            _ => error,
        });
        self.buffer.truncate(filled + read.as_ref().map_or(0, |read| *read));
        match read? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Devices' TLS, by version.
pub fn contexts() -> [SslContext; 3] {
    [(Version::Tls1_0, "AES128-SHA"), (Version::Tls1_1, "AES256-SHA"), (Version::Tls1_2, "ECDHE-RSA-AES128-GCM-SHA256")]
        .map(|(version, ciphers)| stacks::context(|context| old(context, version, ciphers)))
}

/// A device's own; nothing is slower than that, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);
const CHUNK: usize = 32_768;
