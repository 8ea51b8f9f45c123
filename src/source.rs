//! A source of connections: the unit in which limits count addresses.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 address, or the /64 network of an IPv6 address.
///
/// A host controls its whole /64: it chooses among 2^64 addresses (RFC 4291 §2.5.1, RFC 8981, RFC 6177 §2). A limit on
/// single addresses would be none there. An IPv4 address in IPv6 notation, as a dual-stack socket or NAT64 writes it,
/// is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Returns whether the source is a network of many addresses.
    pub fn is_network(self) -> bool {
        self.0.is_ipv6()
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(translated(address).map_or_else(|| network(address).into(), IpAddr::V4)),
        }
    }
}

/// Parses the text of a [`Source`], or a single address.
impl FromStr for Source {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        text.strip_suffix("/64").unwrap_or(text).parse::<IpAddr>().map(Self::from)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

fn network(address: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)
}

/// The IPv4 address behind the prefix of NAT64, all of which is one /64 (RFC 6052 §2.1).
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    (bits >> 32 == NAT64 >> 32)
        .then(|| Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default()))
}

/// 64:ff9b::/96
const NAT64: u128 = 0x0064_ff9b << 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn an_ipv4_address_is_one_source_however_it_is_written() {
        for written in ["192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1"] {
            assert_eq!(source(written).to_string(), "192.0.2.1", "{written}");
        }
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(source("64:ff9b::192.0.2.1"), source("64:ff9b::192.0.2.2"));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:ffff:ffff:ffff"));
        assert_eq!(source("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!("2001:db8::/64".parse(), Ok(source("2001:db8::1")));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        // Local NAT64 prefixes (RFC 8215) are chosen within a /48, and cannot be recognised.
        assert_eq!(source("64:ff9b:1::1"), source("64:ff9b:1::192.0.2.1"));
    }
}
