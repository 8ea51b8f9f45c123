//! This file plays a faulty device in front of a good server.

use std::net::Ipv4Addr;

use packetboat::failure::Kind;
use packetboat::protocol::Protocol;

use crate::expect::{DeviceState, End};
use crate::fault::{Fault, Means, inflict};
use crate::good::Notes;
use crate::peer::{Peer, client_hello, lossy};
use crate::setup::Setup;

/// Runs one cell of the table, from the first octet to the last.
pub fn run(
    setup: &Setup,
    protocol: Protocol,
    state: DeviceState,
    fault: Fault,
    from: Ipv4Addr,
    ends: &[End],
) -> Result<(), String> {
    let login = format!("c{}", from.to_string().replace('.', "-"));
    let notes = setup.good(protocol).notes(&login);
    let entry = match state {
        DeviceState::InClear | DeviceState::StartTlsAnswered | DeviceState::Secured => "clear",
        DeviceState::MidHelloOrNot => "auto",
        _ => "good",
    };
    let peer = Peer::connect(from, setup.address(protocol, entry));
    let mut device = Device { peer, imap: protocol == Protocol::Imap, login, notes: notes.clone() };
    device.reach(state)?;
    let is_in = device.is_in(state);
    let said_before = device.peer.said.len();
    let is_answered = is_in || matches!(state, DeviceState::LoggingIn | DeviceState::LoggedOut);
    let unending = !is_answered;
    device.peer.heard.clear();
    let means = device.means(state, unending);
    inflict(fault, &mut device.peer, &means);
    if !unending && matches!(fault, Fault::Dribble | Fault::EndlessLines) {
        device.peer.close_half();
    }
    notes.release();
    if fault == Fault::Forgotten { device.peer.until_let_go() } else { device.peer.hear_to_the_end() }?;
    let heard = String::from_utf8_lossy(&device.peer.heard).into_owned();
    // Where TLS ends at a forged or torn record, the device cannot read a last line.
    if let [End::Failed(kind)] = ends
        && let Some(words) = last_words(*kind, protocol, is_in)
        && state.phase() != crate::expect::Phase::Handshake
        && !heard.contains(&words)
    {
        return Err(format!("not told {words:?}, but {:?}", lossy(heard.as_bytes())));
    }
    if !is_answered {
        return if notes.was_dialled() { Err("the server was dialled".to_owned()) } else { Ok(()) };
    }
    // The server gets the device's own octets and nothing else; the proxy sends no QUIT on its own.
    let at_server = notes.heard()?;
    let said = device.peer.said.get(device.login_ended_at(said_before)..).unwrap_or_default();
    if !said.starts_with(&at_server) {
        return Err(format!("the server heard {:?}, the device said {:?}", lossy(&at_server), lossy(said)));
    }
    Ok(())
}

/// Logs a good device in, and out.
pub fn good(setup: &Setup, protocol: Protocol) -> Result<(), String> {
    let login = "good".to_owned();
    let peer = Peer::connect(Ipv4Addr::LOCALHOST, setup.address(protocol, "good"));
    let mut device =
        Device { peer, imap: protocol == Protocol::Imap, notes: setup.good(protocol).notes(&login), login };
    device.logged_in()?;
    device.say("y NOOP\r\nz LOGOUT\r\n", "NOOP\r\nQUIT\r\n");
    device.peer.hear_to_the_end()?;
    let words: &[u8] = if device.imap { b"y OK done\r\n* BYE bye\r\nz OK bye\r\n" } else { b"+OK done\r\n+OK bye\r\n" };
    if device.peer.heard == words {
        Ok(())
    } else {
        Err(format!("a good device heard {:?}", lossy(&device.peer.heard)))
    }
}

/// The last line that the device gets, in its own protocol.
fn last_words(kind: Kind, protocol: Protocol, is_in: bool) -> Option<String> {
    // What the device did wrong is for the log.
    let kind = if matches!(kind, Kind::NoCommand | Kind::SpeaksInClear) { Kind::LoginTimeout } else { kind };
    let speaks = match kind {
        Kind::TooLong | Kind::LoginTimeout | Kind::TooManyBadCommands | Kind::Handshake => true,
        // POP3 has no unsolicited line.
        Kind::IdleTimeout => protocol == Protocol::Imap,
        _ => false,
    };
    let indicator = if protocol == Protocol::Imap { "* BYE" } else { "-ERR" };
    (speaks && (!is_in || protocol == Protocol::Imap)).then(|| format!("{indicator} {}", kind.meaning()))
}

pub struct Device {
    pub peer: Peer,
    pub imap: bool,
    pub login: String,
    pub notes: Notes,
}

