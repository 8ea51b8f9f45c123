//! The way in for one device whose TLS a listener does not accept: a listener that accepts it from this device alone.
//!
//! The log and the page propose the same one.

use std::net::{IpAddr, SocketAddr};

use super::{Config, Entry, Listener, Logins, Profile};
use crate::protocol::{Protocol, Security};

/// The listener that lets one device in with older TLS, and leaves the others as they are.
pub enum WayIn {
    /// The file has such a listener.
    Present(Box<Listener>),
    /// The file has none: this is a new one.
    New(NewListener),
}

/// A listener that the file lacks.
pub struct NewListener {
    /// The heading and the keys that do not depend on the device, each a line.
    lines: Vec<String>,
    /// The addresses of the listener that the device has tried.
    addresses: Vec<IpAddr>,
    /// A port that no listener of the file has.
    pub port: u16,
    /// The encryption to choose in the device.
    pub encryption: &'static str,
}

impl WayIn {
    /// The way in for devices that this listener refuses, and this profile accepts. None where only the listener's own
    /// profile can help.
    pub fn new(config: &Config, listener: &Listener, profile: Profile) -> Option<Self> {
        let translates = listener.logins == Logins::Translate;
        if !translates || listener.tls.profile == profile || !listener.proxy_protocol.0.is_empty() {
            return None;
        }
        let accepts = |other: &&Listener| {
            let is_alike = other.protocol == listener.protocol && other.logins == listener.logins;
            is_alike && other.tls.profile == profile && other.entry != Entry::Plaintext
        };
        match config.listeners.iter().find(accepts) {
            Some(present) => Some(Self::Present(Box::new(present.clone()))),
            None => NewListener::new(config, listener, profile).map(Self::New),
        }
    }
}

/// The keys of a listener for devices whose TLS only this profile accepts.
pub struct ProfileListener {
    protocol: Protocol,
    profile: Profile,
}

impl ProfileListener {
    /// The listener for devices of this protocol.
    pub fn new(protocol: Protocol, profile: Profile) -> Self {
        Self { protocol, profile }
    }

    /// The name that it has, unless another listener has it.
    pub fn name(&self) -> String {
        format!("{}-{}", self.protocol.key(), self.profile.name())
    }

    /// The port that it has, unless another listener or program has it.
    pub fn port(&self) -> u16 {
        self.protocol.port(Security::Implicit).saturating_add(1000)
    }

    /// The heading, and the keys that depend on neither devices nor addresses, each a line.
    pub fn lines(&self, name: &str) -> Vec<String> {
        // Many devices that send know STARTTLS alone.
        let entry = if self.protocol.submits() { "auto" } else { "implicit" };
        vec![
            "[[listener]]".to_owned(),
            format!("name = \"{name}\""),
            format!("protocol = \"{}\"", self.protocol.key()),
            format!("entry = \"{entry}\""),
            format!("profile = \"{}\"", self.profile.name()),
        ]
    }

    /// The encryption to choose in the device.
    fn encryption(&self) -> &'static str {
        if self.protocol.submits() { "SSL/TLS or STARTTLS" } else { "SSL/TLS" }
    }
}

impl NewListener {
    fn new(config: &Config, listener: &Listener, profile: Profile) -> Option<Self> {
        let keys = ProfileListener::new(listener.protocol, profile);
        let is_free = |name: &String| config.listeners.iter().all(|other| other.name != *name);
        let name = keys.name();
        let name = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}"))).find(is_free)?;
        let (mut lines, encryption) = (keys.lines(&name), keys.encryption());
        if listener.certificate != DEFAULT {
            lines.push(format!("certificate = \"{}\"", listener.certificate));
        }
        let is_taken = |port: u16| config.listeners.iter().flat_map(|one| &one.listen).any(|at| at.port() == port);
        let port = (keys.port()..).find(|port| !is_taken(*port))?;
        Some(Self { lines, addresses: listener.listen.iter().map(SocketAddr::ip).collect(), port, encryption })
    }

    /// The lines of the file for a device at this address.
    pub fn lines(&self, source: IpAddr) -> Vec<String> {
        let of_family = self.addresses.iter().find(|address| address.is_ipv4() == source.is_ipv4());
        let listen = of_family.or(self.addresses.first()).map(|address| SocketAddr::new(*address, self.port));
        let length = if source.is_ipv4() { 32 } else { 128 };
        let mut lines = self.lines.clone();
        lines.extend(listen.map(|listen| format!("listen = [\"{listen}\"]")));
        lines.push(format!("allowed_networks = [\"{source}/{length}\"]"));
        lines
    }
}

/// The certificate of a listener that names none.
const DEFAULT: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The lines for a device at 192.168.1.33, whose TLS the first of these listeners does not accept.
    fn lines(listeners: &str, profile: Profile) -> Option<(Vec<String>, Config)> {
        let text = format!("[upstream.u]\nhost = \"mail.example\"\nsmtp = {{ port = 587 }}\n{listeners}");
        let base = "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
                    client_secret_file = \"/x\"\n[account.a]\nmailbox = \"scans@contoso.example\"\nupstream = \"u\"\n\
                    [[device]]\nlogin = \"x\"\naccount = \"a\"\npasswords = [\"$argon2id$v=19$m=19456,t=2,p=1\
                    $c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g\"]\n";
        let parse = |text: &str| {
            Config::parse(text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}\n{text}")).config
        };
        let config = parse(&format!("{base}{text}"));
        let WayIn::New(listener) = WayIn::new(&config, config.listeners.first().unwrap(), profile)? else {
            return None;
        };
        let lines = listener.lines("192.168.1.33".parse().unwrap());
        // The file with these lines is good.
        let with = parse(&format!("{base}{text}{}\n", lines.join("\n")));
        Some((lines, with))
    }

    #[test]
    fn every_protocol_has_a_way_in() {
        for protocol in crate::protocol::Protocol::ALL {
            let key = protocol.key();
            let listener = format!("[[listener]]\nprotocol = \"{key}\"\nlisten = [\"192.0.2.1:9000\"]\n");
            for profile in [Profile::Ancient, Profile::Modern] {
                let (lines, config) = lines(&listener, profile).unwrap();
                let added = config.listeners.last().unwrap();
                assert_eq!((added.protocol, added.tls.profile), (protocol, profile), "{lines:?}");
                assert_eq!(added.allowed_networks.0.len(), 1);
                let is_auto = added.entry == Entry::Auto;
                assert_eq!(is_auto, protocol.submits(), "{lines:?}");
            }
        }
    }

    #[test]
    fn a_listener_that_accepts_it_is_used() {
        let strict = "[[listener]]\nprotocol = \"smtp\"\nlisten = [\"192.0.2.1:9000\"]\n";
        let ancient =
            "[[listener]]\nname = \"old\"\nprotocol = \"smtp\"\nlisten = [\"192.0.2.1:9001\"]\nprofile = \"ancient\"\n";
        assert!(lines(&format!("{strict}{ancient}"), Profile::Ancient).is_none());
        assert!(lines(ancient, Profile::Ancient).is_none(), "it accepts it already");
        let of_another = ancient.replace("\"smtp\"", "\"imap\"");
        assert!(lines(&format!("{strict}{of_another}"), Profile::Ancient).is_some());
    }
}
