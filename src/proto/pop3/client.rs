//! The POP3 client that logs in at the server: greeting, STLS where it is needed, USER and PASS or AUTH.

use super::response::Status;
use crate::failure::{Failure, Kind};
use crate::proto::dialect::{self, Progress};
use crate::proto::login_attempt::LoginAttempt;
use crate::proto::sasl::Method;
use crate::proto::{MailboxTerms, UpstreamLogin, server_refusal};
use crate::protocol::Security;
use crate::text::excerpt;

/// The conversation with the server until it lets the device in.
pub(in crate::proto) struct Client {
    stage: Stage,
    attempt: LoginAttempt,
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
        Self { stage: Stage::Greeting(login.security), attempt: LoginAttempt::new(login) }
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
        self.attempt.terms
    }

    /// Reads a response to USER, PASS, AUTH, a SASL response or the probe.
    fn login_answered(&mut self, status: Status<'_>, out: &mut Vec<u8>) -> Progress {
        match (self.stage, status) {
            (Stage::User, Status::Ok) => {
                out.extend_from_slice(b"PASS ");
                out.extend_from_slice(self.attempt.credentials.secret.expose());
                out.extend_from_slice(b"\r\n");
                self.attempt.password_sent();
                self.stage = Stage::Login;
            }
            (Stage::Login, Status::Continuation) => self.attempt.answer(out),
            (Stage::Login, Status::Ok) if self.attempt.needs_probe() => {
                out.extend_from_slice(b"STAT\r\n");
                self.stage = Stage::Probe;
            }
            (_, Status::Ok) => return Progress::LoggedIn,
            (Stage::Probe, Status::Err(text)) => return Progress::Failed(server_refusal::of_probe(text)),
            (Stage::Login, Status::Err(text)) => match self.attempt.refused(text) {
                Some(failure) => return Progress::Failed(failure),
                None => self.send_login(out),
            },
            (_, Status::Err(text)) => return Progress::Failed(server_refusal::of(text)),
            // The line is not quoted: a server may repeat what it did not understand, and that was a password.
            (_, Status::Continuation | Status::Other) => {
                return Progress::Failed(Failure::new(Kind::UpstreamProtocol, "the answer to the login is not POP3"));
            }
        }
        Progress::Wait
    }

    fn send_login(&mut self, out: &mut Vec<u8>) {
        self.attempt.begin(self.attempt.credentials.responses());
        match self.attempt.credentials.method {
            Method::Command | Method::Source => {
                out.extend_from_slice(b"USER ");
                out.extend_from_slice(&self.attempt.credentials.login);
                self.stage = Stage::User;
            }
            // AUTH always takes two steps. Exchange drops a connection that sends an initial response, and RFC 5034
            // §4 allows one only where the whole command fits 255 octets.
            Method::Sasl(mechanism) => {
                out.extend_from_slice(b"AUTH ");
                out.extend_from_slice(mechanism.name().as_bytes());
                self.stage = Stage::Login;
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}
