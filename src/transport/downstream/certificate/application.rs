//! The application's certificate and key, by which packetboat proves to the token endpoint which application it is.

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Name};
use zeroize::Zeroizing;

use super::Error;

/// A self-signed certificate and its key, in PEM.
pub struct ApplicationPair {
    /// The certificate, which is uploaded.
    pub chain: Vec<u8>,
    /// The key, which never leaves this computer.
    pub key: Zeroizing<Vec<u8>>,
}

/// Makes a pair: RSA with 3072 bits, SHA-256, for two years.
///
/// # Errors
/// OpenSSL has no random octets or no memory.
pub fn make_application_pair() -> Result<ApplicationPair, Error> {
    super::super::library::start();
    let key = PKey::from_rsa(Rsa::generate(KEY_BITS)?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, "packetboat")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    let serial: Asn1Integer = serial.to_asn1_integer()?;
    let mut builder = X509::builder()?;
    builder.set_version(X509_V3)?;
    builder.set_serial_number(&serial)?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(DAYS)?.as_ref())?;
    builder.sign(&key, MessageDigest::sha256())?;
    let chain = builder.build().to_pem()?;
    Ok(ApplicationPair { chain, key: Zeroizing::new(key.private_key_to_pem_pkcs8()?) })
}

const KEY_BITS: u32 = 3072;
/// Two years.
const DAYS: u32 = 730;
/// X.509 counts versions from 0.
const X509_V3: i32 = 2;
/// RFC 5280 §4.1.2.2: positive, up to 20 octets.
const SERIAL_BITS: i32 = 127;
