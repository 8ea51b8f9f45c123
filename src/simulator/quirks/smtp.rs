//! Quirks of submission are the delays, limits, switches and faults of Exchange Online's SMTP, and servers that are more
//! lenient than it.

use std::time::Duration;

/// Quirks of submission by SMTP. The default is Exchange Online without its delays.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// The greeting has a number in brackets behind it, as since 2025.
    pub greeting_number: bool,
    /// STARTTLS is offered.
    pub starttls: bool,
    /// Octets in clear behind the response to STARTTLS, in the same write, as an attacker puts them there.
    pub starttls_injection: Option<String>,
    /// Extensions that the response to EHLO leaves out, and that are refused, as `8BITMIME`.
    pub left_out: Vec<String>,
    /// More lines in the response to EHLO.
    pub more_extensions: Vec<String>,
    /// `AUTH PLAIN` is offered, as by servers other than Exchange.
    pub plain: bool,
    /// The password of a user opens the mailbox by LOGIN and PLAIN, as before the end of basic authentication.
    pub passwords: bool,
    /// The empty challenge is `334 ` rather than `334`.
    pub challenge_space: bool,
    /// A refused XOAUTH2 first gets the reason in a challenge of JSON, as Google does it.
    pub json_challenge: bool,
    /// The reason for which every login is refused.
    pub login_refusal: Option<LoginRefusal>,
    /// The delay before a login is refused. Exchange takes 5 to 7 seconds.
    pub refusal_delay: Duration,
    /// The delay before an unknown command is refused. Exchange takes 5 seconds.
    pub unknown_delay: Duration,
    /// The size that EHLO announces, which no message may exceed.
    pub size: usize,
    /// The largest message of a mailbox, in octets (`MaxSendSize`).
    pub max_send_size: usize,
    /// The most recipients of a message.
    pub recipients_per_message: usize,
    /// The most sessions of a mailbox that are logged in at a time.
    pub connections: usize,
    /// The messages a minute and mailbox; more are slowed down.
    pub messages_per_minute: Option<usize>,
    /// The most recipients of a mailbox a day.
    pub recipients_per_day: usize,
    /// The number of errors of the same kind in a row after which a mailbox is throttled.
    pub errors_before_throttle: Option<u32>,
    /// The words with which a sender without permission is refused.
    pub denial: Denial,
    /// No mailbox may send, not even as itself, as after a right has been withdrawn.
    pub sends_as_nobody: bool,
    /// Whether the mailbox of every sender is full.
    pub mailbox_full: bool,
    /// A message with a bare LF is accepted, and a report comes back to the mailbox (`550 5.6.11`).
    pub bounces_bare_lf: bool,
    /// The delay between the end of the data and the response to it.
    pub final_delay: Duration,
    /// The time from connection to the end of the session.
    pub session_life: Duration,
    /// Faults in place of responses.
    pub faults: Vec<SmtpFault>,
    /// Octets that end the data besides CRLF `.` CRLF. [`LENIENT_ENDS`] has those of known servers.
    pub also_ends_data: Vec<Vec<u8>>,
    /// The ends of command lines.
    pub command_ends: CommandEnds,
    /// The most octets of a message that are kept; of a longer one only the length.
    pub kept_octets: usize,
}

/// The reason for which a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// Token, user or permission do not fit.
    Unsuccessful,
    /// SMTP AUTH is switched off for the tenant.
    DisabledForTenant,
    /// SMTP AUTH is switched off for the mailbox.
    DisabledForMailbox,
    /// The tenant has security defaults.
    SecurityDefaults,
    /// An authentication policy or Conditional Access refuses.
    Criteria,
    /// Basic authentication is disabled.
    BasicDisabled,
    /// Basic authentication is gone from client submission.
    BasicGone,
}

/// The words for "may not send as this sender".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denial {
    /// `550 5.7.60`
    #[default]
    Permissions,
    /// `554 5.2.252`
    SendAsDenied,
    /// `554 5.2.0`
    StoreDriver,
}

/// The moment of a fault: the command whose response it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpMoment {
    /// The greeting.
    Greeting,
    /// EHLO and HELO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// The end of the login.
    Login,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// The end of the data.
    EndOfData,
    /// RSET.
    Reset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
}

