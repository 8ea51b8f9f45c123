//! A server with a fault, and a good device.

use packetboat::failure::Kind::{Connect, IdleTimeout, UpstreamLost, UpstreamProtocol, UpstreamTimeout, UpstreamTls};

use super::End::{Failed, LoggedOut, ServerClosed};
use super::ServerState as S;
use super::Verdict::{self, Ends, LoginFails};
use super::{Clock, NO_LITERAL, NO_TLS, Phase, Protocol, ServerState};
use crate::fault::Fault;

/// Of one cell.
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
        Fault::Forgotten => LoginFails(Clock::KeepAlive, &[UpstreamLost]),
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
        Fault::Forgotten => LoginFails(Clock::KeepAlive, &[UpstreamLost]),
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
        Fault::Forgotten => Ends(Clock::KeepAlive, &[Failed(UpstreamLost)]),
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
        Fault::Forgotten => Ends(Clock::KeepAlive, &[LoggedOut]),
    }
}
