//! Submission from a mailbox: its pace, the rules and terms of each device, and errors that hold a device back.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::Mailbox;
use crate::config::Config;
use crate::crypto;
use crate::device::Device;
use crate::failure::RepeatedError;
use crate::inventory::{DeviceRecipients, Inventory, MailboxRecipients};
use crate::proto::SubmissionTerms;
use crate::submission::{Bound, DeviceLists, HoldBack, RecipientCounts, RecipientQuota, Stamp};
use crate::withdrawal::Withdrawn;

impl Mailbox {
    /// Counts a message that the mailbox has sent. Returns the wait before it sends the next one.
    pub(in crate::proxy) fn message_sent(&self) -> Duration {
        self.sessions.message_sent()
    }

    /// The time for which the mail server throttles the mailbox from now on, in whole seconds, if it does.
    pub(in crate::proxy) fn quiet_for(&self) -> Option<Duration> {
        let until = self.sessions.quiet_until();
        let left = until.map(|until| until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        left.map(|left| Duration::from_secs(left.as_secs() + 1))
    }

    /// Counts an error of a device for which the mail server throttles the mailbox, if it comes again and again. Returns
    /// whether the device is held back from now on.
    pub(in crate::proxy) fn refused(&self, device: &Arc<Device>, error: RepeatedError, hold: Duration) -> bool {
        self.errors.count(device, error, hold)
    }

    /// Notes that the mail server has taken a message of the device.
    pub(in crate::proxy) fn accepted(&self, device: &Device) {
        self.errors.forget(device);
    }

    /// The terms of submission from the mailbox.
    pub(in crate::proxy) fn submission(&self) -> Arc<SubmissionTerms> {
        Arc::clone(&self.submission)
    }

    /// Returns whether devices send mail here rather than read it.
    pub(super) fn submits(&self) -> bool {
        self.server.protocol().submits()
    }

    /// Checks that the rules for the mail that a device sends allow all that those of its session do.
    ///
    /// # Errors
    /// [`Withdrawn::Submission`]: they are narrower, and the session would keep the old ones.
    pub(in crate::proxy) fn sends_as_before(
        &self,
        device: &Device,
        earlier: &Self,
        its_device: &Device,
    ) -> Result<(), Withdrawn> {
        let rules = |mailbox: &Self, device: &Device| mailbox.submission.rules.narrowed_by(&device.submission);
        let allowed = !self.submits() || rules(self, device).allow_all_of(&rules(earlier, its_device));
        if allowed { Ok(()) } else { Err(Withdrawn::Submission) }
    }

    /// The terms of a device's mail: the account's, as far as the device's own lists allow, and whether it is held back.
    pub(super) fn terms_of(&self, device: &Arc<Device>) -> Arc<SubmissionTerms> {
        if self.submits() {
            let (errors, held) = (Arc::clone(&self.errors), Arc::clone(device));
            let hold_back = HoldBack::new(move || errors.is_held_back(&held));
            let SubmissionTerms { rules, .. } = &*self.submission;
            let lists = &device.submission;
            let rules = if *lists == DeviceLists::default() { rules.clone() } else { rules.narrowed_by(lists) };
            let quota = self.quota_of(device);
            Arc::new(SubmissionTerms { rules, hold_back, quota, ..SubmissionTerms::clone(&self.submission) })
        } else {
            Arc::clone(&self.submission)
        }
    }

    /// The most recipients of a device in an hour.
    pub(in crate::proxy) fn recipients_per_hour_of(&self, device: &Device) -> u32 {
        device.submission.recipients_per_hour.unwrap_or(self.recipients_per_hour)
    }

    /// The quota of a device in an hour, and that of the mailbox.
    fn quota_of(&self, device: &Device) -> RecipientQuota {
        let of_mailbox = self.submission.quota.clone();
        let recipients = self.inventory.as_ref().and_then(|one| one.activities().device_recipients(&device.name));
        let Some(recipients) = recipients else { return of_mailbox };
        let most = u64::from(self.recipients_per_hour_of(device));
        RecipientQuota::new(DeviceQuota { recipients, most, of_mailbox })
    }

    /// The advice for a login that Exchange Online refuses for submission.
    pub(super) fn submission_advice(&self) -> &'static str {
        if self.identity.grant.is_of_a_person() {
            "needs SMTP AUTH switched on for who signed in (Set-CASMailbox -SmtpClientAuthenticationDisabled $false), the \
             permission SMTP.Send, and no security defaults; for another mailbox, SendAs on it; see packetboat setup"
        } else {
            "needs SMTP AUTH switched on (Set-CASMailbox -SmtpClientAuthenticationDisabled $false), no security defaults, \
             and the role Application SMTP.SendAsApp for the application, or the permission SMTP.SendAsApp with FullAccess \
             for its service principal; see packetboat setup"
        }
    }
}

/// The quota of a mailbox, where the file asks for refusals over it.
pub(super) fn quota(config: &Config, mailbox: &str, inventory: Option<&Arc<Inventory>>) -> RecipientQuota {
    let limits = &config.limits.submission;
    let Some(inventory) = inventory.filter(|_| limits.refuse_over_recipients_per_day) else {
        return RecipientQuota::default();
    };
    let recipients = inventory.activities().mailbox_recipients(mailbox);
    RecipientQuota::new(MailboxQuota { recipients, most: limits.recipients_per_day.into() })
}

/// The quota of a mailbox in a day.
struct MailboxQuota {
    recipients: MailboxRecipients,
    most: u64,
}

/// The quota of a device in an hour, within that of its mailbox.
struct DeviceQuota {
    recipients: DeviceRecipients,
    most: u64,
    of_mailbox: RecipientQuota,
}

impl RecipientCounts for MailboxQuota {
    fn reached(&self) -> Option<Bound> {
        (self.recipients.number() >= self.most).then_some(Bound::Mailbox)
    }

    fn reserve(&self) -> Result<(), Bound> {
        if self.recipients.begin(self.most) { Ok(()) } else { Err(Bound::Mailbox) }
    }

    fn reserve_over(&self, recipients: u32) {
        self.recipients.begin_over(recipients);
    }

    fn release(&self, recipients: u32) {
        self.recipients.end(recipients);
    }
}

impl RecipientCounts for DeviceQuota {
    fn reached(&self) -> Option<Bound> {
        let is_reached = self.recipients.number() >= self.most;
        if is_reached { Some(Bound::Device) } else { self.of_mailbox.reached() }
    }

    fn reserve(&self) -> Result<(), Bound> {
        if !self.recipients.begin(self.most) {
            return Err(Bound::Device);
        }
        let reserved = self.of_mailbox.reserve();
        if reserved.is_err() {
            self.recipients.end(1);
        }
        reserved
    }

    fn reserve_over(&self, recipients: u32) {
        self.recipients.begin_over(recipients);
        self.of_mailbox.reserve_over(recipients);
    }

    fn release(&self, recipients: u32) {
        self.recipients.end(recipients);
        self.of_mailbox.release(recipients);
    }
}

/// The present time, and a random number.
pub(super) fn stamp() -> Stamp {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Without randomness nothing works, TLS least of all; the time alone still makes a Message-ID.
    Stamp { seconds, id: crypto::random().unwrap_or_default() }
}
