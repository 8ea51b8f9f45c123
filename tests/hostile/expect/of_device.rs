//! A device with a fault, and a good server.

use packetboat::failure::Kind::{
    DeviceLost, Handshake, HandshakeTimeout, IdleTimeout, LoginTimeout, NothingSaid, TooLong, TooManyBadCommands,
};

use super::DeviceState as D;
use super::End::{DeviceClosed, Failed, LoggedOut, ServerClosed};
use super::Verdict::{self, Ends};
use super::{Clock, DeviceState, NO_LITERAL, NO_TLS, Phase, Protocol};
use crate::fault::Fault;

/// Of one cell.
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
        Fault::Forgotten if matches!(state, D::Connected | D::StartTlsAnswered) => {
            Ends(Clock::KeepAlive, &[Failed(NothingSaid)])
        }
        Fault::Forgotten => Ends(Clock::KeepAlive, &[Failed(Handshake)]),
        Fault::ForgedAlert => NO_TLS,
        // Seven octets that might still become the rest of the ClientHello.
        Fault::Alert | Fault::StalledRecord if matches!(state, D::MidHello | D::MidHelloOrNot) => LATE,
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
        Fault::Forgotten => Ends(Clock::KeepAlive, &[Failed(DeviceLost)]),
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
        Fault::Forgotten => Ends(Clock::KeepAlive, &[Failed(DeviceLost)]),
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
        Fault::Forgotten => Ends(Clock::KeepAlive, &[LoggedOut]),
    }
}
