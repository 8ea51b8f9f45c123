//! Refresh tokens on disk: sealed with a key of this host, one file for each sign-in, whole or not at all.
//!
//! Nothing here ever deletes a token. A new one replaces the old one only where nobody else has done so meanwhile:
//! `packetboat login` writes beside the running proxy.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::wire::Record;
use crate::crypto::{self, Vault};
use crate::secret::Secret;
use crate::state::{self, Access};
use crate::transport::downstream::certificate::Making;

/// The store in the state directory.
pub struct Store {
    directory: PathBuf,
    vault: Vault,
}

/// Whose sign-in it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// Key of the configuration's identities.
    pub(super) identity: String,
    /// The person, in lower case.
    pub(super) user: String,
}

impl Store {
    /// Whether one has been made there.
    pub fn exists(state_directory: &Path) -> bool {
        state_directory.join(DIRECTORY).exists()
    }

    /// Opens it, and makes key and directory where they are missing; nothing is made with [`Making::Tried`].
    ///
    /// # Errors
    /// A file is not ours alone, or the key is none; the text holds the command that mends it.
    pub fn open(state_directory: &Path, key: Option<&Path>, making: Making) -> Result<Self, String> {
        if making == Making::Kept {
            state::make_directory(state_directory)?;
        } else {
            state::could_make_directory(state_directory)?;
        }
        let given = key.map(Path::to_path_buf).or_else(credential);
        let path = given.clone().unwrap_or_else(|| state_directory.join(KEY));
        let key = match given {
            // Root only looks whether all is there; what is the service's own, the service reads.
            None if making == Making::Tried && geteuid().is_root() => Zeroizing::new(vec![0; KEY_LENGTH]),
            Some(path) => state::read_private(&path)?,
            None => own_key(&path, making)?,
        };
        if key.len() < KEY_LENGTH {
            return Err(format!(
                "the store's key, {}, has {} octets and needs {KEY_LENGTH} or more; put the old one back, or make one with: head \
                 -c 32 /dev/urandom",
                path.display(),
                key.len()
            ));
        }
        let directory = state_directory.join(DIRECTORY);
        if making == Making::Kept {
            state::make_directory(&directory)?;
        }
        if directory.exists() && !(making == Making::Tried && geteuid().is_root()) {
            state::check_own(&directory)?;
        }
        let store = Self { directory, vault: Vault::new(&key).map_err(|refused| refused.to_string())? };
        if making == Making::Kept {
            let _lock = store.lock()?;
            state::sweep(&store.directory);
        }
        Ok(store)
    }

    /// What is kept for this sign-in; nothing if nobody has signed in.
    pub(super) fn read(&self, owner: &Owner) -> Result<Option<Record>, String> {
        let path = self.path(owner);
        let sealed = match state::read_own(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.0 == ErrorKind::NotFound => return Ok(None),
            Err((_, message)) => return Err(message),
        };
        let record = sealed.strip_prefix(MAGIC).and_then(|sealed| self.vault.open(&owner.label(), sealed));
        let record = record.and_then(|record| Record::from_json(&record));
        record.map(Some).ok_or_else(|| {
            format!(
                "{} cannot be opened: it was sealed with another key, or has been changed; put the old key back, or move \
                 the file away and sign in again",
                path.display()
            )
        })
    }

    /// Keeps a record in place of one with any of these refresh tokens, or of none where there are none; it is on disk when
    /// this returns. Whether it was: not, if somebody has signed in anew meanwhile.
    pub(super) fn replace(&self, owner: &Owner, before: &[Secret], new: &Record) -> Result<bool, String> {
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

    /// Keeps a record, whatever was there: somebody has just signed in.
    pub(super) fn put(&self, owner: &Owner, new: &Record) -> Result<(), String> {
        let _lock = self.lock()?;
        self.write(owner, new)
    }

    /// Held by who spends a refresh token, over all processes: two must not spend the same one. Waits for the other. None
    /// where the store has not been made, and so holds no refresh token.
    pub(super) fn exclusive(&self, owner: &Owner) -> Result<Option<File>, String> {
        if !self.directory.exists() {
            return Ok(None);
        }
        state::lock(&self.path(owner).with_extension("lock")).map(Some)
    }

    fn write(&self, owner: &Owner, new: &Record) -> Result<(), String> {
        let json = new.to_json().ok_or("the refresh token is no text")?;
        let sealed = self.vault.seal(&owner.label(), &json).map_err(|refused| refused.to_string())?;
        state::write(&self.path(owner), &[MAGIC, &sealed].concat(), Access::Private)
    }

    /// By the identity's name, which people recognise, and a hash that tells its people apart.
    pub(super) fn path(&self, owner: &Owner) -> PathBuf {
        let hash: String = crypto::sha256(&owner.label()).iter().take(6).map(|octet| format!("{octet:02x}")).collect();
        self.directory.join(format!("{}-{hash}.{EXTENSION}", owner.identity))
    }

    /// One at a time, over all processes. Given back when the file is closed, also by a kill.
    fn lock(&self) -> Result<File, String> {
        state::lock(&self.directory.join("lock"))
    }
}

impl Owner {
    /// What a record is sealed for: it opens for nobody else.
    fn label(&self) -> Vec<u8> {
        [self.identity.as_bytes(), b"\0", self.user.as_bytes()].concat()
    }
}

/// As systemd hands it over, by `LoadCredential=` or `LoadCredentialEncrypted=` (systemd.exec(5)).
fn credential() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    // By itself, or in a directory that is handed over as a whole.
    [CREDENTIAL.to_owned(), format!("packetboat_{CREDENTIAL}")]
        .into_iter()
        .map(|name| directory.join(name))
        .find(|path| path.exists())
}

