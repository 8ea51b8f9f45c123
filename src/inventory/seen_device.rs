//! One device: what is known of it, and how that changes when it is seen again.

use std::net::IpAddr;

use super::{Assessment, Judgement, Observation};
use crate::config::Version;
use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::transport::detect::hello::ClientHello;

/// What is known of one device. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDevice {
    /// Its address.
    pub source: IpAddr,
    /// What the DNS calls that.
    pub name: Option<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it came in last.
    pub listener: String,
    /// How TLS came about.
    pub tls_mode: Option<TlsMode>,
    /// The version agreed on.
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
    pub assessment: Assessment,
    /// Connections of it that are open now.
    pub open: usize,
}

/// How TLS came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// From the start.
    Implicit,
    /// By STARTTLS or STLS.
    StartTls,
    /// Not at all.
    Plaintext,
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

impl TlsMode {
    /// As the configuration says it.
    pub fn name(self) -> &'static str {
        match self {
            TlsMode::Implicit => "implicit",
            TlsMode::StartTls => "starttls",
            TlsMode::Plaintext => "plaintext",
        }
    }
}

/// In characters.
const LONGEST_FAILURE: usize = 500;
