//! The SMTP client that logs in at the server: greeting, EHLO, STARTTLS and EHLO again where it is needed, AUTH.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::auth_refusal;
use super::capability::Extensions;
use super::reply::ReplyLine;
use super::rules::SessionRules;
use crate::failure::{Failure, Kind};
use crate::proto::dialect::{self, Progress};
use crate::proto::sasl::{Credentials, Mechanism, Method};
use crate::proto::{Terms, UpstreamLogin};
use crate::protocol::Security;
use crate::text::excerpt;

/// The conversation with the server until it lets the device in.
pub(in crate::proto) struct Client {
    stage: Stage,
    credentials: Credentials,
    /// One answer for each challenge that is still to come.
    answers: VecDeque<Zeroizing<Vec<u8>>>,
    server: Extensions,
    rules: SessionRules,
    /// The account's terms could not be read.
    is_unusable: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting(Security),
    /// EHLO was sent in clear.
    ClearEhlo,
    /// STARTTLS was sent.
    StartTls,
    /// The driver shakes hands.
    Handshake,
    /// EHLO was sent over TLS.
    Ehlo,
    /// AUTH was sent.
    Auth,
}

impl dialect::Client for Client {
    fn new(login: UpstreamLogin) -> Self {
        let UpstreamLogin { credentials, security, terms } = login;
        let rules = match &terms {
            Terms::Submission(Some(terms)) => SessionRules::read(terms),
            Terms::Submission(None) => Some(SessionRules::default()),
            Terms::Mailbox(_) => None,
        };
        let (stage, server, is_unusable) = (Stage::Greeting(security), Extensions::default(), rules.is_none());
        Self { stage, credentials, answers: VecDeque::new(), server, rules: rules.unwrap_or_default(), is_unusable }
    }

    fn receive(&mut self, line: &[u8], out: &mut Vec<u8>) -> Progress {
        let Some(reply) = ReplyLine::read(line).filter(|_| self.stage != Stage::Handshake) else {
            // A server may repeat what it did not understand, and behind AUTH that was a password.
            let said = if self.stage == Stage::Auth { String::new() } else { format!(" \"{}\"", excerpt(line)) };
            let detail = format!("its line{said} is no reply of SMTP here");
            return Progress::Failed(Failure::new(Kind::UpstreamProtocol, detail));
        };
        if self.stage == Stage::Ehlo && reply.is_positive() {
            self.server.note(&reply);
        }
        if !reply.is_last {
            return Progress::Wait;
        }
        match (self.stage, reply.code) {
            (Stage::Greeting(security), 220) => {
                let is_secure = security == Security::Implicit;
                self.greet(if is_secure { Stage::Ehlo } else { Stage::ClearEhlo }, out);
                Progress::Wait
            }
            (Stage::ClearEhlo, 250) => {
                out.extend_from_slice(b"STARTTLS\r\n");
                self.stage = Stage::StartTls;
                Progress::Wait
            }
            (Stage::StartTls, 220) => {
                self.stage = Stage::Handshake;
                Progress::StartTls
            }
            (Stage::Ehlo, 250) => self.log_in(out),
            (Stage::Auth, 334) => {
                self.answer(out);
                Progress::Wait
            }
            (Stage::Auth, 235) => Progress::LoggedIn,
            _ => Progress::Failed(self.refused(&reply)),
        }
    }

    fn tls_started(&mut self, out: &mut Vec<u8>) {
        // RFC 3207 §4.2: what the server said in clear is forgotten.
        self.server = Extensions::default();
        self.greet(Stage::Ehlo, out);
    }
}

impl Client {
    /// The server's extensions, and the rules of the session behind the login.
    pub(super) fn into_parts(self) -> (Extensions, SessionRules) {
        (self.server, self.rules)
    }

    fn greet(&mut self, next: Stage, out: &mut Vec<u8>) {
        out.extend_from_slice(b"EHLO ");
        out.extend_from_slice(OWN_NAME);
        out.extend_from_slice(b"\r\n");
        self.stage = next;
    }

