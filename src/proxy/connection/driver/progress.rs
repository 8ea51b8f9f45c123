//! A device's progress in submission: octets alone are none.
//!
//! A device that sends an octet a minute, or NOOP again and again, is never silent. So its time counts from what it
//! brings to an end: a command, or a message.

use std::time::Duration;

use tokio::time::Instant;

use crate::proto::{Awaited, Session};

/// The times of a device that submits messages.
pub struct Progress {
    /// The session's state at the last note.
    awaited: Option<Awaited>,
    present: Option<u32>,
    commands: u64,
    last_command: Instant,
    idle_since: Instant,
    /// The number of the message that the fields below are about.
    message: Option<u32>,
    /// The time that the device has taken over it until `since`. The server's time does not count.
    taken: Duration,
    /// The time since which the device is waited for, in the message.
    since: Option<Instant>,
    /// The octets that the device had sent before the message.
    received_before: u64,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            awaited: None,
            present: None,
            commands: 0,
            last_command: now,
            idle_since: now,
            message: None,
            taken: Duration::ZERO,
            since: None,
            received_before: 0,
        }
    }
}

impl Progress {
    /// The time of the last whole command, or since which one is awaited.
    pub fn last_command(&self) -> Instant {
        self.last_command
    }

    /// The time since which no message is under way.
    pub fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// The octets that the device has sent since its present message began, if it has sent so many in all.
    pub fn octets_of_message(&self, received: u64) -> u64 {
        received.saturating_sub(self.received_before)
    }

    /// The time at which the device will have taken so long over its message. None while the server is waited for.
    pub fn will_have_taken(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| since + limit.saturating_sub(self.taken))
    }

    /// Returns whether the device takes so long over its message that the time for all of it may be over soon.
    pub(super) fn is_slow(&self) -> bool {
        self.since.is_some() && self.taken >= LONG
    }

    /// Notes a step of the session behind its login: what it waits for now, and the octets of the device so far.
    pub(super) fn note(&mut self, session: &dyn Session, awaited: Option<Awaited>, received: u64) {
        let (commands, present) = (session.activity().commands, session.present_message());
        if (commands, present, awaited) == (self.commands, self.present, self.awaited) {
            return;
        }
        let now = Instant::now();
        if commands != self.commands || (is_command(awaited) && !is_command(self.awaited)) {
            self.last_command = now;
        }
        if present.is_none() && (self.present.is_some() || self.awaited.is_none()) {
            self.idle_since = now;
        }
        if let Some(since) = self.since.take() {
            self.taken += now.saturating_duration_since(since);
        }
        // A message that is broken off by RSET has the number of the next one: its time goes on.
        if present.is_some() && present != self.message {
            (self.message, self.taken, self.received_before) = (present, Duration::ZERO, received);
        }
        let is_device = is_command(awaited) || awaited == Some(Awaited::Content);
        self.since = (present.is_some() && is_device).then_some(now);
        (self.commands, self.present, self.awaited) = (commands, present, awaited);
    }
}

fn is_command(awaited: Option<Awaited>) -> bool {
    matches!(awaited, Some(Awaited::Command | Awaited::Mail))
}

/// A device that takes less over its message has no need of a closer look at each of its commands.
const LONG: Duration = Duration::from_secs(60);
