//! Refusals of a token endpoint: whether one passes by itself, and what a person can do about it.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::json::{self, ErrorResponse, TokenResponse};
use crate::text::{self, excerpt};
use crate::transport::http::Response;

/// The refusal of a token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error code of RFC 6749 §5.2 or RFC 8628 §3.5; empty where there was none.
    pub(super) error: String,
    /// The refusal passes by itself.
    pub(super) passes: bool,
    /// Waiting cannot change the refusal. One that neither passes nor is final may be of a setup that is under way: Entra
    /// needs minutes until it knows a new application, certificate, secret or consent everywhere.
    pub(super) is_final: bool,
    pub(super) retry_after: Option<Duration>,
    /// The answer in plain words, with what to do. Never the endpoint's own text, which may repeat what it was sent.
    pub(super) answer: String,
    /// The id of this one answer, for Microsoft's support.
    correlation_id: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.answer)?;
        match &self.correlation_id {
            Some(id) => write!(f, " (correlation id {id})"),
            None => Ok(()),
        }
    }
}

/// The endpoint that answers, and the account that it answers about.
#[derive(Clone, Copy)]
pub(super) struct Endpoint<'a> {
    pub(super) host: &'a str,
    /// The account that `packetboat login` is called with; none where the grant knows no sign-in.
    pub(super) login: Option<&'a str>,
}

