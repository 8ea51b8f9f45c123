//! Cryptography that is not TLS: random octets, keyed hashes, sealed records, RSA signatures. Only this file knows
//! AWS-LC, the library beneath rustls.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair, UnparsedPublicKey};
use aws_lc_rs::{constant_time, digest, hmac, rand};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use zeroize::Zeroizing;

/// AWS-LC refuses, because the operating system gives it no random octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cryptography is not available on this computer")
    }
}

impl std::error::Error for Unavailable {}

/// The reason why a key cannot be used. The words follow the name of its file.
#[derive(Clone, Debug)]
pub enum KeyError {
    /// There is no private key in PEM, or it is encrypted.
    NoPrivateKey,
    /// There is no public key in PEM.
    NoPublicKey,
    /// The key is for another algorithm than RSA.
    NotRsa,
    /// AWS-LC refuses the key.
    Refused(KeyRejected),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrivateKey => f.write_str("holds no unencrypted private key in PEM"),
            Self::NoPublicKey => f.write_str("holds no public key in PEM"),
            Self::NotRsa => f.write_str("is not an RSA key; Entra takes RSA alone"),
            Self::Refused(error) => write!(f, "is no RSA key of 2048 bits or more: {error}"),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => Some(error),
            Self::NoPrivateKey | Self::NoPublicKey | Self::NotRsa => None,
        }
    }
}

/// Returns octets that nobody can guess.
///
/// # Errors
/// The operating system has none.
pub fn random<const N: usize>() -> Result<[u8; N], Unavailable> {
    let mut octets = [0; N];
    rand::fill(&mut octets).map_err(|_| Unavailable)?;
    Ok(octets)
}

/// Returns a random factor between the two, so that what begins together does not go on together.
pub fn jitter(least: f64, most: f64) -> f64 {
    let octets: [u8; 2] = random().unwrap_or_default();
    least + (most - least) * f64::from(u16::from_be_bytes(octets)) / f64::from(u16::MAX)
}

/// Compares two secrets in a time that depends on their lengths alone.
pub fn is_equal(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// Returns the SHA-256 digest (FIPS 180-4).
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, octets);
    for (slot, &octet) in hash.iter_mut().zip(digest.as_ref()) {
        *slot = octet;
    }
    hash
}

/// A hash that only this process can make: HMAC-SHA256 (RFC 2104) under a key that is forgotten with it.
pub struct KeyedHash(hmac::Key);

/// The result of a [`KeyedHash`]. It is compared in constant time.
#[derive(Clone, Copy)]
pub struct Tag(hmac::Tag);

impl KeyedHash {
    /// A keyed hash with a new key.
    ///
    /// # Errors
    /// The operating system has no random octets.
    pub fn new() -> Result<Self, Unavailable> {
        let key: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())))
    }

    /// Hashes several fields; their boundaries count.
    pub fn of(&self, fields: &[&[u8]]) -> Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for field in fields {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        // The last block of a field is wiped once it is full, and the context leaves copies where it is moved.
        context.update(&[0; BLOCK]);
        Tag(context.sign())
    }
}

impl Tag {
    /// Returns the first octets in hexadecimal: enough to tell some thousands apart, too few to go back from.
    pub fn short(&self) -> String {
        self.0.as_ref().iter().take(4).map(|octet| format!("{octet:02x}")).collect()
    }

    /// Returns whether both are the same.
    pub fn is(&self, other: &Tag) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }
}

/// A vault seals records, so that nobody without the key can read or change them: AES-256-GCM with a random nonce.
pub struct Vault(RandomizedNonceKey);

impl Vault {
    /// A vault under a key that is derived from these octets, which should be 32 random ones.
    ///
    /// # Errors
    /// AWS-LC refuses.
    pub fn new(key: &[u8]) -> Result<Self, Unavailable> {
        let key = Zeroizing::new(sha256(&[b"packetboat vault 1\0", key].concat()));
        Ok(Self(RandomizedNonceKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| Unavailable)?))
    }

    /// Seals a record; it opens only under the same label.
    ///
    /// # Errors
    /// AWS-LC refuses.
    pub fn seal(&self, label: &[u8], record: &[u8]) -> Result<Vec<u8>, Unavailable> {
        let mut sealed = record.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(label), &mut sealed).map_err(|_| Unavailable)?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// Opens a record, if it was sealed with this key under this label, and nobody has changed it.
    pub fn open(&self, label: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<12>()?;
        let mut record = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.0.open_in_place(nonce, Aad::from(label), record.as_mut_slice()).ok()?.len();
        record.truncate(length);
        Some(record)
    }
}