    /// Sends AUTH, by a mechanism that the server takes. A token or a password goes to no server that does not ask for
    /// one.
    fn log_in(&mut self, out: &mut Vec<u8>) -> Progress {
        if self.is_unusable {
            let detail = "SMTP takes only ASCII letters, digits and a few signs in an address: change mailbox, senders or \
                          recipients of the account; packetboat check names the line";
            return Progress::Failed(Failure::new(Kind::ContactAdmin, detail));
        }
        let Some(mechanism) = self.mechanism() else {
            let detail = match self.credentials.method {
                Method::Sasl(Mechanism::Xoauth2) => "its answer to EHLO has no AUTH XOAUTH2",
                Method::Sasl(Mechanism::Plain | Mechanism::Login) | Method::Command | Method::Source => {
                    "its answer to EHLO has no AUTH PLAIN or LOGIN"
                }
            };
            return Progress::Failed(Failure::new(Kind::Mechanism, detail));
        };
        self.credentials.method = Method::Sasl(mechanism);
        self.answers = self.credentials.responses();
        out.extend_from_slice(b"AUTH ");
        out.extend_from_slice(mechanism.name().as_bytes());
        // RFC 4954 §4: an initial response must leave the command within the length of a command line. That saves PLAIN
        // a round trip; a token is always longer, and LOGIN has no initial response of its own.
        let room = LONGEST_COMMAND - "AUTH PLAIN \r\n".len();
        let fits = mechanism == Mechanism::Plain && self.answers.front().is_some_and(|answer| answer.len() <= room);
        if let Some(initial) = self.answers.pop_front_if(|_| fits) {
            out.push(b' ');
            out.extend_from_slice(&initial);
        }
        out.extend_from_slice(b"\r\n");
        self.stage = Stage::Auth;
        Progress::Wait
    }

    /// Chooses the device's own mechanism; or the other one for a password, where the server takes that alone.
    /// Exchange Online takes LOGIN and no PLAIN.
    fn mechanism(&self) -> Option<Mechanism> {
        let candidates: &[Mechanism] = match self.credentials.method {
            Method::Sasl(Mechanism::Xoauth2) => &[Mechanism::Xoauth2],
            // LOGIN cannot name another mailbox than the user's own.
            Method::Sasl(Mechanism::Plain) if !self.credentials.authzid.is_empty() => &[Mechanism::Plain],
            Method::Sasl(Mechanism::Login) => &[Mechanism::Login, Mechanism::Plain],
            Method::Sasl(Mechanism::Plain) | Method::Command => &[Mechanism::Plain, Mechanism::Login],
            // There is no secret to send.
            Method::Source => &[],
        };
        candidates.iter().copied().find(|mechanism| self.server.takes(*mechanism))
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        match (self.answers.pop_front(), self.credentials.method) {
            (Some(answer), _) => out.extend_from_slice(&answer),
            // Gmail tells in a challenge why XOAUTH2 failed. It wants an empty answer before the refusal.
            (None, Method::Sasl(Mechanism::Xoauth2)) => {}
            (None, _) => out.push(b'*'),
        }
        out.extend_from_slice(b"\r\n");
    }

    fn refused(&self, reply: &ReplyLine<'_>) -> Failure {
        let kind = match self.stage {
            Stage::Greeting(_) | Stage::ClearEhlo | Stage::Ehlo => Kind::UpstreamGreeting,
            Stage::StartTls if reply.is_transient() => Kind::Unavailable,
            Stage::StartTls => Kind::UpstreamStartTls,
            Stage::Handshake | Stage::Auth => return auth_refusal::of(reply),
        };
        Failure::new(kind, format!("it said \"{} {}\"", reply.code, excerpt(reply.text)))
    }
}

/// The name with which packetboat greets a server. An address literal passes where a name is wanted to be a full one
/// (RFC 5321 §4.1.3), and says nothing about the network.
const OWN_NAME: &[u8] = b"[127.0.0.1]";
/// RFC 5321 §4.5.3.1.4, in octets with the line end.
const LONGEST_COMMAND: usize = 512;
