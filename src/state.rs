//! Files in the state directory: written whole or not at all, and read only if nobody else can write them.

mod denial;
mod error;
mod lock;
mod read;
mod rights;
mod save_status;
pub mod socket;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{FlockOperation, access, flock};
use rustix::process::{getegid, geteuid};

use crate::crypto;
pub use denial::{NAME_RESOLUTION, confined, denial, denial_of, name_resolution_denial};
pub use error::Error;
use error::Operation;
pub use lock::{Hold, hold, lock};
pub use read::{read, read_own, read_pem, read_private, read_private_pem, read_secret, read_token, read_up_to, shown};
use rights::is_ours_alone;
pub use rights::{of_another_than_root, open_to_others, why_not_ours};
pub use save_status::{SaveChange, SaveStatus};

/// The users that may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The owner alone may read it.
    Private,
    /// Everybody may read it.
    Public,
}

/// Makes a directory for its owner alone, if it is missing.
///
/// # Errors
/// Not allowed, no space, or something else stands there; the text says what to do.
pub fn make_directory(directory: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        let shown = directory.display();
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        Error::io(Operation::Make, directory, error).advise(format!(
            "make it as root with: install -d -m 700 -o {user} -g {group} {shown}, or set state_directory to a \
             directory that this user may write"
        ))
    })
}

/// Proves that the directory is there or could be made, and that files can be written in it. Nothing is made.
///
/// # Errors
/// It could not; the text says what to do.
pub fn could_make_directory(directory: &Path) -> Result<(), Error> {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    let there = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    if there.is_dir() && access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok() {
        return Ok(());
    }
    if let Some(why) = why_not_ours(directory).filter(|_| directory.is_dir()) {
        return Err(Error::wrong(Operation::WriteIn, directory, why));
    }
    let fault = format!("because {} is no directory that this user may write", there.display());
    Err(Error::wrong(Operation::Foresee, directory, fault).advise("set state_directory to another one"))
}

/// Writes a file whole or not at all, also over a crash: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// Not allowed or no space; what was there before is still there.
pub fn write(path: &Path, content: &[u8], access: Access) -> Result<(), Error> {
    write_with(path, content, access, |temporary| fs::rename(temporary, path)).map(drop)
}

/// Writes a file only if there is none. Returns whether it did: if another process was faster, its file stays.
///
/// # Errors
/// Not allowed or no space.
pub fn write_new(path: &Path, content: &[u8], access: Access) -> Result<bool, Error> {
    write_with(path, content, access, |temporary| match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.and_then(|()| fs::remove_file(temporary)).map(|()| true),
    })
}

fn write_with<T>(
    path: &Path,
    content: &[u8],
    access: Access,
    into_place: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, Error> {
    // A name that nobody can have prepared a link under.
    let random: [u8; 8] = crypto::random().map_err(|error| Error::crypto(Operation::Write, path, error))?;
    let temporary = path.with_extension(format!("{TEMPORARY}{:016x}", u64::from_be_bytes(random)));
    let result = write_temporary(path, &temporary, content, access).and_then(|(_written, directory)| {
        let placed = into_place(&temporary)?;
        directory.sync_all()?;
        Ok(placed)
    });
    // It is gone already, or it never was, or it is in nobody's way.
    let _ = fs::remove_file(&temporary);
    result.map_err(|error| Error::io(Operation::Write, path, error))
}

/// Writes a temporary file, and returns it locked, with the directory that is to be synced after the rename.
fn write_temporary(path: &Path, temporary: &Path, content: &[u8], access: Access) -> io::Result<(File, File)> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // For [`sweep`]. Where files cannot be locked, it leaves them all.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    file.write_all(content)?;
    let directory = directory_of(path);
    give_to_owner_of(directory, &file)?;
    file.sync_all()?;
    Ok((file, File::open(directory)?))
}

/// Gives a file that root writes to the owner of the directory, who must be able to read it.
fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    let (owner, own) = (fs::metadata(directory)?, file.metadata()?);
    if owner.uid() != own.uid() && own.uid() == 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns whether anything has this path, even a link that leads nowhere. A path that cannot be looked at counts.
pub fn is_there(path: &Path) -> bool {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    !matches!(fs::symlink_metadata(path), Err(error) if absent.contains(&error.kind()))
}

