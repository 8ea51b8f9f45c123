//! A server's refusal of a message: what it means, what the device hears, and who has to do what.
//!
//! RFC 5321 §4.2 wants a client to act by the code alone. Exchange Online answers with 5xx what passes by itself, so a
//! text that is known decides first, then the enhanced status code, then the first digit.

// A span of time is a value; the clocks of std::time are not for this floor.
use core::time::Duration;

use super::reply::ReplyLine;
use crate::failure::{Failure, Kind, Refuser, RepeatedError};
use crate::text::excerpt;

/// The command that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// MAIL, DATA, or the message at the end of its data.
    Message,
    /// One recipient. The others may be taken.
    Recipient,
}

/// The meaning of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The failure for the log. It says what to do.
    pub(super) failure: Failure,
    /// The reply for the device in place of the server's own, where that would mislead it.
    pub(super) reply: Option<&'static str>,
}

/// The meaning of a refusal for a client without a device that could be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Judged {
    /// The failure for log and metrics. It says what to do, and for how long the server throttles the mailbox.
    pub failure: Failure,
    /// The same message may be taken later.
    pub passes: bool,
}

/// Reads a negative reply as a session with a device does: what the device would try again passes. `None` where it is no
/// reply.
pub fn judge(refused: Refused, reply: &str) -> Option<Judged> {
    let reply = ReplyLine::read(reply.as_bytes())?;
    let Meaning { failure, reply: own } = of(refused, &reply);
    let passes = own.map_or(reply.is_transient(), |own| own.starts_with('4'));
    Some(Judged { failure, passes })
}

/// Reads a negative reply.
pub(super) fn of(refused: Refused, reply: &ReplyLine<'_>) -> Meaning {
    let row = KNOWN.iter().find(|row| row.fits(refused, reply));
    let (kind, advice) = match (row, refused) {
        (Some(row), _) => (row.kind, row.advice),
        (None, _) if reply.is_transient() => (Kind::MessageDeferred, ""),
        (None, Refused::Recipient) => (Kind::RecipientRefused, ""),
        (None, Refused::Message) => (Kind::MessageRefused, ""),
    };
    let separator = if advice.is_empty() { "" } else { ": " };
    let detail = format!("the mail server said \"{} {}\"{separator}{advice}", reply.code, excerpt(reply.text));
    let retry_after = row.and_then(|row| row.retry_after);
    let message_refused_by = (refused == Refused::Message).then_some(Refuser::MailServer);
    // 500 to 504 are about the command (RFC 5321 §4.2.2), and say nothing of the address.
    let is_unknown = refused == Refused::Recipient && kind == Kind::RecipientRefused && reply.code >= 550;
    let repeated = row.and_then(|row| row.repeated).or(is_unknown.then_some(RepeatedError::Recipient));
    let failure = Failure { retry_after, message_refused_by, repeated, ..Failure::new(kind, detail) };
    Meaning { failure, reply: row.and_then(|row| row.reply) }
}

/// A refusal that is known.
struct Row {
    /// The reply code; 0 where any is meant.
    code: u16,
    /// The enhanced status code, or a text; one is enough, and an empty one is none.
    enhanced: &'static str,
    text: &'static str,
    kind: Kind,
    advice: &'static str,
    reply: Option<&'static str>,
    retry_after: Option<Duration>,
    /// The error for which the mailbox is throttled where it is repeated.
    repeated: Option<RepeatedError>,
}

impl Row {
    const fn new(kind: Kind, advice: &'static str) -> Self {
        Self { code: 0, enhanced: "", text: "", kind, advice, reply: None, retry_after: None, repeated: None }
    }

    const fn text(self, text: &'static str) -> Self {
        Self { text, ..self }
    }

    const fn enhanced(self, enhanced: &'static str) -> Self {
        Self { enhanced, ..self }
    }

    const fn code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    const fn repeats(self, error: RepeatedError) -> Self {
        Self { repeated: Some(error), ..self }
    }

    const fn answered(self, reply: &'static str) -> Self {
        Self { reply: Some(reply), ..self }
    }

