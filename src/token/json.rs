//! JSON of token endpoints and of the store: token responses (RFC 6749 §5), device codes (RFC 8628 §3.2), client
//! assertions (RFC 7523 §3), and the claims of our own tokens. A member of an unexpected form never hides the others.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use crate::secret::Secret;
use crate::text;

/// A successful response (RFC 6749 §5.1).
pub(super) struct TokenResponse {
    pub(super) access_token: Secret,
    /// The lifetime in seconds.
    pub(super) expires_in: Option<u64>,
    pub(super) refresh_token: Option<Secret>,
}

/// An error response (RFC 6749 §5.2), with what Microsoft adds.
pub(super) struct ErrorResponse {
    pub(super) error: String,
    pub(super) error_description: String,
    pub(super) error_codes: Vec<u32>,
    pub(super) correlation_id: Option<String>,
}

/// A device authorization response (RFC 8628 §3.2).
pub(super) struct DeviceCode {
    pub(super) device_code: String,
    pub(super) user_code: String,
    pub(super) verification_uri: String,
    pub(super) expires_in: Option<u64>,
    pub(super) interval: Option<u64>,
}

/// The stored part of a person's sign-in.
#[derive(Clone)]
pub(super) struct StoredSignIn {
    pub(super) refresh_token: Secret,
    /// The time of the sign-in, in seconds since 1970.
    pub(super) signed_in: u64,
    /// The time when this refresh token came, in seconds since 1970.
    pub(super) renewed: u64,
}

/// The claims of a token that is a JWT (RFC 7519). They are shown to people; nothing is decided by them.
#[derive(Debug, Default)]
pub struct Claims {
    /// The audience: one, or several (RFC 7519 §4.1.3).
    pub aud: Vec<String>,
    /// The permissions of an application.
    pub roles: Vec<String>,
    /// The permissions in a person's name.
    pub scp: Option<String>,
    /// The person.
    pub upn: Option<String>,
    /// The end, in seconds since 1970.
    pub exp: Option<u64>,
}

pub(super) fn token_response(body: &[u8]) -> Option<TokenResponse> {
    let mut object = Object::parse(body)?;
    let secret = |text: String| Some(Secret::new(text.into_bytes())).filter(|secret| !secret.expose().is_empty());
    Some(TokenResponse {
        access_token: object.text("access_token").and_then(secret).filter(is_one_line)?,
        expires_in: object.seconds("expires_in"),
        refresh_token: object.text("refresh_token").and_then(secret),
    })
}

pub(super) fn error_response(body: &[u8]) -> Option<ErrorResponse> {
    let mut object = Object::parse(body)?;
    Some(ErrorResponse {
        error: object.text("error")?,
        error_description: object.text("error_description").unwrap_or_default(),
        error_codes: object.codes("error_codes"),
        correlation_id: object.text("correlation_id"),
    })
}

pub(super) fn device_code(body: &[u8]) -> Option<DeviceCode> {
    let mut object = Object::parse(body)?;
    Some(DeviceCode {
        device_code: object.text("device_code")?,
        user_code: object.text("user_code")?,
        // Google says `verification_url`, and others say both.
        verification_uri: object.text("verification_uri").or_else(|| object.text("verification_url"))?,
        expires_in: object.seconds("expires_in"),
        interval: object.seconds("interval"),
    })
}

pub(super) fn claims(token: &[u8]) -> Option<Claims> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split(|&octet| octet == b'.').nth(1)?;
    let mut object = Object::parse(&Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?))?;
    let scopes = object.texts("scp").join(" ");
    Some(Claims {
        aud: object.texts("aud"),
        roles: object.texts("roles"),
        scp: Some(scopes).filter(|scopes| !scopes.is_empty()),
        upn: object.text("upn"),
        exp: object.seconds("exp"),
    })
}

/// A JSON object whose members are taken out one by one, in whatever form they are. One of another form than wanted is
/// as good as missing.
struct Object(Map<String, Value>);

impl Object {
    /// RFC 8259 §8.1 forbids the byte order mark that some gateways put in front, and any encoding but UTF-8, in which
    /// some do not write the words of a refusal.
    fn parse(json: &[u8]) -> Option<Self> {
        let json = text::without_mark(json);
        let text = match std::str::from_utf8(json) {
            Ok(text) => Zeroizing::new(text.to_owned()),
            Err(_) => Zeroizing::new(String::from_utf8_lossy(json).into_owned()),
        };
        serde_json::from_str(&text).ok().map(Self)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.0.remove(name)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Takes out one text, or a list of texts.
    fn texts(&mut self, name: &str) -> Vec<String> {
        let text = |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        };
        match self.0.remove(name) {
            Some(Value::Array(values)) => values.into_iter().filter_map(text).collect(),
            other => other.and_then(text).into_iter().collect(),
        }
    }

