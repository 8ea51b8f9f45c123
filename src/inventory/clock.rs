//! The clocks of two instances may differ: times that another one has written are moved to this computer's clock.

/// The difference between the clocks of two instances, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Shift(i64);

impl Shift {
    /// The difference by one moment, as the other instance has written it and as this one knows it. None where the
    /// clocks agree: a second or two are the way through the database.
    pub(super) fn new(written: u64, known: u64) -> Option<Self> {
        let difference = i64::try_from(known).ok()?.checked_sub(i64::try_from(written).ok()?)?;
        (difference.unsigned_abs() > AGREEMENT).then_some(Self(difference))
    }

    /// A time by this computer's clock.
    pub(super) fn of(self, time: u64) -> u64 {
        time.saturating_add_signed(self.0)
    }
}

/// In seconds.
const AGREEMENT: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_or_are_moved() {
        assert!(Shift::new(100, 102).is_none());
        assert_eq!(Shift::new(100, 3700).unwrap().of(50), 3650);
        assert_eq!(Shift::new(3700, 100).unwrap().of(3650), 50);
        assert_eq!(Shift::new(3700, 100).unwrap().of(5), 0);
    }
}