    const fn after(self, minutes: u64) -> Self {
        Self { retry_after: Some(Duration::from_secs(minutes * 60)), ..self }
    }

    fn fits(&self, refused: Refused, reply: &ReplyLine<'_>) -> bool {
        // At RCPT a full mailbox and a size are those of the recipient (RFC 3463 §3.3), and the text may be the address.
        let is_about_recipient = refused == Refused::Recipient;
        if is_about_recipient && matches!(self.kind, Kind::MailboxFull | Kind::MessageTooBig) {
            return false;
        }
        let has_text = !self.text.is_empty() && !is_about_recipient && reply.says_beside_addresses(self.text);
        let has_enhanced = !self.enhanced.is_empty() && reply.enhanced() == self.enhanced;
        (self.code == 0 || self.code == reply.code) && (has_text || has_enhanced)
    }
}

const SEND_AS: &str = "the mailbox may not send as this sender: keep sender = \"rewrite\", or grant it SendAs \
                       (Add-RecipientPermission)";
const FULL: &str = "empty the mailbox, above all its Sent Items";
const LICENSE: &str = "the mailbox has no license to send";
const MANY: &str = "send to a distribution list";
const NOBODY: &str = "correct the address in the device's address book";
const TOO_BIG: &str = "scan with a lower resolution, or raise the mailbox's MaxSendSize (Set-Mailbox)";
const THROTTLED: &str = "Exchange Online takes nothing from this mailbox for a while, because the same error came again \
                         and again: mend that first";
const QUOTA: &str = "the day's number of recipients is used up; give devices that send much a mailbox of their own";
const BLOCKED: &str =
    "the mailbox is blocked for sending spam: see Restricted entities in the Microsoft Defender portal";
const TENANT: &str = "Exchange Online takes no mail from this organization at present: ask Microsoft's support";

/// The refusals of Exchange Online.
const KNOWN: &[Row] = &[
    Row::new(Kind::SenderRefused, SEND_AS)
        .text("SendAsDenied")
        .repeats(RepeatedError::Sender)
        .answered("550 5.7.1 the mailbox may not send as this sender"),
    Row::new(Kind::SenderRefused, SEND_AS)
        .enhanced("5.7.60")
        .text("does not have permissions to send as this sender")
        .repeats(RepeatedError::Sender)
        .answered("550 5.7.1 the mailbox may not send as this sender"),
    throttled("5.2.251"),
    throttled("5.2.252"),
    throttled("5.2.253"),
    throttled("5.2.254"),
    throttled("5.2.255"),
    quota().text("SubmissionQuotaExceeded"),
    quota().enhanced("5.7.233"),
    quota().enhanced("5.7.236"),
    Row::new(Kind::MailboxFull, FULL)
        .enhanced("5.2.2")
        .repeats(RepeatedError::MailboxFull)
        .answered("452 4.2.2 the mailbox is full"),
    // Behind 550 these numbers are the throttle for the error.
    Row::new(Kind::MessageRefused, LICENSE).code(554).enhanced("5.2.253").repeats(RepeatedError::License),
    Row::new(Kind::MessageRefused, MANY).code(554).enhanced("5.2.254").repeats(RepeatedError::TooManyRecipients),
    Row::new(Kind::MessageRefused, NOBODY).code(554).enhanced("5.2.255").repeats(RepeatedError::Recipient),
    Row::new(Kind::RecipientRefused, MANY).code(550).enhanced("5.5.3").repeats(RepeatedError::TooManyRecipients),
    Row::new(Kind::MessageTooBig, TOO_BIG).enhanced("5.3.4").answered("552 5.3.4 the message is too big"),
    Row::new(Kind::MessageTooBig, TOO_BIG).enhanced("5.2.3").answered("552 5.3.4 the message is too big"),
    Row::new(Kind::MessageDeferred, "the mailbox has too many connections at a time")
        .text("Concurrent connections limit exceeded")
        .answered("451 4.3.2 the mailbox is busy, try again later"),
    Row::new(Kind::MessageDeferred, "the mailbox has too many connections at a time")
        .text("STOREDRV.ClientSubmit")
        .answered("451 4.3.2 the mailbox is busy, try again later"),
    Row::new(Kind::MessageDeferred, "")
        .enhanced("4.7.500")
        .answered("451 4.7.1 the mail server is busy, try again later")
        .after(5),
    Row::new(Kind::MessageRefused, BLOCKED).enhanced("5.1.8"),
    Row::new(Kind::MessageRefused, BLOCKED).enhanced("5.7.501"),
    Row::new(Kind::MessageRefused, BLOCKED).enhanced("5.7.502"),
    Row::new(Kind::MessageRefused, BLOCKED).enhanced("5.7.503"),
    Row::new(Kind::MessageRefused, TENANT).enhanced("5.7.705"),
    Row::new(Kind::MessageRefused, TENANT).enhanced("5.7.708"),
    Row::new(Kind::MessageRefused, TENANT).enhanced("5.7.750"),
];