impl Device {
    /// Takes the device to the state.
    fn reach(&mut self, state: DeviceState) -> Result<(), String> {
        match state {
            DeviceState::Connected => {}
            DeviceState::MidHello | DeviceState::MidHelloOrNot => {
                let hello = client_hello();
                self.peer.try_send(&hello[..20]).unwrap();
            }
            DeviceState::MidHandshake => {
                self.peer.try_send(&client_hello()).unwrap();
                self.peer.hear_for(support::process::PATIENCE);
            }
            DeviceState::InClear => drop(self.greeting()?),
            DeviceState::StartTlsAnswered => self.starttls()?,
            DeviceState::Secured => {
                self.starttls()?;
                self.peer.shake_as_device()?;
            }
            DeviceState::Greeted => self.greeted()?,
            DeviceState::MidCommand => {
                self.greeted()?;
                self.say("x NOO", "NOO");
            }
            DeviceState::MidLiteral => {
                self.greeted()?;
                self.say("x LOGIN u {10}\r\n", "");
                self.peer.line_with("+ ")?;
                self.say("abc", "");
            }
            DeviceState::UserGiven => {
                self.greeted()?;
                self.say("", "USER u\r\n");
                self.peer.line_with("+OK")?;
            }
            DeviceState::MidSasl => {
                self.greeted()?;
                self.say("x AUTHENTICATE PLAIN\r\n", "AUTH PLAIN\r\n");
                self.peer.line_with("+ ")?;
                self.say("AGFi", "AGFi");
            }
            DeviceState::LoggingIn => {
                self.greeted()?;
                self.notes.hold_login();
                self.log_in_begun()?;
                self.notes.until_logging_in()?;
            }
            DeviceState::Relaying => self.logged_in()?,
            DeviceState::MidRelayedCommand => {
                self.logged_in()?;
                self.say("b NOO", "NOO");
            }
            DeviceState::MidAppend => {
                self.logged_in()?;
                self.say("b APPEND INBOX {1000}\r\n", "");
                self.peer.line_with("+ ")?;
                self.peer.try_send(&[b'm'; 100]).unwrap();
            }
            DeviceState::Idling => {
                self.logged_in()?;
                self.say("b IDLE\r\n", "");
                self.peer.line_with("+ ")?;
            }
            DeviceState::Pipelined => {
                self.logged_in()?;
                self.say("b NOOP\r\nc NOOP\r\nd NOO", "NOOP\r\nNOOP\r\nNOO");
            }
            DeviceState::LoggedOut => {
                self.logged_in()?;
                self.notes.hold_logout();
                self.say("z LOGOUT\r\n", "QUIT\r\n");
                self.notes.until_logging_out()?;
            }
        }
        Ok(())
    }

    fn is_in(&self, state: DeviceState) -> bool {
        state.phase() == crate::expect::Phase::Relay && state != DeviceState::LoggingIn
    }

    pub fn say(&mut self, imap: &str, pop3: &str) {
        self.peer.send(if self.imap { imap } else { pop3 });
    }

    fn greeting(&mut self) -> Result<String, String> {
        self.peer.line_with(if self.imap { "* OK" } else { "+OK" })
    }

    fn starttls(&mut self) -> Result<(), String> {
        self.greeting()?;
        self.say("s STARTTLS\r\n", "STLS\r\n");
        self.peer.line_with(if self.imap { "s OK" } else { "+OK" }).map(drop)
    }

    pub fn greeted(&mut self) -> Result<(), String> {
        self.peer.shake_as_device()?;
        self.greeting().map(drop)
    }

    fn log_in_begun(&mut self) -> Result<(), String> {
        let login = self.login.clone();
        if self.imap {
            self.peer.send(&format!("{LOGIN}{login} p\r\n"));
        } else {
            self.peer.send(&format!("USER {login}\r\n"));
            self.peer.line_with("+OK")?;
            self.peer.send("PASS p\r\n");
        }
        Ok(())
    }

    pub fn logged_in(&mut self) -> Result<(), String> {
        self.greeted()?;
        self.log_in_begun()?;
        self.peer.line_with(if self.imap { "x OK" } else { "+OK" }).map(drop)
    }

    /// The offset in the device's octets at which the login has ended.
    fn login_ended_at(&self, at_most: usize) -> usize {
        let last = if self.imap { LOGIN } else { "PASS p" };
        let begin = self.peer.said.windows(last.len()).position(|window| window == last.as_bytes()).unwrap_or(at_most);
        let rest = &self.peer.said[begin..];
        begin + rest.iter().position(|&octet| octet == b'\n').map_or(rest.len(), |end| end + 1)
    }

    fn means(&self, state: DeviceState, unending: bool) -> Means<'static> {
        let drops: &[u8] = match state {
            DeviceState::Connected | DeviceState::StartTlsAnswered => &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 1],
            _ => b"a",
        };
        let is_relayed = self.is_in(state) || matches!(state, DeviceState::LoggingIn | DeviceState::LoggedOut);
        Means {
            line: if self.imap { b"x NOOP\r\n" } else { b"NOOP\r\n" },
            literal: if is_relayed { b"x APPEND INBOX {999999999+}\r\n" } else { b"x LOGIN {999999999+}\r\n" },
            drops,
            unending,
        }
    }
}

const LOGIN: &str = "x LOGIN ";
