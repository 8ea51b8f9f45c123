//! The mail servers, proven.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use toml::Spanned;

use super::Proof;
use crate::config::file::{UpstreamSection, Written};
use crate::config::{Cloud, Identity, Upstream};
use crate::protocol::Security;

/// The mail servers of the file, and those that the identities' clouds supply.
pub(super) struct Upstreams {
    pub(super) by_name: BTreeMap<String, Upstream>,
    /// The names of those that the file does not have.
    supplied: BTreeSet<String>,
}

/// The reason why an identity's cloud has no mail server, and what to write. The words follow the key of the server.
#[derive(Debug)]
pub(super) enum NoServer {
    /// The tokens come from elsewhere than the cloud.
    OtherTokens {
        /// The address at which the cloud issues tokens.
        authority: &'static str,
        /// The names of the servers in the file.
        named: Vec<String>,
    },
    /// The file has another server under the name of the cloud's.
    OtherServer {
        /// The name.
        name: &'static str,
        /// The host of the other server.
        other: String,
        /// The host of the cloud's server.
        own: String,
    },
    /// The file has no server of the cloud. The host is that of the cloud's server.
    Missing(String),
    /// The file has several servers of the cloud, by these names.
    Several(Vec<String>),
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
            names.join(" or ")
        };
        match self {
            Self::OtherTokens { authority, named } => {
                let named = if named.is_empty() { "\"NAME\"".to_owned() } else { quoted(named) };
                write!(
                    f,
                    "is missing; the identity's tokens do not come from {authority}, so that its mail server is not \
                     known: write upstream = {named}; or cloud = \"...\" at the identity, if its tokens are for that \
                     cloud"
                )
            }
            Self::OtherServer { name, other, own } => write!(
                f,
                "is missing; [upstream.{name}] is {other}, and not the server of the identity's cloud, {own}: write \
                 upstream = \"{name}\" if this account's token may go there, or give that section another name"
            ),
            Self::Missing(own) => write!(f, "is missing; write [upstream.NAME] with host = \"{own}\""),
            Self::Several(names) => {
                write!(f, "is missing; several mail servers are of its cloud: write upstream = {}", quoted(names))
            }
        }
    }
}

impl std::error::Error for NoServer {}

impl Upstreams {
    /// The server of an identity's cloud. A token goes nowhere else unless its account names the server.
    ///
    /// # Errors
    /// There is none or more than one.
    pub(super) fn of_cloud(&self, identity: &Identity) -> Result<&str, NoServer> {
        let (name, own) = identity.cloud.upstream();
        let own = || own.host().to_owned();
        if !identity.tokens_are_of_cloud {
            let named = self.by_name.keys().filter(|name| !self.supplied.contains(*name)).cloned().collect();
            return Err(NoServer::OtherTokens { authority: identity.cloud.authority(), named });
        }
        let of_cloud: Vec<&String> =
            self.by_name.iter().filter(|(_, one)| identity.cloud.runs(one)).map(|(name, _)| name).collect();
        match (of_cloud.as_slice(), self.by_name.get(name)) {
            ([one], _) => Ok(one.as_str()),
            ([], Some(other)) => {
                let other = identity.cloud.foreign_name(other).unwrap_or_else(|| other.host()).to_owned();
                Err(NoServer::OtherServer { name, other, own: own() })
            }
            ([], None) => Err(NoServer::Missing(own())),
            (several, _) => Err(NoServer::Several(several.iter().map(|name| (*name).clone()).collect())),
        }
    }

    /// The only one: of the file, where it has any.
    pub(super) fn only(&self) -> Option<&str> {
        let mut names = self.by_name.keys().filter(|name| self.are_all_supplied() || !self.supplied.contains(*name));
        names.next().filter(|_| names.next().is_none()).map(String::as_str)
    }

    /// The servers of the file, and the supplied ones that are used.
    pub(super) fn used_by(self, is_used: impl Fn(&str) -> bool) -> BTreeMap<String, Upstream> {
        let keep_all = self.are_all_supplied();
        let Self { mut by_name, supplied } = self;
        by_name.retain(|name, _| keep_all || !supplied.contains(name) || is_used(name));
        by_name
    }

