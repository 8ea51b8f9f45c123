//! Certificates that end too late: devices that keep time in 32 bits cannot read a date after 2038-01-19.
//!
//! Such a device takes the date for a mistake, or for 1901, and does not trust the certificate (or any below it).

use std::path::Path;

use openssl::x509::{X509, X509Ref};

use super::{chain, local_ca};
use crate::config::{Certificate, CertificateSource};
use crate::diagnostic::Diagnostic;

/// Returns a warning about `years`, before anything is made.
pub(super) fn to_be_made(certificate: &Certificate) -> Option<Diagnostic> {
    let CertificateSource::Made { years: Some(years), .. } = certificate.source else { return None };
    let message = || format!("with {years} years it will end after 2038-01-19, {UNREADABLE}: leave years out");
    (local_ca::end_in(years)? > i64::from(i32::MAX)).then(|| Diagnostic::new("years", message()))
}

/// Returns a warning about the chain that devices are shown.
pub(super) fn of_chain(certificate: &Certificate, path: &Path, name: &str) -> Option<Diagnostic> {
    let chain = chain(path).ok()?;
    let late = chain.iter().find(|one| is_late(one))?;
    let (key, mend) = match &certificate.source {
        CertificateSource::Files(_) => ("chain", "such devices need one that ends before".to_owned()),
        CertificateSource::Made { years: None, .. } => ("", format!("packetboat certificate renew {name}")),
        CertificateSource::Made { .. } => {
            ("years", format!("leave years out, then packetboat certificate renew {name}"))
        }
    };
    let (path, end) = (path.display(), late.not_after());
    Some(Diagnostic::new(key, format!("{path} ends after 2038-01-19 ({end}), {UNREADABLE}: {mend}")))
}

/// Returns warnings about the local authority, which stays whatever its end: devices have imported it.
pub(super) fn of_authority(state_directory: &Path, leaf: &X509Ref) -> Vec<Diagnostic> {
    let path = local_ca::authority_path(state_directory);
    let Some(authority) = chain(&path).ok().and_then(|chain: Vec<X509>| chain.into_iter().next()) else {
        return Vec::new();
    };
    let anew =
        "for a new one, stop packetboat, remove ca.pem and ca.key and the certificates by it, and import it again";
    let mut remarks = Vec::new();
    if is_late(&authority) {
        let (path, end) = (path.display(), authority.not_after());
        remarks.push(Diagnostic::new(
            "",
            format!(
                "the CA {path} ends after 2038-01-19 ({end}), {UNREADABLE}. It stays, because devices trust it; {anew}"
            ),
        ));
    }
    if leaf.not_after() > authority.not_after() {
        let (path, end) = (path.display(), authority.not_after());
        remarks.push(Diagnostic::new("", format!("the CA {path} ends before the certificate ({end}): {anew}")));
    }
    remarks
}

fn is_late(certificate: &X509Ref) -> bool {
    local_ca::seconds(certificate.not_after()).is_ok_and(|end| end > i64::from(i32::MAX))
}

const UNREADABLE: &str = "which devices with 32-bit time cannot read";
