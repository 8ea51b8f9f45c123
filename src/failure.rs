//! Why a connection or a login came to nothing: whose side, and what kind.
//!
//! What the device is told ([`Kind::reply`]), how loud the log is ([`Kind::level`]) and what a metric
//! is labelled with ([`Kind::label`]) come from the kind alone, by a `match` without a wildcard.

#![deny(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::time::Duration;

/// The two sides of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the device.
    Downstream,
    /// Towards the mail server.
    Upstream,
}

/// One failure: its kind, and what a person needs to know to mend it.
///
/// The detail never holds a password, a token or mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// The particulars, in plain words.
    pub detail: String,
    /// How long the peer has asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of this kind with its particulars.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None }
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

/// Every way in which a connection or a login can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The source address is in none of the listener's networks.
    NotAllowed,
    /// A balancer's connection does not begin with the PROXY protocol's header.
    ProxyHeader,
    /// The limit of connections in all is reached.
    TooManyConnections,
    /// The limit of connections of one source address is reached.
    TooManyFromSource,
    /// Sources that have not logged in began too many TLS handshakes of late.
    TooManyHandshakes,
    /// The TLS handshake with the device did not come about.
    Handshake,
    /// The device took too long over the TLS handshake.
    HandshakeTimeout,
    /// The device went away before it had said anything.
    NothingSaid,
    /// The device's user name or password is not one of those configured here.
    WrongPassword,
    /// The device's password was not looked at, because too many logins came before it or at the same time.
    NotVerified,
    /// The device did not log in in time.
    LoginTimeout,
    /// The device tried to log in without TLS, and went away.
    LoginInClear,
    /// Nothing moved for too long after login.
    IdleTimeout,
    /// A line or literal before login was longer than allowed.
    TooLong,
    /// Too many commands before login made no sense.
    TooManyBadCommands,
    /// Plaintext followed STARTTLS or STLS, on either side: command or response injection.
    Injection,
    /// The device's connection broke.
    DeviceLost,
    /// The mailbox has as many sessions as it may have at a time.
    TooManySessions,
    /// There is no access token, for a reason that passes.
    TokenUnavailable,
    /// There is no access token, and there will be none until somebody acts.
    TokenRefused,
    /// The mail server's name does not resolve.
    Resolve,
    /// The mail server cannot be reached.
    Connect,
    /// The mail server's certificate is not valid for its name.
    UpstreamCertificate,
    /// The TLS handshake with the mail server failed for another reason.
    UpstreamTls,
    /// The mail server did not greet as its protocol says, or turned us away.
    UpstreamGreeting,
    /// The mail server does not do STARTTLS or STLS.
    UpstreamStartTls,
    /// The mail server does not offer the login mechanism that the device uses.
    Mechanism,
    /// The mail server answered with something that is not its protocol.
    UpstreamProtocol,
    /// The mail server took too long to answer.
    UpstreamTimeout,
    /// The mail server closed or broke the connection.
    UpstreamLost,
    /// The mail server refused user name or password.
    LoginRefused,
    /// The mail server knows the user, but does not let it in.
    NotAuthorized,
    /// The mail server says that it is the wrong moment.
    Unavailable,
    /// The mail server says that an administrator has to act.
    ContactAdmin,
    /// The mailbox is in use.
    InUse,
    /// The access token of a running session has run out.
    TokenExpired,
    /// The proxy is going down.
    Drained,
    /// A reload has withdrawn what the connection rests on.
    Revoked,
    /// The listener only takes inventory.
    Observed,
}

/// What a device can be told of a failed login, with the codes of RFC 5530 §3, RFC 2449 §8 and RFC 3206.
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

