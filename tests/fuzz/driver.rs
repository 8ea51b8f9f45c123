//! The driver's contract, with buffers in place of sockets: what the real one does, in the order in which it does it, and
//! the laws of the contract checked at every step.

use packetboat::failure::{Failure, Kind};
use packetboat::proto::{
    self, Action, Deletes, Leftover, Limits, MailboxTerms, Offer, Outbox, Phase, Probe, Relogin, Session, Side, Step,
    Terms, UpstreamLogin, UpstreamTls,
};
use packetboat::protocol;

use crate::model::Model;

/// The two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Imap,
    Pop3,
}

/// What the configuration and the account say of a session.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub offer: Offer,
    pub upstream: UpstreamTls,
    pub probe: Probe,
    pub deletes: Deletes,
    pub relogin: Relogin,
    /// There is a token, and a server that takes the call.
    pub reachable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offer: Offer { encrypted: true, starttls: true, plaintext_login: false, xoauth2: true },
            upstream: UpstreamTls::Implicit,
            probe: Probe::Skip,
            deletes: Deletes::Allowed,
            relogin: Relogin::Allowed,
            reachable: true,
        }
    }
}

/// All that either side hears, and what happens.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub device: String,
    pub server: String,
    pub events: Vec<String>,
}

pub struct Driver {
    pub session: Box<dyn Session>,
    pub settings: Settings,
    protocol: Protocol,
    /// Downstream, upstream.
    pub unread: [Vec<u8>; 2],
    pub heard: [Vec<u8>; 2],
    pub events: Vec<String>,
    out: Outbox,
    pub over: bool,
    ended: [bool; 2],
    reported: [bool; 2],
    /// Steps in a row that consumed nothing.
    in_place: usize,
    /// The rest of an input of this side is still to come: in clear, whatever happens meanwhile.
    pub more: Option<Side>,
    /// Connections to the server that were dropped.
    pub connections: usize,
    /// There is a connection to the server.
    connected: bool,
    /// What the server has said on it, and where what it has heard begins.
    server_said: Vec<u8>,
    server_heard: usize,
    /// What the two sides ought to hear since the login; and how much they had heard before it.
    model: Option<(Model, [usize; 2])>,
    /// Where our own last words to the device begin.
    last_words: Option<usize>,
}

impl Driver {
    pub fn new(settings: Settings, protocol: Protocol) -> Self {
        let limits = Limits { line: 200, sasl_line: 400, literal: 60, bad_commands: 4 };
        let session = match protocol {
            Protocol::Imap => proto::session(protocol::Protocol::Imap, settings.offer, limits),
            Protocol::Pop3 => proto::session(protocol::Protocol::Pop3, settings.offer, limits),
        };
        let mut driver = Self {
            session,
            settings,
            protocol,
            unread: [Vec::new(), Vec::new()],
            heard: [Vec::new(), Vec::new()],
            events: Vec::new(),
            out: Outbox::default(),
            over: false,
            ended: [false; 2],
            reported: [false; 2],
            in_place: 0,
            more: None,
            connections: 0,
            connected: false,
            server_said: Vec::new(),
            server_heard: 0,
            model: None,
            last_words: None,
        };
        driver.session.greet(&mut driver.out);
        driver.say();
        driver
    }

    /// Octets of one side, so many at a time as `cut` says of what is left; all that follows from each piece happens before
    /// the next one comes.
    pub fn hear(&mut self, side: Side, input: &[u8], mut cut: impl FnMut(usize) -> usize) {
        let connection = self.connections;
        let mut rest = input;
        while !rest.is_empty() && !self.ended[side as usize] {
            // Nothing comes over a connection that is not there, or is dropped.
            if self.over || (side == Side::Upstream && (!self.connected || self.connections != connection)) {
                break;
            }
            let (piece, behind) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
            rest = behind;
            if let Some((model, _)) = &mut self.model {
                model.hear(side, piece);
            }
            self.unread[side as usize].extend(piece);
            if side == Side::Upstream {
                self.server_said.extend(piece);
            }
            self.more = (!rest.is_empty()).then_some(side);
            self.run();
        }
        self.more = None;
    }

    /// One side closes its half.
    pub fn end(&mut self, side: Side) {
        self.ended[side as usize] = true;
        if let (Side::Upstream, Some((model, _))) = (side, &mut self.model) {
            model.closed();
        }
        self.run();
    }

