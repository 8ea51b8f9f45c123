//! The local certification authority, and the certificates that it issues to listeners.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openssl::asn1::{Asn1Integer, Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};

use super::error::{Error, Part};
use super::{Pair, first, load_key, load_pair, read_pair};
use crate::config::{CertificateFiles, Digest};
use crate::state::{self, Access};
use crate::transport::host;

/// The properties of a certificate that is to be made.
pub(super) struct Wanted<'a> {
    pub(super) names: &'a [String],
    pub(super) digest: Digest,
    /// The life in years; to [`LAST_IN_32_BITS`], where it is left out.
    pub(super) years: Option<u32>,
}

/// Returns the files of the certificate called `name`.
pub(super) fn files(state_directory: &Path, name: &str) -> CertificateFiles {
    CertificateFiles {
        chain: state_directory.join(format!("{name}.pem")),
        key: state_directory.join(format!("{name}.key")),
    }
}

/// Makes the certificate called `name`, and the authority if there is none, and keeps both.
pub(super) fn keep(state_directory: &Path, name: &str, wanted: &Wanted<'_>) -> Result<(), Error> {
    let _lock = lock(state_directory)?;
    make(state_directory, name, wanted, None)
}

/// Makes the certificate called `name`, unless another process has just done so. Where the key exists already, a crash
/// came before its certificate was written: the certificate is made for that key.
pub(super) fn complete(state_directory: &Path, name: &str, wanted: &Wanted<'_>) -> Result<(), Error> {
    let _lock = lock(state_directory)?;
    let files = files(state_directory, name);
    let key = if state::is_there(&files.key) { Some(load_key(&files.key)?) } else { None };
    if state::is_there(&files.chain) && key.is_some() && !is_cut_short(state_directory, &files)? {
        return Ok(());
    }
    make(state_directory, name, wanted, key)
}

/// Returns whether a renewal was cut short: the key is new, and the certificate is still the one before.
pub(super) fn is_cut_short(state_directory: &Path, files: &CertificateFiles) -> Result<bool, Error> {
    let pair = read_pair(files)?;
    let (Some(leaf), Ok(authority)) = (pair.chain.first(), load_key(&authority_files(state_directory).key)) else {
        return Ok(false);
    };
    Ok(!pair.fits() && leaf.verify(&authority).unwrap_or_default())
}

/// Locks the making of certificates: two processes at the same time would mix keys and certificates up.
pub(super) fn lock(state_directory: &Path) -> Result<File, Error> {
    state::make_directory(state_directory)?;
    Ok(state::lock(&state_directory.join(LOCK))?)
}

fn make(state_directory: &Path, name: &str, wanted: &Wanted<'_>, key: Option<PKey<Private>>) -> Result<(), Error> {
    let files = files(state_directory, name);
    let authority = authority(state_directory, &files.chain, wanted)?;
    let (leaf, made) = leaf(&authority, wanted, key.clone())?;
    // The key first: a chain without its key would be taken for a finished one.
    if key.is_none() {
        state::write(&files.key, &made.private_key_to_pem_pkcs8()?, Access::Private)?;
    }
    Ok(state::write(&files.chain, &leaf.to_pem()?, Access::Public)?)
}

/// Makes a certificate and its key as [`keep`] would, and writes nothing.
pub(super) fn attempt(state_directory: &Path, wanted: &Wanted<'_>) -> Result<(X509, PKey<Private>), Error> {
    authority_is_whole(state_directory)?;
    state::could_make_directory(state_directory)?;
    let files = authority_files(state_directory);
    if state::is_there(&files.chain) {
        load_sound(&files).map_err(damaged)?;
    } else if state::is_there(&files.key) {
        load_key(&files.key).map_err(damaged)?;
    }
    Ok(new_authority(wanted, None).and_then(|authority| leaf(&authority, wanted, None))?)
}

/// Returns the file of the local authority's certificate.
pub fn authority_path(state_directory: &Path) -> PathBuf {
    state_directory.join("ca.pem")
}

struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

