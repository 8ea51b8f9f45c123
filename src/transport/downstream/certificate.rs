//! What the device is shown: made by a local certification authority on first start, or the operator's own files.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::ssl::SslContextBuilder;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509Ref};

use crate::config::{Certificate, CertificateFiles, CertificateSource, Digest};
use crate::state::{self, Access};
use crate::transport::host;

/// What to do about a certificate that is to be made and has not been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// Make it, and keep it in the state directory.
    Kept,
    /// Make one to try, and write nothing.
    Tried,
}

/// Why a certificate cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key of the certificate's section that it is about; empty where it is about the whole.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A certificate with its chain and key, and the same in ECDSA where there is one.
pub struct Loaded {
    rsa: Pair,
    ecdsa: Option<Pair>,
}

/// A chain that has been read, and the key of its first certificate.
struct Pair {
    /// None where it was only made to try.
    file: Option<PathBuf>,
    chain: Vec<X509>,
    key: PKey<Private>,
}

/// What an operator wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The file it stands in.
    pub path: PathBuf,
    /// As `CN = mail.example`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// As OpenSSL prints it.
    pub not_after: String,
    /// Days until then; negative behind it.
    pub days_left: i32,
    /// In hexadecimal, with colons, as devices show it.
    pub sha256: String,
    /// In hexadecimal, with colons, as old devices show it.
    pub sha1: String,
}

/// Loads the certificate called `name`, and makes it first where that is asked for and has not been done.
///
/// # Errors
/// A file is missing, unreadable, no PEM, or does not fit the other; the text names it.
pub fn load(certificate: &Certificate, state_directory: &Path, name: &str, making: Making) -> Result<Loaded, Fault> {
    super::library::start();
    let of_whole = |message| Fault { key: "", message };
    let rsa = match &certificate.source {
        CertificateSource::Files(files) => load_pair(files)?,
        CertificateSource::Made { names, digest, years } => {
            let files = made_files(state_directory, name);
            let is_made = files.chain.exists() && files.key.exists();
            match making {
                _ if is_made => load_pair(&files)?,
                Making::Kept => {
                    make(state_directory, name, names, *digest, *years).map_err(of_whole)?;
                    load_pair(&files)?
                }
                Making::Tried => {
                    authority_is_whole(state_directory).map_err(of_whole)?;
                    state::could_make_directory(state_directory).map_err(of_whole)?;
                    let openssl = |error: ErrorStack| of_whole(format!("OpenSSL: {error}"));
                    let authority = new_authority(*digest, *years).map_err(openssl)?;
                    let (leaf, key) = leaf(&authority, &own_or(names), *digest, *years).map_err(openssl)?;
                    Pair { file: None, chain: vec![leaf], key }
                }
            }
        }
    };
    if rsa.key.id() != Id::RSA {
        return Err(Fault {
            key: "chain",
            message: format!(
                "{} is not an RSA certificate, which old devices need; give it as ecdsa_chain and ecdsa_key beside one",
                rsa.shown()
            ),
        });
    }
    let of_ecdsa = |fault: Fault| Fault { key: if fault.key == "key" { "ecdsa_key" } else { "ecdsa_chain" }, ..fault };
    let ecdsa = certificate.ecdsa.as_ref().map(load_pair).transpose().map_err(of_ecdsa)?;
    if let Some(pair) = ecdsa.as_ref().filter(|pair| pair.key.id() != Id::EC) {
        return Err(Fault { key: "ecdsa_chain", message: format!("{} is not an ECDSA certificate", pair.shown()) });
    }
    Ok(Loaded { rsa, ecdsa })
}

/// Makes the certificate called `name` anew; the authority stays, so devices that trust it go on doing so.
///
/// # Errors
/// The state directory cannot be written.
pub fn renew(certificate: &Certificate, state_directory: &Path, name: &str) -> Result<(), String> {
    super::library::start();
    match &certificate.source {
        CertificateSource::Made { names, digest, years } => make(state_directory, name, names, *digest, *years),
        CertificateSource::Files(files) => {
            Err(format!("{} is your own file: replace it with a new one", files.chain.display()))
        }
    }
}

/// The file that a certificate's chain stands in.
pub fn chain_path(certificate: &Certificate, state_directory: &Path, name: &str) -> PathBuf {
    match &certificate.source {
        CertificateSource::Files(files) => files.chain.clone(),
        CertificateSource::Made { .. } => made_files(state_directory, name).chain,
    }
}

/// The file of the local authority's certificate.
pub fn authority_path(state_directory: &Path) -> PathBuf {
    state_directory.join("ca.pem")
}

