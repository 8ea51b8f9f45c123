//! An observation is what one connection has shown of its device.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::transport::Facts;
use crate::transport::detect::hello::ClientHello;

/// Facts about a device that one connection has shown.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The source address.
    pub source: IpAddr,
    /// The protocol of the listener.
    pub protocol: Protocol,
    /// The listener's name.
    pub listener: &'a str,
    /// The start of TLS, if it was decided.
    pub tls_mode: Option<TlsMode>,
    /// The ClientHello, if one came.
    pub hello: Option<&'a ClientHello>,
    /// Version and cipher suite, if the handshake succeeded.
    pub tls: Option<Facts>,
    /// The reason for refusing the connection, if it was refused.
    pub refused: Option<&'a Failure>,
}

/// The ways in which TLS starts on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// TLS starts with the connection itself.
    Implicit,
    /// TLS starts by STARTTLS or STLS.
    StartTls,
    /// There is no TLS.
    Plaintext,
}

impl TlsMode {
    /// The mode's word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            TlsMode::Implicit => "implicit",
            TlsMode::StartTls => "starttls",
            TlsMode::Plaintext => "plaintext",
        }
    }
}
