//! Certificates and keys that all instances have in common. They are sealed before they come here.

use super::records::Answer;

/// A sealed value, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The value, sealed with [`label`] of its name.
    pub sealed: Vec<u8>,
    /// The number of the value: each new one gets a higher one.
    pub generation: i64,
}

/// The values that all instances have in common, by name.
pub trait KeptRecords: Send + Sync {
    /// Reads a value.
    fn kept<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Kept>>;

    /// Keeps the first value of a name. Returns false where there is one already, and has changed nothing.
    fn keep_first<'a>(&'a self, name: &'a str, value: &'a Kept) -> Answer<'a, bool>;

    /// Puts a value in the place of the one with this generation. Returns false where there is another one meanwhile,
    /// and has changed nothing.
    fn replace_kept<'a>(&'a self, name: &'a str, before: i64, value: &'a Kept) -> Answer<'a, bool>;
}

/// The label under which the value of this name and generation is sealed. It opens neither under another name, nor as a
/// later generation.
pub fn label(name: &str, generation: i64) -> Vec<u8> {
    [b"packetboat fleet kept 2\0".as_slice(), name.as_bytes(), b"\0", &generation.to_be_bytes()].concat()
}
