//! The error of a confinement that does not hold, or not in whole.

use std::fmt;
use std::path::PathBuf;

use landlock::RulesetError;
use seccompiler::BackendError;

/// The reason why Landlock or seccomp does not hold.
#[derive(Debug)]
pub enum Error {
    /// Other threads run already, and would stay unconfined.
    OtherThreads,
    /// The kernel has no Landlock.
    NoLandlock,
    /// Landlock refuses its rules.
    Landlock(RulesetError),
    /// Landlock refuses the rule of one path.
    Path {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: RulesetError,
    },
    /// The filter of system calls is not known for this processor.
    Processor,
    /// The filter of system calls cannot be built.
    Filter(BackendError),
    /// The kernel refuses the filter of system calls.
    Seccomp(seccompiler::Error),
}

impl From<RulesetError> for Error {
    fn from(error: RulesetError) -> Self {
        Self::Landlock(error)
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        Self::Filter(error)
    }
}

impl From<seccompiler::Error> for Error {
    fn from(error: seccompiler::Error) -> Self {
        Self::Seccomp(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherThreads => f.write_str("there are other threads already"),
            Self::NoLandlock => f.write_str("this kernel has no Landlock (Linux 5.13 and later, lsm=landlock)"),
            Self::Landlock(error) => write!(f, "{error}"),
            Self::Path { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Processor => f.write_str("not known for this processor"),
            Self::Filter(error) => write!(f, "{error}"),
            Self::Seccomp(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Landlock(error) => Some(error),
            Self::Path { source, .. } => Some(source),
            Self::Filter(error) => Some(error),
            Self::Seccomp(error) => Some(error),
            Self::OtherThreads | Self::NoLandlock | Self::Processor => None,
        }
    }
}
