//! The envelope (RFC 5321 §2.3.1) as it goes up: MAIL and RCPT written anew from what could be read of the device's.

use super::capability::{Extensions, LARGEST};
use super::path::{Mail, Recipient};
use super::sender::SENDER_REFUSED;
use super::terms::SubmissionTerms;

/// Writes MAIL for the server.
///
/// # Errors
/// The reply for the device, where the command goes no further.
pub(super) fn mail(
    arguments: &[u8],
    terms: &SubmissionTerms,
    server: Extensions,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let mail = Mail::parse(arguments).map_err(|mistake| mistake.reply())?;
    if mail.size.is_some_and(|size| size > LARGEST) {
        return Err("552 5.3.4 the message is too big");
    }
    let sender = match &terms.sender {
        Some(rules) => Some(rules.envelope(mail.sender.as_ref()).ok_or(SENDER_REFUSED)?),
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

/// Writes RCPT for the server.
///
/// # Errors
/// The reply for the device, where the command goes no further.
pub(super) fn rcpt(arguments: &[u8], terms: &SubmissionTerms, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let Recipient { address } = Recipient::parse(arguments).map_err(|mistake| mistake.reply())?;
    if terms.recipients.as_ref().is_some_and(|list| !list.allows(&address)) {
        return Err("550 5.7.1 this login may not send to this recipient");
    }
    out.extend_from_slice(b"RCPT TO:");
    out.extend_from_slice(address.path().as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}
