//! Words a refused login for the device: a status response with a code of RFC 5530 §3.

use crate::failure::Reply;

/// Returns the refusal of a login, with a code of RFC 5530 §3. The texts are short: devices show them on a small
/// display.
pub(super) fn refusal(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials => "NO [AUTHENTICATIONFAILED] user name or password is wrong",
        Reply::NotAuthorized => "NO [AUTHORIZATIONFAILED] no access to this mailbox",
        Reply::NotVerified => "NO [UNAVAILABLE] too many logins, try again later",
        Reply::Observed => "NO [UNAVAILABLE] only inventory is taken here, try again later",
        Reply::Unavailable => "NO [UNAVAILABLE] mail server not reachable, try again later",
        Reply::ContactAdmin => "NO [CONTACTADMIN] mail server setup needs attention",
        Reply::InUse => "NO [INUSE] mailbox is in use, try again later",
    }
}
