//! This file makes certificates for the servers that the tests play.

use std::net::IpAddr;
use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use packetboat::state::{self, Access};
use tempfile::TempDir;

/// A CA, and a server certificate that it has signed.
#[derive(Clone)]
pub struct Certificates {
    pub authority: X509,
    pub leaf: X509,
    pub key: PKey<Private>,
}

impl Certificates {
    /// Makes a certificate for this DNS name that ends in `days` days; negative days make it expired.
    pub fn for_name(name: &str, days: i64) -> Self {
        Self::with_key(name, days, PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap())
    }

    /// Makes a certificate for these DNS names and addresses.
    pub fn for_names(names: &[&str], days: i64) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        Self::signed(names, days, key, MessageDigest::sha256())
    }

    /// Makes the same certificate with an ECDSA key.
    pub fn ecdsa_for_name(name: &str, days: i64) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        Self::with_key(name, days, PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap())
    }

    /// Makes the same certificate, signed with SHA-1.
    pub fn sha1_for_name(name: &str, days: i64) -> Self {
        Self::signed(&[name], days, PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap(), MessageDigest::sha1())
    }

    fn with_key(name: &str, days: i64, key: PKey<Private>) -> Self {
        Self::signed(&[name], days, key, MessageDigest::sha256())
    }

    fn signed(names: &[&str], days: i64, key: PKey<Private>, digest: MessageDigest) -> Self {
        let authority_key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let authority_name = named("test CA");
        let of_authority = (&authority_name, &authority_key, MessageDigest::sha256());
        let authority = build(&authority_name, &authority_key, of_authority, &[], 3650);
        let of_leaf = (&authority_name, &authority_key, digest);
        let leaf = build(&named(names[0]), &key, of_leaf, names, days);
        Self { authority, leaf, key }
    }

    /// The same, and a directory of their own in which [`Self::write`] has put them.
    pub fn in_directory(self) -> (Self, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        self.write(directory.path());
        (self, directory)
    }

    /// Reads what [`Self::write`] has written to this directory.
    pub fn read(directory: &Path) -> Self {
        let pem = |name: &str| std::fs::read(directory.join(name)).unwrap();
        let certificate = |name: &str| X509::from_pem(&pem(name)).unwrap();
        let key = PKey::private_key_from_pem(&pem("server.key")).unwrap();
        Self { authority: certificate("ca.pem"), leaf: certificate("server.pem"), key }
    }

    /// Writes `ca.pem`, `server.pem` and `server.key`, which other users cannot read.
    pub fn write(&self, directory: &Path) {
        std::fs::write(directory.join("ca.pem"), self.authority.to_pem().unwrap()).unwrap();
        std::fs::write(directory.join("server.pem"), self.leaf.to_pem().unwrap()).unwrap();
        let key = self.key.private_key_to_pem_pkcs8().unwrap();
        state::write(&directory.join("server.key"), &key, Access::Private).unwrap();
    }
}

fn named(name: &str) -> X509Name {
    let mut builder = X509Name::builder().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn build(
    subject: &X509Name,
    key: &PKey<Private>,
    (issuer, issuer_key, digest): (&X509Name, &PKey<Private>, MessageDigest),
    names: &[&str],
    days: i64,
) -> X509 {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, openssl::bn::MsbOption::MAYBE_ZERO, false).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(key).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    builder.set_not_before(&Asn1Time::from_unix(now - 90 * 86_400).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + days * 86_400).unwrap()).unwrap();
    if names.is_empty() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    } else {
        let mut alternative = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<IpAddr>().is_ok() {
                alternative.ip(name)
            } else {
                alternative.dns(name)
            };
        }
        let context = builder.x509v3_context(None, None);
        let names = alternative.build(&context).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(issuer_key, digest).unwrap();
    builder.build()
}
