//! The endpoints of a mail server, proven: the section of each protocol, and the short keys that stand for it.
//!
//! `host`, `security` and `server_name` of the upstream are for every protocol whose section has none of its own.
//! `pop3_host`, `imap_port` and `pop3_port` are another way to write one key of a section.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::Range;

use toml::Spanned;

use super::Proof;
use crate::config::file::{EndpointSection, UpstreamSection, Written, line_of};
use crate::config::{Cloud, Endpoint, normalize, url};
use crate::protocol::{ByProtocol, Protocol, Security};

/// A value, and the key that it is written at.
struct Value<T> {
    key: String,
    span: Range<usize>,
    value: T,
}

/// The values that every protocol has whose section says nothing else.
struct Defaults {
    host: Option<Value<String>>,
    /// None where the file says nothing, and each protocol has its usual one.
    security: Option<Security>,
    server_name: Option<Value<String>>,
}

/// The keys for one protocol.
struct Keys<'a> {
    section: &'a EndpointSection,
    has_section: bool,
    short_host: &'a Written<String>,
    short_port: &'a Written<i64>,
}

impl Keys<'_> {
    /// Returns whether a key of this protocol is written.
    fn are_written(&self) -> bool {
        self.has_section || self.short_host.is_some() || self.short_port.is_some()
    }
}

impl Defaults {
    /// The endpoint of a protocol at the cloud that runs the host.
    fn beside(&self, protocol: Protocol) -> Option<Endpoint> {
        let host = self.host.as_ref().filter(|_| self.server_name.is_none())?;
        Cloud::endpoint_beside(&host.value, protocol)
    }
}

