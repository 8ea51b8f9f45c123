//! The visit of a configured device begins with a login that succeeds, and ends with its session.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::logins::LoginWay;
use super::{Activities, Entry, now};
use crate::failure::Failure;
use crate::protocol::Protocol;

/// The session of a configured device. Dropping it notes that the device has left.
pub struct Visit {
    entry: Arc<Entry>,
    protocol: Protocol,
    /// The number of its connection.
    number: u64,
    /// A message was sent or refused.
    has_message: bool,
    changed: Arc<AtomicBool>,
}

/// The place at which a device logs in.
#[derive(Clone, Copy, Debug)]
pub struct VisitAt {
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// The address that it comes from.
    pub source: IpAddr,
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
    pub fn login_succeeded(&self, login: &str, at: VisitAt, number: u64) -> Option<Visit> {
        let entry = self.find(login)?;
        let VisitAt { protocol, source } = at;
        entry.record.lock().logged_in(protocol, source, now());
        entry.open.fetch_add(1, Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
        Some(Visit { entry, protocol, number, has_message: false, changed: Arc::clone(&self.changed) })
    }

    /// Notes a login that failed. A claimed name counts for a device only from the address that it comes from itself,
    /// or before its first login: strangers who guess say nothing about it.
    pub fn login_failed(&self, login: &str, at: VisitAt, failure: &Failure, proof: Proof) {
        let Some(entry) = self.find(login) else { return };
        let mut record = entry.record.lock();
        if proof == Proof::Verified || record.may_be_at(at.source) {
            record.failed(at.protocol, at.source, failure, now());
            self.changed.store(true, Ordering::Relaxed);
        }
    }
}

impl Visit {
    /// Notes the way to the mail server, and the time from LOGIN to OK.
    pub fn login_took(&self, way: LoginWay, took: Duration) {
        self.entry.record.lock().login_took(way, took, now());
    }

    /// Notes a failure of the session.
    pub fn failed(&self, source: IpAddr, failure: &Failure) {
        self.entry.record.lock().failed(self.protocol, source, failure, now());
    }

    /// Notes a message that the mail server has accepted.
    pub fn sent(&mut self, recipients: u32, octets: u64) {
        self.has_message = true;
        self.entry.record.lock().sent(recipients.into(), octets, now());
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Counts the recipients of a message that is kept here and sent later, or that the mail server has not answered.
    pub fn may_be_sent(&mut self, recipients: u32) {
        self.has_message = true;
        self.entry.record.lock().sending_mut().count(recipients.into(), now());
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Notes that the device has sent to this number of recipients in an hour, and may send to no more. Returns whether
    /// that is news of this hour.
    pub fn over_quota(&self, most: u32) -> bool {
        self.changed.store(true, Ordering::Relaxed);
        self.entry.record.lock().sending_mut().over_quota(most, now())
    }

    /// Notes that the device has sent to another domain than its mailbox's. Returns whether that is news.
    pub fn sent_to_other_domain(&self) -> bool {
        let is_news = self.entry.record.lock().sending_mut().sent_to_other_domain();
        if is_news {
            self.changed.store(true, Ordering::Relaxed);
        }
        is_news
    }

    /// Notes that a message, or one of its recipients, was refused.
    pub fn refused(&mut self, failure: &Failure) {
        self.has_message = true;
        self.entry.record.lock().refused(failure, now());
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Notes the end of the session: the messages that the device has fetched, and the octets that it was sent.
    pub fn ended(self, messages: u64, octets: u64) {
        let mut record = self.entry.record.lock();
        if !self.protocol.submits() {
            record.session_ended(messages, octets, now());
        } else if !self.has_message {
            record.left_without_message();
        }
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
