//! A source of connections: the unit in which limits count addresses.

use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 address, or the /64 network of an IPv6 address.
///
/// An IPv6 host chooses among the 2^64 addresses of its network as it likes (RFC 4291 §2.5.1, RFC 8981), and whoever has
/// one network has all of it (RFC 6177 §2). A limit for single addresses would be no limit there. An IPv4 address that is
/// written in IPv6, as a dual-stack socket or NAT64 does, is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// Whether many addresses are this one source.
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

/// Reads what [`Source`] writes, and single addresses.
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
        // Of the /48 in which NAT64 prefixes are chosen locally (RFC 8215), nobody else knows which.
        assert_eq!(source("64:ff9b:1::1"), source("64:ff9b:1::192.0.2.1"));
    }
}
