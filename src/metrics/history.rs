//! The history of the last day, minute by minute, for the page's charts.

use std::collections::VecDeque;

use super::Totals;

/// A point for each minute, oldest first, and one for the present minute.
#[derive(Default)]
pub struct History {
    points: VecDeque<Point>,
    /// The present minute, counted from 1970.
    minute: u64,
    /// The counters at the beginning of the present minute.
    begun: Totals,
    current: Point,
}

/// The counts of one minute. `open` and the tokens are values at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Connections that were admitted.
    pub sessions: u64,
    /// Handshakes that failed.
    pub handshake_failures: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Connections that were open.
    pub open: u64,
    /// Accounts that had a token.
    pub tokens_ok: u64,
    /// Accounts that had no token, or could not renew it.
    pub tokens_bad: u64,
}

impl History {
    /// Adds the counters at this time, in seconds since 1970.
    pub fn take(&mut self, now: u64, counted: Totals, tokens: (u64, u64)) {
        let minute = now / STEP;
        // A clock that is set back a little stays in the present minute. A leap adds no more than a day of points.
        if self.minute == 0 {
            (self.minute, self.begun) = (minute, counted);
        }
        let passed = if minute + SET_BACK < self.minute { 1 } else { minute.saturating_sub(self.minute) };
        if passed > 0 {
            self.push(self.current);
            for _ in 1..passed.min(KEPT as u64) {
                self.push(Point { sessions: 0, handshake_failures: 0, login_failures: 0, ..self.current });
            }
            (self.minute, self.begun) = (minute, self.totals_at_end());
        }
        self.current = Point {
            sessions: counted.sessions.saturating_sub(self.begun.sessions),
            handshake_failures: counted.handshake_failures.saturating_sub(self.begun.handshake_failures),
            login_failures: counted.login_failures.saturating_sub(self.begun.login_failures),
            open: counted.open,
            tokens_ok: tokens.0,
            tokens_bad: tokens.1,
        };
    }

    /// The points. The last one is the present minute.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.points.iter().copied().chain([self.current])
    }

    /// The end of the last point, in seconds since 1970.
    pub fn end(&self) -> u64 {
        (self.minute + 1) * STEP
    }

    fn totals_at_end(&self) -> Totals {
        Totals {
            sessions: self.begun.sessions + self.current.sessions,
            handshake_failures: self.begun.handshake_failures + self.current.handshake_failures,
            login_failures: self.begun.login_failures + self.current.login_failures,
            open: self.current.open,
        }
    }

    fn push(&mut self, point: Point) {
        if self.points.len() >= KEPT - 1 {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

/// The seconds of a point.
pub(super) const STEP: u64 = 60;
/// The minutes by which a clock may be set back. If it is set back further, it was wrong before.
const SET_BACK: u64 = 5;
/// The number of points: a day.
const KEPT: usize = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(sessions: u64) -> Totals {
        Totals { sessions, open: sessions / 2, ..Totals::default() }
    }

    #[test]
    fn minutes_hold_their_events() {
        let mut history = History::default();
        history.take(600, counted(5), (1, 0));
        history.take(630, counted(7), (1, 0));
        history.take(665, counted(8), (0, 1));
        history.take(790, counted(9), (1, 0));
        let sessions: Vec<_> = history.points().map(|point| point.sessions).collect();
        assert_eq!(sessions, [2, 1, 0, 1]);
        assert_eq!(history.points().map(|point| point.tokens_bad).collect::<Vec<_>>(), [0, 1, 1, 0]);
        assert_eq!(history.end(), 840);
    }

    #[test]
    fn a_clock_that_was_years_ahead() {
        let mut history = History::default();
        history.take(2_000_000_000, counted(1), (1, 0));
        history.take(2_000_000_030, counted(5), (1, 0));
        history.take(1_800_000_000, counted(6), (1, 0));
        history.take(1_800_000_090, counted(9), (1, 0));
        assert_eq!(history.points().map(|point| point.sessions).collect::<Vec<_>>(), [4, 1, 3]);
        assert_eq!(history.end(), 1_800_000_120);
    }

    #[test]
    fn a_day_at_the_most() {
        let mut history = History::default();
        for minute in 1..4000 {
            history.take(minute * 60, counted(minute), (0, 0));
        }
        history.take(4_000_000_000, counted(9999), (0, 0));
        history.take(3_000, counted(9999), (0, 0));
        assert_eq!(history.points().count(), KEPT);
    }
}
