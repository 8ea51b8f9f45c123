//! The mail servers, as configured.

use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::{Protocol, Security};

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name or address.
    pub host: String,
    /// Its name or address for POP3; mostly the same.
    pub pop3_host: String,
    /// The name that its certificate must have, and that is sent as SNI, where it is not the host.
    pub server_name: Option<String>,
    /// The port for IMAP.
    pub imap_port: u16,
    /// The port for POP3.
    pub pop3_port: u16,
    /// TLS from the start, or by STARTTLS or STLS. Never none.
    pub security: Security,
    /// Whom it must be certified by.
    pub roots: Roots,
    /// Connections that are kept ready for devices that log in, for each protocol.
    pub warm_connections: usize,
    /// How long each of them is kept.
    pub warm_time: Duration,
}

/// The certification authorities for a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's, as built in.
    Bundled,
    /// The operating system's.
    System,
    /// A PEM file.
    File(PathBuf),
}

impl Upstream {
    /// Exchange closes what does not log in after a minute.
    pub(crate) const WARM_TIME: Duration = Duration::from_secs(45);

    /// The host for a protocol.
    pub fn host(&self, protocol: Protocol) -> &str {
        match protocol {
            Protocol::Imap => &self.host,
            Protocol::Pop3 => &self.pop3_host,
        }
    }

    /// Host and port for a protocol, as `outlook.office365.com:993`.
    pub fn address(&self, protocol: Protocol) -> String {
        let (host, port) = (self.host(protocol), self.port(protocol));
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The port for a protocol.
    pub fn port(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Imap => self.imap_port,
            Protocol::Pop3 => self.pop3_port,
        }
    }
}
