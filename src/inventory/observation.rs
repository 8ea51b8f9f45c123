//! An observation is what one connection has shown of its device.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::transport::Facts;
use crate::transport::detect::hello::ClientHello;

/// What a connection has shown.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Where it came from.
    pub source: IpAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it came in.
    pub listener: &'a str,
    /// How TLS came about.
    pub tls_mode: Option<TlsMode>,
    /// What it offers.
    pub hello: Option<&'a ClientHello>,
    /// What was agreed on.
    pub tls: Option<Facts>,
    /// Why it was turned away.
    pub refused: Option<&'a Failure>,
}

/// How TLS came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// From the start.
    Implicit,
    /// By STARTTLS or STLS.
    StartTls,
    /// Not at all.
    Plaintext,
}

impl TlsMode {
    /// As the configuration says it.
    pub fn name(self) -> &'static str {
        match self {
            TlsMode::Implicit => "implicit",
            TlsMode::StartTls => "starttls",
            TlsMode::Plaintext => "plaintext",
        }
    }
}
