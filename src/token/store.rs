//! Refresh tokens on disk: sealed with a key of this host, one file for each sign-in, whole or not at all.
//!
//! The store deletes a token only where the person signs out. A new one replaces the old one only if that is still there:
//! `packetboat login` may have written another one meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::error::{Error, StoreError};
use super::json::StoredSignIn;
use crate::config::Identity;
use crate::crypto::{self, Vault};
use crate::mode::Mode;
use crate::secret::Secret;
use crate::state::{self, Access};

/// The store of refresh tokens in the state directory.
pub struct Store {
    directory: PathBuf,
    vault: Arc<Vault>,
    mode: Mode,
}

/// The person and the issuer of a sign-in. A refresh token belongs to its issuer, and is sent to nobody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// The name of the identity in the configuration.
    pub(super) identity: String,
    /// The person, in lower case.
    pub(super) user: String,
    issuer: Issuer,
}

/// The issuer of tokens, and the application that it issues them to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Issuer {
    token_endpoint: String,
    tenant: String,
    client_id: String,
}

impl Store {
    /// Returns whether the state directory has a store.
    pub fn exists(state_directory: &Path) -> bool {
        state_directory.join(DIRECTORY).exists()
    }

    /// Opens the store, and makes key and directory where they are missing; [`Mode::DryRun`] makes nothing.
    ///
    /// # Errors
    /// A file is open to others, or the key is none; the text holds the command that mends it.
    pub fn open(state_directory: &Path, key: Option<&Path>, mode: Mode) -> Result<Self, Error> {
        let key = Self::key(state_directory, key, mode)?;
        let directory = state_directory.join(DIRECTORY);
        if mode == Mode::Apply {
            state::make_directory(&directory)?;
        }
        if directory.exists() && !(mode == Mode::DryRun && geteuid().is_root()) {
            state::check_own(&directory)?;
        }
        let store = Self { directory, vault: Arc::new(Vault::new(&key)?), mode };
        if mode == Mode::Apply {
            let _lock = store.lock()?;
            state::sweep(&store.directory);
        }
        Ok(store)
    }

    /// Reads the key of the store, and makes it where it is missing; [`Mode::DryRun`] makes nothing.
    ///
    /// # Errors
    /// The key's file is open to others or too short; the text holds the command that mends it.
    pub fn key(state_directory: &Path, key: Option<&Path>, mode: Mode) -> Result<Zeroizing<Vec<u8>>, Error> {
        if mode == Mode::Apply {
            state::make_directory(state_directory)?;
        } else {
            state::could_make_directory(state_directory)?;
        }
        let given = key.map(Path::to_path_buf).or_else(credential);
        let path = given.clone().unwrap_or_else(|| state_directory.join(KEY));
        let key = match given {
            // Root only looks whether all is there; what is the service's own, the service reads.
            None if mode == Mode::DryRun && geteuid().is_root() => Zeroizing::new(vec![0; KEY_LENGTH]),
            Some(path) => state::read_private(&path)?,
            None => own_key(&path, mode)?,
        };
        if key.len() < KEY_LENGTH {
            return Err(StoreError::ShortKey { path, length: key.len(), needed: KEY_LENGTH }.into());
        }
        Ok(key)
    }

