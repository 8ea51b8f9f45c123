//! What the simulator does otherwise than a good day's Exchange Online: each quirk has been seen, or will be.

use std::collections::VecDeque;
use std::time::Duration;

/// All quirks. The default is a classic front end on a good day. They can be changed while sessions run.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// Of IMAP and POP3.
    pub mail: Mail,
    /// Of the token endpoint.
    pub endpoint: Endpoint,
    /// Of the device authorization grant.
    pub device_code: DeviceCode,
    /// Of refresh tokens.
    pub refresh: Refresh,
    /// What requests to the metadata service meet instead of an answer.
    pub metadata_fault: Option<Fault>,
}

/// Quirks of IMAP and POP3.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The words of the greeting.
    pub greeting: Greeting,
    /// Before the greeting.
    pub greeting_delay: Duration,
    /// As the front end of 2026: `LOGINDISABLED` instead of `AUTH=PLAIN`.
    pub login_disabled: bool,
    /// `ENABLE IMAP4rev2` after login, as some tenants have it since September 2026.
    pub rev2: bool,
    /// The continuation request is `+ ` rather than `+`.
    pub continuation_space: bool,
    /// A refused XOAUTH2 is first told why in a challenge of JSON, as Google does it.
    pub json_challenge: bool,
    /// A refused AUTHENTICATE is told in many words, with user names among them.
    pub long_diagnostics: bool,
    /// Every login is refused, as in an outage of the front end.
    pub refuse_logins: bool,
    /// Before a login is answered: the front end has to find the mailbox server.
    pub login_delay: Duration,
    /// Every login succeeds, and the first mailbox command fails.
    pub not_connected: bool,
    /// How long after login a session is told that its token has expired. Zero ends those that run.
    pub session_life: Option<Duration>,
    /// How long after login a session is closed with the number 13. Zero ends those that run.
    pub close_13: Option<Duration>,
    /// In the middle of the next literal or message that is sent, the token expires.
    pub cut_literal: bool,
    /// Throttled: when, and the milliseconds that are suggested.
    pub throttle: Option<(Moment, u64)>,
    /// `Server Unavailable. 15`: when.
    pub unavailable: Option<Moment>,
    /// Sessions that a mailbox may have; one more is reset without a word.
    pub max_sessions: Option<usize>,
    /// Characters of a token that POP3 takes.
    pub pop3_token_limit: Option<usize>,
    /// From connection to login.
    pub login_timeout: Duration,
    /// `EXISTS` comes before the continuation of IDLE.
    pub exists_before_idle: bool,
    /// Response codes come without `OK` before them.
    pub bare_codes: bool,
    /// There is a folder with an unquoted control character in its name.
    pub odd_folder: bool,
    /// Sizes are estimates, as they are by default, and too large by so many octets.
    pub size_excess: usize,
}

/// The words of the greeting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Greeting {
    /// As for ten years.
    #[default]
    Classic,
    /// As the front end of 2026.
    TcpProxy,
    /// Turned away.
    Bye,
}

/// When trouble strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// As the answer to the login.
    Login,
    /// As the answer to whatever comes after it.
    Command,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            greeting: Greeting::Classic,
            greeting_delay: Duration::ZERO,
            login_disabled: false,
            rev2: false,
            continuation_space: false,
            json_challenge: false,
            long_diagnostics: false,
            refuse_logins: false,
            login_delay: Duration::ZERO,
            not_connected: false,
            session_life: None,
            close_13: None,
            cut_literal: false,
            throttle: None,
            unavailable: None,
            max_sessions: None,
            // Since July 2025.
            pop3_token_limit: Some(4096),
            login_timeout: Duration::from_secs(60),
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
    /// What every request meets instead of an answer.
    pub fault: Option<Fault>,
    /// After so many requests the fault is mended; `None` means not by itself.
    pub fault_times: Option<u32>,
    /// Seconds by which the endpoint's clock is ahead; it stands in `Date`, and assertions are held against it.
    pub clock_offset: i64,
    /// Seconds, as the answer says.
    pub expires_in: u64,
    /// They are a string, as IMDS always has them.
    pub expires_in_as_string: bool,
    /// How long Exchange takes a token, where it is not what the answer says.
    pub token_life: Option<Duration>,
    /// Access tokens are made this long with padding.
    pub token_length: Option<usize>,
    /// Before every answer.
    pub delay: Duration,
    /// What an assertion must have as `aud`, where it is not the token endpoint's address here.
    pub audience: Option<String>,
    /// The error with which the user comes back from signing in, as `access_denied`.
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
            audience: None,
            authorize_error: None,
        }
    }
}

/// What a request to the endpoint meets instead of an answer.
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
    /// What polls are answered, one after the other; then it depends on whether somebody has approved.
    pub script: VecDeque<Poll>,
    /// Nobody needs to approve.
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
    /// Once a new one has been used, those before it are dead.
    pub strict_rotation: bool,
    /// The answer to a refresh has no new one.
    pub omit_new: bool,
}
