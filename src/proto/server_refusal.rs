//! A server's refusal of a login: its meaning, and the parts of its text that a log may show.

// A span of time is a value; the clocks of std::time are not for this floor.
use core::time::Duration;

use crate::failure::{Failure, Kind};
use crate::text::excerpt;

/// The condition under which a server sends a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// IMAP's tagged or untagged NO.
    No,
    /// IMAP's tagged or untagged BAD.
    Bad,
    /// IMAP's BYE.
    Bye,
    /// POP3's -ERR.
    Err,
}

/// Reads the failure behind a NO or -ERR to a login, from its text.
pub(super) fn of(text: &[u8]) -> Failure {
    Failure { retry_after: backoff(text), ..Failure::new(meaning(text), words(text)) }
}

/// Reads the failure behind a refusal of the first command in a mailbox. A user who is in and may not look around has
/// no rights there, unless the server names a passing trouble.
pub(super) fn of_probe(text: &[u8]) -> Failure {
    match of(text) {
        failure if failure.kind == Kind::LoginRefused => Failure { kind: Kind::NotAuthorized, ..failure },
        failure => failure,
    }
}

/// Reads a status line that an operator should know: one that Exchange Online sends, under this condition, when a
/// session is over or not wanted. `text` is the whole line behind its status. A server repeats names of folders, for
/// example, and a device could ask for any.
pub(super) fn notice(said: Condition, text: &[u8]) -> Option<Failure> {
    let (kind, advice) = match (KnownText::read(text)?, said) {
        (KnownText::TokenExpired, Condition::Bye) => (Kind::TokenExpired, "the device connects again by itself"),
        (KnownText::NotConnected, Condition::Bad | Condition::Err) => {
            (Kind::NotAuthorized, "the token is right, but opens no mailbox: packetboat check --online")
        }
        (KnownText::Throttled(_), Condition::Bad | Condition::Err) => {
            (Kind::Unavailable, "let devices ask less often, or lower limits.sessions_per_mailbox")
        }
        (KnownText::Unavailable, Condition::No | Condition::Err) => {
            (Kind::Unavailable, "too many sessions in this mailbox, or trouble at the server")
        }
        _ => return None,
    };
    Some(Failure { retry_after: backoff(text), ..Failure::new(kind, format!("{}: {advice}", words(text))) })
}

/// The texts that Exchange Online sends without a response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownText {
    TokenExpired,
    NotConnected,
    /// A throttle, with the milliseconds that it suggests.
    Throttled(Option<u64>),
    Unavailable,
}

impl KnownText {
    /// Reads a text that is one of them from its beginning to its end.
    fn read(text: &[u8]) -> Option<Self> {
        let lower = text.trim_ascii().to_ascii_lowercase();
        let behind = |words: &[u8]| lower.strip_prefix(words).map(<[u8]>::trim_ascii);
        if let Some(rest) = behind(b"request is throttled") {
            let rest = rest.strip_prefix(b".").unwrap_or(rest).trim_ascii();
            if rest.is_empty() {
                return Some(KnownText::Throttled(None));
            }
            let rest = rest.strip_prefix(b"suggested backoff time:")?.trim_ascii();
            let (number, rest) = rest.split_at(rest.iter().take_while(|octet| octet.is_ascii_digit()).count());
            let is_whole = matches!(rest.trim_ascii(), b"milliseconds" | b"milliseconds.");
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
            return number.filter(|_| is_whole).map(|number| KnownText::Throttled(Some(number)));
        }
        if behind(b"session invalidated - accesstokenexpired").is_some_and(is_end) {
            return Some(KnownText::TokenExpired);
        }
        if let Some(rest) = behind(b"user is authenticated but not connected") {
            let rest = rest.strip_prefix(b". connection is closed").unwrap_or(rest);
            return is_end(rest).then_some(KnownText::NotConnected);
        }
        behind(b"server unavailable").is_some_and(is_end).then_some(KnownText::Unavailable)
    }
}

/// Returns whether nothing follows, or only a full stop and the number that Exchange puts behind its texts.
fn is_end(rest: &[u8]) -> bool {
    let rest = rest.strip_prefix(b".").unwrap_or(rest).trim_ascii();
    rest.len() <= LONGEST_CODE && rest.iter().all(u8::is_ascii_digit)
}

/// Returns how long Exchange wants no login. "Server Unavailable" comes without a number when a mailbox has too many
/// sessions; packetboat waits a while then, too.
fn backoff(text: &[u8]) -> Option<Duration> {
    match KnownText::read(text)? {
        KnownText::Throttled(milliseconds) => milliseconds.map(Duration::from_millis),
        KnownText::Unavailable => Some(UNASKED_BACKOFF),
        KnownText::TokenExpired | KnownText::NotConnected => None,
    }
}

