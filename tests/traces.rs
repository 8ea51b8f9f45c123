//! These tests replay transcripts through the pure sessions: whole, octet by octet, and cut at every single octet.
//!
//! A transcript in `tests/traces/` is read line by line:
//!
//! | begins with | means |
//! |---|---|
//! | `C: ` | the device sends this line |
//! | `S: ` | the device gets this line |
//! | `c: ` | the server gets this line |
//! | `s: ` | the server sends this line |
//! | `! ` | this event comes |
//! | `@ ` | a setting, at the top |
//! | `#` | a remark |
//!
//! Events are `authenticate USER PASSWORD`, `authenticate by source`, `logged in`, `login failed KIND`, `notice KIND`, `submitted RECIPIENTS
//! OCTETS`, `start tls SIDE`, `close`, `error KIND` and `injection SIDE`. A file's name begins with its protocol. Settings are `implicit`, `starttls`, `plaintext`, `upstream starttls`,
//! `unreachable`, `probe`, `translated`, `by source` and `delete = false`.
//!
//! Lines end with CRLF, unless they end with `\&`, which stands for no line end at all. `\n`, `\r`, `\\` and `\xHH`
//! are octets.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use packetboat::proto::{Deletes, Offer, Probe, Relogin, Side};
use packetboat::protocol::Security;

use support::fuzz::pair::{Heard, Pair, Protocol, Settings, readable};
use support::fuzz::random::Random;

#[test]
fn every_transcript_at_every_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut replayed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let transcript = Transcript::read(&path);
        let name = path.file_stem().unwrap().to_str().unwrap();
        let whole = transcript.replay(name, &|_, _| None);
        assert_eq!(whole, transcript.expected, "{name}");
        let octets: usize = transcript.inputs.iter().map(|(_, octets)| octets.len()).sum();
        assert_eq!(transcript.replay(name, &|_, _| Some(1)), whole, "{name}, octet by octet");
        for (turn, (_, input)) in transcript.inputs.iter().enumerate() {
            for cut in 1..input.len() {
                let cut_once = transcript.replay(name, &|this, at| (this == turn && at == 0).then_some(cut));
                assert_eq!(cut_once, whole, "{name}, input {turn} cut at {cut}");
            }
        }
        println!("{name}: {octets} octets");
        replayed += 1;
    }
    assert!(replayed >= 20, "only {replayed} transcripts");
}

/// The table of quirks names every transcript of SMTP, and no other file.
#[test]
fn every_quirk_has_its_transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let table = fs::read_to_string(folder.join("README.md")).unwrap();
    let named: BTreeSet<&str> = table.split('`').filter(|word| word.ends_with(".txt")).collect();
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = names.filter(|name| name.starts_with("smtp-")).collect();
    assert_eq!(named, files.iter().map(String::as_str).collect());
    let rows = table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| quirk"));
    for row in rows {
        assert!(row.split('|').nth(3).is_some_and(|cell| cell.contains(".txt`")), "{row}");
    }
}

