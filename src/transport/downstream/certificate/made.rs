//! Certificates that packetboat makes: a local certification authority, and leaves by it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

use super::load_pair;
use crate::config::{CertificateFiles, Digest};
use crate::state::{self, Access};
use crate::transport::host;

/// Where the certificate called `name` and its key are kept.
pub(super) fn files(state_directory: &Path, name: &str) -> CertificateFiles {
    CertificateFiles {
        chain: state_directory.join(format!("{name}.pem")),
        key: state_directory.join(format!("{name}.key")),
    }
}

/// Makes the certificate called `name`, and the authority if there is none, and keeps both.
pub(super) fn keep(
    state_directory: &Path,
    name: &str,
    names: &[String],
    digest: Digest,
    years: u32,
) -> Result<(), String> {
    state::make_directory(state_directory)?;
    let authority = authority(state_directory, digest, years)?;
    let files = files(state_directory, name);
    let (leaf, key) = leaf(&authority, &own_or(names), digest, years).map_err(|error| format!("OpenSSL: {error}"))?;
    // The key first: a chain without its key would be taken for a finished one.
    let pem = |error: ErrorStack| format!("OpenSSL: {error}");
    state::write(&files.key, &key.private_key_to_pem_pkcs8().map_err(pem)?, Access::Private)?;
    state::write(&files.chain, &leaf.to_pem().map_err(pem)?, Access::Public)
}

/// Makes a certificate and its key as [`keep`] would, and writes nothing.
pub(super) fn attempt(
    state_directory: &Path,
    names: &[String],
    digest: Digest,
    years: u32,
) -> Result<(X509, PKey<Private>), String> {
    authority_is_whole(state_directory)?;
    state::could_make_directory(state_directory)?;
    let files = authority_files(state_directory);
    if files.chain.exists() {
        load_pair(&files).map_err(|fault| fault.message)?;
    }
    new_authority(digest, years)
        .and_then(|authority| leaf(&authority, &own_or(names), digest, years))
        .map_err(|error| format!("OpenSSL: {error}"))
}

/// The file of the local authority's certificate.
pub fn authority_path(state_directory: &Path) -> PathBuf {
    state_directory.join("ca.pem")
}

struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

fn authority(state_directory: &Path, digest: Digest, years: u32) -> Result<Authority, String> {
    authority_is_whole(state_directory)?;
    let files = authority_files(state_directory);
    if files.chain.exists() {
        let pair = load_pair(&files).map_err(|fault| fault.message)?;
        let certificate = pair.chain.into_iter().next().ok_or("the authority's file is empty")?;
        return Ok(Authority { certificate, key: pair.key });
    }
    let openssl = |error: ErrorStack| format!("OpenSSL: {error}");
    let authority = new_authority(digest, years).map_err(openssl)?;
    // The key first: a certificate without its key would be taken for one that somebody has put away.
    state::write(&files.key, &authority.key.private_key_to_pem_pkcs8().map_err(openssl)?, Access::Private)?;
    state::write(&files.chain, &authority.certificate.to_pem().map_err(openssl)?, Access::Public)?;
    Ok(authority)
}

/// A CA that devices trust is never replaced because its key is not there.
fn authority_is_whole(state_directory: &Path) -> Result<(), String> {
    let files = authority_files(state_directory);
    if files.chain.exists() && !files.key.exists() {
        return Err(format!(
            "{} is missing, the key of the CA in {}: put it back; or remove the CA as well for a new one, which devices \
             then have to import again",
            files.key.display(),
            files.chain.display()
        ));
    }
    Ok(())
}

fn authority_files(state_directory: &Path) -> CertificateFiles {
    CertificateFiles { chain: authority_path(state_directory), key: state_directory.join("ca.key") }
}

fn new_authority(digest: Digest, years: u32) -> Result<Authority, ErrorStack> {
    let key = PKey::from_rsa(Rsa::generate(KEY_BITS)?)?;
    let host = host::name().unwrap_or_default();
    let name = distinguished_name(format!("packetboat CA {host}").trim_end())?;
    let mut builder = begin(&name, &name, &key, years)?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(identifier)?;
    builder.sign(&key, message_digest(digest))?;
    Ok(Authority { certificate: builder.build(), key })
}

/// CN as well as SAN: old devices look at the one, new ones at the other.
fn leaf(
    authority: &Authority,
    names: &[String],
    digest: Digest,
    years: u32,
) -> Result<(X509, PKey<Private>), ErrorStack> {
    let key = PKey::from_rsa(Rsa::generate(KEY_BITS)?)?;
    let subject = distinguished_name(names.first().map_or("packetboat", String::as_str))?;
    let mut builder = begin(&subject, authority.certificate.subject_name(), &key, years)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    // Key encipherment is what a static RSA handshake does with the key.
    builder.append_extension(KeyUsage::new().critical().digital_signature().key_encipherment().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let mut alternative = SubjectAlternativeName::new();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(_) => alternative.ip(name),
            Err(_) => alternative.dns(name),
        };
    }
    let context = builder.x509v3_context(Some(&authority.certificate), None);
    let extensions = [
        alternative.build(&context)?,
        SubjectKeyIdentifier::new().build(&context)?,
        AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
    ];
    for extension in extensions {
        builder.append_extension(extension)?;
    }
    builder.sign(&authority.key, message_digest(digest))?;
    Ok((builder.build(), key))
}

fn begin(
    subject: &X509Name,
    issuer: &X509NameRef,
    key: &PKeyRef<Private>,
    years: u32,
) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(X509_V3)?;
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    let serial: Asn1Integer = serial.to_asn1_integer()?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer)?;
    builder.set_pubkey(key)?;
    builder.set_not_before(Asn1Time::from_str(NOT_BEFORE)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(years.saturating_mul(365).min(LONGEST_DAYS))?.as_ref())?;
    Ok(builder)
}

/// The names that are asked for, or this host's own.
fn own_or(names: &[String]) -> Vec<String> {
    if !names.is_empty() {
        return names.to_vec();
    }
    let addresses = host::addresses().into_iter().map(|address| address.to_string());
    host::name().into_iter().chain(["localhost".to_owned()]).chain(addresses).collect()
}

fn distinguished_name(common_name: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name.get(..64).unwrap_or(common_name))?;
    Ok(name.build())
}

fn message_digest(digest: Digest) -> MessageDigest {
    match digest {
        Digest::Sha1 => MessageDigest::sha1(),
        Digest::Sha256 => MessageDigest::sha256(),
    }
}

const KEY_BITS: u32 = 2048;
/// X.509 counts versions from 0.
const X509_V3: i32 = 2;
/// RFC 5280 §4.1.2.2: positive, up to 20 octets.
const SERIAL_BITS: i32 = 127;
/// A device whose clock has lost its battery starts in 2000 or later, and should not find this "not yet valid".
const NOT_BEFORE: &str = "20000101000000Z";
/// Ends before 2050: later dates are encoded in another way (RFC 5280 §4.1.2.5), which old devices cannot read.
const LONGEST_DAYS: u32 = 23 * 365;