    /// The device is heard out before the server is, which answers nothing that it has not heard.
    pub fn run(&mut self) {
        let mut side = Side::Downstream;
        while !self.over {
            let input = self.unread[side as usize].clone();
            let step = self.session.recv(side, &input, &mut self.out);
            self.say();
            let moved = match step {
                Ok(Step::Read) => self.leave_rest(side),
                Ok(step) => {
                    self.carry_out(side, step);
                    true
                }
                Err(failure) => {
                    self.events.push(format!("error {}", failure.kind.label()));
                    self.bye(&failure);
                    return;
                }
            };
            side = match (side, moved) {
                (Side::Upstream, false) => return,
                (Side::Downstream, false) => Side::Upstream,
                (_, true) => Side::Downstream,
            };
        }
    }

    /// The connection ends for a reason that is not the session's.
    pub fn bye(&mut self, failure: &Failure) {
        let before = self.heard[0].len();
        self.session.bye(failure, &mut self.out);
        self.say();
        self.over = true;
        self.last_words = Some(before);
        let words = &self.heard[0][before..];
        let is_one_line = words.ends_with(b"\r\n") && words.iter().filter(|&&octet| octet == b'\n').count() == 1;
        let begins = words.starts_with(b"* BYE ") || words.starts_with(b"-ERR ");
        assert!(words.is_empty() || (is_one_line && begins), "{}", readable(words));
    }

    /// What a side that has closed leaves behind, as the real driver handles it. Whether anything has changed.
    fn leave_rest(&mut self, side: Side) -> bool {
        let index = side as usize;
        if !self.ended[index] || self.reported[index] || (side == Side::Upstream && !self.connected) {
            return false;
        }
        if self.session.phase().is_relaying() && !self.unread[index].is_empty() {
            let rest = std::mem::take(&mut self.unread[index]);
            match self.session.leftover(side) {
                Leftover::Forward => self.heard[1 - index].extend(rest),
                Leftover::Wait => {
                    self.unread[index] = rest;
                    return false;
                }
                Leftover::Discard => {}
            }
            return true;
        }
        if side == Side::Downstream && self.session.phase() == Phase::LoggingIn {
            return false;
        }
        self.reported[index] = true;
        if side == Side::Upstream && self.session.phase() == Phase::LoggingIn {
            self.lose_upstream(Failure::new(Kind::UpstreamLost, "closed"));
            return true;
        }
        self.events.push(format!("ended {side:?}").to_lowercase());
        self.over = !self.session.phase().is_relaying();
        true
    }

    fn lose_upstream(&mut self, failure: Failure) {
        self.connections += 1;
        self.unread[1].clear();
        self.connected = false;
        (self.ended[1], self.reported[1]) = (false, false);
        self.events.push(format!("login failed {}", failure.kind.label()));
        self.session.login_failed(&failure, &mut self.out);
        self.say();
    }

    fn carry_out(&mut self, side: Side, step: Step) {
        let is_taken = self.is_taken();
        let unread = &mut self.unread[side as usize];
        match step {
            Step::Read => {}
            Step::Consume(count) => {
                assert!(count <= unread.len());
                // Nothing but a change of state: that cannot go on for ever.
                self.in_place = if count == 0 { self.in_place + 1 } else { 0 };
                assert!(self.in_place < 4);
                unread.drain(..count);
            }
            Step::Forward(count) => {
                assert!(count > 0 && count <= unread.len());
                // Nobody's octets reach the other side before the server has taken a login of ours.
                assert!(is_taken, "forwarded before login: {}", readable(&self.server_said));
                self.in_place = 0;
                let passed: Vec<u8> = unread.drain(..count).collect();
                self.heard[1 - side as usize].extend(passed);
            }
            Step::Act(count, action) => {
                assert!(count <= unread.len());
                unread.drain(..count);
                self.in_place = if count == 0 { self.in_place + 1 } else { 0 };
                assert!(self.in_place < 4);
                self.act(side, action);
            }
        }
    }

