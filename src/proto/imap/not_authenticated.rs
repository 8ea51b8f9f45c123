//! Commands in the not authenticated state (RFC 3501 §6.1, §6.2), which packetboat answers as the server.

use zeroize::Zeroizing;

use super::arguments::{Arguments, Skipped};
use super::login_command::{self, Command, Parsed, Verb};
use super::{Imap, capability, response};
use crate::proto::dialect::{Read, Request};
use crate::proto::{CommandLimits, Credentials, Failure, Kind, Offer};

impl Imap {
    /// Reads a command of the device.
    pub(super) fn read_command(
        &mut self,
        input: &[u8],
        offer: &Offer,
        limits: &CommandLimits,
        out: &mut Vec<u8>,
    ) -> Result<Read<Vec<u8>>, Failure> {
        loop {
            let (tag, request, len) = match login_command::parse(input, limits, self.continued) {
                Parsed::Incomplete => return Ok(Read::Incomplete),
                Parsed::TooLong => {
                    let arguments = Arguments::of(input, limits, std::mem::take(&mut self.continued));
                    let arguments = arguments.ok_or_else(|| Failure::new(Kind::TooLong, TOO_LONG))?;
                    return self.skip(Box::new(arguments), input, offer, out);
                }
                // The refusal comes before the device sends the password, not after it went over the network in
                // clear.
                Parsed::Continue { tag, len } if !offer.login_allowed() => (tag, Request::LoginInClear, len),
                Parsed::Continue { .. } => {
                    // The literal may be here already: some devices do not wait.
                    self.continued += 1;
                    out.extend_from_slice(GO_AHEAD);
                    continue;
                }
                Parsed::Bad { tag, why, len } => (tag, Request::Malformed(why), len),
                Parsed::Complete { command, len } => (command.tag, request(command, offer, out), len),
            };
            self.continued = 0;
            return Ok(Read::Command(tag.to_vec(), request, len));
        }
    }

    /// Reads more of a command whose arguments are skipped.
    pub(super) fn skip(
        &mut self,
        mut arguments: Box<Arguments>,
        input: &[u8],
        offer: &Offer,
        out: &mut Vec<u8>,
    ) -> Result<Read<Vec<u8>>, Failure> {
        let (len, skipped) = arguments.skip(input);
        let request = match skipped {
            Skipped::TooLong => return Err(Failure::new(Kind::TooLong, TOO_LONG)),
            Skipped::More | Skipped::Continue => {
                if matches!(skipped, Skipped::Continue) {
                    out.extend_from_slice(GO_AHEAD);
                }
                self.arguments = Some(arguments);
                return Ok(Read::Part(len));
            }
            Skipped::Whole => match arguments.command() {
                Some(command) => request(command, offer, out),
                None => Request::Answered,
            },
            Skipped::Bad(why) => Request::Malformed(why),
        };
        Ok(Read::Command(arguments.tag().to_vec(), request, len))
    }
}

/// Returns the wish of a command, and answers it where it changes nothing.
fn request(command: Command<'_>, offer: &Offer, out: &mut Vec<u8>) -> Request {
    let tag = command.tag;
    match command.verb {
        Verb::Capability => {
            capability::announce(offer, out);
            response::tagged(out, tag, "OK CAPABILITY completed");
            Request::Answered
        }
        Verb::Noop => {
            response::tagged(out, tag, "OK NOOP completed");
            Request::Answered
        }
        Verb::Id => {
            // ID may come at any time, also before login (RFC 2971 §3.1).
            out.extend_from_slice(b"* ID NIL\r\n");
            response::tagged(out, tag, "OK ID completed");
            Request::Answered
        }
        Verb::Logout => Request::Logout,
        Verb::StartTls => Request::StartTls,
        Verb::Login { user, password } => Request::Login(Credentials::from_command(&user, password.expose().to_vec())),
        Verb::Authenticate { mechanism, initial } => {
            Request::Authenticate(mechanism, initial.map(|initial| Zeroizing::new(initial.to_vec())))
        }
        Verb::UnknownMechanism => Request::UnknownMechanism,
        Verb::Unknown => Request::Bad("command unknown or not allowed before login"),
    }
}

const TOO_LONG: &str = "an IMAP command; limits.line and limits.literal say how long one may be";
const GO_AHEAD: &[u8] = b"+ go ahead\r\n";
