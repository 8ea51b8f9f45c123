//! Quirks are differences from Exchange Online on a good day: each has been observed, or is announced.

pub mod imap;
pub mod smtp;

use std::collections::VecDeque;
use std::time::Duration;

/// All quirks. The default is a classic front end on a good day. They can be changed while sessions run.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// Quirks of the mail protocols.
    pub mail: Mail,
    /// Quirks of IMAP sessions.
    pub imap: imap::Imap,
    /// Quirks of submission.
    pub smtp: smtp::Smtp,
    /// Quirks of the token endpoint.
    pub endpoint: Endpoint,
    /// Quirks of the device authorization grant.
    pub device_code: DeviceCode,
    /// Quirks of refresh tokens.
    pub refresh: Refresh,
    /// The fault of every request to the metadata service.
    pub metadata_fault: Option<Fault>,
}

/// Quirks of IMAP and POP3.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The words of the greeting.
    pub greeting: Greeting,
    /// The delay before the greeting.
    pub greeting_delay: Duration,
    /// Capabilities of the front end of 2026: `LOGINDISABLED` instead of `AUTH=PLAIN`.
    pub login_disabled: bool,
    /// `ENABLE IMAP4rev2` after login, as some tenants have it since September 2026.
    pub rev2: bool,
    /// UNSELECT (RFC 3691) is announced and served.
    pub unselect: bool,
    /// The continuation request is `+ ` rather than `+`.
    pub continuation_space: bool,
    /// A refused XOAUTH2 first gets the reason in a challenge of JSON, as Google does it.
    pub json_challenge: bool,
    /// A refused AUTHENTICATE gets long diagnostics with the user name.
    pub long_diagnostics: bool,
    /// Every login is refused, as in an outage of the front end.
    pub refuse_logins: bool,
    /// The delay of a login, in which the front end finds the mailbox server. Users report 5 to 30 seconds.
    pub login_delay: Duration,
    /// Logins of a mailbox within a time, and the answer to more of them.
    pub login_rate: Option<LoginRate>,
    /// Every login succeeds, and the first mailbox command fails.
    pub not_connected: bool,
    /// The time after login at which the token expires. Zero ends running sessions.
    pub session_life: Option<Duration>,
    /// The time after login at which the session is closed with the number 13. Zero ends running sessions.
    pub close_13: Option<Duration>,
    /// The token expires in the middle of the next literal or message that is sent.
    pub cut_literal: bool,
    /// Throttling: when, and the suggested milliseconds.
    pub throttle: Option<(Moment, u64)>,
    /// `Server Unavailable. 15`: when.
    pub unavailable: Option<Moment>,
    /// The most sessions of a mailbox. Users report 16 or 20.
    pub max_sessions: Option<usize>,
    /// The answer to one session more than that.
    pub excess: Excess,
    /// The longest token in characters that POP3 accepts.
    pub pop3_token_limit: Option<usize>,
    /// The time limit from connection to login.
    pub login_timeout: Duration,
    /// The time limit from one input of the client to the next after the login; the number 13 ends the session.
    pub idle_timeout: Duration,
    /// The time at which a client hears of the end of its token.
    pub expiry: Expiry,
    /// `EXISTS` comes before the continuation of IDLE.
    pub exists_before_idle: bool,
    /// Response codes come without `OK` before them.
    pub bare_codes: bool,
    /// Whether a folder has an unquoted control character in its name.
    pub odd_folder: bool,
    /// Sizes are estimates, as they are by default, and too large by so many octets.
    pub size_excess: usize,
}

/// The words of the greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Greeting {
    /// The greeting of the last ten years.
    #[default]
    Classic,
    /// The greeting of the front end of 2026.
    TcpProxy,
    /// The server closes the connection with its greeting.
    Bye,
}

/// The moment of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The fault answers the login.
    Login,
    /// The fault answers every command after the login.
    Command,
}

/// Logins within a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginRate {
    /// Logins of one mailbox that are let in.
    pub logins: usize,
    /// The time within which they count.
    pub within: Duration,
    /// The answer to one more.
    pub excess: Excess,
}

