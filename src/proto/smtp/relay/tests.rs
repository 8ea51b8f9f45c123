//! These tests play a session whose servers come and go, with every cut of what a peer says.

mod kept;
mod replay;
mod without_server;

use std::sync::Arc;

use crate::failure::{Failure, Kind};
use crate::proto::{
    Action, Awaited, CommandLimits, Credentials, KeepReason, MessageEnvelope, Method, Offer, Outbox, Phase, Session,
    Side, Step, SubmissionTerms, Terms, UpstreamLogin, session,
};
use crate::protocol::{Protocol, Security};
use crate::secret::Secret;

/// A session after its login, with a device and a server that say what a test wants.
struct Play {
    session: Box<dyn Session>,
    cut: usize,
    input: [Vec<u8>; 2],
    /// All that the device and the present server have heard since it was last looked at.
    heard: [String; 2],
    has_server: bool,
    /// The session asks for a server.
    is_wanting: bool,
    notices: Vec<Kind>,
    sent: u32,
    /// There is room for messages that are kept.
    has_room: bool,
    /// The envelope of the present message that is kept, all that went up of it, and why it was kept.
    envelope: MessageEnvelope,
    content: String,
    is_keeping: bool,
    kept: Vec<KeepReason>,
    is_closed: bool,
    error: Option<Kind>,
}

impl Play {
    /// A translated login, whose server has both extensions.
    fn new(cut: usize) -> Self {
        Self::with(cut, true)
    }

    fn with(cut: usize, is_translated: bool) -> Self {
        Self::of(cut, is_translated, Offer { encrypted: true, ..Offer::NONE })
    }

    /// A session whose messages are kept, if there is room.
    fn keeping(cut: usize) -> Self {
        Self::of(cut, true, Offer { encrypted: true, keeps: true, ..Offer::NONE })
    }

    fn of(cut: usize, is_translated: bool, offer: Offer) -> Self {
        let mut play = Self {
            session: session(Protocol::Smtp, offer, CommandLimits::default()),
            cut,
            input: Default::default(),
            heard: Default::default(),
            has_server: false,
            is_wanting: false,
            notices: Vec::new(),
            sent: 0,
            has_room: true,
            envelope: MessageEnvelope::default(),
            content: String::new(),
            is_keeping: false,
            kept: Vec::new(),
            is_closed: false,
            error: None,
        };
        play.device("AUTH PLAIN AHUAcA==\r\n");
        assert!(play.is_wanting);
        play.log_in(is_translated, "250-SIZE\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n");
        assert_eq!(play.hears(), "235 2.7.0 logged in\r\n");
        play
    }

    /// The server that was asked for lets the mailbox in.
    fn log_in(&mut self, is_translated: bool, extensions: &str) {
        self.connect(is_translated);
        self.server("220 ready\r\n");
        self.server(extensions);
        assert!(self.got().starts_with("EHLO [127.0.0.1]\r\nAUTH PLAIN "));
        self.server("235 in\r\n");
    }

    /// Another server lets the mailbox in.
    fn reconnect(&mut self) {
        self.log_in(true, "250-SIZE\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n");
    }

    fn connect(&mut self, is_translated: bool) {
        assert!(self.is_wanting && self.session.phase() == Phase::LoggingIn, "no server is wanted");
        self.is_wanting = false;
        self.has_server = true;
        let (method, login, authzid) = (Method::Command, b"u".to_vec(), Vec::new());
        let credentials = Credentials { method, login, authzid, secret: Secret::new(b"p".to_vec()) };
        let terms = SubmissionTerms { mailbox: "scan@contoso.example".to_owned(), ..SubmissionTerms::default() };
        let terms = Terms::Submission(is_translated.then(|| Arc::new(terms)));
        self.session.upstream_connected(UpstreamLogin { credentials, security: Security::Implicit, terms });
    }

    /// The server that was asked for is not reached.
    fn fails(&mut self, kind: Kind) {
        assert!(self.is_wanting);
        self.is_wanting = false;
        let mut out = Outbox::default();
        self.session.login_failed(&Failure::new(kind, ""), &mut out);
        self.deliver(&out);
        self.run();
    }

    fn device(&mut self, text: &str) {
        self.says(Side::Downstream, text);
    }

    fn server(&mut self, text: &str) {
        assert!(self.has_server);
        self.says(Side::Upstream, text);
    }

    fn says(&mut self, side: Side, text: &str) {
        for piece in text.as_bytes().chunks(self.cut) {
            self.input[side as usize].extend_from_slice(piece);
            self.run();
        }
    }

