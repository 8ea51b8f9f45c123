//! TLS over a socket's own buffers: rustls decrypts where octets were received, and encrypts where they are sent from.
//!
//! tokio-rustls would serve, with buffers of its own: some 4 KiB for each connection that idles, a `recv` for each
//! record and a `send` for every four. Here one call of either carries up to 128 KiB, and an idle connection has no
//! buffer.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream as StdStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::transport::Facts;
use crate::transport::buffer::{Buffer, CAPACITY};
use crate::transport::socket::Socket;

/// An encrypted stream towards a server.
pub struct Tls {
    connection: UnbufferedClientConnection,
    socket: Socket,
    /// Plaintext for which a reader had no room.
    rest: Vec<u8>,
    /// The number of octets of the rest that are read.
    read: usize,
    /// True if the server has closed.
    ended: bool,
    fault: Fault,
}

/// The failure of the connection, after which rustls must not be called again.
#[derive(Default)]
enum Fault {
    #[default]
    None,
    /// The error is still to be returned to a reader, behind the octets that came before it.
    Unreported(io::Error),
    Reported,
}

/// A connection without an event loop.
pub(super) struct Parked {
    tcp: StdStream,
    connection: UnbufferedClientConnection,
    /// The greeting, decrypted.
    greeting: Vec<u8>,
}

/// The state of the connection after a call of rustls.
enum Progress {
    /// The handshake is done, and there is no whole record any more.
    Open,
    /// The handshake waits for the server.
    Handshaking,
    /// The server has closed, and may be written to no longer.
    Closed,
}

/// The output to produce as soon as octets may be sent.
enum Output<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    CloseNotify,
}

impl Tls {
    /// Shakes hands; bound it with a timeout. The last flight goes out with the first words, or when an answer is
    /// waited for.
    ///
    /// # Errors
    /// An [`rustls::Error`] in an [`io::Error`], or the connection broke.
    pub(super) async fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        mut socket: Socket,
    ) -> io::Result<Self> {
        socket.put_under_tls();
        let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = Self { connection, socket, rest: Vec::new(), read: 0, ended: false, fault: Fault::None };
        loop {
            match tls.advance(None, Output::Nothing) {
                Ok(Progress::Open) => return Ok(tls),
                Ok(Progress::Handshaking) => {}
                Ok(Progress::Closed) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => {
                    // The alert that says why; a server that is gone does without.
                    let _ = poll_fn(|cx| tls.socket.poll_send(cx)).await;
                    return Err(error);
                }
            }
            if poll_fn(|cx| tls.socket.poll_fill(cx)).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
            }
        }
    }

    /// Takes the connection off its event loop, with the greeting that was read.
    pub(super) async fn park(mut self, mut greeting: Vec<u8>) -> io::Result<Parked> {
        // Our last flight of the handshake, where the server has greeted without waiting for it.
        poll_fn(|cx| self.socket.poll_send(cx)).await?;
        greeting.extend_from_slice(self.rest.get(self.read..).unwrap_or_default());
        Ok(Parked { tcp: self.socket.into_std()?, connection: self.connection, greeting })
    }

    /// Puts a connection on this thread's event loop. The greeting is read from it again.
    pub(super) fn unpark(parked: Parked) -> io::Result<Self> {
        let mut socket = Socket::new(TcpStream::from_std(parked.tcp)?);
        socket.put_under_tls();
        let (connection, rest) = (parked.connection, parked.greeting);
        Ok(Self { connection, socket, rest, read: 0, ended: false, fault: Fault::None })
    }

    /// Returns whether the connection works, and nothing that the server has sent waits to be read.
    pub(super) fn is_idle(&self) -> bool {
        let has_rest = self.rest.len() > self.read || !self.socket.incoming.is_empty();
        !has_rest && !self.ended && matches!(self.fault, Fault::None)
    }

    /// The facts about the connection's TLS.
    pub(super) fn facts(&self) -> Facts {
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "none",
        };
        let suite = self.connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        Facts {
            version,
            cipher: suite.unwrap_or("none"),
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Lets rustls work on all whole records, as long as the reader has room, and gathers the records that it sends.
    /// The output comes last, where the connection is open.
    fn advance(&mut self, mut reader: Option<&mut ReadBuf<'_>>, output: Output<'_>) -> io::Result<Progress> {
        let Socket { incoming, outgoing, .. } = &mut self.socket;
        loop {
            if reader.as_ref().is_some_and(|reader| reader.remaining() == 0) {
                return Ok(Progress::Open);
            }
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(incoming.filled_mut());
            let progress = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        deliver(record.payload, reader.as_deref_mut(), &mut self.rest);
                    }
                    None
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    put(outgoing, |room| data.encode(room).map_err(not_encoded))?;
                    None
                }
                // The data has been gathered in `outgoing`, after everything before it.
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    None
                }
                Ok(ConnectionState::Closed) => {
                    self.ended = true;
                    Some(Progress::Closed)
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Progress::Handshaking),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    put(outgoing, |room| {
                        let encrypted = match output {
                            Output::Nothing => return Ok(0),
                            Output::Encrypt(octets) => traffic.encrypt(octets, room),
                            Output::CloseNotify => traffic.queue_close_notify(room),
                        };
                        encrypted.map_err(not_encrypted)
                    })?;
                    Some(Progress::Open)
                }
                Ok(_) => return Err(io::Error::other("rustls is in a state that a client does not have")),
                Err(error) => {
                    incoming.pass(discard);
                    self.gather_alert();
                    self.fault = Fault::Reported;
                    return Err(invalid(error));
                }
            };
            incoming.pass(discard);
            if let Some(progress) = progress {
                return Ok(progress);
            }
        }
    }

    /// Asks rustls again after a failure, but only for the alert that tells the server of it, where there is one.
    fn gather_alert(&mut self) {
        let Socket { incoming, outgoing, .. } = &mut self.socket;
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(incoming.filled_mut());
            let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state else { break };
            let _ = put(outgoing, |room| data.encode(room).map_err(io::Error::other));
        }
    }
}