/// Random traffic in random pieces keeps the laws of the contract: the output stays the same, counts fit, and every
/// call returns.
#[test]
fn random_traffic_in_random_pieces() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..SESSIONS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (name, words) = match seed % 3 {
            0 => ("imap", IMAP_WORDS),
            1 => ("pop3", POP3_WORDS),
            _ => ("smtp", SMTP_WORDS),
        };
        let mut transcript = Transcript::with(Vec::new());
        transcript.settings.offer.encrypted = random.below(4) > 0;
        transcript.settings.offer.plaintext_login = random.below(2) > 0;
        transcript.settings.probe = if random.below(2) > 0 { Probe::Run } else { Probe::Skip };
        transcript.settings.deletes = if random.below(2) > 0 { Deletes::Allowed } else { Deletes::Refused };
        transcript.settings.offer.by_source = name == "smtp" && seed % 2 == 0;
        // In SMTP this is the treatment of the sender.
        transcript.settings.relogin = if random.below(2) > 0 { Relogin::Allowed } else { Relogin::Refused };
        transcript.settings.upstream = if random.below(3) > 0 { Security::Implicit } else { Security::StartTls };
        if random.below(3) > 0 {
            // A login comes first, because the framing begins after it.
            transcript.settings.offer.plaintext_login = true;
            transcript.settings.upstream = Security::Implicit;
            transcript.settings.probe = Probe::Skip;
            let (device, server): (&[u8], &[u8]) = match name {
                "imap" => (b"a LOGIN u p\r\n", b"* OK ready\r\nP2 OK in\r\n"),
                "pop3" => (b"USER u\r\nPASS p\r\n", b"+OK\r\n+OK\r\n+OK\r\n"),
                _ => (b"AUTH PLAIN AHUAcA==\r\n", b"220 hi\r\n250 AUTH PLAIN\r\n235 in\r\n"),
            };
            transcript.inputs = vec![(Side::Downstream, device.to_vec()), (Side::Upstream, server.to_vec())];
            if name == "smtp" && random.below(4) > 0 {
                // An envelope comes next, because no message begins without one.
                let replies =
                    ["MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"].into_iter().zip([250, 250, 354]);
                transcript.inputs.extend(replies.flat_map(|(command, code)| {
                    let both = [format!("{command}\r\n"), format!("{code} ok\r\n")].map(String::into_bytes);
                    [Side::Downstream, Side::Upstream].into_iter().zip(both)
                }));
                let content: Vec<u8> = (0..random.below(8)).flat_map(|_| random.pick(words).to_vec()).collect();
                transcript.inputs.push((Side::Downstream, [&content, &b"\r\n.\r\n"[..]].concat()));
                transcript.inputs.push((Side::Upstream, b"250 queued\r\n".to_vec()));
            }
        }
        for _ in 0..random.below(12) {
            let side = if random.below(2) == 0 { Side::Downstream } else { Side::Upstream };
            let octets = (0..1 + random.below(8)).flat_map(|_| random.pick(words).to_vec()).collect();
            transcript.inputs.push((side, octets));
        }
        let whole = transcript.replay(name, &|_, _| None);
        let may_delete = name != "pop3" || transcript.settings.deletes == Deletes::Allowed;
        assert!(may_delete || !whole.server.to_ascii_uppercase().contains("DELE"), "seed {seed}: {whole:?}");
        for event in &whole.events {
            *seen.entry(event.split(' ').take(2).collect::<Vec<_>>().join(" ")).or_insert(0) += 1;
        }
        // A server of SMTP that speaks out of turn ends the connection. The cut decides which command of the device is
        // answered before that.
        let octets = transcript.replay(name, &|_, _| Some(1));
        let is_out_of_turn = |all: &Heard| {
            all.events.iter().any(|event| event == "error upstream_protocol") || all.device.contains("421 bye")
        };
        if name == "smtp" && (is_out_of_turn(&whole) || is_out_of_turn(&octets)) {
            continue;
        }
        assert_eq!(octets, whole, "seed {seed}: {:?}", transcript.inputs);
        for piece in [2, 3, 7] {
            let cut = transcript.replay(name, &|turn, at| Some(1 + (turn * 31 + at * 17) % piece));
            assert_eq!(cut, whole, "seed {seed} in pieces of up to {piece}: {:?}", transcript.inputs);
        }
    }
    // Every event must have occurred, because nonsense alone would prove little.
    for event in [
        "logged in",
        "login failed",
        "notice unavailable",
        "notice token_expired",
        "start tls",
        "error handshake",
        "submitted 1",
        "notice message_refused",
        "error too_long",
        "close",
    ] {
        assert!(seen.contains_key(event), "{event} never came about: {seen:?}");
    }
}

/// No DELETE reaches a server that tolerates spaces, refuses literals and IDLE at random, and answers before it has
/// read everything.
#[test]
fn no_server_is_asked_to_delete() {
    let mut obeyed = std::collections::BTreeMap::new();
    for seed in 0..SESSIONS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1);
        let mut pair = Pair::new(Settings { deletes: Deletes::Refused, ..Settings::default() }, Protocol::Imap);
        pair.send(Side::Downstream, b"a LOGIN u p\r\n", |left| left);
        pair.send(Side::Upstream, b"* OK ready\r\nP2 OK in\r\n", |left| left);
        assert!(pair.is_relaying());
        pair.received[1].clear();
        let mut server = Server::default();
        let mut coming: Vec<u8> = Vec::new();
        for _ in 0..40 {
            if random.below(2) == 0 {
                coming.extend(random.pick(DELETING_WORDS));
            }
            let cut = random.below(coming.len() + 1);
            pair.send(Side::Downstream, &coming.drain(..cut).collect::<Vec<_>>(), |left| left);
            let heard = std::mem::take(&mut pair.received[1]);
            server.hear(&heard, &mut random, &mut obeyed, seed);
            let cut = random.below(server.says.len() + 1);
            pair.send(Side::Upstream, &server.says.drain(..cut).collect::<Vec<_>>(), |left| left);
        }
        // Octets that the proxy sends when the device closes must not delete either.
        pair.close(Side::Downstream);
        let heard = std::mem::take(&mut pair.received[1]);
        server.hear(&heard, &mut random, &mut obeyed, seed);
    }
    for command in ["APPEND", "UNSELECT", "IDLE", "DONE", "NOOP", "STORE", "UID"] {
        assert!(obeyed.contains_key(command), "{command} never came about: {obeyed:?}");
    }
}

