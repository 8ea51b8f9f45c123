//! Two sessions, one behind the other, on one connection to the server equal two sessions on two connections: both devices
//! hear the same, the server gets the same commands, and the mailbox is the same at the end.
//!
//! The number of recent messages is left out, because it belongs to a connection (RFC 3501 §2.3.2).

use packetboat::proto::parking::{Answer, OwnCommand, ParkedState, has_unselect};
use packetboat::proto::{Deletes, Relogin, Side};
use support::fuzz::pair::{Pair, Parked, Protocol, Settings};
use support::fuzz::random::Random;

use super::Seen;

#[test]
fn two_sessions_on_one_connection_equal_two_connections() {
    let mut seen = Seen::new();
    for seed in 0..CONVERSATIONS {
        let mut random = Random(seed ^ 0x7a4c_1000_0000);
        let scripts = [script(&mut random, &mut seen), script(&mut random, &mut seen)];
        let settings = settings(&mut random);
        let two = play(&scripts, &settings, Way::DIALLED, |left| left, &mut seen);
        let piece = 1 + random.below(30);
        let one = play(&scripts, &settings, Way::PARKED, |left| left.min(piece), &mut seen);
        assert_eq!(one, two, "{seed}");
        // Both devices read the last answers only when they have sent LOGOUT.
        let slow = Way { window: Some(1 + random.below(60)), ..Way::PARKED };
        let slow = play(&scripts, &settings, slow, |left| left, &mut seen);
        for heard in &slow.heard {
            assert!(heard.ends_with("\r\n* BYE closing connection\r\nend OK LOGOUT completed\r\n"), "{seed}: {heard}");
        }
        assert_eq!(slow.in_any_order(), two.in_any_order(), "{seed}, slow");
    }
    for what in ["parked", "not parked", "unselected", "literal", "refused", "idle", "arrived", "pipelined"] {
        assert!(seen.get(what).is_some_and(|&times| times > 50), "{what}: {seen:?}");
    }
}

#[test]
fn every_cut_of_two_sessions_equals_two_connections() {
    let mut seen = Seen::new();
    for seed in 0..24 {
        let mut random = Random(seed ^ 0x7a4c_2000_0000);
        let scripts = [script(&mut random, &mut seen), script(&mut random, &mut seen)];
        let settings = settings(&mut random);
        let two = play(&scripts, &settings, Way::DIALLED, |left| left, &mut seen);
        for cut in 1.. {
            let mut sent = 0;
            let one_cut = |left: usize| {
                let now = if (sent..sent + left).contains(&cut) { (cut - sent).max(1) } else { left };
                sent += now;
                now
            };
            assert_eq!(play(&scripts, &settings, Way::PARKED, one_cut, &mut seen), two, "{seed} at {cut}");
            if sent <= cut {
                break;
            }
        }
    }
    assert!(seen["parked"] > 1000, "{seen:?}");
}

/// A step of a device.
enum Turn {
    Says(Vec<u8>),
    /// The device sends a literal, with the rest of its line, if the server has asked for that.
    Literal(Vec<u8>),
    /// Another program adds a message.
    Arrives,
}

/// The way in which both devices are served.
#[derive(Clone, Copy)]
struct Way {
    parks: bool,
    /// The octets that a device takes before it reads the answers behind its last command but one.
    window: Option<usize>,
}

impl Way {
    const DIALLED: Self = Self { parks: false, window: None };
    const PARKED: Self = Self { parks: true, window: None };
}

/// The octets that both devices have read, those that the server has got of each, and its mailbox at the end.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    heard: Vec<String>,
    got: Vec<String>,
    mail: Vec<Message>,
}

impl Outcome {
    /// The same with sorted lines. A refusal of packetboat's and an answer of the server's have no order where both wait for
    /// the device; the lines are whole nevertheless.
    fn in_any_order(mut self) -> Self {
        for heard in &mut self.heard {
            let mut lines: Vec<&str> = heard.split_inclusive("\r\n").collect();
            lines.sort_unstable();
            *heard = lines.concat();
        }
        self
    }
}

fn settings(random: &mut Random) -> [Settings; 2] {
    [(); 2].map(|()| Settings {
        deletes: if random.chance(50) { Deletes::Allowed } else { Deletes::Refused },
        relogin: Relogin::Refused,
        ..Settings::default()
    })
}

