//! The error of a file: the operation, the path, the cause, and what mends it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::crypto;
use crate::pool::NotDone;
use crate::text;

/// An operation on a file or directory that failed.
#[derive(Debug)]
pub struct Error {
    operation: Operation,
    /// The path; `None` where it may be a secret itself.
    path: Option<PathBuf>,
    cause: Cause,
    advice: Option<String>,
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Make,
    Read,
    Write,
    Lock,
    Listen,
    Connect,
    /// A look at the owner, the mode or the content of what was read.
    Check,
    /// A look whether the directory could be made.
    Foresee,
    /// A look whether files can be written in the directory.
    WriteIn,
}

#[derive(Debug)]
enum Cause {
    /// The operating system refuses the operation.
    Io(io::Error),
    /// The path is a link, and the file that it leads to is missing.
    DanglingLink(io::Error),
    /// The kind, the owner, the mode or the content of the file is wrong.
    Wrong(String),
    Text(text::Error),
    Crypto(crypto::Unavailable),
    Pool(NotDone),
}

impl Error {
    pub(super) fn io(operation: Operation, path: &Path, error: impl Into<io::Error>) -> Self {
        Self::with(operation, path, Cause::Io(error.into()))
    }

    pub(super) fn dangling_link(path: &Path, error: io::Error) -> Self {
        Self::with(Operation::Read, path, Cause::DanglingLink(error)).advise("it is a link that leads nowhere")
    }

    pub(super) fn crypto(operation: Operation, path: &Path, error: crypto::Unavailable) -> Self {
        Self::with(operation, path, Cause::Crypto(error))
    }

    /// The file is there, and not as it has to be.
    pub(super) fn wrong(operation: Operation, path: &Path, fault: impl Into<String>) -> Self {
        Self::with(operation, path, Cause::Wrong(fault.into()))
    }

    /// The content is not what packetboat has written.
    pub fn damaged(path: &Path) -> Self {
        Self::wrong(Operation::Check, path, "is damaged")
    }

    /// The content is no text of the wanted form.
    pub(super) fn text(path: &Path, error: text::Error) -> Self {
        Self::with(Operation::Check, path, Cause::Text(error))
    }

    fn with(operation: Operation, path: &Path, cause: Cause) -> Self {
        Self { operation, path: Some(path.to_path_buf()), cause, advice: None }
    }

    /// Returns the error with advice for its repair.
    #[must_use]
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// Returns the error without its path, which may be a secret itself.
    #[must_use]
    pub(super) fn without_path(self) -> Self {
        Self { path: None, ..self }
    }

    /// Whether there is no such file. A link that leads nowhere counts as there.
    pub fn is_missing(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether this user has no right to it.
    pub fn is_denied(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the disk is full, read-only or broken.
    pub fn is_of_disk(&self) -> bool {
        let kinds = [
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded,
            io::ErrorKind::FileTooLarge,
        ];
        let is_broken = |error: &io::Error| error.raw_os_error() == Some(Errno::IO.raw_os_error());
        matches!(&self.cause, Cause::Io(error) if kinds.contains(&error.kind()) || is_broken(error))
    }

    /// Whether the failure passes by itself: the process or the computer is short of open files, memory or threads.
    pub fn is_shortage(&self) -> bool {
        let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        match &self.cause {
            Cause::Io(error) | Cause::DanglingLink(error) => {
                shortages.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
            }
            Cause::Pool(_) => true,
            Cause::Wrong(_) | Cause::Text(_) | Cause::Crypto(_) => false,
        }
    }
}

impl From<NotDone> for Error {
    /// The threads for files in the state directory do not answer.
    fn from(why: NotDone) -> Self {
        Self { operation: Operation::Check, path: None, cause: Cause::Pool(why), advice: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.path.as_ref().map(|path| path.display().to_string());
        let path = shown.as_deref().unwrap_or(UNSHOWN);
        match self.operation {
            Operation::Make => write!(f, "cannot make {path}: ")?,
            Operation::Read => write!(f, "cannot read {path}: ")?,
            Operation::Write => write!(f, "cannot write {path}: ")?,
            Operation::Lock => write!(f, "cannot lock {path}: ")?,
            Operation::Listen => write!(f, "cannot listen on {path}: ")?,
            Operation::Connect => write!(f, "cannot ask at {path}: ")?,
            Operation::Foresee => write!(f, "cannot make {path}, ")?,
            Operation::WriteIn => write!(f, "cannot write in {path}: ")?,
            Operation::Check if matches!(self.cause, Cause::Pool(_)) => f.write_str("the state directory: ")?,
            Operation::Check => write!(f, "{path} ")?,
        }
        match &self.cause {
            Cause::Io(error) | Cause::DanglingLink(error) => write!(f, "{error}")?,
            Cause::Wrong(fault) => f.write_str(fault)?,
            Cause::Text(error) => write!(f, "{error}")?,
            Cause::Crypto(error) => write!(f, "{error}")?,
            Cause::Pool(why) => write!(f, "{why}")?,
        }
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Cause::Io(error) | Cause::DanglingLink(error) => Some(error),
            Cause::Text(error) => Some(error),
            Cause::Crypto(error) => Some(error),
            Cause::Pool(why) => Some(why),
            Cause::Wrong(_) => None,
        }
    }
}

/// Words in place of a path that may be a secret itself.
pub(super) const UNSHOWN: &str = "a file that the configuration names";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_passes_and_a_missing_file_does_not() {
        let error = |errno: Errno| Error::io(Operation::Read, Path::new("/x"), errno).advise("do this");
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(error(errno).is_shortage() && !error(errno).is_missing(), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS] {
            assert!(!error(errno).is_shortage(), "{errno}");
        }
        assert!(error(Errno::NOENT).is_missing());
        assert_eq!(error(Errno::NOENT).to_string(), "cannot read /x: No such file or directory (os error 2); do this");
    }

    #[test]
    fn causes_are_kept() {
        assert!(Error::io(Operation::Lock, Path::new("/x"), Errno::NOLCK).source().is_some());
        assert_eq!(Error::from(NotDone::Late).to_string(), format!("the state directory: {}", NotDone::Late));
    }
}
