//! The record of a message's attempts: when, with which answer, and why it was given up.
//!
//! The record is for people and for the schedule. The facts that a crash must not lose stand in the name of the message's file,
//! so that a disk without room for records costs words alone.

use serde::{Deserialize, Serialize};

use super::envelope::Envelope;

/// The attempts of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The seconds for which packetboat has run with the message.
    pub(super) waited: u64,
    /// The attempts, with the first one, by the device's connection.
    pub(super) attempts: u32,
    /// The time of the last attempt in seconds since 1970.
    pub(super) last_at: u64,
    /// The last attempt's outcome in words.
    pub(super) last: String,
    /// The time of the next attempt in seconds since 1970.
    pub(super) next_at: u64,
    /// The steps of the schedule that are used up.
    pub(super) step: u32,
    /// The reason for which the message was given up.
    pub(super) reason: Option<Reason>,
    /// The recipients that have not got the message, where the server has taken it for others.
    #[serde(default)]
    pub(super) left: Option<Vec<String>>,
    /// The recipients that the server has refused for good, each with its reply. None of them is tried again.
    #[serde(default)]
    pub(super) refused: Vec<(String, String)>,
    /// The message was given up, and the server may have it.
    #[serde(default)]
    pub(super) may_be_sent: bool,
}

/// The reason for which a message was given up, as the report has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reason {
    /// The server has refused it for good, with this reply.
    Refused(String),
    /// The server has refused these recipients, each with its reply, and taken the message for the others.
    SomeRefused(Vec<(String, String)>),
    /// It was tried for too long; the last outcome in words.
    Expired(String),
    /// Its outcome is not known, twice.
    Unknown(String),
    /// Its file is damaged.
    Damaged,
}

impl Reason {
    /// The reason in words, as the end of a sentence about the message.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Refused(reply) => format!("the mail server refused it: \"{reply}\""),
            Self::SomeRefused(refused) => {
                let refused: Vec<String> =
                    refused.iter().map(|(recipient, reply)| format!("{recipient}: \"{reply}\"")).collect();
                format!("the mail server took it for other recipients, and refused {}", refused.join(", "))
            }
            Self::Expired(last) => format!("it was tried until spool.max_age had passed; the last attempt: {last}"),
            Self::Unknown(last) => {
                format!(
                    "the mail server was lost twice after it had the whole message, and it may have been sent: {last}"
                )
            }
            Self::Damaged => "its file on the disk of packetboat is damaged".to_owned(),
        }
    }
}

/// Writes an envelope or a record as JSON.
pub(super) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Neither type has a value that JSON lacks.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Reads an envelope from JSON.
pub(super) fn envelope(json: &[u8]) -> Option<Envelope> {
    serde_json::from_slice(json).ok()
}

impl Record {
    /// Reads a record from JSON.
    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}
