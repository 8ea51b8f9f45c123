//! rustls is configured here, for every server alike: TLS 1.2 and 1.3, and the roots that are trusted.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CipherSuite, ClientConfig, ConfigBuilder};

use super::trust::{RootsError, Trust, certificates};
use crate::config::{CertificateFiles, Roots};
use crate::state;

/// TLS that cannot be prepared.
#[derive(Debug)]
pub enum ConfigError {
    /// The roots cannot be loaded.
    Roots(RootsError),
    /// rustls does not take the configuration.
    Rustls(rustls::Error),
    /// The client certificate cannot be read.
    ClientCertificate(RootsError),
    /// The key of the client certificate cannot be read.
    ClientKey(state::Error),
    /// The file of the key holds none that is usable, or one of another certificate.
    NoClientKey(PathBuf),
}

/// Loads the roots and prepares TLS.
pub(super) fn client_config(roots: &Roots) -> Result<Arc<ClientConfig>, ConfigError> {
    Ok(Arc::new(builder(roots)?.with_no_client_auth()))
}

/// The same with a certificate that is shown to servers which want one.
pub(super) fn with_certificate(roots: &Roots, files: &CertificateFiles) -> Result<Arc<ClientConfig>, ConfigError> {
    let chain = certificates(&files.chain).map_err(ConfigError::ClientCertificate)?;
    let pem = state::read_private_pem(&files.key).map_err(ConfigError::ClientKey)?;
    let no_key = || ConfigError::NoClientKey(files.key.clone());
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    Ok(Arc::new(builder(roots)?.with_client_auth_cert(chain, key).map_err(|_| no_key())?))
}

fn builder(roots: &Roots) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ConfigError> {
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
    Ok(match trust {
        Trust::Authorities(store) => config.with_root_certificates(store),
        Trust::File(verifier) => config.dangerous().with_custom_certificate_verifier(verifier),
    })
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(error) => error.fmt(f),
            Self::Rustls(error) => write!(f, "rustls: {error}"),
            Self::ClientCertificate(error) => error.fmt(f),
            Self::ClientKey(error) => error.fmt(f),
            Self::NoClientKey(path) => write!(
                f,
                "{} holds no private key that fits the client certificate; it needs a key in PEM that is not encrypted",
                path.display()
            ),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Roots(error) | Self::ClientCertificate(error) => Some(error),
            Self::Rustls(error) => Some(error),
            Self::ClientKey(error) => Some(error),
            Self::NoClientKey(_) => None,
        }
    }
}