/// A server that is lenient where leniency does harm.
#[derive(Default)]
struct Server {
    heard: Vec<u8>,
    says: Vec<u8>,
    literal: usize,
    /// The tag of a command that goes on after its literal.
    tag: Option<String>,
    idle: Option<String>,
    /// Whether a command was answered before its line end.
    was_early: bool,
}

impl Server {
    fn hear(
        &mut self,
        octets: &[u8],
        random: &mut Random,
        obeyed: &mut std::collections::BTreeMap<String, u32>,
        seed: u64,
    ) {
        self.heard.extend(octets);
        loop {
            let skipped = self.literal.min(self.heard.len());
            self.heard.drain(..skipped);
            self.literal -= skipped;
            if self.literal == 0 && self.tag.is_some() && skipped > 0 && random.below(4) == 0 {
                self.answer("OK early");
                self.was_early = true;
            }
            // The line ends at CRLF, LF or CR, whichever comes first.
            let Some(mut end) = self.heard.iter().position(|octet| matches!(octet, b'\r' | b'\n')) else { return };
            if self.heard[end] == b'\r' {
                match self.heard.get(end + 1) {
                    Some(b'\n') => end += 1,
                    Some(_) => {}
                    None => return,
                }
            }
            if self.literal > 0 {
                return;
            }
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).replace('\0', " ").to_ascii_uppercase();
            // A command hidden in the rest of another one would have to begin the line.
            if std::mem::take(&mut self.was_early) && line.starts_with(' ') {
                continue;
            }
            self.obey(line.trim(), random, obeyed, seed);
        }
    }

    fn obey(
        &mut self,
        line: &str,
        random: &mut Random,
        obeyed: &mut std::collections::BTreeMap<String, u32>,
        seed: u64,
    ) {
        let mut words = line.split_whitespace();
        let goes_on = self.tag.is_some();
        if let Some(idle) = self.idle.take() {
            *obeyed.entry(line.to_owned()).or_insert(0) += 1;
            assert!(matches!(line, "DONE" | ""), "seed {seed}: {line:?} in IDLE");
            self.tag = Some(idle);
            return self.answer("OK idled");
        }
        if !goes_on {
            let Some(tag) = words.next() else { return };
            let verb = words.next().unwrap_or("");
            *obeyed.entry(verb.to_owned()).or_insert(0) += 1;
            let deletes = ["EXPUNGE", "DELETE", "MOVE", "CLOSE"].iter().any(|word| line.contains(word))
                || line.contains("DELETED");
            assert!(!deletes, "seed {seed}: {line:?}");
            self.tag = Some(tag.to_ascii_lowercase());
            if verb == "IDLE" && random.below(3) > 0 {
                self.says.extend(b"+ idling\r\n");
                self.idle = self.tag.take();
                return;
            }
        }
        assert!(!line.ends_with("+}"), "seed {seed}: {line:?}");
        if let Some(size) = line.strip_suffix('}').and_then(|line| line.rsplit_once('{')) {
            if random.below(3) == 0 {
                return self.answer("NO not now");
            }
            self.literal = size.1.parse().unwrap();
            self.says.extend(b"+ go\r\n");
            return;
        }
        if random.below(3) == 0 {
            self.says.extend(b"* 1 FETCH (BODY[] {15}\r\n+ go\r\nz OK no\r\n)\r\n");
        }
        self.answer("OK done");
    }

    fn answer(&mut self, text: &str) {
        if let Some(tag) = self.tag.take() {
            self.says.extend(format!("{tag} {text}\r\n").bytes());
        }
    }
}

const DELETING_WORDS: &[&[u8]] = &[
    b"z EXPUNGE\r\n",
    b" z EXPUNGE\r\n",
    b"\tz EXPUNGE\n",
    b"z \0expunge\r\n",
    b"y NOOP\rz EXPUNGE\r\n",
    b"z UID EXPUNGE 1\r\n",
    b"z CLOSE\r\n",
    b"z close\n",
    b"z DELETE x\r\n",
    b"z DELETE {12+}\r\nz EXPUNGE\r\n",
    b"z MOVE 1 x\r\n",
    b"z STORE 1 +FLAGS (\\Deleted)\r\n",
    b"z STORE 1 +FLAGS (\\Seen)\r\n",
    b"z UID STORE 1 +FLAGS.SILENT \\dELETED\r\n",
    b"z UID FETCH 1 ALL\r\n",
    b"z APPEND x {11}\r\n",
    b"z APPEND x {11+}\r\n",
    b"z APPEND x {11} \r\n",
    b"z APPEND x {0+}\r\n",
    b"y SEARCH \"{11+}\r\n",
    b" {11+}\r\n",
    b" {11}\r\n",
    b"z IDLE\r\n",
    b"DONE\r\n",
    b"done \n",
    b"y NOOP\r\n",
    b"z NOOP\n",
    b"\r\n",
    b"\n",
    b"\r",
];

