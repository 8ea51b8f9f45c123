//! Requests to a token endpoint, for each grant (RFC 6749 §4, RFC 7523 §2.2, RFC 8628 §3.4).

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use zeroize::Zeroizing;

use super::error::Error;
use super::json;
use crate::config::{Account, CertificateFiles, Credential, Grant, Identity};
use crate::crypto::{self, SigningKey};
use crate::lifecycle::unix_time;
use crate::secret::Secret;
use crate::state;
use crate::transport::downstream::certificate;
use crate::transport::http::{self, Request};

/// Returns the request for an access token. Secrets are read from their files each time, so that a new one needs no
/// restart.
///
/// # Errors
/// A file cannot be read, or holds something else; the text names it.
pub(super) fn token(identity: &Identity, account: &Account, refresh_token: Option<&Secret>) -> Result<Request, Error> {
    let mut form = Form::new(identity);
    match &identity.grant {
        Grant::ManagedIdentity => return Ok(metadata(identity)),
        Grant::ClientCredentials(credential) => {
            form.add("grant_type", "client_credentials");
            form.add("scope", &identity.scope);
            form.prove(identity, Some(credential))?;
        }
        Grant::Federated(file) => {
            form.add("grant_type", "client_credentials");
            form.add("scope", &identity.scope);
            form.add("client_assertion_type", ASSERTION_TYPE);
            form.add_secret("client_assertion", &state::read_token(file)?);
        }
        Grant::Password(secret_file) => {
            form.add("grant_type", "password");
            form.add("scope", &identity.scope);
            form.add("username", &account.user);
            let file = account.password_file.as_deref().unwrap_or(Path::new("password_file"));
            form.add_secret("password", &state::read_secret(file)?);
            form.prove_by(secret_file.as_ref().map(|file| file.path.as_path()))?;
        }
        Grant::AuthorizationCode(secret_file) | Grant::DeviceCode(secret_file) => {
            form.add("grant_type", "refresh_token");
            form.add("scope", &identity.scope);
            if let Some(token) = refresh_token {
                form.add_secret("refresh_token", token);
            }
            form.prove_by(secret_file.as_ref().map(|file| file.path.as_path()))?;
        }
    }
    Ok(form.request())
}

/// Returns the request that redeems an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5).
///
/// # Errors
/// The secret cannot be read.
pub(super) fn code(identity: &Identity, code: &Secret, redirect: &str, verifier: &Secret) -> Result<Request, Error> {
    let mut form = Form::new(identity);
    form.add("grant_type", "authorization_code");
    form.add("redirect_uri", redirect);
    form.add_secret("code", code);
    form.add_secret("code_verifier", verifier);
    form.prove_by(secret_path(identity))?;
    Ok(form.request())
}

/// Returns the request that polls whether the person has agreed (RFC 8628 §3.4).
///
/// # Errors
/// The secret cannot be read.
pub(super) fn device_code(identity: &Identity, device_code: &Secret) -> Result<Request, Error> {
    let mut form = Form::new(identity);
    form.add("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
    form.add_secret("device_code", device_code);
    form.prove_by(secret_path(identity))?;
    Ok(form.request())
}

/// Returns the request for a device code (RFC 8628 §3.1).
pub(super) fn device_authorization(identity: &Identity) -> Request {
    let mut form = Form::new(identity);
    form.add("scope", &identity.scope);
    form.request()
}

/// Returns the address where a person signs in (RFC 6749 §4.1.1, RFC 7636 §4.3).
pub(super) fn authorization_url(
    identity: &Identity,
    user: &str,
    redirect: &str,
    state: &str,
    verifier: &Secret,
) -> String {
    let challenge = BASE64URL.encode(crypto::sha256(verifier.expose()));
    let mut pairs = vec![
        ("client_id", identity.client_id.as_str()),
        ("response_type", "code"),
        ("redirect_uri", redirect),
        ("scope", &identity.scope),
        ("state", state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("login_hint", user),
    ];
    if !identity.cloud.is_microsoft() {
        // Google gives a refresh token only to who asks so.
        pairs.extend([("access_type", "offline"), ("prompt", "consent")]);
    }
    format!("{}?{}", identity.authorization_endpoint, http::encode(&pairs).as_str())
}

fn secret_path(identity: &Identity) -> Option<&Path> {
    match &identity.grant {
        Grant::AuthorizationCode(file) | Grant::DeviceCode(file) | Grant::Password(file) => {
            file.as_ref().map(|file| file.path.as_path())
        }
        Grant::ClientCredentials(_) | Grant::Federated(_) | Grant::ManagedIdentity => None,
    }
}

/// Returns the request to Azure's metadata service (IMDS).
fn metadata(identity: &Identity) -> Request {
    let mut pairs = vec![("api-version", "2018-02-01"), ("resource", identity.scope.as_str())];
    if !identity.client_id.is_empty() {
        pairs.push(("client_id", &identity.client_id));
    }
    Request { form: None, query: http::encode(&pairs).to_string(), headers: vec![("Metadata", "true")] }
}

/// A form under construction; it is wiped when it is dropped.
struct Form(Zeroizing<String>);

impl Form {
    fn new(identity: &Identity) -> Self {
        // Large enough that it does not move, and leave copies behind.
        let mut form = Zeroizing::new(String::with_capacity(FORM));
        form.push_str(&http::encode(&[("client_id", &identity.client_id)]));
        Self(form)
    }

    fn add(&mut self, name: &str, value: &str) {
        self.0.push('&');
        self.0.push_str(&http::encode(&[(name, value)]));
    }

    fn add_secret(&mut self, name: &str, value: &Secret) {
        // The value was proven to be UTF-8, or came as JSON.
        self.add(name, std::str::from_utf8(value.expose()).unwrap_or_default());
    }

    fn prove(&mut self, identity: &Identity, credential: Option<&Credential>) -> Result<(), Error> {
        match credential {
            None => Ok(()),
            Some(Credential::Secret(file)) => self.prove_by(Some(&file.path)),
            Some(Credential::Certificate(files)) => {
                let assertion = assertion(identity, files)?;
                self.add("client_assertion_type", ASSERTION_TYPE);
                self.add_secret("client_assertion", &assertion);
                Ok(())
            }
        }
    }

    fn prove_by(&mut self, file: Option<&Path>) -> Result<(), Error> {
        if let Some(file) = file {
            self.add_secret("client_secret", &state::read_secret(file)?);
        }
        Ok(())
    }

    fn request(self) -> Request {
        Request { form: Some(self.0), ..Request::default() }
    }
}

/// Returns a client assertion: a JWT signed with PS256, as Microsoft's identity platform takes it.
fn assertion(identity: &Identity, files: &CertificateFiles) -> Result<Secret, Error> {
    let key = SigningKey::from_pem(&state::read_private_pem(&files.key)?)
        .map_err(|source| Error::Key { path: files.key.clone(), source })?;
    let thumbprint = BASE64URL.encode(crypto::sha256(&certificate::der(&files.chain)?));
    let parts = json::assertion(&thumbprint, &identity.token_endpoint, &identity.client_id, &id()?, unix_time());
    let [header, claims] = parts.ok_or(Error::SignIn("the assertion cannot be written"))?;
    let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let signature = key.ps256(signed.as_bytes())?;
    Ok(Secret::new(format!("{signed}.{}", BASE64URL.encode(signature)).into_bytes()))
}

/// Returns a random GUID of version 4 (RFC 9562 §5.4).
fn id() -> Result<String, Error> {
    let bits = u128::from_be_bytes(crypto::random()?);
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

const FORM: usize = 16 * 1024;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
