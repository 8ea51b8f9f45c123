//! Certificates for devices: made by a local certification authority on first start, or the operator's own files.

mod application;
mod error;
mod facts;
mod local_ca;
mod transfer;
mod year_2038;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Private};
use openssl::ssl::SslContextBuilder;
use openssl::x509::{GeneralNameRef, X509, X509NameRef, X509Ref};

use crate::config::{Certificate, CertificateFiles, CertificateSource, Digest};
use crate::diagnostic::Diagnostic;
use crate::mode::Mode;
use crate::state;
pub use application::{ApplicationPair, make_application_pair};
pub use error::{Error, Part};
pub use facts::Facts;
use local_ca::Wanted;
pub use local_ca::authority_path;
pub use transfer::{Made, MadePair};

/// A certificate with its chain and key, and the same in ECDSA where there is one.
pub struct Loaded {
    rsa: Pair,
    ecdsa: Option<Pair>,
}

/// A chain that has been read, and the key of its first certificate.
struct Pair {
    /// The file; none where the pair was made in a dry run.
    file: Option<PathBuf>,
    chain: Vec<X509>,
    key: PKey<Private>,
}

/// The description of a certificate, for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The file of the certificate.
    pub path: PathBuf,
    /// The subject, as `CN = mail.example`.
    pub subject: String,
    /// The issuer, in the same form.
    pub issuer: String,
    /// The DNS names and addresses.
    pub names: Vec<String>,
    /// The end, as OpenSSL prints it.
    pub not_after: String,
    /// The end, in seconds since 1970.
    pub ends: i64,
    /// The days until then; negative after it.
    pub days_left: i32,
    /// The SHA-256 fingerprint in hexadecimal, with colons.
    pub sha256: String,
    /// The SHA-1 fingerprint in hexadecimal, with colons, as old devices show it.
    pub sha1: String,
}

/// Loads the certificate called `name`, and makes it first where it is to be made and is missing.
///
/// # Errors
/// A file is missing, unreadable, no PEM, or does not fit the other; the text names it.
pub fn load(certificate: &Certificate, state_directory: &Path, name: &str, mode: Mode) -> Result<Loaded, Error> {
    super::library::start();
    let rsa = match &certificate.source {
        CertificateSource::Files(files) => load_pair(files)?,
        CertificateSource::Made { names, digest, years } => {
            let (files, wanted) =
                (local_ca::files(state_directory, name), Wanted { names, digest: *digest, years: *years });
            let damaged = |error: Error| {
                let (chain, key) = (files.chain.display(), files.key.display());
                error
                    .about(Part::Whole)
                    .advise(format!("put it back, or remove {chain} and {key}: the same CA makes them anew"))
            };
            let is_made = state::is_there(&files.chain) && state::is_there(&files.key);
            let is_whole = is_made && !local_ca::is_cut_short(state_directory, &files).map_err(damaged)?;
            let loaded = || local_ca::load_sound(&files).map_err(damaged);
            match mode {
                _ if is_whole => loaded()?,
                Mode::Apply => {
                    local_ca::complete(state_directory, name, &wanted).map_err(|error| error.about(Part::Whole))?;
                    loaded()?
                }
                Mode::DryRun => {
                    let (leaf, key) =
                        local_ca::attempt(state_directory, &wanted).map_err(|error| error.about(Part::Whole))?;
                    Pair { file: None, chain: vec![leaf], key }
                }
            }
        }
    };
    if rsa.key.id() != Id::RSA {
        let fault = format!(
            "{} is not an RSA certificate, which old devices need; give it as ecdsa_chain and ecdsa_key beside one",
            rsa.shown()
        );
        return Err(Error::of_content(Part::Chain, fault));
    }
    let ecdsa = certificate.ecdsa.as_ref().map(load_pair).transpose().map_err(Error::about_ecdsa)?;
    if let Some(pair) = ecdsa.as_ref().filter(|pair| pair.key.id() != Id::EC) {
        return Err(Error::of_content(Part::EcdsaChain, format!("{} is not an ECDSA certificate", pair.shown())));
    }
    if let Some(pair) = ecdsa.as_ref().filter(|pair| !has_usual_curve(&pair.key)) {
        let fault = format!("{} is on another curve than P-256, P-384 and P-521", pair.shown());
        return Err(Error::of_content(Part::EcdsaChain, fault));
    }
    Ok(Loaded { rsa, ecdsa })
}

/// Returns whether the key is on a curve that devices know. On others OpenSSL's timing leaks the key (CVE-2026-54872).
fn has_usual_curve(key: &PKey<Private>) -> bool {
    let curve = key.ec_key().ok().and_then(|key| key.group().curve_name());
    curve.is_some_and(|curve| [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1].contains(&curve))
}

