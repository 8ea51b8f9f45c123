//! This file plays a token endpoint that issues access tokens: JWTs (RFC 7519), signed with a key of its own, over
//! HTTPS.
//!
//! Each application (`client_id`) gets tokens for one mailbox, the address that it has as its id. Dovecot compares the
//! user that XOAUTH2 names with a claim of the token, so the token of one device's account must not open another's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::{Signer, Verifier};
use openssl::ssl::SslVersion;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::server;

pub const ISSUER: &str = "https://login.contoso.example/v2.0";
pub const SCOPE: &str = "https://outlook.office365.com/.default";
pub const CLIENT_SECRET: &str = "app~Secret.8Zr4+/=";
const DEVICE_CODE: &str = "BAQdevice-code-of-a-sign-in";
const KEY_ID: &str = "of-this-test";

pub struct Issuer {
    port: u16,
    key: PKey<Private>,
    directory: TempDir,
    given: Arc<Mutex<Given>>,
}

/// A request, and its result.
#[derive(Default)]
struct Given {
    /// The fields of each request.
    requests: Vec<BTreeMap<String, String>>,
    tokens: Vec<String>,
    refresh_tokens: Vec<String>,
    /// A key that signs in place of the issuer's own.
    forger: Option<PKey<Private>>,
    /// The lifetime of tokens in seconds; `None` is an hour.
    life: Option<i64>,
    /// Whether every token request is refused.
    is_down: bool,
    /// Counts of tokens issued and of requests refused, while requests are not recorded.
    counts: (u64, u64),
}

impl Issuer {
    pub fn start() -> Self {
        let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
        let key = new_key();
        let given = Arc::<Mutex<Given>>::default();
        let (signing, shared) = (key.clone(), Arc::clone(&given));
        let port = server::tls(&certificates, SslVersion::TLS1_3, move |mut stream| {
            let Some((path, fields)) = read_request(&mut stream) else { return };
            let (status, answer) = shared.lock().unwrap().answer(&path, fields, &signing);
            let body = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
            let _ = stream.shutdown();
        });
        let issuer = Self { port, key, directory, given };
        issuer.file("secret", CLIENT_SECRET.as_bytes());
        issuer
    }

    /// A token for this mailbox, valid for an hour.
    pub fn token(&self, mailbox: &str) -> String {
        sign(&self.key, &claims(mailbox, SCOPE, 3600))
    }

    /// A token with an additional claim.
    pub fn token_with(&self, mailbox: &str, name: &str, value: impl Into<Value>) -> String {
        let mut claims = claims(mailbox, SCOPE, 3600);
        claims[name] = value.into();
        sign(&self.key, &claims)
    }

    /// Makes the endpoint sign with an unknown key from now on.
    pub fn forge(&self) {
        self.given.lock().unwrap().forger = Some(new_key());
    }

    /// The recorded token requests, field by field.
    pub fn requests(&self) -> Vec<BTreeMap<String, String>> {
        self.given.lock().unwrap().requests.clone()
    }

    /// All tokens that the endpoint has issued, and all proofs that it was sent.
    pub fn secrets(&self) -> Vec<String> {
        let given = self.given.lock().unwrap();
        let proofs = ["client_secret", "client_assertion", "password", "device_code", "refresh_token"];
        let sent = given.requests.iter().flat_map(|request| proofs.iter().filter_map(|name| request.get(*name)));
        sent.chain(&given.tokens).chain(&given.refresh_tokens).cloned().collect()
    }

    /// `[identity.NAME]` of the application that gets tokens for this mailbox, with a client secret.
    pub fn identity(&self, name: &str, mailbox: &str) -> String {
        self.identity_by(name, mailbox, &format!("client_secret_file = {:?}", self.directory.path().join("secret")))
    }

    /// `[identity.NAME]` of the same application, with another grant.
    pub fn identity_by(&self, name: &str, mailbox: &str, grant: &str) -> String {
        let (port, roots) = (self.port, self.directory.path().join("ca.pem"));
        format!(
            "[identity.{name}]\ntenant = \"contoso.example\"\nclient_id = \"{mailbox}\"\n{grant}\nroots = {roots:?}\n\
             token_endpoint = \"https://localhost:{port}/token\"\ndevice_endpoint = \"https://localhost:{port}/devicecode\"\n"
        )
    }

    /// A certificate with which an application signs assertions, as lines of an identity.
    pub fn application_certificate(&self) -> String {
        let certificates = Certificates::for_name("app.contoso.example", 365);
        let chain = self.file("app.pem", &certificates.leaf.to_pem().unwrap());
        let key = self.file("app.key", &certificates.key.private_key_to_pem_pkcs8().unwrap());
        format!("certificate = {chain:?}\nkey = {key:?}")
    }

    /// A file with this content that only its owner can read, as packetboat insists.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.directory.path().join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// Writes the public key where Dovecot looks for it, `APPLICATION/ALGORITHM/KEY`; these tokens name no application.
    pub fn publish(&self, directory: &Path) {
        let folder = directory.join("default/RS256");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(KEY_ID), self.key.public_key_to_pem().unwrap()).unwrap();
    }
}

