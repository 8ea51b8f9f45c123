//! Commands in the AUTHORIZATION state (RFC 1939 §4, §7), which packetboat answers as the server.

use zeroize::Zeroizing;

use super::login_command::Command;
use super::{Pop3, capability};
use crate::proto::dialect::Request;
use crate::proto::{Credentials, Offer};

impl Pop3 {
    /// Returns the wish of a command, and answers it where it changes nothing.
    pub(super) fn request(&mut self, command: Command<'_>, offer: &Offer, out: &mut Vec<u8>) -> Request {
        match command {
            Command::Capa => capability::announce(offer, out),
            Command::Noop => out.extend_from_slice(b"+OK nothing done\r\n"),
            Command::Quit => return Request::Logout,
            Command::Stls => return Request::StartTls,
            Command::User(_) | Command::Pass(_) if !offer.login_allowed() => return Request::LoginInClear,
            Command::User([]) => return Request::Bad("USER takes a name"),
            Command::User(user) => {
                self.user = Some(user.to_vec());
                out.extend_from_slice(b"+OK send PASS\r\n");
            }
            Command::Pass(password) => {
                return match self.user.take() {
                    Some(user) => Request::Login(Credentials::from_command(&user, password.to_vec())),
                    None => Request::Bad("send USER first"),
                };
            }
            Command::AuthList => {
                // The bare form of RFC 1734 gets the mechanisms, a line each.
                out.extend_from_slice(b"+OK mechanisms follow\r\n");
                for mechanism in capability::mechanisms(offer) {
                    out.extend_from_slice(mechanism.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b".\r\n");
            }
            Command::Auth { mechanism, initial } => {
                return Request::Authenticate(mechanism, initial.map(|initial| Zeroizing::new(initial.to_vec())));
            }
            Command::UnknownMechanism => return Request::UnknownMechanism,
            Command::Apop => out.extend_from_slice(b"-ERR APOP is not offered, use USER and PASS\r\n"),
            Command::Unknown => return Request::Bad("command unknown or not allowed before login"),
        }
        Request::Answered
    }
}
