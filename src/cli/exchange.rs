//! The ways in which a certificate command exchanges certificates with the fleet.

/// The ways to exchange certificates with the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// Put what this instance has; in the place of what the fleet has, if that is wanted.
    Push {
        /// What the fleet has is replaced.
        replace: bool,
    },
    /// Take what the fleet has.
    Pull,
    /// Take what the fleet has, and put what it does not have.
    Settle,
}
