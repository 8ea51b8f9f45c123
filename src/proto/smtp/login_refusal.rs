//! Words a refused login for the device: a reply of RFC 4954 §6 with its enhanced status code, or one to MAIL.

use super::LoginCommand;
use super::not_authenticated::LOG_IN;
use crate::failure::Reply;

/// Returns the reply to a login that has failed. The texts are short: devices show them on a small display.
pub(super) fn refusal(reply: Reply, command: LoginCommand) -> &'static str {
    match command {
        LoginCommand::Auth => to_auth(reply),
        LoginCommand::Mail => to_mail(reply),
    }
}

fn to_auth(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials => "535 5.7.8 user name or password is wrong",
        Reply::NotAuthorized => "535 5.7.0 no right to send from this mailbox",
        Reply::NotVerified => "454 4.7.0 too many logins, try again later",
        Reply::Observed => "454 4.7.0 only inventory is taken here, try again later",
        Reply::Unavailable => "454 4.7.0 mail server not reachable, try again later",
        Reply::ContactAdmin => "535 5.7.0 mail server setup needs attention",
        Reply::InUse => "454 4.7.0 mailbox is in use, try again later",
    }
}

/// The codes 454 and 535 belong to AUTH alone: MAIL has 451 and 550 in their place (RFC 5321 §4.3.2).
fn to_mail(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials => LOG_IN,
        Reply::NotAuthorized => "550 5.7.1 no right to send from this mailbox",
        Reply::NotVerified => "451 4.7.0 too many logins, try again later",
        Reply::Observed => "451 4.7.0 only inventory is taken here, try again later",
        Reply::Unavailable => "451 4.4.1 mail server not reachable, try again later",
        Reply::ContactAdmin => "550 5.7.0 mail server setup needs attention",
        Reply::InUse => "451 4.3.2 mailbox is in use, try again later",
    }
}
