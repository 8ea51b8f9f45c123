//! The metrics of the spool. They are set when somebody asks for the metrics, from what the spool counts itself.

use prometheus::{IntCounter, IntGauge, Registry};

use super::Metrics;
use super::definitions::Registrar;

/// The numbers of the spool.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpoolNumbers {
    /// Messages that wait to be sent, or whose report does.
    pub waiting: u64,
    /// Messages that an administrator has to look at.
    pub needs_operator: u64,
    /// The octets of all messages.
    pub octets: u64,
    /// The seconds for which the oldest message that waits was kept.
    pub oldest: u64,
    /// Mailboxes whose messages wait because the login is refused.
    pub refused_logins: u64,
    /// Mailboxes and devices whose share of the spool is full.
    pub full_shares: u64,
    /// Messages that were kept.
    pub kept: u64,
    /// Messages that were not kept although a listener uses the spool.
    pub not_kept: u64,
    /// Kept messages that a mail server has taken.
    pub delivered: u64,
    /// Attempts that may have made a second copy.
    pub repeated: u64,
    /// Reports that a mail server has taken.
    pub reported: u64,
    /// Messages that were given up because of their age.
    pub expired: u64,
    /// Messages whose file was damaged.
    pub damaged: u64,
    /// Messages that an administrator has removed.
    pub removed: u64,
}

pub(super) struct SpoolMetrics {
    waiting: IntGauge,
    needs_operator: IntGauge,
    octets: IntGauge,
    oldest: IntGauge,
    refused_logins: IntGauge,
    full_shares: IntGauge,
    kept: IntCounter,
    not_kept: IntCounter,
    delivered: IntCounter,
    repeated: IntCounter,
    reported: IntCounter,
    expired: IntCounter,
    damaged: IntCounter,
    removed: IntCounter,
}

impl SpoolMetrics {
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        let to = Registrar(to);
        Ok(Self {
            waiting: to.gauge("packetboat_spool_messages", "Kept messages that wait for their mail server.")?,
            needs_operator: to.gauge(
                "packetboat_spool_given_up_messages",
                "Messages that packetboat could neither send nor report, or whose file is damaged.",
            )?,
            octets: to.gauge("packetboat_spool_bytes", "Bytes of all messages in the spool.")?,
            oldest: to
                .gauge("packetboat_spool_oldest_seconds", "Time for which the oldest waiting message was kept.")?,
            refused_logins: to.gauge(
                "packetboat_spool_refused_mailboxes",
                "Mailboxes whose kept messages wait because the login is refused.",
            )?,
            full_shares: to.gauge(
                "packetboat_spool_full_shares",
                "Mailboxes and devices whose share of the spool is full, so that their messages are not kept.",
            )?,
            kept: to.counter("packetboat_spool_kept_total", "Messages that were kept in the spool.")?,
            not_kept: to.counter(
                "packetboat_spool_not_kept_total",
                "Messages that were not kept, because the spool was full or the disk failed.",
            )?,
            delivered: to
                .counter("packetboat_spool_delivered_total", "Kept messages that the mail server has taken.")?,
            repeated: to.counter(
                "packetboat_spool_repeated_total",
                "Attempts behind one with an unknown outcome. Each may have made a second copy.",
            )?,
            reported: to.counter("packetboat_spool_reported_total", "Reports about messages that were given up.")?,
            expired: to.counter("packetboat_spool_expired_total", "Messages that were older than spool.max_age.")?,
            damaged: to.counter("packetboat_spool_damaged_total", "Messages whose file was damaged.")?,
            removed: to.counter("packetboat_spool_removed_total", "Messages that an administrator has removed.")?,
        })
    }

    fn set(&self, numbers: &SpoolNumbers) {
        for (gauge, value) in [
            (&self.waiting, numbers.waiting),
            (&self.needs_operator, numbers.needs_operator),
            (&self.octets, numbers.octets),
            (&self.oldest, numbers.oldest),
            (&self.refused_logins, numbers.refused_logins),
            (&self.full_shares, numbers.full_shares),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        for (counter, value) in [
            (&self.kept, numbers.kept),
            (&self.not_kept, numbers.not_kept),
            (&self.delivered, numbers.delivered),
            (&self.repeated, numbers.repeated),
            (&self.reported, numbers.reported),
            (&self.expired, numbers.expired),
            (&self.damaged, numbers.damaged),
            (&self.removed, numbers.removed),
        ] {
            counter.inc_by(value.saturating_sub(counter.get()));
        }
    }
}

impl Metrics {
    /// Sets the numbers of the spool.
    pub fn set_spool(&self, numbers: &SpoolNumbers) {
        self.spool.set(numbers);
    }
}
