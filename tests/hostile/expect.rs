//! What is to come of each state with each fault.

use packetboat::failure::Kind;

use crate::fault::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Imap,
    Pop3,
}

/// The time-out that has to end a cell. On the proxy where that happens it is the only short one, so that no other can
/// come first, however slow the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Clock {
    /// None is short: something else ends it.
    Patient,
    Handshake,
    Login,
    Idle,
    UpstreamHandshake,
    UpstreamLogin,
}

impl Clock {
    pub const ALL: [Clock; 6] =
        [Clock::Patient, Clock::Handshake, Clock::Login, Clock::Idle, Clock::UpstreamHandshake, Clock::UpstreamLogin];
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

/// Where the device is when its fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Connected where TLS comes first.
    Connected,
    /// Part of a ClientHello is sent.
    MidHello,
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

impl DeviceState {
    pub const ALL: [DeviceState; 18] = [
        DeviceState::Connected,
        DeviceState::MidHello,
        DeviceState::MidHandshake,
        DeviceState::InClear,
        DeviceState::StartTlsAnswered,
        DeviceState::Secured,
        DeviceState::Greeted,
        DeviceState::MidCommand,
        DeviceState::MidLiteral,
        DeviceState::UserGiven,
        DeviceState::MidSasl,
        DeviceState::LoggingIn,
        DeviceState::Relaying,
        DeviceState::MidRelayedCommand,
        DeviceState::MidAppend,
        DeviceState::Idling,
        DeviceState::Pipelined,
        DeviceState::LoggedOut,
    ];