fn script(random: &mut Random, seen: &mut Seen) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut together = Vec::new();
    for number in 0..random.below(10) {
        let tag = format!("t{number}");
        let text = match random.below(18) {
            0..=2 => "SELECT INBOX",
            3 => "EXAMINE INBOX",
            4 => "SELECT nowhere",
            5 => "CLOSE",
            6 => "FETCH 1 (FLAGS BODY[])",
            7 => "UID FETCH 1 FLAGS",
            8 => "STORE 1 +FLAGS (\\Deleted)",
            9 => "EXPUNGE",
            10 => "CAPABILITY",
            11 => "LOGIN u p",
            12 => "UNSELECT",
            13 => {
                turns.push(Turn::Says(std::mem::take(&mut together)));
                turns.push(Turn::Says(format!("{tag} IDLE\r\n").into_bytes()));
                *seen.entry("idle").or_insert(0) += 1;
                turns.push(Turn::Says(b"DONE\r\n".to_vec()));
                continue;
            }
            14 => {
                let size = [5, 5, 70][random.below(3)];
                turns.push(Turn::Says(std::mem::take(&mut together)));
                turns.push(Turn::Says(format!("{tag} APPEND INBOX {{{size}}}\r\n").into_bytes()));
                turns.push(Turn::Literal([&b"t1 OK"[..], b"\r\n"].concat()));
                *seen.entry(if size > 60 { "refused" } else { "literal" }).or_insert(0) += 1;
                continue;
            }
            15 => {
                turns.push(Turn::Arrives);
                *seen.entry("arrived").or_insert(0) += 1;
                continue;
            }
            16 => ["ENABLE CONDSTORE", "X-UNKNOWN", "NOTIFY NONE", "NOOP"][random.below(4)],
            _ => "STATUS INBOX (MESSAGES UIDNEXT)",
        };
        together.extend(format!("{tag} {text}\r\n").bytes());
        if random.chance(70) {
            turns.push(Turn::Says(std::mem::take(&mut together)));
        }
    }
    // Some devices do not wait for the last answer.
    if !together.is_empty() {
        *seen.entry("pipelined").or_insert(0) += 1;
    }
    together.extend(b"end LOGOUT\r\n");
    turns.push(Turn::Says(together));
    turns
}

/// Plays both devices, the second one on the connection of the first if that is parked and the way is such.
fn play(
    scripts: &[Vec<Turn>; 2],
    settings: &[Settings; 2],
    Way { parks, window }: Way,
    mut cut: impl FnMut(usize) -> usize,
    seen: &mut Seen,
) -> Outcome {
    let mut mailbox = Mailbox::new();
    let mut outcome = Outcome { heard: Vec::new(), got: Vec::new(), mail: Vec::new() };
    let mut standing: Option<(Parked, Connection)> = None;
    for (script, settings) in scripts.iter().zip(settings) {
        let mut pair = Pair::new(Settings { parks, ..*settings }, Protocol::Imap);
        let (parked, connection) = standing.take().unzip();
        let is_new = parked.is_none();
        parked.into_iter().for_each(|parked| pair.resume(parked));
        let mut connection = connection.unwrap_or_default();
        pair.send(Side::Downstream, b"a LOGIN u p\r\n", &mut cut);
        if is_new {
            let login = b"* OK ready\r\nP2 OK [CAPABILITY IMAP4rev1 UNSELECT IDLE MOVE X-A] in\r\n";
            pair.send(Side::Upstream, login, &mut cut);
        }
        assert!(pair.is_relaying());
        let start = pair.received[1].len();
        let (mut got, mut asked) = (start, false);
        for (left, turn) in (0..script.len()).rev().zip(script) {
            if let (1, Some(window)) = (left, window) {
                pair.slow_device(window);
            }
            match turn {
                Turn::Says(octets) => pair.send(Side::Downstream, octets, &mut cut),
                Turn::Literal(octets) if asked => pair.send(Side::Downstream, octets, &mut cut),
                Turn::Literal(_) => {}
                Turn::Arrives => mailbox.append(b"from others"),
            }
            let answer = connection.answer(&pair.received[1][got..], &mut mailbox);
            got = pair.received[1].len();
            asked = answer.starts_with(b"+ go on");
            pair.send(Side::Upstream, &answer, &mut cut);
        }
        // A device that has not read for a while had the server answer late.
        while window.is_some() && !pair.over {
            pair.read();
            let answer = connection.answer(&pair.received[1][got..], &mut mailbox);
            if answer.is_empty() {
                break;
            }
            got = pair.received[1].len();
            pair.send(Side::Upstream, &answer, &mut cut);
        }
        pair.read();
        let to_server = String::from_utf8(pair.received[1][start..].to_vec()).unwrap();
        outcome.got.push(to_server.replace("end LOGOUT\r\n", ""));
        let heard = String::from_utf8(pair.received[0].clone()).unwrap();
        outcome.heard.push(heard.split_inclusive("\r\n").filter(|line| !line.ends_with(" RECENT\r\n")).collect());
        standing = pair.take_parked().and_then(|parked| prepare(parked, connection, &mut mailbox, seen));
        if parks {
            *seen.entry(if standing.is_some() { "parked" } else { "not parked" }).or_insert(0) += 1;
        }
        pair.all_received();
    }
    outcome.mail = mailbox.mail;
    outcome
}

