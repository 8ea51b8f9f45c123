//! The ways in which a certificate command exchanges certificates with the fleet.

/// The ways to exchange certificates with the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// Put the files of this instance; in the place of the fleet's, if that is wanted.
    Push {
        /// True if the fleet's files are replaced.
        replace: bool,
    },
    /// Take what the fleet has.
    Pull,
    /// Take what the fleet has, and put what it does not have.
    Settle,
}