fn own_key(path: &Path, making: Making) -> Result<Zeroizing<Vec<u8>>, String> {
    match state::read_own(path) {
        Ok(key) => Ok(key),
        Err((ErrorKind::NotFound, _)) => {
            let key: Zeroizing<[u8; KEY_LENGTH]> = Zeroizing::new(crypto::random().map_err(|error| error.to_string())?);
            if making == Making::Tried {
                return Ok(Zeroizing::new(key.to_vec()));
            }
            if has_tokens(&path.with_file_name(DIRECTORY)) {
                return Err(format!(
                    "there are refresh tokens, and {} is missing: they were sealed with another key, as with the systemd \
                     credential {CREDENTIAL}, which only the service sees; run this as docs/entra.md shows (systemd-run), or \
                     name the key by store_key",
                    path.display()
                ));
            }
            // Where somebody is faster, theirs counts.
            state::write_new(path, key.as_slice(), Access::Private)?;
            state::read_own(path).map_err(|(_, message)| message)
        }
        Err((_, message)) => Err(message),
    }
}

fn has_tokens(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == EXTENSION))
}

const DIRECTORY: &str = "tokens";
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

    fn owner(user: &str) -> Owner {
        Owner { identity: "office".to_owned(), user: user.to_owned() }
    }

    fn record(token: &str) -> Record {
        Record { refresh_token: Secret::new(token.as_bytes().to_vec()), signed_in: 1, renewed: 2 }
    }

    fn token(store: &Store, user: &str) -> Option<String> {
        let record = store.read(&owner(user)).unwrap()?;
        Some(String::from_utf8(record.refresh_token.expose().to_vec()).unwrap())
    }

    #[test]
    fn records_are_kept_sealed_and_apart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None, Making::Kept).unwrap();
        assert_eq!(token(&store, "a"), None);
        assert!(store.replace(&owner("a"), &[], &record("first")).unwrap());
        store.put(&owner("b"), &record("other")).unwrap();
        assert!(store.replace(&owner("a"), &[record("first").refresh_token], &record("second")).unwrap());
        // What somebody else has put there stays.
        assert!(!store.replace(&owner("a"), &[record("first").refresh_token], &record("third")).unwrap());
        let store = Store::open(directory.path(), None, Making::Kept).unwrap();
        assert_eq!((token(&store, "a"), token(&store, "b")), (Some("second".to_owned()), Some("other".to_owned())));
        for entry in fs::read_dir(directory.path().join(DIRECTORY)).unwrap() {
            let octets = fs::read(entry.unwrap().path()).unwrap();
            assert!(!octets.windows(6).any(|window| window == b"second"));
        }
        // One file in another's place does not open.
        fs::copy(store.path(&owner("b")), store.path(&owner("a"))).unwrap();
        assert!(store.read(&owner("a")).is_err());
    }

    #[test]
    fn what_others_may_read_is_refused_with_what_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None, Making::Kept).unwrap();
        store.put(&owner("a"), &record("first")).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&store.path(&owner("a")), 0o640);
        let error = store.read(&owner("a")).err().unwrap();
        assert!(error.contains(&format!("chmod 600 {}", store.path(&owner("a")).display())), "{error}");
        let key = directory.path().join(KEY);
        mode(&key, 0o604);
        let error = Store::open(directory.path(), None, Making::Kept).err().unwrap();
        assert!(error.contains(&format!("chmod 600 {}", key.display())), "{error}");
        mode(&key, 0o600);
        mode(&directory.path().join(DIRECTORY), 0o755);
        let error = Store::open(directory.path(), None, Making::Kept).err().unwrap();
        assert!(error.contains("chmod 700"), "{error}");
    }

    #[test]
    fn another_key_opens_nothing_and_deletes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path(), None, Making::Kept).unwrap().put(&owner("a"), &record("first")).unwrap();
        let key = directory.path().join("other.key");
        state::write(&key, &[9; 32], Access::Private).unwrap();
        let other = Store::open(directory.path(), Some(&key), Making::Kept).unwrap();
        assert!(other.read(&owner("a")).is_err());
        assert!(other.replace(&owner("a"), &[], &record("x")).is_err());
        assert_eq!(token(&Store::open(directory.path(), None, Making::Kept).unwrap(), "a"), Some("first".to_owned()));
        state::write(&key, b"short", Access::Private).unwrap();
        assert!(Store::open(directory.path(), Some(&key), Making::Kept).err().unwrap().contains("needs 32"));
    }

    /// `packetboat check` leaves nothing behind.
    #[test]
    fn trying_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        Store::open(&state, None, Making::Tried).unwrap();
        assert!(!state.exists());
    }
}
