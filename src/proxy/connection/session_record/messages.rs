//! The messages of a session are counted, and each result is written to the log.

use std::time::Duration;

use tracing::{enabled, info, warn};

use super::SessionRecord;
use crate::failure::{Failure, Kind, RepeatedError};
use crate::metrics::SubmissionResult;
use crate::proto::{MessageEnvelope, Submitted};
use crate::proxy::limits::log_quota::LineKind;
use crate::text::shell_word;

impl SessionRecord<'_> {
    /// Counts and logs a notice of the server in a running session. Only the first few of a session are logged.
    pub(in crate::proxy) fn noticed(&mut self, failure: &Failure) {
        self.message_failed(failure);
        self.note(None);
        if failure.kind == Kind::DeviceQuota {
            return self.over_quota();
        }
        self.notices += 1;
        // A line tells in any case what becomes of a message: log.lines_per_minute bounds it.
        if self.notices > SHOWN_NOTICES && failure.message_refused_by.is_none() {
            return;
        }
        let (login, reason) = (self.login.as_deref().unwrap_or("-"), failure.kind.label());
        if self.may_write(LineKind::Notice, reason) {
            let (connection, listener) = (self.id.number(), self.listener());
            warn!(connection, source = %self.source, listener, login, reason, "{failure}");
        }
    }

    /// Logs that there is no server for the device's message.
    pub(in crate::proxy) fn not_reached(&mut self, failure: &Failure) {
        let (login, reason) = (self.login.as_deref().unwrap_or("-"), failure.kind.label());
        if self.may_write(LineKind::Notice, reason) {
            let (connection, listener) = (self.id.number(), self.listener());
            warn!(
                connection, source = %self.source, listener, login, reason,
                "no server for the next message of this session: {failure}"
            );
        }
    }

    /// Logs that the device is held back for its errors.
    pub(in crate::proxy) fn held_back(&self, error: RepeatedError, hold: Duration) {
        let (connection, listener) = (self.id.number(), self.listener());
        let login = self.login.as_deref().unwrap_or("-");
        let (advice, hold) = (error.advice(), humantime::format_duration(hold));
        warn!(
            connection, source = %self.source, listener, login,
            "this device sends nothing for {hold} (submission.hold_back), because Exchange Online throttles the whole \
             mailbox for an error that comes again and again: {advice}; packetboat reload lets the device send at once if \
             its account or the device has changed"
        );
    }

    /// Logs that the device may send to no more recipients in this hour: once an hour.
    fn over_quota(&self) {
        let (Some(visit), Some(mailbox), Some(device)) = (&self.visit, &self.mailbox, &self.device) else { return };
        let most = mailbox.recipients_per_hour_of(device);
        if !visit.over_quota(most) {
            return;
        }
        let (connection, listener, name) = (self.id.number(), self.listener(), &device.name);
        let (reason, word, more) = (Kind::DeviceQuota.label(), shell_word(name), u64::from(most) * 2);
        let stop = match device.has_password() {
            true => format!("packetboat device password {word} locks out who has its password"),
            false => format!("packetboat device remove {word} ends that"),
        };
        warn!(
            connection, source = %self.source, listener, login = name.as_str(), reason,
            "this device has sent to {most} recipients within an hour, and sends no more until fewer are left \
             (submission.recipients_per_hour_of_device): if nobody knows why, {stop}; if it may send so much, write \
             recipients_per_hour = {more} into the section of device \"{name}\", and run packetboat reload"
        );
    }

    /// Logs the device's first recipient outside of the mailbox's own domain.
    fn sent_to_other_domain(&self, domain: Option<&str>) {
        let (Some(visit), Some(mailbox), Some(device)) = (&self.visit, &self.mailbox, &self.device) else { return };
        let Some(domain) = domain.filter(|_| visit.sent_to_other_domain()) else { return };
        self.telemetry.metrics.sent_to_other_domain(&device.account);
        let (connection, listener, name) = (self.id.number(), self.listener(), &device.name);
        let own = mailbox.account.mailbox.rsplit('@').next().unwrap_or_default();
        info!(
            connection, source = %self.source, listener, login = name.as_str(), domain,
            "this device has sent outside of {own} for the first time, to {domain}: if it shall not, write recipients = \
             [\"*@{own}\"] into the section of device \"{name}\", and run packetboat reload"
        );
    }

    /// Notes the recipients of a message that may be kept.
    pub(in crate::proxy) fn message_begins(&mut self, message: &MessageEnvelope) {
        let own = self.mailbox.as_ref().and_then(|mailbox| mailbox.account.mailbox.rsplit('@').next());
        let mut domains = message.recipients.iter().filter_map(|recipient| Some(recipient.rsplit_once('@')?.1));
        let outside = domains.find(|domain| own.is_some_and(|own| !domain.eq_ignore_ascii_case(own)));
        self.begun = (u32::try_from(message.recipients.len()).unwrap_or(u32::MAX), outside.map(Into::into));
    }

    /// Counts the recipients of a message that is kept, and sent later.
    pub(in crate::proxy) fn message_kept(&mut self) {
        let (recipients, outside) = std::mem::take(&mut self.begun);
        if let Some(visit) = &mut self.visit {
            visit.may_be_sent(recipients);
        }
        self.sent_to_other_domain(outside.as_deref());
    }

    /// Counts the recipients of a message whose server was lost before it answered: it may have been sent.
    pub(in crate::proxy) fn may_be_sent(&mut self, recipients: u32) {
        if let Some(visit) = &mut self.visit {
            visit.may_be_sent(recipients);
        }
        if let Some(mailbox) = &self.mailbox {
            self.telemetry.sent_mail.may_be_taken(mailbox, recipients);
        }
    }

    /// Counts and logs a message that the server has taken. Returns the wait before its mailbox sends the next one.
    pub(in crate::proxy) fn submitted(&mut self, submitted: &Submitted) -> Duration {
        let Submitted { recipients, octets, is_trial, outside, answer, .. } = submitted;
        self.telemetry.counters.message_accepted(*recipients, *octets);
        self.sent.messages += 1;
        self.sent.recipients += u64::from(*recipients);
        self.sent.octets += octets;
        if let Some(visit) = &mut self.visit {
            visit.sent(*recipients, *octets);
        }
        let sent_mail = &self.telemetry.sent_mail;
        let pause = match (&self.device, &self.mailbox) {
            (Some(device), Some(mailbox)) => sent_mail.taken(&device.account, mailbox, *recipients),
            // Nobody knows the mailbox of a login that is passed through.
            _ => Duration::ZERO,
        };
        self.note(None);
        self.sent_to_other_domain(outside.as_deref());
        if !enabled!(tracing::Level::INFO) || !self.may_write(LineKind::Session, SUBMITTED) {
            return pause;
        }
        let whither = if *is_trial { " to the mailbox alone (deliver = \"mailbox\")" } else { "" };
        let (connection, listener) = (self.id.number(), self.listener());
        let login = self.login.as_deref().unwrap_or("-");
        let mailbox = self.mailbox.as_ref().map_or("-", |mailbox| mailbox.account.mailbox.as_str());
        info!(
            connection, source = %self.source, listener, login, mailbox, recipients, octets,
            "message sent{whither}: the mail server said \"{answer}\""
        );
        pause
    }

    /// Counts a message that was refused, or one of its recipients, if the failure is one; and notes it at the device.
    pub(super) fn message_failed(&mut self, failure: &Failure) {
        self.telemetry.counters.message_failed(failure);
        let is_message = SubmissionResult::of(failure).is_some();
        if !is_message && !failure.kind.is_of_message() {
            return;
        }
        self.sent.refused += u64::from(is_message);
        if let Some(device) = &self.device {
            self.telemetry.sent_mail.refused(&device.account, failure);
        }
        self.sent.refusal = Some((failure.kind, failure.to_string().into()));
        if let Some(visit) = &mut self.visit {
            visit.refused(failure);
        }
    }

    /// Counts the time that the server has taken for its answer to a whole message.
    pub(in crate::proxy) fn message_answered(&self, took: Duration) {
        self.telemetry.counters.message_answered(took);
    }
}

const SHOWN_NOTICES: u32 = 3;
/// The name of a sent message among the reasons for log lines.
const SUBMITTED: &str = "submitted";
