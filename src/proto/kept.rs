//! A message that packetboat keeps where the server does not take it at once: its envelope, and the reason.

// A span of time is a value; the clocks of std::time are not for this floor.
use core::time::Duration;

/// The envelope of a message as it goes up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageEnvelope {
    /// The path of MAIL, without its angle brackets.
    pub sender: String,
    /// The paths of RCPT that are taken, without their angle brackets.
    pub recipients: Vec<String>,
    /// The parameters of MAIL, joined by spaces.
    pub parameters: String,
}

/// The reason why a message is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// The server has refused it for the moment, with this reply; and the time for which it throttles us, if it says so.
    Refused(String, Option<Duration>),
    /// The server was lost before it had the whole message.
    ServerLost,
    /// There is no server, because of this.
    NoServer(String),
    /// The server was lost after it had the whole message. The message may be sent or lost.
    Unknown,
}
