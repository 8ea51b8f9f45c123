//! Parked connections: what a session leaves behind, and the commands that packetboat sends on such a connection by itself.
//!
//! No device listens then. Whatever is not the expected answer ends the connection.

use super::RESPONSE_LINE;
use super::line::{Line, word};

/// The state of a connection whose device has logged out in step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParkedState {
    /// The capability list of the connection; none where the server has sent none since the login.
    pub capability: Option<Vec<u8>>,
    /// A mailbox may be selected.
    pub may_be_selected: bool,
}

/// A command of packetboat's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCommand {
    /// Asks for the capability list.
    Capability,
    /// Closes the selected mailbox and deletes nothing (RFC 3691).
    Unselect,
    /// Asks for INBOX's UIDNEXT and UIDVALIDITY.
    Status,
    /// Asks whether the connection lives. Nothing but its answer may come.
    Noop,
}

/// The answer to a command of packetboat's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More has to come.
    Incomplete,
    /// The server has done it, with what it has sent of what was wanted.
    Done(Option<Vec<u8>>),
    /// The server has refused, or has sent something else.
    Other,
}

/// A line of the server, as far as a parked connection is concerned.
enum OwnResponse<'a> {
    /// The command's own OK.
    Done,
    /// An untagged OK.
    Ok,
    /// A capability list.
    Capability(&'a [u8]),
    /// Untagged data: the line.
    Data(&'a [u8]),
    /// A refusal, BYE, or a line that does not belong here.
    Other,
}

impl OwnCommand {
    /// The octets of the command.
    pub fn octets(self) -> &'static [u8] {
        match self {
            OwnCommand::Capability => b"P6 CAPABILITY\r\n",
            OwnCommand::Unselect => b"P7 UNSELECT\r\n",
            OwnCommand::Noop => b"P8 NOOP\r\n",
            OwnCommand::Status => b"P9 STATUS INBOX (UIDNEXT UIDVALIDITY)\r\n",
        }
    }

    /// Reads all that the server has sent since the command.
    pub fn answer(self, mut received: &[u8]) -> Answer {
        let mut wanted = None;
        if received.len() > LONGEST_ANSWER {
            return Answer::Other;
        }
        loop {
            let (text, rest) = match Line::split(received, RESPONSE_LINE) {
                Line::Incomplete => return Answer::Incomplete,
                Line::TooLong => return Answer::Other,
                Line::Complete { text, len } => (text, received.get(len..).unwrap_or_default()),
            };
            received = rest;
            match OwnResponse::read(text, self.tag()) {
                OwnResponse::Done if rest.is_empty() => return Answer::Done(wanted),
                OwnResponse::Ok => {}
                OwnResponse::Capability(list) if self == OwnCommand::Capability => wanted = Some(list.to_vec()),
                OwnResponse::Data(line) if self == OwnCommand::Status && InboxNumbers::read(line).is_some() => {
                    wanted = Some(line.to_vec());
                }
                OwnResponse::Data(_) if self != OwnCommand::Noop => {}
                OwnResponse::Done | OwnResponse::Capability(_) | OwnResponse::Data(_) | OwnResponse::Other => {
                    return Answer::Other;
                }
            }
        }
    }

    fn tag(self) -> &'static [u8] {
        match self {
            OwnCommand::Capability => b"P6",
            OwnCommand::Unselect => b"P7",
            OwnCommand::Noop => b"P8",
            OwnCommand::Status => b"P9",
        }
    }
}

impl<'a> OwnResponse<'a> {
    /// Reads a line of the server, without its line end, in answer to the command with this tag (RFC 3501 §7).
    fn read(line: &'a [u8], own: &[u8]) -> Self {
        let (tag, rest) = word(line);
        let (keyword, text) = word(rest);
        let is = |names: &[&str]| names.iter().any(|name| keyword.eq_ignore_ascii_case(name.as_bytes()));
        match tag {
            _ if tag == own && is(&["OK"]) => Self::Done,
            b"*" if is(&["OK"]) => Self::Ok,
            b"*" if is(&["CAPABILITY"]) => Self::Capability(text),
            // A line that may announce a literal goes on.
            b"*" if !is(&["NO", "BAD", "BYE", "PREAUTH"]) && !line.ends_with(b"}") => Self::Data(line),
            _ => Self::Other,
        }
    }
}

/// Returns whether the server takes UNSELECT.
pub fn has_unselect(capability: &[u8]) -> bool {
    capability.split(|&octet| octet == b' ').any(|word| word.eq_ignore_ascii_case(b"UNSELECT"))
}

/// INBOX's numbers, as one connection has shown them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxNumbers {
    /// The number that the next message gets.
    pub uidnext: u32,
    /// The number that the mailbox has until it is made anew.
    pub uidvalidity: u32,
}

impl InboxNumbers {
    /// Reads a response to STATUS: `* STATUS INBOX (UIDNEXT 7 UIDVALIDITY 14)`, in any order (RFC 3501 §7.2.4).
    pub fn read(line: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = line.split(|octet| !octet.is_ascii_alphanumeric()).collect();
        let number = |name: &str| {
            let mut words = words.iter().skip_while(|word| !word.eq_ignore_ascii_case(name.as_bytes()));
            std::str::from_utf8(words.nth(1)?).ok()?.parse().ok()
        };
        Some(Self { uidnext: number("UIDNEXT")?, uidvalidity: number("UIDVALIDITY")? })
    }

    /// Returns whether these numbers are of an earlier time than the other ones. UIDNEXT never falls unless the mailbox is
    /// made anew, and UIDVALIDITY is higher then (RFC 3501 §2.3.1.1).
    pub fn are_older_than(self, others: Self) -> bool {
        (self.uidvalidity, self.uidnext) < (others.uidvalidity, others.uidnext)
    }
}

/// The most octets of an answer.
const LONGEST_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(uidnext: u32, uidvalidity: u32) -> InboxNumbers {
        InboxNumbers { uidnext, uidvalidity }
    }

    #[test]
    fn the_answer_to_status_has_two_numbers_in_any_order() {
        for line in ["* STATUS INBOX (UIDNEXT 7 UIDVALIDITY 14)", "* status \"inbox\" (uidvalidity 14 uidnext 7 )"] {
            assert_eq!(InboxNumbers::read(line.as_bytes()), Some(numbers(7, 14)), "{line}");
            // What else the server sends before its OK is passed over.
            let received = format!("* 3 EXISTS\r\n{line}\r\n* 0 RECENT\r\nP9 OK done\r\n");
            let answer = OwnCommand::Status.answer(received.as_bytes());
            assert_eq!(answer, Answer::Done(Some(line.as_bytes().to_vec())));
        }
        for line in ["* STATUS INBOX (UIDNEXT 7)", "* STATUS INBOX (UIDNEXT UIDVALIDITY 14)", "* 7 EXISTS", ""] {
            assert_eq!(InboxNumbers::read(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_mailbox_that_is_made_anew_has_a_higher_uidvalidity() {
        for others in [numbers(7, 14), numbers(7, 15), numbers(1, 15)] {
            assert!(numbers(6, 14).are_older_than(others), "{others:?}");
        }
        for others in [numbers(6, 14), numbers(5, 14), numbers(7, 13)] {
            assert!(!numbers(6, 14).are_older_than(others), "{others:?}");
        }
    }
}
