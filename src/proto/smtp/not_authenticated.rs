//! Commands before login, which packetboat answers as the server.

use zeroize::Zeroizing;

use super::capability;
use super::command::Command;
use super::reply;
use crate::proto::Offer;
use crate::proto::dialect::Request;

/// Returns the wish of a command, and answers it where it changes nothing. No command wants EHLO before it: RFC 5321
/// §4.1.4 leaves that to the server, and some devices leave it out.
pub(super) fn request(command: Command<'_>, offer: &Offer, out: &mut Vec<u8>) -> Request {
    let answer = match command {
        Command::Ehlo => {
            capability::announce(offer, false, out);
            return Request::Answered;
        }
        Command::Quit => return Request::Logout,
        Command::StartTls => return Request::StartTls,
        Command::Auth { mechanism, initial } => {
            return Request::Authenticate(mechanism, initial.map(|initial| Zeroizing::new(initial.to_vec())));
        }
        Command::UnknownMechanism | Command::Mail(_) if !offer.login_allowed() => return Request::LoginInClear,
        Command::UnknownMechanism => return Request::UnknownMechanism,
        Command::Mail(_) if offer.by_source => return Request::LoginBySource,
        // The device has no login to be reminded of.
        Command::Rcpt(_) | Command::Data if offer.by_source => MAIL_FIRST,
        Command::Unknown => return Request::Bad("command not recognized"),
        Command::Mail(_) => {
            reply::line(LOG_IN, out);
            return Request::NotLoggedIn;
        }
        Command::Rcpt(_) | Command::Data => LOG_IN,
        Command::Bdat => {
            // A chunk of a message follows, which must not be read as commands.
            reply::line(NOT_OFFERED, out);
            return Request::Closed;
        }
        Command::NotOffered | Command::Expn => NOT_OFFERED,
        Command::Helo => HELO,
        Command::Noop | Command::Rset => DONE,
        Command::Help => HELP,
        Command::Vrfy => VRFY,
        Command::StartTlsWith => "501 5.5.4 STARTTLS takes no argument",
    };
    reply::line(answer, out);
    Request::Answered
}

/// The answer to HELO, after which there is no AUTH (RFC 4954 §4).
pub(super) const HELO: &str = "250 packetboat";
/// The answer to a command that changes nothing.
pub(super) const DONE: &str = "250 2.0.0 OK";
/// The answer to HELP.
pub(super) const HELP: &str = "214 2.0.0 submission of mail: EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, RSET, QUIT";
/// The answer to VRFY, which says nothing about the address (RFC 5321 §7.3).
pub(super) const VRFY: &str = "252 2.5.2 cannot verify, but send the message and see";
/// The answer to a command that is not offered.
pub(super) const NOT_OFFERED: &str = "502 5.5.1 command not implemented";
/// The answer to a message without a login. A device that is not told at once goes on without a login, and reports success.
pub(super) const LOG_IN: &str = "530 5.7.0 log in first: switch SMTP authentication on in the device";
/// The answer to RCPT and DATA of a device that logs in by MAIL.
const MAIL_FIRST: &str = "503 5.5.1 MAIL comes first";
