//! Listeners, proven: the section with the most to say about who may weaken what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;

use super::address::overlap;
use super::upstream::Upstreams;
use super::{DEFAULT, Proof};
use crate::config::file::{ListenerSection, Written, nearest};
use crate::config::listener::{DefaultListener, entry_by_ports};
use crate::config::suite::{self, Suite};
use crate::config::{
    Certificate, CertificateSource, Digest, Entry, Listener, Logins, Networks, Profile, TlsPolicy, Version,
};
use crate::protocol::Protocol;
use crate::submission::Announcement;

impl Proof<'_> {
    pub(super) fn listeners(
        &mut self,
        raw: Option<Vec<Spanned<ListenerSection>>>,
        upstreams: &Upstreams,
        certificates: &BTreeMap<String, Certificate>,
    ) -> Vec<Listener> {
        let raw = raw.unwrap_or_else(default_listeners);
        let mut listeners: Vec<Listener> = Vec::new();
        for section in raw {
            let span = section.span();
            if let Some(listener) = self.listener(section, upstreams, certificates) {
                self.note(&format!("listener.{}", listener.name), &span);
                if listeners.iter().any(|other| other.name == listener.name) {
                    self.problem(Some(span.clone()), "listener.name", "is used twice");
                }
                for other in &listeners {
                    if let Some(address) = overlap(&listener.listen, &other.listen) {
                        let message = format!("{address} is taken by listener \"{}\" already", other.name);
                        self.problem(Some(span.clone()), "listener.listen", &message);
                    }
                }
                listeners.push(listener);
            }
        }
        if listeners.is_empty() && self.problems.is_empty() {
            self.problem(None, "listener", "there is none; write [[listener]] with protocol and listen");
        }
        listeners
    }

    fn listener(
        &mut self,
        section: Spanned<ListenerSection>,
        upstreams: &Upstreams,
        certificates: &BTreeMap<String, Certificate>,
    ) -> Option<Listener> {
        let protocols = Protocol::ALL.map(|protocol| (protocol.key(), protocol));
        let span = section.span();
        let mut raw = section.into_inner();
        let tls = self.tls(&mut raw);
        if raw.protocol.is_none() {
            self.problem(
                Some(span.clone()),
                "listener.protocol",
                &format!("is missing; write protocol = {}", keys_of_protocols()),
            );
        }
        let protocol = self.choice("listener.protocol", raw.protocol.take(), &protocols);
        let listen = self.listened(span.clone(), raw.listen.take());
        let (entry, implicit_ports) = self.entry(&mut raw, &listen);
        let delay_span = raw.detect_delay.as_ref().map(Spanned::span);
        let detect_delay = self.duration_millis("listener.detect_delay", raw.detect_delay.take(), 1000);
        if entry != Entry::Auto && delay_span.is_some() {
            self.problem(delay_span, "listener.detect_delay", "has a meaning with entry = \"auto\" alone");
        }
        let allow_plaintext = self.plaintext(&span, entry, &raw);
        let allowed_networks = self.allowed_networks(raw.allowed_networks.take(), tls.is_weak() || allow_plaintext);
        let spool_span = raw.spool.as_ref().map(Spanned::span);
        let spool = self.spool_use(raw.spool.take(), protocol);
        let submission = self.announcement(&mut raw, protocol);
        let certificate = self.reference("listener.certificate", raw.certificate, certificates.keys(), Some(DEFAULT));
        if let Some(certificate) = certificate.as_ref().and_then(|name| certificates.get(name)) {
            self.usable(&span, &tls, certificate);
        }
        let logins = match raw.observe {
            Some(true) => self.observed(raw.logins, raw.upstream),
            Some(false) | None => self.logins(&span, raw.logins, raw.upstream, upstreams),
        };
        self.spool_of_logins(spool_span, spool, logins.as_ref());
        let proxy_protocol = raw.proxy_protocol.map(Spanned::into_inner).unwrap_or_default();
        let balancers = proxy_protocol.into_iter().filter_map(|one| self.network("listener.proxy_protocol", one));
        let proxy_protocol = Networks(balancers.collect());
        let (protocol, first) = (protocol?, *listen.first()?);
        let name = raw.name.unwrap_or_else(|| format!("{}-{}", protocol.name().to_ascii_lowercase(), first.port()));
        Some(Listener {
            name,
            protocol,
            listen,
            entry,
            implicit_ports,
            detect_delay,
            allow_plaintext,
            tls,
            allowed_networks,
            proxy_protocol,
            certificate: certificate.unwrap_or_default(),
            logins: logins?,
            submission,
            spool,
        })
    }

    /// The answer to EHLO. Its keys have no meaning in another protocol.
    fn announcement(&mut self, raw: &mut ListenerSection, protocol: Option<Protocol>) -> Announcement {
        const SIZE: &str = "listener.max_message_size";
        const AUTH: &str = "listener.auth_equals";
        let (size, auth) = (raw.max_message_size.take(), raw.auth_equals.take());
        if protocol.is_some_and(|protocol| !protocol.submits()) {
            let spans = [(SIZE, size.as_ref().map(Spanned::span)), (AUTH, auth.as_ref().map(Spanned::span))];
            for (key, span) in spans.into_iter().filter(|(_, span)| span.is_some()) {
                self.problem(
                    span,
                    key,
                    &format!("has a meaning with protocol = \"{}\" alone; remove it", Protocol::SUBMISSION.key()),
                );
            }
        }
        let Announcement { max_message_size, auth_equals } = Announcement::DEFAULT;
        Announcement {
            max_message_size: self.number(SIZE, size, SMALLEST_LIMIT..=LARGEST_LIMIT, max_message_size),
            auth_equals: auth.map_or(auth_equals, Spanned::into_inner),
        }
    }

    /// The entry as written, or by the ports; and the ports that have TLS from the start all the same.
    fn entry(&mut self, raw: &mut ListenerSection, listen: &[SocketAddr]) -> (Entry, Vec<u16>) {
        const ENTRIES: &[(&str, Entry)] = &[
            ("auto", Entry::Auto),
            ("implicit", Entry::Implicit),
            ("starttls", Entry::StartTls),
            ("plaintext", Entry::Plaintext),
        ];
        if let Some(entry) = self.choice("listener.entry", raw.entry.take(), ENTRIES) {
            return (entry, Vec::new());
        }
        let ports: Vec<u16> = listen.iter().map(SocketAddr::port).collect();
        let allows_plaintext = raw.allow_plaintext.as_ref().is_some_and(|allowed| *allowed.get_ref());
        entry_by_ports(&ports, allows_plaintext || raw.detect_delay.is_some())
    }

    /// The treatment of logins beside `observe = true`, where no other key has a meaning.
    fn observed(&mut self, logins: Written<String>, upstream: Written<String>) -> Option<Logins> {
        for (key, written) in [("listener.logins", logins), ("listener.upstream", upstream)] {
            if let Some(written) = written {
                let message = "has no meaning beside observe = true, which lets nobody in; remove one of the two";
                self.problem(Some(written.span()), key, message);
            }
        }
        Some(Logins::Observe)
    }

    fn logins(
        &mut self,
        section: &Range<usize>,
        written: Written<String>,
        upstream: Written<String>,
        upstreams: &Upstreams,
    ) -> Option<Logins> {
        const TRANSLATE: &[(&str, bool)] = &[("translate", true), ("pass-through", false)];
        if self.choice("listener.logins", written, TRANSLATE).unwrap_or(true) {
            if let Some(upstream) = upstream {
                self.problem(
                    Some(upstream.span()),
                    "listener.upstream",
                    "has a meaning with logins = \"pass-through\" alone; a translated login goes to its account's \
                     mail server",
                );
            }
            return Some(Logins::Translate);
        }
        let only = upstreams.only();
        if upstream.is_none() && only.is_none() && !upstreams.by_name.is_empty() {
            let names: Vec<_> = upstreams.by_name.keys().map(|name| format!("\"{name}\"")).collect();
            self.problem(
                Some(section.clone()),
                "listener.upstream",
                &format!("is missing; there are several mail servers, write upstream = {}", names.join(" or ")),
            );
        }
        self.reference("listener.upstream", upstream, upstreams.by_name.keys(), only).map(Logins::PassThrough)
    }

    fn listened(&mut self, section: Range<usize>, written: Written<Vec<Spanned<String>>>) -> Vec<SocketAddr> {
        let Some(written) = written else {
            self.problem(Some(section), "listener.listen", "is missing; write listen = [\"0.0.0.0:993\"]");
            return Vec::new();
        };
        if written.get_ref().is_empty() {
            self.problem(Some(written.span()), "listener.listen", "names no address; write listen = [\"0.0.0.0:993\"]");
        }
        self.addresses("listener.listen", 993, written.into_inner())
    }

    /// Checks that some device can get through the handshake.
    fn usable(&mut self, section: &Range<usize>, tls: &TlsPolicy, certificate: &Certificate) {
        let speaks_1_3 = tls.maximum == Version::Tls1_3;
        let fits_version = |suite: &&Suite| tls.maximum >= Version::Tls1_2 || !suite.needs_tls_1_2();
        let fits_certificate = |suite: &&Suite| certificate.ecdsa.is_some() || !suite.needs_ecdsa();
        let mut suites = tls.suites.iter().copied().filter(|suite| fits_version(suite));
        if !speaks_1_3 && !tls.suites.iter().copied().any(|suite| fits_version(&suite)) {
            let message = format!("all of them need TLS 1.2, and maximum_version is \"{}\"", tls.maximum.key());
            self.problem(Some(section.clone()), "listener.ciphers", &message);
        } else if !speaks_1_3 && !suites.any(|suite| fits_certificate(&suite)) {
            self.problem(
                Some(section.clone()),
                "listener.ciphers",
                "all of them need an ECDSA certificate; add ecdsa_chain and ecdsa_key to the certificate, or suites \
                 with RSA",
            );
        }
        let sha1 = matches!(certificate.source, CertificateSource::Made { digest: Digest::Sha1, .. });
        if sha1 && !tls.is_weak() {
            self.problem(
                Some(section.clone()),
                "listener.certificate",
                "is made with SHA-1, which goes with old TLS alone; set digest = \"sha256\", or another certificate",
            );
        }
    }

    /// The networks that devices may come from. Weak TLS, or none, is for private networks unless the file says
    /// otherwise.
    fn allowed_networks(&mut self, written: Written<Vec<Spanned<String>>>, is_weak: bool) -> Networks {
        const KEY: &str = "listener.allowed_networks";
        let Some(written) = written else {
            return if is_weak { Networks::private() } else { Networks::everywhere() };
        };
        let (span, is_empty) = (written.span(), written.get_ref().is_empty());
        let networks = Networks(written.into_inner().into_iter().filter_map(|one| self.network(KEY, one)).collect());
        if is_empty {
            self.problem(Some(span), KEY, "allows nobody; name a network, or remove the key");
        } else if is_weak && networks.are_public() {
            let message = "opens weak TLS, or none, to the whole world; name the devices' networks";
            self.warn(Some(span), KEY, message);
        }
        networks
    }

    /// Returns whether logins without TLS are allowed. The file must say twice that they are: by the key, and by
    /// networks.
    fn plaintext(&mut self, section: &Range<usize>, entry: Entry, raw: &ListenerSection) -> bool {
        let allowed_span = raw.allow_plaintext.as_ref().map(Spanned::span);
        let allowed = raw.allow_plaintext.as_ref().is_some_and(|written| *written.get_ref());
        let networks_named = raw.allowed_networks.is_some();
        match (entry, allowed) {
            (Entry::Implicit, true) => {
                self.problem(allowed_span, "listener.allow_plaintext", "contradicts entry = \"implicit\"; remove it");
            }
            (Entry::Plaintext, false) => {
                self.problem(
                    Some(section.clone()),
                    "listener.entry",
                    "\"plaintext\" sends passwords and mail in clear; if that is wanted, write allow_plaintext = true \
                     and name the devices in allowed_networks",
                );
            }
            (_, true) if !networks_named => {
                self.problem(
                    allowed_span,
                    "listener.allow_plaintext",
                    "needs allowed_networks beside it: name the devices that may log in without TLS",
                );
            }
            _ => {}
        }
        allowed
    }

    fn tls(&mut self, raw: &mut ListenerSection) -> TlsPolicy {
        let profiles = Profile::ALL.map(|profile| (profile.name(), profile));
        let versions = Version::ALL.map(|version| (version.key(), version));
        let profile_span = raw.profile.as_ref().map(Spanned::span);
        let profile = self.choice("listener.profile", raw.profile.take(), &profiles).unwrap_or(Profile::Legacy);
        let mut policy = profile.policy();
        let minimum_span = raw.minimum_version.as_ref().map(Spanned::span);
        if let Some(minimum) = self.choice("listener.minimum_version", raw.minimum_version.take(), &versions) {
            policy.minimum = minimum;
        }
        let maximum_span = raw.maximum_version.as_ref().map(Spanned::span);
        if let Some(maximum) = self.choice("listener.maximum_version", raw.maximum_version.take(), &versions) {
            policy.maximum = maximum;
        }
        if policy.maximum < policy.minimum {
            self.problem(
                maximum_span.or(minimum_span.clone()),
                "listener.maximum_version",
                &format!("{} is below the minimum, {}", policy.maximum.key(), policy.minimum.key()),
            );
        }
        if let Some(ciphers) = raw.ciphers.take() {
            let span = ciphers.span();
            policy.suites = ciphers.into_inner().into_iter().filter_map(|cipher| self.cipher(cipher)).collect();
            if policy.suites.is_empty() {
                self.problem(
                    Some(span),
                    "listener.ciphers",
                    "names no cipher suite; remove the key for the profile's own",
                );
            }
        }
        policy.sslv2_hello = raw.sslv2_hello.unwrap_or(policy.sslv2_hello);
        policy.empty_fragments = raw.empty_fragments.unwrap_or(false);
        policy.encrypt_then_mac = raw.encrypt_then_mac.unwrap_or(false);
        if !cfg!(feature = "legacy-crypto") {
            let ancient = policy.suites.iter().any(|suite| suite.tier == Some(suite::Tier::Ancient));
            if policy.minimum == Version::Ssl3 || ancient {
                self.problem(
                    profile_span.or(minimum_span),
                    "listener.profile",
                    "this packetboat was built without SSLv3, 3DES and RC4 (feature legacy-crypto)",
                );
            }
        }
        policy
    }

    fn cipher(&mut self, written: Spanned<String>) -> Option<&'static Suite> {
        let span = written.span();
        let name = written.into_inner();
        let message = match suite::by_name(&name) {
            Some(suite) if suite.tier.is_some() => return Some(suite),
            Some(_) if name.starts_with("TLS_") => {
                format!("{name} is a suite of TLS 1.3; those are always on where the version is allowed")
            }
            Some(_) => format!("{name} is not offered by packetboat, on any listener"),
            None => {
                let known = suite::up_to(suite::Tier::Ancient).map(|suite| suite.name);
                match nearest(&name, known) {
                    Some(near) => format!("unknown cipher suite; did you mean \"{near}\"?"),
                    None => "unknown cipher suite; use OpenSSL's names, as AES128-SHA".to_owned(),
                }
            }
        };
        self.problem(Some(span), "listener.ciphers", &message);
        None
    }
}