/// The throttle for a mailbox that repeats an error. 554 with the same enhanced code is the error itself.
const fn throttled(enhanced: &'static str) -> Row {
    Row::new(Kind::MailboxThrottled, THROTTLED)
        .code(550)
        .enhanced(enhanced)
        .answered("451 4.7.1 the mailbox is throttled, try again later")
        .after(30)
}

const fn quota() -> Row {
    Row::new(Kind::SubmissionQuota, QUOTA).answered("451 4.7.1 the mailbox has sent enough for today").after(15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_exchange_online_has_its_reply() {
        use Kind::{
            MailboxFull, MailboxThrottled, MessageDeferred, MessageRefused, MessageTooBig, RecipientRefused,
            SenderRefused, SubmissionQuota,
        };
        for (line, refused, kind, reply) in [
            (
                "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
                Refused::Message,
                SenderRefused,
                Some("550 5.7.1"),
            ),
            (
                "554 5.2.252 SendAsDenied; a@b not allowed to send as c@d; STOREDRV.Submission.Exception",
                Refused::Message,
                SenderRefused,
                Some("550 5.7.1"),
            ),
            (
                "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException",
                Refused::Message,
                SenderRefused,
                Some("550"),
            ),
            (
                "550 5.2.252 Sender throttled due to continuous errors.",
                Refused::Message,
                MailboxThrottled,
                Some("451 4.7.1"),
            ),
            ("550 5.2.255 Sender throttled", Refused::Message, MailboxThrottled, Some("451 4.7.1")),
            (
                "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
                Refused::Message,
                SubmissionQuota,
                Some("451 4.7.1"),
            ),
            ("550 5.7.233 Your message can't be sent", Refused::Message, SubmissionQuota, Some("451 4.7.1")),
            ("554 5.2.2 mailbox full; STOREDRV", Refused::Message, MailboxFull, Some("452 4.2.2")),
            (
                "552 5.3.4 Message size exceeds fixed maximum message size",
                Refused::Message,
                MessageTooBig,
                Some("552 5.3.4"),
            ),
            ("432 4.3.2 Concurrent connections limit exceeded.", Refused::Message, MessageDeferred, Some("451 4.3.2")),
            ("451 4.7.500 Server busy.", Refused::Message, MessageDeferred, Some("451 4.7.1")),
            ("550 5.1.8 Access denied, bad outbound sender", Refused::Message, MessageRefused, None),
            ("451 4.3.111 Please try again later MRH1", Refused::Message, MessageDeferred, None),
            ("554 5.6.0 Message content rejected", Refused::Message, MessageRefused, None),
            ("550 5.1.1 User unknown", Refused::Recipient, RecipientRefused, None),
            ("452 4.5.3 Too many recipients", Refused::Recipient, MessageDeferred, None),
        ] {
            let meaning = of(refused, &ReplyLine::read(line.as_bytes()).unwrap());
            assert_eq!(meaning.failure.kind, kind, "{line}");
            match (meaning.reply, reply) {
                (Some(own), Some(begins)) => assert!(own.starts_with(begins), "{line}: {own}"),
                (own, expected) => assert_eq!(own, expected, "{line}"),
            }
        }
    }

    /// A mailbox that is throttled is left alone, with all its devices: no device may bring that about by an address that
    /// the server repeats.
    #[test]
    fn an_address_that_the_server_repeats_means_nothing() {
        for row in KNOWN.iter().filter(|row| !row.text.is_empty() && !row.text.contains(' ')) {
            let text = row.text;
            for line in [
                format!("550 5.1.1 <{text}@contoso.example>: Recipient address rejected"),
                format!("550 5.1.1 <{text}>: Recipient address rejected"),
                format!("550 5.1.1 {text}@contoso.example unknown"),
                format!("550 5.1.1 unknown: \"{text}\"@contoso.example"),
                format!("550 5.1.1 To:<@a.example:{text}@contoso.example>... unknown"),
                format!("550 5.1.1 <a!{text}> unknown"),
                format!("550 5.1.1 unknown user <{text}>"),
                format!("550 5.1.1 {text}: unknown user"),
                format!("550 5.1.1 unknown user {text}"),
                format!("550 5.1.1 user '{text}' unknown"),
                format!("550 {text}"),
            ] {
                let meaning = of(Refused::Recipient, &ReplyLine::read(line.as_bytes()).unwrap());
                assert_eq!(
                    (meaning.failure.kind, meaning.failure.retry_after, meaning.reply),
                    (Kind::RecipientRefused, None, None),
                    "{line}"
                );
            }
            for line in
                [format!("550 5.1.8 <{text}@b.example> rejected"), format!("550 5.1.8 {text}@b.example rejected")]
            {
                let meaning = of(Refused::Message, &ReplyLine::read(line.as_bytes()).unwrap());
                assert_eq!((meaning.failure.kind, meaning.failure.retry_after), (Kind::MessageRefused, None), "{line}");
            }
        }
    }

    /// At RCPT, a full mailbox is that of the recipient: no Sent Items of the sender's help, and nothing passes by itself.
    #[test]
    fn a_recipient_s_full_mailbox_is_not_the_sender_s() {
        for line in [
            "552 5.2.2 <a@contoso.example>: mailbox is full",
            "550 5.2.3 message too long",
            "552 5.3.4 message too big",
        ] {
            let meaning = of(Refused::Recipient, &ReplyLine::read(line.as_bytes()).unwrap());
            assert_eq!((meaning.failure.kind, meaning.reply), (Kind::RecipientRefused, None), "{line}");
            assert!(!meaning.failure.detail.contains("Sent Items"), "{}", meaning.failure.detail);
        }
        let throttled = of(Refused::Recipient, &ReplyLine::read(b"550 5.2.254 Sender throttled").unwrap());
        assert_eq!(throttled.failure.kind, Kind::MailboxThrottled);
    }

    /// A client of the spool tries again what a device would: Exchange Online has 5xx for what passes by itself.
    #[test]
    fn what_passes_is_what_a_device_would_try_again() {
        for (line, passes, minutes) in [
            ("550 5.2.252 Sender throttled due to continuous errors.", true, Some(30)),
            ("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", true, Some(15)),
            ("554 5.2.2 mailbox full; STOREDRV", true, None),
            ("451 4.7.500 Server busy.", true, Some(5)),
            ("451 4.3.2 later", true, None),
            ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", false, None),
            ("554 5.6.0 no", false, None),
        ] {
            let judged = judge(Refused::Message, line).unwrap();
            let expected = (passes, minutes.map(|minutes| Duration::from_secs(60 * minutes)));
            assert_eq!((judged.passes, judged.failure.retry_after), expected, "{line}");
        }
        assert_eq!(judge(Refused::Message, "?"), None);
    }

    #[test]
    fn each_reply_of_ours_agrees_with_its_enhanced_code() {
        for row in KNOWN {
            let Some(reply) = row.reply else { continue };
            let line = ReplyLine::read(reply.as_bytes()).unwrap();
            assert_eq!(line.enhanced().split('.').next().unwrap(), (line.code / 100).to_string(), "{reply}");
        }
    }
}