/// Does to a connection what packetboat does before it is parked, and before it is taken again.
fn prepare(
    mut parked: Parked,
    mut connection: Connection,
    mailbox: &mut Mailbox,
    seen: &mut Seen,
) -> Option<(Parked, Connection)> {
    let ParkedState { capability, may_be_selected } = &mut parked.state;
    assert!(has_unselect(capability.as_deref().unwrap()));
    if *may_be_selected {
        *seen.entry("unselected").or_insert(0) += 1;
    }
    let own = if *may_be_selected { &[OwnCommand::Unselect, OwnCommand::Noop][..] } else { &[OwnCommand::Noop] };
    for command in own {
        // A server may refuse UNSELECT where nothing is selected. Such a connection is not parked.
        let answer = command.answer(&connection.answer(command.octets(), mailbox));
        if answer != Answer::Done(None) {
            assert!(answer == Answer::Other && *command == OwnCommand::Unselect && connection.selected.is_none());
            return None;
        }
    }
    *may_be_selected = false;
    Some((parked, connection))
}

/// A mailbox of one folder.
struct Mailbox {
    mail: Vec<Message>,
    next: u32,
    /// The first message that no connection has seen as recent.
    recent: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    uid: u32,
    text: Vec<u8>,
    is_seen: bool,
    is_deleted: bool,
}

impl Mailbox {
    fn new() -> Self {
        let mut mailbox = Self { mail: Vec::new(), next: 1, recent: 1 };
        mailbox.append(b"t2 OK done\r\n* BYE\r\n");
        mailbox.append(b"second {3}\r\n");
        mailbox
    }

    fn append(&mut self, text: &[u8]) {
        self.mail.push(Message { uid: self.next, text: text.to_vec(), is_seen: false, is_deleted: false });
        self.next += 1;
    }
}

/// The server's end of one connection. It keeps everything that a connection keeps.
#[derive(Default)]
struct Connection {
    /// The number of messages that the device knows of, and its right to change something; none where nothing is selected.
    selected: Option<(usize, bool)>,
    /// The messages that are recent in this connection.
    recent: usize,
    enabled: bool,
    idles: Option<String>,
    /// The tag of APPEND whose literal comes.
    appends: Option<String>,
    command: Vec<u8>,
}

