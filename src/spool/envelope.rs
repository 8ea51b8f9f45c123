//! The envelope of a kept message, the outcome of its first attempt, and an attempt's answer.

use serde::{Deserialize, Serialize};

/// The envelope of a message as it went to the mail server, and where the message came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The account's name in the configuration.
    pub account: String,
    /// The mailbox that sends the message.
    pub mailbox: String,
    /// The device's name in the configuration.
    pub device: String,
    /// The name of the mail server in the configuration.
    pub upstream: String,
    /// The path of MAIL FROM, without angle brackets.
    pub sender: String,
    /// The paths of RCPT TO that the server has accepted, without angle brackets.
    pub recipients: Vec<String>,
    /// The parameters of MAIL FROM as they went up, as `BODY=8BITMIME`.
    pub parameters: String,
    /// The time of the message in seconds since 1970.
    pub received: u64,
    /// The connection's id in the log.
    pub connection: String,
}

/// The outcome of the first attempt, by the connection that the message came in on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The server has refused the message for the moment, with this reply (4yz).
    Refused(String),
    /// The server was lost before it had the whole message.
    ServerLost(String),
    /// No server was there: not reached, or no login.
    NoServer(String),
    /// The server has the whole message, and has not answered in time. Its answer may still come.
    Slow,
    /// The server was lost after it had the whole message: nobody knows whether it was sent.
    Unknown(String),
}

/// The mail server's answer to a whole message, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The server has taken the message (2yz).
    Accepted(String),
    /// The server has refused it for the moment (4yz).
    Temporary(String),
    /// The server has refused it for good (5yz).
    Permanent(String),
    /// The server was lost before it answered.
    Lost(String),
}

impl Envelope {
    /// The mail server and the mailbox there, in lower case.
    pub(super) fn mailbox_key(&self) -> (String, String) {
        (self.upstream.clone(), self.mailbox.to_lowercase())
    }
}

impl Outcome {
    /// Whether the server may have taken the message.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Slow | Self::Unknown(_))
    }

    /// The outcome in words.
    pub fn text(&self) -> String {
        match self {
            Self::Refused(reply) => format!("the mail server said \"{reply}\""),
            Self::ServerLost(why) | Self::NoServer(why) => why.clone(),
            Self::Slow => "the mail server did not answer in time".to_owned(),
            Self::Unknown(why) => format!("the mail server was lost behind the message: {why}"),
        }
    }
}
