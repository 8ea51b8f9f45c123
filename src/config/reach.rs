//! The reach of a listener: the networks that it serves, in words and as the file writes them, and the devices that it
//! lets in.

use ipnet::IpNet;

use super::{Config, Device, Listener, Logins, Networks, TlsPolicy, Version};
use crate::protocol::Protocol;

impl Networks {
    /// The private networks, which listeners with weak TLS serve where the file names no others.
    pub fn private() -> Self {
        Self::parsed(PRIVATE)
    }

    /// Every address.
    pub fn everywhere() -> Self {
        Self::parsed(EVERYWHERE)
    }

    fn parsed(networks: &[&str]) -> Self {
        Self(networks.iter().filter_map(|one| one.parse().ok()).collect())
    }

    /// Returns whether some address is in the network and in one of these.
    pub fn overlap(&self, network: &IpNet) -> bool {
        self.0.iter().any(|own| own.contains(network) || network.contains(own))
    }

    /// The networks in words: `private networks`, or each of them.
    pub fn in_words(&self) -> String {
        if *self == Self::private() {
            return "private networks".to_owned();
        }
        if *self == Self::everywhere() {
            return "every network".to_owned();
        }
        let each: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        each.join(", ")
    }

    /// The line of the file that allows one more network beside these: the key replaces its default, so the line names
    /// all of them.
    pub fn line_with(&self, more: IpNet) -> String {
        let all: Vec<String> = self.0.iter().chain([&more]).map(|network| format!("\"{network}\"")).collect();
        format!("allowed_networks = [{}]", all.join(", "))
    }
}

impl TlsPolicy {
    /// The parts of the policy that only ancient devices need: SSLv3, 3DES, RC4.
    pub fn ancient_parts(&self) -> Vec<&'static str> {
        let has = |word: &str| self.suites.iter().any(|suite| suite.name.contains(word));
        let parts = [("SSLv3", self.minimum == Version::Ssl3), ("3DES", has("DES-CBC3")), ("RC4", has("RC4"))];
        parts.into_iter().filter_map(|(name, is_accepted)| is_accepted.then_some(name)).collect()
    }
}

impl Listener {
    /// Returns whether the listener lets the device in from some network, or will once it no longer observes.
    pub fn lets_in(&self, device: &Device) -> bool {
        let networks = device.networks.as_ref();
        let is_near = networks.is_none_or(|own| own.0.iter().any(|one| self.allowed_networks.overlap(one)));
        is_near && self.knows_logins_of(device)
    }

    /// Returns whether the listener takes the device's kind of login. A device without a password sends mail alone.
    pub fn knows_logins_of(&self, device: &Device) -> bool {
        let is_sent_alone = device.sends_without_login && device.passwords.is_empty();
        !matches!(self.logins, Logins::PassThrough(_)) && (!is_sent_alone || self.protocol == Protocol::Smtp)
    }

    /// Returns whether the listener serves the networks that are its default.
    pub fn has_default_networks(&self) -> bool {
        self.allowed_networks == Networks::private() || self.allowed_networks == Networks::everywhere()
    }
}

impl Config {
    /// The protocols by which the devices of an account reach its mailbox, as far as its mail server serves them; every
    /// one with a token where no device does.
    pub fn protocols_of(&self, account: &str) -> Vec<Protocol> {
        let devices: Vec<&Device> = self.devices.iter().filter(|device| device.account == account).collect();
        let is_used = |protocol: &Protocol| {
            let mut listeners = self.listeners.iter().filter(|listener| listener.protocol == *protocol);
            listeners.any(|listener| devices.iter().any(|device| listener.lets_in(device)))
        };
        let mut used: Vec<Protocol> = Protocol::ALL.into_iter().filter(is_used).collect();
        if used.is_empty() {
            used = self.token_protocols();
        }
        let upstream = self.accounts.get(account).and_then(|account| self.upstreams.get(&account.upstream));
        used.retain(|protocol| upstream.is_none_or(|upstream| upstream.endpoint(*protocol).is_some()));
        used
    }
}

/// Loopback, RFC 1918, RFC 3927, RFC 4193, RFC 4291 §2.5.6.
const PRIVATE: &[&str] = &[
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];
const EVERYWHERE: &[&str] = &["0.0.0.0/0", "::/0"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn networks(all: &[&str]) -> Networks {
        let networks = Networks::parsed(all);
        assert_eq!(networks.0.len(), all.len());
        networks
    }

    #[test]
    fn every_default_network_is_one() {
        assert_eq!(Networks::private().0.len(), PRIVATE.len());
        assert_eq!(Networks::everywhere().0.len(), EVERYWHERE.len());
        assert_eq!(
            (Networks::private().in_words(), Networks::everywhere().in_words()),
            ("private networks".to_owned(), "every network".to_owned())
        );
    }

    #[test]
    fn a_wider_and_a_narrower_network_overlap() {
        let some = networks(&["192.168.0.0/16", "fd00::/8"]);
        for (network, expected) in [
            ("192.168.1.33/32", true),
            ("192.0.0.0/8", true),
            ("10.0.0.0/8", false),
            ("fd12::1/128", true),
            ("::/0", true),
            ("2001:db8::/32", false),
        ] {
            assert_eq!(some.overlap(&network.parse().unwrap()), expected, "{network}");
        }
    }

    #[test]
    fn a_line_keeps_what_was_allowed() {
        let line = networks(&["10.0.0.0/8", "fd00::/8"]).line_with("203.0.113.9/32".parse().unwrap());
        assert_eq!(line, "allowed_networks = [\"10.0.0.0/8\", \"fd00::/8\", \"203.0.113.9/32\"]");
    }

    #[test]
    fn an_account_has_the_protocols_of_its_devices() {
        let device = |account: &str, networks: &str| {
            format!(
                "[[device]]\nlogin = \"{account}\"\naccount = \"{account}\"\npasswords = [\"$argon2id$x\"]\n{networks}\n\
                 [account.{account}]\nmailbox = \"{account}@contoso.example\"\n"
            )
        };
        let text = "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
                    client_secret_file = \"/x\"\n[account.idle]\nmailbox = \"idle@contoso.example\"\n\
                    [[listener]]\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:993\"]\n\
                    allowed_networks = [\"192.168.1.0/24\"]\n\
                    [[listener]]\nprotocol = \"pop3\"\nlisten = [\"0.0.0.0:995\"]\nobserve = true\n"
            .to_owned()
            + &device("both", "")
            + &device("near", "networks = [\"192.168.1.7\"]")
            + &device("far", "networks = [\"10.1.1.1\"]")
            + &device("lost", "networks = [\"203.0.113.9\"]");
        let config = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config;
        let (imap, pop3) = (Protocol::Imap, Protocol::Pop3);
        for (account, expected) in [
            ("both", vec![imap, pop3]),
            ("near", vec![imap, pop3]),
            ("far", vec![pop3]),
            ("lost", vec![imap, pop3]),
            ("idle", vec![imap, pop3]),
        ] {
            assert_eq!(config.protocols_of(account), expected, "{account}");
        }
    }
}
