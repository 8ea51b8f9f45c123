//! IMAP4rev1 (RFC 3501), as a dialect of the session machine. After login only capability lists are rewritten.

mod arguments;
mod capability;
mod client;
mod command_frame;
mod dropped;
mod in_step;
mod literal;
mod login_command;
mod login_refusal;
mod no_delete;
mod not_authenticated;
mod relay;
mod relogin;
mod response;
mod response_frame;
mod tag;

use super::dialect::{Dialect, Read, Response};
use super::parking::ParkedState;
use super::{CommandLimits, Failure, MailboxTerms, Offer};
use crate::text::excerpt;
use arguments::Arguments;
use client::Client;
use relay::Relay;

/// The reader of the device's commands before login, with the state of a command that is not whole.
#[derive(Default)]
pub(super) struct Imap {
    /// Continuation requests sent for the command.
    continued: usize,
    /// The arguments of a command that does not need them: they are skipped.
    arguments: Option<Box<Arguments>>,
}

impl Dialect for Imap {
    type Tag = Vec<u8>;
    type Client = Client;
    type Relay = Relay;

    const LOGOUT: &'static [u8] = b"P5 LOGOUT\r\n";

    fn greet(offer: &Offer, out: &mut Vec<u8>) {
        // RFC 3501 §7.1: a CAPABILITY code in the greeting spares the device a question; some insist on it.
        out.extend_from_slice(b"* OK [CAPABILITY");
        capability::list(offer, out);
        out.extend_from_slice(b"] packetboat ready\r\n");
    }

    fn is_between_commands(&self) -> bool {
        self.arguments.is_none()
    }

    fn read(
        &mut self,
        input: &[u8],
        offer: &Offer,
        limits: &CommandLimits,
        out: &mut Vec<u8>,
    ) -> Result<Read<Vec<u8>>, Failure> {
        match self.arguments.take() {
            Some(arguments) => self.skip(arguments, input, offer, out),
            None => self.read_command(input, offer, limits, out),
        }
    }

    fn respond(tag: &Vec<u8>, response: Response<'_>, out: &mut Vec<u8>) {
        let text = match response {
            Response::Challenge(challenge) => {
                out.extend_from_slice(b"+ ");
                out.extend_from_slice(challenge.as_bytes());
                return out.extend_from_slice(b"\r\n");
            }
            Response::Bad(_, why) => return response::tagged(out, tag, &format!("BAD {why}")),
            Response::LoggedOut => return response::logged_out(out, tag),
            Response::Cancelled => "BAD authentication cancelled",
            Response::UnknownMechanism => "NO mechanism not supported",
            // RFC 5530 §3.
            Response::TlsRequired => "NO [PRIVACYREQUIRED] start TLS before login",
            Response::BeginTls => "OK begin TLS negotiation",
            Response::LoginFailed(reply) => login_refusal::refusal(reply),
        };
        response::tagged(out, tag, text);
    }

    fn logged_in(tag: &Vec<u8>, mut client: Client, _: &Offer, out: &mut Vec<u8>) -> Relay {
        let list = client.take_capability();
        welcome(tag, list.as_deref(), out);
        Relay::new(client.terms(), list)
    }

    fn resumed(tag: &Vec<u8>, terms: MailboxTerms, state: ParkedState, out: &mut Vec<u8>) -> Option<Relay> {
        welcome(tag, state.capability.as_deref(), out);
        Some(Relay::new(terms, state.capability))
    }

    fn bye(failure: &Failure, out: &mut Vec<u8>) {
        // RFC 3501 §7.1.5
        out.extend_from_slice(b"* BYE ");
        out.extend_from_slice(excerpt(failure.kind.meaning().as_bytes()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Tells the device that it is in, with what stays of the server's capability list.
fn welcome(tag: &[u8], list: Option<&[u8]>, out: &mut Vec<u8>) {
    match list {
        Some(list) => {
            out.extend_from_slice(tag);
            out.extend_from_slice(b" OK [CAPABILITY");
            capability::keep(list, out);
            out.extend_from_slice(b"] logged in\r\n");
        }
        None => response::tagged(out, tag, "OK logged in"),
    }
}
