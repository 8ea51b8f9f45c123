//! The IMAP client that logs in at the server: greeting, STARTTLS where it is needed, LOGIN or AUTHENTICATE.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::response::{Response, Status, capability_code};
use crate::failure::{Failure, Kind};
use crate::proto::dialect::{self, Progress};
use crate::proto::login_attempt::LoginAttempt;
use crate::proto::sasl::{Credentials, Mechanism, Method};
use crate::proto::server_refusal::{self, Condition};
use crate::proto::{MailboxTerms, UpstreamLogin};
use crate::protocol::Security;
use crate::text::excerpt;

/// The conversation with the server until it lets the device in.
pub(in crate::proto) struct Client {
    stage: Stage,
    attempt: LoginAttempt,
    /// The tag of the login.
    tag: &'static [u8],
    /// The list that the server volunteered, under TLS only.
    capability: Option<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting(Security),
    /// STARTTLS was sent.
    StartTls,
    /// The driver shakes hands.
    Handshake,
    /// The login was sent.
    Login,
    /// The mailbox is tried.
    Probe,
}

impl dialect::Client for Client {
    fn new(login: UpstreamLogin) -> Self {
        Self {
            stage: Stage::Greeting(login.security),
            attempt: LoginAttempt::new(login),
            tag: LOGIN_TAG,
            capability: None,
        }
    }

