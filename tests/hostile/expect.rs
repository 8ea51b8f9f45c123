//! What is to come of each state with each fault: the states here, and in the parts what comes of them.

mod of_device;
mod of_server;

use packetboat::failure::Kind;
use packetboat::protocol::Protocol;

pub use of_device::of_device;
pub use of_server::of_server;

support::each! {
    /// The time-out that has to end a cell. On the proxy where that happens it is the only short one, so that no other
    /// can come first, however slow the machine is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Clock {
        /// None is short: something else ends it.
        Patient,
        Handshake,
        Login,
        Idle,
        UpstreamHandshake,
        UpstreamLogin,
        /// Probes of a connection, and octets that are not acknowledged.
        KeepAlive,
    }
}

/// How a session ends, as its line has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Failed(Kind),
    LoggedOut,
    DeviceClosed,
    ServerClosed,
}

impl End {
    pub fn label(self) -> &'static str {
        match self {
            End::Failed(kind) => kind.label(),
            End::LoggedOut => "logged_out",
            End::DeviceClosed => "device_closed",
            End::ServerClosed => "server_closed",
        }
    }
}

support::each! {
    /// Where the device is when its fault begins.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum DeviceState {
        /// Connected where TLS comes first.
        Connected,
        /// Part of a ClientHello is sent.
        MidHello,
        /// The same where a device may as well begin in clear.
        MidHelloOrNot,
        /// The server's flight of the handshake has come.
        MidHandshake,
        /// Greeted in clear.
        InClear,
        /// STARTTLS or STLS was answered.
        StartTlsAnswered,
        /// Behind STARTTLS or STLS, before login.
        Secured,
        /// Behind implicit TLS, before login.
        Greeted,
        MidCommand,
        /// In a literal of LOGIN.
        MidLiteral,
        /// Behind USER.
        UserGiven,
        /// In a response of AUTHENTICATE or AUTH.
        MidSasl,
        /// The server has the login, and has not answered.
        LoggingIn,
        /// Logged in.
        Relaying,
        MidRelayedCommand,
        /// In the literal of APPEND.
        MidAppend,
        /// In IDLE.
        Idling,
        /// Behind two commands, in a third.
        Pipelined,
        /// LOGOUT or QUIT is sent, and the server has not answered.
        LoggedOut,
    }
}

impl DeviceState {
    pub fn phase(self) -> Phase {
        use DeviceState::*;
        match self {
            Connected | MidHello | MidHelloOrNot | MidHandshake | StartTlsAnswered => Phase::Handshake,
            InClear => Phase::Clear,
            Secured | Greeted | MidCommand | MidLiteral | UserGiven | MidSasl => Phase::Login,
            LoggingIn | Relaying | MidRelayedCommand | MidAppend | Idling | Pipelined => Phase::Relay,
            LoggedOut => Phase::Over,
        }
    }

    /// Why a protocol has no such state.
    fn is_missing(self, protocol: Protocol) -> Option<&'static str> {
        match (self, protocol) {
            (DeviceState::MidLiteral | DeviceState::MidAppend, Protocol::Pop3) => Some("POP3 has no literals"),
            (DeviceState::Idling, Protocol::Pop3) => Some("POP3 has no IDLE"),
            (DeviceState::UserGiven, Protocol::Imap) => Some("IMAP's LOGIN is one command"),
            _ => None,
        }
    }
}

support::each! {
    /// Where the server is when its fault begins.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ServerState {
        /// Dialled, and not a word has been read.
        Accepted,
        /// Part of a ServerHello is sent.
        MidServerHello,
        /// STARTTLS or STLS was asked for, in clear.
        StartTlsHeard,
        /// It was answered, and the ClientHello has come.
        StartTlsAnswered,
        BeforeGreeting,
        MidGreeting,
        Greeted,
        /// XOAUTH2 with its token has come.
        LoginHeard,
        MidChallenge,
        MidLoginAnswer,
        /// The device is in.
        Relaying,
        /// In the literal of FETCH, or the body of RETR.
        MidMessage,
        MidStatus,
        /// LOGOUT or QUIT has come.
        LogoutHeard,
    }
}

impl ServerState {
    pub fn phase(self) -> Phase {
        use ServerState::*;
        match self {
            Accepted | MidServerHello | StartTlsAnswered => Phase::Handshake,
            StartTlsHeard => Phase::Clear,
            BeforeGreeting | MidGreeting | Greeted | LoginHeard | MidChallenge | MidLoginAnswer => Phase::Login,
            Relaying | MidMessage | MidStatus => Phase::Relay,
            LogoutHeard => Phase::Over,
        }
    }

    pub fn is_behind_starttls(self) -> bool {
        matches!(self, ServerState::StartTlsHeard | ServerState::StartTlsAnswered)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// TLS is to come next.
    Handshake,
    /// Text without TLS.
    Clear,
    /// Before login.
    Login,
    /// After it, or on the way there.
    Relay,
    /// Behind LOGOUT or QUIT.
    Over,
}

/// Of one cell.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It makes no sense, for this reason.
    None(&'static str),
    /// The session ends in one of these ways, on this proxy.
    Ends(Clock, &'static [End]),
    /// The login fails for one of these reasons, and the device, which is told, logs out.
    LoginFails(Clock, &'static [Kind]),
}

const NO_TLS: Verdict = Verdict::None("without TLS nobody forges a record: it is the alert of the other fault");
const NO_LITERAL: Verdict = Verdict::None("POP3 has no literals; a body without end is lines without end");
