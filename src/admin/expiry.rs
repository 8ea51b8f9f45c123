//! Expiry dates of certificates, client secrets and sign-ins are read from their files now and then.

use std::time::Duration;

use tokio::time::Instant;

use super::Admin;
use crate::config::{CertificateSource, Config, Credential, Grant};
use crate::metrics::ExpiryKind;
use crate::pool;
use crate::token::TokenStatus;
use crate::transport::downstream::certificate;

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

/// The expiry dates that were read from files lately.
#[derive(Default)]
pub(super) struct ReadExpiries(Option<(Instant, Vec<Expiry>)>);

impl ReadExpiries {
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

impl Admin {
    /// All expiry dates, the earliest first.
    pub(super) async fn expiries(&self, tokens: &[TokenStatus]) -> Vec<Expiry> {
        let is_fresh = self.expiries.lock().0.as_ref().is_some_and(|(read, _)| read.elapsed() < AGAIN);
        if !is_fresh {
            let config = self.serving.read().await.config().clone();
            // Files that do not answer leave the earlier values in place.
            if let Ok(read) = pool::FILES.run_alone(&self.certificates, PATIENCE, move || file_expiries(&config)).await
            {
                self.expiries.lock().0 = Some((Instant::now(), read));
            }
        }
        let mut expiries = self.expiries.lock().0.as_ref().map(|(_, read)| read.clone()).unwrap_or_default();
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
            let advice = format!("upload a new one to the app registration, and replace {}", files.chain.display());
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

/// The longest wait of a page or a metric for files.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(30);
/// A day in seconds.
const DAY: i64 = 24 * 60 * 60;
