//! A server's refusal of a login: what it means, and what of its words may be shown.

use super::line::printable;
use super::sasl::Credentials;
use crate::failure::{Failure, Kind};

/// The failure that a NO or -ERR to a login stands for, from its text.
pub(super) fn of(text: &[u8], login: &Credentials) -> Failure {
    Failure::new(meaning(text), words(text, login))
}

/// Whether a refusal before anything but the mechanism was said is about the mechanism: about a password it cannot be.
pub(super) fn is_of_mechanism(text: &[u8]) -> bool {
    !matches!(meaning(text), Kind::Unavailable | Kind::InUse)
}

/// The server's words for the log, unless there may be a piece of the password among them: some servers repeat what
/// they did not understand.
pub(super) fn words(text: &[u8], login: &Credentials) -> String {
    let responses = login.responses();
    let secrets = responses.iter().map(|response| response.as_slice()).chain([login.secret.expose()]);
    let repeated = secrets.filter(|secret| !secret.is_empty()).any(|secret| {
        let piece = secret.get(..PIECE).unwrap_or(secret);
        memchr::memmem::find(text, piece).is_some()
    });
    if repeated || text.is_empty() { String::new() } else { format!("it said \"{}\"", printable(text)) }
}

/// By response code (RFC 5530 §3, RFC 2449 §8, RFC 3206); without one by words that are known; else it is a wrong
/// password, because that is what servers say so of.
fn meaning(text: &[u8]) -> Kind {
    let code = text.strip_prefix(b"[").and_then(|code| code.split(|octet| matches!(octet, b']' | b' ')).next());
    match code.unwrap_or_default().to_ascii_uppercase().as_slice() {
        b"UNAVAILABLE" | b"SERVERBUG" | b"LIMIT" | b"SYS/TEMP" | b"LOGIN-DELAY" => Kind::Unavailable,
        b"AUTHORIZATIONFAILED" | b"NOPERM" => Kind::NotAuthorized,
        b"CONTACTADMIN" | b"PRIVACYREQUIRED" | b"CANNOT" | b"SYS/PERM" => Kind::ContactAdmin,
        b"INUSE" | b"IN-USE" => Kind::InUse,
        b"AUTH" | b"AUTHENTICATIONFAILED" | b"EXPIRED" => Kind::LoginRefused,
        _ => {
            let text = text.to_ascii_lowercase();
            let says = |words: &[u8]| memchr::memmem::find(&text, words).is_some();
            if says(b"authenticated but not connected") {
                Kind::NotAuthorized
            } else if says(b"throttled") || says(b"server unavailable") {
                Kind::Unavailable
            } else {
                Kind::LoginRefused
            }
        }
    }
}

/// So much of a secret, found in a text, is too much.
const PIECE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_known_words() {
        for (text, kind) in [
            ("[UNAVAILABLE] later", Kind::Unavailable),
            ("[SYS/TEMP] later", Kind::Unavailable),
            ("[IN-USE] busy", Kind::InUse),
            ("[SYS/PERM] closed", Kind::ContactAdmin),
            // Exchange Online, without a code.
            ("AUTHENTICATE failed.", Kind::LoginRefused),
            ("Logon failure: unknown user name or bad password.", Kind::LoginRefused),
            ("Server Unavailable. 15", Kind::Unavailable),
            ("Request is throttled. Suggested Backoff Time: 299961 milliseconds", Kind::Unavailable),
            ("User is authenticated but not connected.", Kind::NotAuthorized),
        ] {
            assert_eq!(meaning(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let login = Credentials::from_command(b"scan".to_vec(), b"topsecret".to_vec());
        assert_eq!(words(b"account disabled", &login), "it said \"account disabled\"");
        assert_eq!(words(b"LOGIN scan topsecret: what?", &login), "");
        assert_eq!(words(b"LOGIN scan topse...", &login), "");
    }
}
