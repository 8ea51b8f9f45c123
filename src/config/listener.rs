//! The way TLS starts on a listener: by its `entry`, or by the port where the file leaves that out.

use super::{Entry, Listener, Logins};
use crate::protocol::{Protocol, Security};

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

    /// The way TLS starts, and the policy, in words: `STARTTLS, profile "legacy"`.
    pub fn tls_in_words(&self) -> String {
        let entry = match self.entry {
            Entry::Implicit => "TLS from the start",
            Entry::StartTls => "STARTTLS",
            Entry::Auto => "TLS from the start, or STARTTLS",
            Entry::Plaintext => return "no TLS".to_owned(),
        };
        let ports: Vec<String> = self.implicit_ports.iter().map(ToString::to_string).collect();
        let alone = match ports.as_slice() {
            [] => String::new(),
            ports => format!(" (on {} TLS from the start alone)", ports.join(" and ")),
        };
        format!("{entry}{alone}, {} to {}, profile \"{}\"", self.tls.minimum, self.tls.maximum, self.tls.profile.name())
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
