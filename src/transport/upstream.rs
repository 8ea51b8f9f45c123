//! Servers: dialled, and TLS towards them by rustls. Only this file and its part know rustls.
//!
//! TLS 1.2 and 1.3 only, the name verified, SNI sent; no setting lowers that.

mod reason;
mod tls;
mod trust;
mod warm;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, Error};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::socket::Socket;
use super::{Facts, Stream, host};
use crate::config::{Limits, Roots, Upstream};
use crate::diagnostic::Diagnostic;
use crate::failure::{Failure, Kind};
use crate::protocol::{Protocol, Security};

pub use tls::Tls;
use trust::Trust;
pub use trust::remarks;
use warm::WarmPool;

/// Dials one server, whatever is spoken there.
pub struct Connector {
    host: String,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    keep_alive: Duration,
    /// What to try when it does not answer in TLS.
    without_tls: &'static str,
    /// What the name resolved to, and when.
    resolved: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    warm: WarmPool,
}

/// A mail server, for both protocols.
pub struct Server {
    upstream: Upstream,
    /// Digests of the certificates in the file that `roots` names.
    trusted: BTreeSet<[u8; 32]>,
    imap: Connector,
    pop3: Connector,
}

impl Server {
    /// Loads the roots and prepares TLS.
    ///
    /// # Errors
    /// The roots cannot be read, or the name is none; with the key that says so.
    pub fn new(upstream: &Upstream, limits: &Limits) -> Result<Self, Diagnostic> {
        let tls = config(&upstream.roots)?;
        let connector = |host: &str, key| {
            let name = upstream.server_name.as_deref().unwrap_or(host);
            let key = if upstream.server_name.is_some() { "server_name" } else { key };
            let mut connector =
                Connector::over(&tls, host, name, limits).map_err(|message| Diagnostic::new(key, message))?;
            if upstream.security == Security::Implicit {
                connector.without_tls = "; if it wants STARTTLS, set security = \"starttls\"";
            }
            connector.warm = WarmPool::new(upstream.warm_connections, upstream.warm_time);
            Ok(connector)
        };
        Ok(Self {
            imap: connector(&upstream.host, "host")?,
            pop3: connector(&upstream.pop3_host, "pop3_host")?,
            trusted: trust::digests(&upstream.roots).map_err(|message| Diagnostic::new("roots", message))?,
            upstream: upstream.clone(),
        })
    }

    /// Whether it is the one that is configured so.
    pub fn is_of(&self, upstream: &Upstream) -> bool {
        self.upstream == *upstream
    }

    /// Whether a connection to another server would be made in the same way to this one: to the same address, with the same
    /// name and security, and with each certificate trusted that was trusted there.
    pub fn stands_in_for(&self, other: &Self, protocol: Protocol) -> bool {
        let (own, others) = (&self.upstream, &other.upstream);
        own.address(protocol) == others.address(protocol)
            && (&own.server_name, own.security, &own.roots) == (&others.server_name, others.security, &others.roots)
            && other.trusted.is_subset(&self.trusted)
    }

    /// Whether it takes connections, by either protocol. Nothing is said to it.
    pub async fn is_reached(&self) -> bool {
        self.dial(Protocol::Imap).await.is_ok() || self.dial(Protocol::Pop3).await.is_ok()
    }

    /// How TLS comes about here.
    pub fn security(&self) -> Security {
        self.upstream.security
    }

    /// Connects to the server's port for the protocol, without TLS. See [`Connector::dial`].
    ///
    /// # Errors
    /// The name does not resolve, or no address answers.
    pub async fn dial(&self, protocol: Protocol) -> Result<Socket, Failure> {
        self.connector(protocol).dial(self.upstream.port(protocol)).await
    }

    /// Shakes hands. See [`Connector::handshake`].
    ///
    /// # Errors
    /// The certificate is not accepted, the server's TLS is too old, or the connection broke.
    pub async fn handshake(&self, protocol: Protocol, socket: Socket) -> Result<Stream, Failure> {
        self.connector(protocol).handshake(socket).await
    }

    /// How many connections are to be ready for each protocol.
    pub fn warm_connections(&self) -> usize {
        self.upstream.warm_connections
    }

    /// A connection that is ready: TLS stands, and the greeting is what is read first. None where there is none.
    pub fn take_warm(&self, protocol: Protocol) -> Option<Stream> {
        self.connector(protocol).warm.take().map(|tls| Stream::Server(Box::new(tls)))
    }