/// Advice on a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// The advice is the same for every grant.
    Text(&'static str),
    /// The person has to sign in again, for this reason.
    SignIn(&'static str),
    /// The person's password is wrong, for this reason.
    Password(&'static str),
}

impl Advice {
    /// Returns the words for an account: not every grant knows a sign-in.
    pub(super) fn words(self, login: Option<&str>) -> String {
        match (self, login) {
            (Self::Text(text), _) => text.to_owned(),
            (Self::SignIn(reason), Some(account)) => format!("{reason}: packetboat login {account}"),
            (Self::SignIn(reason), None) => {
                format!("{reason}: with this grant nobody can; exempt the account, or use another grant")
            }
            (Self::Password(reason), Some(_)) => format!("{reason}: sign in with the right one"),
            (Self::Password(reason), None) => format!("{reason}: put the new one into password_file"),
        }
    }
}

/// Returns the token that an answer holds, or its refusal.
pub(super) fn judge(endpoint: Endpoint<'_>, response: &Response, now: SystemTime) -> Result<TokenResponse, Refusal> {
    let token_response = json::token_response(&response.body).filter(|_| response.status == 200);
    token_response.ok_or_else(|| read(endpoint, response, now))
}

/// Reads an answer that holds no token.
pub(super) fn read(endpoint: Endpoint<'_>, response: &Response, now: SystemTime) -> Refusal {
    let host = endpoint.host;
    let overloaded = response.status == 429 || response.status >= 500;
    let Some(refused) = json::error_response(&response.body) else {
        return Refusal {
            error: String::new(),
            // An error page or garbage: something between us and the endpoint, or the endpoint itself, is ill.
            passes: true,
            is_final: false,
            retry_after: response.retry_after,
            answer: format!("{host} answers {} without a token{}", response.status, hint(response)),
            correlation_id: None,
        };
    };
    let codes = codes(&refused);
    let passes = overloaded
        || PASSING.contains(&refused.error.as_str())
        || codes.iter().any(|code| PASSING_CODES.contains(code));
    let mut answer = format!("{host} says {}", if is_code(&refused.error) { refused.error.as_str() } else { "no" });
    if let Some(code) = codes.first() {
        answer += &format!(", AADSTS{code}");
    }
    let advice = codes.iter().find_map(|code| advice(*code)).or_else(|| advice_by_error(&refused.error));
    if let Some(skew) = skew(response, now).filter(|_| codes.contains(&CLOCK)) {
        answer += &format!(": {skew}");
    } else if let Some(advice) = advice {
        answer += &format!(": {}", advice.words(endpoint.login));
    }
    let needs_person = advice.is_some_and(|advice| matches!(advice, Advice::SignIn(_) | Advice::Password(_)));
    let is_final = !passes && (needs_person || codes.iter().any(|code| FINAL_CODES.contains(code)));
    let correlation_id = refused.correlation_id.filter(|id| is_id(id));
    Refusal { error: refused.error, passes, is_final, retry_after: response.retry_after, answer, correlation_id }
}

/// Returns a warning, if this computer's clock and the endpoint's are minutes apart.
pub(super) fn skew(response: &Response, now: SystemTime) -> Option<String> {
    let theirs = response.date?;
    let (apart, direction) = match now.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let apart = Duration::from_secs(apart.as_secs());
    (apart >= WRONG_CLOCK).then(|| {
        format!(
            "this computer's clock is {} {direction} the endpoint's: set it, as with timedatectl set-ntp true",
            humantime::format_duration(apart)
        )
    })
}

fn codes(error_response: &ErrorResponse) -> Vec<u32> {
    if !error_response.error_codes.is_empty() {
        return error_response.error_codes.clone();
    }
    let after = error_response.error_description.split("AADSTS").nth(1).unwrap_or_default();
    let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().into_iter().collect()
}

/// Returns a hint at what answers in the endpoint's place, or changes its answer on the way.
fn hint(response: &Response) -> String {
    let shown = |text: &str| excerpt(text.as_bytes());
    if let Some(host) = &response.redirect {
        return format!(
            ", and redirects to {}: a web proxy or its sign-in page stands in between, or the address has changed; \
             secrets follow no redirect",
            shown(host)
        );
    }
    let is_gzip = response.body.starts_with(GZIP).then_some("gzip");
    if let Some(coding) = response.compression.as_deref().or(is_gzip) {
        return format!(
            ": the answer is compressed ({}), though packetboat asks for identity: have the gateway in between pass it \
             unchanged",
            shown(coding)
        );
    }
    let advice = match response.status {
        404 => "is the tenant right, and the authority?",
        407 | 511 => "a web proxy stands in between, and wants a sign-in",
        429 => "too many requests",
        _ if text::is_utf_16(&response.body) => {
            "the answer is in UTF-16: have the gateway in between pass it unchanged"
        }
        _ if text::without_mark(&response.body).trim_ascii_start().starts_with(b"<") => {
            "the answer is a web page: a gateway or its sign-in page stands in between"
        }
        200 => "does something answer in its place?",
        _ => return String::new(),
    };
    format!(": {advice}")
}

/// Returns whether this looks like an error code of RFC 6749 §5.2. Other text may echo what the endpoint was sent.
fn is_code(error: &str) -> bool {
    (1..=40).contains(&error.len()) && error.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_')
}

/// Returns whether this is a GUID, or as harmless.
fn is_id(id: &str) -> bool {
    id.len() <= 40 && id.bytes().all(|octet| octet.is_ascii_hexdigit() || octet == b'-')
}

/// Returns the advice on one of Microsoft's error numbers. They may change: `error` decides whether a refusal passes.
#[allow(clippy::too_many_lines, reason = "a table, one row for each of Microsoft's numbers")]
pub(super) fn advice(code: u32) -> Option<Advice> {
    Some(match code {
        50034 | 50020 => Advice::Text("the account is not in this tenant: compare its address, and tenant"),
        50053 => Advice::Text(
            "the account is locked for too many wrong sign-ins, or this address is blocked: wait half an hour",
        ),
        50055 | 50126 => Advice::Password("the person's password is wrong or has expired"),
        50057 => Advice::Text("the account is disabled: enable it, or sign in as another one"),
        16000 | 50074 | 50076 | 50078 | 50079 => {
            Advice::SignIn("the person must sign in again, with the second factor")
        }
        50132 | 50133 | 50173 | 70000 | 70008 | 700_082 | 70043 => {
            Advice::SignIn("the sign-in has ended (password changed, revoked, unused for 90 days, or a policy)")
        }
        50105 => Advice::Text(
            "the account is not assigned to the enterprise application: assign it, or switch \"assignment \
             required\" off",
        ),
        50128 | 50059 | 90002 => {
            Advice::Text("the tenant does not exist, or is missing: compare tenant with the portal's directory id")
        }
        50194 | 9_001_023 | 9_002_332 => {
            Advice::Text("the application is for one tenant alone: write its id or domain as tenant")
        }
        50196 => Advice::Text("the same was asked for too often: this passes in some minutes"),
        53000..=53003 | 530_032 | 530_034 | 530_035 => Advice::Text(
            "Conditional Access or security defaults block the sign-in: look at its sign-in log for the policy \
             (\"Block device code flow\", locations, compliant devices), and exclude this application or account",
        ),
        65001 | 650_052 | 65004 | 90094 | 90095 => Advice::Text(
            "nobody has consented for this application: an administrator opens the consent address that \
             packetboat setup prints",
        ),
        650_056 | 650_057 | 70011 | 500_011 | 50001 | 700_022 | 700_023 => Advice::Text(
            "the scope is not among the application's permissions: add Office 365 Exchange Online, IMAP and POP, as \
             packetboat setup shows, and leave scopes out of the configuration",
        ),
        700_016 | 700_011 | 70001 | 7_000_112 => Advice::Text(
            "the application is unknown in this tenant, or disabled: compare client_id and tenant with the app \
             registration",
        ),
        7_000_215 => Advice::Text("the client secret is wrong: put the secret's value into the file, not its id"),
        7_000_222 => Advice::Text("the client secret has expired: make a new one, or better a certificate"),
        7_000_218 | 700_025 | 70002 => Advice::Text(
            "public and confidential are mixed up: for a sign-in by a person switch \"Allow public client flows\" on; \
             else give the application a certificate or secret",
        ),
        CLOCK => Advice::Text(
            "the assertion is not valid now, so a clock is wrong: set this computer's, as with timedatectl \
             set-ntp true",
        ),
        700_027 | 50012 | 700_030 => Advice::Text(
            "the app registration does not have this certificate (any more): upload it there, or correct client_id",
        ),
        70021 | 700_211 | 700_212 | 700_213 => Advice::Text(
            "no federated credential of the application fits the token: compare issuer, subject and audience, \
             letter by letter",
        ),
        70018 => Advice::Text("the code was not recognised: ask for a new one"),
        70019 => Advice::Text("the code has expired: ask for a new one"),
        50011 => Advice::Text(
            "the redirect address is not registered: add http://localhost under \"Mobile and desktop applications\"",
        ),
        90038 | 900_382 | 900_432 => Advice::Text("the account belongs to another cloud: set cloud"),
        90014 | 900_144 | 9_002_313 => Advice::Text("the request was malformed, which should not be: please report it"),
        50033 | 50087 | 90006 | 90012 | 90024 | 90033 | 90055 => Advice::Text("trouble at Microsoft, which passes"),
        _ => return None,
    })
}

fn advice_by_error(error: &str) -> Option<Advice> {
    Some(match error {
        "invalid_grant" => Advice::SignIn("the sign-in has ended, or was refused"),
        "invalid_client" => {
            Advice::Text("the application could not prove itself: compare client_id and its secret or certificate")
        }
        "unauthorized_client" => Advice::Text("the application may not use this grant"),
        "invalid_scope" => Advice::Text("the scope is wrong: leave scopes out of the configuration"),
        "interaction_required" | "consent_required" | "login_required" => Advice::SignIn("a person must act"),
        "access_denied" | "authorization_declined" => Advice::Text("the person said no"),
        "expired_token" => Advice::Text("the code has expired: ask for a new one"),
        "invalid_resource" => Advice::Text("the resource is unknown in this tenant: leave resource and scopes out"),
        _ => return None,
    })
}

/// The assertion is outside of its validity.
const CLOCK: u32 = 700_024;
/// Least difference of two clocks that counts as wrong.
const WRONG_CLOCK: Duration = Duration::from_secs(3 * 60);
/// The first octets of gzip (RFC 1952 §2.3.1).
const GZIP: &[u8] = b"\x1f\x8b";
const PASSING: &[&str] = &["temporarily_unavailable", "server_error", "slow_down", "authorization_pending"];
const PASSING_CODES: &[u32] = &[50033, 50087, 50196, 90006, 90012, 90024, 90033, 90055];
/// Refusals that waiting cannot change, besides those for which a person has to sign in: tenant, cloud, scope, an expired
/// secret, a disabled account or application, the kind of client, a policy, a malformed request.
const FINAL_CODES: &[u32] = &[
    50057, 50059, 50128, 50194, 53000, 53001, 53002, 53003, 70002, 70011, 90002, 90014, 90038, 530_032, 530_034,
    530_035, 700_025, 900_144, 900_382, 900_432, 7_000_112, 7_000_218, 7_000_222, 9_001_023, 9_002_313, 9_002_332,
];

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const ENDPOINT: Endpoint<'_> = Endpoint { host: "login.example", login: Some("scans") };

    fn refusal(status: u16, body: &str) -> Refusal {
        let body = Zeroizing::new(body.as_bytes().to_vec());
        read(ENDPOINT, &Response { status, body, ..Response::default() }, SystemTime::now())
    }

    #[test]
    fn temporary_and_permanent_refusals() {
        for (status, body, passes) in [
            (429, "{\"error\":\"invalid_request\"}", true),
            (503, "<html>busy</html>", true),
            (200, "garbage", true),
            (400, "{\"error\":\"temporarily_unavailable\"}", true),
            (400, "{\"error\":\"invalid_grant\",\"error_codes\":[90033]}", true),
            (400, "{\"error\":\"invalid_grant\",\"error_codes\":[700082]}", false),
            (401, "{\"error\":\"invalid_client\"}", false),
        ] {
            assert_eq!(refusal(status, body).passes, passes, "{status} {body}");
        }
    }

    /// A wrong tenant stays wrong; a client id that Entra does not know may be of an application that is just made.
    #[test]
    fn final_refusals() {
        let body = |error: &str, code: u32| format!("{{\"error\":\"{error}\",\"error_codes\":[{code}]}}");
        for (error, code, is_final) in [
            ("invalid_request", 90_002, true),
            ("invalid_client", 7_000_222, true),
            ("invalid_grant", 50_126, true),
            ("invalid_grant", 1, true),
            ("interaction_required", 53_003, true),
            ("unauthorized_client", 700_016, false),
            ("invalid_client", 700_027, false),
            ("invalid_client", 7_000_215, false),
            ("invalid_client", 700_213, false),
            ("invalid_grant", 65_001, false),
            ("invalid_client", 1, false),
        ] {
            let one = refusal(400, &body(error, code));
            assert_eq!((one.passes, one.is_final), (false, is_final), "{error} {code}");
            assert!(!refusal(503, &body(error, code)).is_final, "{error} {code} of an overloaded endpoint");
        }
        assert!(FINAL_CODES.iter().all(|code| advice(*code).is_some() && !PASSING_CODES.contains(code)));
    }

    #[test]
    fn the_number_is_explained_and_the_text_is_not_repeated() {
        let one =
            refusal(401, "{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: Invalid hunter2\"}");
        assert!(one.answer.contains("AADSTS7000215: the client secret is wrong"), "{}", one.answer);
        assert!(!one.answer.contains("hunter2"));
    }

    #[test]
    fn advice_fits_the_grant_and_the_correlation_id_stands_apart() {
        let body = "{\"error\":\"invalid_grant\",\"error_codes\":[50126],\"correlation_id\":\"a-1\"}";
        let one = refusal(400, body);
        assert!(one.answer.ends_with("has expired: sign in with the right one"), "{one}");
        assert!(one.to_string().ends_with(" (correlation id a-1)"), "{one}");
        let words = |login| Advice::SignIn("a person must act").words(login);
        assert_eq!(words(Some("scans")), "a person must act: packetboat login scans");
        assert!(words(None).contains("exempt the account"), "{}", words(None));
    }

    #[test]
    fn a_clock_that_is_off_is_named() {
        let date = SystemTime::now() - Duration::from_secs(3600);
        let body = Zeroizing::new(b"{\"error\":\"invalid_client\",\"error_codes\":[700024]}".to_vec());
        let response = Response { status: 401, date: Some(date), body, ..Response::default() };
        let words = read(ENDPOINT, &response, SystemTime::now()).answer;
        assert!(words.contains("this computer's clock is 1h ahead of the endpoint's"), "{words}");
    }
}
