//! A dry run proves everything that a start would do, and changes nothing.

/// Whether what is missing is made: keys, certificates, directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything that is missing is made, and kept.
    Apply,
    /// Missing files are made in memory as a trial, and nothing is written.
    DryRun,
}
