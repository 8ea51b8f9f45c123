//! This file decides which certificates of mail servers are accepted. A file that `roots` names holds certification
//! authorities, or a server's own certificate, as is usual on premises. That very certificate is accepted as itself;
//! its name, its dates and the server's key are still checked. No other certificate becomes acceptable by it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme};
use webpki::RawPublicKeyEntity;

use crate::config::Roots;
use crate::crypto;
use crate::state;
use crate::transport::downstream::certificate::Facts;

/// The certificates that are trusted.
pub(super) enum Trust {
    /// The certification authorities alone.
    Authorities(RootCertStore),
    /// The authorities in a file, and the servers whose own certificates stand in it.
    File(Arc<Verifier>),
}

/// Roots that cannot be loaded.
#[derive(Debug)]
pub enum RootsError {
    /// The file cannot be read.
    Unreadable(state::Error),
    /// The file is no PEM.
    NoPem(PathBuf, pem::Error),
    /// The file holds no certificate.
    Empty(PathBuf),
    /// A certificate in the file makes no sense.
    Refused(PathBuf, Error),
    /// The file that SSL_CERT_FILE names cannot be loaded, and the system has no other roots.
    NamedByEnvironment(Box<RootsError>),
    /// The system has no roots.
    NoneInSystem,
}

/// A server's own certificate.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    facts: Facts,
}

/// Accepts what chains to an authority, and a server's own certificate as itself.
#[derive(Debug)]
pub(super) struct Verifier {
    own: Vec<Own>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Loads the roots.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub(super) fn load(roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        match roots {
            Roots::Bundled => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                // Read once more by us, who drop byte order marks, and say what is wrong with it.
                let named = std::env::var_os("SSL_CERT_FILE").map(|path| certificates(Path::new(&path)));
                let (found, why) = named.map_or((Vec::new(), None), |named| match named {
                    Ok(found) => (found, None),
                    Err(why) => (Vec::new(), Some(why)),
                });
                store.add_parsable_certificates(found);
                if store.is_empty() {
                    let named = why.map(|why| RootsError::NamedByEnvironment(Box::new(why)));
                    return Err(named.unwrap_or(RootsError::NoneInSystem));
                }
            }
            Roots::File(path) => {
                let verifier = Verifier::new(certificates(path)?, provider);
                return verifier.map(Arc::new).map(Self::File).map_err(|why| RootsError::Refused(path.clone(), why));
            }
        }
        Ok(Self::Authorities(store))
    }
}

/// Digests of the certificates in a file of roots; none where the roots are no file.
pub(super) fn digests(roots: &Roots) -> Result<BTreeSet<[u8; 32]>, RootsError> {
    let Roots::File(path) = roots else { return Ok(BTreeSet::new()) };
    Ok(certificates(path)?.iter().map(|certificate| crypto::sha256(certificate)).collect())
}

/// The certificates in a PEM file.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RootsError> {
    let pem = state::read_pem(path).map_err(RootsError::Unreadable)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| RootsError::NoPem(path.to_owned(), error))?;
    if all.is_empty() { Err(RootsError::Empty(path.to_owned())) } else { Ok(all) }
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::NoPem(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Empty(path) => write!(f, "{} holds no certificate in PEM", path.display()),
            Self::Refused(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NamedByEnvironment(error) => write!(f, "SSL_CERT_FILE: {error}"),
            Self::NoneInSystem => f.write_str("the system has no trusted roots; install ca-certificates"),
        }
    }
}

impl std::error::Error for RootsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoPem(_, error) => Some(error),
            Self::Refused(_, error) => Some(error),
            Self::NamedByEnvironment(error) => Some(error),
            Self::Unreadable(error) => Some(error),
            Self::Empty(_) | Self::NoneInSystem => None,
        }
    }
}

impl Verifier {
    fn new(certificates: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        let mut own = Vec::new();
        for certificate in certificates {
            // One that webpki cannot read is no authority, and may be a server's own all the same.
            let added = store.add(certificate.clone());
            match (Facts::of(&certificate), added) {
                (Some(facts), _) => own.push(Own { certificate, facts }),
                (None, Ok(())) => {}
                (None, Err(error)) => return Err(error),
            }
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
        // No authority among them: nothing but the servers' own certificates is accepted.
        Ok(Self { own, authorities: builder.build().ok(), algorithms: provider.signature_verification_algorithms })
    }

    fn own(&self, certificate: &CertificateDer<'_>) -> Option<&Own> {
        self.own.iter().find(|own| own.certificate == *certificate)
    }

    /// The key of a certificate of X.509 version 1 is not read by webpki, so that of the file is used.
    fn is_signed(
        &self,
        own: &Own,
        message: &[u8],
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let Some((_, algorithms)) = known else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        let key = SubjectPublicKeyInfoDer::from(own.facts.key.as_slice());
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        // A scheme of TLS 1.2 does not say on which curve the key is: the algorithm that fits it has a say.
        let is_valid = |one: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
            key.verify_signature(**one, message, signed.signature()).is_ok()
        };
        match algorithms.iter().find(is_valid) {
            Some(_) => Ok(HandshakeSignatureValid::assertion()),
            None => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl Own {
    fn accept(&self, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
        let time =
            |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or_default()));
        let (not_before, not_after) = (time(self.facts.begins), time(self.facts.ends));
        if now.as_secs() < not_before.as_secs() {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now.as_secs() > not_after.as_secs() {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        if !self.facts.is_for(&name.to_str()) {
            let (expected, presented) = (name.to_owned(), self.facts.names.clone());
            return Err(CertificateError::NotValidForNameContext { expected, presented }.into());
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (self.own(certificate), &self.authorities) {
            (Some(own), _) => own.accept(name, now),
            (None, Some(chain)) => chain.verify_server_cert(certificate, intermediates, name, stapled, now),
            (None, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.own(certificate) {
            Some(own) => self.is_signed(own, message, signed),
            None => rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.own(certificate) {
            Some(own) => {
                let key = SubjectPublicKeyInfoDer::from(own.facts.key.as_slice());
                rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
            }
            None => rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    /// The root that Exchange Online's chain has ended in since spring 2026.
    #[test]
    fn the_bundled_roots_hold_digicert_global_root_g2() {
        let name = b"DigiCert Global Root G2";
        let found = webpki_roots::TLS_SERVER_ROOTS
            .iter()
            .any(|anchor| anchor.subject.as_ref().windows(name.len()).any(|window| window == name));
        assert!(found);
    }
}
