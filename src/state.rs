//! Files in the state directory: written whole or not at all, and read only if nobody else can write them.

mod denial;
mod error;
mod lock;
mod names;
mod new_file;
mod read;
mod rights;
mod save_status;
pub mod socket;
mod write;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::fs::access;
use rustix::process::{getegid, geteuid};

pub use denial::{NAME_RESOLUTION, confined, denial, denial_of, name_resolution_denial};
pub use error::Error;
use error::Operation;
pub use lock::{Hold, hold, lock, try_lock};
pub use names::{group_name, group_number, groups_of, user_name};
pub use new_file::{NewFile, remove, rename};
pub use read::{
    is_credential, read, read_own, read_pem, read_private, read_private_pem, read_secret, read_token, read_up_to, shown,
};
use rights::is_ours_alone;
pub use rights::{disk_fault, missing_rights, of_another_than_root, open_to_others, why_not_ours};
pub use save_status::{SaveChange, SaveStatus};
pub use write::{Access, sweep, sweep_beside, write, write_for, write_like, write_new, write_new_like};

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

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns whether anything has this path, even a link that leads nowhere. A path that cannot be looked at counts.
pub fn is_there(path: &Path) -> bool {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    !matches!(fs::symlink_metadata(path), Err(error) if absent.contains(&error.kind()))
}

/// Proves that a directory that packetboat has made is still closed to others.
///
/// # Errors
/// It is open to others; the text holds the command that mends it.
pub fn check_own(directory: &Path) -> Result<(), Error> {
    // A link is not followed, because another user could have laid it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

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

    /// Opening a pipe wakes its writer, and opening a device may act on it.
    #[test]
    fn only_files_are_opened() {
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
