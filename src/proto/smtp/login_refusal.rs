//! Words a refused login for the device: a reply of RFC 4954 §6 with its enhanced status code.

use crate::failure::Reply;

/// Returns the reply to a login that has failed. The texts are short: devices show them on a small display.
pub(super) fn refusal(reply: Reply) -> &'static str {
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