impl Proof<'_> {
    /// The endpoint of each protocol; none where a host is missing. A server need not serve submission, and one that
    /// serves submission need not serve anything else.
    pub(super) fn endpoints(
        &mut self,
        name: &str,
        raw: &Spanned<UpstreamSection>,
    ) -> Option<ByProtocol<Option<Endpoint>>> {
        let (section, none) = (raw.get_ref(), EndpointSection::default());
        let keys = ByProtocol {
            imap: Keys {
                section: section.imap.as_ref().unwrap_or(&none),
                has_section: section.imap.is_some(),
                short_host: &None,
                short_port: &section.imap_port,
            },
            pop3: Keys {
                section: section.pop3.as_ref().unwrap_or(&none),
                has_section: section.pop3.is_some(),
                short_host: &section.pop3_host,
                short_port: &section.pop3_port,
            },
            smtp: Keys {
                section: section.smtp.as_ref().unwrap_or(&none),
                has_section: section.smtp.is_some(),
                short_host: &None,
                short_port: &None,
            },
        };
        let defaults = self.defaults(name, section);
        let endpoints =
            keys.map(|protocol, keys| self.endpoint(&format!("upstream.{name}"), protocol, keys, &defaults));
        self.warn_of_unused_defaults(&defaults, &keys);
        let serves_mailboxes = Protocol::MAILBOX.iter().any(|protocol| keys.of(*protocol).are_written());
        let is_for_submission = keys.smtp.has_section && defaults.host.is_none() && !serves_mailboxes;
        let is_needed = |protocol: Protocol| match protocol {
            Protocol::Imap | Protocol::Pop3 => !is_for_submission,
            Protocol::Smtp => keys.smtp.has_section,
        };
        let is_missing = |(protocol, endpoint): (Protocol, &Option<Endpoint>)| {
            (endpoint.is_none() && is_needed(protocol)).then_some(protocol)
        };
        let missing: Vec<Protocol> = endpoints.iter().filter_map(is_missing).collect();
        let (key, message) = match missing.as_slice() {
            [] => return Some(endpoints),
            [one] => (
                format!("upstream.{name}.{}.host", one.key()),
                format!("is missing; write it, or host = \"outlook.office365.com\" in [upstream.{name}]"),
            ),
            _ => (format!("upstream.{name}.host"), "is missing; write host = \"outlook.office365.com\"".to_owned()),
        };
        self.problem(Some(raw.span()), &key, &message);
        None
    }

    fn defaults(&mut self, name: &str, section: &UpstreamSection) -> Defaults {
        let key = |word: &str| format!("upstream.{name}.{word}");
        let host = section.host.as_ref().map(|written| self.host_value(key("host"), written, SHORT_PORTS));
        let security = self.choice(&key("security"), section.security.clone(), SECURITIES);
        let server_name = section.server_name.as_ref().map(|written| name_value(key("server_name"), written));
        Defaults { host, security, server_name }
    }

    /// The endpoint of one protocol; none without a host. Submission without a section of its own has one only beside
    /// a cloud's mail server.
    fn endpoint(
        &mut self,
        upstream: &str,
        protocol: Protocol,
        keys: &Keys<'_>,
        defaults: &Defaults,
    ) -> Option<Endpoint> {
        if protocol.submits() && !keys.has_section {
            return defaults.beside(protocol);
        }
        let section = keys.section;
        let key = |word: &str| format!("{upstream}.{}.{word}", protocol.key());
        let short = |word: &str| format!("{upstream}.{}_{word}", protocol.key());
        let host = section.host.as_ref().map(|written| self.host_value(key("host"), written, "port"));
        let short_host = keys.short_host.as_ref().map(|written| self.host_value(short("host"), written, SHORT_PORTS));
        let host = self.either(host, short_host);
        let security = self.choice(&key("security"), section.security.clone(), SECURITIES);
        let security = security.or(defaults.security).unwrap_or_else(|| protocol.usual_security());
        let port = section.port.as_ref().map(|written| self.port_value(key("port"), written));
        let short_port = keys.short_port.as_ref().map(|written| self.port_value(short("port"), written));
        let port = self.either(port, short_port);
        let server_name = section.server_name.as_ref().map(|written| name_value(key("server_name"), written));
        let server_name = server_name.as_ref().or(defaults.server_name.as_ref());
        let host = host.as_ref().or(defaults.host.as_ref())?;
        self.note_as(&key("host"), &host.key, &host.span);
        if let Some(name) = server_name {
            self.note_as(&key("server_name"), &name.key, &name.span);
        }
        Some(Endpoint {
            host: host.value.clone(),
            port: port.map_or_else(|| protocol.port(security), |port| port.value),
            security,
            server_name: server_name.map(|name| name.value.clone()),
        })
    }

    /// The value of a section's key, or of the short key for it. Where both are written they must agree.
    fn either<T: PartialEq + Display>(&mut self, full: Option<Value<T>>, short: Option<Value<T>>) -> Option<Value<T>> {
        if let (Some(full), Some(short)) = (&full, &short)
            && full.value != short.value
        {
            let line = line_of(self.text, &short.span);
            let message =
                format!("is {}, but {} (line {line}) is {}; remove one of the two", full.value, short.key, short.value);
            self.problem(Some(full.span.clone()), &full.key, &message);
        }
        full.or(short)
    }

    /// Warns of a default that no protocol takes.
    fn warn_of_unused_defaults(&mut self, defaults: &Defaults, keys: &ByProtocol<Keys<'_>>) {
        let has_none = |keys: &Keys<'_>| !keys.has_section && defaults.beside(Protocol::Smtp).is_none();
        let all = |has: fn(&Keys<'_>) -> bool| {
            Protocol::MAILBOX.iter().all(|protocol| has(keys.of(*protocol)))
                && (has(&keys.smtp) || has_none(&keys.smtp))
        };
        let has_host = all(|keys| keys.section.host.is_some() || keys.short_host.is_some());
        let has_name = all(|keys| keys.section.server_name.is_some());
        let unused = [defaults.host.as_ref().filter(|_| has_host), defaults.server_name.as_ref().filter(|_| has_name)];
        for value in unused.into_iter().flatten() {
            let message = "has no effect, because every protocol has its own; remove it";
            self.warn(Some(value.span.clone()), &value.key, message);
        }
    }

    fn host_value(&mut self, key: String, written: &Spanned<String>, port_keys: &str) -> Value<String> {
        let value = self.host(&key, written, port_keys);
        Value { span: written.span(), value, key }
    }

    fn port_value(&mut self, key: String, written: &Spanned<i64>) -> Value<u16> {
        let value = self.number(&key, Some(written.clone()), 1..=65_535, 1);
        Value { span: written.span(), value, key }
    }

    fn host(&mut self, key: &str, written: &Spanned<String>, port_keys: &str) -> String {
        let span = written.span();
        let host = normalize::host(written.get_ref()).to_owned();
        if host.contains(['/', ' ', '@']) || (host.contains(':') && host.parse::<IpAddr>().is_err()) {
            self.problem(
                Some(span.clone()),
                key,
                &format!("is a name or an address alone, as \"outlook.office365.com\"; a port goes into {port_keys}"),
            );
        }
        let legacy = ["imap-legacy.office365.com", "pop-legacy.office365.com"];
        if url::is_one_of(&host, &legacy) {
            self.warn(
                Some(span),
                key,
                "is one of the hosts that Microsoft removes by the end of 2026; use outlook.office365.com",
            );
        }
        host
    }
}

fn name_value(key: String, written: &Spanned<String>) -> Value<String> {
    Value { span: written.span(), value: normalize::trimmed(written.get_ref()).to_owned(), key }
}

const SECURITIES: &[(&str, Security)] = &[("implicit", Security::Implicit), ("starttls", Security::StartTls)];
/// The short keys for ports, as a message names them.
const SHORT_PORTS: &str = "imap_port or pop3_port";
