//! Sign-ins of a person: by a code that a browser brings back (RFC 6749 §4.1, RFC 7636), or on another computer
//! (RFC 8628). An operator does that once, never inside a device's connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use tokio::time::{Instant, sleep};

use super::cache::CachedToken;
use super::error::Error;
use super::json::{self, StoredSignIn, TokenResponse};
use super::refusal;
use super::request;
use crate::config::{Account, Identity, Limits, Roots, url};
use crate::crypto;
use crate::lifecycle::unix_time;
use crate::pool;
use crate::secret::Secret;
use crate::text::{Printable, excerpt};
use crate::transport::http::{self, Client, Response};

/// The treatment of a sign-in by another person than the account's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherPerson {
    /// Keep the sign-in, and return the person's name: both may be names of one person.
    Accept,
    /// Keep nothing.
    Refuse,
}

/// A sign-in by authorization code that has begun.
pub struct Enrolment {
    token: Arc<CachedToken>,
    redirect: String,
    state: String,
    verifier: Secret,
}

/// The address that a person has pasted, or a browser has brought.
#[derive(Debug)]
pub enum Pasted {
    /// The address holds the code.
    Code(Secret),
    /// The provider refuses, for this reason.
    Refused(String),
    /// The address is something else; the text says what to paste.
    Strange(&'static str),
}

impl Enrolment {
    /// Begins a sign-in whose browser comes back to this address.
    ///
    /// # Errors
    /// There are no random octets.
    pub fn begin(token: &Arc<CachedToken>, redirect: &str) -> Result<Self, Error> {
        let random = || crypto::random::<32>().map(|octets| BASE64URL.encode(octets));
        let state = random()?;
        let verifier = random()?;
        Ok(Self {
            token: Arc::clone(token),
            redirect: redirect.to_owned(),
            state,
            verifier: Secret::new(verifier.into_bytes()),
        })
    }

    /// Returns the address that the person opens in a browser.
    pub fn url(&self) -> String {
        let user = self.token.sign_in().0;
        request::authorization_url(&self.token.spec.identity, user, &self.redirect, &self.state, &self.verifier)
    }

    /// Reads the address that the browser came back with; it must belong to this sign-in (RFC 6749 §10.12).
    pub fn read(&self, address: &str) -> Pasted {
        let address = address.trim();
        let Some((_, query)) = address.split_once('?') else {
            return Pasted::Strange(
                "paste the whole address that the browser shows at the end: it begins with http://localhost",
            );
        };
        let fields = http::decode(query.split('#').next().unwrap_or_default());
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if field("state") != Some(&self.state) {
            return Pasted::Strange(
                "this address is of another sign-in; open the address above, and paste what it leads to",
            );
        }
        match (field("code"), field("error")) {
            (Some(code), _) if !code.is_empty() => Pasted::Code(Secret::new(code.as_bytes().to_vec())),
            (_, Some(error)) => {
                let number = field("error_description").and_then(|text| text.split("AADSTS").nth(1));
                let number = number.and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next());
                let advice = number.and_then(|number| refusal::advice(number.parse().ok()?));
                let advice = advice.map(|advice| advice.words(self.token.login_name()));
                let number = number.map(|number| format!(", AADSTS{number}")).unwrap_or_default();
                let advice = advice.map(|advice| format!(": {advice}")).unwrap_or_default();
                Pasted::Refused(format!("{error}{number}{advice}"))
            }
            _ => Pasted::Strange("this address holds no code; paste the one that the browser shows at the very end"),
        }
    }

    /// Redeems the code for a refresh token, and stores that. Returns the person's name, if it is another one than
    /// expected.
    ///
    /// # Errors
    /// The endpoint says no, another person has signed in, or the token cannot be kept.
    pub async fn finish(&self, code: &Secret, other: OtherPerson) -> Result<Option<String>, Error> {
        let (code, redirect, verifier) = (code.clone(), self.redirect.clone(), self.verifier.clone());
        let make = move |identity: &Identity, _: &Account| request::code(identity, &code, &redirect, &verifier);
        let request = self.token.request_by(make).await?;
        let response = self.token.spec.client.ask(request).await.map_err(Error::Unreachable)?;
        self.token.keep_sign_in(&response, other).await
    }
}

/// A sign-in on another computer.
pub struct DeviceSignIn {
    token: Arc<CachedToken>,
    device_code: Secret,
    /// The address that the person opens: by https, except on this computer.
    pub uri: Printable,
    /// The code that the person types there.
    pub user_code: Printable,
    until: Instant,
    interval: Duration,
}