/// Returns warnings about the certificate called `name`: it ends soon, or it was made before its section was changed.
pub fn remarks(certificate: &Certificate, state_directory: &Path, name: &str) -> Vec<Diagnostic> {
    let path = chain_path(certificate, state_directory, name);
    let Ok(leaf) = first(&path) else { return year_2038::to_be_made(certificate).into_iter().collect() };
    let description = description(&path, &leaf);
    let mut remarks = Vec::new();
    let (key, mend) = match &certificate.source {
        CertificateSource::Files(_) => ("chain", format!("replace {}", path.display())),
        CertificateSource::Made { .. } => ("names", format!("packetboat certificate renew {name}")),
    };
    match description.days_left {
        days @ ..0 => remarks.push(Diagnostic::new(key, format!("it ended {} days ago: {mend}", -days))),
        days @ 0..EXPIRY_WARNING_DAYS => remarks.push(Diagnostic::new(key, format!("it ends in {days} days: {mend}"))),
        EXPIRY_WARNING_DAYS.. => {}
    }
    remarks.extend(year_2038::of_chain(certificate, &path, name));
    if let CertificateSource::Made { names, digest, .. } = &certificate.source {
        remarks.extend(year_2038::of_authority(state_directory, &leaf));
        if !names.is_empty() && *names != description.names {
            let are = description.names.join(" ");
            remarks.push(Diagnostic::new(
                "names",
                format!("it was made for {are}, before these names were written: {mend}"),
            ));
        }
        match local_ca::authority_key(state_directory) {
            Ok(Some(key)) if !leaf.verify(&key).unwrap_or_default() => {
                let message = format!("{} is not signed by the CA that is there now: {mend}", path.display());
                remarks.push(Diagnostic::new("", message));
            }
            Ok(_) => {}
            Err(error) => remarks.push(Diagnostic::new("", error)),
        }
        let signed = leaf.signature_algorithm().object().nid();
        let wanted = match digest {
            Digest::Sha1 => Nid::SHA1WITHRSAENCRYPTION,
            Digest::Sha256 => Nid::SHA256WITHRSAENCRYPTION,
        };
        if signed != wanted {
            let is = signed.short_name().unwrap_or("another");
            let message = format!("it was made with {is}, before this was written: {mend}");
            remarks.push(Diagnostic::new("digest", message));
        }
    }
    remarks
}

/// Makes the certificate called `name` anew; the authority stays, so devices that trust it go on doing so.
///
/// # Errors
/// The state directory cannot be written.
pub fn renew(certificate: &Certificate, state_directory: &Path, name: &str) -> Result<(), Error> {
    super::library::start();
    match &certificate.source {
        CertificateSource::Made { names, digest, years } => {
            local_ca::keep(state_directory, name, &Wanted { names, digest: *digest, years: *years })
        }
        CertificateSource::Files(files) => {
            Err(Error::wrong(Part::Chain, &files.chain, "is your own file: replace it with a new one"))
        }
    }
}

/// Returns the file of a certificate's chain.
pub fn chain_path(certificate: &Certificate, state_directory: &Path, name: &str) -> PathBuf {
    match &certificate.source {
        CertificateSource::Files(files) => files.chain.clone(),
        CertificateSource::Made { .. } => local_ca::files(state_directory, name).chain,
    }
}

/// Returns the files of a certificate, and those of the ECDSA certificate where there is one.
pub fn files(certificate: &Certificate, state_directory: &Path, name: &str) -> Vec<CertificateFiles> {
    let rsa = match &certificate.source {
        CertificateSource::Files(files) => files.clone(),
        CertificateSource::Made { .. } => local_ca::files(state_directory, name),
    };
    [Some(rsa), certificate.ecdsa.clone()].into_iter().flatten().collect()
}

/// Reads the first certificate of a PEM file.
///
/// # Errors
/// Missing, unreadable, or no PEM.
pub fn describe(path: &Path) -> Result<Description, Error> {
    first(path).map(|certificate| description(path, &certificate))
}

fn description(path: &Path, certificate: &X509Ref) -> Description {
    let fingerprint = |digest| certificate.digest(digest).map(|octets| colons(&octets)).unwrap_or_default();
    let days_left =
        Asn1Time::days_from_now(0).and_then(|now| now.diff(certificate.not_after())).map_or(0, |diff| diff.days);
    Description {
        path: path.to_path_buf(),
        subject: name_of(certificate.subject_name()),
        issuer: name_of(certificate.issuer_name()),
        names: names_of(certificate),
        not_after: certificate.not_after().to_string(),
        ends: Asn1Time::from_unix(0)
            .and_then(|epoch| epoch.diff(certificate.not_after()))
            .map_or(0, |diff| i64::from(diff.days) * 86_400 + i64::from(diff.secs)),
        days_left,
        sha256: fingerprint(MessageDigest::sha256()),
        sha1: fingerprint(MessageDigest::sha1()),
    }
}

