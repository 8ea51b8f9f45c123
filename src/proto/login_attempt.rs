//! A login attempt at a server keeps what the clients of all protocols need alike: the credentials, the answers that
//! the server has not asked for yet, and the choice of another method.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::sasl::{Credentials, Mechanism, Method};
use super::{MailboxTerms, Probe, UpstreamLogin, server_refusal};
use crate::failure::{Failure, Kind};

/// The state of a login at a server, beside the protocol's own.
pub(super) struct LoginAttempt {
    pub(super) terms: MailboxTerms,
    pub(super) credentials: Credentials,
    /// One answer for each challenge or continuation request that is still to come.
    answers: VecDeque<Zeroizing<Vec<u8>>>,
    /// Whether the server has been sent nothing but the name of a mechanism.
    nothing_answered: bool,
}

impl LoginAttempt {
    /// Makes an attempt that has sent nothing.
    pub(super) fn new(login: UpstreamLogin) -> Self {
        let terms = login.terms.of_mailbox();
        Self { terms, credentials: login.credentials, answers: VecDeque::new(), nothing_answered: true }
    }

    /// Begins with the present method, whose answers these are: without line ends with SASL, with them otherwise.
    pub(super) fn begin(&mut self, answers: VecDeque<Zeroizing<Vec<u8>>>) {
        self.answers = answers;
    }

    /// Notes that the server has the password.
    pub(super) fn password_sent(&mut self) {
        self.nothing_answered = false;
    }

    /// Answers a challenge (RFC 5034 §4, RFC 3501 §6.2.2) or a continuation request.
    pub(super) fn answer(&mut self, out: &mut Vec<u8>) {
        match (self.answers.pop_front(), self.credentials.method) {
            (Some(answer), method) => {
                self.nothing_answered = false;
                out.extend_from_slice(&answer);
                if matches!(method, Method::Sasl(_)) {
                    out.extend_from_slice(b"\r\n");
                }
            }
            // The challenge that tells why XOAUTH2 failed wants an empty answer before the refusal.
            (None, Method::Sasl(Mechanism::Xoauth2)) => out.extend_from_slice(b"\r\n"),
            (None, _) => out.extend_from_slice(b"*\r\n"),
        }
    }

    /// Reads the refusal of a login. Returns the failure, or none where the protocol's own login command is the method
    /// from here on, and is to be sent.
    pub(super) fn refused(&mut self, text: &[u8]) -> Option<Failure> {
        if !self.nothing_answered || !server_refusal::is_of_mechanism(text) {
            return Some(server_refusal::of(text));
        }
        // The server refuses before it has the password: it does not like the mechanism.
        if self.credentials.may_use_login_command() {
            self.credentials.method = Method::Command;
            return None;
        }
        Some(Failure::new(Kind::Mechanism, server_refusal::words(text)))
    }

    /// Returns whether the mailbox is to be tried before the device is let in.
    pub(super) fn needs_probe(&self) -> bool {
        self.terms.probe == Probe::Run
    }
}
