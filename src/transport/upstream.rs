//! Mail servers as packetboat reaches them: one server is one endpoint, with TLS by rustls. Only this room knows
//! rustls.
//!
//! TLS 1.2 and 1.3 only, the name verified, SNI sent; no setting lowers that.

mod client_config;
mod connector;
mod dialer;
mod parked;
mod reason;
mod remarks;
mod tls;
mod trust;
mod warm;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::socket::Socket;
use super::{Facts, Stream};
use crate::config::{Endpoint, Limits, Roots, Upstream};
use crate::diagnostic::Diagnostic;
use crate::failure::{Failure, Kind};
use crate::protocol::{ByProtocol, Protocol, Security};

pub use client_config::ConfigError;
pub use connector::{Connector, ConnectorError};
pub use dialer::unresolved_localhost;
pub use parked::ParkedConnection;
pub use remarks::remarks;
pub use tls::Tls;
pub use trust::RootsError;
use warm::WarmPool;

/// An endpoint of a mail server, where one protocol is spoken.
pub struct Server {
    protocol: Protocol,
    endpoint: Endpoint,
    roots: Roots,
    /// Digests of the certificates in the file that `roots` names.
    trusted: Arc<BTreeSet<[u8; 32]>>,
    connector: Connector,
    warm: WarmPool,
    parking: ParkingTimes,
}

/// The times of parked connections.
#[derive(Clone, Copy, Debug)]
pub struct ParkingTimes {
    /// The time for which a connection is parked at most; none is where that is nothing.
    pub time: Duration,
    /// The time since its login after which it is not parked any more.
    pub age: Duration,
}

/// A mail server with all of its endpoints.
pub struct MailServer {
    upstream: Upstream,
    by_protocol: ByProtocol<Option<Arc<Server>>>,
}

impl MailServer {
    /// Loads the roots and prepares TLS.
    ///
    /// # Errors
    /// The roots cannot be read, or a name is none; with the key below the upstream.
    pub fn new(upstream: &Upstream, limits: &Limits) -> Result<Self, Diagnostic> {
        let tls = client_config::client_config(&upstream.roots).map_err(|error| Diagnostic::new("roots", error))?;
        let trusted = trust::digests(&upstream.roots).map_err(|error| Diagnostic::new("roots", error))?;
        let trusted = Arc::new(trusted);
        let by_protocol = ByProtocol::try_new(|protocol| {
            let endpoint = upstream.endpoint(protocol);
            let server = endpoint.map(|one| Server::new(upstream, (protocol, one), &tls, &trusted, limits));
            server.transpose().map(|server| server.map(Arc::new))
        })?;
        Ok(Self { upstream: upstream.clone(), by_protocol })
    }

    /// The endpoint of one protocol; none where the server does not serve it.
    pub fn of(&self, protocol: Protocol) -> Option<&Arc<Server>> {
        self.by_protocol.of(protocol).as_ref()
    }

    /// Returns whether this is the mail server that is configured so.
    pub fn is_of(&self, upstream: &Upstream) -> bool {
        self.upstream == *upstream
    }

    /// Returns whether the mail server takes connections at any endpoint. It dials them in turn, and sends nothing.
    pub async fn is_reached(&self) -> bool {
        for server in self.by_protocol.iter().filter_map(|(_, server)| server.as_ref()) {
            if server.dial().await.is_ok() {
                return true;
            }
        }
        false
    }
}

impl Server {
    fn new(
        upstream: &Upstream,
        (protocol, endpoint): (Protocol, &Endpoint),
        tls: &Arc<ClientConfig>,
        trusted: &Arc<BTreeSet<[u8; 32]>>,
        limits: &Limits,
    ) -> Result<Self, Diagnostic> {
        let connector = Connector::with(Arc::clone(tls), &endpoint.host, endpoint.verified_name(), limits);
        let mut connector = connector.map_err(|error| {
            let key = if endpoint.server_name.is_some() { "server_name" } else { "host" };
            Diagnostic::new(key, error).below(protocol.key())
        })?;
        let warm = match endpoint.security {
            Security::Implicit => {
                connector = connector.advising("; if it wants STARTTLS, set security = \"starttls\"");
                WarmPool::new(protocol, upstream.warm_connections, upstream.warm_time)
            }
            Security::StartTls => WarmPool::new(protocol, 0, upstream.warm_time),
        };
        // POP3 deletes behind QUIT alone, and SMTP leaves the server between two messages anyway.
        let time = if protocol == Protocol::Imap { upstream.park } else { Duration::ZERO };
        Ok(Self {
            protocol,
            endpoint: endpoint.clone(),
            roots: upstream.roots.clone(),
            trusted: Arc::clone(trusted),
            connector,
            warm,
            parking: ParkingTimes { time, age: upstream.park_age },
        })
    }

    /// The protocol that is spoken here.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The way TLS starts here.
    pub fn security(&self) -> Security {
        self.endpoint.security
    }

    /// Returns whether a connection to another server would be made in the same way to this one: to the same address,
    /// with the same name and security, and with each certificate trusted that was trusted there.
    pub fn stands_in_for(&self, other: &Self) -> bool {
        (&self.endpoint, &self.roots) == (&other.endpoint, &other.roots) && other.trusted.is_subset(&self.trusted)
    }

    /// Resolves the host's name, for the next [`dial`](Self::dial).
    ///
    /// # Errors
    /// The name does not resolve.
    pub async fn resolve(&self) -> Result<(), Failure> {
        self.connector.resolve(self.endpoint.port).await
    }

    /// Connects to the server, without TLS. See [`Connector::dial`].
    ///
    /// # Errors
    /// The name does not resolve, or no address answers.
    pub async fn dial(&self) -> Result<Socket, Failure> {
        self.connector.dial(self.endpoint.port).await
    }

    /// Shakes hands. See [`Connector::handshake`].
    ///
    /// # Errors
    /// The certificate is not accepted, the server's TLS is too old, or the connection broke.
    pub async fn handshake(&self, socket: Socket) -> Result<Stream, Failure> {
        self.connector.handshake(socket).await
    }

    /// The times of connections that are parked after LOGOUT.
    pub fn parking(&self) -> ParkingTimes {
        self.parking
    }

    /// Returns whether connections are kept ready for logins.
    pub fn is_kept_warm(&self) -> bool {
        self.warm.size() > 0
    }

    /// Takes a connection that is ready, if there is one: TLS is done, and the greeting is what is read first.
    pub fn take_warm(&self) -> Option<Stream> {
        self.warm.take().map(|tls| Stream::Server(Box::new(tls)))
    }

    /// Waits until one of the ready connections is missing, and makes it.
    ///
    /// # Errors
    /// The server is not reached, or does not greet.
    pub async fn warm_up(&self) -> Result<(), Failure> {
        self.warm.wanted().await;
        let tls = self.connector.secure(self.dial().await?).await?;
        let parked = self.connector.within("greeting", self.warm.park(tls)).await?;
        parked.map_err(|error| Failure::new(Kind::UpstreamLost, format!("{}: {error}", self.endpoint.host)))
    }

    /// Closes the connections that are ready.
    pub fn clear_warm(&self) {
        self.warm.clear();
    }
}

/// The facts about a connection's TLS.
pub fn facts(tls: &Tls) -> Facts {
    tls.facts()
}