impl Issuer {
    /// Judges logins by XOAUTH2 on a socket at this path, for a server that cannot: `yes` for a token of this issuer
    /// that names the user.
    pub fn judge_at(&self, path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let key = self.key.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut login = Vec::new();
                let _ = stream.read_to_end(&mut login);
                let verdict: &[u8] = if is_let_in(&key, &login) { b"yes" } else { b"no" };
                let _ = stream.write_all(verdict);
            }
        });
    }

    /// Makes tokens live for this many seconds from now on, and stops recording requests.
    pub fn shorten(&self, seconds: i64) {
        self.given.lock().unwrap().life = Some(seconds);
    }

    /// Begins or ends an outage.
    pub fn take_down(&self, is_down: bool) {
        self.given.lock().unwrap().is_down = is_down;
    }

    /// Counts of short-lived tokens issued, and of requests refused during outages.
    pub fn counts(&self) -> (u64, u64) {
        self.given.lock().unwrap().counts
    }
}

impl Given {
    fn answer(&mut self, path: &str, fields: BTreeMap<String, String>, key: &PKey<Private>) -> (u16, Value) {
        let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
        if self.is_down {
            self.counts.1 += 1;
            return (503, json!({ "error": "temporarily_unavailable", "error_description": "AADSTS90033: later" }));
        }
        if let Some(seconds) = self.life {
            self.counts.0 += 1;
            let token = sign(key, &claims(&field("client_id"), &field("scope"), seconds));
            return (200, json!({ "token_type": "Bearer", "expires_in": seconds, "access_token": token }));
        }
        let (mailbox, scope) = (field("client_id"), field("scope"));
        let is_proven = match field("grant_type").as_str() {
            "client_credentials" => field("client_secret") == CLIENT_SECRET || !field("client_assertion").is_empty(),
            "password" => !field("password").is_empty(),
            "refresh_token" => self.refresh_tokens.contains(&field("refresh_token")),
            "urn:ietf:params:oauth:grant-type:device_code" => field("device_code") == DEVICE_CODE,
            _ => false,
        };
        let repeated = format!("AADSTS7000215: this will not do: {fields:?}");
        let is_of_a_person = field("grant_type") != "client_credentials";
        self.requests.push(fields);
        if path == "/devicecode" {
            let answer = json!({
                "device_code": DEVICE_CODE, "user_code": "ABCD1234", "verification_uri": "https://contoso.example/device",
                "expires_in": 900, "interval": 1
            });
            return (200, answer);
        }
        if !is_proven {
            // Some endpoints repeat the request in their errors.
            return (401, json!({ "error": "invalid_client", "error_description": repeated }));
        }
        let token = sign(self.forger.as_ref().unwrap_or(key), &claims(&mailbox, &scope, 3600));
        self.tokens.push(token.clone());
        let mut answer = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token });
        if is_of_a_person {
            // Each answer has a new refresh token.
            let refresh_token = format!("0.AXrefresh-{}-{mailbox}", self.refresh_tokens.len());
            answer["refresh_token"] = refresh_token.clone().into();
            self.refresh_tokens.push(refresh_token);
        }
        (200, answer)
    }
}

/// The token's claims. Dovecot insists on `upn`, which names the user, and on `scope`, which repeats the requested one.
fn claims(mailbox: &str, scope: &str, seconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    json!({
        "iss": ISSUER, "sub": "0000-1111", "aud": "https://outlook.office365.com", "upn": mailbox, "scope": scope,
        "iat": now - 60, "nbf": now - 60, "exp": now + seconds
    })
}

/// Signs the claims as a JWS with RS256 (RFC 7515 §3.1).
fn sign(key: &PKey<Private>, claims: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": KEY_ID });
    let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
    let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
    let signature = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL.encode(signature))
}

/// Whether a login by XOAUTH2 has a token with this key's signature, and the token's user.
fn is_let_in(key: &PKey<Private>, login: &[u8]) -> bool {
    let judged = || {
        let login = std::str::from_utf8(login).ok()?.strip_prefix("user=")?.strip_suffix("\x01\x01")?;
        let (user, token) = login.split_once("\x01auth=Bearer ")?;
        let (signed, signature) = token.rsplit_once('.')?;
        let mut verifier = Verifier::new(MessageDigest::sha256(), key).ok()?;
        let is_signed = verifier.verify_oneshot(&BASE64URL.decode(signature).ok()?, signed.as_bytes()).ok()?;
        let claims: Value = serde_json::from_slice(&BASE64URL.decode(signed.split_once('.')?.1).ok()?).ok()?;
        Some(is_signed && claims["upn"] == user && claims["scope"] == SCOPE)
    };
    judged().unwrap_or(false)
}

/// A token whose only fault is its key.
pub fn forged_token(mailbox: &str) -> String {
    sign(&new_key(), &claims(mailbox, SCOPE, 3600))
}

fn new_key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

/// Reads the path and fields of a POST with a form.
fn read_request(stream: &mut impl Read) -> Option<(String, BTreeMap<String, String>)> {
    let request = server::hear(stream);
    let path = request.strip_prefix("POST ")?.split(' ').next()?.to_owned();
    let mut length = 0;
    loop {
        let line = server::hear(stream).to_ascii_lowercase();
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, form_urlencoded::parse(&body).into_owned().collect()))
}
