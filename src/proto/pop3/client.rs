//! The POP3 client that logs in at the server: greeting, STLS where it is needed, USER and PASS or AUTH.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::response::Status;
use crate::failure::{Failure, Kind};
use crate::proto::dialect::{self, Progress};
use crate::proto::sasl::{Credentials, Mechanism, Method};
use crate::proto::{MailboxTerms, Probe, Terms, UpstreamLogin, server_refusal};
use crate::protocol::Security;
use crate::text::excerpt;

/// The conversation with the server until it lets the device in.
pub(in crate::proto) struct Client {
    stage: Stage,
    terms: MailboxTerms,
    login: Credentials,
    /// One answer for each challenge that is still to come.
    answers: VecDeque<Zeroizing<Vec<u8>>>,
    /// Nothing but the name of a mechanism was sent to the server.
    nothing_answered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting(Security),
    /// STLS was sent.
    Stls,
    /// The driver shakes hands.
    Handshake,
    /// USER was sent.
    User,
    /// PASS, or AUTH, was sent.
    Login,
    /// The mailbox is tried.
    Probe,
}

impl dialect::Client for Client {
    fn new(login: UpstreamLogin) -> Self {
        let Terms::Mailbox(terms) = login.terms;
        Self {
            stage: Stage::Greeting(login.security),
            terms,
            login: login.credentials,
            answers: VecDeque::new(),
            nothing_answered: true,
        }
    }

    fn receive(&mut self, line: &[u8], out: &mut Vec<u8>) -> Progress {
        match (self.stage, Status::read(line)) {
            (Stage::Greeting(Security::Implicit), Status::Ok) => {
                self.send_login(out);
                Progress::Wait
            }
            (Stage::Greeting(Security::StartTls), Status::Ok) => {
                out.extend_from_slice(b"STLS\r\n");
                self.stage = Stage::Stls;
                Progress::Wait
            }
            (Stage::Greeting(_), Status::Err(text)) => Progress::Failed(Failure::new(
                Kind::UpstreamGreeting,
                format!("it greets with \"-ERR {}\"", excerpt(text)),
            )),
            (Stage::Stls, Status::Ok) => {
                self.stage = Stage::Handshake;
                Progress::StartTls
            }
            (Stage::Stls, Status::Err(text)) => Progress::Failed(Failure::new(
                Kind::UpstreamStartTls,
                format!("STLS was answered with \"-ERR {}\"", excerpt(text)),
            )),
            (Stage::User | Stage::Login | Stage::Probe, status) => self.login_answered(status, out),
            (Stage::Greeting(_) | Stage::Stls, Status::Continuation | Status::Other) | (Stage::Handshake, _) => {
                Progress::Failed(Failure::new(
                    Kind::UpstreamProtocol,
                    format!("it said \"{}\", which is not POP3 here", excerpt(line)),
                ))
            }
        }
    }

    fn tls_started(&mut self, out: &mut Vec<u8>) {
        self.send_login(out);
    }
}

impl Client {
    /// Returns the terms of the session behind the login.
    pub(super) fn terms(&self) -> MailboxTerms {
        self.terms
    }

    /// Reads a response to USER, PASS, AUTH, a SASL response or the probe.
    fn login_answered(&mut self, status: Status<'_>, out: &mut Vec<u8>) -> Progress {
        match (self.stage, status) {
            (Stage::User, Status::Ok) => {
                out.extend_from_slice(b"PASS ");
                out.extend_from_slice(self.login.secret.expose());
                out.extend_from_slice(b"\r\n");
                self.nothing_answered = false;
                self.stage = Stage::Login;
            }
            (Stage::Login, Status::Continuation) => self.challenged(out),
            (Stage::Login, Status::Ok) if self.terms.probe == Probe::Run => {
                out.extend_from_slice(b"STAT\r\n");
                self.stage = Stage::Probe;
            }
            (_, Status::Ok) => return Progress::LoggedIn,
            (Stage::Probe, Status::Err(text)) => return Progress::Failed(server_refusal::of_probe(text)),
            // The server refuses before it has the password: it does not like the mechanism.
            (Stage::Login, Status::Err(text)) if self.nothing_answered && server_refusal::is_of_mechanism(text) => {
                if !self.login.may_use_login_command() {
                    return Progress::Failed(Failure::new(Kind::Mechanism, server_refusal::words(text)));
                }
                self.login.method = Method::Command;
                self.send_login(out);
            }
            (_, Status::Err(text)) => return Progress::Failed(server_refusal::of(text)),
            // The line is not quoted: a server may repeat what it did not understand, and that was a password.
            (_, Status::Continuation | Status::Other) => {
                return Progress::Failed(Failure::new(Kind::UpstreamProtocol, "the answer to the login is not POP3"));
            }
        }
        Progress::Wait
    }

    /// Answers a challenge (RFC 5034 §4).
    fn challenged(&mut self, out: &mut Vec<u8>) {
        match (self.answers.pop_front(), self.login.method) {
            (Some(answer), _) => {
                self.nothing_answered = false;
                out.extend_from_slice(&answer);
                out.extend_from_slice(b"\r\n");
            }
            // The challenge that tells why XOAUTH2 failed wants an empty answer before the -ERR.
            (None, Method::Sasl(Mechanism::Xoauth2)) => out.extend_from_slice(b"\r\n"),
            (None, _) => out.extend_from_slice(b"*\r\n"),
        }
    }

    fn send_login(&mut self, out: &mut Vec<u8>) {
        self.answers.clear();
        match self.login.method {
            Method::Command => {
                out.extend_from_slice(b"USER ");
                out.extend_from_slice(&self.login.login);
                self.stage = Stage::User;
            }
            // AUTH always takes two steps. Exchange drops a connection that sends an initial response, and RFC 5034
            // §4 allows one only where the whole command fits 255 octets.
            Method::Sasl(mechanism) => {
                self.answers = self.login.responses();
                out.extend_from_slice(b"AUTH ");
                out.extend_from_slice(mechanism.name().as_bytes());
                self.stage = Stage::Login;
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}
