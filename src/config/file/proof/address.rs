//! Addresses that are listened on, and networks, as the file writes them.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use toml::Spanned;

use super::Proof;

impl Proof<'_> {
    pub(super) fn addresses(&mut self, key: &str, port: u16, written: Vec<Spanned<String>>) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for one in written {
            match one.get_ref().trim().parse() {
                Ok(address) => {
                    if overlap(&[address], &addresses).is_some() {
                        self.problem(Some(one.span()), key, &format!("{address} is named already"));
                    }
                    addresses.push(address);
                }
                Err(_) => {
                    let message = format!(
                        "is no address with a port; write \"0.0.0.0:{port}\" for all of IPv4, \"[::]:{port}\" for all \
                         of IPv6"
                    );
                    self.problem(Some(one.span()), key, &message);
                }
            }
        }
        addresses
    }

    /// A network, or one address, which stands for a network of its own.
    pub(super) fn network(&mut self, key: &str, written: Spanned<String>) -> Option<IpNet> {
        let text = written.get_ref().trim();
        let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let message = match parsed {
            Ok(IpNet::V6(network)) if network.addr().to_ipv4_mapped().is_some() => {
                "is IPv4 in the form of IPv6, which no device has here; write it as IPv4".to_owned()
            }
            Ok(network) if network.addr() != network.network() => format!(
                "is an address and a network; write \"{}\" for the network, \"{}\" for the address",
                network.trunc(),
                IpNet::from(network.addr())
            ),
            Ok(network) => return Some(network),
            Err(_) => "is no network; write it as \"192.168.1.0/24\" or \"fd00::/8\"".to_owned(),
        };
        self.problem(Some(written.span()), key, &message);
        None
    }
}

/// An address that both lists want. One that stands for all of its family takes the port from every other.
pub(super) fn overlap(one: &[SocketAddr], other: &[SocketAddr]) -> Option<SocketAddr> {
    let clash = |a: &SocketAddr, b: &SocketAddr| {
        a.port() != 0
            && a.port() == b.port()
            && a.is_ipv6() == b.is_ipv6()
            && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
    };
    one.iter().find(|a| other.iter().any(|b| clash(a, b))).copied()
}
