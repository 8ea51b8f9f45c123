//! The mail servers, proven.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use toml::Spanned;

use super::Proof;
use crate::config::file::{UpstreamSection, Written};
use crate::config::{Cloud, Identity, Security, Upstream};

impl Proof<'_> {
    pub(super) fn upstreams(
        &mut self,
        raw: Option<BTreeMap<String, Spanned<UpstreamSection>>>,
        identities: &BTreeMap<String, Identity>,
    ) -> BTreeMap<String, Upstream> {
        match raw {
            Some(raw) if raw.is_empty() => {
                self.problem(None, "upstream", "names no mail server; write [upstream.NAME] with a host");
                BTreeMap::new()
            }
            Some(raw) => raw
                .into_iter()
                .filter_map(|(name, section)| Some((name.clone(), self.upstream(&name, section)?)))
                .collect(),
            None if identities.is_empty() => upstreams_of([Cloud::Worldwide].into_iter()),
            None => upstreams_of(identities.values().map(|identity| identity.cloud)),
        }
    }

    fn upstream(&mut self, name: &str, raw: Spanned<UpstreamSection>) -> Option<Upstream> {
        const SECURITIES: &[(&str, Security)] = &[("implicit", Security::Implicit), ("starttls", Security::StartTls)];
        let span = raw.span();
        self.note(&format!("upstream.{name}"), &span);
        let raw = raw.into_inner();
        let Some(host) = raw.host else {
            self.problem(
                Some(span),
                &format!("upstream.{name}.host"),
                "is missing; write host = \"outlook.office365.com\"",
            );
            return None;
        };
        let host = self.host(&format!("upstream.{name}.host"), host);
        let pop3_host = raw.pop3_host.map(|written| self.host(&format!("upstream.{name}.pop3_host"), written));
        let security =
            self.choice(&format!("upstream.{name}.security"), raw.security, SECURITIES).unwrap_or(Security::Implicit);
        let (imap, pop3) = match security {
            Security::Implicit => (993, 995),
            Security::StartTls => (143, 110),
        };
        if let Some(written) = &raw.server_name {
            self.note(&format!("upstream.{name}.server_name"), &written.span());
        }
        Some(Upstream {
            server_name: raw.server_name.map(Spanned::into_inner),
            pop3_host: pop3_host.unwrap_or_else(|| host.clone()),
            host,
            imap_port: self.number(&format!("upstream.{name}.imap_port"), raw.imap_port, 1..=65_535, imap),
            pop3_port: self.number(&format!("upstream.{name}.pop3_port"), raw.pop3_port, 1..=65_535, pop3),
            security,
            roots: self.roots(&format!("upstream.{name}.roots"), raw.roots),
            warm_connections: self.warm_connections(name, raw.warm_connections, security),
            warm_time: self.warm_time(name, raw.warm_time),
        })
    }

    fn warm_connections(&mut self, name: &str, written: Written<i64>, security: Security) -> usize {
        let key = format!("upstream.{name}.warm_connections");
        let span = written.as_ref().map(Spanned::span);
        let count = self.number(&key, written, 0..=MOST_WARM, 0);
        if count > 0 && security == Security::StartTls {
            self.problem(span, &key, "needs security = \"implicit\"");
        }
        count
    }

    fn warm_time(&mut self, name: &str, written: Written<String>) -> Duration {
        let key = format!("upstream.{name}.warm_time");
        let span = written.as_ref().map(Spanned::span);
        let time = self.duration(&key, written, Upstream::WARM_TIME.as_secs());
        if time < SHORTEST_WARM {
            self.problem(span, &key, "would have the server dialled all the time; write a second or more");
        }
        time
    }

    fn host(&mut self, key: &str, written: Spanned<String>) -> String {
        let span = written.span();
        self.note(key, &span);
        let host = written.into_inner();
        if host.contains(['/', ' ', '@']) || (host.contains(':') && host.parse::<IpAddr>().is_err()) {
            self.problem(
                Some(span.clone()),
                key,
                "is a name or an address alone; a port goes into imap_port or pop3_port",
            );
        }
        if ["imap-legacy.office365.com", "pop-legacy.office365.com"].contains(&host.as_str()) {
            self.warn(
                Some(span),
                key,
                "is one of the hosts that Microsoft removes by the end of 2026; use outlook.office365.com",
            );
        }
        host
    }
}

/// The providers' own mail servers.
fn upstreams_of(clouds: impl Iterator<Item = Cloud>) -> BTreeMap<String, Upstream> {
    clouds.map(Cloud::upstream).map(|(name, upstream)| (name.to_owned(), upstream)).collect()
}

/// Connections that nobody may ever use are a burden to the server.
const MOST_WARM: i64 = 32;
const SHORTEST_WARM: Duration = Duration::from_secs(1);
