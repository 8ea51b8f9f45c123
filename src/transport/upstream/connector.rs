//! A connector dials one host and shakes hands with it by TLS. Mail servers and token endpoints are reached by it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;

use super::client_config::{ConfigError, client_config, with_certificate};
use super::dialer::Dialer;
use super::reason;
use super::tls::Tls;
use crate::config::{CertificateFiles, Limits, Roots};
use crate::failure::{Failure, Kind};
use crate::transport::Stream;
use crate::transport::socket::Socket;

/// Dials one host, and verifies its certificate.
pub struct Connector {
    dialer: Dialer,
    server_name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    handshake_timeout: Duration,
    /// Advice for a server that does not answer in TLS.
    without_tls: &'static str,
}

/// A connector that cannot be made.
#[derive(Debug)]
pub enum ConnectorError {
    /// TLS cannot be prepared.
    Config(ConfigError),
    /// The name to verify is neither a DNS name nor an address.
    Name,
}

impl Connector {
    /// Loads the roots and prepares TLS for this host, which must have its own name in the certificate.
    ///
    /// # Errors
    /// The roots cannot be read, or the name is none.
    pub fn new(host: &str, roots: &Roots, limits: &Limits) -> Result<Self, ConnectorError> {
        Self::with(client_config(roots).map_err(ConnectorError::Config)?, host, host, limits)
    }

    /// The same, with a certificate that is shown to the host.
    ///
    /// # Errors
    /// The roots, the certificate or its key cannot be read, or the name is none.
    pub fn with_certificate(
        host: &str,
        roots: &Roots,
        files: &CertificateFiles,
        limits: &Limits,
    ) -> Result<Self, ConnectorError> {
        Self::with(with_certificate(roots, files).map_err(ConnectorError::Config)?, host, host, limits)
    }

    /// A connector whose TLS is prepared, for a host that must have this name in its certificate.
    pub(super) fn with(
        tls: Arc<ClientConfig>,
        host: &str,
        name: &str,
        limits: &Limits,
    ) -> Result<Self, ConnectorError> {
        Ok(Self {
            dialer: Dialer::new(host, limits),
            server_name: ServerName::try_from(name.to_owned()).map_err(|_| ConnectorError::Name)?,
            tls,
            handshake_timeout: limits.upstream_handshake_timeout,
            without_tls: "",
        })
    }

    /// Returns the connector with advice for a server that does not answer in TLS.
    pub(super) fn advising(self, without_tls: &'static str) -> Self {
        Self { without_tls, ..self }
    }

    /// Resolves the host's name, for the next connection to this port.
    pub(super) async fn resolve(&self, port: u16) -> Result<(), Failure> {
        self.dialer.resolve(port).await.map(|_| ())
    }

    /// Connects to a port, without TLS.
    ///
    /// # Errors
    /// The name does not resolve, or no address answers.
    pub async fn dial(&self, port: u16) -> Result<Socket, Failure> {
        self.dialer.dial(port).await
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// The certificate is not accepted, the server's TLS is too old, or the connection broke.
    pub async fn handshake(&self, socket: Socket) -> Result<Stream, Failure> {
        Ok(Stream::Server(Box::new(self.secure(socket).await?)))
    }

    /// Waits for something on the way to the server, for no longer than a handshake may take.
    pub(super) async fn within<T>(
        &self,
        what: &str,
        work: impl Future<Output = io::Result<T>>,
    ) -> Result<io::Result<T>, Failure> {
        let late = |_| Failure::new(Kind::UpstreamTimeout, format!("{}: {what}", self.dialer.host()));
        timeout(self.handshake_timeout, work).await.map_err(late)
    }

    pub(super) async fn secure(&self, socket: Socket) -> Result<Tls, Failure> {
        let handshake = Tls::connect(Arc::clone(&self.tls), self.server_name.clone(), socket);
        self.within("TLS handshake", handshake).await?.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let host = self.dialer.host();
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            // Exchange resets connections over its limit: that passes.
            return Failure::new(Kind::UpstreamLost, format!("{host} broke off the TLS handshake: {error}"));
        };
        match error {
            rustls::Error::InvalidCertificate(reason) => {
                let text = reason::certificate(reason, &self.server_name.to_str());
                let or = reason::other_way_out(reason);
                Failure::new(Kind::UpstreamCertificate, format!("{host}: {text}{or}"))
            }
            other => {
                let reason = reason::handshake(other, self.without_tls);
                Failure::new(Kind::UpstreamTls, format!("{host} {reason}"))
            }
        }
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Name => f.write_str("is neither a DNS name nor an address"),
        }
    }
}

impl Error for ConnectorError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Name => None,
        }
    }
}