    /// The server's connection breaks. Returns whether the session goes on.
    fn lose(&mut self) -> bool {
        assert!(self.has_server);
        self.has_server = false;
        self.input[1].clear();
        let mut out = Outbox::default();
        let goes_on = self.session.upstream_lost(&mut out);
        self.deliver(&out);
        self.run();
        goes_on
    }

    /// A command that the server answers with this.
    fn ask(&mut self, command: &str, answer: &str) {
        self.device(&format!("{command}\r\n"));
        self.server(&format!("{answer}\r\n"));
        assert_eq!(self.hears(), format!("{answer}\r\n"), "{command}");
    }

    /// The octets that the device has heard since.
    fn hears(&mut self) -> String {
        std::mem::take(&mut self.heard[0])
    }

    /// The octets that the server has got since.
    fn got(&mut self) -> String {
        std::mem::take(&mut self.heard[1])
    }

    fn deliver(&mut self, out: &Outbox) {
        self.heard[0].push_str(std::str::from_utf8(&out.downstream).unwrap());
        assert!(self.has_server || out.upstream.is_empty() || self.is_keeping, "it goes to no server");
        if !self.has_server {
            return;
        }
        self.heard[1].push_str(std::str::from_utf8(&out.upstream).unwrap());
    }

    /// Carries out steps until both sides are to say more.
    fn run(&mut self) {
        let mut waiting = 0;
        while waiting < 2 && self.error.is_none() {
            for side in [Side::Downstream, Side::Upstream] {
                let (mut out, at) = (Outbox::default(), side as usize);
                let is_content = self.is_keeping && self.session.awaited() == Some(Awaited::Content);
                let step = match self.session.recv(side, &self.input[at], &mut out) {
                    Ok(step) => step,
                    Err(failure) => return self.error = Some(failure.kind),
                };
                if is_content && side == Side::Downstream {
                    self.content.push_str(std::str::from_utf8(&out.upstream).unwrap());
                }
                self.deliver(&out);
                waiting = if matches!(step, Step::Read) { waiting + 1 } else { 0 };
                let count = step.count();
                let taken: Vec<u8> = self.input[at].drain(..count).collect();
                match step {
                    Step::Read | Step::Consume(_) => {}
                    Step::Forward(_) if is_content && side == Side::Downstream => {
                        let text = std::str::from_utf8(&taken).unwrap();
                        self.content.push_str(text);
                        if self.has_server {
                            self.heard[1].push_str(text);
                        }
                    }
                    Step::Forward(_) => self.heard[1 - at].push_str(std::str::from_utf8(&taken).unwrap()),
                    Step::Act(_, action) => self.act(action),
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Authenticate(_) => self.is_wanting = true,
            Action::Connect => {
                self.leave();
                self.is_wanting = true;
            }
            Action::LeaveServer => self.leave(),
            Action::DropServer(failure) => {
                self.leave();
                self.notices.push(failure.kind);
            }
            Action::Notice(failure) => self.notices.push(failure.kind),
            Action::MessageBegins(envelope) => {
                self.envelope = *envelope;
                self.content.clear();
                self.is_keeping = self.has_room;
                let mut out = Outbox::default();
                self.session.message_begun(self.has_room, &mut out);
                self.deliver(&out);
            }
            Action::Keep(reason) => {
                self.kept.push(reason);
                self.is_kept(true);
            }
            Action::Submitted(submitted) => self.sent += submitted.recipients,
            Action::Close => self.is_closed = true,
            Action::LoggedIn => {}
            Action::LoginFailed(failure) => {
                self.leave();
                self.is_wanting = true;
                self.fails(failure.kind);
            }
            Action::StartTls => unreachable!("the server begins with TLS"),
            Action::Park(_) => unreachable!("IMAP alone parks"),
        }
    }

    /// The message is kept, or could not be.
    fn is_kept(&mut self, is_kept: bool) {
        let mut out = Outbox::default();
        self.is_keeping = false;
        self.session.message_kept(is_kept, &mut out);
        self.deliver(&out);
    }

    fn leave(&mut self) {
        self.has_server = false;
        self.input[1].clear();
    }
}

/// Plays with every cut.
fn at_every_cut(play: impl Fn(&mut Play)) {
    for cut in [1, 2, 3, 5, 7, 11, 4096] {
        play(&mut Play::new(cut));
    }
}

const MAIL: &str = "MAIL FROM:<scan@contoso.example> BODY=8BITMIME\r\n";
const MAIL_OF_DEVICE: &str = "MAIL FROM:<scan@contoso.example>";
const LOST: &str = "451 4.4.2 connection to the mail server lost, try again later\r\n";
