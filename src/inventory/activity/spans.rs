//! Recipients of the last hours, counted by spans of time, so that a sum says how many there were lately.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The counts of the last spans with messages, the oldest first. A span has `SECONDS`; the sum is of the last `NUMBER`
/// spans and the present one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Spans<const SECONDS: u64, const NUMBER: u64>(VecDeque<Span>);

/// The recipients of one span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Span {
    /// The number of the span, counted from 1970.
    span: u64,
    recipients: u64,
}

impl<const SECONDS: u64, const NUMBER: u64> Spans<SECONDS, NUMBER> {
    /// Counts recipients. A clock that was set back drops the spans that have not come yet.
    pub(super) fn add(&mut self, recipients: u64, now: u64) {
        let present = now / SECONDS;
        self.0.retain(|one| one.is_among(present, NUMBER));
        match self.0.back_mut().filter(|last| last.span == present) {
            Some(last) => last.recipients = last.recipients.saturating_add(recipients),
            None => self.0.push_back(Span { span: present, recipients }),
        }
    }

    /// The recipients until now.
    pub(super) fn recipients(&self, now: u64) -> u64 {
        let lately = self.0.iter().filter(|one| one.is_among(now / SECONDS, NUMBER));
        lately.fold(0, |sum: u64, one| sum.saturating_add(one.recipients))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Span {
    /// The oldest span may be half over: it counts, so that the sum is never too small.
    fn is_among(self, present: u64, number: u64) -> bool {
        self.span <= present && present - self.span <= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_summed_by_five_minutes() {
        let mut hour: Spans<300, 12> = Spans::default();
        let start = 1_800_000_000;
        hour.add(200, start);
        hour.add(100, start + 1800);
        assert_eq!(hour.recipients(start + 1800), 300);
        assert_eq!(hour.recipients(start + 3599), 300);
        assert_eq!(hour.recipients(start + 3900), 100, "the oldest is over an hour old");
        assert_eq!(hour.recipients(start + 7200), 0);
        hour.add(1, start - 86_400);
        assert_eq!((hour.recipients(start - 86_400), hour.len()), (1, 1), "the clock was set back");
    }
}
