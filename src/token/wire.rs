//! What goes over the wire and into the store, as JSON: token responses (RFC 6749 §5), device codes (RFC 8628 §3.2),
//! client assertions (RFC 7523 §3), and the claims of our own tokens. Beside the configuration only this file knows serde.

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;

/// RFC 6749 §5.1.
pub(super) struct Granted {
    pub(super) access_token: Secret,
    /// In seconds.
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<Secret>,
}

/// RFC 6749 §5.2, with what Microsoft adds.
#[derive(Deserialize)]
pub(super) struct Denied {
    pub(super) error: String,
    #[serde(default)]
    pub(super) error_description: String,
    #[serde(deserialize_with = "codes", default)]
    pub(super) error_codes: Vec<u32>,
    #[serde(default)]
    pub(super) correlation_id: Option<String>,
}

/// RFC 8628 §3.2.
#[derive(Deserialize)]
pub(super) struct DeviceCode {
    pub(super) device_code: String,
    pub(super) user_code: String,
    /// Google says `verification_url`.
    #[serde(alias = "verification_url")]
    pub(super) verification_uri: String,
    #[serde(deserialize_with = "seconds", default)]
    pub(super) expires_in: Option<u64>,
    #[serde(deserialize_with = "seconds", default)]
    pub(super) interval: Option<u64>,
}

/// What is kept of a person's sign-in.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) refresh_token: Secret,
    /// Seconds since 1970: when a person signed in.
    pub(super) signed_in: u64,
    /// Seconds since 1970: when this refresh token came.
    pub(super) renewed: u64,
}

/// What a token says of itself, where it happens to be a JWT (RFC 7519). For people to look at, never to decide by.
#[derive(Debug, Default, Deserialize)]
pub struct Claims {
    /// For whom it is good.
    #[serde(default)]
    pub aud: Option<String>,
    /// What an application may do.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What it may do in a person's name.
    #[serde(default)]
    pub scp: Option<String>,
    /// The person.
    #[serde(default)]
    pub upn: Option<String>,
    /// Seconds since 1970.
    #[serde(default)]
    pub exp: Option<u64>,
}

pub(super) fn granted(body: &[u8]) -> Option<Granted> {
    #[derive(Deserialize)]
    struct Raw {
        access_token: String,
        #[serde(deserialize_with = "seconds", default)]
        expires_in: Option<u64>,
        refresh_token: Option<String>,
    }
    let raw: Raw = serde_json::from_slice(body).ok()?;
    let secret = |text: String| Some(Secret::new(text.into_bytes())).filter(|secret| !secret.expose().is_empty());
    Some(Granted {
        access_token: secret(raw.access_token).filter(is_one_line)?,
        expires_in: raw.expires_in,
        refresh_token: raw.refresh_token.and_then(secret),
    })
}

pub(super) fn denied(body: &[u8]) -> Option<Denied> {
    serde_json::from_slice(body).ok()
}

pub(super) fn device_code(body: &[u8]) -> Option<DeviceCode> {
    serde_json::from_slice(body).ok()
}

pub(super) fn claims(token: &[u8]) -> Option<Claims> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split(|&octet| octet == b'.').nth(1)?;
    serde_json::from_slice(&Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?)).ok()
}

/// Header and claims of a client assertion (RFC 7523 §3), with the certificate's thumbprint in base64url.
pub(super) fn assertion(thumbprint: &str, audience: &str, client: &str, id: &str, now: u64) -> Option<[Vec<u8>; 2]> {
    #[derive(Serialize)]
    struct Header<'a> {
        alg: &'a str,
        typ: &'a str,
        #[serde(rename = "x5t#S256")]
        thumbprint: &'a str,
    }
    #[derive(Serialize)]
    struct Assertion<'a> {
        aud: &'a str,
        iss: &'a str,
        sub: &'a str,
        jti: &'a str,
        iat: u64,
        nbf: u64,
        exp: u64,
    }
    // A little in the past, for clocks that are a little off.
    let since = now.saturating_sub(120);
    let header = serde_json::to_vec(&Header { alg: "PS256", typ: "JWT", thumbprint }).ok()?;
    let claims = Assertion { aud: audience, iss: client, sub: client, jti: id, iat: since, nbf: since, exp: now + 480 };
    Some([header, serde_json::to_vec(&claims).ok()?])
}

#[derive(Serialize, Deserialize)]
struct RawRecord {
    refresh_token: String,
    signed_in: u64,
    renewed: u64,
}

impl Drop for RawRecord {
    fn drop(&mut self) {
        self.refresh_token.zeroize();
    }
}

impl Record {
    pub(super) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        let refresh_token = String::from_utf8(self.refresh_token.expose().to_vec()).ok()?;
        let raw = RawRecord { refresh_token, signed_in: self.signed_in, renewed: self.renewed };
        serde_json::to_vec(&raw).ok().map(Zeroizing::new)
    }

    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        let raw: RawRecord = serde_json::from_slice(json).ok()?;
        let refresh_token = Secret::new(raw.refresh_token.clone().into_bytes());
        Some(Self { refresh_token, signed_in: raw.signed_in, renewed: raw.renewed })
    }
}

/// RFC 6749 §5.1 says a number; Azure's metadata service says a string, and some a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Fraction(f64),
        Text(String),
    }
    Ok(match Option::<Seconds>::deserialize(deserializer)? {
        None => None,
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Fraction(seconds)) if seconds >= 0.0 => Some(seconds as u64),
        Some(Seconds::Fraction(_)) => None,
        Some(Seconds::Text(text)) => text.trim().parse().ok(),
    })
}

/// Whatever else stands there must not hide `error`.
fn codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let code = |code: &serde_json::Value| match code {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|code| u32::try_from(code).ok()),
    };
    Ok(value.as_array().map(|codes| codes.iter().filter_map(code).collect()).unwrap_or_default())
}

/// It goes into a line of IMAP, and must not end it.
fn is_one_line(token: &Secret) -> bool {
    token.expose().iter().all(|octet| (0x21..0x7f).contains(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_in_all_their_forms() {
        for (json, expected) in [("3599", Some(3599)), ("\"86399\"", Some(86_399)), ("12.5", Some(12)), ("null", None)]
        {
            let body = format!("{{\"access_token\":\"t\",\"expires_in\":{json}}}");
            assert_eq!(granted(body.as_bytes()).unwrap().expires_in, expected, "{json}");
        }
        assert_eq!(granted(b"{\"access_token\":\"t\"}").unwrap().expires_in, None);
    }

    #[test]
    fn a_token_that_would_end_a_line_is_none() {
        for body in
            ["{\"access_token\":\"a\\r\\nb\"}", "{\"access_token\":\"a b\"}", "{\"access_token\":\"\"}", "<html>", ""]
        {
            assert!(granted(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn codes_in_any_form() {
        for (json, expected) in
            [("[7000215]", vec![7_000_215]), ("[\"50126\", 99999999999]", vec![50_126]), ("5", vec![])]
        {
            let denied = denied(format!("{{\"error\":\"invalid_grant\",\"error_codes\":{json}}}").as_bytes()).unwrap();
            assert_eq!((denied.error.as_str(), denied.error_codes), ("invalid_grant", expected));
        }
    }

    #[test]
    fn records_come_back() {
        let record = Record { refresh_token: Secret::new(b"0.AX".to_vec()), signed_in: 1, renewed: 2 };
        let back = Record::from_json(&record.to_json().unwrap()).unwrap();
        assert_eq!((back.refresh_token.expose(), back.signed_in, back.renewed), (&b"0.AX"[..], 1, 2));
    }
}
