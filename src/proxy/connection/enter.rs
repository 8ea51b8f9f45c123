//! The entrance of a connection: the balancer's header, the first octets, and TLS, up to a stream that speaks the
//! protocol.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::mistake::SOON;
use super::session_record::SessionRecord;
use crate::config::Entry;
use crate::failure::{Failure, Kind};
use crate::inventory::{Observation, TlsMode};
use crate::proxy::limits::Admitted;
use crate::proxy::service::{Service, setting};
use crate::transport::Stream;
use crate::transport::detect::Opening;
use crate::transport::detect::hello::ClientHello;
use crate::transport::downstream::refusal;
use crate::transport::proxy_header::Announced;
use crate::transport::socket::Socket;

impl Service {
    /// Reads the balancer's header and checks the source that it names. None for a health check.
    ///
    /// # Errors
    /// The source that is not admitted, and the reason.
    pub(super) async fn announced(
        &self,
        stream: &mut Socket,
        balancer: SocketAddr,
        admitted: &mut Admitted,
    ) -> Result<Option<SocketAddr>, (SocketAddr, Failure)> {
        let advice = "it is named in proxy_protocol: switch the PROXY protocol on there (HAProxy: send-proxy-v2), or \
                      remove it from the list";
        let none = || (balancer, Failure::new(Kind::ProxyHeader, advice));
        let announced = timeout(self.limits.handshake_timeout, stream.announced()).await;
        let source = match announced.map_err(|_| none())? {
            Ok(Announced::For(source)) => SocketAddr::new(source.ip().to_canonical(), source.port()),
            // A health check may open a session if its source is allowed; otherwise it is closed without a log line.
            Ok(Announced::Itself) if self.admits(balancer.ip()).is_err() => return Ok(None),
            Ok(Announced::Itself) => balancer,
            Ok(Announced::Closed) | Err(_) => return Ok(None),
            Ok(Announced::Nothing) => return Err(none()),
        };
        self.admits(source.ip())
            .and_then(|()| admitted.assign_source(source.ip()))
            .map_err(|failure| (source, failure))?;
        Ok(Some(source))
    }

    /// Takes a connection from its first octet to a stream that speaks the protocol.
    pub(super) async fn enter(&self, mut stream: Socket, record: &mut SessionRecord<'_>) -> Result<Stream, Failure> {
        match self.entry_of(&stream) {
            Entry::Implicit => self.secure(stream, TlsMode::Implicit, None, record).await,
            Entry::StartTls | Entry::Plaintext => Ok(Stream::Plain(stream)),
            Entry::Auto => {
                let delay = self.listener.detect_delay;
                match timeout(delay + self.limits.handshake_timeout, stream.opening(Some(delay))).await {
                    Ok(Ok(Opening::Plaintext | Opening::Silence)) => Ok(Stream::Plain(stream)),
                    Ok(Ok(Opening::Closed) | Err(_)) => Err(Failure::new(Kind::NothingSaid, "")),
                    Ok(Ok(opening @ (Opening::Hello(_) | Opening::Strange))) => {
                        self.secure(stream, TlsMode::Implicit, Some(opening), record).await
                    }
                    Err(_) => Err(self.too_slow("its ClientHello does not end")),
                }
            }
        }
    }

    /// Shakes hands with the device, and records what it has shown. A failure has an explanation. The opening is the
    /// device's, where it is known already. A device that waits for a greeting where TLS comes first, and gives up, has
    /// made a mistake; health checks and port scans leave at once.
    pub(super) async fn secure(
        &self,
        stream: Socket,
        tls_mode: TlsMode,
        opening: Option<Opening>,
        record: &mut SessionRecord<'_>,
    ) -> Result<Stream, Failure> {
        let mut hello = None;
        let (began, source) = (Instant::now(), record.source.ip());
        let shaken = self.shake_hands(stream, source, opening, &mut hello).await;
        let (tls, refused) = match &shaken {
            Ok(stream) => (stream.facts(), None),
            Err(failure) if failure.kind == Kind::NothingSaid => {
                let is_device = tls_mode == TlsMode::Implicit && !self.listener.proxy_protocol.contain(source);
                let has_waited = is_device && failure.is_abrupt && began.elapsed() >= SOON;
                return if has_waited { Err(Failure::new(Kind::NoCommand, WAITS_FOR_GREETING)) } else { shaken };
            }
            Err(failure) => (None, Some(failure)),
        };
        let observation = self.telemetry.observation(source);
        record.observed(&Observation {
            tls_mode: Some(tls_mode),
            hello: hello.as_deref(),
            tls,
            refused,
            ..observation
        });
        shaken
    }

