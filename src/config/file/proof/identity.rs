//! Identities, proven: each grant with what it needs, and nothing that belongs to another one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use toml::Spanned;

use super::Proof;
use crate::config::file::{IdentitySection, Written};
use crate::config::identity::METADATA_ENDPOINT;
use crate::config::{CertificateFiles, Cloud, Credential, Grant, Identity, Rotation, SecretFile, normalize, url};

/// The grants, before what they need is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GrantKind {
    ClientCredentials,
    AuthorizationCode,
    DeviceCode,
    Password,
    Federated,
    ManagedIdentity,
}

/// An identity provider, and the way to a token there.
#[derive(Clone, Copy)]
pub(super) struct Provider {
    pub(super) cloud: Cloud,
    pub(super) kind: GrantKind,
}

/// The issuer of an identity's tokens, as far as the application's id depends on it.
pub(super) struct Issuer<'a> {
    /// The identity's name and section.
    pub(super) name: &'a str,
    pub(super) section: &'a Range<usize>,
    pub(super) kind: GrantKind,
    /// The directory; may be empty.
    pub(super) tenant: &'a str,
    /// The tokens come from a cloud of Microsoft's, where ids are GUIDs.
    pub(super) is_microsoft: bool,
}

const GRANTS: &[(&str, GrantKind)] = &[
    ("client-credentials", GrantKind::ClientCredentials),
    ("authorization-code", GrantKind::AuthorizationCode),
    ("device-code", GrantKind::DeviceCode),
    ("password", GrantKind::Password),
    ("federated", GrantKind::Federated),
    ("managed-identity", GrantKind::ManagedIdentity),
];

const ROTATIONS: &[(&str, Rotation)] = &[("strict", Rotation::Strict), ("lenient", Rotation::Lenient)];

