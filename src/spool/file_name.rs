//! The name of a message's file: its id, the attempts whose outcome is not known, and its phase.
//!
//! The name carries what a crash must not lose. A rename needs no space on the disk, so that a full one does not stop
//! the deliveries that would empty it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::crypto::{self, Unavailable};

/// The id of a message: random, and no other message has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 8]);

/// The decision about a message.
///
/// ```text
/// Message ──accepted──> (removed)
///    │ refused, too old, or lost twice behind the final dot
///    v
/// Report ───accepted──> (removed)
///    │ refused, or too old
///    v
/// Kept (until an operator removes it, or has it tried again)
///
/// any ──the file is damaged──> Damaged
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The message is to be sent.
    Message,
    /// The message is given up, and a report about it is to be sent.
    Report,
    /// The message and its report are given up.
    Kept,
    /// The file is damaged, and is never sent.
    Damaged,
}

/// The name of a message's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    pub(super) id: Id,
    /// The attempts of this phase whose outcome is not known, nine at most, with one that is under way behind the final dot.
    pub(super) unknown: u8,
    pub(super) phase: Phase,
}

impl Id {
    /// A new id.
    pub(super) fn new() -> Result<Self, Unavailable> {
        crypto::random().map(Self)
    }

    /// Reads an id as it is printed.
    pub fn parse(text: &str) -> Option<Self> {
        let number = (text.len() == 16 && text.bytes().all(|digit| b"0123456789abcdef".contains(&digit)))
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl Phase {
    const ALL: [(&'static str, Phase); 4] =
        [("message", Self::Message), ("report", Self::Report), ("kept", Self::Kept), ("damaged", Self::Damaged)];

    /// The phase's name in files and answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Report => "report",
            Self::Kept => "kept",
            Self::Damaged => "damaged",
        }
    }

    /// Whether packetboat still does something with the message by itself.
    pub(super) fn is_tried(self) -> bool {
        matches!(self, Self::Message | Self::Report)
    }
}

impl FileName {
    /// Reads a name; `None` where the file is none of a message.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (id, unknown, phase) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || unknown.len() != 1 {
            return None;
        }
        let (_, phase) = Phase::ALL.into_iter().find(|(word, _)| *word == phase)?;
        Some(Self { id: Id::parse(id)?, unknown: unknown.parse().ok()?, phase })
    }

    /// The name behind one more attempt whose outcome is not known.
    pub(super) fn with_unknown(self) -> Self {
        // The name has one digit for it: nine stands for more, too.
        Self { unknown: self.unknown.saturating_add(1).min(9), ..self }
    }

    /// Whether a message was sent twice and nobody knows the outcomes. A second copy of a message may do harm; one of a
    /// report does not, and without a report the message would be lost: it is tried until it is too old.
    pub(super) fn is_tried_enough(self) -> bool {
        self.phase == Phase::Message && self.unknown >= 2
    }

    pub(super) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.{}.{}", self.id, self.unknown, self.phase.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for phase in [Phase::Message, Phase::Report, Phase::Kept, Phase::Damaged] {
            for unknown in [0, 1, 2, 9] {
                let name = FileName { id: Id([1, 2, 3, 4, 5, 6, 7, 0xef]), unknown, phase };
                let path = name.path(Path::new("/spool"));
                assert_eq!(FileName::parse(path.file_name().unwrap().to_str().unwrap()), Some(name));
            }
        }
        for other in [
            "lock",
            "0102030405060708.record",
            "0102030405060708.0.message.new-0123456789abcdef",
            "0102030405060708.0",
            "0102030405060708.10.message",
            "0102030405060708.x.message",
            "010203040506070.0.message",
            "010203040506070G.0.message",
            "0102030405060708.0.token",
            "\u{e4}0102030405060708.0.message",
        ] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }
}
