//! The PROXY protocol's header names the device that a load balancer forwards (HAProxy's proxy-protocol.txt, versions 1
//! and 2). It is required of configured balancers, and believed from no one else.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket::Socket;

/// The beginning of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The octets may become a header.
    Incomplete,
    /// The octets are no header.
    Other,
    /// The octets hold a whole header.
    Header {
        /// The device's address; none where the balancer speaks for itself (`LOCAL`, `UNKNOWN`): a health check.
        source: Option<SocketAddr>,
        /// The length of the header in octets.
        len: usize,
    },
}

/// The announcement in front of the device's own octets.
#[derive(Debug, PartialEq, Eq)]
pub enum Announced {
    /// The balancer speaks for this device.
    For(SocketAddr),
    /// The balancer speaks for itself.
    Itself,
    /// The balancer has closed at once, as health checks do.
    Closed,
    /// There is no header, or one that makes no sense.
    Nothing,
}

impl Socket {
    /// Reads the header; what comes behind it is read again. Bound it with a timeout.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn announced(&mut self) -> io::Result<Announced> {
        loop {
            match parse(self.incoming.filled()) {
                Parsed::Header { source, len } => {
                    self.incoming.pass(len);
                    return Ok(source.map_or(Announced::Itself, Announced::For));
                }
                Parsed::Other => return Ok(Announced::Nothing),
                Parsed::Incomplete => {}
            }
            let begun = !self.incoming.is_empty();
            if poll_fn(|cx| self.poll_fill(cx)).await? == 0 {
                return Ok(if begun { Announced::Nothing } else { Announced::Closed });
            }
        }
    }
}

/// Reads a header from the first octets of a connection.
pub fn parse(input: &[u8]) -> Parsed {
    if begins(input, SIGNATURE) {
        binary(input)
    } else if begins(input, b"PROXY ") {
        text(input)
    } else {
        Parsed::Other
    }
}

/// Takes octets, as far as they are there.
fn begins(input: &[u8], with: &[u8]) -> bool {
    input.iter().zip(with).all(|(have, want)| have == want)
}

/// Reads version 1 (§2.1): `PROXY TCP4 192.168.0.1 192.168.0.11 56324 443`, CRLF.
fn text(input: &[u8]) -> Parsed {
    let window = input.get(..LONGEST_TEXT).unwrap_or(input);
    let Some(end) = memchr::memmem::find(window, b"\r\n") else {
        return if window.len() < LONGEST_TEXT { Parsed::Incomplete } else { Parsed::Other };
    };
    let line = std::str::from_utf8(window.get(..end).unwrap_or_default()).unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            let (address, port) = (source.parse::<IpAddr>(), port.parse());
            match (address, port) {
                (Ok(address), Ok(port)) if address.is_ipv4() == (*family == "TCP4") => {
                    Some(SocketAddr::new(address, port))
                }
                _ => return Parsed::Other,
            }
        }
        _ => return Parsed::Other,
    };
    Parsed::Header { source, len: end + 2 }
}

/// Reads version 2 (§2.2): signature, version and command, family, length, addresses, and extensions.
fn binary(input: &[u8]) -> Parsed {
    let Some((head, behind)) = input.split_first_chunk::<16>() else { return Parsed::Incomplete };
    let [.., version_and_command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 || length > LONGEST_BINARY {
        return Parsed::Other;
    }
    let Some(content) = behind.get(..length) else { return Parsed::Incomplete };
    let source = match (version_and_command & 0xf, family) {
        (0, _) => None,
        (1, TCP_OVER_IPV4) => content
            .split_first_chunk::<4>()
            .zip(port(content, 8))
            .map(|((octets, _), port)| SocketAddr::new(Ipv4Addr::from(*octets).into(), port)),
        (1, TCP_OVER_IPV6) => content
            .split_first_chunk::<16>()
            .zip(port(content, 32))
            .map(|((octets, _), port)| SocketAddr::new(Ipv6Addr::from(*octets).into(), port)),
        _ => return Parsed::Other,
    };
    if source.is_none() && version_and_command & 0xf == 1 {
        return Parsed::Other;
    }
    Parsed::Header { source, len: head.len() + length }
}

fn port(content: &[u8], at: usize) -> Option<u16> {
    content.get(at..)?.first_chunk::<2>().map(|octets| u16::from_be_bytes(*octets))
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// §2.1, with CRLF.
const LONGEST_TEXT: usize = 107;
/// Addresses and what balancers add to them.
const LONGEST_BINARY: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        header.extend(content);
        header
    }

    #[test]
    fn both_versions_at_every_cut() {
        let v4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 3, 225];
        let mut v6 = [0; 36 + 5];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&7_u16.to_be_bytes());
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 993\r\n".to_vec(), Some("192.0.2.7:56324")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 7 993\r\n".to_vec(), Some("[2001:db8::7]:7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2(1, 0x11, &v4), Some("192.0.2.7:56324")),
            (v2(1, 0x21, &v6), Some("[2001:db8::7]:7")),
            (v2(0, 0, &[]), None),
        ] {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Parsed::Incomplete, "{cut}");
            }
            let source = source.map(|source| source.parse().unwrap());
            let len = header.len();
            let with_more = [header, b"\x16\x03\x01".to_vec()].concat();
            assert_eq!(parse(&with_more), Parsed::Header { source, len });
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let endless = [b"PROXY ".to_vec(), vec![b'x'; 200]].concat();
        for input in [
            &b"\x16\x03\x01\x00\x05"[..],
            b"a1 LOGIN x y\r\n",
            b"PROXY TCP4 2001:db8::7 192.0.2.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 70000 2\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY SCTP 192.0.2.7 192.0.2.1 1 2\r\n",
            &endless,
            &v2(1, 0x11, &[1, 2, 3]),
            &v2(1, 0x12, &[0; 12]),
            &v2(3, 0x11, &[0; 12]),
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ] {
            assert_eq!(parse(input), Parsed::Other, "{input:?}");
        }
    }
}