impl Parked {
    /// Returns whether nothing has come since the greeting: no farewell, no end.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.tcp.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Socket {
    /// The connection alone, away from its event loop. No octets may be on their way.
    fn into_std(self) -> io::Result<StdStream> {
        if self.incoming.is_empty() && self.outgoing.is_empty() {
            self.into_tcp().into_std()
        } else {
            Err(io::Error::other("octets are on their way"))
        }
    }
}

impl AsyncRead for Tls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, reader: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(rest) = this.rest.get(this.read..).filter(|rest| !rest.is_empty()) {
            let taken = rest.len().min(reader.remaining());
            reader.put_slice(rest.get(..taken).unwrap_or_default());
            this.read += taken;
            if this.read == this.rest.len() {
                (this.rest, this.read) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        match std::mem::replace(&mut this.fault, Fault::Reported) {
            Fault::None => this.fault = Fault::None,
            Fault::Unreported(error) => return Poll::Ready(Err(error)),
            Fault::Reported => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        let before = reader.filled().len();
        loop {
            if !this.socket.incoming.is_empty()
                && let Err(error) = this.advance(Some(&mut *reader), Output::Nothing)
            {
                // The alert goes now or never.
                let _ = this.socket.poll_send(cx);
                if reader.filled().len() == before {
                    return Poll::Ready(Err(error));
                }
                this.fault = Fault::Unreported(error);
            }
            if reader.filled().len() > before || this.ended || reader.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if ready!(this.socket.poll_fill(cx))? == 0 {
                // Without close_notify, an attacker may have cut the stream off (RFC 8446 §6.1).
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !matches!(this.fault, Fault::None) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if fitting(&mut this.socket.outgoing) < octets.len().min(RECORD) {
            ready!(this.socket.poll_send(cx))?;
        }
        let count = match octets.len().min(fitting(&mut this.socket.outgoing)) {
            // Octets that do not go now go in full records.
            count if count < octets.len() && count > RECORD => count - count % RECORD,
            count => count,
        };
        match this.advance(None, Output::Encrypt(octets.get(..count).unwrap_or_default()))? {
            Progress::Open => Poll::Ready(Ok(count)),
            Progress::Handshaking | Progress::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.socket.closing && matches!(this.fault, Fault::None) {
            if fitting(&mut this.socket.outgoing) == 0 {
                ready!(this.socket.poll_send(cx))?;
            }
            // Octets that the peer has sent meanwhile may be malformed; the connection is closed all the same.
            let _ = this.advance(None, Output::CloseNotify);
        }
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// The plaintext that fits into the room of the buffer, encrypted.
fn fitting(outgoing: &mut Buffer) -> usize {
    let room = outgoing.gather_room().saturating_sub(OWN_WORDS);
    room.saturating_sub((room / RECORD + 1) * OVERHEAD)
}

fn put(outgoing: &mut Buffer, write: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
    outgoing.gather_room();
    let count = write(outgoing.room(CAPACITY))?;
    outgoing.filled_by(count);
    if outgoing.is_empty() {
        outgoing.rest();
    }
    Ok(())
}

/// Gives plaintext to the reader, and keeps what the reader has no room for.
fn deliver(plaintext: &[u8], reader: Option<&mut ReadBuf<'_>>, rest: &mut Vec<u8>) {
    let room = reader.as_ref().map_or(0, |reader| reader.remaining());
    let (now, later) = plaintext.split_at(room.min(plaintext.len()));
    if let Some(reader) = reader {
        reader.put_slice(now);
    }
    rest.extend_from_slice(later);
}

fn not_encoded(error: EncodeError) -> io::Error {
    match error {
        EncodeError::InsufficientSize(size) => too_small(size),
        error @ EncodeError::AlreadyEncoded => io::Error::other(error),
    }
}

fn not_encrypted(error: EncryptError) -> io::Error {
    match error {
        EncryptError::InsufficientSize(size) => too_small(size),
        error @ EncryptError::EncryptExhausted => io::Error::other(error),
    }
}

fn too_small(InsufficientSizeError { required_size }: InsufficientSizeError) -> io::Error {
    io::Error::other(format!("no room for a record of {required_size} octets"))
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Plaintext of a full record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;
/// Kept free for what TLS itself has to say: answers to key updates, alerts. A server that asks for more of them than
/// fit, and does not read them, has lost the connection.
const OWN_WORDS: usize = 256;
/// A record's head, nonce, tag and type: no suite of rustls adds more (RFC 5288 §3, RFC 8446 §5.2).
const OVERHEAD: usize = 5 + 8 + 16 + 1;
