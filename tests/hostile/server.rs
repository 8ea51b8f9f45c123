//! This file plays a faulty server behind a good device.

use std::net::Ipv4Addr;
use std::thread;

use packetboat::failure::Kind;
use packetboat::protocol::Protocol;

use crate::device::Device;
use crate::expect::{End, Phase, ServerState, Verdict};
use crate::fault::{Fault, Means, inflict};
use crate::peer::{Peer, accept, lossy};
use crate::setup::Setup;

/// Runs one cell of the table, from the first octet to the last.
pub fn run(
    setup: &Setup,
    protocol: Protocol,
    state: ServerState,
    fault: Fault,
    from: Ipv4Addr,
    verdict: &Verdict,
) -> Result<(), String> {
    let imap = protocol == Protocol::Imap;
    let starttls = state.is_behind_starttls();
    let entry = if starttls { "bad-starttls" } else { "bad" };
    let peer = Peer::connect(from, setup.address(protocol, entry));
    let notes = setup.good(protocol).notes("");
    let mut device = Device { peer, imap, login: String::new(), notes };
    device.greeted()?;
    if !imap {
        device.peer.send("AUTH XOAUTH2\r\n");
        device.peer.line_with("+ ")?;
    }
    let bad = setup.bad(protocol, starttls);
    let accepted = {
        let _turn = bad.turn.lock().unwrap();
        // The login's base64 decodes to user=u^Aauth=Bearer t^A^A.
        device
            .say("x AUTHENTICATE XOAUTH2 dXNlcj11AWF1dGg9QmVhcmVyIHQBAQ==\r\n", "dXNlcj11AWF1dGg9QmVhcmVyIHQBAQ==\r\n");
        accept(&bad.listener)?
    };
    thread::scope(|scope| {
        let hearing = scope.spawn(|| hear(&mut device, state, verdict));
        let said = play(setup, accepted, imap, state, fault, verdict);
        let heard = hearing.join().map_err(|_| "the device's side panicked".to_owned())??;
        compare(state, verdict, &said?, &heard)
    })
}

/// The octets that the device gets after the answer to its login.
fn hear(device: &mut Device, state: ServerState, verdict: &Verdict) -> Result<Vec<u8>, String> {
    let imap = device.imap;
    match verdict {
        Verdict::None(_) => Ok(Vec::new()),
        Verdict::LoginFails(_, kinds) => {
            device.peer.line_with(refusal(kinds[0], imap))?;
            device.say("y LOGOUT\r\n", "QUIT\r\n");
            device.peer.hear_to_the_end()?;
            let heard = std::mem::take(&mut device.peer.heard);
            let bye = if imap {
                "* BYE closing connection\r\ny OK LOGOUT completed\r\n"
            } else {
                "+OK closing connection\r\n"
            };
            if heard == bye.as_bytes() { Ok(heard) } else { Err(format!("{:?} in place of {bye:?}", lossy(&heard))) }
        }
        Verdict::Ends(..) => {
            device.peer.line_with(if imap { "x OK" } else { "+OK" })?;
            match state {
                ServerState::MidMessage => device.say("d FETCH 1 BODY[]\r\n", "RETR 1\r\n"),
                ServerState::MidStatus => device.say("d NOOP\r\n", "NOOP\r\n"),
                ServerState::LogoutHeard => device.say("d LOGOUT\r\n", "QUIT\r\n"),
                _ => {}
            }
            device.peer.hear_to_the_end()?;
            Ok(std::mem::take(&mut device.peer.heard))
        }
    }
}

/// The reply that refuses a login (RFC 5530 §3, RFC 3206 §4). Temporary failures have a code of their own, because
/// devices drop an account for anything else.
fn refusal(kind: Kind, imap: bool) -> &'static str {
    match kind {
        Kind::UpstreamTls if imap => "x NO [CONTACTADMIN]",
        Kind::UpstreamTls => "-ERR [SYS/PERM]",
        _ if imap => "x NO [UNAVAILABLE]",
        _ => "-ERR [SYS/TEMP]",
    }
}

/// Plays the server up to the state, then its fault; returns the octets that it has sent after the login.
fn play(
    setup: &Setup,
    accepted: std::net::TcpStream,
    imap: bool,
    state: ServerState,
    fault: Fault,
    verdict: &Verdict,
) -> Result<Vec<u8>, String> {
    let mut peer = Peer::over(accepted);
    let logged_in_at = reach(setup, &mut peer, imap, state)?;
    let unending = !matches!(verdict, Verdict::Ends(..));
    inflict(fault, &mut peer, &means(imap, state, unending));
    let waits =
        matches!(fault, Fault::Stall | Fault::StalledRecord | Fault::Alert | Fault::ForgedAlert | Fault::Forgotten);
    if !unending && !waits {
        peer.close_half();
    }
    if fault == Fault::Forgotten { peer.until_let_go() } else { peer.hear_to_the_end() }?;
    Ok(peer.said.split_off(logged_in_at.min(peer.said.len())))
}

