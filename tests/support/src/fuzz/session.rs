//! This file plays a session out of any octets: first its settings, then the events on either side in their order.
//!
//! 0xFE and a letter begin something; all other octets are said by the side that speaks.
//!
//! | letter | what happens |
//! |---|---|
//! | `d`, `u` | the device, the server speaks |
//! | `D`, `U` | the device, the server closes its half |
//! | `t`, `T` | from here on there is no token and no server, there is one |
//! | `s`, `S` | the server is greeted in clear and then by STARTTLS, with TLS from the start: from the next login on |
//! | `p`, `P` | the mailbox is tried behind the next login, is not |
//! | `b` | the connection ends: time is over |
//! | any other | that octet is said |

use packetboat::failure::{Failure, Kind};
use packetboat::proto::{Deletes, Probe, Relogin, Side};
use packetboat::protocol::Security;

use crate::fuzz::pair::{Heard, Pair, Protocol, Settings};

enum Happening {
    Says(Side, Vec<u8>),
    Closes(Side),
    Reachable(bool),
    Upstream(Security),
    Probe(Probe),
    TimeIsOver,
}

/// Plays the input whole, in single octets, and in pieces; the output is the same, unless a server of SMTP speaks out of
/// turn, and is returned. The driver and the model check the rest.
pub fn play(protocol: Protocol, input: &[u8]) -> Option<Heard> {
    let (&first, script) = input.split_first()?;
    let mut settings = Settings::default();
    settings.offer.encrypted = first & 1 == 0;
    settings.offer.starttls = first & 2 == 0;
    settings.offer.plaintext_login = first & 4 != 0;
    settings.offer.xoauth2 = first & 8 == 0;
    settings.offer.keeps = first & 64 != 0;
    settings.offer.by_source = protocol == Protocol::Smtp && first & 128 != 0;
    settings.deletes = if first & 16 == 0 { Deletes::Allowed } else { Deletes::Refused };
    settings.relogin = if first & 32 == 0 { Relogin::Allowed } else { Relogin::Refused };
    // Connections are parked behind translated logins alone, and those cannot be repeated.
    settings.parks = protocol == Protocol::Imap && first & 128 != 0 && settings.relogin == Relogin::Refused;
    let happenings = read(script);
    let (whole, mut is_out_of_turn) = run(protocol, settings, &happenings, |left| left);
    assert_never_deletes(protocol, &settings, &whole);
    let (single, of_single) = run(protocol, settings, &happenings, |_| 1);
    is_out_of_turn |= of_single;
    assert!(is_out_of_turn || is_same(&single, &whole), "octet by octet: {single:?}\nin place of {whole:?}");
    let mut at = usize::from(first);
    let (pieces, of_pieces) = run(protocol, settings, &happenings, |_| {
        at = at.wrapping_mul(31).wrapping_add(17);
        1 + at % 7
    });
    is_out_of_turn |= of_pieces;
    assert!(is_out_of_turn || is_same(&pieces, &whole), "in pieces: {pieces:?}\nin place of {whole:?}");
    Some(whole)
}

/// Returns whether two ways to cut the input come to the same. Where the device sends something behind LOGOUT, the cut
/// decides whether the connection is parked before that comes, or the server gets LOGOUT.
fn is_same(one: &Heard, other: &Heard) -> bool {
    let has_parked = |heard: &Heard| heard.events.iter().any(|event| event == "parked");
    let (parked, passed) = match (has_parked(one), has_parked(other)) {
        (true, false) => (one, other),
        (false, true) => (other, one),
        (true, true) | (false, false) => return one == other,
    };
    let rest = passed.server.strip_prefix(parked.server.as_str()).unwrap_or_default();
    // A LF alone ends the line as well, and stands in what was heard as `\n`.
    let rest = rest.replace("\\n", "\n");
    let line = rest.lines().next().unwrap_or_default();
    line.split(' ').nth(1).is_some_and(|verb| verb.eq_ignore_ascii_case("LOGOUT"))
}

fn read(script: &[u8]) -> Vec<Happening> {
    let mut happenings = Vec::new();
    let mut side = Side::Downstream;
    let mut says = Vec::new();
    let mut octets = script.iter();
    while let Some(&octet) = octets.next() {
        let letter = if octet == MARK { octets.next() } else { None };
        let next = match letter {
            None => {
                says.push(octet);
                continue;
            }
            Some(b'd') => Err(Side::Downstream),
            Some(b'u') => Err(Side::Upstream),
            Some(b'D') => Ok(Happening::Closes(Side::Downstream)),
            Some(b'U') => Ok(Happening::Closes(Side::Upstream)),
            Some(b't') => Ok(Happening::Reachable(false)),
            Some(b'T') => Ok(Happening::Reachable(true)),
            Some(b's') => Ok(Happening::Upstream(Security::StartTls)),
            Some(b'S') => Ok(Happening::Upstream(Security::Implicit)),
            Some(b'p') => Ok(Happening::Probe(Probe::Run)),
            Some(b'P') => Ok(Happening::Probe(Probe::Skip)),
            Some(b'b') => Ok(Happening::TimeIsOver),
            Some(&other) => {
                says.push(other);
                continue;
            }
        };
        happenings.push(Happening::Says(side, std::mem::take(&mut says)));
        match next {
            Ok(happening) => happenings.push(happening),
            Err(speaks) => side = speaks,
        }
    }
    happenings.push(Happening::Says(side, says));
    happenings
}

/// Returns what both sides have heard, and whether the server of a submission has spoken out of turn.
fn run(
    protocol: Protocol,
    settings: Settings,
    happenings: &[Happening],
    mut cut: impl FnMut(usize) -> usize,
) -> (Heard, bool) {
    let mut pair = Pair::new(settings, protocol);
    for happening in happenings {
        if pair.over {
            break;
        }
        match happening {
            Happening::Says(side, octets) => pair.send(*side, octets, &mut cut),
            Happening::Closes(side) => pair.close(*side),
            Happening::Reachable(reachable) => pair.settings.reachable = *reachable,
            Happening::Upstream(upstream) => pair.settings.upstream = *upstream,
            Happening::Probe(probe) => pair.settings.probe = *probe,
            Happening::TimeIsOver => pair.end(&Failure::new(Kind::IdleTimeout, "")),
        }
    }
    let is_out_of_turn = pair.is_out_of_turn();
    let heard = pair.all_received();
    // An answer that comes before its command ends the session where the session sees it in time.
    let is_early = protocol == Protocol::Smtp && heard.events.iter().any(|event| event == "error upstream_protocol");
    (heard, is_out_of_turn || is_early)
}

/// Checks that nothing is deleted. POP3 shows it directly; IMAP needs a server that parses
/// (`no_server_is_asked_to_delete`).
fn assert_never_deletes(protocol: Protocol, settings: &Settings, heard: &Heard) {
    let is_plain = protocol == Protocol::Pop3 && settings.deletes == Deletes::Refused;
    let deletes = |line: &str| line.trim_start().to_ascii_uppercase().starts_with("DELE");
    assert!(!is_plain || !heard.server.lines().any(deletes), "{heard:?}");
}

const MARK: u8 = 0xfe;
