//! A command's error is the exit code that the command ends with, and what it prints last.

use std::fmt::{self, Display};
use std::process::ExitCode;

/// The codes of sysexits.h that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Usage = 64,
    NoInput = 66,
    /// The token endpoint refuses, and may not do so in some minutes. For other commands of this program.
    NotYet = 67,
    Unavailable = 69,
    OsError = 71,
    IoError = 74,
    /// The result is not known yet.
    NoAnswer = 75,
    /// There is no token until a person acts. For other commands of this program.
    Refused = 77,
    Config = 78,
}

/// A reason for which a command ends without success.
#[derive(Debug)]
pub(super) struct CommandError {
    code: u8,
    /// The text that is still to be printed; empty where the log or the command itself has said it.
    message: String,
}

impl Exit {
    /// The error that ends with this code, for a reason that is printed.
    pub(super) fn because(self, reason: impl Display) -> CommandError {
        CommandError { code: self as u8, message: reason.to_string() }
    }
}

/// The error for a reason outside the command: the proxy, the network, a file.
pub(super) fn unavailable(reason: impl Display) -> CommandError {
    Exit::Unavailable.because(reason)
}

impl CommandError {
    /// The error of a command that has run in another process, and has said why it failed.
    pub(super) fn of_other_process(code: u8) -> Self {
        Self { code, message: String::new() }
    }

    /// Returns whether the command ends with this code.
    pub(super) fn is_of(&self, exit: Exit) -> bool {
        self.code == exit as u8
    }

    /// The exit code.
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}

/// An error whose reason has been printed or logged.
impl From<Exit> for CommandError {
    fn from(exit: Exit) -> Self {
        Self { code: exit as u8, message: String::new() }
    }
}
