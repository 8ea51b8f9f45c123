//! Facts of a server's own certificate, whatever its X.509 version: webpki reads version 3 alone. Only files that the
//! operator names are read, never what a peer sends.

use std::net::IpAddr;

use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::x509::{X509, X509Ref};

use super::{local_ca, name_of, names_of};

/// The facts of a certificate.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The subject, as `CN = mail.example`.
    pub subject: String,
    /// The DNS names and addresses of subjectAltName; of CN, where there is no subjectAltName.
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub begins: i64,
    /// Seconds since 1970.
    pub ends: i64,
    /// The key: a SubjectPublicKeyInfo in DER.
    pub key: Vec<u8>,
    /// The reason why TLS does not work with its key.
    pub weakness: Option<String>,
}

impl Facts {
    /// Reads a certificate in DER; none for anything else.
    pub fn of(der: &[u8]) -> Option<Self> {
        super::super::library::start();
        let certificate = X509::from_der(der).ok()?;
        let key = certificate.public_key().ok()?;
        let weakness = match key.id() {
            Id::RSA if key.bits() < 2048 => Some(format!("its RSA key has {} bits, and TLS needs 2048", key.bits())),
            Id::RSA | Id::EC | Id::ED25519 => None,
            _ => Some("its key is neither RSA nor ECDSA".to_owned()),
        };
        Some(Self {
            subject: name_of(certificate.subject_name()),
            names: names(&certificate),
            begins: local_ca::seconds(certificate.not_before()).ok()?,
            ends: local_ca::seconds(certificate.not_after()).ok()?,
            key: key.public_key_to_der().ok()?,
            weakness,
        })
    }

    /// Returns whether it is for this DNS name or address. A `*` stands for one whole label, the first (RFC 6125
    /// §6.4.3).
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.names.iter().any(|name| name.parse() == Ok(address));
        }
        let is = |name: &String| match name.strip_prefix("*.") {
            Some(domain) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain)),
            None => name.eq_ignore_ascii_case(host),
        };
        self.names.iter().any(is)
    }
}

fn names(certificate: &X509Ref) -> Vec<String> {
    if certificate.subject_alt_names().is_some() {
        return names_of(certificate);
    }
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    common.filter_map(|entry| entry.data().to_string().ok()).collect()
}
