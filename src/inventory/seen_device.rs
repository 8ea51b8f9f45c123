//! One device: what is known of it, and how that changes when it is seen again.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::assessment::{Assessment, Judgement};
use super::observation::{Observation, TlsMode};
use super::serde_names::{protocol_name, version_name};
use crate::config::Version;
use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::transport::detect::hello::ClientHello;

/// What is known of one device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SeenDevice {
    /// Its address.
    pub source: IpAddr,
    /// What the DNS calls that.
    pub name: Option<String>,
    /// What it speaks.
    #[serde(with = "protocol_name")]
    pub protocol: Protocol,
    /// Where it came in last.
    pub listener: String,
    /// How TLS came about.
    #[serde(rename = "entry")]
    pub tls_mode: Option<TlsMode>,
    /// The version agreed on.
    #[serde(rename = "tls", default, with = "version_name")]
    pub version: Option<Version>,
    /// The cipher suite agreed on, by OpenSSL's name.
    pub cipher: Option<String>,
    /// Its ClientHello in plain words.
    pub offers: Option<String>,
    /// Its ClientHello as JA4.
    pub fingerprint: Option<String>,
    /// As whom it has tried to log in, the last one first; no more than four.
    pub logins: Vec<String>,
    /// As whom it was let in last.
    pub known_as: Option<String>,
    /// The mailbox that was opened for it last.
    pub mailbox: Option<String>,
    /// How often it was seen.
    pub sessions: u64,
    /// Connections of it that are open now.
    #[serde(skip_deserializing)]
    pub open: usize,
    /// How often something went wrong.
    pub failures: u64,
    /// What it was, in plain words, the last time.
    pub failure: Option<String>,
    /// When that was.
    pub failed: Option<u64>,
    /// When it was let in to a mailbox last.
    pub logged_in: Option<u64>,
    /// When it was seen first.
    pub first_seen: u64,
    /// When it was seen last.
    pub last_seen: u64,
    /// Whether it needs packetboat.
    #[serde(rename = "verdict")]
    pub assessment: Assessment,
}

impl SeenDevice {
    pub(super) fn new(observation: &Observation<'_>, fingerprint: String, now: u64) -> Self {
        Self {
            source: observation.source,
            name: None,
            protocol: observation.protocol,
            listener: observation.listener.to_owned(),
            tls_mode: None,
            version: None,
            cipher: None,
            offers: observation.hello.map(ClientHello::describe),
            fingerprint: Some(fingerprint).filter(|text| !text.is_empty()),
            logins: Vec::new(),
            known_as: None,
            mailbox: None,
            sessions: 0,
            failures: 0,
            failure: None,
            failed: None,
            logged_in: None,
            first_seen: now,
            last_seen: now,
            assessment: Assessment::unknown(),
            open: 0,
        }
    }

    pub(super) fn update(&mut self, observation: &Observation<'_>, now: u64) {
        if self.listener != observation.listener {
            observation.listener.clone_into(&mut self.listener);
        }
        self.sessions = self.sessions.saturating_add(1);
        self.last_seen = now;
        self.tls_mode = observation.tls_mode.or(self.tls_mode);
        if let Some(facts) = observation.tls {
            self.version = facts.version();
            if self.cipher.as_deref() != Some(facts.cipher) {
                self.cipher = Some(facts.cipher.to_owned());
            }
        }
        self.assessment = Assessment::of(observation);
        if let Some(failure) = observation.refused {
            self.fail(failure, now);
        }
    }

    pub(super) fn fail(&mut self, failure: &Failure, now: u64) {
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure.to_string().chars().take(LONGEST_FAILURE).collect());
        self.failed = Some(now);
    }

    /// Whether the last that is known of it is that something went wrong.
    pub fn needs_attention(&self) -> bool {
        let failed_last = self.failed.is_some_and(|failed| self.logged_in.is_none_or(|logged_in| failed > logged_in));
        self.assessment.judgement == Judgement::Refused || failed_last
    }
}

/// In characters.
const LONGEST_FAILURE: usize = 500;