/// Returns whether a refusal that came before any password is about the mechanism.
pub(super) fn is_of_mechanism(text: &[u8]) -> bool {
    !matches!(meaning(text), Kind::Unavailable | Kind::InUse)
}

/// Returns the parts of a server's text that may stand in a log: its response code, and phrases that are known. Some
/// servers repeat what they did not understand, and behind a login that is a piece of a password.
pub(super) fn words(text: &[u8]) -> String {
    let code = text
        .strip_prefix(b"[")
        .and_then(|text| text.split(|&octet| octet == b']').next())
        .filter(|code| code.len() <= LONGEST_CODE && CODES.iter().any(|known| known.eq_ignore_ascii_case(code)));
    let mut shown: Vec<String> = code.map(|code| format!("[{}]", excerpt(code))).into_iter().collect();
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
    (1..=LONGEST_CODE).contains(&digits).then(|| excerpt(text.get(..digits).unwrap_or_default()))
}

/// Reads the kind of failure from the response code (RFC 5530 §3, RFC 2449 §8, RFC 3206), else from a text that is
/// known as a whole. Anything else means a wrong password, because servers word that freely.
fn meaning(text: &[u8]) -> Kind {
    let code = text.strip_prefix(b"[").and_then(|code| code.split(|octet| matches!(octet, b']' | b' ')).next());
    match code.unwrap_or_default().to_ascii_uppercase().as_slice() {
        b"UNAVAILABLE" | b"SERVERBUG" | b"LIMIT" | b"SYS/TEMP" | b"LOGIN-DELAY" => Kind::Unavailable,
        b"AUTHORIZATIONFAILED" | b"NOPERM" => Kind::NotAuthorized,
        b"CONTACTADMIN" | b"PRIVACYREQUIRED" | b"CANNOT" | b"SYS/PERM" => Kind::ContactAdmin,
        b"INUSE" | b"IN-USE" => Kind::InUse,
        b"AUTH" | b"AUTHENTICATIONFAILED" | b"EXPIRED" => Kind::LoginRefused,
        _ => match KnownText::read(text) {
            Some(KnownText::NotConnected) => Kind::NotAuthorized,
            Some(KnownText::Throttled(_) | KnownText::Unavailable) => Kind::Unavailable,
            Some(KnownText::TokenExpired) | None => Kind::LoginRefused,
        },
    }
}

/// The response codes of RFC 5530 §3, RFC 2449 §8, RFC 3206 §4 and RFC 3501 §7.1.
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

/// The phrases that servers are known to send. A number behind a colon is shown with its phrase.
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
    fn a_text_counts_only_as_a_whole_and_under_its_condition() {
        use Condition::{Bad, Bye, Err, No};
        let throttled = "Request is throttled. Suggested Backoff Time: 900000 milliseconds";
        let unavailable = "Server Unavailable. 15";
        let expired = "Session invalidated - AccessTokenExpired";
        let not_connected = "User is authenticated but not connected.";
        for (text, ways) in [
            (throttled, &[Bad, Err][..]),
            ("request is throttled", &[Bad, Err]),
            (unavailable, &[No, Err]),
            (expired, &[Bye]),
            (not_connected, &[Bad, Err]),
            ("User is authenticated but not connected. Connection is closed. 14", &[Bad, Err]),
        ] {
            for said in [No, Bad, Bye, Err] {
                let found = notice(said, text.as_bytes());
                assert_eq!(found.is_some(), ways.contains(&said), "{said:?} {text}: {found:?}");
            }
        }
        // A folder's name in what Exchange says of it, and of others.
        for name in
            [throttled, unavailable, expired, not_connected, "Request is throttled. Suggested Backoff Time: 900000"]
        {
            for text in [
                format!("{name} doesn't exist."),
                format!("Mailbox {name}"),
                format!("\"{name}\""),
                format!("[TRYCREATE] {name}"),
                format!("{name} {name}"),
                format!("{name} milliseconds doesn't exist. 15"),
            ] {
                for said in [No, Bad, Bye, Err] {
                    assert_eq!(notice(said, text.as_bytes()), None, "{said:?} {text}");
                }
                assert_eq!(backoff(text.as_bytes()), None, "{text}");
                assert_eq!(meaning(text.as_bytes()), Kind::LoginRefused, "{text}");
            }
        }
        assert_eq!(backoff(throttled.as_bytes()), Some(Duration::from_secs(900)));
        assert_eq!(backoff(b"Request is throttled. Suggested Backoff Time: 99999999999999999999 milliseconds"), None);
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
