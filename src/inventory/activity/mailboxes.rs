//! The recipients that each mailbox has sent to in the last 24 hours: a mail server has a bound on them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::elsewhere::Elsewhere;
use super::spans::Spans;
use super::{Activities, now};

/// The counts by mailbox, in lower case. Mailboxes of accounts alone are counted, so that their number is bounded.
#[derive(Default)]
pub(super) struct Mailboxes(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    days: BTreeMap<String, Day>,
    /// The recipients of messages under way.
    under_way: BTreeMap<String, u64>,
    elsewhere: BTreeMap<String, Elsewhere>,
}

/// The counts of one mailbox, as they are saved.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct SavedMailbox {
    mailbox: String,
    day: Day,
}

/// The recipients of 24 hours, counted by ten minutes.
type Day = Spans<600, 144>;

impl Activities {
    /// Counts the recipients of a message that the mail server has accepted from a mailbox, or may have.
    pub fn mailbox_sent(&self, mailbox: &str, recipients: u32) {
        self.mailboxes.add(mailbox, recipients.into(), now());
        self.changed.store(true, Ordering::Relaxed);
    }

    /// The number of recipients that a mailbox has sent to in the last 24 hours, by all instances of a fleet.
    pub fn recipients_of(&self, mailbox: &str) -> u64 {
        self.mailboxes.recipients(mailbox, now())
    }
}

impl Mailboxes {
    fn add(&self, mailbox: &str, recipients: u64, now: u64) {
        let days = &mut self.0.lock().days;
        days.retain(|_, day| day.recipients(now) > 0);
        days.entry(mailbox.to_lowercase()).or_default().add(recipients, now);
    }

    fn recipients(&self, mailbox: &str, now: u64) -> u64 {
        self.0.lock().sent(&mailbox.to_lowercase(), now)
    }

    /// The recipients of a mailbox, in lower case, with those of its messages under way.
    pub(super) fn with_under_way(&self, mailbox: &str, now: u64) -> u64 {
        self.0.lock().with_under_way(mailbox, now)
    }

    /// Counts one more recipient of a mailbox, in lower case, as under way, if there are fewer than `most` then. Returns
    /// whether it is counted.
    pub(super) fn begin(&self, mailbox: &str, most: u64, now: u64) -> bool {
        let mut counts = self.0.lock();
        let has_room = counts.with_under_way(mailbox, now) < most;
        if has_room {
            counts.begin(mailbox, 1);
        }
        has_room
    }

    /// Counts recipients of a mailbox, in lower case, as under way.
    pub(super) fn begin_over(&self, mailbox: &str, recipients: u64) {
        self.0.lock().begin(mailbox, recipients);
    }

    /// Recipients of a mailbox, in lower case, are not under way any more.
    pub(super) fn end(&self, mailbox: &str, recipients: u64) {
        let under_way = &mut self.0.lock().under_way;
        if let Some(count) = under_way.get_mut(mailbox) {
            *count = count.saturating_sub(recipients);
            if *count == 0 {
                under_way.remove(mailbox);
            }
        }
    }

    /// Takes the counts of other instances, by mailbox in lower case.
    pub(super) fn set_elsewhere(&self, elsewhere: BTreeMap<String, Elsewhere>) {
        self.0.lock().elsewhere = elsewhere;
    }

    /// The counts to save.
    pub(super) fn saved(&self, now: u64) -> Vec<SavedMailbox> {
        let days = &self.0.lock().days;
        let lately = days.iter().filter(|(_, day)| day.recipients(now) > 0);
        lately.map(|(mailbox, day)| SavedMailbox { mailbox: mailbox.clone(), day: day.clone() }).collect()
    }

    /// Takes the counts of an earlier run.
    pub(super) fn load(&self, saved: Vec<SavedMailbox>) {
        self.0.lock().days = saved.into_iter().map(|one| (one.mailbox, one.day)).collect();
    }
}

impl Counts {
    fn sent(&self, mailbox: &str, now: u64) -> u64 {
        let own = self.days.get(mailbox).map_or(0, |day| day.recipients(now));
        own.saturating_add(self.elsewhere.get(mailbox).map_or(0, |elsewhere| elsewhere.number(now)))
    }

    fn with_under_way(&self, mailbox: &str, now: u64) -> u64 {
        let under_way = self.under_way.get(mailbox).copied().unwrap_or_default();
        self.sent(mailbox, now).saturating_add(under_way)
    }

    fn begin(&mut self, mailbox: &str, recipients: u64) {
        let count = self.under_way.entry(mailbox.to_owned()).or_default();
        *count = count.saturating_add(recipients);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000;
    const HOUR: u64 = 3600;
    const SPAN: u64 = 600;

    #[test]
    fn recipients_count_for_24_hours() {
        let mailboxes = Mailboxes::default();
        for hour in 0..30 {
            mailboxes.add("Scans@contoso.example", 10, START + hour * HOUR);
            mailboxes.add("fax@contoso.example", 1, START + hour * HOUR);
        }
        let last = START + 29 * HOUR;
        assert_eq!(mailboxes.recipients("scans@CONTOSO.example", last), 250, "25 spans touch the last 24 hours");
        assert_eq!(mailboxes.recipients("scans@contoso.example", last + SPAN), 240);
        assert_eq!(mailboxes.recipients("scans@contoso.example", last + 25 * HOUR), 0);
        assert_eq!(mailboxes.recipients("nobody@contoso.example", last), 0);
        assert!(mailboxes.0.lock().days.values().all(|day| day.len() <= 25));
    }

    #[test]
    fn a_mailbox_that_no_longer_sends_is_forgotten() {
        let mailboxes = Mailboxes::default();
        mailboxes.add("old@contoso.example", 10, START);
        mailboxes.add("new@contoso.example", 10, START + 30 * HOUR);
        assert_eq!(mailboxes.saved(START + 30 * HOUR).len(), 1);
        assert_eq!(mailboxes.0.lock().days.len(), 1);
    }

    #[test]
    fn counts_survive_a_restart_and_a_wrong_clock() {
        let one = Mailboxes::default();
        one.add("scans@contoso.example", 7, START + 48 * HOUR);
        one.add("scans@contoso.example", 5, START);
        let json = serde_json::to_vec(&one.saved(START)).unwrap();
        let other = Mailboxes::default();
        other.load(serde_json::from_slice(&json).unwrap());
        assert_eq!(other.recipients("scans@contoso.example", START + HOUR), 5);
    }
}