const SESSIONS: u64 = 6000;

const IMAP_WORDS: &[&[u8]] = &[
    b"a LOGIN u p\r\n",
    b"a LOGIN {1}\r\nu {1}\r\np\r\n",
    b"b NOOP\r\n",
    b"c LOGOUT\r\n",
    b"d IDLE\r\n",
    b"DONE\r\n",
    b"a STARTTLS\r\n",
    b"a AUTHENTICATE PLAIN\r\n",
    b"AHUAcA==\r\n",
    b"a AUTHENTICATE LOGIN dQ==\r\n",
    b"cA==\r\n",
    b"*\r\n",
    b"e APPEND x {3}\r\n",
    b"e APPEND x {3+}\r\nabc",
    b"f LOGIN u {6}\r\n",
    b"f LOGIN {1}\r\n",
    b"a noop\r\n",
    b"u {6}\r\n",
    b"\x00",
    b"e NO {3}\r\n",
    b"abc",
    b"\r\n",
    b"\n",
    b" ",
    b"{",
    b"}",
    b"{4}\r\n",
    b"{70+}\r\n",
    b"* CAPABILITY IMAP4rev1 STARTTLS IDLE\r\n",
    b"* OK [CAPABILITY X-Y IDLE] hi\r\n",
    b"* OK [CAPABILITY",
    b"P2 OK in\r\n",
    b"P2 NO no\r\n",
    b"P1 OK tls\r\n",
    b"P3 OK in\r\n",
    b"P4 OK in\r\n",
    b"P4 BAD User is authenticated but not connected.\r\n",
    b"* BYE Session invalidated - AccessTokenExpired\r\n",
    b"e BAD Request is throttled. Suggested Backoff Time: 5 milliseconds\r\n",
    b"* OK ready\r\n",
    b"+ go\r\n",
    b"+\r\n",
    b"* BYE bye\r\n",
    b"* 1 FETCH (BODY[] {9}\r\n",
    b"* CAPABIL",
    b"a OK done {9}\r\n",
    b"z COMPRESS DEFLATE\r\n",
    b"z EXPUNGE\r\n",
    b"z DELETE {5+}\r\n",
    b"z STORE 1 +FLAGS (\\Seen)\r\n",
    b"z OK done\r\n",
    b"\x16\x03",
    b"\x00\xff",
    b"012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
];

const POP3_WORDS: &[&[u8]] = &[
    b"USER u\r\n",
    b"PASS p p\r\n",
    b"\x00",
    b"CAPA\r\n",
    b"STLS\r\n",
    b"QUIT\r\n",
    b"RETR 1\r\n",
    b"LIST\r\n",
    b"LIST 1\r\n",
    b"UIDL\r\n",
    b"AUTH PLAIN\r\n",
    b"AHUAcA==\r\n",
    b"AUTH LOGIN dQ==\r\n",
    b"cA==\r\n",
    b"*\r\n",
    b"NOOP\r\n",
    b"DELE 1\r\n",
    b"dele",
    b"+OK\r\n",
    b"+OK ready\r\n",
    b"-ERR no\r\n",
    b"-ERR [IN-USE] no\r\n",
    b"-ERR Request is throttled. Suggested Backoff Time: 5 milliseconds\r\n",
    b"+ \r\n",
    b"+\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"..\r\n",
    b"SASL PLAIN\r\n",
    b"STLS\r\n",
    b"TOP\r\n",
    b"UIDL\r\n",
    b"+O",
    b"-E",
    b"\r",
    b"\n",
    b"x",
    b"\r\n\r\n",
    b"\x16\x03",
    b"\x00\xff",
    b" ",
    b"012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
];