    /// Waits until a connection is missing among those that are to be ready, and makes it.
    ///
    /// # Errors
    /// The server is not reached, or does not greet.
    pub async fn warm_up(&self, protocol: Protocol) -> Result<(), Failure> {
        let connector = self.connector(protocol);
        connector.warm.wanted().await;
        let tls = connector.secure(self.dial(protocol).await?).await?;
        match timeout(connector.handshake_timeout, connector.warm.park(tls)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(Kind::UpstreamLost, format!("{}: {error}", connector.host))),
            Err(_) => Err(Failure::new(Kind::UpstreamTimeout, format!("{}: greeting", connector.host))),
        }
    }

    /// Closes the connections that are ready.
    pub fn clear_warm(&self, protocol: Protocol) {
        self.connector(protocol).warm.clear();
    }

    fn connector(&self, protocol: Protocol) -> &Connector {
        match protocol {
            Protocol::Imap => &self.imap,
            Protocol::Pop3 => &self.pop3,
        }
    }
}

impl Connector {
    /// Loads the roots and prepares TLS for this host, which must have its own name in the certificate.
    ///
    /// # Errors
    /// The roots cannot be read, or the name is none.
    pub fn new(host: &str, of: &Roots, limits: &Limits) -> Result<Self, String> {
        Self::over(&config(of).map_err(|found| found.message)?, host, host, limits)
    }

    fn over(tls: &Arc<ClientConfig>, host: &str, name: &str, limits: &Limits) -> Result<Self, String> {
        let server_name =
            ServerName::try_from(name.to_owned()).map_err(|_| "is neither a DNS name nor an address".to_owned())?;
        Ok(Self {
            host: host.to_owned(),
            server_name,
            tls: Arc::clone(tls),
            connect_timeout: limits.connect_timeout,
            handshake_timeout: limits.upstream_handshake_timeout,
            keep_alive: limits.keep_alive,
            without_tls: "",
            resolved: Mutex::default(),
            warm: WarmPool::new(0, Duration::ZERO),
        })
    }

    /// Connects to a port, without TLS.
    ///
    /// Addresses of both families are tried in turn: the next one when one fails, or is silent for a quarter of a
    /// second; the first that answers is taken (RFC 8305 §5). What the name resolves to is kept for ten seconds, or until
    /// none of it answers: the resolver costs as much as a TLS handshake.
    ///
    /// # Errors
    /// The name does not resolve, or no address answers.
    pub async fn dial(&self, port: u16) -> Result<Socket, Failure> {
        let stream = match self.known(port) {
            Some(addresses) => match self.first_of(addresses.clone(), port).await {
                Ok(stream) => stream,
                Err(failure) => match self.resolve(port).await? {
                    others if others != addresses => self.first_of(others, port).await?,
                    _ => return Err(failure),
                },
            },
            None => self.first_of(self.resolve(port).await?, port).await?,
        };
        match super::tune(&stream, self.keep_alive) {
            Ok(()) => Ok(Socket::new(stream)),
            // The server has reset it already.
            Err(error) => {
                Err(Failure::new(Kind::UpstreamLost, format!("{} broke off the connection: {error}", self.host)))
            }
        }
    }

