//! rustls is configured here, for every server alike: TLS 1.2 and 1.3, and the roots that are trusted.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rustls::{CipherSuite, ClientConfig};

use super::trust::{RootsError, Trust};
use crate::config::Roots;

/// TLS that cannot be prepared.
#[derive(Debug)]
pub enum ConfigError {
    /// The roots cannot be loaded.
    Roots(RootsError),
    /// rustls does not take the configuration.
    Rustls(rustls::Error),
}

/// Loads the roots and prepares TLS.
pub(super) fn client_config(roots: &Roots) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // AES-128-GCM with SHA-256 comes first where the choice is ours, then the rest in rustls's order. Processors have
    // SHA-256 built in and not SHA-384, on which a TLS 1.3 handshake spends a quarter of its time. Exchange Online
    // makes its own choice.
    provider.cipher_suites.sort_by_key(|suite| !matches!(suite.suite(), CipherSuite::TLS13_AES_128_GCM_SHA256));
    let provider = Arc::new(provider);
    let trust = Trust::load(roots, &provider).map_err(ConfigError::Roots)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(ConfigError::Rustls)?;
    let config = match trust {
        Trust::Authorities(store) => config.with_root_certificates(store),
        Trust::File(verifier) => config.dangerous().with_custom_certificate_verifier(verifier),
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(error) => error.fmt(f),
            Self::Rustls(error) => write!(f, "rustls: {error}"),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Roots(error) => Some(error),
            Self::Rustls(error) => Some(error),
        }
    }
}
