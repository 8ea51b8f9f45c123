//! SMTP submission (RFC 6409, RFC 5321), as a dialect of the session machine.

#[cfg(test)]
mod content;
#[cfg(test)]
mod path;
#[cfg(test)]
mod sender;

use super::dialect::{self, Dialect, Progress, Read, Request, Response};
use super::line::{Line, word};
use super::{Activity, CommandLimits, Failure, Kind, Leftover, Offer, Outbox, Responses, Side, Step, UpstreamLogin};

/// The reader of the device's commands before login.
#[derive(Default)]
pub(super) struct Smtp;

/// The client that logs in at the server.
pub(super) struct Client;

/// The relay after login.
pub(super) struct Relay;

impl Dialect for Smtp {
    type Tag = ();
    type Client = Client;
    type Relay = Relay;

    const LOGOUT: &'static [u8] = b"QUIT\r\n";

    fn greet(_: &Offer, out: &mut Vec<u8>) {
        out.extend_from_slice(b"220 packetboat ESMTP ready\r\n");
    }

    fn read(&mut self, input: &[u8], _: &Offer, limits: &CommandLimits, _: &mut Vec<u8>) -> Result<Read<()>, Failure> {
        match Line::split(input, limits.line) {
            Line::Incomplete => Ok(Read::Incomplete),
            Line::TooLong => Err(Failure::new(Kind::TooLong, "an SMTP command; limits.line says how long one may be")),
            Line::Complete { text, len } => {
                let is_quit = word(text).0.eq_ignore_ascii_case(b"QUIT");
                let request = if is_quit { Request::Logout } else { Request::Bad("not implemented") };
                Ok(Read::Command((), request, len))
            }
        }
    }

    fn respond((): &(), response: Response<'_>, out: &mut Vec<u8>) {
        let reply: &[u8] = match response {
            Response::LoggedOut => b"221 2.0.0 closing connection\r\n",
            _ => b"502 5.5.1 command not implemented\r\n",
        };
        out.extend_from_slice(reply);
    }

    fn logged_in((): &(), _: Client, _: &Offer, _: &mut Vec<u8>) -> Relay {
        Relay
    }

    fn bye(_: &Failure, out: &mut Vec<u8>) {
        out.extend_from_slice(b"421 4.3.2 service not available, closing connection\r\n");
    }
}

impl dialect::Client for Client {
    fn new(_: UpstreamLogin) -> Self {
        Self
    }

    fn receive(&mut self, _: &[u8], _: &mut Vec<u8>) -> Progress {
        Progress::Failed(Failure::new(Kind::UpstreamProtocol, "SMTP is not served yet"))
    }

    fn tls_started(&mut self, _: &mut Vec<u8>) {}
}

impl dialect::Relay for Relay {
    fn recv(&mut self, _: Side, _: &[u8], _: &mut Activity, _: &mut Outbox) -> Result<Step, Failure> {
        Ok(Step::Read)
    }

    fn responses(&self) -> Responses {
        Responses::Whole
    }

    fn takes_bye(&self, _: &Failure) -> bool {
        false
    }

    fn leftover(&mut self, _: Side) -> Leftover {
        Leftover::Discard
    }
}
