//! The devices that each instance has seen, as all instances read them. The inventory writes and reads the JSON of the
//! records.

use std::time::Duration;

use super::records::Answer;

/// One device as one instance has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// The key of the device: the same at each instance.
    pub device: String,
    /// The record, as JSON.
    pub json: String,
    /// The device has logged in: it is forgotten after all others.
    pub has_logged_in: bool,
    /// The time since the device was last seen.
    pub age: Duration,
}

/// A record as another instance reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenByInstance {
    /// The key of the device.
    pub device: String,
    /// The name of the instance that has seen it.
    pub instance: String,
    /// The record, as JSON; none where the instance, or somebody for all of them, has forgotten the device.
    pub json: Option<String>,
    /// The time since the device was last seen, or was forgotten, by the clock of the database.
    pub age: Duration,
}

/// The last record that was read. Reading goes on after it; the default is before all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenCursor {
    /// The time of its change by the clock of the database, in microseconds since 1970. It is ahead of the clock where that
    /// was set back since, or where somebody else has written it.
    pub changed: i64,
    /// The time of the reading by the same clock.
    pub read: i64,
    /// The key of the device.
    pub device: String,
    /// The name of the instance.
    pub instance: String,
}

impl SeenCursor {
    /// Returns the cursor so much earlier: a statement that took long ends after others that began later. What is ahead of
    /// the clock is read again, and hides nothing.
    #[must_use]
    pub fn earlier(&self, by: Duration) -> Self {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self { changed: self.changed.min(self.read).saturating_sub(by), ..Self::default() }
    }
}

/// The devices that the instances have seen.
pub trait SeenRecords: Send + Sync {
    /// Puts what an instance has seen, in the place of what it has put before.
    fn put_seen<'a>(&'a self, instance: &'a str, records: &'a [SeenRecord]) -> Answer<'a, ()>;

    /// Reads up to so many records that have changed after the cursor, the earliest first, with the cursor of the last
    /// one. None if there are no more.
    fn seen_behind<'a>(
        &'a self,
        cursor: &'a SeenCursor,
        most: u32,
    ) -> Answer<'a, Option<(Vec<SeenByInstance>, SeenCursor)>>;

    /// Lists the names of the instances that are registered: their devices may be connected.
    fn running(&self) -> Answer<'_, Vec<String>>;

    /// Marks a device as forgotten by each instance, until one sees it again.
    fn forget_seen<'a>(&'a self, device: &'a str) -> Answer<'a, ()>;

    /// Removes records of one instance, which has no room for them. Others read that they are gone.
    fn remove_seen<'a>(&'a self, instance: &'a str, devices: &'a [String]) -> Answer<'a, ()>;

    /// Removes records of devices that nobody has seen for this time, and those beyond so many: first of devices that
    /// have never logged in, and the longest unseen.
    fn limit_seen(&self, oldest: Duration, most: u32) -> Answer<'_, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ahead_of_the_clock_hides_nothing_that_comes_later() {
        let at = |changed, read| SeenCursor { changed, read, device: "a".to_owned(), instance: "west".to_owned() };
        let second = Duration::from_secs(1);
        assert_eq!(at(5_000_000, 7_000_000).earlier(second).changed, 4_000_000);
        assert_eq!(at(i64::MAX, 7_000_000).earlier(second), SeenCursor { changed: 6_000_000, ..SeenCursor::default() });
        assert_eq!(SeenCursor::default().earlier(second).changed, -1_000_000);
    }
}
