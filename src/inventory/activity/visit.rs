//! The visit of a configured device begins with a login that succeeds, and ends with its session.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Activities, Entry, now};
use crate::failure::Failure;

/// The session of a configured device. Dropping it notes that the device has left.
pub struct Visit {
    entry: Arc<Entry>,
    /// The number of its connection.
    number: u64,
    changed: Arc<AtomicBool>,
}

/// The proof that a login was a device's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The password was right.
    Verified,
    /// Somebody has used the device's name.
    Claimed,
}

impl Activities {
    /// Notes a login that succeeded, on the connection of this number.
    pub fn login_succeeded(&self, login: &str, source: IpAddr, number: u64) -> Option<Visit> {
        let entry = self.find(login)?;
        entry.record.lock().logged_in(source, now());
        entry.open.fetch_add(1, Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
        Some(Visit { entry, number, changed: Arc::clone(&self.changed) })
    }

    /// Notes a login that failed. A claimed name counts for a device only from the address that it comes from itself,
    /// or before its first login: strangers who guess say nothing about it.
    pub fn login_failed(&self, login: &str, source: IpAddr, failure: &Failure, proof: Proof) {
        let Some(entry) = self.find(login) else { return };
        let mut record = entry.record.lock();
        if proof == Proof::Verified || record.may_be_at(source) {
            record.failed(source, failure, now());
            self.changed.store(true, Ordering::Relaxed);
        }
    }
}

impl Visit {
    /// Notes a failure of the session.
    pub fn failed(&self, source: IpAddr, failure: &Failure) {
        self.entry.record.lock().failed(source, failure, now());
    }

    /// Notes the end of the session: the messages that the device has fetched, and the octets that it was sent.
    pub fn ended(self, messages: u64, octets: u64) {
        self.entry.record.lock().session_ended(messages, octets, now());
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.entry.open.fetch_sub(1, Ordering::Relaxed);
        self.entry.record.lock().left(now());
        self.entry.connections.abandon(self.number, now());
        self.changed.store(true, Ordering::Relaxed);
    }
}
