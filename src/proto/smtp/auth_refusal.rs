//! A server's refusal of a login: what it means, and who has to do what. Exchange Online tells most of it in the text
//! alone.

use super::reply::ReplyLine;
use crate::failure::{Failure, Kind};

/// Reads the failure behind a refusal of AUTH. A text that is known decides, then the enhanced status code, then the
/// reply code.
pub(super) fn of(reply: &ReplyLine<'_>) -> Failure {
    let known = KNOWN.iter().find(|(words, ..)| reply.says(words));
    let (kind, advice) = match (known, reply.code) {
        (Some((_, kind, advice)), _) => (*kind, *advice),
        // Exchange Online's limit of connections; RFC 4954 §6 has the code for something else.
        (None, 400..=499) => (Kind::Unavailable, ""),
        (None, 504 | 534 | 538) => (Kind::Mechanism, ""),
        (None, 530) => (Kind::ContactAdmin, "the server wants a login before this one"),
        (None, _) => (Kind::LoginRefused, ""),
    };
    let (said, separator) = (words(reply), if advice.is_empty() { "" } else { ": " });
    Failure::new(kind, format!("{said}{separator}{advice}"))
}

/// Returns what may stand in a log: code, enhanced status code, a text that is known, and the mark by which Microsoft's
/// support finds the attempt. Another text may repeat a password.
fn words(reply: &ReplyLine<'_>) -> String {
    let mut said = format!("it said \"{}", reply.code);
    let known = KNOWN.iter().find(|(words, ..)| reply.says(words)).map(|(words, ..)| *words);
    for part in [Some(reply.enhanced()), known, mark(reply.text)].into_iter().flatten().filter(|part| !part.is_empty())
    {
        said.push(' ');
        said.push_str(part);
    }
    said + "\""
}

/// Returns the mark at the end of Exchange Online's refusals: `[AM0PR01CA0001.eurprd01.prod.exchangelabs.com
/// 2026-11-27T10:00:00.000Z 08DE2D0123456789]`.
fn mark(text: &[u8]) -> Option<&str> {
    let start = memchr::memrchr(b'[', text)?;
    let mark = text.get(start..)?;
    let inner = std::str::from_utf8(mark.strip_prefix(b"[")?.strip_suffix(b"]")?).ok()?;
    let mut words = inner.split(' ');
    let (host, time, number) = (words.next()?, words.next()?, words.next()?);
    let domain = host.to_ascii_lowercase();
    let is_host = domain.ends_with(".outlook.com") || domain.ends_with(".exchangelabs.com");
    let is_time = time.ends_with('Z') && time.bytes().all(|octet| octet.is_ascii_digit() || b"-:.TZ".contains(&octet));
    let is_number = number.len() == 16 && number.bytes().all(|octet| octet.is_ascii_hexdigit());
    let is_mark = is_host && is_time && is_number && words.next().is_none() && mark.len() <= LONGEST_MARK;
    if is_mark { std::str::from_utf8(mark).ok() } else { None }
}

/// Texts of Exchange Online, with what they mean.
const KNOWN: &[(&str, Kind, &str)] = &[
    (
        "SmtpClientAuthentication is disabled for the Tenant",
        Kind::SmtpAuthDisabled,
        "SMTP AUTH is off for the whole organization; switch it on for this mailbox alone: Set-CASMailbox \
         -SmtpClientAuthenticationDisabled $false",
    ),
    (
        "SmtpClientAuthentication is disabled for the Mailbox",
        Kind::SmtpAuthDisabled,
        "SMTP AUTH is off for this mailbox: Set-CASMailbox -SmtpClientAuthenticationDisabled $false",
    ),
    (
        "user is locked by your organization's security defaults policy",
        Kind::SmtpAuthDisabled,
        "security defaults of the directory block SMTP AUTH, also with a token: replace them by Conditional Access, or \
         switch them off",
    ),
    (
        "the request did not meet the criteria to be authenticated successfully",
        Kind::ContactAdmin,
        "Conditional Access or an authentication policy refuses this login: see the sign-in log of the directory",
    ),
    (
        "basic authentication is disabled",
        Kind::ContactAdmin,
        "the server takes no passwords: use logins = \"translate\" on this listener",
    ),
    (
        "Basic authentication is not supported for Client Submission",
        Kind::ContactAdmin,
        "the server takes no passwords: use logins = \"translate\" on this listener",
    ),
    ("Authentication unsuccessful", Kind::LoginRefused, ""),
    ("Authentication credentials invalid", Kind::LoginRefused, ""),
    ("Username and Password not accepted", Kind::LoginRefused, ""),
    ("Concurrent connections limit exceeded", Kind::Unavailable, "the mailbox has too many connections at a time"),
    ("sender thread limit exceeded", Kind::Unavailable, "the mailbox has too many connections at a time"),
];
const LONGEST_MARK: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_exchange_online() {
        for (line, kind, words) in [
            (
                "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit \
                 https://aka.ms/smtp_auth_disabled for more information.",
                Kind::SmtpAuthDisabled,
                "Set-CASMailbox -SmtpClientAuthenticationDisabled $false",
            ),
            (
                "535 5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults \
                 policy. Contact your administrator.",
                Kind::SmtpAuthDisabled,
                "security defaults",
            ),
            (
                "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated \
                 successfully. Contact your administrator.",
                Kind::ContactAdmin,
                "Conditional Access",
            ),
            (
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
                Kind::ContactAdmin,
                "takes no passwords",
            ),
            (
                "535 5.7.3 Authentication unsuccessful [BE1P281CA0440.DEUP281.PROD.OUTLOOK.COM]",
                Kind::LoginRefused,
                "535 5.7.3 Authentication unsuccessful",
            ),
            ("432 4.3.2 Concurrent connections limit exceeded.", Kind::Unavailable, "too many connections"),
            ("421 4.3.2 Service not active", Kind::Unavailable, "421 4.3.2"),
            ("451 4.7.0 Temporary server error. Please try again later. PRX4", Kind::Unavailable, "451 4.7.0"),
            ("504 5.7.4 Unrecognized authentication type", Kind::Mechanism, "504 5.7.4"),
        ] {
            let failure = of(&ReplyLine::read(line.as_bytes()).unwrap());
            assert_eq!(failure.kind, kind, "{line}");
            assert!(failure.detail.contains(words), "{}", failure.detail);
        }
    }

    #[test]
    fn a_log_has_the_mark_and_no_password() {
        let detail = |line: &str| of(&ReplyLine::read(line.as_bytes()).unwrap()).detail;
        let mark = "[AM0PR01CA0001.eurprd01.prod.exchangelabs.com 2026-11-27T10:00:00.000Z 08DE2D0123456789]";
        assert_eq!(
            detail(&format!("535 5.7.3 Authentication unsuccessful {mark}")),
            format!("it said \"535 5.7.3 Authentication unsuccessful {mark}\"")
        );
        for line in ["535 bad: topsecret", "500 5.5.2 unknown dG9wc2VjcmV0", "535 5.7.8 [topsecret]"] {
            let detail = detail(line);
            assert!(!detail.contains("secret") && !detail.contains("dG9w"), "{detail}");
        }
    }
}