impl Connection {
    fn answer(&mut self, octets: &[u8], mailbox: &mut Mailbox) -> Vec<u8> {
        let mut out = Vec::new();
        self.command.extend(octets);
        while let Some(end) = self.command.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.command.drain(..=end).collect();
            let line = String::from_utf8(line).unwrap().trim_end().to_owned();
            if let Some(tag) = self.appends.take() {
                mailbox.append(line.as_bytes());
                self.complete(&tag, "OK APPEND done", mailbox, &mut out);
            } else if let Some(tag) = self.idles.take() {
                assert_eq!(line, "DONE");
                self.complete(&tag, "OK IDLE done", mailbox, &mut out);
            } else {
                self.command(&line, mailbox, &mut out);
            }
        }
        out
    }

    fn command(&mut self, line: &str, mailbox: &mut Mailbox, out: &mut Vec<u8>) {
        let (tag, command) = line.split_once(' ').unwrap();
        let (verb, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let may_write = self.selected.is_some_and(|(_, may_write)| may_write);
        let answer = match (verb, self.selected) {
            ("SELECT" | "EXAMINE", _) => {
                self.selected = None;
                if arguments == "INBOX" { self.select(verb == "SELECT", mailbox, out) } else { "NO no such folder" }
            }
            ("CLOSE" | "UNSELECT", Some(_)) => {
                if verb == "CLOSE" && may_write {
                    mailbox.mail.retain(|message| !message.is_deleted);
                }
                self.selected = None;
                "OK closed"
            }
            ("FETCH" | "UID", Some(_)) => self.fetch(verb == "FETCH" && may_write, mailbox, out),
            ("STORE", Some((known, true))) if known > 0 && !mailbox.mail.is_empty() => {
                mailbox.mail[0].is_deleted |= arguments.contains("Deleted");
                "OK stored"
            }
            ("EXPUNGE", Some((_, true))) => {
                mailbox.mail.retain(|message| !message.is_deleted);
                "OK expunged"
            }
            ("CAPABILITY", _) => {
                out.extend(b"* CAPABILITY IMAP4rev1 UNSELECT IDLE MOVE X-A\r\n");
                "OK listed"
            }
            ("IDLE", _) => {
                out.extend(b"+ idling\r\n");
                return self.idles = Some(tag.to_owned());
            }
            ("APPEND", _) if arguments.ends_with("{5}") => {
                out.extend(b"+ go on\r\n");
                return self.appends = Some(tag.to_owned());
            }
            ("APPEND", _) => "NO too large",
            ("ENABLE", _) => {
                self.enabled = true;
                "OK enabled"
            }
            ("STATUS", _) => {
                let count = mailbox.mail.len();
                out.extend(format!("* STATUS INBOX (MESSAGES {count} UIDNEXT {})\r\n", mailbox.next).bytes());
                "OK done"
            }
            ("LOGOUT", _) => {
                out.extend(format!("* BYE closing connection\r\n{tag} OK LOGOUT completed\r\n").bytes());
                return;
            }
            ("NOOP", _) => "OK done",
            _ => "BAD not now",
        };
        self.complete(tag, answer, mailbox, out);
    }

    fn select(&mut self, may_write: bool, mailbox: &mut Mailbox, out: &mut Vec<u8>) -> &'static str {
        let count = mailbox.mail.len();
        self.recent += (mailbox.next - std::mem::replace(&mut mailbox.recent, mailbox.next)) as usize;
        self.selected = Some((count, may_write));
        let lines = format!("* {count} EXISTS\r\n* {} RECENT\r\n* OK [UIDNEXT {}] next\r\n", self.recent, mailbox.next);
        out.extend(lines.bytes());
        if may_write { "OK [READ-WRITE] selected" } else { "OK [READ-ONLY] selected" }
    }

    fn fetch(&self, marks: bool, mailbox: &mut Mailbox, out: &mut Vec<u8>) -> &'static str {
        let Some(message) = mailbox.mail.first_mut() else { return "NO no such message" };
        let Message { uid, text, is_seen, is_deleted } = message;
        let modseq = if self.enabled { " MODSEQ (1)" } else { "" };
        let flags = format!("{}{}", if *is_seen { "\\Seen" } else { "" }, if *is_deleted { " \\Deleted" } else { "" });
        out.extend(format!("* 1 FETCH (UID {uid} FLAGS ({flags}){modseq} BODY[] {{{}}}\r\n", text.len()).bytes());
        out.extend(text.iter().chain(b")\r\n"));
        *is_seen |= marks;
        "OK fetched"
    }

    /// Completes a command, and tells what has changed in the selected folder.
    fn complete(&mut self, tag: &str, answer: &str, mailbox: &Mailbox, out: &mut Vec<u8>) {
        if let Some((known, _)) = &mut self.selected
            && *known != mailbox.mail.len()
        {
            *known = mailbox.mail.len();
            out.extend(format!("* {known} EXISTS\r\n").bytes());
        }
        out.extend(format!("{tag} {answer}\r\n").bytes());
    }
}

const CONVERSATIONS: u64 = 3000;
