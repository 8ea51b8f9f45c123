//! Failures say why a connection or a login came to nothing: whose side it was, and what kind of failure.
//!
//! Each kind is one row of the table below. The row says what the device is told ([`Kind::reply`]), how loud the log is
//! ([`Kind::level`]), which counter counts it ([`Kind::counter`]), and how a metric is labelled ([`Kind::label`]).

mod message_refusal;

use std::fmt;
use std::time::Duration;

pub use message_refusal::{Refuser, RepeatedError};

/// The sides of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The side of the device.
    Downstream,
    /// The side of the mail server.
    Upstream,
}

/// One failure: its kind, and what a person needs to know to mend it.
///
/// The detail never holds a password, a token or mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of the failure.
    pub kind: Kind,
    /// The particulars, in plain words.
    pub detail: String,
    /// The time for which the peer throttles us.
    pub retry_after: Option<Duration>,
    /// The part of the device's TLS offer to blame, where a handshake failed on one.
    pub mismatch: Option<Mismatch>,
    /// The peer closed its connection without a word: by a reset, or in the middle of something.
    pub is_abrupt: bool,
    /// The device's TLS alert says that it does not accept the certificate.
    pub refuses_certificate: bool,
    /// A whole message is refused, and by whom.
    pub message_refused_by: Option<Refuser>,
    /// Waiting cannot change it: a person has to act first.
    pub is_final: bool,
    /// The mail server throttles the whole mailbox if this error comes again and again.
    pub repeated: Option<RepeatedError>,
}

/// The part of a device's TLS offer that the listener does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The newest version is too old.
    Version,
    /// None of the cipher suites can be used.
    CipherSuites,
    /// The ClientHello is in SSLv2 format.
    Format,
}

impl Failure {
    /// A failure of this kind with its particulars.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
            mismatch: None,
            is_abrupt: false,
            refuses_certificate: false,
            message_refused_by: None,
            is_final: false,
            repeated: None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            f.write_str(self.kind.meaning())
        } else {
            write!(f, "{}: {}", self.kind.meaning(), self.detail)
        }
    }
}

impl std::error::Error for Failure {}

/// The reply to a device whose login fails, with the codes of RFC 5530 §3, RFC 2449 §8 and RFC 3206.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// User name or password is wrong.
    BadCredentials,
    /// Known, but not let in.
    NotAuthorized,
    /// Try again later.
    Unavailable,
    /// Try again later, because nobody is let in yet.
    Observed,
    /// Try again later, because too many try to log in.
    NotVerified,
    /// Trying again will not help; a person has to act.
    ContactAdmin,
    /// Someone else has the mailbox open.
    InUse,
}

/// The log level of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The operator has something to mend.
    Warn,
    /// The event is worth a line.
    Info,
    /// The event matters to a closer look alone.
    Debug,
}

/// The counter of a listener that a kind belongs to. The kind is there from the start, at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections that are refused before they are admitted.
    Refused,
    /// Handshakes with devices that fail.
    Handshake,
    /// Logins that fail.
    Login,
    /// Connections that have ended. Their reasons alone are there only once a connection has ended for them.
    Session,
}

/// The properties of a kind.
struct Row {
    side: Option<Side>,
    reply: Reply,
    level: Level,
    counter: Counter,
    label: &'static str,
    meaning: &'static str,
}

impl Kind {
    /// Returns the side that is to blame; `None` where it is our own.
    pub fn side(self) -> Option<Side> {
        self.row().side
    }

    /// Returns the reply to a device whose login fails in this way.
    pub fn reply(self) -> Reply {
        self.row().reply
    }

    /// Returns the level of the log line.
    pub fn level(self) -> Level {
        self.row().level
    }

    /// Returns the counter of a listener that the kind belongs to.
    pub fn counter(self) -> Counter {
        self.row().counter
    }

    /// Returns a short stable word for machines: metric labels, JSON logs.
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// Returns the kind in plain words, as a log line begins.
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }
}

/// Makes the enum, the list of all kinds and the row of each from one table, so that a kind is written down once.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $kind:ident: $side:expr, $reply:ident, $level:ident, $counter:ident, $label:literal, $meaning:literal;
    )*) => {
        /// Every way in which a connection or a login can fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: [Kind; [$($label),*].len()] = [$(Kind::$kind),*];

            fn row(self) -> Row {
                use Side::{Downstream, Upstream};
                match self {
                    $(Kind::$kind => Row {
                        side: $side,
                        reply: Reply::$reply,
                        level: Level::$level,
                        counter: Counter::$counter,
                        label: $label,
                        meaning: $meaning,
                    },)*
                }
            }
        }
    };
}