    fn receive(&mut self, line: &[u8], out: &mut Vec<u8>) -> Progress {
        let response = Response::read(line);
        match (self.stage, response) {
            (Stage::Greeting(tls), Response::Untagged { keyword, text }) => self.greeted(tls, keyword, text, out),
            (_, Response::Untagged { keyword, text }) if keyword.eq_ignore_ascii_case(b"BYE") => {
                let other = || Failure { kind: Kind::Unavailable, ..server_refusal::of(text) };
                Progress::Failed(server_refusal::notice(Condition::Bye, text).unwrap_or_else(other))
            }
            (Stage::Login | Stage::Probe, Response::Untagged { keyword, text }) => {
                if keyword.eq_ignore_ascii_case(b"CAPABILITY") {
                    self.capability = Some(text.to_vec());
                }
                Progress::Wait
            }
            // A list in clear is not trusted (RFC 3501 §6.2.1).
            (Stage::StartTls, Response::Untagged { .. }) => Progress::Wait,
            (Stage::StartTls, Response::Tagged { tag, status, text }) if tag == STARTTLS_TAG => match status {
                Status::Ok => {
                    self.stage = Stage::Handshake;
                    Progress::StartTls
                }
                Status::No | Status::Bad => Progress::Failed(Failure::new(
                    Kind::UpstreamStartTls,
                    format!("STARTTLS was answered with \"{}\"", excerpt(text)),
                )),
            },
            (Stage::Login, Response::Continuation) => {
                self.attempt.answer(out);
                Progress::Wait
            }
            (Stage::Login, Response::Tagged { tag, status, text }) if tag == self.tag => {
                self.login_answered(status, text, out)
            }
            (Stage::Probe, Response::Tagged { tag, status, text }) if tag == PROBE_TAG => match status {
                Status::Ok => Progress::LoggedIn,
                Status::No | Status::Bad => Progress::Failed(server_refusal::of_probe(text)),
            },
            // The line is not quoted: a server may repeat what it did not understand, and that was a token.
            (Stage::Login | Stage::Probe, _) => {
                Progress::Failed(Failure::new(Kind::UpstreamProtocol, "the answer to the login is not IMAP"))
            }
            _ => Progress::Failed(Failure::new(
                Kind::UpstreamProtocol,
                format!("it said \"{}\", which is not IMAP here", excerpt(line)),
            )),
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

    /// Takes the list that came with the OK, or untagged just before it.
    pub(super) fn take_capability(&mut self) -> Option<Vec<u8>> {
        self.capability.take()
    }

    fn login_answered(&mut self, status: Status, text: &[u8], out: &mut Vec<u8>) -> Progress {
        if status == Status::Ok {
            self.capability = capability_code(text).map(<[u8]>::to_vec).or_else(|| self.capability.take());
            if !self.attempt.needs_probe() {
                return Progress::LoggedIn;
            }
            // NOOP would not do: only a command that needs the mailbox finds it missing.
            out.extend_from_slice(PROBE_TAG);
            out.extend_from_slice(b" STATUS INBOX (MESSAGES)\r\n");
            self.stage = Stage::Probe;
            return Progress::Wait;
        }
        match self.attempt.refused(text) {
            None => {
                self.tag = SECOND_LOGIN_TAG;
                self.send_login(out);
                Progress::Wait
            }
            // The server does not like the form of the login; only throttling comes like this as well.
            Some(failure) if status == Status::Bad && failure.kind == Kind::LoginRefused => {
                Progress::Failed(Failure::new(Kind::Mechanism, failure.detail))
            }
            Some(failure) => Progress::Failed(failure),
        }
    }

    fn greeted(&mut self, security: Security, keyword: &[u8], text: &[u8], out: &mut Vec<u8>) -> Progress {
        match (keyword.to_ascii_uppercase().as_slice(), security) {
            (b"OK", Security::Implicit) => {
                self.capability = capability_code(text).map(<[u8]>::to_vec);
                match self.offered_method() {
                    Ok(method) => self.attempt.credentials.method = method,
                    Err(failure) => return Progress::Failed(failure),
                }
                self.send_login(out);
                Progress::Wait
            }
            (b"OK", Security::StartTls) => {
                out.extend_from_slice(STARTTLS_TAG);
                out.extend_from_slice(b" STARTTLS\r\n");
                self.stage = Stage::StartTls;
                Progress::Wait
            }
            // RFC 9051 §7.1.4: PREAUTH would leave the session without TLS, and the device in somebody else's
            // mailbox.
            (b"PREAUTH", _) => {
                Progress::Failed(Failure::new(Kind::UpstreamGreeting, "it greets with PREAUTH, which is not accepted"))
            }
            (b"BYE", _) => Progress::Failed(Failure::new(
                Kind::UpstreamGreeting,
                format!("it greets with \"BYE {}\"", excerpt(text)),
            )),
            _ => Progress::Failed(Failure::new(Kind::UpstreamProtocol, "its greeting is not IMAP")),
        }
    }

    fn offers(&self, capability: &[u8]) -> bool {
        self.capability
            .as_deref()
            .is_some_and(|list| list.split(|&octet| octet == b' ').any(|word| word.eq_ignore_ascii_case(capability)))
    }

    /// Chooses a way to log in that the server takes. It is the device's own where that is offered or no list was
    /// given. A password may be sent in another way, a token only in its own.
    ///
    /// # Errors
    /// The server takes none.
    fn offered_method(&self) -> Result<Method, Failure> {
        let offered = |method: Method| match method {
            Method::Command | Method::Source => !self.offers(b"LOGINDISABLED"),
            Method::Sasl(mechanism) => self.offers(format!("AUTH={}", mechanism.name()).as_bytes()),
        };
        let as_said = self.attempt.credentials.method;
        if self.capability.is_none() || offered(as_said) {
            return Ok(as_said);
        }
        let others = [Method::Sasl(Mechanism::Plain), Method::Command, Method::Sasl(Mechanism::Login)];
        let is_password = as_said != Method::Sasl(Mechanism::Xoauth2);
        // PLAIN alone carries an authorisation identity (RFC 4616).
        let carries =
            |method: &Method| self.attempt.credentials.authzid.is_empty() || *method == Method::Sasl(Mechanism::Plain);
        others.into_iter().filter(|method| is_password && carries(method)).find(|method| offered(*method)).ok_or_else(
            || {
                let missing = match as_said {
                    Method::Command | Method::Source => {
                        "it announces LOGINDISABLED, and no AUTH=PLAIN or AUTH=LOGIN".to_owned()
                    }
                    Method::Sasl(mechanism) => format!("it does not announce AUTH={}", mechanism.name()),
                };
                Failure::new(Kind::Mechanism, missing)
            },
        )
    }

    fn send_login(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Login;
        out.extend_from_slice(self.tag);
        match self.attempt.credentials.method {
            Method::Command | Method::Source => {
                self.attempt.begin(login_command(&self.attempt.credentials));
                self.attempt.answer(out);
            }
            Method::Sasl(mechanism) => {
                self.attempt.begin(self.attempt.credentials.responses());
                out.extend_from_slice(b" AUTHENTICATE ");
                out.extend_from_slice(mechanism.name().as_bytes());
                // A server that takes XOAUTH2 takes an initial response, and Exchange Online gives no list before
                // login.
                let unasked = mechanism == Mechanism::Xoauth2 && self.capability.is_none();
                if mechanism != Mechanism::Login && (unasked || self.offers(b"SASL-IR")) {
                    out.push(b' ');
                    self.attempt.answer(out);
                } else {
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        // From here on, only a capability list that comes with the login counts.
        self.capability = None;
    }
}

/// Writes LOGIN behind its tag, in parts that each wait for a continuation request.
fn login_command(credentials: &Credentials) -> VecDeque<Zeroizing<Vec<u8>>> {
    let mut parts = VecDeque::new();
    let mut part = Zeroizing::new(b" LOGIN".to_vec());
    for field in [credentials.login.as_slice(), credentials.secret.expose()] {
        part.push(b' ');
        if can_be_quoted(field) {
            quote(field, &mut part);
        } else {
            // RFC 3501 §4.3: 8-bit text goes as a literal, which waits for its `+`.
            part.extend_from_slice(format!("{{{}}}\r\n", field.len()).as_bytes());
            parts.push_back(std::mem::take(&mut part));
            part.extend_from_slice(field);
        }
    }
    part.extend_from_slice(b"\r\n");
    parts.push_back(part);
    parts
}

fn can_be_quoted(field: &[u8]) -> bool {
    field.iter().all(|octet| (0x20..0x7f).contains(octet))
}

fn quote(field: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &octet in field {
        if matches!(octet, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(octet);
    }
    out.push(b'"');
}

/// The client's own tags, before the device's are let through.
const STARTTLS_TAG: &[u8] = b"P1";
const LOGIN_TAG: &[u8] = b"P2";
const SECOND_LOGIN_TAG: &[u8] = b"P3";
const PROBE_TAG: &[u8] = b"P4";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Terms;
    use crate::proto::dialect::Client as _;
    use crate::protocol::Protocol;

    fn receive(client: &mut Client, line: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(matches!(client.receive(line, &mut out), Progress::Wait), "{}", excerpt(line));
        out
    }

    #[test]
    fn login_quotes_and_sends_8_bit_as_literals() {
        let login = Credentials::from_command(b"a\"b\\c", "p\u{e4}ss".as_bytes().to_vec());
        let mut client = Client::new(UpstreamLogin {
            credentials: login,
            security: Security::Implicit,
            terms: Terms::pass_through(Protocol::Imap),
        });
        assert_eq!(receive(&mut client, b"* OK ready"), b"P2 LOGIN \"a\\\"b\\\\c\" {5}\r\n");
        assert_eq!(receive(&mut client, b"+ OK"), "p\u{e4}ss\r\n".as_bytes());
    }
}