    fn known(&self, port: u16) -> Option<Vec<SocketAddr>> {
        let known = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, addresses) = known.as_ref().filter(|(since, _)| since.elapsed() < KNOWN)?;
        addresses.iter().all(|address| address.port() == port).then(|| addresses.clone())
    }

    async fn resolve(&self, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let resolved = host::resolve(&self.host, port, self.connect_timeout).await;
        let resolved = resolved.map_err(|error| Failure::new(Kind::Resolve, format!("{}: {error}", self.host)))?;
        let addresses = interleave(resolved);
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    /// Why the one name that needs no network does not resolve, if it does not.
    pub async fn unresolved_localhost() -> Option<String> {
        let resolved = host::resolve("localhost", 0, LOCALHOST).await;
        resolved.err().map(|error| format!("the name localhost does not resolve: {error}"))
    }

    async fn first_of(&self, addresses: Vec<SocketAddr>, port: u16) -> Result<TcpStream, Failure> {
        let mut reasons = Vec::new();
        if let [only] = addresses.as_slice() {
            match attempt(*only, self.connect_timeout).await {
                Ok(stream) => return Ok(stream),
                Err(reason) => reasons.push(reason),
            }
        } else {
            let mut addresses = addresses.into_iter();
            let mut attempts = JoinSet::new();
            loop {
                let next = addresses.next().map(|address| attempts.spawn(attempt(address, self.connect_timeout)));
                let ended = match next {
                    Some(_) => timeout(HEAD_START, attempts.join_next()).await,
                    None => Ok(attempts.join_next().await),
                };
                match ended {
                    Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
                    Ok(Some(Ok(Err(reason)))) => reasons.push(reason),
                    // Its head start is over, or the runtime has dropped it.
                    Err(_) | Ok(Some(Err(_))) => {}
                    Ok(None) => break,
                }
            }
        }
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let reasons = if reasons.is_empty() { "it has no address".to_owned() } else { reasons.join(", ") };
        Err(Failure::new(Kind::Connect, format!("{} port {port} ({reasons})", self.host)))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The certificate is not accepted, the server's TLS is too old, or the connection broke.
    pub async fn handshake(&self, socket: Socket) -> Result<Stream, Failure> {
        Ok(Stream::Server(Box::new(self.secure(socket).await?)))
    }

    async fn secure(&self, socket: Socket) -> Result<Tls, Failure> {
        let handshake = Tls::connect(Arc::clone(&self.tls), self.server_name.clone(), socket);
        match timeout(self.handshake_timeout, handshake).await {
            Ok(Ok(tls)) => Ok(tls),
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(_) => Err(Failure::new(Kind::UpstreamTimeout, format!("{}: TLS handshake", self.host))),
        }
    }

    fn refused(&self, error: &io::Error) -> Failure {
        let host = &self.host;
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            // Exchange resets connections over its limit: that passes.
            return Failure::new(Kind::UpstreamLost, format!("{host} broke off the TLS handshake: {error}"));
        };
        match error {
            Error::InvalidCertificate(reason) => {
                let reason_text = reason::certificate(reason, &self.server_name.to_str());
                let or = reason::other_way_out(reason);
                Failure::new(Kind::UpstreamCertificate, format!("{host}: {reason_text}{or}"))
            }
            other => {
                let reason = reason::handshake(other, self.without_tls);
                Failure::new(Kind::UpstreamTls, format!("{host} {reason}"))
            }
        }
    }
}

/// What is known of a connection.
pub fn facts(tls: &Tls) -> Facts {
    tls.facts()
}

fn config(of: &Roots) -> Result<Arc<ClientConfig>, Diagnostic> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // Where the choice is ours: AES-128-GCM with SHA-256 first, then the rest in rustls's order. Processors have SHA-256
    // built in and not SHA-384, on which a TLS 1.3 handshake spends a quarter of its time. Exchange Online makes its own choice.
    provider.cipher_suites.sort_by_key(|suite| !matches!(suite.suite(), CipherSuite::TLS13_AES_128_GCM_SHA256));
    let provider = Arc::new(provider);
    let trust = Trust::load(of, &provider).map_err(|message| Diagnostic::new("roots", message))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Diagnostic::new("host", format_args!("rustls: {error}")))?;
    let config = match trust {
        Trust::Authorities(store) => config.with_root_certificates(store),
        Trust::File(verifier) => config.dangerous().with_custom_certificate_verifier(verifier),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

async fn attempt(address: SocketAddr, limit: Duration) -> Result<TcpStream, String> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer within {}", humantime::format_duration(limit))),
    }
}

/// Families in turn, the resolver's first one first (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| matches!(address.ip(), IpAddr::V6(_)) == first_is_v6);
    first.reverse();
    second.reverse();
    let mut turns = Vec::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        turns.extend(first.pop());
        turns.extend(second.pop());
    }
    turns
}

/// It stands in /etc/hosts, or the resolver knows it by itself.
const LOCALHOST: Duration = Duration::from_secs(5);
/// How long an answer of the resolver is good. Names of large services change theirs every minute or so.
const KNOWN: Duration = Duration::from_secs(10);
/// RFC 8305 §5: Connection Attempt Delay.
const HEAD_START: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let addresses = ["[::1]:1", "[::2]:1", "127.0.0.1:1"].map(|address| address.parse().unwrap()).to_vec();
        let turns: Vec<String> = interleave(addresses).iter().map(ToString::to_string).collect();
        assert_eq!(turns, ["[::1]:1", "127.0.0.1:1", "[::2]:1"]);
    }

    /// The root that Exchange Online's chain has ended in since spring 2026.
    #[test]
    fn the_bundled_roots_hold_digicert_global_root_g2() {
        let name = b"DigiCert Global Root G2";
        let found = webpki_roots::TLS_SERVER_ROOTS
            .iter()
            .any(|anchor| anchor.subject.as_ref().windows(name.len()).any(|window| window == name));
        assert!(found);
    }
}
