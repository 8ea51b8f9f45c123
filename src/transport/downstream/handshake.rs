//! The error of a TLS handshake with a device, read from OpenSSL's error codes.

use std::fmt;
use std::io;

use openssl::error;
use openssl::ssl;

/// The error of a TLS handshake.
#[derive(Debug)]
pub enum HandshakeError {
    /// OpenSSL's reason.
    Refused {
        /// The kind of the reason.
        reason: Reason,
        /// OpenSSL's words, as `no shared cipher`.
        text: String,
    },
    /// The device closed the connection.
    Closed,
    /// The connection broke.
    Io(String),
}

/// The kind of OpenSSL's reason, as far as it makes a difference to the advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The device sent this alert (RFC 8446 §6).
    Alert(u8),
    /// There is no cipher suite that both sides take.
    NoSharedCipher,
    /// The device fell back to an older version after a failure (RFC 7507).
    InappropriateFallback,
    /// Another reason.
    Other,
}

impl HandshakeError {
    /// An error of OpenSSL beside the handshake itself.
    pub(super) fn other(error: impl fmt::Display) -> Self {
        Self::Refused { reason: Reason::Other, text: error.to_string() }
    }
}

impl From<&ssl::Error> for HandshakeError {
    fn from(error: &ssl::Error) -> Self {
        let first = error.ssl_error().and_then(|stack| stack.errors().iter().find(|error| error.reason().is_some()));
        match (first, error.io_error()) {
            (Some(first), _) if is_of_ssl(first) && first.reason_code() == UNEXPECTED_EOF => Self::Closed,
            (Some(first), _) => {
                Self::Refused { reason: Reason::of(first), text: first.reason().unwrap_or_default().to_owned() }
            }
            (None, Some(error)) => Self::Io(error.to_string()),
            (None, None) => Self::Closed,
        }
    }
}

impl Reason {
    fn of(error: &error::Error) -> Self {
        let code = error.reason_code();
        match code {
            _ if !is_of_ssl(error) => Self::Other,
            NO_SHARED_CIPHER => Self::NoSharedCipher,
            INAPPROPRIATE_FALLBACK => Self::InappropriateFallback,
            _ => u8::try_from(code - ALERTS).map_or(Self::Other, Self::Alert),
        }
    }
}

impl Reason {
    /// Returns whether the device's alert says that it does not accept the certificate (RFC 8446 §6.2).
    pub fn refuses_certificate(self) -> bool {
        const BAD_CERTIFICATE: u8 = 42;
        const UNSUPPORTED_CERTIFICATE: u8 = 43;
        const CERTIFICATE_EXPIRED: u8 = 45;
        const CERTIFICATE_UNKNOWN: u8 = 46;
        const UNKNOWN_CA: u8 = 48;
        const OF_CERTIFICATE: [u8; 5] =
            [BAD_CERTIFICATE, UNSUPPORTED_CERTIFICATE, CERTIFICATE_EXPIRED, CERTIFICATE_UNKNOWN, UNKNOWN_CA];
        matches!(self, Self::Alert(alert) if OF_CERTIFICATE.contains(&alert))
    }
}

/// Returns whether a stream has ended with an alert by which the device does not accept the certificate.
pub fn refuses_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<ssl::Error>());
    let reason = error.map(HandshakeError::from);
    matches!(reason, Some(HandshakeError::Refused { reason, .. }) if reason.refuses_certificate())
}

fn is_of_ssl(error: &error::Error) -> bool {
    error.library_code() == LIBRARY
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { text, .. } | Self::Io(text) => f.write_str(text),
            Self::Closed => f.write_str("it closed the connection"),
        }
    }
}

impl std::error::Error for HandshakeError {}

/// The library of TLS among OpenSSL's libraries (openssl/err.h, ERR_LIB_SSL).
const LIBRARY: i32 = 20;
/// OpenSSL's reasons (openssl/sslerr.h), and the number that alerts are counted from.
const NO_SHARED_CIPHER: i32 = 193;
const UNEXPECTED_EOF: i32 = 294;
const INAPPROPRIATE_FALLBACK: i32 = 373;
const ALERTS: i32 = 1000;
