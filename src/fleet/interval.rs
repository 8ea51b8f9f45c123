//! The interval of questions about all instances. Each instance asks them, and each answer costs the database a row for
//! each instance: at a fixed interval the rows would grow with the square of the instances.

use std::time::Duration;

/// Returns the interval between two such questions of one instance: the shortest one in a small fleet, and one that grows
/// with the number of instances in a larger one.
pub fn interval_of(shortest: Duration, instances: usize) -> Duration {
    let times = u32::try_from(instances / SMALL).unwrap_or(u32::MAX).max(1);
    shortest.saturating_mul(times).min(LONGEST.max(shortest))
}

/// The instances of a fleet that counts as small.
const SMALL: usize = 100;
/// The longest interval that the number of instances leads to.
const LONGEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_fleet_asks_less_often() {
        let second = Duration::from_secs(1);
        let interval = |instances| interval_of(10 * second, instances);
        assert_eq!((interval(0), interval(199), interval(300)), (10 * second, 10 * second, 30 * second));
        assert_eq!((interval(6_000), interval(usize::MAX)), (600 * second, 600 * second));
        assert_eq!(interval_of(900 * second, 10_000), 900 * second, "never more often than in a small fleet");
    }
}
