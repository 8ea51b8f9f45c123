//! Whom a server must be certified by. A file that `roots` names holds certification authorities, or a server's own
//! certificate, as people have it on premises: that very one is accepted as itself, whatever it is (its name and its dates are
//! checked, and that the server has its key). Nothing else becomes acceptable by that.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, SignatureScheme};
use webpki::RawPublicKeyEntity;

use super::reason;
use crate::config::Roots;
use crate::crypto;
use crate::state;
use crate::transport::downstream::certificate::Facts;

/// Who is trusted.
pub(super) enum Trust {
    /// Certification authorities alone.
    Authorities(RootCertStore),
    /// Those of a file, and the servers whose own certificates stand in it.
    File(Arc<Verifier>),
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
    /// Loads them.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub(super) fn load(roots: &Roots, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
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
                    let why = why.map(|why| format!("SSL_CERT_FILE: {why}"));
                    let none = || "the system has no trusted roots; install ca-certificates".to_owned();
                    return Err(why.unwrap_or_else(none));
                }
            }
            Roots::File(path) => {
                let verifier = Verifier::new(certificates(path)?, provider);
                return verifier.map(Arc::new).map(Self::File).map_err(|why| format!("{}: {why}", path.display()));
            }
        }
        Ok(Self::Authorities(store))
    }
}

/// Digests of the certificates in a file of roots; none where the roots are no file.
pub(super) fn digests(roots: &Roots) -> Result<BTreeSet<[u8; 32]>, String> {
    let Roots::File(path) = roots else { return Ok(BTreeSet::new()) };
    Ok(certificates(path)?.iter().map(|certificate| crypto::sha256(certificate)).collect())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = state::read_pem(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if all.is_empty() { Err(format!("{} holds no certificate in PEM", path.display())) } else { Ok(all) }
}

impl Verifier {
    fn new(certificates: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        let mut own = Vec::new();
        for certificate in certificates {
            // One that webpki cannot read is no authority, and may be a server's own all the same.
            let added = store.add(certificate.clone());
            match (Facts::of(&certificate), added) {
                (Some(facts), _) => own.push(Own { certificate, facts }),
                (None, Ok(())) => {}
                (None, Err(error)) => return Err(error.to_string()),
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

/// What an operator should know of the certificates that `roots` names, for servers of these names.
pub fn remarks(roots: &Roots, hosts: &[String]) -> Vec<String> {
    let Roots::File(path) = roots else { return Vec::new() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut remarks = Vec::new();
    // What is wrong with the file as a whole is said where it is loaded.
    let all = certificates(path).unwrap_or_default();
    let is_single = all.len() == 1;
    for certificate in all {
        let Some(facts) = Facts::of(&certificate) else { continue };
        let Some(host) = hosts.iter().find(|host| facts.is_for(host)).or(hosts.first()) else { continue };
        // Of a whole bundle nobody wants to hear which of its CAs has ended.
        let counts = is_single || facts.is_for(host);
        if let Some(remark) =
            remark(certificate, &facts, host, &provider).filter(|(is_certain, _)| *is_certain || counts)
        {
            remarks.push(format!("{} holds {}: {}", path.display(), facts.subject, remark.1));
        }
    }
    remarks
}

/// What to say of a certificate for this host; and whether that holds whatever it is meant as, CA or server.
fn remark(
    certificate: CertificateDer<'static>,
    facts: &Facts,
    host: &str,
    provider: &Arc<CryptoProvider>,
) -> Option<(bool, String)> {
    let now = UnixTime::now();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds > facts.ends {
        return Some((false, reason::certificate(&CertificateError::Expired, host)));
    }
    if seconds < facts.begins {
        return Some((false, reason::certificate(&CertificateError::NotValidYet, host)));
    }
    if let Some(weakness) = &facts.weakness {
        return Some((false, format!("{weakness}; {}", reason::make(host))));
    }
    let not_for =
        || format!("as the server's own certificate it is for {}, and not for {host}", reason::list(&facts.names));
    // What would be said of it, were it not named itself.
    match alone(certificate, host, now, provider) {
        Ok(()) => None,
        Err(CertificateError::UnknownIssuer) if facts.is_for(host) => Some((
            true,
            "it is accepted as the server's own certificate; name its CA in roots, so that the next one is accepted too"
                .to_owned(),
        )),
        Err(why) if facts.is_for(host) => Some((
            true,
            format!(
                "{}; it is accepted all the same, as the server's own certificate and as nothing else",
                reason::certificate(&why, host)
            ),
        )),
        Err(why) if reason::is_of_authority(&why) => None,
        // webpki looks at these behind the question whether it is a CA's.
        Err(
            CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::InvalidPurposeContext { .. }
            | CertificateError::UnknownIssuer,
        ) => Some((true, format!("it is no CA, and {}", not_for()))),
        Err(_) => Some((false, not_for())),
    }
}

fn alone(
    certificate: CertificateDer<'static>,
    host: &str,
    now: UnixTime,
    provider: &Arc<CryptoProvider>,
) -> Result<(), CertificateError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| CertificateError::BadEncoding)?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates([certificate.clone()]);
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
    let verifier = verifier.map_err(|_| CertificateError::BadEncoding)?;
    match verifier.verify_server_cert(&certificate, &[], &name, &[], now) {
        Err(Error::InvalidCertificate(why)) => Err(why),
        Ok(_) | Err(_) => Ok(()),
    }
}