    /// Takes out a number of seconds: RFC 6749 §5.1 has a number, Azure's metadata service a string, some a fraction.
    fn seconds(&mut self, name: &str) -> Option<u64> {
        let number = match self.0.remove(name)? {
            Value::String(text) => text.trim().parse().ok()?,
            Value::Number(number) => number,
            _ => return None,
        };
        number.as_u64().or_else(|| number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64))
    }

    fn codes(&mut self, name: &str) -> Vec<u32> {
        let code = |code: &Value| match code {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|code| u32::try_from(code).ok()),
        };
        match self.0.remove(name) {
            Some(Value::Array(codes)) => codes.iter().filter_map(code).collect(),
            _ => Vec::new(),
        }
    }
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
struct RawSignIn {
    refresh_token: String,
    signed_in: u64,
    renewed: u64,
}

impl Drop for RawSignIn {
    fn drop(&mut self) {
        self.refresh_token.zeroize();
    }
}

impl StoredSignIn {
    pub(super) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        let refresh_token = String::from_utf8(self.refresh_token.expose().to_vec()).ok()?;
        let raw = RawSignIn { refresh_token, signed_in: self.signed_in, renewed: self.renewed };
        serde_json::to_vec(&raw).ok().map(Zeroizing::new)
    }

    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        let raw: RawSignIn = serde_json::from_slice(json).ok()?;
        let refresh_token = Secret::new(raw.refresh_token.clone().into_bytes());
        Some(Self { refresh_token, signed_in: raw.signed_in, renewed: raw.renewed })
    }
}

/// The copy of a fleet's sign-in on an instance's disk.
pub(super) struct CopiedSignIn {
    pub(super) generation: i64,
    /// The record, as the database has it.
    pub(super) record: Secret,
    pub(super) access: Option<CopiedAccess>,
    /// Generation and epoch that this state is to follow, where the database may not have it yet.
    pub(super) base: Option<(i64, Option<i64>)>,
    /// The server and the tables that have answered last. Earlier versions have written none.
    pub(super) origin: Option<String>,
}

/// The access token in it.
pub(super) struct CopiedAccess {
    pub(super) token: Secret,
    /// The whole life in milliseconds.
    pub(super) life: u64,
    /// The end, in seconds since 1970.
    pub(super) until: u64,
}

#[derive(Serialize, Deserialize)]
struct RawCopy {
    generation: i64,
    record: String,
    access: Option<RawAccess>,
    base: Option<(i64, Option<i64>)>,
    #[serde(default)]
    origin: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RawAccess {
    token: String,
    life: u64,
    until: u64,
}

impl Drop for RawCopy {
    fn drop(&mut self) {
        self.record.zeroize();
        if let Some(access) = &mut self.access {
            access.token.zeroize();
        }
    }
}

impl CopiedSignIn {
    pub(super) fn to_json(&self) -> Option<Zeroizing<Vec<u8>>> {
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).ok();
        let access = match &self.access {
            Some(access) => Some(RawAccess { token: text(&access.token)?, life: access.life, until: access.until }),
            None => None,
        };
        let Self { generation, base, ref origin, .. } = *self;
        let raw = RawCopy { generation, record: text(&self.record)?, access, base, origin: origin.clone() };
        serde_json::to_vec(&raw).ok().map(Zeroizing::new)
    }

    pub(super) fn from_json(json: &[u8]) -> Option<Self> {
        let raw: RawCopy = serde_json::from_slice(json).ok()?;
        let secret = |text: &String| Secret::new(text.clone().into_bytes());
        let access = raw.access.as_ref().map(|access| CopiedAccess {
            token: secret(&access.token),
            life: access.life,
            until: access.until,
        });
        let origin = raw.origin.clone();
        Some(Self { generation: raw.generation, record: secret(&raw.record), access, base: raw.base, origin })
    }
}

