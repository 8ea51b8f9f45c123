//! The network behind a connection: streams to both peers, connections to servers, and TLS over either.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::session_record::SessionRecord;
use crate::failure::{Failure, Kind};
use crate::inventory::TlsMode;
use crate::protocol::Security;
use crate::proxy::service::Service;
use crate::transport::upstream::{ParkedConnection, Server};
use crate::transport::{Facts, Stream};

/// The ways to the peers of a connection: TCP and TLS in the proxy, pipes in tests.
pub(in crate::proxy) trait Network: 'static {
    /// A stream to a device or to a mail server.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Returns the facts about a stream's TLS; none in clear.
    fn facts(stream: &Self::Stream) -> Option<Facts>;

    /// Notes that the device of this stream has logged in.
    fn logged_in(_: &mut Self::Stream) {}

    /// Takes a warm connection to the server, if there is one.
    fn take_warm(&self, server: &Server) -> Option<Self::Stream>;

    /// Takes a stream to a server off its event loop.
    ///
    /// # Errors
    /// The stream, where it cannot be parked and may be used on; none where it is lost.
    fn park(stream: Self::Stream) -> impl Future<Output = Result<ParkedConnection, Option<Self::Stream>>> + Send;

    /// Puts a parked connection on the event loop of the calling thread.
    ///
    /// # Errors
    /// The event loop does not take it.
    fn unpark(parked: ParkedConnection) -> io::Result<Self::Stream>;

    /// Dials the server, up to where the protocol is spoken.
    async fn dial(&self, server: &Server) -> Result<ServerStream<Self::Stream>, Failure>;

    /// Shakes hands with the device, behind STARTTLS or STLS.
    async fn secure_device(
        &self,
        service: &Service,
        record: &mut SessionRecord<'_>,
        clear: Clear<Self::Stream>,
    ) -> Result<Self::Stream, Failure>;

    /// Shakes hands with the mail server, behind STARTTLS or STLS.
    async fn secure_server(&self, server: &Server, stream: Self::Stream) -> Result<Self::Stream, Failure>;
}

/// A connection to a server where the protocol can be spoken.
pub(in crate::proxy) struct ServerStream<S> {
    pub(in crate::proxy) stream: S,
    pub(in crate::proxy) security: Security,
    /// Whether the connection was warm, that is, established before the login. The server may have closed it at this
    /// very moment.
    pub(in crate::proxy) was_warm: bool,
}

/// A device's stream without TLS, and the octets that are read and not consumed: a ClientHello, or its beginning.
pub(in crate::proxy) struct Clear<S> {
    pub(in crate::proxy) stream: S,
    pub(in crate::proxy) unread: Zeroizing<Vec<u8>>,
}

/// TCP, with TLS by OpenSSL towards devices and by rustls towards servers.
pub(in crate::proxy) struct Tcp;

impl Network for Tcp {
    type Stream = Stream;

    fn facts(stream: &Stream) -> Option<Facts> {
        stream.facts()
    }

    fn logged_in(stream: &mut Stream) {
        stream.logged_in();
    }

    fn take_warm(&self, server: &Server) -> Option<Stream> {
        server.take_warm()
    }

    fn park(stream: Stream) -> impl Future<Output = Result<ParkedConnection, Option<Stream>>> + Send {
        ParkedConnection::of(stream)
    }

    fn unpark(parked: ParkedConnection) -> io::Result<Stream> {
        parked.unpark()
    }

    async fn dial(&self, server: &Server) -> Result<ServerStream<Stream>, Failure> {
        let socket = server.dial().await?;
        let security = server.security();
        let stream = match security {
            Security::Implicit => server.handshake(socket).await?,
            Security::StartTls => Stream::Plain(socket),
        };
        Ok(ServerStream { stream, security, was_warm: false })
    }

    async fn secure_device(
        &self,
        service: &Service,
        record: &mut SessionRecord<'_>,
        clear: Clear<Stream>,
    ) -> Result<Stream, Failure> {
        let Stream::Plain(mut socket) = clear.stream else {
            return Err(Failure::new(Kind::Handshake, "STARTTLS over TLS"));
        };
        socket.put_back(&clear.unread);
        service.secure(socket, TlsMode::StartTls, None, record).await
    }

    async fn secure_server(&self, server: &Server, stream: Stream) -> Result<Stream, Failure> {
        let Stream::Plain(socket) = stream else {
            return Err(Failure::new(Kind::UpstreamTls, "STARTTLS over TLS"));
        };
        server.handshake(socket).await
    }
}