/// How loud a failure is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The operator has something to mend.
    Warn,
    /// Worth a line.
    Info,
    /// Only for who looks closely.
    Debug,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 39] = [
        Kind::NotAllowed,
        Kind::ProxyHeader,
        Kind::TooManyConnections,
        Kind::TooManyFromSource,
        Kind::TooManyHandshakes,
        Kind::Handshake,
        Kind::HandshakeTimeout,
        Kind::NothingSaid,
        Kind::WrongPassword,
        Kind::NotVerified,
        Kind::LoginTimeout,
        Kind::LoginInClear,
        Kind::IdleTimeout,
        Kind::TooLong,
        Kind::TooManyBadCommands,
        Kind::Injection,
        Kind::DeviceLost,
        Kind::TooManySessions,
        Kind::TokenUnavailable,
        Kind::TokenRefused,
        Kind::Resolve,
        Kind::Connect,
        Kind::UpstreamCertificate,
        Kind::UpstreamTls,
        Kind::UpstreamGreeting,
        Kind::UpstreamStartTls,
        Kind::Mechanism,
        Kind::UpstreamProtocol,
        Kind::UpstreamTimeout,
        Kind::UpstreamLost,
        Kind::LoginRefused,
        Kind::NotAuthorized,
        Kind::Unavailable,
        Kind::ContactAdmin,
        Kind::InUse,
        Kind::TokenExpired,
        Kind::Drained,
        Kind::Revoked,
        Kind::Observed,
    ];

    /// Whose doing it was; `None` where it was our own.
    pub fn side(self) -> Option<Side> {
        match self {
            Kind::NotAllowed
            | Kind::ProxyHeader
            | Kind::TooManyConnections
            | Kind::TooManyFromSource
            | Kind::TooManyHandshakes
            | Kind::Handshake
            | Kind::HandshakeTimeout
            | Kind::NothingSaid
            | Kind::WrongPassword
            | Kind::NotVerified
            | Kind::LoginTimeout
            | Kind::LoginInClear
            | Kind::IdleTimeout
            | Kind::TooLong
            | Kind::TooManyBadCommands
            | Kind::TooManySessions
            | Kind::DeviceLost => Some(Side::Downstream),
            Kind::TokenUnavailable
            | Kind::TokenRefused
            | Kind::Resolve
            | Kind::Connect
            | Kind::UpstreamCertificate
            | Kind::UpstreamTls
            | Kind::UpstreamGreeting
            | Kind::UpstreamStartTls
            | Kind::Mechanism
            | Kind::UpstreamProtocol
            | Kind::UpstreamTimeout
            | Kind::UpstreamLost
            | Kind::LoginRefused
            | Kind::NotAuthorized
            | Kind::Unavailable
            | Kind::ContactAdmin
            | Kind::InUse
            | Kind::TokenExpired => Some(Side::Upstream),
            Kind::Injection | Kind::Drained | Kind::Revoked | Kind::Observed => None,
        }
    }

    /// What the device is told when its login fails so.
    pub fn reply(self) -> Reply {
        match self {
            Kind::LoginRefused | Kind::WrongPassword => Reply::BadCredentials,
            Kind::NotAuthorized => Reply::NotAuthorized,
            Kind::InUse | Kind::TooManySessions => Reply::InUse,
            Kind::Observed => Reply::Observed,
            Kind::NotVerified => Reply::NotVerified,
            // These stay until somebody changes a setting.
            Kind::UpstreamCertificate
            | Kind::UpstreamTls
            | Kind::UpstreamStartTls
            | Kind::Mechanism
            | Kind::TokenRefused
            | Kind::ContactAdmin => Reply::ContactAdmin,
            Kind::NotAllowed
            | Kind::TooManyConnections
            | Kind::TooManyFromSource
            | Kind::TooManyHandshakes
            | Kind::Handshake
            | Kind::HandshakeTimeout
            | Kind::NothingSaid
            | Kind::LoginTimeout
            | Kind::LoginInClear
            | Kind::IdleTimeout
            | Kind::TooLong
            | Kind::TooManyBadCommands
            | Kind::Injection
            | Kind::DeviceLost
            | Kind::TokenUnavailable
            | Kind::Resolve
            | Kind::Connect
            | Kind::UpstreamGreeting
            | Kind::UpstreamProtocol
            | Kind::UpstreamTimeout
            | Kind::UpstreamLost
            | Kind::Unavailable
            | Kind::TokenExpired
            | Kind::ProxyHeader
            | Kind::Revoked
            | Kind::Drained => Reply::Unavailable,
        }
    }

    /// How loud the log line is.
    pub fn level(self) -> Level {
        match self {
            Kind::NotAllowed
            | Kind::ProxyHeader
            | Kind::TooManyConnections
            | Kind::TooManyFromSource
            | Kind::TooManyHandshakes
            | Kind::Handshake
            | Kind::HandshakeTimeout
            | Kind::WrongPassword
            | Kind::NotVerified
            | Kind::LoginInClear
            | Kind::TooLong
            | Kind::TooManyBadCommands
            | Kind::TooManySessions
            | Kind::TokenUnavailable
            | Kind::TokenRefused
            | Kind::Injection
            | Kind::Resolve
            | Kind::Connect
            | Kind::UpstreamCertificate
            | Kind::UpstreamTls
            | Kind::UpstreamGreeting
            | Kind::UpstreamStartTls
            | Kind::Mechanism
            | Kind::UpstreamProtocol
            | Kind::UpstreamTimeout
            | Kind::LoginRefused
            | Kind::NotAuthorized
            | Kind::Unavailable
            | Kind::ContactAdmin
            | Kind::InUse
            | Kind::UpstreamLost => Level::Warn,
            Kind::LoginTimeout
            | Kind::IdleTimeout
            | Kind::DeviceLost
            | Kind::TokenExpired
            | Kind::Observed
            | Kind::Revoked
            | Kind::Drained => Level::Info,
            Kind::NothingSaid => Level::Debug,
        }
    }

    /// A short stable word for machines: metric labels, JSON logs.
    pub fn label(self) -> &'static str {
        match self {
            Kind::NotAllowed => "not_allowed",
            Kind::TooManyConnections => "too_many_connections",
            Kind::TooManyFromSource => "too_many_from_source",
            Kind::TooManyHandshakes => "too_many_handshakes",
            Kind::Handshake => "handshake",
            Kind::HandshakeTimeout => "handshake_timeout",
            Kind::NothingSaid => "nothing_said",
            Kind::WrongPassword => "wrong_password",
            Kind::NotVerified => "not_verified",
            Kind::LoginTimeout => "login_timeout",
            Kind::LoginInClear => "login_in_clear",
            Kind::IdleTimeout => "idle_timeout",
            Kind::TooLong => "too_long",
            Kind::TooManyBadCommands => "too_many_bad_commands",
            Kind::Injection => "injection",
            Kind::DeviceLost => "device_lost",
            Kind::TooManySessions => "too_many_sessions",
            Kind::TokenUnavailable => "token_unavailable",
            Kind::TokenRefused => "token_refused",
            Kind::Resolve => "resolve",
            Kind::Connect => "connect",
            Kind::UpstreamCertificate => "upstream_certificate",
            Kind::UpstreamTls => "upstream_tls",
            Kind::UpstreamGreeting => "upstream_greeting",
            Kind::UpstreamStartTls => "upstream_starttls",
            Kind::Mechanism => "mechanism",
            Kind::UpstreamProtocol => "upstream_protocol",
            Kind::UpstreamTimeout => "upstream_timeout",
            Kind::UpstreamLost => "upstream_lost",
            Kind::LoginRefused => "login_refused",
            Kind::NotAuthorized => "not_authorized",
            Kind::Unavailable => "unavailable",
            Kind::ContactAdmin => "contact_admin",
            Kind::InUse => "in_use",
            Kind::TokenExpired => "token_expired",
            Kind::Drained => "drained",
            Kind::Revoked => "revoked",
            Kind::Observed => "observed",
            Kind::ProxyHeader => "proxy_header",
        }
    }

    /// The kind in plain words, as a log line begins.
    pub fn meaning(self) -> &'static str {
        match self {
            Kind::NotAllowed => "source not in allowed_networks",
            Kind::TooManyConnections => "too many connections",
            Kind::TooManyFromSource => "too many connections from this source",
            Kind::TooManyHandshakes => "too many TLS handshakes of sources that have not logged in",
            Kind::Handshake => "TLS handshake with the device failed",
            Kind::HandshakeTimeout => "the device took too long over the TLS handshake",
            Kind::NothingSaid => "closed before anything was said",
            Kind::WrongPassword => "user name or password is wrong",
            Kind::NotVerified => "password was not verified",
            Kind::LoginTimeout => "the device did not log in in time",
            Kind::LoginInClear => "the device tried to log in without TLS",
            Kind::IdleTimeout => "nothing moved for too long",
            Kind::TooLong => "line or literal too long before login",
            Kind::TooManyBadCommands => "too many commands that make no sense",
            Kind::Injection => "plaintext behind STARTTLS",
            Kind::DeviceLost => "connection to the device broke",
            Kind::TooManySessions => "mailbox has as many sessions as it may",
            Kind::TokenUnavailable => "no access token at the moment",
            Kind::TokenRefused => "no access token until somebody acts",
            Kind::Resolve => "mail server's name does not resolve",
            Kind::Connect => "mail server cannot be reached",
            Kind::UpstreamCertificate => "mail server's certificate is not accepted",
            Kind::UpstreamTls => "TLS handshake with the mail server failed",
            Kind::UpstreamGreeting => "mail server turned us away",
            Kind::UpstreamStartTls => "mail server does not start TLS",
            Kind::Mechanism => "mail server does not offer this way to log in",
            Kind::UpstreamProtocol => "mail server's answer is not understood",
            Kind::UpstreamTimeout => "mail server did not answer in time",
            Kind::UpstreamLost => "mail server closed the connection",
            Kind::LoginRefused => "mail server refused user name or password",
            Kind::NotAuthorized => "mail server does not let this user in",
            Kind::Unavailable => "mail server is unavailable",
            Kind::ContactAdmin => "mail server asks for its administrator",
            Kind::InUse => "mailbox is in use",
            Kind::TokenExpired => "the session's access token has run out",
            Kind::Drained => "proxy is going down",
            Kind::Revoked => "permission withdrawn by a reload",
            Kind::Observed => "only inventory is taken here",
            Kind::ProxyHeader => "no PROXY protocol header from the balancer",
        }
    }
}
