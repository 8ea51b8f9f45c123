//! Facts of certificates, client secrets and sign-ins are read from their files now and then: expiry dates, names and
//! the CA.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Admin;
use crate::config::{Certificate, CertificateSource, Config, Credential, Grant};
use crate::metrics::ExpiryKind;
use crate::pool;
use crate::token::TokenStatus;
use crate::transport::downstream::certificate::{self, Description};
use crate::transport::http::server::Response;

/// One expiry date.
#[derive(Clone, Debug)]
pub(super) struct Expiry {
    pub(super) kind: ExpiryKind,
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) until: i64,
    /// The action to take before then.
    pub(super) advice: String,
}

/// The facts that were read from files.
#[derive(Default)]
pub(super) struct Facts {
    expiries: Vec<Expiry>,
    /// The certificates that devices see, by name.
    pub(super) certificates: BTreeMap<String, Description>,
    /// The certification authority that has signed them, if packetboat has made one.
    pub(super) authority: Option<Description>,
}

/// The facts that were read lately.
#[derive(Default)]
pub(super) struct Cached(Option<(Instant, Arc<Facts>)>);

impl Cached {
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

impl Admin {
    /// The facts of certificates and secrets.
    pub(super) async fn facts(&self) -> Arc<Facts> {
        let is_fresh = self.certificate_facts.lock().0.as_ref().is_some_and(|(read, _)| read.elapsed() < AGAIN);
        if !is_fresh {
            let config = self.serving.read().await.config().clone();
            // Files that do not answer leave the earlier values in place.
            if let Ok(facts) = pool::FILES.run_alone(&self.certificates, PATIENCE, move || Facts::read(&config)).await {
                self.certificate_facts.lock().0 = Some((Instant::now(), Arc::new(facts)));
            }
        }
        self.certificate_facts.lock().0.as_ref().map(|(_, facts)| Arc::clone(facts)).unwrap_or_default()
    }

    /// The certificate of the authority, in DER or PEM, as a file to download.
    pub(super) async fn authority(&self, is_der: bool) -> Response {
        let path = certificate::authority_path(&self.serving.read().await.config().state_directory);
        if self.facts().await.authority.is_none() {
            return Response::text(
                404,
                "the certificates are not made by packetboat: devices need the CA of their issuer\n",
            );
        }
        let read =
            move || if is_der { certificate::der(&path) } else { certificate::pem(&path).map(String::into_bytes) };
        let (kind, name) =
            if is_der { ("application/x-x509-ca-cert", "packetboat-ca.cer") } else { (PEM, "packetboat-ca.pem") };
        match pool::FILES.run_within(PATIENCE, read).await {
            Ok(Ok(octets)) => {
                let mut response = Response::of(200, kind, octets);
                response.headers.push(("content-disposition", format!("attachment; filename=\"{name}\"")));
                response
            }
            // The error names a path, which strangers need not know.
            Ok(Err(_)) | Err(_) => Response::text(503, "the CA cannot be read; the log and packetboat check say why\n"),
        }
    }
}

impl Facts {
    fn read(config: &Config) -> Self {
        let is_made = |one: &Certificate| matches!(one.source, CertificateSource::Made { .. });
        let authority = certificate::authority_path(&config.state_directory);
        let describe = |(name, one): (&String, &Certificate)| {
            let path = certificate::chain_path(one, &config.state_directory, name);
            Some((name.clone(), certificate::describe(&path).ok()?))
        };
        Self {
            expiries: file_expiries(config),
            certificates: config.certificates.iter().filter_map(describe).collect(),
            authority: certificate::describe(&authority).ok().filter(|_| config.certificates.values().any(is_made)),
        }
    }

    /// All expiry dates, the earliest first.
    pub(super) fn expiries(&self, tokens: &[TokenStatus]) -> Vec<Expiry> {
        let mut expiries = self.expiries.clone();
        expiries.extend(tokens.iter().filter_map(|status| {
            let until = i64::try_from(status.sign_in_until?).ok()?;
            let advice = format!("packetboat login {}", status.account);
            Some(Expiry { kind: ExpiryKind::RefreshToken, name: status.account.clone(), until, advice })
        }));
        expiries.sort_by_key(|expiry| expiry.until);
        expiries
    }
}

fn file_expiries(config: &Config) -> Vec<Expiry> {
    let mut expiries = Vec::new();
    for (name, one) in &config.certificates {
        let mend = match &one.source {
            CertificateSource::Made { .. } => format!("packetboat certificate renew {name}"),
            CertificateSource::Files(files) => format!("replace {} and its key", files.chain.display()),
        };
        for files in certificate::files(one, &config.state_directory, name) {
            let Ok(read) = certificate::describe(&files.chain) else { continue };
            let kind = ExpiryKind::Certificate;
            expiries.push(Expiry { kind, name: name.clone(), until: read.ends, advice: mend.clone() });
        }
    }
    for (name, identity) in &config.identities {
        if let Grant::ClientCredentials(Credential::Certificate(files)) = &identity.grant
            && let Ok(read) = certificate::describe(&files.chain)
        {
            let advice = format!("packetboat identity renew {name}");
            let kind = ExpiryKind::IdentityCertificate;
            expiries.push(Expiry { kind, name: name.clone(), until: read.ends, advice });
        }
        if let Some(file) = identity.grant.client_secret()
            && let Some(day) = file.expires.and_then(|day| i64::try_from(day).ok())
        {
            let advice = format!("make a new one in the app registration, and put it into {}", file.path.display());
            let kind = ExpiryKind::ClientSecret;
            expiries.push(Expiry { kind, name: name.clone(), until: day.saturating_mul(DAY), advice });
        }
    }
    expiries
}

const PEM: &str = "application/x-pem-file";
/// The longest wait of a page or a metric for files.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(30);
/// A day in seconds.
const DAY: i64 = 24 * 60 * 60;