/// Returns the first certificate of a PEM file in DER, as many devices import it.
///
/// # Errors
/// Missing, unreadable, or no PEM.
pub fn der(path: &Path) -> Result<Vec<u8>, Error> {
    first(path)?.to_der().map_err(|error| Error::openssl(path, error))
}

/// Returns the first certificate of a PEM file in PEM, without whatever else is in the file.
///
/// # Errors
/// Missing, unreadable, or no PEM.
pub fn pem(path: &Path) -> Result<String, Error> {
    let pem = first(path)?.to_pem().map_err(|error| Error::openssl(path, error))?;
    Ok(String::from_utf8_lossy(&pem).into_owned())
}

/// Returns whether this is one certificate, in PEM or in DER, and nothing else.
pub fn is_one(octets: &[u8]) -> bool {
    super::library::start();
    let in_der = || X509::from_der(octets).and_then(|one| one.to_der()).is_ok_and(|der| der == octets);
    let in_pem = || X509::from_pem(octets).and_then(|one| one.to_pem()).is_ok_and(|pem| pem == octets);
    in_der() || in_pem()
}

impl Pair {
    /// Returns whether the key is that of the first certificate.
    fn fits(&self) -> bool {
        self.chain.first().and_then(|leaf| leaf.public_key().ok()).is_some_and(|public| public.public_eq(&self.key))
    }

    fn shown(&self) -> String {
        self.file.as_ref().map_or_else(|| "the certificate".to_owned(), |file| file.display().to_string())
    }
}

impl Loaded {
    /// Returns the DNS names and addresses of the RSA certificate.
    pub fn names(&self) -> Vec<String> {
        self.rsa.chain.first().map(|leaf| names_of(leaf)).unwrap_or_default()
    }

    /// Returns whether there is an ECDSA certificate beside the RSA one.
    pub(super) fn has_ecdsa(&self) -> bool {
        self.ecdsa.is_some()
    }

    /// Returns the SHA-256 of the certificates with their chains, which name the keys as well.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = openssl::sha::Sha256::new();
        for certificate in self.ecdsa.iter().chain([&self.rsa]).flat_map(|pair| &pair.chain) {
            hash.update(&certificate.to_der().unwrap_or_default());
        }
        hash.finish()
    }

    /// Puts chain and key into a context.
    pub(super) fn install(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        for pair in self.ecdsa.iter().chain([&self.rsa]) {
            // Loading by file is the one call that ties the rest of a chain to its own leaf.
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

fn load_pair(files: &CertificateFiles) -> Result<Pair, Error> {
    let pair = read_pair(files)?;
    if !pair.fits() {
        let advice = if [&files.chain, &files.key].iter().any(|path| state::is_credential(path)) {
            HANDED_OVER
        } else {
            "its own certificate comes first in the chain"
        };
        let fault = format!("is not the key of the first certificate in {}; {advice}", files.chain.display());
        return Err(Error::wrong(Part::Key, &files.key, &fault));
    }
    Ok(pair)
}

/// A reload after a change of the pair finds the new certificate, and the old copy of the key.
const HANDED_OVER: &str = "credentials are handed over when the service starts: if the pair has been changed since, run \
                           systemctl restart packetboat; else its own certificate comes first in the chain";

fn read_pair(files: &CertificateFiles) -> Result<Pair, Error> {
    let chain = chain(&files.chain).map_err(|error| error.about(Part::Chain))?;
    let key = load_key(&files.key).map_err(|error| error.about(Part::Key))?;
    Ok(Pair { file: Some(files.chain.clone()), chain, key })
}

fn load_key(path: &Path) -> Result<PKey<Private>, Error> {
    let pem = state::read_private_pem(path)?;
    // The callback keeps OpenSSL from asking for a passphrase on the terminal.
    PKey::private_key_from_pem_callback(&pem, |_| Ok(0))
        .map_err(|_| Error::wrong(Part::Key, path, "holds no private key in PEM without a passphrase"))
}

fn chain(path: &Path) -> Result<Vec<X509>, Error> {
    super::library::start();
    let pem = state::read_pem(path)?;
    match X509::stack_from_pem(&pem) {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(no_certificate(path)),
    }
}

fn first(path: &Path) -> Result<X509, Error> {
    chain(path)?.into_iter().next().ok_or_else(|| no_certificate(path))
}

fn no_certificate(path: &Path) -> Error {
    Error::wrong(Part::Chain, path, "holds no certificate in PEM")
}

fn name_of(name: &X509NameRef) -> String {
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
    let text = |name: &GeneralNameRef| {
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

/// Days before the end from which on it is reported: renewing programs renew when 30 days are left.
const EXPIRY_WARNING_DAYS: i32 = 14;