impl Proof<'_> {
    pub(super) fn identities(&mut self, raw: BTreeMap<String, Spanned<IdentitySection>>) -> BTreeMap<String, Identity> {
        raw.into_iter().filter_map(|(name, section)| Some((name.clone(), self.identity(&name, section)?))).collect()
    }

    fn identity(&mut self, name: &str, raw: Spanned<IdentitySection>) -> Option<Identity> {
        let section = raw.span();
        let key = |key: &str| format!("identity.{name}.{key}");
        self.note(&format!("identity.{name}"), &section);
        let mut raw = raw.into_inner();
        if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')) {
            self.problem(
                Some(section.clone()),
                &format!("identity.{name}"),
                "a name is made of letters, digits, - and _",
            );
        }
        let cloud_is_written = raw.cloud.is_some();
        let cloud = self.choice(&key("cloud"), raw.cloud.take(), &Cloud::ALL).unwrap_or(Cloud::Worldwide);
        let grant_span = raw.grant.as_ref().map_or_else(|| section.clone(), Spanned::span);
        let kind = self.choice(&key("grant"), raw.grant.take(), GRANTS).unwrap_or(GrantKind::ClientCredentials);
        self.fits_cloud(&key("grant"), cloud, kind, grant_span.clone());
        self.warn_of_grant(&key("grant"), cloud, kind, grant_span);
        let provider = Provider { cloud, kind };
        let tenant = self.directory(name, &section, provider, &mut raw);
        let authority = raw
            .authority
            .take()
            .map_or_else(|| cloud.authority().to_owned(), |written| self.url(&key("authority"), written));
        let authority = normalize::authority(&authority, &tenant).to_owned();
        let [token, authorization, device] = cloud.oauth_endpoints(&authority, &tenant);
        let token = if kind == GrantKind::ManagedIdentity { METADATA_ENDPOINT.to_owned() } else { token };
        let endpoint = |proof: &mut Self, word: &str, written: Written<String>, default: String| {
            written.map_or(default, |written| proof.url(&key(word), written))
        };
        let token_endpoint = endpoint(self, "token_endpoint", raw.token_endpoint.take(), token);
        let authorization_endpoint =
            endpoint(self, "authorization_endpoint", raw.authorization_endpoint.take(), authorization);
        let device_endpoint = endpoint(self, "device_endpoint", raw.device_endpoint.take(), device);
        let from_cloud = url::host(&token_endpoint).is_some_and(|host| url::is_one_of(host, cloud.token_hosts()));
        let tokens_are_of_cloud = from_cloud || cloud_is_written || kind == GrantKind::ManagedIdentity;
        let is_microsoft = cloud.is_microsoft() && tokens_are_of_cloud;
        let issuer = Issuer { name, section: &section, kind, tenant: &tenant, is_microsoft };
        let client_id = self.client_id(&issuer, raw.client_id.take());
        let scope = self.scope(name, is_microsoft, provider, &mut raw);
        let roots = self.roots(&key("roots"), raw.roots.take());
        let usual = if tokens_are_of_cloud { Rotation::Lenient } else { Rotation::Strict };
        let rotation = self.choice(&key("rotation"), raw.rotation.take(), ROTATIONS).unwrap_or(usual);
        let grant = self.grant(name, &section, provider, &mut raw);
        Some(Identity {
            cloud,
            tokens_are_of_cloud,
            authority,
            tenant,
            client_id,
            grant: grant?,
            scope,
            token_endpoint,
            authorization_endpoint,
            device_endpoint,
            roots,
            rotation,
        })
    }

    fn fits_cloud(&mut self, key: &str, cloud: Cloud, kind: GrantKind, span: Range<usize>) {
        if cloud == Cloud::Google && kind != GrantKind::AuthorizationCode {
            let message = "Google gives mail to people alone, and only by grant = \"authorization-code\"";
            self.problem(Some(span), key, message);
        }
    }

    fn warn_of_grant(&mut self, key: &str, cloud: Cloud, kind: GrantKind, span: Range<usize>) {
        if !cloud.is_microsoft() {
            return;
        }
        let warning = match kind {
            GrantKind::Password => {
                "sends a person's password to the token endpoint, fails as soon as a second factor is asked for, and \
                 Microsoft is doing away with it; use \"client-credentials\""
            }
            GrantKind::DeviceCode => {
                "is blocked by a policy that Microsoft switches on by itself (\"Block device code flow\"); use \
                 \"client-credentials\", or \"authorization-code\""
            }
            GrantKind::ClientCredentials
            | GrantKind::AuthorizationCode
            | GrantKind::Federated
            | GrantKind::ManagedIdentity => return,
        };
        self.warn(Some(span), key, warning);
    }

    /// The grant with what it needs. A key of another grant is a mistake.
    fn grant(
        &mut self,
        name: &str,
        section: &Range<usize>,
        provider: Provider,
        raw: &mut IdentitySection,
    ) -> Option<Grant> {
        let Provider { cloud, kind } = provider;
        self.unfit_keys(name, kind, raw);
        let secret = self.secret(name, raw);
        let files = self.certificate_and_key(name, raw)?;
        let missing = |proof: &mut Self, key: &str, message: &str| {
            proof.problem(Some(section.clone()), &format!("identity.{name}{key}"), message);
            None
        };
        match kind {
            GrantKind::ClientCredentials => match (secret, files) {
                (Some(secret), None) => Some(Grant::ClientCredentials(Credential::Secret(secret))),
                (None, Some(files)) => Some(Grant::ClientCredentials(Credential::Certificate(files))),
                (Some(_), Some(_)) => missing(
                    self,
                    "",
                    "has both a secret and a certificate; keep the certificate, and remove client_secret_file",
                ),
                (None, None) => missing(
                    self,
                    "",
                    "has nothing to prove itself with; write certificate and key, or client_secret_file",
                ),
            },
            GrantKind::AuthorizationCode if cloud == Cloud::Google && secret.is_none() => {
                let message = "is missing; Google gives a client secret to every application, also to installed ones";
                missing(self, ".client_secret_file", message)
            }
            GrantKind::AuthorizationCode => Some(Grant::AuthorizationCode(secret)),
            GrantKind::DeviceCode => Some(Grant::DeviceCode(secret)),
            GrantKind::Password => Some(Grant::Password(secret)),
            GrantKind::ManagedIdentity => Some(Grant::ManagedIdentity),
            GrantKind::Federated => match raw.token_file.take() {
                Some(file) => Some(Grant::Federated(file.into_inner())),
                None => {
                    let message = "is missing; write the path that AZURE_FEDERATED_TOKEN_FILE has in the container";
                    missing(self, ".token_file", message)
                }
            },
        }
    }

    /// Reports the keys that belong to another grant.
    fn unfit_keys(&mut self, name: &str, kind: GrantKind, raw: &IdentitySection) {
        let keys = [
            ("client_secret_file", &raw.client_secret_file),
            ("certificate", &raw.certificate),
            ("key", &raw.key),
            ("token_file", &raw.token_file),
        ];
        for (word, written) in keys {
            let Some(span) = written.as_ref().map(Spanned::span) else { continue };
            let key = format!("identity.{name}.{word}");
            self.note(&key, &span);
            let fits = match word {
                "client_secret_file" => !matches!(kind, GrantKind::Federated | GrantKind::ManagedIdentity),
                "token_file" => kind == GrantKind::Federated,
                _ => kind == GrantKind::ClientCredentials,
            };
            if !fits {
                self.problem(Some(span), &key, "does not go with this grant; remove it");
            }
        }
    }

    /// Certificate and key, where the identity has them; `None` where one of the two is missing.
    fn certificate_and_key(&mut self, name: &str, raw: &mut IdentitySection) -> Option<Option<CertificateFiles>> {
        let (span, key, message) = match (raw.certificate.take(), raw.key.take()) {
            (Some(chain), Some(key)) => {
                return Some(Some(CertificateFiles { chain: chain.into_inner(), key: key.into_inner() }));
            }
            (None, None) => return Some(None),
            (Some(lonely), None) => (lonely.span(), "certificate", "needs its key beside it: write key = \"...\""),
            (None, Some(lonely)) => (lonely.span(), "key", "needs its certificate: write certificate = \"...\""),
        };
        self.problem(Some(span), &format!("identity.{name}.{key}"), message);
        None
    }

    fn secret(&mut self, name: &str, raw: &mut IdentitySection) -> Option<SecretFile> {
        let key = format!("identity.{name}.client_secret_expires");
        let expires = raw.client_secret_expires.take().and_then(|written| {
            self.note(&key, &written.span());
            let day = humantime::parse_rfc3339_weak(&format!("{} 00:00:00", written.get_ref().text()));
            match day.map(|day| day.duration_since(UNIX_EPOCH)) {
                Ok(Ok(since)) => Some((since.as_secs() / DAY.as_secs(), written.span())),
                Ok(Err(_)) | Err(_) => {
                    self.problem(Some(written.span()), &key, "is a day, written as \"2027-11-21\"");
                    None
                }
            }
        });
        let path: Option<PathBuf> = raw.client_secret_file.take().map(Spanned::into_inner);
        if let (None, Some((_, span))) = (&path, &expires) {
            self.problem(Some(span.clone()), &key, "has a meaning beside client_secret_file alone");
        }
        path.map(|path| SecretFile { path, expires: expires.map(|(day, _)| day) })
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
