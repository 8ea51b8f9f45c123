//! This file has the expected results for a faulty server behind a good device.

use packetboat::failure::Kind::{Connect, IdleTimeout, UpstreamLost, UpstreamProtocol, UpstreamTimeout, UpstreamTls};

use super::End::{Failed, LoggedOut, ServerClosed};
use super::ServerState as S;
use super::Verdict::{self, Ends, LoginFails};
use super::{Clock, NO_LITERAL, NO_TLS, Phase, Protocol, ServerState};
use crate::fault::Fault::{self, *};

/// The expected result of one cell.
pub fn of_server(protocol: Protocol, state: ServerState, fault: Fault) -> Verdict {
    if fault == EndlessLiteral && protocol == Protocol::Pop3 {
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
        Stall | Dribble | StalledRecord => LoginFails(Clock::UpstreamHandshake, &[UpstreamTimeout]),
        Forgotten => LoginFails(Clock::KeepAlive, &[UpstreamLost]),
        ForgedAlert => NO_TLS,
        // The fault's seven octets might still become the rest of the ServerHello.
        Alert if state == S::MidServerHello => LoginFails(Clock::UpstreamHandshake, &[UpstreamTimeout]),
        // The reset may meet the connection, or the attempt to connect.
        Reset if state == S::Accepted => LoginFails(Clock::Patient, &[UpstreamLost, Connect]),
        Reset | HalfClose | Vanish | TornRecord => LoginFails(Clock::Patient, &[UpstreamLost]),
        EndlessLine | EndlessLines | EndlessLiteral | Garbage | Nuls | BareCr | BareLf | Alert => {
            LoginFails(Clock::Patient, &[UpstreamTls])
        }
    }
}

fn server_in_clear(protocol: Protocol, fault: Fault) -> Verdict {
    match fault {
        // The alert is the beginning of a line, because the connection is in clear.
        Alert => LoginFails(Clock::UpstreamLogin, &[UpstreamTimeout]),
        ForgedAlert => NO_TLS,
        // STLS has no challenge.
        EndlessLines if protocol == Protocol::Pop3 => LoginFails(Clock::Patient, &[UpstreamProtocol]),
        other => server_before_login(other),
    }
}

fn server_logging_in(protocol: Protocol, state: ServerState, fault: Fault) -> Verdict {
    match (state, fault) {
        (S::BeforeGreeting, EndlessLines) if protocol == Protocol::Pop3 => {
            LoginFails(Clock::Patient, &[UpstreamProtocol])
        }
        // The first line end completes an answer, so the device is in, and gets the rest.
        (S::MidLoginAnswer, EndlessLines | EndlessLiteral | Garbage | Nuls | BareLf) => {
            Ends(Clock::Patient, &[ServerClosed])
        }
        (_, other) => server_before_login(other),
    }
}

fn server_before_login(fault: Fault) -> Verdict {
    match fault {
        Stall | Dribble | EndlessLines | StalledRecord => LoginFails(Clock::UpstreamLogin, &[UpstreamTimeout]),
        Reset | HalfClose | Vanish | TornRecord | Alert | ForgedAlert => LoginFails(Clock::Patient, &[UpstreamLost]),
        Forgotten => LoginFails(Clock::KeepAlive, &[UpstreamLost]),
        EndlessLine | EndlessLiteral | Garbage | Nuls | BareCr | BareLf => {
            LoginFails(Clock::Patient, &[UpstreamProtocol])
        }
    }
}

fn server_relaying(fault: Fault) -> Verdict {
    match fault {
        Stall | StalledRecord => Ends(Clock::Idle, &[Failed(IdleTimeout)]),
        // It moves, so it is not idle; then it closes.
        Dribble => Ends(Clock::Idle, &[ServerClosed]),
        Reset | Alert | ForgedAlert => Ends(Clock::Patient, &[Failed(UpstreamLost)]),
        Forgotten => Ends(Clock::KeepAlive, &[Failed(UpstreamLost)]),
        HalfClose | Vanish | TornRecord => Ends(Clock::Patient, &[ServerClosed]),
        // The octets pass, and then the server closes.
        EndlessLine | EndlessLines | EndlessLiteral | Garbage | Nuls | BareCr | BareLf => {
            Ends(Clock::Patient, &[ServerClosed])
        }
    }
}

fn server_over(fault: Fault) -> Verdict {
    match fault {
        Stall | StalledRecord => Ends(Clock::Idle, &[Failed(IdleTimeout)]),
        Dribble | Reset | HalfClose | Vanish | TornRecord | Alert | ForgedAlert | EndlessLine | EndlessLines
        | EndlessLiteral | Garbage | Nuls | BareCr | BareLf => Ends(Clock::Patient, &[LoggedOut]),
        Forgotten => Ends(Clock::KeepAlive, &[LoggedOut]),
    }
}
