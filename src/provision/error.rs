//! The error of a change to the configuration file: what stands in its way, and what to do.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::state;
use crate::text;

/// Why the configuration file cannot be changed.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read or locked.
    Read {
        /// The configuration file.
        path: PathBuf,
        /// The operating system's refusal.
        source: io::Error,
    },
    /// The file is no text.
    Text {
        /// The configuration file.
        path: PathBuf,
        /// The fault of its octets.
        source: text::Error,
    },
    /// The file is no TOML.
    Syntax(toml_edit::TomlError),
    /// The TOML library would write lines of the file in another way, although they do not change.
    Form {
        /// The first line that would come out differently, counted from 1.
        line: usize,
    },
    /// The sections of this kind are written as one value, such as `device = [...]`.
    Inline {
        /// The key, such as `device`.
        key: &'static str,
        /// The section's heading, such as `[[device]]`.
        heading: &'static str,
    },
    /// A section of this kind and name is there already.
    Exists {
        /// The kind: device, account or identity.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// There is no section of this kind and name.
    Missing {
        /// The kind: device, account or identity.
        kind: Kind,
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A text is no mail address.
    NoAddress {
        /// The text.
        text: String,
    },
    /// A text is no network.
    NoNetwork {
        /// The text.
        text: String,
    },
    /// The account needs a mail server of the configuration, and several can be meant, or none is known.
    NoUpstream {
        /// The names of those that can be meant.
        known: Vec<String>,
    },
    /// Listeners need a device, and there is no other.
    OnlyDevice {
        /// The device's user name.
        login: String,
    },
    /// Devices still open the account's mailbox.
    InUse {
        /// The account.
        account: String,
        /// The logins of these devices.
        devices: Vec<String>,
    },
    /// Another command is changing the file.
    Busy {
        /// The configuration file.
        path: PathBuf,
    },
    /// The file has been changed since it was read.
    Changed {
        /// The configuration file.
        path: PathBuf,
    },
    /// The file's mode lets no user write to it.
    ReadOnly {
        /// The configuration file.
        path: PathBuf,
    },
    /// The new file cannot be written; the old one is still there.
    Write(state::Error),
}

/// A kind of section that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[[device]]`, by its login.
    Device,
    /// `[account.NAME]`.
    Account,
    /// `[identity.NAME]`.
    Identity,
}

impl Error {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Account => "account",
            Self::Identity => "identity",
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{} cannot be changed by this user: run this as root (sudo)", path.display())
            }
            Self::Read { path, source } => write!(f, "{} cannot be read: {source}", path.display()),
            Self::Text { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Syntax(error) => write!(f, "the configuration is no TOML: {}", error.message()),
            Self::Form { line } => write!(
                f,
                "line {line} of the configuration is written in a way that packetboat cannot keep while it changes \
                 another line: change the file in an editor"
            ),
            Self::Inline { key, heading } => write!(
                f,
                "the configuration writes {key} as one value: write a section {heading} for each one, or change the \
                 file in an editor"
            ),
            Self::Exists { kind, name } => write!(f, "there is a {kind} \"{name}\" already: choose another name"),
            Self::Missing { kind, name, known } if known.is_empty() => {
                write!(f, "there is no {kind} \"{name}\"; the configuration has none yet")
            }
            Self::Missing { kind, name, known } => {
                write!(f, "there is no {kind} \"{name}\"; the configuration has {}", known.join(", "))
            }
            Self::NoAddress { text } => write!(f, "\"{text}\" is no mail address, such as scans@contoso.com"),
            Self::NoNetwork { text } => write!(
                f,
                "\"{text}\" is neither an address, such as 192.168.1.20, nor a network, such as 192.168.1.0/24"
            ),
            Self::NoUpstream { known } => no_upstream(known, f),
            Self::OnlyDevice { login } => write!(
                f,
                "it is the only device, and listeners need one. To keep it out at once, give it a password that nobody \
                 types into it: packetboat device password {login}. To replace it, add the new device first"
            ),
            Self::InUse { account, devices } => write!(
                f,
                "the account \"{account}\" is still used by {}: remove them first, with packetboat device remove",
                devices.join(", ")
            ),
            Self::Busy { path } => write!(
                f,
                "another packetboat command has been changing {} for {} seconds: wait until it ends, and run this \
                 again",
                path.display(),
                PATIENCE.as_secs()
            ),
            Self::Changed { path } => write!(
                f,
                "{} has been changed meanwhile, by an editor or another program: nothing was changed here, run this \
                 again",
                path.display()
            ),
            Self::ReadOnly { path } => write!(
                f,
                "{0} is read-only, and nothing was changed. To let packetboat change it: chmod u+w {0}",
                path.display()
            ),
            Self::Write(error) => write!(f, "{error}"),
        }
    }
}

fn no_upstream(known: &[String], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if known.is_empty() {
        return f.write_str(
            "the mail server for the account's token is not known: write an [upstream.NAME] with its host, and run \
             this again",
        );
    }
    write!(
        f,
        "the mail server for the account's token has to be named: packetboat account add NAME --mailbox ADDRESS \
         --upstream UPSTREAM; the configuration has {}",
        known.join(", ")
    )
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Text { source, .. } => Some(source),
            Self::Syntax(error) => Some(error),
            Self::Write(error) => Some(error),
            Self::Form { .. }
            | Self::Inline { .. }
            | Self::Exists { .. }
            | Self::Missing { .. }
            | Self::NoAddress { .. }
            | Self::NoNetwork { .. }
            | Self::NoUpstream { .. }
            | Self::OnlyDevice { .. }
            | Self::InUse { .. }
            | Self::Busy { .. }
            | Self::Changed { .. }
            | Self::ReadOnly { .. } => None,
        }
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Self::Write(error)
    }
}

/// The longest time to wait for another command: somewhat longer than a reload may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(45);
