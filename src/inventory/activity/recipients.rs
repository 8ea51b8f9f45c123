//! The recipients of a device and of a mailbox, with those of messages under way: a mail server may have a message before
//! it is counted, and many may be under way at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mailboxes::Mailboxes;
use super::{Activities, Entry, now};

/// The recipients of a device in the last hour, by all instances of a fleet. The oldest five minutes count as a whole.
pub struct DeviceRecipients(Arc<Entry>);

/// The recipients of a mailbox in the last 24 hours, by all instances of a fleet.
pub struct MailboxRecipients {
    mailboxes: Arc<Mailboxes>,
    /// The address in lower case.
    mailbox: String,
}

impl Activities {
    /// The recipients of a configured device.
    pub fn device_recipients(&self, login: &str) -> Option<DeviceRecipients> {
        self.find(login).map(DeviceRecipients)
    }

    /// The recipients of a mailbox.
    pub fn mailbox_recipients(&self, mailbox: &str) -> MailboxRecipients {
        MailboxRecipients { mailboxes: Arc::clone(&self.mailboxes), mailbox: mailbox.to_lowercase() }
    }
}

impl DeviceRecipients {
    /// The number that was sent to, with those of messages under way.
    pub fn number(&self) -> u64 {
        let sent = self.0.record.lock().sending_mut().recipients_of_hour(now());
        self.with_others(sent)
    }

    /// Counts one more as under way, if there are fewer than `most`. Returns whether it is counted.
    pub fn begin(&self, most: u64) -> bool {
        let mut record = self.0.record.lock();
        let sent = record.sending_mut().recipients_of_hour(now());
        let has_room = self.with_others(sent) < most;
        if has_room {
            self.begin_over(1);
        }
        drop(record);
        has_room
    }

    /// The number with those of messages under way, and those by way of other instances.
    fn with_others(&self, sent: u64) -> u64 {
        let elsewhere = self.0.elsewhere.lock().number(now());
        sent.saturating_add(self.0.under_way.load(Ordering::Relaxed)).saturating_add(elsewhere)
    }

    /// Counts so many as under way.
    pub fn begin_over(&self, recipients: u32) {
        self.0.under_way.fetch_add(recipients.into(), Ordering::Relaxed);
    }

    /// So many are not under way any more: they were counted as sent, or are not sent.
    pub fn end(&self, recipients: u32) {
        self.0.under_way.fetch_sub(recipients.into(), Ordering::Relaxed);
    }
}

impl MailboxRecipients {
    /// The number that was sent to, with those of messages under way.
    pub fn number(&self) -> u64 {
        self.mailboxes.with_under_way(&self.mailbox, now())
    }

    /// Counts one more as under way, if there are fewer than `most`. Returns whether it is counted.
    pub fn begin(&self, most: u64) -> bool {
        self.mailboxes.begin(&self.mailbox, most, now())
    }

    /// Counts so many as under way.
    pub fn begin_over(&self, recipients: u32) {
        self.mailboxes.begin_over(&self.mailbox, recipients.into());
    }

    /// So many are not under way any more: they were counted as sent, or are not sent.
    pub fn end(&self, recipients: u32) {
        self.mailboxes.end(&self.mailbox, recipients.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_under_way_count_for_a_mailbox() {
        let activities = Activities::default();
        activities.mailbox_sent("Scans@contoso.example", 2);
        let (one, other) = (
            activities.mailbox_recipients("scans@CONTOSO.example"),
            activities.mailbox_recipients("fax@contoso.example"),
        );
        assert!(one.begin(4) && one.begin(4) && !one.begin(4));
        assert_eq!((one.number(), other.number()), (4, 0));
        assert_eq!(activities.recipients_of("scans@contoso.example"), 2, "those that were sent");
        one.end(1);
        assert!(one.begin(4) && !one.begin(4));
        one.end(2);
        one.begin_over(5);
        assert_eq!(one.number(), 7);
        one.end(5);
        assert_eq!(one.number(), 2);
    }
}
