//! The mail servers, as configured.

use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::{ByProtocol, Protocol, Security};

/// A mail server, with an endpoint for each protocol that it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The endpoint of each protocol. One has an endpoint at least.
    pub endpoints: ByProtocol<Option<Endpoint>>,
    /// The certification authorities that packetboat trusts here.
    pub roots: Roots,
    /// The number of connections that packetboat keeps ready for logins, for each endpoint with implicit TLS.
    pub warm_connections: usize,
    /// The time for which packetboat keeps each of them.
    pub warm_time: Duration,
    /// The time for which packetboat parks a connection after LOGOUT, for the next login of the same mailbox by IMAP.
    /// Nothing means that none is parked.
    pub park: Duration,
    /// The time since its login after which a connection is not parked any more.
    pub park_age: Duration,
}

/// An endpoint of a mail server: host and port of one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The server's name or address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// TLS from the start, or by STARTTLS or STLS. Never none.
    pub security: Security,
    /// The name that the certificate must have, and that is sent as SNI, where it is not the host.
    pub server_name: Option<String>,
}

/// The certification authorities for a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's list, as built in.
    Bundled,
    /// The operating system's list.
    System,
    /// The certificates in a PEM file.
    File(PathBuf),
}

impl Upstream {
    /// The default of `warm_time`. Exchange closes a connection that does not log in within a minute.
    pub(crate) const WARM_TIME: Duration = Duration::from_secs(45);

    /// The default of `park_age`.
    pub(crate) const PARK_AGE: Duration = Duration::from_secs(20 * 60);

    /// The endpoint of one protocol; none where the server does not serve it.
    pub fn endpoint(&self, protocol: Protocol) -> Option<&Endpoint> {
        self.endpoints.of(protocol).as_ref()
    }

    /// Each endpoint with its protocol.
    pub fn each_endpoint(&self) -> impl Iterator<Item = (Protocol, &Endpoint)> {
        self.endpoints.iter().filter_map(|(protocol, endpoint)| Some((protocol, endpoint.as_ref()?)))
    }

    /// The host that stands for the server in a message: that of the first protocol.
    pub fn host(&self) -> &str {
        self.each_endpoint().next().map_or("", |(_, endpoint)| &endpoint.host)
    }

    /// The names that the server's certificates must have, in the order of the protocols.
    pub fn verified_names(&self) -> impl Iterator<Item = &str> {
        self.each_endpoint().map(|(_, endpoint)| endpoint.verified_name())
    }
}

impl Endpoint {
    /// Host and port, as `outlook.office365.com:993`.
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The name that the certificate must have.
    pub fn verified_name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.host)
    }
}