    fn act(&mut self, side: Side, action: Action) {
        let unread = &mut self.unread[side as usize];
        match action {
            Action::Authenticate(credentials) => {
                self.events.push(format!(
                    "authenticate {} {}",
                    readable(&credentials.login),
                    readable(credentials.secret.expose())
                ));
                // Nothing in them can end a line, or a field, towards the server.
                assert!(credentials.is_sane());
                if self.settings.reachable {
                    let Settings { upstream, probe, deletes, relogin, .. } = self.settings;
                    self.unread[1].clear();
                    self.connected = true;
                    self.server_said.clear();
                    self.server_heard = self.heard[1].len();
                    let terms = Terms::Mailbox(MailboxTerms { probe, deletes, relogin });
                    self.session.upstream_connected(UpstreamLogin { credentials, tls: upstream, terms });
                } else {
                    self.session.login_failed(&Failure::new(Kind::Connect, "nobody there"), &mut self.out);
                    self.say();
                }
            }
            Action::LoggedIn => {
                self.events.push("logged in".to_owned());
                if self.settings.deletes == Deletes::Allowed {
                    let mut model = Model::new(self.protocol, self.settings.offer, self.settings.relogin);
                    model.hear(Side::Downstream, &self.unread[0]);
                    model.hear(Side::Upstream, &self.unread[1]);
                    self.model = Some((model, [self.heard[0].len(), self.heard[1].len()]));
                }
            }
            Action::LoginFailed(failure) => self.lose_upstream(failure),
            Action::Notice(failure) => {
                let wait = failure.retry_after.map(|wait| format!(" {wait:?}")).unwrap_or_default();
                self.events.push(format!("notice {}{wait}", failure.kind.label()));
            }
            Action::Close => {
                self.events.push("close".to_owned());
                self.over = true;
            }
            Action::StartTls if unread.is_empty() && self.more != Some(side) => {
                self.events.push(format!("start tls {side:?}").to_lowercase());
                if side == Side::Downstream {
                    self.settings.offer.encrypted = true;
                }
                self.session.tls_started(side, &mut self.out);
                self.say();
            }
            Action::StartTls => {
                self.events.push(format!("injection {side:?}").to_lowercase());
                self.over = true;
            }
        }
    }

    fn say(&mut self) {
        self.heard[0].append(&mut self.out.downstream);
        self.heard[1].append(&mut self.out.upstream);
        self.check_words();
    }

    /// Whether the server has said yes to a login of ours, as one who knows nothing of the session sees it: in IMAP an OK to one
    /// of our tags, in POP3 more than the greeting.
    fn is_taken(&self) -> bool {
        let mut lines = self.server_said.split(|&octet| octet == b'\n').map(<[u8]>::to_ascii_uppercase);
        match self.protocol {
            Protocol::Imap => {
                lines.any(|line| OWN_TAGS.iter().any(|tag| line.starts_with(format!("{tag} OK").as_bytes())))
            }
            Protocol::Pop3 => lines.filter(|line| line.starts_with(b"+OK")).count() >= 2,
        }
    }

    /// Until then the server has heard nothing but what we say to it ourselves.
    fn check_words(&self) {
        if self.is_taken() {
            return;
        }
        for line in self.heard[1][self.server_heard..].split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            let is_base64 = line.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+/=*".contains(octet));
            let is_ours = OWN_WORDS.iter().any(|word| line.starts_with(word.as_bytes()));
            // Behind a literal of our own the rest of LOGIN comes.
            let is_behind_literal = self.heard[1][self.server_heard..].windows(3).any(|three| three == b"}\r\n");
            assert!(is_base64 || is_ours || is_behind_literal, "the server heard {}", readable(line));
        }
    }

    /// What both sides have heard, for people to read; compared with the model where there is one.
    pub fn all_heard(self) -> Heard {
        if let Some((model, [device, server])) = &self.model {
            let end = self.last_words.unwrap_or(self.heard[0].len());
            model.compare(&self.heard[0][*device..end], &self.heard[1][*server..], &self.unread[0]);
        }
        Heard { device: readable(&self.heard[0]), server: readable(&self.heard[1]), events: self.events }
    }
}

/// As they are made for the login (RFC 3501 §2.2.1 leaves them to the client).
const OWN_TAGS: [&str; 5] = ["P1", "P2", "P3", "P4", "P5"];
/// All that is said to a server before it has let the device in.
const OWN_WORDS: &[&str] =
    &["P1 ", "P2 ", "P3 ", "P4 ", "P5 ", "USER ", "PASS ", "AUTH ", "STLS", "CAPA", "QUIT", "STAT", "LIST", "NOOP"];

/// For people to read.
pub fn readable(octets: &[u8]) -> String {
    octets.escape_ascii().to_string().replace("\\r\\n", "\n")
}
