//! This file has the expected results for a faulty device in front of a good server.

use packetboat::failure::Kind::{
    DeviceLost, Handshake, HandshakeTimeout, IdleTimeout, LeftAfterHandshake, LoginTimeout, NoCommand, NothingSaid,
    SpeaksInClear, TooLong, TooManyBadCommands,
};

use super::DeviceState as D;
use super::End::{DeviceClosed, Failed, LoggedOut, ServerClosed};
use super::Verdict::{self, Ends};
use super::{Clock, DeviceState, NO_LITERAL, NO_TLS, Phase, Protocol};
use crate::fault::Fault::{self, *};

/// The expected result of one cell.
pub fn of_device(protocol: Protocol, state: DeviceState, fault: Fault) -> Verdict {
    if let Some(why) = state.is_missing(protocol) {
        return Verdict::None(why);
    }
    if fault == EndlessLiteral && protocol == Protocol::Pop3 {
        return NO_LITERAL;
    }
    match state.phase() {
        Phase::Handshake => shaking(state, fault),
        Phase::Clear => in_clear(fault),
        Phase::Login => silent(state, fault).unwrap_or_else(|| before_login(fault)),
        Phase::Relay => relaying(state, fault),
        Phase::Over => logged_out(fault),
    }
}

fn shaking(state: DeviceState, fault: Fault) -> Verdict {
    const REFUSED: Verdict = Ends(Clock::Patient, &[Failed(Handshake)]);
    const LATE: Verdict = Ends(Clock::Handshake, &[Failed(HandshakeTimeout)]);
    const SILENT: Verdict = Ends(Clock::Patient, &[Failed(NothingSaid)]);
    match fault {
        Stall | Dribble => LATE,
        Forgotten if matches!(state, D::Connected | D::StartTlsAnswered) => {
            Ends(Clock::KeepAlive, &[Failed(NothingSaid)])
        }
        Forgotten => Ends(Clock::KeepAlive, &[Failed(Handshake)]),
        ForgedAlert => NO_TLS,
        // The fault's seven octets might still become the rest of the ClientHello.
        Alert | StalledRecord if matches!(state, D::MidHello | D::MidHelloOrNot) => LATE,
        // The record's beginning cannot begin a handshake message.
        StalledRecord if state == D::MidHandshake => LATE,
        Reset | HalfClose | Vanish if matches!(state, D::Connected | D::StartTlsAnswered) => SILENT,
        Reset | HalfClose | Vanish | EndlessLine | EndlessLines | EndlessLiteral | Garbage | Nuls | BareCr | BareLf
        | Alert | TornRecord | StalledRecord => REFUSED,
    }
}

fn in_clear(fault: Fault) -> Verdict {
    match fault {
        ForgedAlert => NO_TLS,
        // The alert is the beginning of a line, because the connection is in clear.
        Alert => Ends(Clock::Login, &[Failed(LoginTimeout)]),
        Stall => Ends(Clock::Login, &[Failed(NoCommand)]),
        EndlessLines => Ends(Clock::Login, &[Failed(SpeaksInClear)]),
        other => before_login(other),
    }
}

/// The expected result of a device that has TLS, and has sent nothing since.
fn silent(state: DeviceState, fault: Fault) -> Option<Verdict> {
    match (state, fault) {
        // After STARTTLS the protocol is right.
        (D::Greeted, Stall | StalledRecord) => Some(Ends(Clock::Login, &[Failed(NoCommand)])),
        (D::Greeted | D::Secured, Reset | HalfClose | Vanish | TornRecord) => {
            Some(Ends(Clock::Patient, &[Failed(LeftAfterHandshake)]))
        }
        _ => None,
    }
}

fn before_login(fault: Fault) -> Verdict {
    match fault {
        Stall | Dribble | EndlessLines | StalledRecord => Ends(Clock::Login, &[Failed(LoginTimeout)]),
        Reset | Alert | ForgedAlert => Ends(Clock::Patient, &[Failed(DeviceLost)]),
        Forgotten => Ends(Clock::KeepAlive, &[Failed(DeviceLost)]),
        HalfClose | Vanish | TornRecord => Ends(Clock::Patient, &[DeviceClosed]),
        EndlessLine | EndlessLiteral | BareCr => Ends(Clock::Patient, &[Failed(TooLong)]),
        Garbage | Nuls | BareLf => Ends(Clock::Patient, &[Failed(TooManyBadCommands)]),
    }
}

fn relaying(state: DeviceState, fault: Fault) -> Verdict {
    match fault {
        Stall if state == D::LoggingIn => Verdict::None("a device that waits for its answer does no wrong"),
        Dribble if state == D::LoggingIn => {
            Verdict::None("what is sent before the answer is relayed behind it, octet by octet or not")
        }
        Stall | StalledRecord => Ends(Clock::Idle, &[Failed(IdleTimeout)]),
        // It moves, so it is not idle; then it closes.
        Dribble => Ends(Clock::Idle, &[DeviceClosed]),
        Reset | Alert | ForgedAlert => Ends(Clock::Patient, &[Failed(DeviceLost)]),
        Forgotten => Ends(Clock::KeepAlive, &[Failed(DeviceLost)]),
        HalfClose | Vanish | TornRecord => Ends(Clock::Patient, &[DeviceClosed]),
        // The device sends a megabyte of commands, which are all answered, and closes.
        EndlessLines => Ends(Clock::Patient, &[DeviceClosed]),
        // The octets pass, and the server has limits of its own.
        EndlessLine | EndlessLiteral | Garbage | Nuls | BareCr | BareLf => Ends(Clock::Patient, &[ServerClosed]),
    }
}

/// The expected result after LOGOUT or QUIT, which is carried out whatever the device does.
fn logged_out(fault: Fault) -> Verdict {
    match fault {
        Stall | Reset | HalfClose | Vanish | Dribble | EndlessLine | EndlessLines | EndlessLiteral | Garbage | Nuls
        | BareCr | BareLf | Alert | ForgedAlert | TornRecord | StalledRecord => Ends(Clock::Patient, &[LoggedOut]),
        Forgotten => Ends(Clock::KeepAlive, &[LoggedOut]),
    }
}
