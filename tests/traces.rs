//! Transcripts replayed through the pure sessions: whole, octet by octet, and cut at every single octet.
//!
//! A transcript in `tests/traces/` is read line by line:
//!
//! | begins with | means |
//! |---|---|
//! | `C: ` | the device says this line |
//! | `S: ` | the device hears this line |
//! | `c: ` | the server hears this line |
//! | `s: ` | the server says this line |
//! | `! ` | this happens: `authenticate USER PASSWORD`, `logged in`, `login failed KIND`, `start tls SIDE`, `close`, `error KIND`, `injection SIDE` |
//! | `@ ` | a setting, at the top: `implicit`, `starttls`, `plaintext`, `upstream starttls`, `unreachable` |
//! | `#` | a remark |
//!
//! Lines end with CRLF, unless they end with `\&`, which stands for no line end at all. `\n`, `\r`, `\\` and `\xHH`
//! are octets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use packetboat::failure::{Failure, Kind};
use packetboat::proto::imap::Imap;
use packetboat::proto::pop3::Pop3;
use packetboat::proto::{Limits, Offer, Outbox, Session, Side, Step, UpstreamTls};

#[test]
fn every_transcript_at_every_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut replayed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
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

/// All that either side hears, and what happens.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    device: String,
    server: String,
    events: Vec<String>,
}

struct Transcript {
    offer: Offer,
    upstream: UpstreamTls,
    reachable: bool,
    inputs: Vec<(Side, Vec<u8>)>,
    expected: Heard,
}

impl Transcript {
    fn read(path: &Path) -> Self {
        let mut transcript = Self {
            offer: Offer { encrypted: true, starttls: true, plaintext_login: false, xoauth2: true },
            upstream: UpstreamTls::Implicit,
            reachable: true,
            inputs: Vec::new(),
            expected: Heard::default(),
        };
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
        match setting {
            "implicit" => {}
            "starttls" => self.offer.encrypted = false,
            "plaintext" => {
                self.offer = Offer { encrypted: false, starttls: false, plaintext_login: true, xoauth2: false };
            }
            "upstream starttls" => self.upstream = UpstreamTls::StartTls,
            "unreachable" => self.reachable = false,
            other => panic!("unknown setting {other}"),
        }
    }

    /// `cut` says how much of an input, from an offset on, comes at a time.
    fn replay(&self, name: &str, cut: &dyn Fn(usize, usize) -> Option<usize>) -> Heard {
        let limits = Limits { line: 200, sasl_line: 400, literal: 60, bad_commands: 4 };
        let session: Box<dyn Session> = if name.starts_with("imap") {
            Box::new(Imap::new(self.offer, limits))
        } else {
            Box::new(Pop3::new(self.offer, limits))
        };
        let mut driver = Driver {
            session,
            transcript: self,
            unread: [Vec::new(), Vec::new()],
            heard: [Vec::new(), Vec::new()],
            events: Vec::new(),
            out: Outbox::default(),
            over: false,
            more: false,
        };
        driver.session.greet(&mut driver.out);
        driver.say();
        for (turn, (side, input)) in self.inputs.iter().enumerate() {
            let mut at = 0;
            while at < input.len() {
                let count = cut(turn, at).unwrap_or(input.len()).min(input.len() - at);
                driver.unread[*side as usize].extend(&input[at..at + count]);
                at += count;
                driver.more = at < input.len();
                driver.run();
            }
        }
        Heard { device: readable(&driver.heard[0]), server: readable(&driver.heard[1]), events: driver.events }
    }
}

/// The driver's contract, with buffers in place of sockets.
struct Driver<'a> {
    session: Box<dyn Session>,
    transcript: &'a Transcript,
    /// Downstream, upstream.
    unread: [Vec<u8>; 2],
    heard: [Vec<u8>; 2],
    events: Vec<String>,
    out: Outbox,
    over: bool,
    /// The rest of an input is still to come: in clear, whatever happens meanwhile.
    more: bool,
}

impl Driver<'_> {
    fn run(&mut self) {
        let mut quiet = 0;
        let mut side = Side::Downstream;
        while quiet < 2 && !self.over {
            let input = self.unread[side as usize].clone();
            let step = self.session.recv(side, &input, &mut self.out);
            self.say();
            quiet = if matches!(step, Ok(Step::Read)) { quiet + 1 } else { 0 };
            match step {
                Ok(step) => self.carry_out(side, step),
                Err(failure) => {
                    self.events.push(format!("error {}", failure.kind.label()));
                    self.session.bye(&failure, &mut self.out);
                    self.say();
                    self.over = true;
                }
            }
            side = if side == Side::Downstream { Side::Upstream } else { Side::Downstream };
        }
    }

    fn carry_out(&mut self, side: Side, step: Step) {
        let unread = &mut self.unread[side as usize];
        match step {
            Step::Read => {}
            Step::Consume(count) => {
                assert!(count > 0 && count <= unread.len());
                unread.drain(..count);
            }
            Step::Forward(count) => {
                assert!(count > 0 && count <= unread.len());
                let passed: Vec<u8> = unread.drain(..count).collect();
                self.heard[1 - side as usize].extend(passed);
            }
            Step::Authenticate(credentials) => {
                self.events.push(format!(
                    "authenticate {} {}",
                    readable(&credentials.login),
                    readable(credentials.secret.expose())
                ));
                if self.transcript.reachable {
                    self.session.upstream_connected(credentials, self.transcript.upstream);
                } else {
                    self.session.login_failed(&Failure::new(Kind::Connect, "nobody there"), &mut self.out);
                    self.say();
                }
            }
            Step::LoggedIn => self.events.push("logged in".to_owned()),
            Step::LoginFailed(failure) => {
                self.unread[1].clear();
                self.events.push(format!("login failed {}", failure.kind.label()));
            }
            Step::Close => {
                self.events.push("close".to_owned());
                self.over = true;
            }
            Step::StartTls if unread.is_empty() && !self.more => {
                self.events.push(format!("start tls {side:?}").to_lowercase());
                self.session.tls_started(side, &mut self.out);
                self.say();
            }
            Step::StartTls => {
                self.events.push(format!("injection {side:?}").to_lowercase());
                self.over = true;
            }
        }
    }

    fn say(&mut self) {
        self.heard[0].append(&mut self.out.downstream);
        self.heard[1].append(&mut self.out.upstream);
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

fn readable(octets: &[u8]) -> String {
    octets.escape_ascii().to_string().replace("\\r\\n", "\n")
}
