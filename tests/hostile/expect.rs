//! This file lists the states of a connection; its parts have the expected result of each state with each fault.

mod of_device;
mod of_server;

use packetboat::failure::Kind;
use packetboat::protocol::Protocol;

pub use of_device::of_device;
pub use of_server::of_server;

support::each! {
    /// The time-out that has to end a cell. It is the only short one on its proxy, so that no other comes first on a
    /// slow machine.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Clock {
        /// All time-outs are long, because something else ends the cell.
        Patient,
        Handshake,
        Login,
        Idle,
        UpstreamHandshake,
        UpstreamLogin,
        /// The time-out of probes of an idle connection, and of unacknowledged octets.
        KeepAlive,
    }
}

/// The end of a session, as its log line has it.
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
    /// The device's state when its fault begins.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum DeviceState {
        /// The device has connected to a listener with implicit TLS.
        Connected,
        /// The device has sent part of a ClientHello.
        MidHello,
        /// The device has sent part of a ClientHello to a listener that also takes plaintext.
        MidHelloOrNot,
        /// The device has received the server's flight of the handshake.
        MidHandshake,
        /// The device has its greeting in clear.
        InClear,
        /// The device has the answer to STARTTLS or STLS.
        StartTlsAnswered,
        /// The device has TLS by STARTTLS or STLS, and no login.
        Secured,
        /// The device has implicit TLS and its greeting, and no login.
        Greeted,
        MidCommand,
        /// The device is in a literal of LOGIN.
        MidLiteral,
        /// The device has sent USER.
        UserGiven,
        /// The device is in a response of AUTHENTICATE or AUTH.
        MidSasl,
        /// The server has the login, and has not answered.
        LoggingIn,
        /// The device is logged in.
        Relaying,
        MidRelayedCommand,
        /// The device is in the literal of APPEND.
        MidAppend,
        /// The device is in IDLE.
        Idling,
        /// The device has sent two commands, and is in a third.
        Pipelined,
        /// The device has sent LOGOUT or QUIT, and the server has not answered.
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

    /// The reason why a protocol has no such state.
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
    /// The server's state when its fault begins.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ServerState {
        /// The server has accepted the connection, and has read nothing.
        Accepted,
        /// The server has sent part of a ServerHello.
        MidServerHello,
        /// The server has received STARTTLS or STLS, in clear.
        StartTlsHeard,
        /// The server has answered STARTTLS or STLS, and received the ClientHello.
        StartTlsAnswered,
        BeforeGreeting,
        MidGreeting,
        Greeted,
        /// The server has received XOAUTH2 with its token.
        LoginHeard,
        MidChallenge,
        MidLoginAnswer,
        /// The server has let the device in.
        Relaying,
        /// The server is in the literal of FETCH, or in the body of RETR.
        MidMessage,
        MidStatus,
        /// The server has received LOGOUT or QUIT.
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
    /// TLS comes next.
    Handshake,
    /// The connection is text without TLS.
    Clear,
    /// The connection has no login yet.
    Login,
    /// The connection is logged in, or about to be.
    Relay,
    /// The connection is past LOGOUT or QUIT.
    Over,
}

/// The expected result of one cell.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The combination is meaningless, for this reason.
    None(&'static str),
    /// The session ends in one of these ways, on this proxy.
    Ends(Clock, &'static [End]),
    /// The login fails for one of these reasons; the device gets the answer, and logs out.
    LoginFails(Clock, &'static [Kind]),
}

const NO_TLS: Verdict = Verdict::None("without TLS nobody forges a record: it is the alert of the other fault");
const NO_LITERAL: Verdict = Verdict::None("POP3 has no literals; a body without end is lines without end");
