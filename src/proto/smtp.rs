//! SMTP submission (RFC 6409, RFC 5321), as a dialect of the session machine. After login, packetboat writes the
//! envelope anew and passes one command at a time.

mod auth_refusal;
mod capability;
mod client;
mod command;
mod content;
mod envelope;
mod login_refusal;
mod not_authenticated;
mod path;
mod refusal;
mod relay;
mod reply;
mod rules;
mod sender;

use super::dialect::{Dialect, Fault, Read, Request, Response};
use super::line::Line;
use super::{CommandLimits, Failure, Kind, Offer};
use client::Client;
use command::Command;
pub use refusal::{Judged, Refused, judge};
use relay::Relay;

/// The reader of the device's commands before login.
#[derive(Default)]
pub(super) struct Smtp {
    /// The next command is MAIL, whose login has failed. It has its answer.
    is_answered: bool,
}

/// The commands that ask for a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LoginCommand {
    /// AUTH, or another command whose answer says nothing about a login.
    #[default]
    Auth,
    /// MAIL, from a device whose address stands for its login.
    Mail,
}

impl Dialect for Smtp {
    /// Replies come in the order of the commands; the tag says how the login was asked for.
    type Tag = LoginCommand;
    type Client = Client;
    type Relay = Relay;

    const LOGOUT: &'static [u8] = b"QUIT\r\n";

    // The greeting and the answers to EHLO and HELO name "packetboat", whatever the listener is called. RFC 5321 wants a
    // domain there (§4.1.1.1, §4.2), and one label of letters is a domain (§4.1.2). The name of a listener is a label for
    // logs and metrics: it may have blanks and any letters. The name of the host would tell strangers where they are.
    fn greet(_: &Offer, out: &mut Vec<u8>) {
        // The word ESMTP has older clients begin with EHLO.
        reply::line("220 packetboat ESMTP ready", out);
    }

    fn read(
        &mut self,
        input: &[u8],
        offer: &Offer,
        limits: &CommandLimits,
        out: &mut Vec<u8>,
    ) -> Result<Read<LoginCommand>, Failure> {
        match Line::split(input, limits.line) {
            Line::Incomplete => Ok(Read::Incomplete),
            Line::TooLong => Err(Failure::new(Kind::TooLong, "an SMTP command; limits.line says how long one may be")),
            Line::Complete { len, .. } if std::mem::take(&mut self.is_answered) => Ok(Read::Part(len)),
            Line::Complete { text, len } => match not_authenticated::request(Command::read(text), offer, out) {
                // The same line is obeyed behind the login.
                Request::LoginBySource => Ok(Read::Command(LoginCommand::Mail, Request::LoginBySource, 0)),
                request => Ok(Read::Command(LoginCommand::Auth, request, len)),
            },
        }
    }

    fn after_failed_login(command: &LoginCommand) -> Self {
        Self { is_answered: *command == LoginCommand::Mail }
    }

    fn respond(command: &LoginCommand, response: Response<'_>, out: &mut Vec<u8>) {
        let (code, text) = match response {
            // A challenge may be empty, and its space is sent all the same: some devices wait for four octets.
            Response::Challenge(challenge) => ("334", challenge),
            Response::Bad(Fault::Command, why) => ("500 5.5.1", why),
            Response::Bad(Fault::Sequence, why) => ("503 5.5.1", why),
            Response::Bad(Fault::Syntax, why) => ("501 5.5.2", why),
            Response::LoggedOut => ("221 2.0.0", "closing connection"),
            Response::Cancelled => ("501 5.7.0", "authentication cancelled"),
            Response::UnknownMechanism => ("504 5.5.4", "mechanism not supported, use PLAIN or LOGIN"),
            Response::TlsRequired => ("530 5.7.0", "start TLS with STARTTLS first"),
            Response::BeginTls => ("220 2.0.0", "begin TLS negotiation"),
            Response::LoginFailed(reply) => return reply::line(login_refusal::refusal(reply, *command), out),
        };
        reply::coded(code, text, out);
    }

    fn logged_in(command: &LoginCommand, client: Client, offer: &Offer, out: &mut Vec<u8>) -> Relay {
        if *command == LoginCommand::Auth {
            reply::line("235 2.7.0 logged in", out);
        }
        Relay::new(*offer, client)
    }

    fn bye(failure: &Failure, out: &mut Vec<u8>) {
        let code = match failure.kind {
            Kind::OutcomeUnknown => "451 4.4.2",
            Kind::UpstreamLost | Kind::UpstreamTimeout | Kind::IdleTimeout | Kind::MessageTooSlow => "421 4.4.2",
            _ => "421 4.3.2",
        };
        reply::coded(code, failure.kind.meaning(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5321 §4.1.2: labels of letters, digits and hyphens, which begin and end with a letter or digit.
    #[test]
    fn each_answer_names_the_same_domain() {
        let (mut greeting, mut ehlo) = (Vec::new(), Vec::new());
        Smtp::greet(&Offer::NONE, &mut greeting);
        capability::announce(&Offer::NONE, false, &mut ehlo);
        let named = [greeting, ehlo, not_authenticated::HELO.into()].map(|reply| {
            let text = String::from_utf8(reply).unwrap();
            text[4..].split([' ', '\r']).next().unwrap_or_default().to_owned()
        });
        let [domain, ..] = &named;
        assert!(named.iter().all(|one| one == domain), "{named:?}");
        let is_label = |label: &str| {
            let has_edges = label.starts_with(char::is_alphanumeric) && label.ends_with(char::is_alphanumeric);
            has_edges && label.len() < 64 && label.chars().all(|one| one.is_ascii_alphanumeric() || one == '-')
        };
        assert!(domain.split('.').all(is_label), "{domain}");
    }
}
