//! A connection of a mail client to the simulator reads and writes lines and octets, until its time is over.

use std::fmt;
use std::io;

use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep_until};

use super::quirks::smtp::Afterwards;
use super::quirks::{Expiry, Quirks};
use super::world::World;
use crate::transport::Facts;
use crate::transport::downstream::{self, Acceptor, HandshakeError, Sessions, Tls};
use crate::transport::socket::Socket;

/// A connection, in clear or with TLS on it.
pub(super) struct Connection {
    stream: Stream,
    /// A second handle of the socket, for a reset.
    socket: TcpStream,
    unread: Vec<u8>,
    quirks: watch::Receiver<Quirks>,
    begun: Instant,
    /// The time of the client's last input.
    last_input: Instant,
    login: Option<SessionStart>,
    kind: Kind,
}

enum Stream {
    Clear(Socket),
    Tls(Tls),
    /// The handshake has failed.
    Gone,
}

/// The time limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The limits of IMAP and POP3: one before the login, others behind it.
    Mailbox,
    /// The limit of a submission session.
    Submission,
}

struct SessionStart {
    at: Instant,
    token_ends: Instant,
}

/// The error of a connection that does not begin.
#[derive(Debug)]
pub(super) enum AcceptError {
    /// The system refuses a second handle of the socket.
    Socket(io::Error),
    /// The TLS handshake fails.
    Handshake(HandshakeError),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "{error}"),
            Self::Handshake(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for AcceptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket(error) => Some(error),
            Self::Handshake(error) => Some(error),
        }
    }
}

/// The ways in which a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client is gone, or does not read.
    Gone,
    /// The service has finished.
    Finished,
    /// The connection is reset, without a last line.
    Reset,
    /// The token has expired.
    Expired,
    /// No login came in time, or the session's time is over.
    Closed,
    /// A line is too long for a command.
    TooLong,
}

impl Connection {
    /// Accepts a connection with a TLS handshake.
    pub(super) async fn accept(
        world: &World,
        acceptor: &Acceptor,
        tcp: TcpStream,
        kind: Kind,
    ) -> Result<Self, AcceptError> {
        let mut connection = Self::accept_in_clear(world, tcp, kind).map_err(AcceptError::Socket)?;
        connection.secure(acceptor).await.map_err(AcceptError::Handshake)?;
        Ok(connection)
    }

    /// Accepts a connection in clear.
    pub(super) fn accept_in_clear(world: &World, tcp: TcpStream, kind: Kind) -> io::Result<Self> {
        let one = tcp.into_std()?;
        let (socket, tcp) = (TcpStream::from_std(one.try_clone()?)?, TcpStream::from_std(one)?);
        let (quirks, stream) = (world.quirks.subscribe(), Stream::Clear(Socket::new(tcp)));
        let begun = Instant::now();
        Ok(Self { stream, socket, unread: Vec::new(), quirks, begun, last_input: begun, login: None, kind })
    }