fn default_listeners() -> Vec<Spanned<ListenerSection>> {
    let section = |one: DefaultListener| {
        let written = |text: &str| Some(Spanned::new(0..0, text.to_owned()));
        let address = SocketAddr::from(([0, 0, 0, 0], one.port));
        let section = ListenerSection {
            protocol: written(one.protocol.key()),
            listen: Some(Spanned::new(0..0, vec![Spanned::new(0..0, address.to_string())])),
            entry: written(one.entry),
            ..ListenerSection::default()
        };
        Spanned::new(0..0, section)
    };
    Protocol::MAILBOX.into_iter().flat_map(DefaultListener::of).map(section).collect()
}

/// The bounds of a message's size: every server takes 64 KiB (RFC 5321 §4.5.3.1.7), and none is known to take more than
/// 1 GiB.
const SMALLEST_LIMIT: i64 = 64 << 10;
const LARGEST_LIMIT: i64 = 1 << 30;

/// The protocols of the listeners, as far as they are written without a mistake.
pub(super) fn protocols(raw: Option<&[Spanned<ListenerSection>]>) -> Vec<Protocol> {
    let Some(raw) = raw else { return Protocol::MAILBOX.to_vec() };
    let keys: Vec<&str> =
        raw.iter().filter_map(|one| Some(one.get_ref().protocol.as_ref()?.get_ref().as_str())).collect();
    Protocol::ALL.into_iter().filter(|protocol| keys.contains(&protocol.key())).collect()
}

/// The keys of all protocols, as an operator writes them.
fn keys_of_protocols() -> String {
    let keys = Protocol::ALL.map(|protocol| format!("\"{}\"", protocol.key()));
    let [others @ .., last] = keys.as_slice() else { return String::new() };
    format!("{} or {last}", others.join(", "))
}