fn authority(state_directory: &Path, leaf: &Path, wanted: &Wanted<'_>) -> Result<Authority, Error> {
    authority_is_whole(state_directory)?;
    let files = authority_files(state_directory);
    if state::is_there(&files.chain) {
        let pair = load_sound(&files).map_err(damaged)?;
        let certificate = whole_authority(&files.chain)?;
        return Ok(Authority { certificate, key: pair.key });
    }
    if state::is_there(&files.key) {
        // A crash came between the two, or the certificate was lost: by its key and its name devices know it again.
        let key = load_key(&files.key).map_err(damaged)?;
        let before = first(leaf).ok().filter(|leaf| leaf.verify(&key).unwrap_or_default());
        let name = before.map(|leaf| leaf.issuer_name().to_owned()).transpose()?;
        let authority = new_authority(wanted, Some((key, name)))?;
        state::write(&files.chain, &authority.certificate.to_pem()?, Access::Public)?;
        return Ok(authority);
    }
    let authority = new_authority(wanted, None)?;
    // The key first: a certificate without its key would be taken for one that somebody has put away.
    state::write(&files.key, &authority.key.private_key_to_pem_pkcs8()?, Access::Private)?;
    state::write(&files.chain, &authority.certificate.to_pem()?, Access::Public)?;
    Ok(authority)
}

/// Loads a pair that packetboat has made, and checks the numbers of its key: a damaged one may load, and sign wrongly.
pub(super) fn load_sound(files: &CertificateFiles) -> Result<Pair, Error> {
    let pair = load_pair(files)?;
    let is_sound = pair.key.rsa().and_then(|key| key.check_key()).unwrap_or_default();
    if is_sound { Ok(pair) } else { Err(Error::wrong(Part::Key, &files.key, "has been changed")) }
}

/// Returns the public key of the authority's certificate, where there is one.
pub(super) fn authority_key(state_directory: &Path) -> Result<Option<PKey<Public>>, Error> {
    let path = authority_path(state_directory);
    if !state::is_there(&path) {
        return Ok(None);
    }
    Ok(Some(whole_authority(&path)?.public_key()?))
}

/// Loads the authority's certificate, and verifies its own signature, which shows damage.
fn whole_authority(path: &Path) -> Result<X509, Error> {
    let authority = first(path).map_err(damaged)?;
    let is_whole = authority.public_key().and_then(|key| authority.verify(&key)).unwrap_or_default();
    if is_whole { Ok(authority) } else { Err(damaged(Error::wrong(Part::Chain, path, "has been changed"))) }
}

/// Proves that the authority has its key: a CA that devices trust is never replaced because its key is missing.
fn authority_is_whole(state_directory: &Path) -> Result<(), Error> {
    let files = authority_files(state_directory);
    if state::is_there(&files.chain) && !state::is_there(&files.key) {
        let fault = format!(
            "is missing, the key of the CA in {}: put it back; or remove the CA as well for a new one, which devices \
             then have to import again",
            files.chain.display()
        );
        return Err(Error::wrong(Part::Whole, &files.key, &fault));
    }
    Ok(())
}

fn damaged(error: Error) -> Error {
    error.advise(
        "put the CA back from a backup, ca.pem and ca.key; or remove both for a new one, which devices then have to \
         import again",
    )
}

pub(super) fn authority_files(state_directory: &Path) -> CertificateFiles {
    CertificateFiles { chain: authority_path(state_directory), key: state_directory.join("ca.key") }
}

/// Makes a new authority; or only its certificate, for a key that exists, with the name that it had.
fn new_authority(
    wanted: &Wanted<'_>,
    known: Option<(PKey<Private>, Option<X509Name>)>,
) -> Result<Authority, ErrorStack> {
    let (key, name) = match known {
        Some(known) => known,
        None => (PKey::from_rsa(Rsa::generate(KEY_BITS)?)?, None),
    };
    let host = host::name().unwrap_or_default();
    let name = name.map_or_else(|| distinguished_name(format!("packetboat CA {host}").trim_end()), Ok)?;
    let mut builder = begin(&name, &name, &key, end(now()?, wanted.years))?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(identifier)?;
    builder.sign(&key, message_digest(wanted.digest))?;
    Ok(Authority { certificate: builder.build(), key })
}