    async fn shake_hands(
        &self,
        mut stream: Socket,
        source: IpAddr,
        opening: Option<Opening>,
        shown: &mut Option<Box<ClientHello>>,
    ) -> Result<Stream, Failure> {
        let Some(acceptor) = &self.acceptor else {
            return Err(Failure::new(Kind::Handshake, "this listener has no TLS"));
        };
        let mut begun = false;
        let handshake = async {
            let opening = match opening {
                Some(opening) => Ok(opening),
                None => stream.opening(None).await,
            };
            match opening {
                Ok(Opening::Hello(hello)) => *shown = Some(hello),
                Ok(Opening::Strange | Opening::Silence) => {}
                Ok(Opening::Closed) => return Err(silent_end(true)),
                Err(error) => return Err(silent_end(error.kind() == ErrorKind::ConnectionReset)),
                Ok(Opening::Plaintext) => {
                    let advice = "the device speaks without TLS: switch SSL/TLS on in the device";
                    return Err(Failure::new(Kind::Handshake, advice));
                }
            }
            begun = true;
            let hello = shown.as_deref();
            if hello.is_some_and(|hello| hello.sslv2_format) && !self.listener.tls.sslv2_hello {
                // The alert is sent in a form that the device reads. It may be gone already.
                let _ = stream.write_all(ALERT_HANDSHAKE_FAILURE).await;
                let _ = stream.flush().await;
                return Err(refusal::sslv2_format(hello, &self.listener.tls, acceptor.has_ecdsa()));
            }
            // Count the handshake before its expensive part.
            let sessions = self.connections.begin_handshake(source)?;
            match acceptor.accept(stream, sessions).await {
                Ok(tls) => Ok(Stream::Device(Box::new(tls))),
                Err(refused) => {
                    let failure = refusal::explain(&refused, hello, &self.listener.tls, acceptor.has_ecdsa());
                    Err(self.with_ancient_hint(failure, hello, acceptor.has_ecdsa(), source))
                }
            }
        };
        match timeout(self.limits.handshake_timeout, handshake).await {
            Ok(result) => result,
            Err(_) if begun => Err(self.too_slow("it began and did not finish")),
            Err(_) => Err(self.too_slow(&format!("it sent nothing: {WAITS_FOR_GREETING}"))),
        }
    }

    /// Adds the way in for one device alone, where only the profile "ancient" accepts its offer.
    fn with_ancient_hint(
        &self,
        mut failure: Failure,
        hello: Option<&ClientHello>,
        has_ecdsa: bool,
        source: IpAddr,
    ) -> Failure {
        if let Some(hint) = &self.hints.ancient
            && refusal::is_for_ancient(&failure, hello, has_ecdsa)
        {
            failure.detail.push_str(&format!("; {}", hint.advice(source)));
        }
        failure
    }

    fn too_slow(&self, what: &str) -> Failure {
        let limit = setting("handshake_timeout", self.limits.handshake_timeout);
        Failure::new(Kind::HandshakeTimeout, format!("{what} ({limit})"))
    }
}

/// The failure of a connection that ended before its first octet: the device closed it, or it is lost.
fn silent_end(is_closed: bool) -> Failure {
    Failure { is_abrupt: is_closed, ..Failure::new(Kind::NothingSaid, "") }
}

/// The advice about a device with STARTTLS on a port where TLS comes first.
const WAITS_FOR_GREETING: &str = "if it waits for a greeting, choose SSL/TLS in the device in place of STARTTLS, or \
                                  set entry = \"auto\" on this listener";

/// A fatal alert in a record of SSLv3, which every stack reads (RFC 5246 §7.2).
const ALERT_HANDSHAKE_FAILURE: &[u8] = &[21, 3, 0, 0, 2, 2, 40];
