//! The logins of a device by the way to its mail server, and the time that they take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The way to the mail server that a login took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginWay {
    /// A connection was dialled for it.
    Dialled,
    /// A connection was ready, behind the greeting.
    Warm,
    /// A connection was logged in already.
    Parked,
}

impl LoginWay {
    /// The way in a word, as the log has it.
    pub fn word(self) -> &'static str {
        match self {
            LoginWay::Dialled => "dialled",
            LoginWay::Warm => "warm",
            LoginWay::Parked => "parked",
        }
    }
}

/// The logins of a time, by their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Logins {
    /// Logins for which a connection was dialled.
    pub dialled: u64,
    /// Logins on a warm connection.
    pub warm: u64,
    /// Logins on a parked connection.
    pub parked: u64,
    /// The sum of the times from LOGIN to OK, in milliseconds.
    pub total_ms: u64,
    /// The longest of these times.
    pub longest_ms: u64,
}

impl Logins {
    /// Counts a login.
    pub(super) fn add(&mut self, way: LoginWay, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut one = Self { total_ms: took, longest_ms: took, ..Self::default() };
        match way {
            LoginWay::Dialled => one.dialled = 1,
            LoginWay::Warm => one.warm = 1,
            LoginWay::Parked => one.parked = 1,
        }
        *self = self.and(&one);
    }

    /// The logins of two times together.
    pub(in crate::inventory) fn and(&self, other: &Self) -> Self {
        Self {
            dialled: self.dialled.saturating_add(other.dialled),
            warm: self.warm.saturating_add(other.warm),
            parked: self.parked.saturating_add(other.parked),
            total_ms: self.total_ms.saturating_add(other.total_ms),
            longest_ms: self.longest_ms.max(other.longest_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_and_times_add_up() {
        let mut logins = Logins::default();
        for (way, took) in
            [(LoginWay::Dialled, 5000), (LoginWay::Warm, 900), (LoginWay::Parked, 20), (LoginWay::Parked, 30)]
        {
            logins.add(way, Duration::from_millis(took));
        }
        assert_eq!(logins, Logins { dialled: 1, warm: 1, parked: 2, total_ms: 5950, longest_ms: 5000 });
        assert_eq!(logins.and(&logins), Logins { dialled: 2, warm: 2, parked: 4, total_ms: 11900, longest_ms: 5000 });
    }
}