    pub fn phase(self) -> Phase {
        match self {
            DeviceState::Connected
            | DeviceState::MidHello
            | DeviceState::MidHandshake
            | DeviceState::StartTlsAnswered => Phase::Handshake,
            DeviceState::InClear => Phase::Clear,
            DeviceState::Secured
            | DeviceState::Greeted
            | DeviceState::MidCommand
            | DeviceState::MidLiteral
            | DeviceState::UserGiven
            | DeviceState::MidSasl => Phase::Login,
            DeviceState::LoggingIn
            | DeviceState::Relaying
            | DeviceState::MidRelayedCommand
            | DeviceState::MidAppend
            | DeviceState::Idling
            | DeviceState::Pipelined => Phase::Relay,
            DeviceState::LoggedOut => Phase::Over,
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

impl ServerState {
    pub const ALL: [ServerState; 14] = [
        ServerState::Accepted,
        ServerState::MidServerHello,
        ServerState::StartTlsHeard,
        ServerState::StartTlsAnswered,
        ServerState::BeforeGreeting,
        ServerState::MidGreeting,
        ServerState::Greeted,
        ServerState::LoginHeard,
        ServerState::MidChallenge,
        ServerState::MidLoginAnswer,
        ServerState::Relaying,
        ServerState::MidMessage,
        ServerState::MidStatus,
        ServerState::LogoutHeard,
    ];

    pub fn phase(self) -> Phase {
        match self {
            ServerState::Accepted | ServerState::MidServerHello | ServerState::StartTlsAnswered => Phase::Handshake,
            ServerState::StartTlsHeard => Phase::Clear,
            ServerState::BeforeGreeting
            | ServerState::MidGreeting
            | ServerState::Greeted
            | ServerState::LoginHeard
            | ServerState::MidChallenge
            | ServerState::MidLoginAnswer => Phase::Login,
            ServerState::Relaying | ServerState::MidMessage | ServerState::MidStatus => Phase::Relay,
            ServerState::LogoutHeard => Phase::Over,
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

use DeviceState as D;
use End::{DeviceClosed, Failed, LoggedOut, ServerClosed};
use Kind::{
    Connect, DeviceLost, Handshake, HandshakeTimeout, IdleTimeout, LoginTimeout, NothingSaid, TooLong,
    TooManyBadCommands, UpstreamLost, UpstreamProtocol, UpstreamTimeout, UpstreamTls,
};
use ServerState as S;
use Verdict::{Ends, LoginFails};

const NO_TLS: Verdict = Verdict::None("without TLS nobody forges a record: it is the alert of the other fault");
const NO_LITERAL: Verdict = Verdict::None("POP3 has no literals; a body without end is lines without end");

/// A device with a fault, and a good server.
pub fn of_device(protocol: Protocol, state: DeviceState, fault: Fault) -> Verdict {
    if let Some(why) = state.is_missing(protocol) {
        return Verdict::None(why);
    }
    if fault == Fault::EndlessLiteral && protocol == Protocol::Pop3 {
        return NO_LITERAL;
    }
    match state.phase() {
        Phase::Handshake => shaking(state, fault),
        Phase::Clear => in_clear(fault),
        Phase::Login => before_login(fault),
        Phase::Relay => relaying(state, fault),
        Phase::Over => logged_out(fault),
    }
}

fn shaking(state: DeviceState, fault: Fault) -> Verdict {
    const REFUSED: Verdict = Ends(Clock::Patient, &[Failed(Handshake)]);
    const LATE: Verdict = Ends(Clock::Handshake, &[Failed(HandshakeTimeout)]);
    const SILENT: Verdict = Ends(Clock::Patient, &[Failed(NothingSaid)]);
    match fault {
        Fault::Stall | Fault::Dribble => LATE,
        Fault::ForgedAlert => NO_TLS,
        // Seven octets that might still become the rest of the ClientHello.
        Fault::Alert | Fault::StalledRecord if state == D::MidHello => LATE,
        // The record's beginning is none of a handshake's first.
        Fault::StalledRecord if state == D::MidHandshake => LATE,
        Fault::Reset | Fault::HalfClose | Fault::Vanish if matches!(state, D::Connected | D::StartTlsAnswered) => {
            SILENT
        }
        Fault::Reset
        | Fault::HalfClose
        | Fault::Vanish
        | Fault::EndlessLine
        | Fault::EndlessLines
        | Fault::EndlessLiteral
        | Fault::Garbage
        | Fault::Nuls
        | Fault::BareCr
        | Fault::BareLf
        | Fault::Alert
        | Fault::TornRecord
        | Fault::StalledRecord => REFUSED,
    }
}

fn in_clear(fault: Fault) -> Verdict {
    match fault {
        // They begin as no command does, but a ClientHello of old.
        Fault::Garbage => Ends(Clock::Patient, &[Failed(Handshake)]),
        Fault::ForgedAlert => NO_TLS,
        // In clear it is the beginning of a line.
        Fault::Alert => Ends(Clock::Login, &[Failed(LoginTimeout)]),
        other => before_login(other),
    }
}

fn before_login(fault: Fault) -> Verdict {
    match fault {
        Fault::Stall | Fault::Dribble | Fault::EndlessLines | Fault::StalledRecord => {
            Ends(Clock::Login, &[Failed(LoginTimeout)])
        }
        Fault::Reset | Fault::Alert | Fault::ForgedAlert => Ends(Clock::Patient, &[Failed(DeviceLost)]),
        Fault::HalfClose | Fault::Vanish | Fault::TornRecord => Ends(Clock::Patient, &[DeviceClosed]),
        Fault::EndlessLine | Fault::EndlessLiteral | Fault::BareCr => Ends(Clock::Patient, &[Failed(TooLong)]),
        Fault::Garbage | Fault::Nuls | Fault::BareLf => Ends(Clock::Patient, &[Failed(TooManyBadCommands)]),
    }
}

fn relaying(state: DeviceState, fault: Fault) -> Verdict {
    match fault {
        Fault::Stall if state == D::LoggingIn => Verdict::None("a device that waits for its answer does no wrong"),
        Fault::Dribble if state == D::LoggingIn => {
            Verdict::None("what is sent before the answer is relayed behind it, octet by octet or not")
        }
        Fault::Stall | Fault::StalledRecord => Ends(Clock::Idle, &[Failed(IdleTimeout)]),
        // It moves, so it is not idle; then it closes.
        Fault::Dribble => Ends(Clock::Idle, &[DeviceClosed]),
        Fault::Reset | Fault::Alert | Fault::ForgedAlert => Ends(Clock::Patient, &[Failed(DeviceLost)]),
        Fault::HalfClose | Fault::Vanish | Fault::TornRecord => Ends(Clock::Patient, &[DeviceClosed]),
        // A megabyte of commands that are all answered; then it closes.
        Fault::EndlessLines => Ends(Clock::Patient, &[DeviceClosed]),
        // It passes, and the server has its own bounds.
        Fault::EndlessLine | Fault::EndlessLiteral | Fault::Garbage | Fault::Nuls | Fault::BareCr | Fault::BareLf => {
            Ends(Clock::Patient, &[ServerClosed])
        }
    }
}

/// Whatever the device does now, its LOGOUT or QUIT is carried out.
fn logged_out(fault: Fault) -> Verdict {
    match fault {
        Fault::Stall
        | Fault::Reset
        | Fault::HalfClose
        | Fault::Vanish
        | Fault::Dribble
        | Fault::EndlessLine
        | Fault::EndlessLines
        | Fault::EndlessLiteral
        | Fault::Garbage
        | Fault::Nuls
        | Fault::BareCr
        | Fault::BareLf
        | Fault::Alert
        | Fault::ForgedAlert
        | Fault::TornRecord
        | Fault::StalledRecord => Ends(Clock::Patient, &[LoggedOut]),
    }
}

/// A server with a fault, and a good device.
pub fn of_server(protocol: Protocol, state: ServerState, fault: Fault) -> Verdict {
    if fault == Fault::EndlessLiteral && protocol == Protocol::Pop3 {
        return NO_LITERAL;
    }
    match state.phase() {
        Phase::Handshake => server_shaking(state, fault),
        Phase::Clear => server_in_clear(protocol, fault),
        Phase::Login => server_logging_in(protocol, state, fault),
        Phase::Relay => server_relaying(fault),
        Phase::Over => server_over(fault),
    }
}

fn server_shaking(state: ServerState, fault: Fault) -> Verdict {
    match fault {
        Fault::Stall | Fault::Dribble | Fault::StalledRecord => {
            LoginFails(Clock::UpstreamHandshake, &[UpstreamTimeout])
        }
        Fault::ForgedAlert => NO_TLS,
        // Seven octets that might still become the rest of the ServerHello.
        Fault::Alert if state == S::MidServerHello => LoginFails(Clock::UpstreamHandshake, &[UpstreamTimeout]),
        // The reset may meet the connection, or already the connecting.
        Fault::Reset if state == S::Accepted => LoginFails(Clock::Patient, &[UpstreamLost, Connect]),
        Fault::Reset | Fault::HalfClose | Fault::Vanish | Fault::TornRecord => {
            LoginFails(Clock::Patient, &[UpstreamLost])
        }
        Fault::EndlessLine
        | Fault::EndlessLines
        | Fault::EndlessLiteral
        | Fault::Garbage
        | Fault::Nuls
        | Fault::BareCr
        | Fault::BareLf
        | Fault::Alert => LoginFails(Clock::Patient, &[UpstreamTls]),
    }
}

fn server_in_clear(protocol: Protocol, fault: Fault) -> Verdict {
    match fault {
        // In clear it is the beginning of a line.
        Fault::Alert => LoginFails(Clock::UpstreamLogin, &[UpstreamTimeout]),
        Fault::ForgedAlert => NO_TLS,
        // STLS has no challenge.
        Fault::EndlessLines if protocol == Protocol::Pop3 => LoginFails(Clock::Patient, &[UpstreamProtocol]),
        other => server_before_login(other),
    }
}

fn server_logging_in(protocol: Protocol, state: ServerState, fault: Fault) -> Verdict {
    match (state, fault) {
        (S::BeforeGreeting, Fault::EndlessLines) if protocol == Protocol::Pop3 => {
            LoginFails(Clock::Patient, &[UpstreamProtocol])
        }
        // The first line end makes it a whole answer: the device is in, and hears the rest.
        (
            S::MidLoginAnswer,
            Fault::EndlessLines | Fault::EndlessLiteral | Fault::Garbage | Fault::Nuls | Fault::BareLf,
        ) => Ends(Clock::Patient, &[ServerClosed]),
        (_, other) => server_before_login(other),
    }
}

fn server_before_login(fault: Fault) -> Verdict {
    match fault {
        Fault::Stall | Fault::Dribble | Fault::EndlessLines | Fault::StalledRecord => {
            LoginFails(Clock::UpstreamLogin, &[UpstreamTimeout])
        }
        Fault::Reset | Fault::HalfClose | Fault::Vanish | Fault::TornRecord | Fault::Alert | Fault::ForgedAlert => {
            LoginFails(Clock::Patient, &[UpstreamLost])
        }
        Fault::EndlessLine | Fault::EndlessLiteral | Fault::Garbage | Fault::Nuls | Fault::BareCr | Fault::BareLf => {
            LoginFails(Clock::Patient, &[UpstreamProtocol])
        }
    }
}

fn server_relaying(fault: Fault) -> Verdict {
    match fault {
        Fault::Stall | Fault::StalledRecord => Ends(Clock::Idle, &[Failed(IdleTimeout)]),
        // It moves, so it is not idle; then it closes.
        Fault::Dribble => Ends(Clock::Idle, &[ServerClosed]),
        Fault::Reset | Fault::Alert | Fault::ForgedAlert => Ends(Clock::Patient, &[Failed(UpstreamLost)]),
        Fault::HalfClose | Fault::Vanish | Fault::TornRecord => Ends(Clock::Patient, &[ServerClosed]),
        // It passes, and then the server closes.
        Fault::EndlessLine
        | Fault::EndlessLines
        | Fault::EndlessLiteral
        | Fault::Garbage
        | Fault::Nuls
        | Fault::BareCr
        | Fault::BareLf => Ends(Clock::Patient, &[ServerClosed]),
    }
}

fn server_over(fault: Fault) -> Verdict {
    match fault {
        Fault::Stall | Fault::StalledRecord => Ends(Clock::Idle, &[Failed(IdleTimeout)]),
        Fault::Dribble
        | Fault::Reset
        | Fault::HalfClose
        | Fault::Vanish
        | Fault::TornRecord
        | Fault::Alert
        | Fault::ForgedAlert
        | Fault::EndlessLine
        | Fault::EndlessLines
        | Fault::EndlessLiteral
        | Fault::Garbage
        | Fault::Nuls
        | Fault::BareCr
        | Fault::BareLf => Ends(Clock::Patient, &[LoggedOut]),
    }
}
