//! The envelope (RFC 5321 §2.3.1) as it goes up: MAIL and RCPT written anew from what could be read of the device's.

use super::capability::Extensions;
use super::content::{Refusal, TOO_BIG};
use super::path::{Address, Mail, Recipient};
use super::rules::SessionRules;
use super::sender::{SENDER_REFUSED, SenderRules};
use crate::failure::{Failure, Kind, Refuser};
use crate::submission::{Bound, RecipientCounts, Reservation};

/// A command that goes no further.
pub(super) struct Stopped {
    /// The reply for the device.
    pub(super) reply: &'static str,
    /// The failure for the log, where an operator may have to act.
    pub(super) failure: Option<Failure>,
}

impl From<&'static str> for Stopped {
    fn from(reply: &'static str) -> Self {
        Self { reply, failure: None }
    }
}

impl From<&Refusal> for Stopped {
    fn from(refusal: &Refusal) -> Self {
        let failure = match refusal {
            Refusal::Sender(address) => sender_refused(address),
            Refusal::UnreadableSender => by_rules(Kind::SenderRefused, "its From field has more than one, or none"),
            Refusal::HeadTooLong => by_rules(
                Kind::MessageRefused,
                "its header fields are longer than 65536 octets, and its sender cannot be checked: give it fewer \
                 recipients at a time, or set sender = \"envelope\" at the account",
            ),
            Refusal::TooBig => too_big(),
            Refusal::BareLineEnd => by_rules(
                Kind::MessageRefused,
                "it has a bare CR or LF, or a NUL, and the account has bare_line_ends = \"refuse\"",
            ),
        };
        Self { reply: refusal.reply(), failure: Some(failure) }
    }
}

/// Returns the failure of a sender that the account's rules do not allow.
pub(super) fn sender_refused(address: &Address) -> Failure {
    let advice = "if the mailbox may send as it, write it into senders of the account; or set sender = \"rewrite\"";
    by_rules(Kind::SenderRefused, format!("the device gives {address}: {advice}"))
}

/// Returns the failure of a message that the account's rules refuse.
fn by_rules(kind: Kind, detail: impl Into<String>) -> Failure {
    Failure { message_refused_by: Some(Refuser::Rules), ..Failure::new(kind, detail) }
}

fn too_big() -> Failure {
    let detail = "max_message_size of the listener is lower: scan with a lower resolution, or raise the key";
    by_rules(Kind::MessageTooBig, detail)
}

/// Writes MAIL for the server.
///
/// # Errors
/// The reply for the device, where the command goes no further.
pub(super) fn mail(
    arguments: &[u8],
    rules: &SessionRules,
    server: Extensions,
    largest: u64,
    out: &mut Vec<u8>,
) -> Result<(), Stopped> {
    let is_replaced = rules.content.sender.as_ref().is_some_and(SenderRules::replaces);
    let mail = if is_replaced { Mail::parse_replaced(arguments) } else { Mail::parse(arguments) };
    let mail = mail.map_err(|mistake| mistake.reply())?;
    if mail.size.is_some_and(|size| size > largest) {
        return Err(Stopped { reply: TOO_BIG, failure: Some(too_big()) });
    }
    let sender = match &rules.content.sender {
        Some(sender) => Some(
            sender
                .envelope(mail.sender.as_ref())
                .ok_or_else(|| Stopped { reply: SENDER_REFUSED, failure: mail.sender.as_ref().map(sender_refused) })?,
        ),
        None => mail.sender.as_ref(),
    };
    out.extend_from_slice(b"MAIL FROM:");
    out.extend_from_slice(sender.map_or_else(|| "<>".to_owned(), |address| address.path()).as_bytes());
    if let Some(size) = mail.size.filter(|_| server.size) {
        out.extend_from_slice(format!(" SIZE={size}").as_bytes());
    }
    // Nobody knows yet whether the message has eight bits; a server that takes them takes seven as well.
    if server.eight_bit {
        out.extend_from_slice(b" BODY=8BITMIME");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes RCPT for the server, and reserves its recipient. A trial has one recipient, the mailbox, for all that the device
/// gives: those behind the first one are answered here.
///
/// # Errors
/// The reply for the device, where the command goes no further. Nothing is reserved then.
pub(super) fn rcpt(
    arguments: &[u8],
    rules: &SessionRules,
    taken: u32,
    reserved: &mut Reservation,
    out: &mut Vec<u8>,
) -> Result<(), Stopped> {
    let Recipient { address } = Recipient::parse(arguments).map_err(|mistake| mistake.reply())?;
    if rules.recipients.as_ref().is_some_and(|list| !list.allows(&address)) {
        let domain = address.domain().unwrap_or("no domain");
        let detail =
            format!("one at {domain}; recipients of the device, its account or [submission] says where it may send");
        let failure = Some(Failure::new(Kind::RecipientRefused, detail));
        return Err(Stopped { reply: "550 5.7.1 this login may not send to this recipient", failure });
    }
    if rules.delivered_to.is_some() && taken > 0 {
        return Err("250 2.1.5 recipient OK".into());
    }
    reserved.add().map_err(over_quota)?;
    out.extend_from_slice(b"RCPT TO:");
    out.extend_from_slice(rules.delivered_to.as_ref().unwrap_or(&address).path().as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Stops a message of a device that may send to no recipient any more.
///
/// # Errors
/// The reply to MAIL (RFC 5321 §4.2.3: 450 passes by itself).
pub(super) fn check_device(rules: &SessionRules) -> Result<(), Stopped> {
    let is_reached = rules.quota.reached() == Some(Bound::Device);
    let failure = || Failure { message_refused_by: Some(Refuser::Rules), ..Failure::new(Kind::DeviceQuota, PER_HOUR) };
    if is_reached { Err(Stopped { reply: DEVICE_OVER_QUOTA, failure: Some(failure()) }) } else { Ok(()) }
}

/// Returns how a recipient over a bound is refused.
fn over_quota(bound: Bound) -> Stopped {
    let (reply, failure) = match bound {
        Bound::Mailbox => (
            MAILBOX_RECIPIENT,
            Failure::new(
                Kind::SubmissionQuota,
                "submission.recipients_per_day is reached, and submission.refuse_over_recipients_per_day is true; give \
                 devices that send much a mailbox of their own",
            ),
        ),
        Bound::Device => (DEVICE_RECIPIENT, Failure::new(Kind::DeviceQuota, PER_HOUR)),
    };
    Stopped { reply, failure: Some(failure) }
}

/// The replies to a recipient over a bound (RFC 5321 §4.2.3: 452 passes by itself).
const MAILBOX_RECIPIENT: &str =
    "452 4.5.3 the mailbox has sent to as many recipients as it may in 24 hours, try again later";
const DEVICE_RECIPIENT: &str =
    "452 4.5.3 this device has sent to as many recipients as it may in an hour, try again later";
/// The keys of the bound of a device.
const PER_HOUR: &str =
    "submission.recipients_per_hour_of_device says how many, unless the device's section has recipients_per_hour";
/// The reply to MAIL of a device that is over its bound.
const DEVICE_OVER_QUOTA: &str =
    "450 4.7.1 this device has sent to as many recipients as it may in an hour, try again later";
