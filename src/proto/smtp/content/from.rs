//! The From field: whether the sender policy lets it be, and what stands in its place otherwise (RFC 5322 §3.6.2).
//!
//! Groups, lists and comments are not interpreted: such a field is replaced whole. The new address comes from the
//! configuration, is a proven address, or is a display name that is quoted or encoded anew.

use super::Refusal;
use super::display_name::{self, Word};
use crate::proto::smtp::path::Address;
use crate::proto::smtp::sender::SenderRules;
use crate::submission::SenderPolicy;

/// Decides about the From fields of a message by their values, which have no line ends. Returns the fields that stand
/// in their place; `None` if they stay.
///
/// # Errors
/// The policy refuses the message.
pub(super) fn decide(rules: &SenderRules, values: &[Vec<u8>], has_reply_to: bool) -> Result<Option<String>, Refusal> {
    let plain = || Ok(Some(format!("From: {}\r\n", rules.mailbox.path())));
    let [value] = values else {
        return match rules.policy {
            SenderPolicy::Envelope if !values.is_empty() => Ok(None),
            SenderPolicy::Reject if !values.is_empty() => Err(Refusal::UnreadableSender),
            _ => plain(),
        };
    };
    match (rules.policy, Mailbox::parse(value)) {
        (SenderPolicy::Envelope, _) => Ok(None),
        (_, Some(mailbox)) if rules.allows(&mailbox.address) => Ok(None),
        (SenderPolicy::Pass | SenderPolicy::Reject, Some(mailbox)) => Err(Refusal::Sender(mailbox.address)),
        (SenderPolicy::Reject, None) => Err(Refusal::UnreadableSender),
        (SenderPolicy::Rewrite, Some(mailbox)) => Ok(Some(mailbox.replaced(rules, has_reply_to))),
        (SenderPolicy::Rewrite | SenderPolicy::Pass, None) => plain(),
    }
}

/// Returns whether a field like Sender has one address, and the sender policy allows it.
pub(super) fn names(rules: &SenderRules, value: &[u8]) -> bool {
    Mailbox::parse(value).is_some_and(|mailbox| rules.allows(&mailbox.address))
}

/// One mailbox: perhaps a display name, and an address (RFC 5322 §3.4).
struct Mailbox {
    name: Vec<Word>,
    address: Address,
}

impl Mailbox {
    fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        if value.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t') {
            return None;
        }
        if let Some(address) = Address::parse(value) {
            return Some(Self { name: Vec::new(), address });
        }
        let (mut name, mut rest) = (Vec::new(), value);
        loop {
            rest = rest.trim_ascii_start();
            match rest {
                [b'<', address @ ..] => {
                    let address = address.strip_suffix(b">")?.trim_ascii();
                    return Some(Self { name, address: Address::parse(address)? });
                }
                [b'"', quoted @ ..] => {
                    let (text, len) = unquoted(quoted)?;
                    name.push(Word::Quoted(text));
                    rest = quoted.get(len..)?;
                }
                [] | [b'(' | b')' | b',' | b':' | b';' | b'>', ..] => return None,
                _ => {
                    let end = rest.iter().position(|octet| b" \t\"<>(),:;".contains(octet)).unwrap_or(rest.len());
                    let (atom, behind) = rest.split_at_checked(end)?;
                    name.push(Word::Atom(atom.to_vec()));
                    rest = behind;
                }
            }
        }
    }

    /// Returns the fields with the account's mailbox in place of this one. The display name stays if it names nobody
    /// else, and replies go to the old address.
    fn replaced(&self, rules: &SenderRules, has_reply_to: bool) -> String {
        let mailbox = rules.mailbox.path();
        let from = match display_name::kept(&self.name) {
            Some(name) => format!("From: {name} {mailbox}\r\n"),
            None => format!("From: {mailbox}\r\n"),
        };
        let can_reply = !has_reply_to && self.address.domain().is_some();
        let reply_to = if can_reply { format!("Reply-To: {}\r\n", self.address.path()) } else { String::new() };
        from + &reply_to
    }
}

/// Reads the quoted string behind its first quote. Returns its text, and its length with the last quote.
fn unquoted(quoted: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut text, mut is_escaped) = (Vec::new(), false);
    for (at, octet) in quoted.iter().enumerate() {
        match octet {
            b'\\' if !is_escaped => is_escaped = true,
            b'"' if !is_escaped => return Some((text, at + 1)),
            _ => {
                is_escaped = false;
                text.push(*octet);
            }
        }
    }
    None
}