/// Takes the server to the state; returns how many of its octets come before the device is in.
fn reach(setup: &Setup, peer: &mut Peer, imap: bool, state: ServerState) -> Result<usize, String> {
    let say = |peer: &mut Peer, in_imap: &str, in_pop3: &str| {
        peer.try_send(if imap { in_imap } else { in_pop3 }.as_bytes()).map_err(|error| error.to_string())
    };
    match state {
        ServerState::Accepted => return Ok(0),
        ServerState::MidServerHello => {
            peer.hear_for(support::process::PATIENCE);
            peer.try_send(&[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3]).unwrap();
            return Ok(0);
        }
        ServerState::StartTlsHeard | ServerState::StartTlsAnswered => {
            say(peer, "* OK ready\r\n", "+OK ready\r\n")?;
            peer.line_with(if imap { "P1 STARTTLS" } else { "STLS" })?;
            if state == ServerState::StartTlsAnswered {
                say(peer, "P1 OK begin\r\n", "+OK begin\r\n")?;
                peer.hear_for(support::process::PATIENCE);
            }
            return Ok(0);
        }
        _ => peer.shake_as_server(&setup.context)?,
    }
    if state == ServerState::BeforeGreeting {
        return Ok(0);
    }
    if state == ServerState::MidGreeting {
        say(peer, "* OK re", "+OK re")?;
        return Ok(0);
    }
    say(peer, "* OK ready\r\n", "+OK ready\r\n")?;
    if state == ServerState::Greeted {
        return Ok(0);
    }
    peer.line_with(if imap { "P2 AUTHENTICATE XOAUTH2 dXNl" } else { "AUTH XOAUTH2" })?;
    if !imap {
        peer.try_send(b"+ \r\n").unwrap();
        peer.line_with("dXNl")?;
    }
    match state {
        ServerState::MidChallenge => say(peer, "+ eyJz", "+ eyJz")?,
        ServerState::MidLoginAnswer => say(peer, "P2 OK log", "+OK log")?,
        _ => {}
    }
    if state.phase() == Phase::Login {
        return Ok(0);
    }
    say(peer, "P2 OK in\r\n", "+OK in\r\n")?;
    let logged_in_at = peer.said.len();
    match state {
        ServerState::MidMessage => {
            peer.line_with(if imap { "d FETCH" } else { "RETR" })?;
            say(peer, "* 1 FETCH (BODY[] {9999999}\r\nFrom: a", "+OK mail\r\nFrom: a")?;
        }
        ServerState::MidStatus => {
            peer.line_with(if imap { "d NOOP" } else { "NOOP" })?;
            say(peer, "d OK do", "+OK do")?;
        }
        ServerState::LogoutHeard => drop(peer.line_with(if imap { "d LOGOUT" } else { "QUIT" })?),
        _ => {}
    }
    Ok(logged_in_at)
}

fn means(imap: bool, state: ServerState, unending: bool) -> Means<'static> {
    let drops: &[u8] = match state {
        ServerState::Accepted | ServerState::StartTlsAnswered => &[22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3],
        ServerState::MidServerHello => &[1],
        _ => b"a",
    };
    let line: &[u8] = if imap { b"* OK still here\r\n" } else { b"+ \r\n" };
    Means { line, literal: b"* 1 FETCH (BODY[] {999999999}\r\n", drops, unending }
}

/// Compares the server's octets after the login with the device's. The device gets the same octets, followed at most by
/// a goodbye.
fn compare(state: ServerState, verdict: &Verdict, said: &[u8], heard: &[u8]) -> Result<(), String> {
    let Verdict::Ends(_, ends) = verdict else { return Ok(()) };
    if state.phase() == Phase::Login {
        return Ok(());
    }
    let same = said.iter().zip(heard).take_while(|(one, other)| one == other).count();
    let rest = &heard[same..];
    let may_speak = ends.iter().any(|end| matches!(end, End::Failed(_)));
    let whole = same == said.len() || may_speak;
    let words = rest.is_empty() || (may_speak && rest.starts_with(b"* BYE "));
    if whole && words {
        return Ok(());
    }
    Err(format!("said {} octets, {same} came, and then {:?}", said.len(), lossy(rest)))
}