const SMTP_WORDS: &[&[u8]] = &[
    b"EHLO x\r\n",
    b"HELO\r\n",
    b"AUTH LOGIN dQ==\r\n",
    b"cA==\r\n",
    b"*\r\n",
    b"AUTH PLAIN AHUAcA==\r\n",
    b"STARTTLS\r\n",
    b"MAIL FROM:<a@b.example>\r\n",
    b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n",
    b"RCPT TO:<c@d.example>\r\n",
    b"DATA\r\n",
    b"DATA\r\n",
    b"From: <e@f.example>\r\n",
    b"Subject: x\r\n\r\n",
    b"x",
    b"\r",
    b"\n",
    b".",
    b"\0",
    b"\r\n",
    b".\r\n",
    b"\r\n.\r\n",
    b"\r\n.\r\nMAIL FROM:<g@h.example>\r\n",
    b"\n.\n",
    b"\r.\r",
    b"..\r\n",
    b"BDAT 3 LAST\r\n",
    b"VRFY x\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"QUIT\r\n",
    b"220 hi\r\n",
    b"250 ok\r\n",
    b"250 ok\r\n",
    b"250-more\r\n",
    b"235 in\r\n",
    b"334\r\n",
    b"354 go\r\n",
    b"354 go\r\n",
    b"421 bye\r\n",
    b"550 5.1.1 no\r\n",
    b"550 5.2.252 throttled\r\n",
    b"25",
    b"\x16\x03",
    b"\x00\xff",
];

struct Transcript {
    settings: Settings,
    inputs: Vec<(Side, Vec<u8>)>,
    expected: Heard,
}

impl Transcript {
    fn with(inputs: Vec<(Side, Vec<u8>)>) -> Self {
        Self { settings: Settings::default(), inputs, expected: Heard::default() }
    }

    fn read(path: &Path) -> Self {
        let mut transcript = Self::with(Vec::new());
        let (mut device, mut server) = (Vec::new(), Vec::new());
        let text = fs::read_to_string(path).unwrap();
        let mut turn_is_over = true;
        for line in text.lines() {
            let Some((kind, rest)) = line.split_once(' ') else {
                assert!(line.is_empty() || line.starts_with('#'), "{}: {line}", path.display());
                continue;
            };
            let side = if kind == "C:" { Side::Downstream } else { Side::Upstream };
            match kind {
                "C:" | "s:" => match transcript.inputs.last_mut() {
                    Some((last, octets)) if *last == side && !turn_is_over => octets.extend(unescape(rest)),
                    _ => transcript.inputs.push((side, unescape(rest))),
                },
                "S:" => device.extend(unescape(rest)),
                "c:" => server.extend(unescape(rest)),
                "!" => transcript.expected.events.push(rest.to_owned()),
                "@" => transcript.set(rest),
                _ => assert!(kind.starts_with('#'), "{}: {line}", path.display()),
            }
            turn_is_over = !matches!(kind, "C:" | "s:");
        }
        transcript.expected.device = readable(&device);
        transcript.expected.server = readable(&server);
        transcript
    }

    fn set(&mut self, setting: &str) {
        let settings = &mut self.settings;
        match setting {
            "implicit" => {}
            "starttls" => settings.offer.encrypted = false,
            "plaintext" => {
                settings.offer =
                    Offer { encrypted: false, starttls: false, plaintext_login: true, xoauth2: false, ..Offer::NONE };
            }
            "upstream starttls" => settings.upstream = Security::StartTls,
            "unreachable" => settings.reachable = false,
            "probe" => settings.probe = Probe::Run,
            "translated" => {
                settings.offer.xoauth2 = false;
                settings.relogin = Relogin::Refused;
            }
            "by source" => settings.offer.by_source = true,
            "delete = false" => settings.deletes = Deletes::Refused,
            other => panic!("unknown setting {other}"),
        }
    }

    /// Plays the transcript. `cut` returns how much of an input, from an offset on, comes at a time.
    fn replay(&self, name: &str, cut: &dyn Fn(usize, usize) -> Option<usize>) -> Heard {
        let is_of = |protocol: &&Protocol| name.split('-').next() == Some(protocol.key());
        let protocol = *Protocol::ALL.iter().find(is_of).unwrap_or_else(|| panic!("{name} names no protocol"));
        let mut pair = Pair::new(self.settings, protocol);
        for (turn, (side, input)) in self.inputs.iter().enumerate() {
            pair.send(*side, input, |left| cut(turn, input.len() - left).unwrap_or(left));
        }
        pair.all_received()
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        match rest.next() {
            Some(b'n') => octets.push(b'\n'),
            Some(b'r') => octets.push(b'\r'),
            Some(b'\\') => octets.push(b'\\'),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                octets.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            Some(b'&') if rest.len() == 0 => return octets,
            other => panic!("unknown escape {other:?} in {text}"),
        }
    }
    octets.extend(b"\r\n");
    octets
}