/// The octets of a sealed record that is empty: the nonce and the tag of AES-256-GCM.
pub const SEALED_EMPTY: i32 = 12 + 16;

/// An RSA key that signs.
pub struct SigningKey(RsaKeyPair);

impl SigningKey {
    /// Reads a key from PEM: PKCS #8 or PKCS #1, not encrypted.
    ///
    /// # Errors
    /// It is something else; the text says what.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NoPrivateKey)?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(KeyError::NotRsa),
        };
        pair.map(Self).map_err(KeyError::Refused)
    }

    /// Signs with PS256 (RFC 7518 §3.5): RSASSA-PSS with SHA-256 and a salt of 32 octets.
    ///
    /// # Errors
    /// AWS-LC refuses.
    pub fn ps256(&self, message: &[u8]) -> Result<Vec<u8>, Unavailable> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| Unavailable)?;
        Ok(signature)
    }
}

/// An RSA key that verifies signatures.
pub struct VerifyingKey(Vec<u8>);

impl VerifyingKey {
    /// Reads a key from PEM: SubjectPublicKeyInfo (RFC 7468 §13), as `openssl x509 -pubkey` prints it.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::NoPublicKey)?;
        Ok(Self(key.to_vec()))
    }

    /// Returns whether this is a PS256 signature of the message.
    pub fn has_signed_ps256(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &self.0).verify(message, signature).is_ok()
    }
}

/// Octets that SHA-256 takes at a time (FIPS 180-4 §5.2.1).
const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_opens_what_it_sealed_and_nothing_else() {
        let vault = Vault::new(&[7; 32]).unwrap();
        let sealed = vault.seal(b"one", b"refresh token").unwrap();
        assert_eq!(vault.open(b"one", &sealed).unwrap().as_slice(), b"refresh token");
        assert!(vault.open(b"two", &sealed).is_none());
        assert!(Vault::new(&[8; 32]).unwrap().open(b"one", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.open(b"one", &changed).is_none());
            assert!(vault.open(b"one", &sealed[..at]).is_none());
        }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let hash = KeyedHash::new().unwrap();
        assert!(hash.of(&[b"ab", b"c"]).is(&hash.of(&[b"ab", b"c"])));
        assert!(!hash.of(&[b"ab", b"c"]).is(&hash.of(&[b"a", b"bc"])));
        assert!(!KeyedHash::new().unwrap().of(&[b"a"]).is(&hash.of(&[b"a"])));
    }

    /// Signed here, verified by OpenSSL and by ourselves.
    #[test]
    fn ps256_is_what_others_understand() {
        use openssl::hash::MessageDigest;
        use openssl::pkey::PKey;
        use openssl::rsa::{Padding, Rsa};
        use openssl::sign::{RsaPssSaltlen, Verifier};
        let rsa = Rsa::generate(2048).unwrap();
        let pkey = PKey::from_rsa(rsa.clone()).unwrap();
        let forms = [pkey.private_key_to_pem_pkcs8().unwrap(), rsa.private_key_to_pem().unwrap()];
        for pem in forms {
            let signature = SigningKey::from_pem(&pem).unwrap().ps256(b"header.claims").unwrap();
            let mut verifier = Verifier::new(MessageDigest::sha256(), &pkey).unwrap();
            verifier.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(32)).unwrap();
            verifier.set_rsa_mgf1_md(MessageDigest::sha256()).unwrap();
            assert!(verifier.verify_oneshot(&signature, b"header.claims").unwrap());
            let public = VerifyingKey::from_pem(&pkey.public_key_to_pem().unwrap()).unwrap();
            assert!(public.has_signed_ps256(b"header.claims", &signature));
            assert!(!public.has_signed_ps256(b"other.claims", &signature));
        }
        assert!(SigningKey::from_pem(b"nothing").is_err());
    }

    /// FIPS 180-4, the message "abc".
    #[test]
    fn sha256_known_answer() {
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
