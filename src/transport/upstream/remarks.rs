//! Remarks on the certificates that `roots` names: what an operator should know before a server shows one of them.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::reason;
use super::trust::certificates;
use crate::config::Roots;
use crate::transport::downstream::certificate::Facts;

/// Remarks on the certificates that `roots` names, for servers of these names.
pub fn remarks(roots: &Roots, hosts: &[String]) -> Vec<String> {
    let Roots::File(path) = roots else { return Vec::new() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut remarks = Vec::new();
    // Errors of the whole file are reported where it is loaded.
    let all = certificates(path).unwrap_or_default();
    let is_single = all.len() == 1;
    for certificate in all {
        let Some(facts) = Facts::of(&certificate) else { continue };
        let Some(host) = hosts.iter().find(|host| facts.is_for(host)).or(hosts.first()) else { continue };
        // In a bundle, a CA that has expired is no news to the operator.
        let counts = is_single || facts.is_for(host);
        if let Some(remark) =
            remark(certificate, &facts, host, &provider).filter(|(is_certain, _)| *is_certain || counts)
        {
            remarks.push(format!("{} holds {}: {}", path.display(), facts.subject, remark.1));
        }
    }
    remarks
}

/// The remark on a certificate for this host; and whether it holds for a CA and a server alike.
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
    // The remark is the error that the certificate would cause if `roots` did not name it itself.
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
