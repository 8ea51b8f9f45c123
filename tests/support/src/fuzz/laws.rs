//! This file wraps a session and checks every call: the driver keeps the contract's order, and the session keeps its
//! laws.

use std::sync::{Arc, Mutex, MutexGuard};

use packetboat::failure::Failure;
use packetboat::proto::parking::ParkedState;
use packetboat::proto::{
    Action, Activity, Awaited, Leftover, MailboxTerms, Method, Outbox, Phase, Session, Side, Step, Terms, UpstreamLogin,
};

use crate::fuzz::pair::{Protocol, readable};
use crate::fuzz::parking::StepWatch;
use crate::fuzz::submission::Watch;

/// The session that the driver is given.
pub struct Checked {
    session: Box<dyn Session>,
    seen: Arc<Mutex<Seen>>,
}

/// All that the wrapper has seen of the session's calls.
pub struct Seen {
    protocol: Protocol,
    /// Octets of either side that the session has neither consumed nor forwarded: downstream, upstream.
    pub unread: [Vec<u8>; 2],
    /// Consecutive steps that changed only the session's state.
    in_place: usize,
    /// The octets that the server has sent on its present connection, and those that it was sent.
    from_server: Vec<u8>,
    to_server: Vec<u8>,
    /// The server has accepted a login of ours.
    is_accepted: bool,
    /// The length of our own last line to the device.
    pub bye: usize,
    /// Whether the content of messages passes without a sender policy.
    is_passed: bool,
    /// The watcher of a submission after its login.
    watch: Option<Watch>,
    /// The server of a submission has said more than it was asked. Whether the device's next command is on its way then
    /// depends on the cut.
    pub out_of_turn: bool,
    /// The watcher of a connection that may be parked, and the device's LOGOUT with which it was.
    step_watch: StepWatch,
    logout: Vec<u8>,
}