/// The answer to a login that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Excess {
    /// The connection is reset without a response.
    #[default]
    Reset,
    /// `BAD Request is throttled. Suggested Backoff Time:` these milliseconds.
    Throttled(u64),
    /// `NO Server Unavailable. 15`
    Unavailable,
    /// The login succeeds, and the first mailbox command fails: `User is authenticated but not connected`.
    NotConnected,
}

/// The time at which a client hears of the end of its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// At once.
    #[default]
    AtOnce,
    /// In answer to the next command, whatever it is.
    InAnswer,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            greeting: Greeting::Classic,
            greeting_delay: Duration::ZERO,
            login_disabled: false,
            rev2: false,
            unselect: true,
            continuation_space: false,
            json_challenge: false,
            long_diagnostics: false,
            refuse_logins: false,
            login_delay: Duration::ZERO,
            login_rate: None,
            not_connected: false,
            session_life: None,
            close_13: None,
            cut_literal: false,
            throttle: None,
            unavailable: None,
            max_sessions: None,
            excess: Excess::Reset,
            // Since July 2025.
            pop3_token_limit: Some(4096),
            login_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(1800),
            expiry: Expiry::AtOnce,
            exists_before_idle: false,
            bare_codes: false,
            odd_folder: false,
            size_excess: 0,
        }
    }
}

/// Quirks of the token endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The fault of every request.
    pub fault: Option<Fault>,
    /// The number of requests after which the fault ends; `None` for never.
    pub fault_times: Option<u32>,
    /// Seconds by which the endpoint's clock is ahead; it stands in `Date`, and assertions are held against it.
    pub clock_offset: i64,
    /// The life of an access token in seconds, as the answer states it.
    pub expires_in: u64,
    /// The life is a string in the answer, as IMDS always has it.
    pub expires_in_as_string: bool,
    /// The time for which Exchange accepts a token, where it differs from the answer.
    pub token_life: Option<Duration>,
    /// The length of access tokens, with padding.
    pub token_length: Option<usize>,
    /// The delay before every answer.
    pub delay: Duration,
    /// The delay of an answer that has been made: the endpoint has done what it was asked for already.
    pub answer_delay: Duration,
    /// The `aud` that an assertion must have, where it is not the token endpoint's address.
    pub audience: Option<String>,
    /// The error with which the browser comes back from the sign-in, as `access_denied`.
    pub authorize_error: Option<String>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            fault: None,
            fault_times: None,
            clock_offset: 0,
            expires_in: 4512,
            expires_in_as_string: false,
            token_life: None,
            token_length: None,
            delay: Duration::ZERO,
            answer_delay: Duration::ZERO,
            audience: None,
            authorize_error: None,
        }
    }
}

/// A fault in place of the endpoint's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed without an answer.
    Down,
    /// This status, and perhaps `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// A page of HTML with status 503.
    Html,
    /// Status 200, and no JSON.
    Garbage,
    /// This `error`, with this AADSTS number.
    Error(&'static str, u32),
}

/// Quirks of the device authorization grant (RFC 8628).
#[derive(Clone, Debug)]
pub struct DeviceCode {
    /// Answers to polls, one after the other; later polls depend on the approval.
    pub script: VecDeque<Poll>,
    /// A sign-in needs no approval.
    pub approved: bool,
    /// Seconds between polls, as the answer says.
    pub interval: u64,
    /// Seconds that a code lives.
    pub expires_in: u64,
}

/// The answer to a poll, without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// `authorization_pending`
    Pending,
    /// `slow_down`
    SlowDown,
    /// `authorization_declined`
    Declined,
    /// `expired_token`
    Expired,
}

impl Default for DeviceCode {
    fn default() -> Self {
        Self { script: VecDeque::new(), approved: false, interval: 5, expires_in: 900 }
    }
}

/// Quirks of refresh tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refresh {
    /// Whether the use of a new refresh token invalidates all earlier ones.
    pub strict_rotation: bool,
    /// Whether each refresh token is taken once, and a second use ends all that came from the same sign-in (RFC 9700
    /// section 4.14.2).
    pub reuse_ends_family: bool,
    /// The answer to a refresh has no new one.
    pub omit_new: bool,
}