/// Makes a listener's certificate with CN and SAN: old devices look at the one, new ones at the other.
fn leaf(
    authority: &Authority,
    wanted: &Wanted<'_>,
    key: Option<PKey<Private>>,
) -> Result<(X509, PKey<Private>), ErrorStack> {
    let key = key.map_or_else(|| PKey::from_rsa(Rsa::generate(KEY_BITS)?), Ok)?;
    let names = own_or(wanted.names);
    let subject = distinguished_name(names.first().map_or("packetboat", String::as_str))?;
    // No longer than its authority: what is signed by one that has ended is not trusted.
    let end = end(now()?, wanted.years).min(seconds(authority.certificate.not_after())?);
    let mut builder = begin(&subject, authority.certificate.subject_name(), &key, end)?;
    builder.append_extension(BasicConstraints::new().critical().build()?)?;
    // Key encipherment is what a static RSA handshake does with the key.
    builder.append_extension(KeyUsage::new().critical().digital_signature().key_encipherment().build()?)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    let mut alternative = SubjectAlternativeName::new();
    for name in &names {
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
    builder.sign(&authority.key, message_digest(wanted.digest))?;
    Ok((builder.build(), key))
}

fn begin(
    subject: &X509Name,
    issuer: &X509NameRef,
    key: &PKeyRef<Private>,
    end: i64,
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
    builder.set_not_before(Asn1Time::from_unix(NOT_BEFORE)?.as_ref())?;
    builder.set_not_after(Asn1Time::from_unix(end)?.as_ref())?;
    Ok(builder)
}

/// Returns the time in seconds since 1970, by OpenSSL's clock.
fn now() -> Result<i64, ErrorStack> {
    seconds(Asn1Time::days_from_now(0)?.as_ref())
}

/// Converts a time to seconds since 1970.
pub(super) fn seconds(time: &Asn1TimeRef) -> Result<i64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(i64::from(since.days) * DAY + i64::from(since.secs))
}

/// Returns the end of a certificate that is made now for so many years.
pub(super) fn end_in(years: u32) -> Option<i64> {
    now().ok().map(|now| end(now, Some(years)))
}

/// Returns the end of a certificate that is made at `now`. A computer without a battery for its clock may start in
/// 1970; a certificate that is made then must not have ended once the clock is set. Without `years` it ends while
/// devices with 32-bit time can still read its end, as long as that is some years away.
fn end(now: i64, years: Option<u32>) -> i64 {
    let begin = now.max(RELEASED);
    let years = match years {
        Some(years) => years,
        None if begin < LAST_IN_32_BITS - 3 * 365 * DAY => return LAST_IN_32_BITS,
        None => YEARS,
    };
    let end = begin.saturating_add(i64::from(years) * 365 * DAY);
    if begin < LAST - 365 * DAY { end.min(LAST) } else { end }
}

/// Returns the configured names, or this host's own.
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
/// In seconds, so that OpenSSL writes it as UTCTime (RFC 5280 §4.1.2.5): a date of four digits it leaves as it is.
const NOT_BEFORE: i64 = 946_684_800;
/// The last second of 2049: later dates are encoded in another way (RFC 5280 §4.1.2.5), which old devices cannot read.
const LAST: i64 = 2_524_607_999;
/// 2038-01-18, 00:00: a day before 32-bit time ends (2^31 - 1 seconds since 1970).
pub(super) const LAST_IN_32_BITS: i64 = 2_147_385_600;
/// Beyond that.
const YEARS: u32 = 10;
/// The beginning of 2026: no clock that is right is behind it.
const RELEASED: i64 = 1_767_225_600;
/// A day in seconds.
const DAY: i64 = 24 * 60 * 60;
/// Held while a certificate is made.
const LOCK: &str = "certificates.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_makes_no_certificate_that_has_ended() {
        let year = 365 * DAY;
        assert_eq!(end(RELEASED + year, Some(10)), RELEASED + 11 * year);
        assert_eq!(end(0, Some(10)), RELEASED + 10 * year, "no battery");
        assert_eq!(end(RELEASED, Some(100)), LAST);
        assert_eq!(end(LAST + year, Some(2)), LAST + 3 * year);
        for now in [0, RELEASED, RELEASED + 8 * year] {
            assert_eq!(end(now, None), LAST_IN_32_BITS);
        }
        assert_eq!(end(RELEASED + 10 * year, None), RELEASED + 20 * year, "it is too late for that");
        assert!((RELEASED..LAST).contains(&now().unwrap()));
    }
}
