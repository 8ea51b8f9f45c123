//! Hints of one listener, for a device that was given the wrong protocol, or a name that the certificate lacks.

use crate::config::{CertificateSource, Config, Listener};
use crate::protocol::Protocol;
use crate::transport::downstream::certificate::Loaded;

/// Advice that fits one listener, in plain words for its log lines.
pub(super) struct Hints {
    /// The wrong protocol, and where the other one is.
    pub(super) protocol: String,
    /// The names of the certificate, and how others come into it. Empty on a listener without TLS.
    pub(super) certificate: String,
}

impl Hints {
    /// Makes the hints of a listener, which may have a certificate.
    pub(super) fn new(config: &Config, listener: &Listener, certificate: Option<&Loaded>) -> Self {
        let certificate = certificate.map(|loaded| of_certificate(config, &listener.certificate, &loaded.names()));
        Self { protocol: of_protocol(config, listener), certificate: certificate.unwrap_or_default() }
    }
}

/// Names both protocols, and the port of the other one.
fn of_protocol(config: &Config, listener: &Listener) -> String {
    let here = listener.protocol.name();
    let others = || config.listeners.iter().filter(|other| other.protocol != listener.protocol);
    let alike = others().find(|other| other.entry == listener.entry).or_else(|| others().next());
    let other = match listener.protocol {
        Protocol::Imap => Protocol::Pop3,
        Protocol::Pop3 => Protocol::Imap,
    };
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
    format!("it may not accept the certificate, which is for {are}; if its server field has another name, {mend}")
}

/// The certificate that `packetboat certificate renew` makes without a name.
const DEFAULT: &str = "default";
