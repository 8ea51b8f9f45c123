//! Files that packetboat has made go to the other instances of a fleet, and theirs come in their place: the CA, and the
//! certificates that it has issued. The operator's own files are never among them.

use std::fmt;
use std::path::{Path, PathBuf};

use openssl::pkey::PKey;
use openssl::x509::X509;
use zeroize::Zeroizing;

use super::error::Error;
use super::{first, local_ca};
use crate::config::CertificateFiles;
use crate::state::{self, Access};

/// Something that packetboat has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// The certification authority.
    Authority,
    /// The certificate of this name.
    Certificate(String),
}

/// A certificate and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct MadePair {
    chain: String,
    key: Zeroizing<String>,
}

impl Made {
    /// Reads it from the state directory; none where it is not made yet.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged.
    pub fn read(&self, state_directory: &Path) -> Result<Option<MadePair>, Error> {
        let files = self.files(state_directory);
        if !(state::is_there(&files.chain) && state::is_there(&files.key)) {
            return Ok(None);
        }
        local_ca::load_sound(&files)?;
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let (chain, key) = (state::read_pem(&files.chain)?, state::read_private_pem(&files.key)?);
        Ok(Some(MadePair { chain: text(&chain), key: Zeroizing::new(text(&key)) }))
    }

    /// Puts a pair of another instance into the state directory. What was there stays beside it, with `before` in its
    /// name. Returns that file, if there was one.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn write(&self, state_directory: &Path, pair: &MadePair) -> Result<Option<PathBuf>, Error> {
        let _lock = local_ca::lock(state_directory)?;
        let files = self.files(state_directory);
        let aside = CertificateFiles { chain: before(&files.chain), key: before(&files.key) };
        let mut kept = None;
        if state::is_there(&files.chain) && state::is_there(&files.key) {
            state::write(&aside.key, &state::read_private_pem(&files.key)?, Access::Private)?;
            state::write(&aside.chain, &state::read_pem(&files.chain)?, Access::Public)?;
            kept = Some(aside.chain);
        }
        // A crash between the two leaves a certificate that does not fit its key, and is repaired at the next start: an
        // authority without its certificate is made anew for its key, and a listener's certificate as well.
        state::write(&files.key, pair.key.as_bytes(), Access::Private)?;
        state::write(&files.chain, pair.chain.as_bytes(), Access::Public)?;
        Ok(kept)
    }

    /// Returns whether a pair is whole: its key is that of its certificate, and, for a certificate, the CA in the state
    /// directory has signed it.
    pub fn takes(&self, state_directory: &Path, pair: &MadePair) -> bool {
        let read = || {
            let leaf = X509::from_pem(pair.chain.as_bytes()).ok()?;
            let key = PKey::private_key_from_pem(pair.key.as_bytes()).ok()?;
            let fits = leaf.public_key().ok()?.public_eq(&key);
            let signer = match self {
                Self::Authority => leaf.public_key().ok()?,
                Self::Certificate(_) => first(&local_ca::authority_path(state_directory)).ok()?.public_key().ok()?,
            };
            Some(fits && leaf.verify(&signer).ok()?)
        };
        super::super::library::start();
        read().unwrap_or_default()
    }

    fn files(&self, state_directory: &Path) -> CertificateFiles {
        match self {
            Self::Authority => local_ca::authority_files(state_directory),
            Self::Certificate(name) => local_ca::files(state_directory, name),
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority => f.write_str("the CA"),
            Self::Certificate(name) => write!(f, "certificate {name}"),
        }
    }
}

impl MadePair {
    /// The pair as octets, to be sealed.
    pub fn to_octets(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([self.key.as_bytes(), &[SEPARATOR], self.chain.as_bytes()].concat())
    }

    /// The pair of such octets; none where they are something else.
    pub fn of_octets(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let (key, chain) = text.split_once(char::from(SEPARATOR))?;
        Some(Self { chain: chain.to_owned(), key: Zeroizing::new(key.to_owned()) })
    }
}

/// PEM has no such octet.
const SEPARATOR: u8 = 0;

/// `ca.pem` becomes `ca.before.pem`.
fn before(path: &Path) -> PathBuf {
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    path.with_extension(format!("before.{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Digest;
    use crate::transport::downstream::certificate::local_ca::Wanted;

    fn made(directory: &Path) {
        let names = ["mail.example".to_owned()];
        let wanted = Wanted { names: &names, digest: Digest::Sha256, years: None };
        crate::transport::downstream::library::start();
        local_ca::keep(directory, "default", &wanted).unwrap();
    }

    #[test]
    fn a_pair_comes_whole_and_what_was_there_stays() {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        made(one.path());
        made(other.path());
        let leaf = Made::Certificate("default".to_owned());
        let [authority, certificate] = [&Made::Authority, &leaf].map(|made| made.read(one.path()).unwrap().unwrap());
        let old = std::fs::read(other.path().join("ca.pem")).unwrap();
        assert!(Made::Authority.takes(other.path(), &authority));
        assert!(!leaf.takes(other.path(), &certificate), "another CA has signed it");
        let aside = Made::Authority.write(other.path(), &authority).unwrap().unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), old);
        assert!(other.path().join("ca.before.key").exists());
        let again = MadePair::of_octets(&certificate.to_octets()).unwrap();
        assert!(leaf.takes(other.path(), &again));
        leaf.write(other.path(), &again).unwrap();
        assert!(leaf.read(other.path()).unwrap().unwrap() == certificate);
        let mixed = MadePair { chain: authority.chain, key: certificate.key };
        assert!(!Made::Authority.takes(other.path(), &mixed), "the key is another certificate's");
        let empty = tempfile::tempdir().unwrap();
        assert!(leaf.read(empty.path()).unwrap().is_none());
    }
}
