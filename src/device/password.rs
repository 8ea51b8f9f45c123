//! Passwords: made so that a device can take them, kept as Argon2id hashes (RFC 9106). Only this file knows argon2.

use std::fmt;

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::password_hash::{self, PasswordHasher};
use argon2::{Algorithm, Argon2, AssociatedData, Block, Params, ParamsBuilder, Version};
use zeroize::Zeroizing;

use crate::crypto;

/// A hash as it stands in the configuration.
#[derive(Clone, Debug)]
pub struct Hash(PasswordHash);

/// A reason why a hash cannot be used or made.
#[derive(Debug)]
pub enum Error {
    /// The text is no Argon2id hash.
    NoHash,
    /// A run would take more than a device can wait for.
    TooExpensive {
        /// The memory of a run.
        mebibytes: u32,
        /// The passes of a run.
        passes: u32,
    },
    /// There are no random octets.
    Crypto(crypto::Unavailable),
    /// Argon2 does not take its parameters.
    Parameters(argon2::Error),
    /// Argon2 does not take the password.
    Hash(password_hash::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHash => f.write_str("holds something that is no Argon2id hash; make one with: packetboat password"),
            Self::TooExpensive { mebibytes, passes } => write!(
                f,
                "holds a hash that takes {mebibytes} MiB and {passes} passes; make a cheaper one with: \
                 packetboat password"
            ),
            Self::Crypto(error) => write!(f, "{error}"),
            Self::Parameters(error) => write!(f, "{error}"),
            Self::Hash(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoHash | Self::TooExpensive { .. } => None,
            Self::Crypto(error) => Some(error),
            Self::Parameters(error) => Some(error),
            Self::Hash(error) => Some(error),
        }
    }
}

impl From<crypto::Unavailable> for Error {
    fn from(error: crypto::Unavailable) -> Self {
        Self::Crypto(error)
    }
}

impl From<argon2::Error> for Error {
    fn from(error: argon2::Error) -> Self {
        Self::Parameters(error)
    }
}

impl From<password_hash::Error> for Error {
    fn from(error: password_hash::Error) -> Self {
        Self::Hash(error)
    }
}

impl Hash {
    /// Reads the PHC string format.
    ///
    /// # Errors
    /// It is something else, or would take more than a device can wait for.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let hash = PasswordHash::new(text).map_err(|_| Error::NoHash)?;
        let params = Params::try_from(&hash).map_err(|_| Error::NoHash)?;
        if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() || hash.salt.is_none() {
            return Err(Error::NoHash);
        }
        if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES {
            return Err(Error::TooExpensive { mebibytes: params.m_cost() / 1024, passes: params.t_cost() });
        }
        Ok(Self(hash))
    }

    /// Whether it is the password's. Takes some 20 ms and 19 MiB.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let computed = self.compute(password);
        // Outputs are compared in constant time.
        computed.is_some() && computed == self.0.hash
    }

    fn compute(&self, password: &[u8]) -> Option<Output> {
        let (salt, hash) = (self.0.salt.as_ref()?, self.0.hash.as_ref()?);
        let params = Params::try_from(&self.0).ok()?;
        let version = self.0.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
        let mut memory = memory(params.block_count());
        let mut output = Zeroizing::new(vec![0; hash.len()]);
        let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
        argon2.hash_password_into_with_memory(password, salt, &mut output, &mut memory).ok()?;
        Output::new(&output).ok()
    }

    /// Whether it is marked as that of a short password, by [`hash_short`].
    pub fn is_of_short(&self) -> bool {
        Params::try_from(&self.0).is_ok_and(|params| params.data() == SHORT)
    }

    /// The cost of a run.
    pub(super) fn cost(&self) -> Option<Cost> {
        let params = Params::try_from(&self.0).ok()?;
        Some(Cost { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost(), version: self.0.version })
    }
}

/// The cost of a run: hashes of the same cost take the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
    version: Option<u32>,
}

/// Memory for a run, which goes back to the operating system when it is freed. The C library keeps up to 32 MiB of each
/// thread's freed memory (mallopt(3), M_MMAP_THRESHOLD); half a gigabyte stayed after a few wrong passwords. Larger
/// blocks are mapped and unmapped one by one, and their unused pages never become resident.
fn memory(blocks: usize) -> Vec<Block> {
    let mut memory = Vec::with_capacity(blocks.max(GIVEN_BACK));
    memory.resize(blocks, Block::new());
    memory
}