    /// Returns the vault that seals refresh tokens.
    pub(super) fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }

    /// Returns whether the store is there for real.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the directory of the refresh tokens.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the record of a sign-in; none if nobody has signed in.
    pub(super) fn read(&self, owner: &Owner) -> Result<Option<StoredSignIn>, Error> {
        let path = self.path(owner);
        let sealed = match state::read_own(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let record = sealed.strip_prefix(MAGIC).and_then(|sealed| self.vault.open(&owner.label(), sealed));
        let record = record.and_then(|record| StoredSignIn::from_json(&record));
        record.map(Some).ok_or_else(|| StoreError::OtherKey(path).into())
    }

    /// Returns the reason why there is no record, as the end of a sentence about the person.
    pub(super) fn why_missing(&self, owner: &Owner) -> &'static str {
        let mark = owner.mark();
        let (of_earlier, of_others) = (format!("{mark}.{EXTENSION}"), format!("{mark}-"));
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let is_token = |name: &&String| name.ends_with(&format!(".{EXTENSION}"));
        if names.iter().filter(is_token).any(|name| name.starts_with(&of_others)) {
            "has signed in with another token endpoint, tenant or client_id, and has to sign in again"
        } else if names.contains(&of_earlier) {
            "has to sign in again, because an earlier packetboat did not note which token endpoint the refresh \
             token belongs to"
        } else {
            "has not signed in yet"
        }
    }

    /// Replaces the record, if it has one of these refresh tokens, or if there is neither a record nor a token to
    /// replace. Returns whether it did: not, if somebody has signed in anew meanwhile. The record is on disk then.
    pub(super) fn replace(&self, owner: &Owner, before: &[Secret], new: &StoredSignIn) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let current = self.read(owner)?;
        let is_as_read = match &current {
            None => before.is_empty(),
            Some(current) => before.iter().any(|one| one.expose() == current.refresh_token.expose()),
        };
        if is_as_read {
            self.write(owner, new)?;
        }
        Ok(is_as_read)
    }

    /// Writes a record, whatever was there: somebody has just signed in.
    pub(super) fn put(&self, owner: &Owner, new: &StoredSignIn) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.write(owner, new)
    }

    /// Removes a record. Returns whether there was one.
    pub(super) fn remove(&self, owner: &Owner) -> Result<bool, Error> {
        if !self.directory.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let path = self.path(owner);
        let was_there = state::is_there(&path);
        state::remove(&path)?;
        Ok(was_there)
    }

    /// Locks a sign-in over all processes, so that no two of them spend the same refresh token. Waits for the other.
    /// None where the store has not been made, and so holds no refresh token.
    pub(super) fn exclusive(&self, owner: &Owner) -> Result<Option<File>, Error> {
        if !self.directory.exists() {
            return Ok(None);
        }
        Ok(Some(state::lock(&self.path(owner).with_extension("lock"))?))
    }

    fn write(&self, owner: &Owner, new: &StoredSignIn) -> Result<(), Error> {
        let json = new.to_json().ok_or(StoreError::NoText)?;
        let sealed = self.vault.seal(&owner.label(), &json)?;
        Ok(state::write(&self.path(owner), &[MAGIC, &sealed].concat(), Access::Private)?)
    }

    /// Returns the file of a sign-in: the identity's name, a hash for the person, and one for the issuer.
    pub(super) fn path(&self, owner: &Owner) -> PathBuf {
        self.directory.join(format!("{}-{}.{EXTENSION}", owner.mark(), short_hash(&owner.label())))
    }

    /// Locks the store over all processes, until the file is closed, also by a kill.
    fn lock(&self) -> Result<File, Error> {
        Ok(state::lock(&self.directory.join("lock"))?)
    }
}

impl Owner {
    /// The sign-in of a person, or of the application itself, with this identity of the configuration.
    pub(super) fn new(name: &str, user: &str, identity: &Identity) -> Self {
        let issuer = Issuer {
            token_endpoint: identity.token_endpoint.clone(),
            tenant: identity.tenant.clone(),
            client_id: identity.client_id.clone(),
        };
        Self { identity: name.to_owned(), user: user.to_owned(), issuer }
    }

    /// Returns the label that a record is sealed with: it opens for nobody else.
    pub(super) fn label(&self) -> Vec<u8> {
        let Issuer { token_endpoint, tenant, client_id } = &self.issuer;
        [&self.identity, &self.user, token_endpoint, tenant, client_id].map(String::as_bytes).join(&0)
    }

