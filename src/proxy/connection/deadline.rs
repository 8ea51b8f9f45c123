//! The deadline of each phase of a connection, and the failure when it passes.

use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use super::network::Network;
use crate::failure::{Failure, Kind, Refuser};
use crate::proto::{Awaited, Phase, Responses};
use crate::proxy::service::{setting, setting_in};

/// The time at which a phase has to be over. It is computed at each event, so its failure is put into words only where
/// it has passed.
pub(super) struct Deadline<'a> {
    pub(super) at: Instant,
    /// The reason for which it matters.
    reason: Reason<'a>,
    /// The consequence.
    pub(super) then: Then,
}

/// The reasons for a deadline, each with its failure.
enum Reason<'a> {
    /// A permission was withdrawn.
    Revoked(&'a Failure),
    /// A setting of this section bounds the phase.
    Limit(Kind, &'static str, &'static str, Duration),
    /// A literal is shorter than it was announced.
    ShortLiteral,
    /// The device has closed its half during the login.
    Left(Failure),
    /// A message has taken too long so far. Its server takes it slowly, or the device sends it slowly.
    TooSlow { octets: u64, rate: u64, limit: Duration, is_sending: bool },
}

/// The consequences of a deadline that passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The connection ends.
    Fail,
    /// The session goes on without its server.
    LeaveServer,
    /// The message is kept, and the session goes on without its server.
    Keep,
}

impl<'a> Deadline<'a> {
    fn new(at: Instant, reason: Reason<'a>) -> Self {
        Self { at, reason, then: Then::Fail }
    }

    /// Returns the failure when it has passed.
    pub(super) fn failure(self) -> Failure {
        match self.reason {
            Reason::Revoked(failure) => failure.clone(),
            Reason::Limit(kind, section, key, limit) => Failure::new(kind, setting_in(section, key, limit)),
            // What waits for its end would do so for ever.
            Reason::ShortLiteral => {
                let why = "it has announced more than it sends, and an answer waits for the rest";
                Failure::new(Kind::UpstreamProtocol, why)
            }
            Reason::Left(failure) => failure,
            Reason::TooSlow { octets, rate, limit, is_sending } => {
                let limit = setting_in("submission", "message_timeout", limit);
                let bounds = format!("{limit}, submission.message_rate = {rate}");
                if is_sending {
                    let detail = format!("it takes a message too slowly: {octets} octets so far ({bounds})");
                    return Failure::new(Kind::UpstreamTimeout, detail);
                }
                let detail = format!("it has sent {octets} octets ({bounds})");
                let message_refused_by = Some(Refuser::Rules);
                Failure { message_refused_by, ..Failure::new(Kind::MessageTooSlow, detail) }
            }
        }
    }
}