/// A fault in place of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpFault {
    /// When.
    pub moment: SmtpMoment,
    /// The response, without its last line end; none for no response.
    pub reply: Option<String>,
    /// The fate of the connection after the response.
    pub then: Afterwards,
    /// At the end of the data: the message is delivered all the same.
    pub is_kept: bool,
    /// How many times; `None` for always.
    pub times: Option<u32>,
}

/// The fate of the connection after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// The session continues.
    Continue,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// The server says nothing more.
    Hang,
}

/// The ends of command lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommandEnds {
    /// CRLF alone.
    #[default]
    Strict,
    /// CRLF and a bare LF.
    BareLf,
    /// CRLF, a bare LF and a bare CR.
    BareCr,
}

/// Ends of data that some servers have taken for the end, or that researchers have tried: name and octets.
pub const LENIENT_ENDS: [(&str, &[u8]); 18] = [
    ("LF.LF", b"\n.\n"),
    ("LF.CRLF", b"\n.\r\n"),
    ("CRLF.LF", b"\r\n.\n"),
    ("CR.CR", b"\r.\r"),
    ("CR.CRLF", b"\r.\r\n"),
    ("CRLF.CR", b"\r\n.\r"),
    ("CR.LF", b"\r.\n"),
    ("LF.CR", b"\n.\r"),
    ("CRLF.CRCRLF", b"\r\n.\r\r\n"),
    ("CRCRLF.CRCRLF", b"\r\r\n.\r\r\n"),
    ("CRLF.NULCRLF", b"\r\n.\0\r\n"),
    ("CRLFNUL.CRLF", b"\r\n\0.\r\n"),
    ("LF.NULCRLF", b"\n.\0\r\n"),
    ("CRLFNUL.NULCRLF", b"\r\n\0.\0\r\n"),
    ("CRLF.NULtextCRLF", b"\r\n.\0text\r\n"),
    ("CRLF.CRNULLF", b"\r\n.\r\0\n"),
    ("CRNULLF.CRNULLF", b"\r\0\n.\r\0\n"),
    ("LFCR.LFCR", b"\n\r.\n\r"),
];

impl Smtp {
    /// Exchange Online with its delays.
    pub fn with_delays() -> Self {
        Self {
            refusal_delay: Duration::from_secs(6),
            unknown_delay: Duration::from_secs(5),
            messages_per_minute: Some(30),
            ..Self::default()
        }
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            greeting_number: true,
            starttls: true,
            starttls_injection: None,
            left_out: Vec::new(),
            more_extensions: Vec::new(),
            plain: false,
            passwords: false,
            challenge_space: true,
            json_challenge: false,
            login_refusal: None,
            refusal_delay: Duration::ZERO,
            unknown_delay: Duration::ZERO,
            size: 157_286_400,
            max_send_size: 35 * 1024 * 1024,
            recipients_per_message: 500,
            connections: 3,
            messages_per_minute: None,
            recipients_per_day: 10_000,
            // Exchange does not publish its number.
            errors_before_throttle: None,
            denial: Denial::Permissions,
            sends_as_nobody: false,
            mailbox_full: false,
            bounces_bare_lf: true,
            final_delay: Duration::ZERO,
            session_life: Duration::from_secs(600),
            faults: Vec::new(),
            also_ends_data: Vec::new(),
            command_ends: CommandEnds::Strict,
            kept_octets: 256 * 1024 * 1024,
        }
    }
}

impl SmtpFault {
    /// This response at every such moment; the session continues.
    pub fn reply(moment: SmtpMoment, reply: &str) -> Self {
        Self { moment, reply: Some(reply.to_owned()), then: Afterwards::Continue, is_kept: false, times: None }
    }

    /// No response at such a moment.
    pub fn silent(moment: SmtpMoment, then: Afterwards) -> Self {
        Self { moment, reply: None, then, is_kept: false, times: None }
    }

    /// The same, and the connection ends in this way behind it.
    #[must_use]
    pub fn then(self, then: Afterwards) -> Self {
        Self { then, ..self }
    }

    /// The same, and the message is delivered.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { is_kept: true, ..self }
    }

    /// The same, and only so many times.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }
}