    /// Returns the name of the identity, the person, and a short hash for the issuer.
    pub(super) fn parts(&self) -> (String, String, String) {
        let Issuer { token_endpoint, tenant, client_id } = &self.issuer;
        let issuer = [token_endpoint, tenant, client_id].map(String::as_bytes).join(&0);
        (self.identity.clone(), self.user.clone(), short_hash(&issuer))
    }

    /// Returns the beginning of the names of this person's files, whoever the issuer is.
    fn mark(&self) -> String {
        format!("{}-{}", self.identity, short_hash(&[self.identity.as_bytes(), b"\0", self.user.as_bytes()].concat()))
    }
}

fn short_hash(octets: &[u8]) -> String {
    crypto::sha256(octets).iter().take(6).map(|octet| format!("{octet:02x}")).collect()
}

/// Returns the key that systemd hands over by `LoadCredential=` or `LoadCredentialEncrypted=` (systemd.exec(5)).
fn credential() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    // The key comes by itself, or in a directory that is handed over as a whole.
    [CREDENTIAL.to_owned(), format!("packetboat_{CREDENTIAL}")]
        .into_iter()
        .map(|name| directory.join(name))
        .find(|path| path.exists())
}

fn own_key(path: &Path, mode: Mode) -> Result<Zeroizing<Vec<u8>>, Error> {
    match state::read_own(path) {
        Ok(key) => Ok(key),
        Err(error) if error.is_missing() => {
            let key: Zeroizing<[u8; KEY_LENGTH]> = Zeroizing::new(crypto::random()?);
            if mode == Mode::DryRun {
                return Ok(Zeroizing::new(key.to_vec()));
            }
            if has_tokens(&path.with_file_name(DIRECTORY)) || has_messages(&path.with_file_name(SPOOL)) {
                return Err(StoreError::MissingKey { path: path.to_path_buf(), credential: CREDENTIAL }.into());
            }
            // If another process is faster, its key counts.
            state::write_new(path, key.as_slice(), Access::Private)?;
            Ok(state::read_own(path)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn has_tokens(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == EXTENSION))
}

/// Returns whether the spool in the state directory has files that the missing key has sealed.
fn has_messages(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some())
}

const DIRECTORY: &str = "tokens";
const SPOOL: &str = "spool";
const EXTENSION: &str = "token";
const KEY: &str = "store.key";
const KEY_LENGTH: usize = 32;
const CREDENTIAL: &str = "packetboat-store-key";
const MAGIC: &[u8] = b"packetboat token 1\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use std::os::unix::fs::PermissionsExt;

    fn owner_at(user: &str, token_endpoint: &str, client_id: &str) -> Owner {
        let [token_endpoint, client_id] = [token_endpoint, client_id].map(str::to_owned);
        let issuer = Issuer { token_endpoint, tenant: "contoso.example".to_owned(), client_id };
        Owner { identity: "office".to_owned(), user: user.to_owned(), issuer }
    }

    fn owner(user: &str) -> Owner {
        owner_at(user, "https://login.example/token", "1")
    }

    fn record(token: &str) -> StoredSignIn {
        StoredSignIn { refresh_token: Secret::new(token.as_bytes().to_vec()), signed_in: 1, renewed: 2 }
    }

    fn token(store: &Store, user: &str) -> Option<String> {
        let record = store.read(&owner(user)).unwrap()?;
        Some(String::from_utf8(record.refresh_token.expose().to_vec()).unwrap())
    }

    #[test]
    fn records_are_kept_sealed_and_apart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None, Mode::Apply).unwrap();
        assert_eq!(token(&store, "a"), None);
        assert!(store.replace(&owner("a"), &[], &record("first")).unwrap());
        store.put(&owner("b"), &record("other")).unwrap();
        assert!(store.replace(&owner("a"), &[record("first").refresh_token], &record("second")).unwrap());
        // The token that another process has stored stays.
        assert!(!store.replace(&owner("a"), &[record("first").refresh_token], &record("third")).unwrap());
        let store = Store::open(directory.path(), None, Mode::Apply).unwrap();
        assert_eq!((token(&store, "a"), token(&store, "b")), (Some("second".to_owned()), Some("other".to_owned())));
        for entry in fs::read_dir(directory.path().join(DIRECTORY)).unwrap() {
            let octets = fs::read(entry.unwrap().path()).unwrap();
            assert!(!octets.windows(6).any(|window| window == b"second"));
        }
        // One file in another's place does not open.
        fs::copy(store.path(&owner("b")), store.path(&owner("a"))).unwrap();
        assert!(store.read(&owner("a")).is_err());
    }

    /// One file for each issuer, none opens in another's place, and what is missing is told with its reason.
    #[test]
    fn records_belong_to_their_issuer() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None, Mode::Apply).unwrap();
        assert_eq!(store.why_missing(&owner("a")), "has not signed in yet");
        store.put(&owner("a"), &record("first")).unwrap();
        for other in [
            owner_at("a", "https://login.example/other", "1"),
            owner_at("a", "https://login.example/token", "2"),
            // No octet may move from one part of the label to the next.
            owner_at("a", "https://login.example/token1", ""),
        ] {
            assert!(store.read(&other).unwrap().is_none(), "{other:?}");
            assert!(store.why_missing(&other).contains("another token endpoint, tenant or client_id"));
            fs::copy(store.path(&owner("a")), store.path(&other)).unwrap();
            assert!(store.read(&other).is_err(), "{other:?}");
            fs::remove_file(store.path(&other)).unwrap();
        }
        assert_eq!(store.why_missing(&owner("b")), "has not signed in yet");
        assert_eq!(token(&store, "a"), Some("first".to_owned()));
        // An earlier version has named and sealed the file in this way.
        let sealed = store.vault.seal(b"office\0b", &record("old").to_json().unwrap()).unwrap();
        let path = directory.path().join(DIRECTORY).join(format!("{}.token", owner("b").mark()));
        state::write(&path, &[MAGIC, &sealed].concat(), Access::Private).unwrap();
        assert!(store.read(&owner("b")).unwrap().is_none());
        assert!(store.why_missing(&owner("b")).contains("an earlier packetboat"));
    }

    #[test]
    fn files_that_others_can_read_are_refused_with_a_fix() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None, Mode::Apply).unwrap();
        store.put(&owner("a"), &record("first")).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&store.path(&owner("a")), 0o640);
        let error = store.read(&owner("a")).err().unwrap().to_string();
        assert!(error.contains(&format!("chmod 600 {}", store.path(&owner("a")).display())), "{error}");
        let key = directory.path().join(KEY);
        mode(&key, 0o604);
        let error = Store::open(directory.path(), None, Mode::Apply).err().unwrap().to_string();
        assert!(error.contains(&format!("chmod 600 {}", key.display())), "{error}");
        mode(&key, 0o600);
        mode(&directory.path().join(DIRECTORY), 0o755);
        let error = Store::open(directory.path(), None, Mode::Apply).err().unwrap().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn another_key_opens_nothing_and_deletes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path(), None, Mode::Apply).unwrap().put(&owner("a"), &record("first")).unwrap();
        let key = directory.path().join("other.key");
        state::write(&key, &[9; 32], Access::Private).unwrap();
        let other = Store::open(directory.path(), Some(&key), Mode::Apply).unwrap();
        assert!(other.read(&owner("a")).is_err());
        assert!(other.replace(&owner("a"), &[], &record("x")).is_err());
        assert_eq!(token(&Store::open(directory.path(), None, Mode::Apply).unwrap(), "a"), Some("first".to_owned()));
        state::write(&key, b"short", Access::Private).unwrap();
        assert!(Store::open(directory.path(), Some(&key), Mode::Apply).err().unwrap().to_string().contains("needs 32"));
    }

    /// `packetboat check` leaves nothing behind.
    #[test]
    fn trying_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        Store::open(&state, None, Mode::DryRun).unwrap();
        assert!(!state.exists());
    }
}
