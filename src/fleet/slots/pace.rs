//! The pace of a mailbox over all instances. An instance takes parts of it in advance, some messages each, so that a
//! message asks nobody.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The messages that this instance may send, and those that it has sent without a part of the pace.
#[derive(Default)]
pub(super) struct FleetPace {
    per_minute: u32,
    parts: VecDeque<Part>,
    /// Messages that were sent without a part.
    unpaid: u32,
    /// Messages of parts that are over, and were not sent.
    unused: u32,
    /// The time until which the share has sent enough, while there is no part.
    alone_until: Option<Instant>,
}

/// Messages that are taken from the mailbox's pace.
struct Part {
    left: u32,
    /// The time until which the mailbox has sent enough before the next message.
    until: Instant,
    /// The end of the part: what was not sent by then is given back.
    over: Instant,
}

impl FleetPace {
    pub(super) fn limit(&mut self, per_minute: u32) {
        self.per_minute = per_minute.max(1);
    }

    pub(super) fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Returns whether messages were sent that the database does not know of.
    pub(super) fn has_unpaid(&self) -> bool {
        self.unpaid > 0
    }

    /// Returns whether the database does not know of messages that were sent, or that were not.
    pub(super) fn has_change(&mut self) -> bool {
        self.forget_old(Instant::now());
        self.unpaid > 0 || self.unused > 0
    }

    /// Counts a message. Returns the wait before the next one. `share` is the number a minute without a part.
    pub(super) fn count(&mut self, share: u32) -> Duration {
        let (now, interval) = (Instant::now(), self.interval());
        self.forget_old(now);
        let enough = match self.parts.front_mut() {
            Some(part) => {
                part.left = part.left.saturating_sub(1);
                part.until = part.until.max(now) + interval;
                // A device that waits for its turn has not left.
                part.over = part.until.max(now + MINUTE) - MINUTE + PART_LIFE;
                part.until
            }
            None => {
                self.unpaid = self.unpaid.saturating_add(1);
                let until = self.alone_until.map_or(now, |until| until.max(now)) + MINUTE / share.max(1);
                self.alone_until = Some(until);
                until
            }
        };
        enough.saturating_duration_since(now).saturating_sub(MINUTE)
    }

    /// The number of messages to take now, with those that are unpaid; 0 where there are enough.
    pub(super) fn needed(&mut self) -> u32 {
        self.forget_old(Instant::now());
        let left: u32 = self.parts.iter().map(|part| part.left).sum();
        let is_enough = left > FEW.min(self.part() - 1) && self.unpaid == 0;
        if is_enough { 0 } else { self.part() + self.unpaid }
    }

    /// The time of so many messages.
    pub(super) fn time(&self, messages: u32) -> Duration {
        self.interval() * messages
    }

    /// Adds a part of so many messages. Earlier messages of the mailbox are `ahead` of the clock by this time.
    pub(super) fn add(&mut self, messages: u32, ahead: Duration) {
        let (now, paid) = (Instant::now(), self.unpaid.min(messages));
        self.unpaid -= paid;
        let until = now + ahead + self.time(paid);
        self.parts.push_back(Part { left: messages - paid, until, over: now + PART_LIFE });
    }

    fn forget_old(&mut self, now: Instant) {
        let unused: u32 = self.parts.iter().filter(|part| part.over <= now).map(|part| part.left).sum();
        self.unused += unused;
        self.parts.retain(|part| part.left > 0 && part.over > now);
    }

    /// Takes out the number of messages that were taken and not sent.
    pub(super) fn take_unused(&mut self) -> u32 {
        self.forget_old(Instant::now());
        std::mem::take(&mut self.unused)
    }

    fn interval(&self) -> Duration {
        MINUTE / self.per_minute.max(1)
    }

    /// The messages of a part: a sixth of a minute's.
    fn part(&self) -> u32 {
        (self.per_minute / 6).max(1)
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// The number of messages left at which the next part is taken.
const FEW: u32 = 2;
/// The time for which a part is kept after the last message, and the wait after that.
const PART_LIFE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> FleetPace {
        let mut pace = FleetPace::default();
        pace.limit(30);
        pace
    }

    /// An instance that is alone in the database sends as fast as one without a fleet.
    #[tokio::test(start_paused = true)]
    async fn parts_one_after_the_other_are_the_pace_of_one_instance() {
        let mut pace = pace();
        let mut enough_until = Instant::now();
        for number in 0..30 {
            let needed = pace.needed();
            if needed > 0 {
                let ahead = enough_until.saturating_duration_since(Instant::now());
                enough_until = enough_until.max(Instant::now()) + pace.time(needed);
                pace.add(needed, ahead);
            }
            assert_eq!(pace.count(10), Duration::ZERO, "{number}");
        }
        assert_eq!(pace.count(10), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_of_others_delay_those_of_this_instance() {
        let mut pace = pace();
        pace.add(5, Duration::from_secs(64));
        assert_eq!(pace.count(10), Duration::from_secs(6));
    }

    /// Without a database the share holds: ten at once of thirty, with three instances. They are paid for later.
    #[tokio::test(start_paused = true)]
    async fn without_a_part_the_share_holds() {
        let mut pace = pace();
        for number in 0..10 {
            assert_eq!(pace.count(10), Duration::ZERO, "{number}");
        }
        assert_eq!(pace.count(10), Duration::from_secs(6));
        assert_eq!(pace.needed(), 5 + 11);
        pace.add(16, Duration::ZERO);
        assert_eq!(pace.needed(), 0);
        assert_eq!(pace.count(10), Duration::ZERO);
        tokio::time::sleep(PART_LIFE).await;
        assert_eq!((pace.needed(), pace.take_unused()), (5, 4), "what was not sent in time is given back");
    }
}