/// Returns whether the token fits into a line of IMAP without ending it.
fn is_one_line(token: &Secret) -> bool {
    token.expose().iter().all(|octet| (0x21..0x7f).contains(octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_in_all_their_forms() {
        for (json, expected) in [
            ("3599", Some(3599)),
            ("\"86399\"", Some(86_399)),
            ("\" 3599.0 \"", Some(3599)),
            ("12.5", Some(12)),
            ("1e3", Some(1000)),
            ("null", None),
            ("-1", None),
            ("true", None),
            ("[3599]", None),
            ("\"soon\"", None),
        ] {
            let body = format!("{{\"access_token\":\"t\",\"expires_in\":{json}}}");
            assert_eq!(token_response(body.as_bytes()).unwrap().expires_in, expected, "{json}");
        }
        assert_eq!(token_response(b"{\"access_token\":\"t\"}").unwrap().expires_in, None);
    }

    #[test]
    fn a_token_that_would_end_a_line_is_none() {
        for body in
            ["{\"access_token\":\"a\\r\\nb\"}", "{\"access_token\":\"a b\"}", "{\"access_token\":\"\"}", "<html>", ""]
        {
            assert!(token_response(body.as_bytes()).is_none(), "{body}");
        }
    }

    #[test]
    fn codes_in_any_form() {
        for (json, expected) in
            [("[7000215]", vec![7_000_215]), ("[\"50126\", 99999999999]", vec![50_126]), ("5", vec![])]
        {
            let error_response =
                error_response(format!("{{\"error\":\"invalid_grant\",\"error_codes\":{json}}}").as_bytes()).unwrap();
            assert_eq!((error_response.error.as_str(), error_response.error_codes), ("invalid_grant", expected));
        }
    }

    /// RFC 7519 §4.1.3: `aud` may be a list. And whatever form one claim has, the others are told.
    #[test]
    fn claims_in_any_form() {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let claims = |json: &str| claims(format!("e30.{}.x", URL_SAFE_NO_PAD.encode(json)).as_bytes()).unwrap();
        for (aud, expected) in
            [("\"a\"", vec!["a"]), ("[\"a\", 1, \"b\"]", vec!["a", "b"]), ("{}", vec![]), ("null", vec![])]
        {
            for (exp, seconds) in [("5", Some(5)), ("5.9", Some(5)), ("\"5\"", Some(5)), ("[]", None)] {
                let more = "\"roles\": \"R\", \"scp\": [\"S\", \"T\"], \"upn\": \"p\", \"nbf\": {}";
                let one = claims(&format!("{{\"aud\": {aud}, \"exp\": {exp}, {more}}}"));
                assert_eq!(
                    (one.aud, one.exp, one.roles),
                    (expected.iter().map(ToString::to_string).collect(), seconds, vec!["R".to_owned()])
                );
                assert_eq!((one.scp.as_deref(), one.upn.as_deref()), (Some("S T"), Some("p")));
            }
        }
        assert_eq!(claims("{\"aud\": \"a\", \"roles\": [\"R\"], \"roles\": [\"S\"]}").roles, ["S"]);
    }

    /// Gateways add a byte order mark, words in Latin-1, and members that are none or of another form.
    #[test]
    fn members_do_not_hide_each_other() {
        let one = token_response(b"\xef\xbb\xbf{\"access_token\":\"t\",\"refresh_token\":null,\"scope\":[1]}").unwrap();
        assert!(one.access_token.expose() == b"t" && one.refresh_token.is_none());
        for more in ["\"error_description\":null", "\"correlation_id\":5", "\"error_description\":[]"] {
            let body = [b"{\"error\":\"invalid_client\",".as_slice(), more.as_bytes(), b"}"].concat();
            assert_eq!(error_response(&body).unwrap().error, "invalid_client", "{more}");
        }
        let latin_1 = b"{\"error\":\"invalid_client\",\"error_description\":\"AADSTS7000215: f\xfcr\"}";
        assert!(error_response(latin_1).unwrap().error_description.starts_with("AADSTS7000215"));
        let both = b"{\"device_code\":\"d\",\"user_code\":\"u\",\"verification_uri\":\"x\",\
            \"verification_url\":\"y\",\"interval\":\"5\"}";
        let code = device_code(both).unwrap();
        assert_eq!((code.verification_uri.as_str(), code.interval), ("x", Some(5)));
    }

    #[test]
    fn records_come_back() {
        let record = StoredSignIn { refresh_token: Secret::new(b"0.AX".to_vec()), signed_in: 1, renewed: 2 };
        let back = StoredSignIn::from_json(&record.to_json().unwrap()).unwrap();
        assert_eq!((back.refresh_token.expose(), back.signed_in, back.renewed), (&b"0.AX"[..], 1, 2));
    }
}
