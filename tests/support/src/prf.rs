//! This file has TLS's pseudo-random function, for devices that make their own records (RFC 5246 §5).

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;

pub fn hmac(digest: MessageDigest, key: &[u8], octets: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    Signer::new(digest, &key).unwrap().sign_oneshot_to_vec(octets).unwrap()
}

/// The function P_hash of RFC 5246 §5.
pub fn expand(digest: MessageDigest, secret: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
    let (mut a, mut output) = (seed.to_vec(), Vec::new());
    while output.len() < length {
        a = hmac(digest, secret, &a);
        output.extend(hmac(digest, secret, &[&a, seed].concat()));
    }
    output.truncate(length);
    output
}
