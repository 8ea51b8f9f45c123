//! The error of the spool: a file that fails, a file that is damaged, or no room.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::share::{Full, Share};
use crate::crypto::Unavailable;
use crate::pool::NotDone;
use crate::state;

/// A reason why a message is not kept, or cannot be read.
#[derive(Debug)]
pub enum Error {
    /// A file or directory cannot be read or written.
    File(state::Error),
    /// There is no cryptography on this computer.
    Crypto(Unavailable),
    /// The file is not what packetboat has written: cut, changed, or of another message.
    Damaged(PathBuf),
    /// The disk does not give the file's content.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The spool has as many octets or messages as it may have.
    Full,
    /// A mailbox or a device uses all of its share.
    ShareFull(Share),
    /// The envelope has more octets than a file has room for: it names too many recipients.
    LongEnvelope,
    /// The disk of this directory neither answers nor reports a fault.
    Hangs(PathBuf),
    /// The threads that write files do not answer.
    NotDone(NotDone),
    /// Another process has the directory.
    InUse(PathBuf),
    /// There is no such message.
    Unknown,
    /// The spool is switched off.
    Off,
}

impl Error {
    /// Whether the disk is at fault, or the process is short of something: nothing in a file has to be corrected.
    pub fn passes(&self) -> bool {
        match self {
            Self::File(error) => error.is_of_disk() || error.is_shortage(),
            Self::Unreadable { .. } | Self::Hangs(_) | Self::NotDone(_) | Self::Full | Self::ShareFull(_) => true,
            Self::LongEnvelope | Self::Crypto(_) | Self::Damaged(_) | Self::InUse(_) | Self::Unknown | Self::Off => {
                false
            }
        }
    }

    /// Whether the disk refuses to be written.
    pub(super) fn is_of_disk(&self) -> bool {
        matches!(self, Self::File(error) if error.is_of_disk())
    }

    /// The words behind the error in a log line: what to do about a disk.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Hangs(_) => {
                "; look at this disk, or at the server of its network file system: packetboat keeps messages again as soon \
                 as the disk answers"
            }
            _ if self.is_of_disk() => "; make room on the disk, or let packetboat write there",
            _ => "",
        }
    }

    pub(super) fn unreadable(path: &Path, source: io::Error) -> Self {
        Self::Unreadable { path: path.to_path_buf(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Crypto(error) => error.fmt(f),
            Self::Damaged(path) => {
                write!(f, "{} is damaged, or was sealed with another key", path.display())
            }
            Self::Unreadable { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::Full => f.write_str("the spool is full: see spool.max_size and spool.max_messages"),
            Self::ShareFull(share) => share.fmt(f),
            Self::LongEnvelope => f.write_str("a message names too many recipients to be kept"),
            Self::Hangs(directory) => {
                let (shown, patience) = (directory.display(), humantime::format_duration(PATIENCE));
                write!(f, "the disk of {shown} hangs: it has not answered within {patience}, and reports no fault")
            }
            Self::NotDone(error) => write!(f, "the threads that write messages: {error}"),
            Self::InUse(directory) => {
                let shown = directory.display();
                write!(f, "{shown} is in use by another packetboat: give each its own spool.directory")
            }
            Self::Unknown => f.write_str("there is no such message in the spool"),
            Self::Off => f.write_str("the spool is off"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::File(error) => Some(error),
            Self::Crypto(error) => Some(error),
            Self::NotDone(error) => Some(error),
            Self::Unreadable { source, .. } => Some(source),
            Self::Damaged(_)
            | Self::Full
            | Self::ShareFull(_)
            | Self::LongEnvelope
            | Self::Hangs(_)
            | Self::InUse(_)
            | Self::Unknown
            | Self::Off => None,
        }
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Self::File(error)
    }
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        match full {
            Full::Spool => Self::Full,
            Full::Share(share) => Self::ShareFull(share),
        }
    }
}

impl From<Unavailable> for Error {
    fn from(error: Unavailable) -> Self {
        Self::Crypto(error)
    }
}

impl From<NotDone> for Error {
    fn from(error: NotDone) -> Self {
        Self::NotDone(error)
    }
}

/// The longest wait of a device, or of a connection to a mail server, for the disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
