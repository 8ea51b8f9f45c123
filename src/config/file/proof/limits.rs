//! Proves the section `[limits]`, and gives the default of each limit that it leaves out.

use std::time::Duration;

use toml::Spanned;

use super::Proof;
use crate::config::file::{LimitsSection, SubmissionSection};
use crate::config::{Limits, Revocation, SubmissionLimits};

impl Proof<'_> {
    /// The limits, each with its range and its default.
    pub(super) fn limits(&mut self, raw: LimitsSection, submission: SubmissionSection) -> Limits {
        const REVOCATIONS: &[(&str, Revocation)] = &[("end", Revocation::End), ("keep", Revocation::Keep)];
        let idle = raw.idle_timeout.as_ref().map(Spanned::span);
        let limits = Limits {
            connections: self.number("limits.connections", raw.connections, 1..=1_000_000, 2000),
            connections_per_source: self.number(
                "limits.connections_per_source",
                raw.connections_per_source,
                1..=1_000_000,
                50,
            ),
            handshakes_per_minute: self.rate("limits.handshakes_per_minute", raw.handshakes_per_minute, 6000),
            handshakes_per_minute_of_source: self.rate(
                "limits.handshakes_per_minute_of_source",
                raw.handshakes_per_minute_of_source,
                600,
            ),
            handshake_timeout: self.duration("limits.handshake_timeout", raw.handshake_timeout, 30),
            login_timeout: self.duration("limits.login_timeout", raw.login_timeout, 180),
            connect_timeout: self.duration("limits.connect_timeout", raw.connect_timeout, 10),
            upstream_handshake_timeout: self.duration(
                "limits.upstream_handshake_timeout",
                raw.upstream_handshake_timeout,
                20,
            ),
            upstream_login_timeout: self.duration("limits.upstream_login_timeout", raw.upstream_login_timeout, 90),
            idle_timeout: self.duration("limits.idle_timeout", raw.idle_timeout, 35 * 60),
            close_timeout: self.duration("limits.close_timeout", raw.close_timeout, 10),
            drain_timeout: self.duration("limits.drain_timeout", raw.drain_timeout, 30),
            keep_alive: self.duration("limits.keep_alive", raw.keep_alive, 120),
            line: self.number("limits.line", raw.line, 512..=16_384, 8192),
            sasl_line: self.number("limits.sasl_line", raw.sasl_line, 512..=32_768, 16_384),
            literal: self.number("limits.literal", raw.literal, 64..=16_384, 4096),
            bad_commands: self.number("limits.bad_commands", raw.bad_commands, 1..=1000, 20),
            sessions_per_mailbox: self.number("limits.sessions_per_mailbox", raw.sessions_per_mailbox, 1..=16, 8),
            mailbox_queue: self.duration("limits.mailbox_queue", raw.mailbox_queue, 10),
            parked: self.number("limits.parked", raw.parked, 1..=100_000, 1000),
            password_memory: self.duration("limits.password_memory", raw.password_memory, 60 * 60),
            failure_delay: self.duration_millis("limits.failure_delay", raw.failure_delay, 500),
            longest_failure_delay: self.duration("limits.longest_failure_delay", raw.longest_failure_delay, 15),
            revoked_sessions: self
                .choice("limits.revoked_sessions", raw.revoked_sessions, REVOCATIONS)
                .unwrap_or(Revocation::End),
            submission: self.submission(submission),
        };
        if limits.idle_timeout < Duration::from_secs(30 * 60) {
            self.warn(idle, "limits.idle_timeout", "below 30m devices in IMAP IDLE are cut off (RFC 3501 section 5.4)");
        }
        limits
    }

    /// The limits of submission. The times are those of RFC 5321 §4.5.3.2, the numbers are Exchange Online's.
    fn submission(&mut self, raw: SubmissionSection) -> SubmissionLimits {
        SubmissionLimits {
            command_timeout: self.duration("submission.command_timeout", raw.command_timeout, 5 * 60),
            content_timeout: self.duration("submission.content_timeout", raw.content_timeout, 10 * 60),
            message_timeout: self.duration("submission.message_timeout", raw.message_timeout, 30 * 60),
            message_rate: self.number("submission.message_rate", raw.message_rate, 1..=1_000_000, 500),
            reply_timeout: self.duration("submission.reply_timeout", raw.reply_timeout, 5 * 60),
            answer_timeout: self.duration("submission.answer_timeout", raw.answer_timeout, 10 * 60),
            idle_server_timeout: self.duration("submission.idle_server_timeout", raw.idle_server_timeout, 20),
            hold_back: self.duration("submission.hold_back", raw.hold_back, 15 * 60),
            connections_per_mailbox: self.number(
                "submission.connections_per_mailbox",
                raw.connections_per_mailbox,
                1..=1000,
                3,
            ),
            messages_per_minute: self.number("submission.messages_per_minute", raw.messages_per_minute, 1..=10_000, 30),
            recipients_per_hour_of_device: self.number(
                "submission.recipients_per_hour_of_device",
                raw.recipients_per_hour_of_device,
                1..=MOST_RECIPIENTS_PER_HOUR,
                300,
            ),
            recipients_per_day: self.number(
                "submission.recipients_per_day",
                raw.recipients_per_day,
                1..=10_000_000,
                10_000,
            ),
            refuse_over_recipients_per_day: raw
                .refuse_over_recipients_per_day
                .map(toml::Spanned::into_inner)
                .unwrap_or_default(),
        }
    }
}

/// The largest number of recipients in an hour that the file may give a device.
pub(super) const MOST_RECIPIENTS_PER_HOUR: i64 = 1_000_000;
