//! POP3 (RFC 1939), as a dialect of the session machine. After login only the response to CAPA is rewritten.

mod authorization;
mod capability;
mod client;
mod command_line;
mod frame;
mod login_command;
mod login_refusal;
mod no_delete;
mod relay;
mod relogin;
mod response;

use super::dialect::{Dialect, Read, Response};
use super::line::Line;
use super::{CommandLimits, Failure, Kind, Offer};
use client::Client;
use login_command::Command;
use relay::Relay;

/// The reader of the device's commands before login, with the state of a login by USER and PASS (RFC 1939 §7).
#[derive(Default)]
pub(super) struct Pop3 {
    /// The name that USER gave.
    user: Option<Vec<u8>>,
}

impl Dialect for Pop3 {
    /// Responses come in the order of the commands.
    type Tag = ();
    type Client = Client;
    type Relay = Relay;

    const LOGOUT: &'static [u8] = b"QUIT\r\n";

    fn greet(_: &Offer, out: &mut Vec<u8>) {
        // The greeting has no angle brackets, which would offer APOP (RFC 2449 §6). Some clients need a word behind
        // +OK.
        out.extend_from_slice(b"+OK packetboat ready\r\n");
    }

    fn read(
        &mut self,
        input: &[u8],
        offer: &Offer,
        limits: &CommandLimits,
        out: &mut Vec<u8>,
    ) -> Result<Read<()>, Failure> {
        match Line::split(input, limits.line) {
            Line::Incomplete => Ok(Read::Incomplete),
            Line::TooLong => Err(Failure::new(Kind::TooLong, "a POP3 command; limits.line says how long one may be")),
            Line::Complete { text, len } => Ok(Read::Command((), self.request(Command::read(text), offer, out), len)),
        }
    }

    fn respond((): &(), response: Response<'_>, out: &mut Vec<u8>) {
        let (indicator, text) = match response {
            Response::Challenge(challenge) => ("+ ", challenge),
            Response::Bad(_, why) => ("-ERR ", why),
            Response::LoggedOut => ("+OK ", "closing connection"),
            Response::Cancelled => ("-ERR ", "authentication cancelled"),
            Response::UnknownMechanism => ("-ERR ", "mechanism not supported"),
            Response::TlsRequired => ("-ERR ", "start TLS with STLS before login"),
            Response::BeginTls => ("+OK ", "begin TLS negotiation"),
            Response::LoginFailed(reply) => ("-ERR ", login_refusal::refusal(reply)),
        };
        response::line(indicator, text, out);
    }

    fn logged_in((): &(), client: Client, offer: &Offer, out: &mut Vec<u8>) -> Relay {
        out.extend_from_slice(b"+OK logged in\r\n");
        Relay::new(*offer, client.terms())
    }

    fn bye(failure: &Failure, out: &mut Vec<u8>) {
        response::line("-ERR ", failure.kind.meaning(), out);
    }
}