impl Checked {
    pub fn new(session: Box<dyn Session>, protocol: Protocol) -> (Self, Arc<Mutex<Seen>>) {
        let seen = Arc::new(Mutex::new(Seen {
            protocol,
            unread: [Vec::new(), Vec::new()],
            in_place: 0,
            from_server: Vec::new(),
            to_server: Vec::new(),
            is_accepted: false,
            bye: 0,
            is_passed: false,
            watch: None,
            out_of_turn: false,
            step_watch: StepWatch::default(),
            logout: Vec::new(),
        }));
        (Self { session, seen: Arc::clone(&seen) }, seen)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

impl Session for Checked {
    fn greet(&mut self, out: &mut Outbox) {
        self.session.greet(out);
    }

    fn recv(&mut self, side: Side, input: &[u8], out: &mut Outbox) -> Result<Step, Failure> {
        assert!(out.downstream.is_empty() && out.upstream.is_empty(), "the outbox is written before the next call");
        self.seen().receives(side, input);
        let was_relaying = self.session.phase().is_relaying();
        let step = self.session.recv(side, input, out);
        let is_submission = self.seen().protocol == Protocol::Smtp && self.session.phase().is_relaying();
        let mut seen = self.seen();
        seen.to_server.extend(out.upstream.iter());
        seen.check_own_words();
        if let Ok(step) = &step {
            seen.watch_step(side, step, out);
            if was_relaying {
                seen.watch_parking(side, step, &out.upstream);
            }
            seen.check_step(side, step);
        }
        if is_submission && seen.watch.is_none() {
            seen.watch = Some(Watch::new(seen.is_passed));
            seen.out_of_turn |= !seen.unread[1].is_empty();
        }
        step
    }

    fn upstream_connected(&mut self, login: UpstreamLogin) {
        let is_passed = matches!(login.terms, Terms::Submission(None));
        self.session.upstream_connected(login);
        let mut seen = self.seen();
        seen.is_passed = is_passed;
        seen.is_accepted = false;
        seen.from_server.clear();
        seen.to_server.clear();
        seen.unread[1].clear();
        if let Some(watch) = &mut seen.watch {
            watch.connected();
        }
    }

    fn upstream_lost(&mut self, out: &mut Outbox) -> bool {
        let before = out.downstream.len();
        let goes_on = self.session.upstream_lost(out);
        assert!(out.upstream.is_empty(), "nothing is sent to a server that is lost");
        let mut seen = self.seen();
        if goes_on {
            seen.unread[1].clear();
            seen.watch.as_mut().unwrap().lost(&out.downstream[before..]);
        }
        goes_on
    }

    fn message_begun(&mut self, is_kept: bool, out: &mut Outbox) {
        let before = out.downstream.len();
        self.session.message_begun(is_kept, out);
        assert!(out.upstream.is_empty(), "nothing is sent to a server");
        let answer = &out.downstream[before..];
        assert!(answer.starts_with(b"354") || answer.starts_with(b"451 ") || answer.is_empty(), "{}", readable(answer));
    }

    fn message_kept(&mut self, is_kept: bool, out: &mut Outbox) {
        self.session.message_kept(is_kept, out);
    }

    fn logged_in_without_server(&mut self, login: UpstreamLogin, out: &mut Outbox) -> bool {
        self.session.logged_in_without_server(login, out)
    }

    fn resumed(&mut self, terms: MailboxTerms, state: ParkedState, out: &mut Outbox) -> bool {
        let is_in = self.session.resumed(terms, state, out);
        assert!(out.upstream.is_empty(), "nothing is sent to a server that has let the session in before");
        let mut seen = self.seen();
        seen.is_accepted = is_in;
        seen.unread[1].clear();
        is_in
    }

    fn tls_started(&mut self, side: Side, out: &mut Outbox) {
        self.session.tls_started(side, out);
        let mut seen = self.seen();
        assert!(seen.unread[side as usize].is_empty(), "no plaintext is left behind STARTTLS");
        seen.to_server.extend(out.upstream.iter());
        seen.check_own_words();
    }

    fn login_failed(&mut self, failure: &Failure, out: &mut Outbox) {
        let before = out.downstream.len();
        self.session.login_failed(failure, out);
        assert!(out.upstream.is_empty(), "nothing is sent to a server that is dropped");
        let mut seen = self.seen();
        seen.unread[1].clear();
        if let Some(watch) = &mut seen.watch {
            watch.not_connected(&out.downstream[before..]);
        }
    }

    fn bye(&mut self, failure: &Failure, out: &mut Outbox) {
        let before = out.downstream.len();
        self.session.bye(failure, out);
        let bye = &out.downstream[before..];
        let is_one_line = bye.ends_with(b"\r\n") && bye.iter().filter(|&&octet| octet == b'\n').count() == 1;
        let begins = bye.starts_with(b"* BYE ") || bye.starts_with(b"-ERR ") || bye.starts_with(b"421 ");
        assert!(bye.is_empty() || (is_one_line && begins), "{}", readable(bye));
        self.seen().bye = bye.len();
    }

    fn phase(&self) -> Phase {
        self.session.phase()
    }

    fn activity(&self) -> Activity {
        self.session.activity()
    }

    fn awaited(&self) -> Option<Awaited> {
        self.session.awaited()
    }

    fn present_message(&self) -> Option<u32> {
        self.session.present_message()
    }

    fn unanswered_recipients(&self) -> u32 {
        self.session.unanswered_recipients()
    }

    fn leftover(&mut self, side: Side) -> Leftover {
        let leftover = self.session.leftover(side);
        if leftover != Leftover::Wait {
            self.seen().unread[side as usize].clear();
        }
        leftover
    }
}

impl Seen {
    /// The driver hands over all octets that are neither consumed nor forwarded, followed by new ones.
    fn receives(&mut self, side: Side, input: &[u8]) {
        let unread = &mut self.unread[side as usize];
        assert!(input.starts_with(unread), "{side:?}: {} in place of {}", readable(input), readable(unread));
        let new = &input[unread.len()..];
        unread.extend(new);
        if side == Side::Upstream {
            self.out_of_turn |= !new.is_empty() && self.watch.as_ref().is_some_and(|watch| !watch.is_owed());
            self.from_server.extend(new);
            self.is_accepted = self.is_accepted || self.has_accepted();
        }
    }

    fn watch_step(&mut self, side: Side, step: &Step, out: &Outbox) {
        let Some(watch) = &mut self.watch else { return };
        let (count, is_forwarded) = match step {
            Step::Read => (0, false),
            Step::Consume(count) | Step::Act(count, _) => (*count, false),
            Step::Forward(count) => (*count, true),
        };
        let taken = &self.unread[side as usize][..count];
        let passed = if is_forwarded { taken } else { &[] };
        match side {
            Side::Downstream => watch.device(taken, &[out.upstream.as_slice(), passed].concat(), &out.downstream),
            Side::Upstream => watch.server(taken, &out.upstream, &[out.downstream.as_slice(), passed].concat()),
        }
        self.out_of_turn |= !watch.is_owed() && self.unread[1].len() > if side == Side::Upstream { count } else { 0 };
        match step {
            Step::Act(_, Action::Submitted(_)) => watch.submitted(),
            Step::Act(_, Action::DropServer(_)) => watch.dropped(),
            Step::Act(_, Action::LeaveServer) => watch.away(),
            _ => {}
        }
    }

    /// A connection is parked only in step, as the watcher judges.
    fn watch_parking(&mut self, side: Side, step: &Step, up: &[u8]) {
        let (count, is_forwarded) = match step {
            Step::Read => (0, false),
            Step::Consume(count) | Step::Act(count, _) => (*count, false),
            Step::Forward(count) => (*count, true),
        };
        let taken = &self.unread[side as usize][..count];
        self.step_watch.sent(up);
        match side {
            Side::Downstream if is_forwarded => self.step_watch.sent(taken),
            Side::Downstream => {}
            Side::Upstream => self.step_watch.heard(taken),
        }
        if let Step::Act(_, Action::Park(_)) = step {
            assert_eq!(side, Side::Downstream, "only LOGOUT parks");
            self.step_watch.check();
            self.logout = taken.to_vec();
        }
    }

    /// The device's LOGOUT that has parked the connection, and the answer to that; both are empty where there is none.
    pub fn logout(&self) -> (&[u8], Vec<u8>) {
        let tag = self.logout.split(|octet| *octet == b' ').next().unwrap();
        let answer = [b"* BYE closing connection\r\n", tag, b" OK LOGOUT completed\r\n"].concat();
        (&self.logout, if self.logout.is_empty() { Vec::new() } else { answer })
    }

    fn check_step(&mut self, side: Side, step: &Step) {
        let unread = &mut self.unread[side as usize];
        match step {
            Step::Read => {}
            Step::Consume(count) | Step::Act(count, _) => {
                assert!(*count <= unread.len(), "law 2");
                // A step of no octets changes only the state, which must not go on for ever.
                self.in_place = if *count == 0 { self.in_place + 1 } else { 0 };
                assert!(self.in_place < 4);
                unread.drain(..*count);
            }
            Step::Forward(count) => {
                assert!(*count > 0 && *count <= unread.len(), "law 2");
                // Octets of one side reach the other only after the server has accepted a login of ours.
                assert!(self.is_accepted, "forwarded before login: {}", readable(&self.from_server));
                self.in_place = 0;
                unread.drain(..*count);
            }
        }
        if let Step::Act(_, Action::DropServer(_) | Action::LeaveServer | Action::Connect) = step {
            self.unread[1].clear();
        }
        if let Step::Act(_, Action::Authenticate(credentials)) = step {
            // No octet in the credentials ends a line or a field towards the server.
            assert!(credentials.method == Method::Source || credentials.is_sane());
        }
    }

    /// Whether the server has accepted a login of ours, judged without the session. In IMAP that is an OK to one of our
    /// tags, in POP3 more than the greeting, in SMTP 235.
    fn has_accepted(&self) -> bool {
        let mut lines = self.from_server.split(|&octet| octet == b'\n').map(<[u8]>::to_ascii_uppercase);
        match self.protocol {
            Protocol::Imap => {
                lines.any(|line| OWN_TAGS.iter().any(|tag| line.starts_with(format!("{tag} OK").as_bytes())))
            }
            Protocol::Pop3 => lines.filter(|line| line.starts_with(b"+OK")).count() >= 2,
            Protocol::Smtp => lines.any(|line| line.starts_with(b"235")),
        }
    }

    /// Checks that the server gets only our own commands before that.
    fn check_own_words(&self) {
        if self.is_accepted {
            return;
        }
        for line in self.to_server.split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            let is_base64 = line.iter().all(|octet| octet.is_ascii_alphanumeric() || b"+/=*".contains(octet));
            let is_ours = OWN_WORDS.iter().any(|word| line.starts_with(word.as_bytes()));
            // The rest of LOGIN follows a literal of our own.
            let is_behind_literal = self.to_server.windows(3).any(|three| three == b"}\r\n");
            assert!(is_base64 || is_ours || is_behind_literal, "the server was sent {}", readable(line));
        }
    }
}

/// Our tags for the login (RFC 3501 §2.2.1 leaves them to the client).
const OWN_TAGS: [&str; 5] = ["P1", "P2", "P3", "P4", "P5"];
/// Our own commands before the server has let the device in.
const OWN_WORDS: &[&str] = &[
    "P1 ", "P2 ", "P3 ", "P4 ", "P5 ", "USER ", "PASS ", "AUTH ", "STLS", "CAPA", "QUIT", "STAT", "LIST", "NOOP",
    "EHLO ", "STARTTLS",
];