impl<N: Network> Connection<'_, '_, N> {
    /// Returns the deadline of the present phase. After the login its failure is never [`Kind::DeviceLost`]: that comes
    /// from a stream alone, and may be survived.
    pub(super) fn deadline(&self) -> Deadline<'_> {
        let limits = &self.service.limits;
        if let Some((since, failure)) = &self.revoked {
            return Deadline::new(*since + limits.close_timeout, Reason::Revoked(failure));
        }
        let session = self.driver.session();
        let last_move = self.driver.last_move();
        if let Some(awaited) = session.awaited().filter(|awaited| !self.device_is_gone || *awaited == Awaited::Answer) {
            return self.submission_deadline(awaited);
        }
        let (since, kind, key, limit) = if self.device_is_gone && session.activity().has_logged_out {
            (last_move, Kind::UpstreamTimeout, "close_timeout", limits.close_timeout)
        } else if self.device_is_gone {
            // The device has closed its half, and may still read the answer to its command.
            (last_move, Kind::UpstreamTimeout, "upstream_login_timeout", limits.upstream_login_timeout)
        } else if let Some(since) =
            self.driver.waits_since().filter(|_| session.phase() == Phase::Relaying(Responses::Awaited))
        {
            return Deadline::new(since + limits.upstream_login_timeout, Reason::ShortLiteral);
        } else if session.phase().is_relaying() {
            (last_move, Kind::IdleTimeout, "idle_timeout", limits.idle_timeout)
        } else if session.phase() == Phase::LoggingIn {
            return self.login_answer_deadline();
        } else {
            let reason = Reason::Limit(Kind::LoginTimeout, "limits", "login_timeout", limits.login_timeout);
            return Deadline::new(self.login_ends(), reason);
        };
        Deadline::new(since + limit, Reason::Limit(kind, "limits", key, limit))
    }

    /// Returns the deadline of the server's answer to a login, which is sooner for a device that has closed its half.
    fn login_answer_deadline(&self) -> Deadline<'_> {
        let limits = &self.service.limits;
        let limit = limits.upstream_login_timeout;
        let at = self.connected + limit;
        if let Some(sooner) = self.half_closed.map(|since| since + limits.close_timeout).filter(|sooner| *sooner < at) {
            return Deadline::new(sooner, Reason::Left(self.left_during_login()));
        }
        Deadline::new(at, Reason::Limit(Kind::UpstreamTimeout, "limits", "upstream_login_timeout", limit))
    }

    /// Returns the time until which the device may log in. Failed logins give back the time that they took, up to as
    /// long again: otherwise a device with a wrong password could stay for ever.
    pub(super) fn login_ends(&self) -> Instant {
        let limit = self.service.limits.login_timeout;
        self.greeted + limit + self.failed_logins_took.min(limit)
    }

    pub(super) fn login_timeout(&self) -> Failure {
        Failure::new(Kind::LoginTimeout, setting("login_timeout", self.service.limits.login_timeout))
    }

    /// Returns the failure of a device that has closed its half and whose login takes too long, or that has left.
    pub(super) fn left_during_login(&self) -> Failure {
        let bound = setting("close_timeout", self.service.limits.close_timeout);
        Failure::new(Kind::DeviceLost, format!("it closed its half, and its login did not end within {bound}"))
    }

    /// Returns the deadline of what submission waits for (RFC 5321 §4.5.3.2). A command has its time from the one before,
    /// content from the last octet, and a reply from its command; other octets of the device do not prolong it.
    fn submission_deadline(&self, awaited: Awaited) -> Deadline<'_> {
        let deadline = self.step_deadline(awaited);
        match self.message_deadline() {
            Some(of_message) if of_message.at < deadline.at => of_message,
            _ => deadline,
        }
    }

    /// Returns the deadline of the whole message that the device is sending, if it is waited for. RFC 5321 has none, and
    /// an octet now and then would hold one of the mailbox's connections for ever.
    fn message_deadline(&self) -> Option<Deadline<'_>> {
        let limits = &self.service.limits.submission;
        let (progress, received) = self.driver.progress();
        let octets = progress.octets_of_message(received);
        let rate = u64::from(limits.message_rate.max(1));
        let at = progress.will_have_taken(limits.message_timeout + Duration::from_secs(octets / rate))?;
        let is_sending = self.driver.is_sending();
        Some(Deadline::new(at, Reason::TooSlow { octets, rate, limit: limits.message_timeout, is_sending }))
    }

    fn step_deadline(&self, awaited: Awaited) -> Deadline<'_> {
        let limits = &self.service.limits.submission;
        let (last_move, asked) = (self.driver.last_move(), self.driver.last_sent());
        let (progress, _) = self.driver.progress();
        let (since, kind, key, limit) = match awaited {
            Awaited::Command | Awaited::Mail => {
                (progress.last_command(), Kind::IdleTimeout, "command_timeout", limits.command_timeout)
            }
            Awaited::Content => (last_move, Kind::IdleTimeout, "content_timeout", limits.content_timeout),
            Awaited::Reply => (asked, Kind::UpstreamTimeout, "reply_timeout", limits.reply_timeout),
            Awaited::Answer => (asked, Kind::UpstreamTimeout, "answer_timeout", limits.answer_timeout),
        };
        let deadline = Deadline::new(since + limit, Reason::Limit(kind, "submission", key, limit));
        let leave = progress.idle_since() + limits.idle_server_timeout;
        if awaited == Awaited::Mail && leave < deadline.at {
            return Deadline { at: leave, then: Then::LeaveServer, ..deadline };
        }
        if awaited == Awaited::Answer
            && let Some(patience) = self.patience()
            && since + patience < deadline.at
        {
            return Deadline { at: since + patience, then: Then::Keep, ..deadline };
        }
        deadline
    }
}
