//! The new pair of an identity: its names beside those of the pair in use, and its files, which never replace others.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::cli::error::{CommandError, Exit};
use crate::cli::service_user::ServiceUser;
use crate::config::{CREDENTIALS, CertificateFiles};
use crate::state::{self, Access};
use crate::transport::downstream::certificate;

/// A new key and certificate on the disk.
pub(super) struct NewPair {
    pub(super) files: CertificateFiles,
    /// This command has made it, and no earlier one.
    pub(super) is_made: bool,
}

impl NewPair {
    /// Takes the pair that an earlier command has made, or makes one: `app-2.pem` beside `app.pem`, then `app-3.pem`.
    ///
    /// # Errors
    /// A file cannot be written, or the names are taken.
    pub(super) fn beside(old: &CertificateFiles, state_directory: &Path) -> Result<Self, CommandError> {
        let ends = certificate::describe(&old.chain).ok().map(|one| one.ends);
        let first = number_of(&old.chain).max(number_of(&old.key)).saturating_add(1);
        for number in first..first.saturating_add(MOST) {
            let files = CertificateFiles { chain: numbered(&old.chain, number), key: numbered(&old.key, number) };
            match [&files.chain, &files.key].map(|path| state::is_there(path)) {
                [false, false] => {
                    make(&files, old, state_directory)?;
                    return Ok(Self { files, is_made: true });
                }
                // An older pair is one that has been used before.
                [true, true] if certificate::describe(&files.chain).is_ok_and(|one| Some(one.ends) > ends) => {
                    return Ok(Self { files, is_made: false });
                }
                // Half a pair is left of a command that was killed, or somebody's own.
                [true, true] | [true, false] | [false, true] => {}
            }
        }
        Err(Exit::Unavailable.because(format_args!(
            "{} and the {MOST} names after it are taken: move old files away",
            numbered(&old.chain, first).display()
        )))
    }

    /// The certificate as the configuration names it.
    pub(super) fn chain_in_file(&self) -> String {
        in_file(&self.files.chain)
    }

    /// The key as the configuration names it.
    pub(super) fn key_in_file(&self) -> String {
        in_file(&self.files.key)
    }
}

/// Returns whether systemd hands one of the files over.
pub(super) fn has_credential(files: &CertificateFiles) -> bool {
    [&files.chain, &files.key].iter().any(|path| path.starts_with(CREDENTIALS))
}

/// Makes the key, with the owner and mode of the old one, and then the certificate: a certificate has its key.
fn make(files: &CertificateFiles, old: &CertificateFiles, state_directory: &Path) -> Result<(), CommandError> {
    let failed = |error: state::Error| Exit::IoError.because(error);
    if let Some(directory) = files.key.parent() {
        state::sweep(directory);
    }
    let made = certificate::make_application_pair().map_err(|error| Exit::OsError.because(error))?;
    let is_new = if state::is_there(&old.key) {
        state::write_new_like(&files.key, &made.key, &old.key).map_err(failed)?
    } else {
        let is_new = state::write_new(&files.key, &made.key, Access::Private).map_err(failed)?;
        if let (true, false, Some(owner)) = (is_new, has_credential(files), ServiceUser::of(state_directory)) {
            let given = chown(&files.key, Some(owner.user), Some(owner.group));
            given.map_err(|error| {
                Exit::IoError.because(format_args!("cannot give {} away: {error}", files.key.display()))
            })?;
        }
        is_new
    };
    let is_new = is_new && state::write_new(&files.chain, &made.chain, Access::Public).map_err(failed)?;
    if is_new {
        return Ok(());
    }
    Err(Exit::Unavailable.because(format_args!(
        "another program has made {} or {} at this moment: run the same command again",
        files.key.display(),
        files.chain.display()
    )))
}

fn in_file(path: &Path) -> String {
    path.strip_prefix(CREDENTIALS)
        .map_or_else(|_| path.display().to_string(), |name| format!("credential:{}", name.display()))
}

/// The number at the end of a file's name; 1 where it has none.
fn number_of(path: &Path) -> u32 {
    split(path).1.unwrap_or(1)
}

/// The same name with this number.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{}-{number}{extension}", split(path).0))
}

/// The name without number and extension, and the number.
fn split(path: &Path) -> (String, Option<u32>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let number = stem.rsplit_once('-').and_then(|(name, number)| {
        // A longer one is a date, or else no count.
        let is_count =
            number.len() <= 3 && !number.starts_with('0') && number.bytes().all(|octet| octet.is_ascii_digit());
        if is_count && !name.is_empty() { Some((name.to_owned(), number.parse().ok()?)) } else { None }
    });
    match number {
        Some((name, number)) => (name, Some(number)),
        None => (stem, None),
    }
}

/// The number of names that are tried.
const MOST: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_name_counts() {
        for (path, expected) in [
            ("/etc/packetboat/app.pem", "/etc/packetboat/app-2.pem"),
            ("/etc/packetboat/app-2.pem", "/etc/packetboat/app-3.pem"),
            ("/etc/packetboat/app-99.key", "/etc/packetboat/app-100.key"),
            ("/x/app-2027.pem", "/x/app-2027-2.pem"),
            ("/x/app-01", "/x/app-01-2"),
            ("/x/-2.pem", "/x/-2-2.pem"),
        ] {
            let path = Path::new(path);
            assert_eq!(numbered(path, number_of(path) + 1), Path::new(expected));
        }
    }

    #[test]
    fn a_credential_is_named_as_one() {
        assert_eq!(in_file(Path::new("/etc/packetboat/credentials/app-2.key")), "credential:app-2.key");
        assert_eq!(in_file(Path::new("/etc/packetboat/app-2.key")), "/etc/packetboat/app-2.key");
    }

    #[test]
    fn no_file_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let old = CertificateFiles { chain: path("app.pem"), key: path("app.key") };
        let made = certificate::make_application_pair().unwrap();
        state::write(&old.key, &made.key, Access::Private).unwrap();
        // Half a pair, and one that does not last longer than the one in use.
        std::fs::write(path("app-2.key"), "mine").unwrap();
        state::write(&path("app-3.pem"), &made.chain, Access::Public).unwrap();
        state::write(&path("app-3.key"), &made.key, Access::Private).unwrap();
        state::write(&old.chain, &made.chain, Access::Public).unwrap();
        let new = NewPair::beside(&old, directory.path()).unwrap();
        assert!(new.is_made);
        assert_eq!(new.files.chain, path("app-4.pem"));
        assert_eq!(std::fs::read(path("app-2.key")).unwrap(), b"mine");
        assert_eq!(std::fs::read(path("app-3.key")).unwrap(), made.key.as_slice());
    }
}
