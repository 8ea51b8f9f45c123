//! The error of an HTTP exchange, or of an address that none can be had with.

use std::fmt;

use super::{LONGEST_HEAD, MOST_HEADERS};
use crate::transport::upstream::ConnectorError;

/// A reason why an exchange has failed.
#[derive(Debug)]
pub enum Error {
    /// The address is no URL.
    NoUrl,
    /// The address does not begin with `https://`.
    NoHttps,
    /// There is no TLS to this host.
    Connector(ConnectorError),
    /// The request cannot be written.
    Request(hyper::http::Error),
    /// The exchange fails.
    Exchange(hyper::Error),
    /// The answer has more octets than this.
    TooLong(usize),
    /// The answer cannot be read.
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The peer broke off before the end of its answer.
    BrokenOff,
    /// The exchange took too long.
    Late,
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        Self::Exchange(error)
    }
}

impl From<hyper::http::Error> for Error {
    fn from(error: hyper::http::Error) -> Self {
        Self::Request(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUrl => f.write_str("an address of an endpoint is no URL; write it as \"https://host/path\""),
            Self::NoHttps => f.write_str("an address of an endpoint must begin with https://: secrets go there"),
            Self::Connector(error) => write!(f, "{error}"),
            Self::Request(error) => write!(f, "{error}"),
            Self::Exchange(error) if error.is_parse_too_large() => write!(
                f,
                "its answer has more than {MOST_HEADERS} header fields, or more than {LONGEST_HEAD} octets of them"
            ),
            Self::Exchange(error) if error.is_parse() => {
                write!(f, "it answers something else than HTTP/1.1 ({error})")
            }
            Self::Exchange(error) => write!(f, "{error}"),
            Self::TooLong(most) => write!(f, "more than {most} octets"),
            Self::Body(error) => write!(f, "{error}"),
            Self::BrokenOff => f.write_str("it broke off"),
            Self::Late => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connector(error) => Some(error),
            Self::Body(error) => Some(error.as_ref()),
            Self::Request(error) => Some(error),
            Self::Exchange(error) => Some(error),
            Self::NoUrl | Self::NoHttps | Self::TooLong(_) | Self::BrokenOff | Self::Late => None,
        }
    }
}