/// A new hash, with a salt of its own. The parameters are those that OWASP recommends: 19 MiB, two passes.
///
/// # Errors
/// There are no random octets, or the password is longer than 4 GiB.
pub fn hash(password: &[u8]) -> Result<String, Error> {
    let salt: [u8; 16] = crypto::random()?;
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(password, &salt)?;
    Ok(hash.to_string())
}

/// Hashes a password that is soon guessed, and marks the hash as such. The mark is associated data of Argon2 (RFC 9106
/// section 3.1), so that a hash without its mark fits no password.
///
/// # Errors
/// As with [`hash`].
pub fn hash_short(password: &[u8]) -> Result<String, Error> {
    let salt: [u8; 16] = crypto::random()?;
    let mark = AssociatedData::new(SHORT)?;
    let params = ParamsBuilder::new().data(mark).build()?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::default(), params);
    let hash: PasswordHash = argon2.hash_password_with_salt(password, &salt)?;
    Ok(hash.to_string())
}

/// The length of a generated password, unless somebody wants another: many devices accept no more.
pub const LENGTH: u8 = 15;

/// A password of so many letters and digits, none of which looks like another one on a small display.
///
/// # Errors
/// There are no random octets.
pub fn generate(length: usize) -> Result<Zeroizing<String>, Error> {
    let mut password = Zeroizing::new(String::with_capacity(length));
    while password.len() < length {
        let octets: [u8; 32] = crypto::random()?;
        // All octets above are thrown away, so that no letter is likelier than another.
        let even = octets.iter().filter(|octet| usize::from(**octet) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = even.filter_map(|octet| ALPHABET.get(usize::from(*octet) % ALPHABET.len()));
        for letter in letters.take(length - password.len()) {
            password.push(char::from(*letter));
        }
    }
    Ok(password)
}

/// Bits of a password that nobody can know.
pub fn strength(length: usize) -> u32 {
    // The loss is below a bit a letter.
    u32::try_from(length).unwrap_or(u32::MAX).saturating_mul(ALPHABET.len().ilog2())
}

/// Letters and digits of made passwords, without i, l, o, s, z, 0, 1, 2, 5. All are lower case, for devices whose
/// keyboard is a pair of arrows.
const ALPHABET: &[u8] = b"abcdefghjkmnpqrtuvwxy346789";
/// The mark of a short password's hash.
const SHORT: &[u8] = b"short";
/// The largest memory of a hash in KiB: a gigabyte.
const MOST_MEMORY: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 16;
/// The least memory of a hash in KiB, so that the allocator gives it back when it is freed.
const GIVEN_BACK: usize = 40 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_argon2id_and_verify() {
        let text = hash(b"k7m2xp9at").unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let hash = Hash::parse(&text).unwrap();
        assert!(hash.is_of(b"k7m2xp9at") && !hash.is_of(b"k7m2xp9a"));
    }

    #[test]
    fn the_mark_of_a_short_password_is_part_of_its_hash() {
        let text = hash_short(b"4711").unwrap();
        let short = Hash::parse(&text).unwrap();
        assert!(short.is_of_short() && short.is_of(b"4711") && !short.is_of(b"4712"), "{text}");
        let unmarked = Hash::parse(&text.replace(",data=c2hvcnQ", "")).unwrap();
        assert!(!unmarked.is_of_short() && !unmarked.is_of(b"4711"), "{text}");
        assert!(!Hash::parse(&hash(b"4711").unwrap()).unwrap().is_of_short());
    }

    /// The reference implementation has computed these: echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1.
    #[test]
    fn hashes_of_other_programs_are_read() {
        let hash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Hash::parse(hash).unwrap().is_of(b"password"));
    }

    #[test]
    fn malformed_hashes_are_refused() {
        for text in [
            "hunter2",
            "$2b$12$abcdefghijklmnopqrstuv",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn passwords_are_of_the_alphabet_and_differ() {
        let one = generate(12).unwrap();
        assert!(one.len() == 12 && one.bytes().all(|octet| ALPHABET.contains(&octet)));
        assert_ne!(*one, *generate(12).unwrap());
        assert_eq!(generate(31).unwrap().len(), 31);
    }
}