    /// Makes the TLS handshake on a connection in clear.
    pub(super) async fn secure(&mut self, acceptor: &Acceptor) -> Result<(), HandshakeError> {
        self.stream = match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Clear(socket) => Stream::Tls(acceptor.accept(socket, Sessions::Strangers).await?),
            stream => stream,
        };
        Ok(())
    }

    /// Returns whether TLS is on the connection.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The facts of its TLS; `None` in clear.
    pub(super) fn facts(&self) -> Option<Facts> {
        match &self.stream {
            Stream::Tls(tls) => Some(downstream::facts(tls)),
            Stream::Clear(_) | Stream::Gone => None,
        }
    }

    /// Notes a login: from now on the session's time limit counts, no longer the login's.
    pub(super) fn logged_in(&mut self, token_ends: Instant) {
        self.login = Some(SessionStart { at: Instant::now(), token_ends });
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> Result<Vec<u8>, End> {
        match self.line_or(std::future::pending::<()>()).await? {
            Input::Line(line) => Ok(line),
            Input::Other(()) => Err(End::Gone),
        }
    }

    /// The next line, or the result of another future, whichever comes first.
    pub(super) async fn line_or<T>(&mut self, other: impl Future<Output = T>) -> Result<Input<T>, End> {
        tokio::pin!(other);
        loop {
            if let Some(at) = memchr(b'\n', &self.unread) {
                let mut line: Vec<u8> = self.unread.drain(..=at).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Input::Line(line));
            }
            if self.unread.len() > LONGEST_LINE {
                return Err(End::TooLong);
            }
            tokio::select! {
                read = self.fill() => read?,
                other = &mut other => return Ok(Input::Other(other)),
            }
        }
    }

    /// The next line by the protocol's own rule, which finds its length and that of its end.
    pub(super) async fn line_by(&mut self, find: impl Fn(&[u8]) -> Option<(usize, usize)>) -> Result<Vec<u8>, End> {
        loop {
            if let Some((length, end)) = find(&self.unread) {
                let mut line: Vec<u8> = self.unread.drain(..length + end).collect();
                line.truncate(length);
                return Ok(line);
            }
            if self.unread.len() > LONGEST_LINE {
                return Err(End::TooLong);
            }
            self.fill().await?;
        }
    }

    /// Takes everything that was read and not yet looked at.
    pub(super) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Puts octets back in front of what was read.
    pub(super) fn put_back(&mut self, octets: &[u8]) {
        self.unread.splice(..0, octets.iter().copied());
    }

    /// Reads so many octets.
    pub(super) async fn octets(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.unread.len() < count {
            self.fill().await?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Reads more octets. Dropping the future loses none.
    pub(super) async fn fill(&mut self) -> Result<(), End> {
        loop {
            let (at, end) = self.end();
            tokio::select! {
                read = self.stream.read(&mut self.unread) => return match read {
                    Ok(0) | Err(_) => Err(End::Gone),
                    Ok(_) => {
                        self.last_input = Instant::now();
                        Ok(())
                    }
                },
                () = sleep_until(at) => return Err(end),
                // The end may have come nearer.
                Ok(()) = self.quirks.changed() => {}
            }
        }
    }

    /// Sends octets. A long text is cut where the session's time is over.
    pub(super) async fn send(&mut self, octets: impl AsRef<[u8]>) -> Result<(), End> {
        for chunk in octets.as_ref().chunks(CHUNK) {
            let (at, end) = self.end();
            if at <= Instant::now() {
                return Err(end);
            }
            tokio::select! {
                written = self.stream.write(chunk) => written.map_err(|_| End::Gone)?,
                // A farewell cannot follow half a record.
                () = sleep_until(at) => return Err(End::Gone),
            }
        }
        let (at, _) = self.end();
        tokio::select! {
            flushed = self.stream.flush() => flushed.map_err(|_| End::Gone),
            () = sleep_until(at) => Err(End::Gone),
        }
    }

    /// Lets the connection live or die behind a fault.
    pub(super) async fn end_as(&mut self, then: Afterwards) -> Result<(), End> {
        match then {
            Afterwards::Continue => Ok(()),
            Afterwards::Close => Err(End::Finished),
            Afterwards::Reset => Err(End::Reset),
            Afterwards::Hang => loop {
                self.fill().await?;
                self.take_unread();
            },
        }
    }

    /// Sends the last line and closes the connection, or resets it.
    pub(super) async fn close(mut self, end: End, farewell: &str) {
        if end == End::Reset {
            let _ = self.socket.set_zero_linger();
            return;
        }
        // A client that does not read its farewell goes without.
        let parting = async {
            let _ = self.stream.write(farewell.as_bytes()).await;
            let _ = self.stream.shut_down().await;
        };
        let _ = tokio::time::timeout(PARTING, parting).await;
    }

    fn end(&self) -> (Instant, End) {
        let quirks = self.quirks.borrow();
        let mail = &quirks.mail;
        let after = |at: Instant, patience: Duration| at.checked_add(patience).unwrap_or(at + FAR);
        if self.kind == Kind::Submission {
            return (after(self.begun, quirks.smtp.session_life), End::Closed);
        }
        let Some(login) = &self.login else { return (after(self.begun, mail.login_timeout), End::Closed) };
        let mut end = (after(self.last_input, mail.idle_timeout), End::Closed);
        let closed = mail.close_13.map(|patience| (after(login.at, patience), End::Closed));
        let expired = (mail.expiry == Expiry::AtOnce).then(|| (login.expires(mail.session_life), End::Expired));
        for other in [closed, expired].into_iter().flatten() {
            if other.0 < end.0 {
                end = other;
            }
        }
        end
    }

    /// Ends the session at a command, where its token has expired and the client has not heard of that.
    pub(super) fn check_expiry(&self) -> Result<(), End> {
        let mail = &self.quirks.borrow().mail;
        let is_over = |login: &SessionStart| login.expires(mail.session_life) <= Instant::now();
        if self.login.as_ref().is_some_and(is_over) { Err(End::Expired) } else { Ok(()) }
    }
}

impl SessionStart {
    /// The end of the token, or of a shorter life since the login.
    fn expires(&self, life: Option<Duration>) -> Instant {
        let shorter = life.and_then(|life| self.at.checked_add(life));
        shorter.map_or(self.token_ends, |shorter| shorter.min(self.token_ends))
    }
}

impl Stream {
    async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Clear(socket) => socket.read_buf(into).await,
            Stream::Tls(tls) => tls.read_buf(into).await,
            Stream::Gone => Ok(0),
        }
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Stream::Clear(socket) => socket.write_all(octets).await,
            Stream::Tls(tls) => tls.write_all(octets).await,
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(socket) => socket.flush().await,
            Stream::Tls(tls) => tls.flush().await,
            Stream::Gone => Ok(()),
        }
    }

    async fn shut_down(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(socket) => socket.shutdown().await,
            Stream::Tls(tls) => tls.shutdown().await,
            Stream::Gone => Ok(()),
        }
    }
}

/// A line, or the result of another future.
pub(super) enum Input<T> {
    Line(Vec<u8>),
    Other(T),
}

const LONGEST_LINE: usize = 64 * 1024;
/// The most octets that are written at once: those of a TLS record.
const CHUNK: usize = 16 * 1024;
const PARTING: Duration = Duration::from_secs(5);
const FAR: Duration = Duration::from_secs(86_400);
