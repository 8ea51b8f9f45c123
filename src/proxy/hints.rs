//! Hints of one listener, for a device that was given the wrong protocol, or a name that the certificate lacks, and for
//! one whose TLS only the profile "ancient" accepts.

use std::net::{IpAddr, SocketAddr};

use crate::config::{CertificateSource, Config, Listener, Profile, WayIn, WithoutLogin};
use crate::protocol::Protocol;
use crate::transport::downstream::certificate::Loaded;

/// Advice that fits one listener, in plain words for its log lines.
pub(super) struct Hints {
    /// The wrong protocol, and where the other one is.
    pub(super) protocol: String,
    /// Behind "it may not": the names of the certificate, and how others come into it. Empty on a listener without TLS.
    pub(super) certificate: String,
    /// The way in for a device with ancient TLS. None where only this listener's own profile can help.
    pub(super) ancient: Option<AncientHint>,
    /// The way in for a device that sends mail without a login.
    pub(super) without_login: WithoutLogin,
}

/// The listener that lets one device in with ancient TLS, in words.
pub(super) struct AncientHint(WayIn);

impl Hints {
    /// Makes the hints of a listener, which may have a certificate.
    pub(super) fn new(config: &Config, listener: &Listener, certificate: Option<&Loaded>) -> Self {
        let certificate = certificate.map(|loaded| of_certificate(config, &listener.certificate, &loaded.names()));
        let (protocol, certificate) = (of_protocol(config, listener), certificate.unwrap_or_default());
        let without_login = WithoutLogin::new(config, listener);
        Self { protocol, certificate, ancient: AncientHint::new(config, listener), without_login }
    }
}

impl AncientHint {
    fn new(config: &Config, listener: &Listener) -> Option<Self> {
        WayIn::new(config, listener, Profile::Ancient).map(Self)
    }

    /// The advice for a device at this address.
    pub(super) fn advice(&self, source: IpAddr) -> String {
        match &self.0 {
            WayIn::Present(present) => {
                let Listener { name, listen, allowed_networks, .. } = present.as_ref();
                let port = listen.first().map(SocketAddr::port).filter(|port| *port != 0);
                let port = port.map(|port| format!(", port {port}")).unwrap_or_default();
                let more = if allowed_networks.contain(source) {
                    String::new()
                } else {
                    format!(", and write there: {}", allowed_networks.line_with(source.into()))
                };
                format!("to accept that from this device alone, set it to listener {name}{port}{more}")
            }
            WayIn::New(listener) => format!(
                "to accept that from this device alone, write a listener of its own, each key on its own line: {}; then \
                 run packetboat reload, and set the device to port {} with {}",
                listener.lines(source).join(", "),
                listener.port,
                listener.encryption
            ),
        }
    }
}

/// Names both protocols, and the port of the other one.
fn of_protocol(config: &Config, listener: &Listener) -> String {
    let here = listener.protocol.name();
    let other = match listener.protocol {
        Protocol::Imap => Protocol::Pop3,
        _ => Protocol::Imap,
    };
    let others = || config.listeners.iter().filter(|one| one.protocol == other);
    let alike = others().find(|one| one.entry == listener.entry).or_else(|| others().next());
    let (name, key) = (other.name(), other.key());
    let place = match alike {
        Some(Listener { name: listener, listen, .. }) => match listen.first().map(|address| address.port()) {
            Some(port) if port != 0 => format!("{name} is on port {port} (listener {listener})"),
            Some(_) | None => format!("{name} is on listener {listener}"),
        },
        None => {
            format!("no listener has {name}: set the device to {here}, or add a [[listener]] with protocol = \"{key}\"")
        }
    };
    format!("is it set to {name}? this port is {here}; {place}")
}

/// Names what the certificate is for, and the place in which other names are written.
fn of_certificate(config: &Config, name: &str, names: &[String]) -> String {
    let are = names.join(" ");
    let is_made = config
        .certificates
        .get(name)
        .is_some_and(|certificate| matches!(certificate.source, CertificateSource::Made { .. }));
    let mend = if is_made {
        let of_name = if name == DEFAULT { String::new() } else { format!(" {name}") };
        format!("write all names into certificate.{name}.names, then run packetboat certificate renew{of_name}")
    } else {
        format!("replace the files of certificate.{name} with a certificate that has it")
    };
    format!("accept the certificate, which is for {are}; if its server field has another name, {mend}")
}

/// The certificate that `packetboat certificate renew` makes without a name.
const DEFAULT: &str = "default";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn advice(listeners: &str, source: &str) -> Option<String> {
        let text = format!(
            "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
             client_secret_file = \"/x\"\n[account.a]\nmailbox = \"scans@contoso.example\"\n[[device]]\nlogin = \"x\"\n\
             passwords = [\"$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g\"]\n\
             account = \"a\"\n{listeners}"
        );
        let parsed = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}"));
        let listener = parsed.config.listeners.first().unwrap();
        AncientHint::new(&parsed.config, listener).map(|hint| hint.advice(source.parse().unwrap()))
    }

    const LISTENER: &str =
        "[[listener]]\nname = \"m\"\nprotocol = \"pop3\"\nlisten = [\"192.0.2.1:995\", \"[::]:995\"]\n";

    #[test]
    fn a_new_listener_is_for_one_device_on_a_free_port() {
        let others = "[[listener]]\nname = \"pop3-ancient\"\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:1995\"]\n";
        let text = advice(&format!("{LISTENER}{others}"), "192.168.1.33").unwrap();
        let keys = "[[listener]], name = \"pop3-ancient-2\", protocol = \"pop3\", entry = \"implicit\", profile = \"ancient\", \
                    listen = [\"192.0.2.1:1996\"], allowed_networks = [\"192.168.1.33/32\"]; then";
        assert!(text.contains(keys) && text.ends_with("set the device to port 1996 with SSL/TLS"), "{text}");
        let text = advice(LISTENER, "2001:db8::1").unwrap();
        assert!(text.contains("listen = [\"[::]:1995\"], allowed_networks = [\"2001:db8::1/128\"]"), "{text}");
    }

    #[test]
    fn an_ancient_listener_of_the_file_is_named_with_the_networks_to_write() {
        let ancient = "[[listener]]\nname = \"old\"\nprotocol = \"pop3\"\nlisten = [\"0.0.0.0:1995\"]\n\
                       profile = \"ancient\"\nallowed_networks = [\"192.168.1.33/32\"]\n";
        let both = format!("{LISTENER}{ancient}");
        let known = advice(&both, "192.168.1.33").unwrap();
        assert!(known.ends_with("set it to listener old, port 1995"), "{known}");
        let other = advice(&both, "192.168.1.34").unwrap();
        assert!(other.ends_with("allowed_networks = [\"192.168.1.33/32\", \"192.168.1.34/32\"]"), "{other}");
        assert_eq!(advice(ancient, "192.168.1.33"), None);
        assert_eq!(advice(&LISTENER.replace("listen =", "observe = true\nlisten ="), "192.168.1.33"), None);
    }
}
