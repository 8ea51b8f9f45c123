//! Words a refused login for the device: the text behind `-ERR `, with a response code of RFC 2449 §8 or RFC 3206.

use crate::failure::Reply;

/// Returns the refusal of a login, behind `-ERR `. The texts are short: devices show them on a small display.
pub(super) fn refusal(reply: Reply) -> &'static str {
    match reply {
        Reply::BadCredentials => "[AUTH] user name or password is wrong",
        Reply::NotAuthorized => "[AUTH] no access to this mailbox",
        Reply::NotVerified => "[SYS/TEMP] too many logins, try again later",
        Reply::Observed => "[SYS/TEMP] only inventory is taken here, try again later",
        Reply::Unavailable => "[SYS/TEMP] mail server not reachable, try again later",
        Reply::ContactAdmin => "[SYS/PERM] mail server setup needs attention",
        Reply::InUse => "[IN-USE] mailbox is in use, try again later",
    }
}