/// Reads the first certificate of a PEM file.
///
/// # Errors
/// Missing, unreadable, or no PEM.
pub fn describe(path: &Path) -> Result<Description, String> {
    let certificate = first(path)?;
    let fingerprint = |digest| certificate.digest(digest).map(|octets| colons(&octets)).unwrap_or_default();
    let days_left =
        Asn1Time::days_from_now(0).and_then(|now| now.diff(certificate.not_after())).map_or(0, |diff| diff.days);
    Ok(Description {
        path: path.to_path_buf(),
        subject: name_of(certificate.subject_name()),
        issuer: name_of(certificate.issuer_name()),
        names: names_of(&certificate),
        not_after: certificate.not_after().to_string(),
        days_left,
        sha256: fingerprint(MessageDigest::sha256()),
        sha1: fingerprint(MessageDigest::sha1()),
    })
}

/// The first certificate of a PEM file in DER, as many devices import it.
///
/// # Errors
/// Missing, unreadable, or no PEM.
pub fn der(path: &Path) -> Result<Vec<u8>, String> {
    first(path)?.to_der().map_err(|error| format!("{}: {error}", path.display()))
}

impl Pair {
    fn shown(&self) -> String {
        self.file.as_ref().map_or_else(|| "the certificate".to_owned(), |file| file.display().to_string())
    }
}

impl Loaded {
    /// Whether there is an ECDSA certificate beside the RSA one.
    pub(super) fn has_ecdsa(&self) -> bool {
        self.ecdsa.is_some()
    }

    /// Puts chain and key into a context.
    pub(super) fn install(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        for pair in self.ecdsa.iter().chain([&self.rsa]) {
            // By file, because that is the one call that ties the rest of a chain to its own leaf.
            match (&pair.file, pair.chain.first()) {
                (Some(file), _) => context.set_certificate_chain_file(file)?,
                (None, Some(leaf)) => context.set_certificate(leaf)?,
                (None, None) => {}
            }
            context.set_private_key(&pair.key)?;
        }
        Ok(())
    }
}

fn load_pair(files: &CertificateFiles) -> Result<Pair, Fault> {
    let chain = chain(&files.chain).map_err(|message| Fault { key: "chain", message })?;
    let of_key = |message| Fault { key: "key", message };
    let pem = state::read_private(&files.key).map_err(of_key)?;
    // The callback keeps OpenSSL from asking for a passphrase on the terminal.
    let key = PKey::private_key_from_pem_callback(&pem, |_| Ok(0))
        .map_err(|_| of_key(format!("{} holds no private key in PEM without a passphrase", files.key.display())))?;
    let fits = chain.first().and_then(|leaf| leaf.public_key().ok()).is_some_and(|public| public.public_eq(&key));
    if !fits {
        return Err(of_key(format!(
            "{} is not the key of the first certificate in {}; the device's certificate comes first in the chain",
            files.key.display(),
            files.chain.display()
        )));
    }
    Ok(Pair { file: Some(files.chain.clone()), chain, key })
}

fn chain(path: &Path) -> Result<Vec<X509>, String> {
    super::library::start();
    let pem = state::read(path)?;
    match X509::stack_from_pem(&pem) {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

fn first(path: &Path) -> Result<X509, String> {
    chain(path)?.into_iter().next().ok_or_else(|| format!("{} holds no certificate in PEM", path.display()))
}

fn made_files(state_directory: &Path, name: &str) -> CertificateFiles {
    CertificateFiles {
        chain: state_directory.join(format!("{name}.pem")),
        key: state_directory.join(format!("{name}.key")),
    }
}

fn make(state_directory: &Path, name: &str, names: &[String], digest: Digest, years: u32) -> Result<(), String> {
    state::make_directory(state_directory)?;
    let authority = authority(state_directory, digest, years)?;
    let files = made_files(state_directory, name);
    let (leaf, key) = leaf(&authority, &own_or(names), digest, years).map_err(|error| format!("OpenSSL: {error}"))?;
    // The key first: a chain without its key would be taken for a finished one.
    let pem = |error: ErrorStack| format!("OpenSSL: {error}");
    state::write(&files.key, &key.private_key_to_pem_pkcs8().map_err(pem)?, Access::Private)?;
    state::write(&files.chain, &leaf.to_pem().map_err(pem)?, Access::Public)
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
    issuer: &openssl::x509::X509NameRef,
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

fn name_of(name: &openssl::x509::X509NameRef) -> String {
    let entries: Vec<String> = name
        .entries()
        .map(|entry| {
            let key = entry.object().nid().short_name().unwrap_or("?");
            let value = entry.data().to_string();
            format!("{key} = {}", value.unwrap_or_default())
        })
        .collect();
    entries.join(", ")
}

fn names_of(certificate: &X509Ref) -> Vec<String> {
    let names = certificate.subject_alt_names();
    let text = |name: &openssl::x509::GeneralNameRef| {
        name.dnsname().map(str::to_owned).or_else(|| match name.ipaddress()?.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(name.ipaddress()?).ok()?).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(name.ipaddress()?).ok()?).to_string()),
        })
    };
    names.iter().flatten().filter_map(text).collect()
}

fn colons(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 3);
    for octet in octets {
        if !text.is_empty() {
            text.push(':');
        }
        let _ = write!(text, "{octet:02X}");
    }
    text
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
