//! A server's refusal of a login: what it means, and what of its words may be shown.

// A span of time is a value; the clocks of std::time are not for this floor.
use core::time::Duration;

use super::line::printable;
use crate::failure::{Failure, Kind};

/// The failure that a NO or -ERR to a login stands for, from its text.
pub(super) fn of(text: &[u8]) -> Failure {
    Failure { retry_after: backoff(text), ..Failure::new(meaning(text), words(text)) }
}

/// The failure that a no to the first command in a mailbox stands for: who is in and may not look around has no rights
/// there, unless the server says that it is the moment.
pub(super) fn of_probe(text: &[u8]) -> Failure {
    match of(text) {
        failure if failure.kind == Kind::LoginRefused => Failure { kind: Kind::NotAuthorized, ..failure },
        failure => failure,
    }
}

/// What a status line after login means for the operator, where it is one of those that Exchange Online says when a
/// session is over or not wanted. `text` is as much of the line as is looked at.
pub(super) fn notice(text: &[u8]) -> Option<Failure> {
    let lower = text.to_ascii_lowercase();
    let says = |words: &[u8]| memchr::memmem::find(&lower, words).is_some();
    let (kind, advice) = if says(b"accesstokenexpired") {
        (Kind::TokenExpired, "the device connects again by itself")
    } else if says(b"authenticated but not connected") {
        (Kind::NotAuthorized, "the token is right, but opens no mailbox: packetboat check --online")
    } else if says(b"request is throttled") {
        (Kind::Unavailable, "let devices ask less often, or lower limits.sessions_per_mailbox")
    } else if says(b"server unavailable") {
        (Kind::Unavailable, "too many sessions in this mailbox, or trouble at the server")
    } else {
        return None;
    };
    Some(Failure { retry_after: backoff(text), ..Failure::new(kind, format!("{}: {advice}", words(text))) })
}

/// `Suggested Backoff Time: N milliseconds`, as Exchange says when it throttles.
///
/// "Server Unavailable" comes without a number, when a mailbox has too many sessions; a while is waited then, too.
fn backoff(text: &[u8]) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    if memchr::memmem::find(&lower, b"server unavailable").is_some() {
        return Some(UNASKED_BACKOFF);
    }
    let at = memchr::memmem::find(&lower, BACKOFF)?;
    let number = number(lower.get(at + BACKOFF.len()..)?.trim_ascii_start())?;
    Some(Duration::from_millis(number.parse().ok()?))
}

/// Whether a refusal before anything but the mechanism was said is about the mechanism: about a password it cannot be.
pub(super) fn is_of_mechanism(text: &[u8]) -> bool {
    !matches!(meaning(text), Kind::Unavailable | Kind::InUse)
}

/// Of the server's words, what may stand in a log: its response code, and phrases that are known. Not the text itself,
/// because some servers repeat what they did not understand, and behind a login that is a piece of a password.
pub(super) fn words(text: &[u8]) -> String {
    let code = text
        .strip_prefix(b"[")
        .and_then(|text| text.split(|&octet| octet == b']').next())
        .filter(|code| code.len() <= LONGEST_CODE && CODES.iter().any(|known| known.eq_ignore_ascii_case(code)));
    let mut shown: Vec<String> = code.map(|code| format!("[{}]", printable(code))).into_iter().collect();
    let lower = text.to_ascii_lowercase();
    for phrase in PHRASES {
        let Some(at) = memchr::memmem::find(&lower, phrase.to_ascii_lowercase().as_bytes()) else { continue };
        shown.push((*phrase).to_owned());
        if phrase.ends_with(':') {
            let rest = lower.get(at + phrase.len()..).unwrap_or_default().trim_ascii_start();
            shown.extend(number(rest).map(|number| format!("{number} ms")));
        }
    }
    if shown.is_empty() { String::new() } else { format!("it said \"{}\"", shown.join(" ")) }
}

fn number(text: &[u8]) -> Option<String> {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    (1..=LONGEST_CODE).contains(&digits).then(|| printable(text.get(..digits).unwrap_or_default()))
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

/// RFC 5530 §3, RFC 2449 §8, RFC 3206 §4, RFC 3501 §7.1.
const CODES: &[&[u8]] = &[
    b"ALERT",
    b"AUTH",
    b"AUTHENTICATIONFAILED",
    b"AUTHORIZATIONFAILED",
    b"CANNOT",
    b"CONTACTADMIN",
    b"EXPIRED",
    b"IN-USE",
    b"INUSE",
    b"LIMIT",
    b"LOGIN-DELAY",
    b"NOPERM",
    b"PRIVACYREQUIRED",
    b"SERVERBUG",
    b"SYS/PERM",
    b"SYS/TEMP",
    b"UNAVAILABLE",
];

/// What servers are known to say; a number behind a colon is shown with it.
const PHRASES: &[&str] = &[
    "authenticated but not connected",
    "Server Unavailable",
    "Request is throttled",
    "Suggested Backoff Time:",
    "AUTHENTICATE failed",
    "LOGIN failed",
    "Authentication failed",
    "Authentication failure",
    "Logon failure",
    "LogonDenied",
    "AuthFailed",
    "unknown user name or bad password",
    "Invalid credentials",
    "Unsupported authentication mechanism",
    "application-specific password required",
    "account is disabled",
    "account is locked",
    "password has expired",
    "too many",
    "temporarily",
    "try again later",
    "Session invalidated",
    "AccessTokenExpired",
    "shutting down",
];

const BACKOFF: &[u8] = b"suggested backoff time:";
const UNASKED_BACKOFF: Duration = Duration::from_secs(30);
const LONGEST_CODE: usize = 20;

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
        for text in [
            "LOGIN scan topsecret: what?",
            "trailing garbage secret",
            "UNKNOWN COMMAND TOPSECRET",
            "what: LOGIN \"u\" \"a\\\"bSECRET\"",
            "[TOPSECRET] unknown",
        ] {
            assert_eq!(words(text.as_bytes()), "", "{text}");
        }
        assert_eq!(
            words(b"[AUTHENTICATIONFAILED] LOGIN failed. topsecret"),
            "it said \"[AUTHENTICATIONFAILED] LOGIN failed\""
        );
        assert_eq!(
            words(b"Request is throttled. Suggested Backoff Time: 299961 milliseconds"),
            "it said \"Request is throttled Suggested Backoff Time: 299961 ms\""
        );
    }
}