impl DeviceSignIn {
    /// Requests a device code.
    ///
    /// # Errors
    /// The endpoint says no.
    pub async fn begin(token: &Arc<CachedToken>, roots: &Roots, limits: &Limits) -> Result<Self, Error> {
        // The roots may be files.
        let (endpoint, roots, limits) = (token.spec.identity.device_endpoint.clone(), roots.clone(), *limits);
        let client = pool::FILES.run(move || Client::new(&endpoint, &roots, &limits)).await;
        let client = client.map_err(|source| Error::NotRead { files: "roots".to_owned(), source })??;
        let request = request::device_authorization(&token.spec.identity);
        let response = client.ask(request).await.map_err(Error::Unreachable)?;
        let Some(code) = json::device_code(&response.body).filter(|_| response.status == 200) else {
            return Err(Error::Refused(refusal::read(token.endpoint(&client), &response, SystemTime::now())));
        };
        let host = client.host();
        let uri = address_to_open(&code.verification_uri).ok_or_else(|| {
            let why = "answers with an address to open that is none by https: nobody should open it";
            Error::Response { host: host.to_owned(), why }
        })?;
        let user_code = code_to_type(&code.user_code).ok_or_else(|| {
            let why = "answers with a code to type that holds characters which nobody can type";
            Error::Response { host: host.to_owned(), why }
        })?;
        Ok(Self {
            token: Arc::clone(token),
            device_code: Secret::new(code.device_code.into_bytes()),
            uri,
            user_code,
            until: Instant::now() + Duration::from_secs(code.expires_in.unwrap_or(900).clamp(1, 3600)),
            interval: Duration::from_secs(code.interval.unwrap_or(5).clamp(1, 60)),
        })
    }

    /// Returns the time for which the code is valid.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Waits until the person has agreed, and stores the refresh token. Returns the person's name, if it is another one
    /// than expected.
    ///
    /// # Errors
    /// The person says no, another person has signed in, it is too late, or the token cannot be kept.
    pub async fn finish(mut self, other: OtherPerson) -> Result<Option<String>, Error> {
        let mut last = Error::SignIn("the code has expired: ask for a new one");
        while Instant::now() + self.interval < self.until {
            sleep(self.interval).await;
            let device_code = self.device_code.clone();
            let make = move |identity: &Identity, _: &Account| request::device_code(identity, &device_code);
            let request = self.token.request_by(make).await?;
            let response = match self.token.spec.client.ask(request).await {
                Ok(response) => response,
                // The network may come back before the code expires.
                Err(failure) => {
                    last = Error::Unreachable(failure);
                    continue;
                }
            };
            if response.status == 200 {
                return self.token.keep_sign_in(&response, other).await;
            }
            let endpoint = self.token.endpoint(&self.token.spec.client);
            let refusal = refusal::read(endpoint, &response, SystemTime::now());
            if refusal.error == "slow_down" {
                // RFC 8628 §3.5: for good.
                self.interval += Duration::from_secs(5);
            } else if !refusal.passes {
                return Err(Error::Refused(refusal));
            }
        }
        Err(last)
    }
}

/// Returns the address that a person may open: a URI of visible ASCII (RFC 8628 §3.2, RFC 3986 §2).
fn address_to_open(uri: &str) -> Option<Printable> {
    let is_uri = uri.bytes().all(|octet| octet.is_ascii_graphic()) && url::may_carry_secrets(uri).is_ok();
    is_uri.then(|| Printable::line(uri))
}

fn code_to_type(code: &str) -> Option<Printable> {
    let shown = Printable::line(code);
    (!code.trim().is_empty() && code.len() <= LONGEST_CODE && shown.as_str() == code).then_some(shown)
}

/// Longest user code: usual ones have eight or nine characters (RFC 8628 §6.1).
const LONGEST_CODE: usize = 64;

impl CachedToken {
    /// Stores the refresh token. Returns the person's name, where the token has it and it is another one than the
    /// configured.
    async fn keep_sign_in(&self, response: &Response, other: OtherPerson) -> Result<Option<String>, Error> {
        let judged = refusal::judge(self.endpoint(&self.spec.client), response, SystemTime::now());
        let TokenResponse { access_token, refresh_token, .. } = judged.map_err(Error::Refused)?;
        let refresh_token = refresh_token.ok_or(Error::SignIn(
            "the endpoint gave no refresh token: offline_access must be among the scopes, and consented to",
        ))?;
        let person = json::claims(access_token.expose()).and_then(|claims| claims.upn);
        let person = person.filter(|person| !person.eq_ignore_ascii_case(&self.spec.account.user));
        if let (Some(person), OtherPerson::Refuse) = (&person, other) {
            let (expected, account) = self.sign_in();
            return Err(Error::OtherPerson {
                person: excerpt(person.as_bytes()),
                expected: expected.to_owned(),
                account: account.to_owned(),
            });
        }
        let now = unix_time();
        self.put_sign_in(StoredSignIn { refresh_token, signed_in: now, renewed: now }).await?;
        Ok(person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_gets_an_https_address_and_a_printable_code() {
        for good in ["https://microsoft.com/devicelogin", "https://a.example/d?x=1", "http://127.0.0.1:80/d"] {
            assert_eq!(address_to_open(good).map(|uri| uri.as_str().to_owned()), Some(good.to_owned()));
        }
        for bad in [
            "http://microsoft.com/devicelogin",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "https://microsoft.com@evil.example/",
            "https://a.example/\x1b]52;c;eA==\x07",
            "https://a.example/\u{202e}moc",
            "https://\u{0430}pple.example/",
            "",
        ] {
            assert_eq!(address_to_open(bad), None, "{bad:?}");
        }
        assert_eq!(code_to_type("WDJB-MJHT").map(|code| code.as_str().to_owned()), Some("WDJB-MJHT".to_owned()));
        for bad in ["AB\x1b[8mCD", "AB\u{9b}8mCD", "AB\u{200b}CD", "", " ", &"A".repeat(65)] {
            assert_eq!(code_to_type(bad), None, "{bad:?}");
        }
    }
}
