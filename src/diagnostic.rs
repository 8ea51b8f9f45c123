//! A diagnostic is something that the writer of a configuration should know: the key concerned, and a message.

use std::fmt::Display;

/// A key of the configuration, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The key concerned, as `certificate.default.chain`; empty where none is.
    pub key: String,
    /// The mistake, and the correction.
    pub message: String,
    /// The thing that has to change.
    pub fault: Fault,
}

/// The thing that has to change before a configuration works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The configuration file itself.
    File,
    /// Something that the file names: another file, an address, a server.
    Named,
}

impl Diagnostic {
    /// A diagnostic about something that a key names.
    pub fn new(key: impl Into<String>, message: impl Display) -> Self {
        Self { key: key.into(), message: message.to_string(), fault: Fault::Named }
    }

    /// A diagnostic about the value of a key itself.
    pub fn of_file(key: impl Into<String>, message: impl Display) -> Self {
        Self { fault: Fault::File, ..Self::new(key, message) }
    }

    /// The same diagnostic with its key below a section: `chain` below `certificate.default`.
    #[must_use]
    pub fn below(self, section: impl Display) -> Self {
        let key = if self.key.is_empty() { section.to_string() } else { format!("{section}.{}", self.key) };
        Self { key, ..self }
    }

    /// One diagnostic for each message, with all of its keys, where the lines of the file are not at hand.
    pub fn joined(found: Vec<Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        for one in found {
            match joined.iter_mut().find(|other| other.message == one.message) {
                Some(other) => other.key = format!("{}, {}", other.key, one.key),
                None => joined.push(one),
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_joined_over_its_keys() {
        let joined =
            Diagnostic::joined(vec![Diagnostic::new("a", "x"), Diagnostic::new("b", "y"), Diagnostic::new("c", "x")]);
        assert_eq!(joined, [Diagnostic::new("a, c", "x"), Diagnostic::new("b", "y")]);
    }

    #[test]
    fn a_key_stands_below_its_section() {
        assert_eq!(Diagnostic::new("chain", "x").below("certificate.default").key, "certificate.default.chain");
        assert_eq!(Diagnostic::new("", "x").below("certificate.default").key, "certificate.default");
    }
}