/// Removes temporary files that crashes have left. A file that another process is writing stays.
pub fn sweep(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !is_temporary(&path) || !entry.file_type().is_ok_and(|one| one.is_file()) {
            continue;
        }
        let left = File::open(&path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if left {
            // If it stays, it is in nobody's way.
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns whether this is the name of a temporary file.
fn is_temporary(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|one| one.starts_with(TEMPORARY))
}

/// Proves that a directory that packetboat has made is still closed to others.
///
/// # Errors
/// It is open to others; the text holds the command that mends it.
pub fn check_own(directory: &Path) -> Result<(), Error> {
    // Not where a link leads to: somebody else could have laid it.
    let metadata = fs::symlink_metadata(directory);
    let metadata = metadata.map_err(|error| Error::io(Operation::Read, directory, error))?;
    if !metadata.is_dir() {
        return Err(Error::wrong(Operation::Check, directory, "is no directory").advise("put it away"));
    }
    is_ours_alone(directory, &metadata)
}

/// The inode and the time of change of a file. It differs once the file is replaced or rewritten, or its mode mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// Returns the present stamp of a file; none if it is missing.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some(Stamp { inode: about.ino(), seconds: about.ctime(), nanoseconds: about.ctime_nsec() })
}

const TEMPORARY: &str = "new-";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_file_is_private_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write(&path, b"one", Access::Private).unwrap();
        write(&path, b"two", Access::Private).unwrap();
        assert_eq!(read_private(&path).unwrap().as_slice(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn halves_are_swept_and_what_is_being_written_stays() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["ca.new-0123456789abcdef", "tokens", "ca.pem", "ca.new-5555"] {
            fs::write(at(name), b"half").unwrap();
        }
        let written = File::open(at("ca.new-5555")).unwrap();
        flock(&written, FlockOperation::LockExclusive).unwrap();
        sweep(directory.path());
        let there = |name: &str| at(name).exists();
        assert_eq!(
            ["ca.new-0123456789abcdef", "tokens", "ca.pem", "ca.new-5555"].map(there),
            [false, true, true, true]
        );
        drop(written);
        sweep(directory.path());
        assert!(!there("ca.new-5555"));
    }

    #[test]
    fn nothing_but_files_is_read_and_no_more_than_they_hold() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).unwrap();
        fs::create_dir(at("directory")).unwrap();
        File::create(at("huge")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        fs::set_permissions(at("huge"), fs::Permissions::from_mode(0o600)).unwrap();
        for (name, word) in [("pipe", "no file"), ("directory", "no file"), ("huge", "damaged"), ("link", "No such")] {
            let path = at(name);
            let said = [read(&path).err(), read_private(&path).err(), read_own(&path).err()];
            for message in said {
                let message = message.unwrap().to_string();
                assert!(message.contains(word) && message.contains(name), "{name}: {message}");
            }
        }
        // A lock that is none of ours is not waited for, and a link is not followed.
        for name in ["pipe", "directory", "link"] {
            assert!(lock(&at(name)).unwrap_err().to_string().contains("no file"), "{name}");
        }
        assert!(!read_own(&at("link")).unwrap_err().is_missing());
        assert!(read_own(&at("missing")).unwrap_err().is_missing());
    }

    /// To open a pipe wakes its writer, and to open a device may act on it.
    #[test]
    fn what_is_no_file_is_not_opened() {
        use rustix::fs::inotify;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        fs::write(at("file"), "x").unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, directory.path(), inotify::WatchFlags::OPEN).unwrap();
        let opened = || {
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            inotify::Reader::new(&watch, &mut buffer).next().map(|event| event.file_name().unwrap().to_owned())
        };
        for name in ["pipe", "link"] {
            for error in [read(&at(name)).unwrap_err(), read_private(&at(name)).unwrap_err()] {
                let message = error.to_string();
                assert!(message.contains("no file"), "{message}");
            }
        }
        assert!(opened().is_err(), "it was opened");
        read(&at("file")).unwrap();
        assert_eq!(opened().unwrap().as_c_str(), c"file");
    }

    #[test]
    fn a_path_that_leads_nowhere_may_be_the_secret_itself() {
        for secret in ["/Hunter2secretKEY", "/aG9yc2U/YmF0dGVyeQ=="] {
            for message in [read_secret(Path::new(secret)), read_token(Path::new(secret))].map(Result::unwrap_err) {
                let (message, debug) = (message.to_string(), format!("{message:?}"));
                assert!(!debug.contains(secret), "{debug}");
                assert!(!message.contains(secret) && message.contains("No such file"), "{message}");
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(read_secret(&path).unwrap_err().to_string().contains(&path.display().to_string()));
    }

    #[test]
    fn a_key_that_everybody_reads_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write(&path, b"one", Access::Public).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("chmod o-rwx"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).is_ok());
    }
}
