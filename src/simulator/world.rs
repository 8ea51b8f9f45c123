//! The world is the state that all parts of the simulator share: tenant, tokens, mailboxes, quirks, counts and events.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::counts::Counts;
use super::mailbox::Mailbox;
use super::quirks::Quirks;
use super::submission::SubmissionLog;
use super::tenant::{ClientCertificate, Principal, Tenant};
use super::tokens::Tokens;
use crate::crypto::sha256;

/// The state of a simulator.
pub(super) struct World {
    pub(super) tenant: Tenant,
    grants: Mutex<Grants>,
    /// The address of the token endpoint.
    pub(super) endpoint: SocketAddr,
    pub(super) quirks: watch::Sender<Quirks>,
    pub(super) counts: watch::Sender<Counts>,
    pub(super) feed: broadcast::Sender<String>,
    log: Mutex<Vec<String>>,
    tokens: Mutex<Tokens>,
    mailboxes: BTreeMap<String, Arc<Mailbox>>,
    /// The times of logins by mailbox, where a quirk bounds their rate.
    logins: Mutex<BTreeMap<String, VecDeque<Instant>>>,
    /// Everything that came by SMTP.
    pub(super) submissions: SubmissionLog,
    seed: [u8; 32],
    random_count: AtomicU64,
}

/// The rights of the app, which an administrator's script can change while the simulator runs.
struct Grants {
    certificates: Vec<Arc<ClientCertificate>>,
    mailboxes: Vec<String>,
    /// Mailboxes, and the senders that each may send as.
    send_as: Vec<(String, String)>,
}

impl World {
    pub(super) fn new(mut tenant: Tenant, endpoint: SocketAddr, seed: [u8; 32]) -> Self {
        let mailboxes = tenant.mailboxes().map(|name| (name.to_lowercase(), Arc::new(Mailbox::new()))).collect();
        let certificates = tenant.certificate.take().into_iter().map(Arc::new).collect();
        let (app_mailboxes, send_as) = (std::mem::take(&mut tenant.app_mailboxes), std::mem::take(&mut tenant.send_as));
        let grants = Mutex::new(Grants { certificates, mailboxes: app_mailboxes, send_as });
        Self {
            tenant,
            grants,
            endpoint,
            quirks: watch::Sender::new(Quirks::default()),
            counts: watch::Sender::new(Counts::default()),
            feed: broadcast::Sender::new(FEED),
            log: Mutex::default(),
            tokens: Mutex::default(),
            mailboxes,
            logins: Mutex::default(),
            submissions: SubmissionLog::default(),
            seed,
            random_count: AtomicU64::new(0),
        }
    }

    pub(super) fn mailbox(&self, name: &str) -> Option<Arc<Mailbox>> {
        self.mailboxes.get(&name.to_lowercase()).cloned()
    }

    /// Judges the times of a mailbox's logins, the oldest first.
    pub(super) fn logins<T>(&self, mailbox: &str, judge: impl FnOnce(&mut VecDeque<Instant>) -> T) -> T {
        judge(self.logins.lock().entry(mailbox.to_owned()).or_default())
    }

    pub(super) fn quirk<T>(&self, of: impl FnOnce(&Quirks) -> T) -> T {
        of(&self.quirks.borrow())
    }

    /// The app's certificates.
    pub(super) fn certificates(&self) -> Vec<Arc<ClientCertificate>> {
        self.grants.lock().certificates.clone()
    }

    /// Registers a certificate for the app, beside those that it has.
    pub(super) fn upload_certificate(&self, certificate: ClientCertificate) {
        self.grants.lock().certificates.push(Arc::new(certificate));
    }

    /// Removes the app's certificate of this thumbprint.
    pub(super) fn remove_certificate(&self, thumbprint: &str) {
        self.grants.lock().certificates.retain(|one| one.thumbprint != thumbprint);
    }

    /// Gives the app full access to a mailbox.
    pub(super) fn grant_mailbox(&self, mailbox: &str) {
        self.grants.lock().mailboxes.push(mailbox.to_owned());
    }

    /// Lets a mailbox send as another sender.
    pub(super) fn grant_send_as(&self, mailbox: &str, sender: &str) {
        self.grants.lock().send_as.push((mailbox.to_owned(), sender.to_owned()));
    }

    /// Returns whether a mailbox may send as this sender: itself, an alias, or one that it has SendAs for.
    pub(super) fn may_send_as(&self, mailbox: &str, sender: &str) -> bool {
        let is =
            |(own, other): &(String, String)| own.eq_ignore_ascii_case(mailbox) && other.eq_ignore_ascii_case(sender);
        mailbox.eq_ignore_ascii_case(sender) || self.grants.lock().send_as.iter().any(is)
    }

    /// Returns whether a principal has full access to a mailbox.
    pub(super) fn may_open(&self, principal: &Principal, mailbox: &str) -> bool {
        match principal {
            Principal::App => self.grants.lock().mailboxes.iter().any(|name| name.eq_ignore_ascii_case(mailbox)),
            Principal::User(address) => self.tenant.may_open(address, mailbox),
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }

    /// Logs an event for people who watch; never with a token, a password or mail.
    pub(super) fn log_event(&self, event: String) {
        let mut log = self.log.lock();
        if log.len() >= REMEMBERED {
            log.drain(..REMEMBERED / 2);
        }
        log.push(event.clone());
        drop(log);
        // The feed may have no receiver.
        let _ = self.feed.send(event);
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    pub(super) fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock()
    }

    /// The endpoint's clock.
    pub(super) fn now(&self) -> SystemTime {
        let offset = self.quirk(|quirks| quirks.endpoint.clock_offset);
        let by = Duration::from_secs(offset.unsigned_abs());
        let now = SystemTime::now();
        if offset < 0 { now.checked_sub(by) } else { now.checked_add(by) }.unwrap_or(now)
    }

    /// Random octets, never the same ones twice.
    pub(super) fn random_octets(&self) -> [u8; 32] {
        let number = self.random_count.fetch_add(1, Ordering::Relaxed);
        sha256(&[self.seed.as_slice(), &number.to_be_bytes()].concat())
    }

    /// Random text, never the same twice.
    pub(super) fn random_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.random_octets())
    }
}

/// The number of events that a slow receiver may lag behind.
const FEED: usize = 1024;

/// The number of events that are kept; a demonstration may run for weeks.
const REMEMBERED: usize = 10_000;