// Replies of ContactAdmin: they stay until somebody changes a setting.
kinds! {
    /// The source address is in none of the listener's networks.
    NotAllowed: Some(Downstream), Unavailable, Warn, Refused,
        "not_allowed", "source not in allowed_networks";
    /// A balancer's connection does not begin with the PROXY protocol's header.
    ProxyHeader: Some(Downstream), Unavailable, Warn, Refused,
        "proxy_header", "no PROXY protocol header from the balancer";
    /// The limit of connections in all is reached.
    TooManyConnections: Some(Downstream), Unavailable, Warn, Refused,
        "too_many_connections", "too many connections";
    /// The limit of connections of one source address is reached.
    TooManyFromSource: Some(Downstream), Unavailable, Warn, Refused,
        "too_many_from_source", "too many connections from this source";
    /// Sources that have not logged in began too many TLS handshakes of late.
    TooManyHandshakes: Some(Downstream), Unavailable, Warn, Handshake,
        "too_many_handshakes", "too many TLS handshakes of sources that have not logged in";
    /// The TLS handshake with the device did not come about.
    Handshake: Some(Downstream), Unavailable, Warn, Handshake,
        "handshake", "TLS handshake with the device failed";
    /// The device took too long over the TLS handshake.
    HandshakeTimeout: Some(Downstream), Unavailable, Warn, Handshake,
        "handshake_timeout", "the device took too long over the TLS handshake";
    /// The device went away before it had said anything.
    NothingSaid: Some(Downstream), Unavailable, Debug, Session,
        "nothing_said", "closed before anything was said";
    /// The device's user name or password is not one of those configured here.
    WrongPassword: Some(Downstream), BadCredentials, Warn, Login,
        "wrong_password", "user name or password is wrong";
    /// The device's password was not looked at, because too many logins came before it or at the same time.
    NotVerified: Some(Downstream), NotVerified, Warn, Login,
        "not_verified", "password was not verified";
    /// The device did not log in in time.
    LoginTimeout: Some(Downstream), Unavailable, Info, Session,
        "login_timeout", "the device did not log in in time";
    /// The device tried to log in without TLS, and went away.
    LoginInClear: Some(Downstream), Unavailable, Warn, Session,
        "login_in_clear", "the device tried to log in without TLS";
    /// The device spoke without TLS, where no login is offered to it, and went away.
    SpeaksInClear: Some(Downstream), Unavailable, Warn, Session,
        "speaks_in_clear", "the device speaks without TLS";
    /// The device has begun a message without a login, has heard that it needs one, and has left.
    MailWithoutLogin: Some(Downstream), Unavailable, Warn, Session,
        "mail_without_login", "the device sends mail without a login";
    /// The device was greeted, waited, and sent nothing.
    NoCommand: Some(Downstream), Unavailable, Warn, Session,
        "no_command", "the device sent no command";
    /// The device closed soon after its TLS handshake, and sent nothing.
    LeftAfterHandshake: Some(Downstream), Unavailable, Warn, Session,
        "left_after_handshake", "the device left right after the TLS handshake";
    /// No octets moved for too long after login.
    IdleTimeout: Some(Downstream), Unavailable, Info, Session,
        "idle_timeout", "nothing moved for too long";
    /// A line or literal before login was longer than allowed.
    TooLong: Some(Downstream), Unavailable, Warn, Session,
        "too_long", "line or literal too long before login";
    /// Too many commands before login made no sense.
    TooManyBadCommands: Some(Downstream), Unavailable, Warn, Session,
        "too_many_bad_commands", "too many commands that make no sense";
    /// The device sent its message more slowly than packetboat waits for.
    MessageTooSlow: Some(Downstream), Unavailable, Warn, Session,
        "message_too_slow", "the device took too long over a message";
    /// Plaintext followed STARTTLS or STLS, on either side: command or response injection.
    Injection: None, Unavailable, Warn, Session,
        "injection", "plaintext behind STARTTLS";
    /// The device sent a message although the mail server had refused DATA.
    SentAhead: Some(Downstream), Unavailable, Warn, Session,
        "sent_ahead", "the device sent a message that the mail server had refused to take";
    /// The device's connection broke.
    DeviceLost: Some(Downstream), Unavailable, Info, Session,
        "device_lost", "connection to the device broke";
    /// The mailbox has as many sessions as it may have at a time.
    TooManySessions: Some(Downstream), InUse, Warn, Login,
        "too_many_sessions", "mailbox has as many sessions as it may";
    /// There is no access token, for a reason that passes.
    TokenUnavailable: Some(Upstream), Unavailable, Warn, Login,
        "token_unavailable", "no access token at the moment";
    /// There is no access token, and there will be none until somebody acts.
    TokenRefused: Some(Upstream), ContactAdmin, Warn, Login,
        "token_refused", "no access token until somebody acts";
    /// The mail server's name does not resolve.
    Resolve: Some(Upstream), Unavailable, Warn, Login,
        "resolve", "mail server's name does not resolve";
    /// The mail server cannot be reached.
    Connect: Some(Upstream), Unavailable, Warn, Login,
        "connect", "mail server cannot be reached";
    /// The mail server's certificate is not valid for its name.
    UpstreamCertificate: Some(Upstream), ContactAdmin, Warn, Login,
        "upstream_certificate", "mail server's certificate is not accepted";
    /// The TLS handshake with the mail server failed for another reason.
    UpstreamTls: Some(Upstream), ContactAdmin, Warn, Login,
        "upstream_tls", "TLS handshake with the mail server failed";
    /// The mail server did not greet as its protocol says, or turned us away.
    UpstreamGreeting: Some(Upstream), Unavailable, Warn, Login,
        "upstream_greeting", "mail server turned us away";
    /// The mail server does not do STARTTLS or STLS.
    UpstreamStartTls: Some(Upstream), ContactAdmin, Warn, Login,
        "upstream_starttls", "mail server does not start TLS";
    /// The mail server does not offer the login mechanism that the device uses.
    Mechanism: Some(Upstream), ContactAdmin, Warn, Login,
        "mechanism", "mail server does not offer this way to log in";
    /// The mail server answered with something that is not its protocol.
    UpstreamProtocol: Some(Upstream), Unavailable, Warn, Login,
        "upstream_protocol", "mail server's answer is not understood";
    /// The mail server took too long to answer.
    UpstreamTimeout: Some(Upstream), Unavailable, Warn, Login,
        "upstream_timeout", "mail server did not answer in time";
    /// The mail server closed or broke the connection.
    UpstreamLost: Some(Upstream), Unavailable, Warn, Login,
        "upstream_lost", "mail server closed the connection";
    /// The mail server refused user name or password.
    LoginRefused: Some(Upstream), BadCredentials, Warn, Login,
        "login_refused", "mail server refused user name or password";
    /// The mail server knows the user, but does not let it in.
    NotAuthorized: Some(Upstream), NotAuthorized, Warn, Login,
        "not_authorized", "mail server does not let this user in";
    /// The mail server says that it is the wrong moment.
    Unavailable: Some(Upstream), Unavailable, Warn, Login,
        "unavailable", "mail server is unavailable";
    /// The mail server says that an administrator has to act.
    ContactAdmin: Some(Upstream), ContactAdmin, Warn, Login,
        "contact_admin", "mail server asks for its administrator";
    /// SMTP AUTH is switched off for the mailbox or the organization.
    SmtpAuthDisabled: Some(Upstream), ContactAdmin, Warn, Login,
        "smtp_auth_disabled", "SMTP AUTH is switched off at the mail server";
    /// The mail server, or the account's rules, do not let the mailbox send as this sender.
    SenderRefused: Some(Upstream), NotAuthorized, Warn, Session,
        "sender_refused", "the sender is refused";
    /// The mail server refused a recipient, or the account's rules did.
    RecipientRefused: Some(Upstream), NotAuthorized, Info, Session,
        "recipient_refused", "a recipient is refused";
    /// The message is bigger than the mail server or the mailbox takes.
    MessageTooBig: Some(Upstream), ContactAdmin, Warn, Session,
        "message_too_big", "message is too big for the mail server";
    /// The mailbox is full, so that it cannot keep what it sends.
    MailboxFull: Some(Upstream), Unavailable, Warn, Session,
        "mailbox_full", "mailbox is full";
    /// The mail server takes nothing from the mailbox for a while, because it has repeated an error.
    MailboxThrottled: Some(Upstream), Unavailable, Warn, Session,
        "mailbox_throttled", "mail server throttles the mailbox";
    /// The mailbox or the organization has sent to as many recipients as it may in a day.
    SubmissionQuota: Some(Upstream), Unavailable, Warn, Session,
        "submission_quota", "the day's recipients are used up";
    /// The device has sent to as many recipients as it may in an hour.
    DeviceQuota: Some(Downstream), Unavailable, Warn, Session,
        "device_quota", "the device has sent to as many recipients as it may in an hour";
    /// The mail server refused a message for good.
    MessageRefused: Some(Upstream), ContactAdmin, Warn, Session,
        "message_refused", "mail server refused a message";
    /// The mail server refused a message for the moment.
    MessageDeferred: Some(Upstream), Unavailable, Warn, Session,
        "message_deferred", "mail server refused a message for the moment";
    /// The mail server was lost after it had a whole message and before it answered.
    OutcomeUnknown: Some(Upstream), Unavailable, Warn, Session,
        "outcome_unknown", "mail server was lost behind a message; nobody knows whether it was sent";
    /// The mailbox is in use.
    InUse: Some(Upstream), InUse, Warn, Login,
        "in_use", "mailbox is in use";
    /// The access token of a running session has run out.
    TokenExpired: Some(Upstream), Unavailable, Info, Session,
        "token_expired", "the session's access token has run out";
    /// The proxy is going down.
    Drained: None, Unavailable, Info, Session,
        "drained", "proxy is going down";
    /// A reload has withdrawn what the connection rests on.
    Revoked: None, Unavailable, Info, Session,
        "revoked", "permission withdrawn by a reload";
    /// The listener only takes inventory.
    Observed: None, Observed, Info, Session,
        "observed", "not let in";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_label_and_a_meaning_of_its_own() {
        let labels: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.label()).collect();
        let meanings: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.meaning()).collect();
        assert_eq!((labels.len(), meanings.len()), (Kind::ALL.len(), Kind::ALL.len()));
    }
}