    fn are_all_supplied(&self) -> bool {
        self.supplied.len() == self.by_name.len()
    }
}

impl Proof<'_> {
    pub(super) fn upstreams(
        &mut self,
        raw: Option<BTreeMap<String, Spanned<UpstreamSection>>>,
        identities: &BTreeMap<String, Identity>,
    ) -> Upstreams {
        if raw.as_ref().is_some_and(BTreeMap::is_empty) {
            self.problem(None, "upstream", "names no mail server; write [upstream.NAME] with a host");
        }
        let by_name: BTreeMap<String, Upstream> = raw
            .into_iter()
            .flatten()
            .filter_map(|(name, section)| Some((name.clone(), self.upstream(&name, section)?)))
            .collect();
        let mut upstreams = Upstreams { by_name, supplied: BTreeSet::new() };
        let mut clouds: BTreeSet<Cloud> = identities.values().map(|identity| identity.cloud).collect();
        if upstreams.by_name.is_empty() && clouds.is_empty() {
            clouds.insert(Cloud::Worldwide);
        }
        for cloud in clouds {
            let (name, upstream) = cloud.upstream();
            let is_there =
                upstreams.by_name.contains_key(name) || upstreams.by_name.values().any(|one| cloud.runs(one));
            if !is_there {
                upstreams.by_name.insert(name.to_owned(), upstream);
                upstreams.supplied.insert(name.to_owned());
            }
        }
        upstreams
    }

    fn upstream(&mut self, name: &str, raw: Spanned<UpstreamSection>) -> Option<Upstream> {
        self.note(&format!("upstream.{name}"), &raw.span());
        let endpoints = self.endpoints(name, &raw)?;
        let raw = raw.into_inner();
        let is_ever_implicit = endpoints
            .iter()
            .any(|(_, endpoint)| endpoint.as_ref().is_some_and(|one| one.security == Security::Implicit));
        Some(Upstream {
            endpoints,
            roots: self.roots(&format!("upstream.{name}.roots"), raw.roots),
            warm_connections: self.warm_connections(name, raw.warm_connections, is_ever_implicit),
            warm_time: self.warm_time(name, raw.warm_time),
            park: self.park(name, raw.park),
            park_age: self.park_age(name, raw.park_age),
        })
    }

    fn warm_connections(&mut self, name: &str, written: Written<i64>, is_ever_implicit: bool) -> usize {
        let key = format!("upstream.{name}.warm_connections");
        let span = written.as_ref().map(Spanned::span);
        let count = self.number(&key, written, 0..=MOST_WARM, 0);
        if count > 0 && !is_ever_implicit {
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

    fn park(&mut self, name: &str, written: Written<String>) -> Duration {
        let is_off = written.as_ref().is_some_and(|written| humantime::parse_duration(written.get_ref()) == NEVER);
        let written = written.filter(|_| !is_off);
        self.parking_time(&format!("upstream.{name}.park"), written, Duration::ZERO)
    }

    fn park_age(&mut self, name: &str, written: Written<String>) -> Duration {
        self.parking_time(&format!("upstream.{name}.park_age"), written, Upstream::PARK_AGE)
    }

    /// A time that ends before the mail server closes an idle session.
    fn parking_time(&mut self, key: &str, written: Written<String>, default: Duration) -> Duration {
        let span = written.as_ref().map(Spanned::span);
        let time = self.duration_up_to(LONGEST_PARKING, key, written, default);
        if time >= IDLE {
            let message = "must be below 30m, after which Exchange Online closes idle sessions";
            self.problem(span, key, message);
        }
        time
    }
}

/// The duration that switches parking off.
const NEVER: Result<Duration, humantime::DurationError> = Ok(Duration::ZERO);
/// The longest time that a value may say at all.
const LONGEST_PARKING: Duration = Duration::from_secs(24 * 60 * 60);
/// The time after which servers may close an idle session (RFC 3501 §5.4).
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Connections that nobody may ever use are a burden to the server.
const MOST_WARM: i64 = 32;
const SHORTEST_WARM: Duration = Duration::from_secs(1);
