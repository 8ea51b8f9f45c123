//! A listener has addresses, a TLS policy and a treatment of logins; its `entry` or its port decides how TLS starts.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Networks, TlsPolicy, Version};
use crate::protocol::{Protocol, Security};
use crate::submission::{Announcement, SpoolUse};

/// A listener: addresses where devices connect by one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name in the log and the metrics.
    pub name: String,
    /// The protocol that devices speak here.
    pub protocol: Protocol,
    /// The addresses to listen on. Never empty.
    pub listen: Vec<SocketAddr>,
    /// The way TLS starts; see [`Listener::entry_at`].
    pub entry: Entry,
    /// Ports of this listener with TLS from the start although `entry` is [`Entry::Auto`]: the file leaves `entry` out,
    /// and the listener has other ports beside.
    pub implicit_ports: Vec<u16>,
    /// The silence after which a device is greeted in clear, with [`Entry::Auto`].
    pub detect_delay: Duration,
    /// True if devices may log in without TLS.
    pub allow_plaintext: bool,
    /// The versions and cipher suites that devices may use.
    pub tls: TlsPolicy,
    /// The networks that devices may come from.
    pub allowed_networks: Networks,
    /// Load balancers that must send a PROXY protocol header, which is believed.
    pub proxy_protocol: Networks,
    /// Key of [`Config::certificates`](super::Config::certificates).
    pub certificate: String,
    /// The treatment of a login.
    pub logins: Logins,
    /// The answer to EHLO, in submission.
    pub submission: Announcement,
    /// The use of the spool, in SMTP.
    pub spool: SpoolUse,
}

/// The treatment of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logins {
    /// packetboat verifies the login, and logs in to the server with an access token.
    Translate,
    /// The login goes to this mail server unchanged; key of [`Config::upstreams`](super::Config::upstreams).
    PassThrough(String),
    /// packetboat refuses every login, and takes the inventory alone.
    Observe,
}

/// The way TLS starts on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The device begins with a ClientHello.
    Implicit,
    /// The device is greeted in clear and sends STARTTLS or STLS.
    StartTls,
    /// A ClientHello at once means TLS; silence means a greeting in clear.
    Auto,
    /// No TLS at all.
    Plaintext,
}

/// A listener of a file that has none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultListener {
    /// The protocol.
    pub protocol: Protocol,
    /// The port: the registered one and a thousand, so that packetboat starts without privileges.
    pub port: u16,
    /// The value of `entry`.
    pub entry: &'static str,
}

impl DefaultListener {
    /// The default listeners of a protocol: one with detection and one with TLS from the start.
    pub fn of(protocol: Protocol) -> [Self; 2] {
        [(Security::StartTls, "auto"), (Security::Implicit, "implicit")].map(|(security, entry)| Self {
            protocol,
            port: 1000 + protocol.port(security),
            entry,
        })
    }
}

/// The entry of a listener whose section has none, by its ports, and those of them that have TLS from the start all the
/// same. Where a key of the section has a meaning with a greeting in clear alone, there is one.
pub(super) fn entry_by_ports(ports: &[u16], is_greeted_in_clear: bool) -> (Entry, Vec<u16>) {
    let implicit: Vec<u16> = ports.iter().copied().filter(|port| is_implicit_port(*port)).collect();
    match (implicit.len() == ports.len(), is_greeted_in_clear) {
        (true, false) => (Entry::Implicit, Vec::new()),
        (true, true) => (Entry::Auto, Vec::new()),
        (false, _) => (Entry::Auto, implicit),
    }
}

/// Returns whether devices begin with TLS at this port (RFC 8314 §7).
fn is_implicit_port(port: u16) -> bool {
    port == SUBMISSIONS || Protocol::ALL.iter().any(|protocol| protocol.port(Security::Implicit) == port)
}

impl Listener {
    /// The way TLS starts on one of the listener's ports.
    pub fn entry_at(&self, port: u16) -> Entry {
        if self.implicit_ports.contains(&port) { Entry::Implicit } else { self.entry }
    }

    /// Returns whether the listener refuses every login, and takes the inventory alone.
    pub fn observes(&self) -> bool {
        self.logins == Logins::Observe
    }

    /// The way TLS starts, and the policy, in words: `STARTTLS, TLS 1.0 to 1.3, profile "legacy"`.
    pub fn tls_in_words(&self) -> String {
        let command = self.protocol.starttls();
        let entry = match self.entry {
            Entry::Implicit => "SSL/TLS".to_owned(),
            Entry::StartTls => command.to_owned(),
            Entry::Auto => format!("SSL/TLS or {command}"),
            Entry::Plaintext => return "no TLS".to_owned(),
        };
        let ports: Vec<String> = self.implicit_ports.iter().map(ToString::to_string).collect();
        let alone = match ports.as_slice() {
            [] => String::new(),
            ports => format!(" (SSL/TLS alone on {})", ports.join(" and ")),
        };
        let TlsPolicy { minimum, maximum, profile, .. } = &self.tls;
        let maximum = maximum.to_string();
        let maximum = if *minimum == Version::Ssl3 { maximum.as_str() } else { maximum.trim_start_matches("TLS ") };
        format!("{entry}{alone}, {minimum} to {maximum}, profile \"{}\"", profile.name())
    }
}

/// The port of submission with implicit TLS (RFC 8314 §7.3).
const SUBMISSIONS: u16 = 465;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_decides_where_nothing_is_written() {
        for (ports, is_greeted, expected) in [
            (&[993][..], false, (Entry::Implicit, vec![])),
            (&[995, 993, 465], false, (Entry::Implicit, vec![])),
            (&[993], true, (Entry::Auto, vec![])),
            (&[143], false, (Entry::Auto, vec![])),
            (&[110, 995], false, (Entry::Auto, vec![995])),
            (&[110, 995], true, (Entry::Auto, vec![995])),
            (&[1993, 1995], false, (Entry::Auto, vec![])),
        ] {
            assert_eq!(entry_by_ports(ports, is_greeted), expected, "{ports:?} {is_greeted}");
        }
    }
}
