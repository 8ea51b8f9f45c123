//! Writes files in the state directory whole or not at all, and sweeps away what a crash has left half written.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::directory_of;
use super::error::{Error, Operation};
use crate::crypto;

/// The users that may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The owner alone may read it.
    Private,
    /// Every user may read the file.
    Public,
}

/// The owner and mode of a file that is written.
#[derive(Clone, Copy)]
enum Rights<'a> {
    /// The owner of the directory owns it.
    Of(Access),
    /// They are those of another file.
    Like(&'a Path),
    /// A user and a group own it, and the user alone may read it.
    To(u32, u32),
}

/// Writes a file whole or not at all, also over a crash: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// Not allowed or no space; what was there before is still there.
pub fn write(path: &Path, content: &[u8], access: Access) -> Result<(), Error> {
    write_with(path, content, Rights::Of(access), |temporary| fs::rename(temporary, path)).map(drop)
}

/// Writes a file like [`write()`], with the owner, group and mode of another file, which may be the one that it replaces.
///
/// # Errors
/// Not allowed or no space; what was there before is still there.
pub fn write_like(path: &Path, content: &[u8], like: &Path) -> Result<(), Error> {
    write_with(path, content, Rights::Like(like), |temporary| fs::rename(temporary, path)).map(drop)
}

/// Writes a file like [`write()`], for a user and a group, and readable for the user alone.
///
/// # Errors
/// Not allowed or no space; what was there before is still there.
pub fn write_for(path: &Path, content: &[u8], (user, group): (u32, u32)) -> Result<(), Error> {
    write_with(path, content, Rights::To(user, group), |temporary| fs::rename(temporary, path)).map(drop)
}

/// Writes a file only if there is none. Returns whether it did: if another process was faster, its file stays.
///
/// # Errors
/// Not allowed or no space.
pub fn write_new(path: &Path, content: &[u8], access: Access) -> Result<bool, Error> {
    write_with(path, content, Rights::Of(access), |temporary| link_new(temporary, path))
}

/// Writes a file like [`write_new`], with the owner, group and mode of another one.
///
/// # Errors
/// Not allowed or no space.
pub fn write_new_like(path: &Path, content: &[u8], like: &Path) -> Result<bool, Error> {
    write_with(path, content, Rights::Like(like), |temporary| link_new(temporary, path))
}

/// Gives a temporary file its name, unless another file has it.
fn link_new(temporary: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.and_then(|()| fs::remove_file(temporary)).map(|()| true),
    }
}

fn write_with<T>(
    path: &Path,
    content: &[u8],
    rights: Rights<'_>,
    into_place: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, Error> {
    let temporary = temporary_beside(path)?;
    let result = write_temporary(path, &temporary, content, rights).and_then(|(_written, directory)| {
        let placed = into_place(&temporary)?;
        directory.sync_all()?;
        Ok(placed)
    });
    // The file may have gone, or never been there, and is in nobody's way.
    let _ = fs::remove_file(&temporary);
    result.map_err(|error| {
        let is_mounted = error.raw_os_error() == Some(Errno::BUSY.raw_os_error());
        let error = Error::io(Operation::Write, path, error);
        if is_mounted { error.advise(MOUNTED) } else { error }
    })
}

/// A temporary name beside a file, which nobody can have prepared a link under.
pub(super) fn temporary_beside(path: &Path) -> Result<PathBuf, Error> {
    let random: [u8; 8] = crypto::random().map_err(|error| Error::crypto(Operation::Write, path, error))?;
    Ok(path.with_extension(format!("{TEMPORARY}{:016x}", u64::from_be_bytes(random))))
}

/// Writes a temporary file, and returns it locked, with the directory that is to be synced after the rename.
fn write_temporary(path: &Path, temporary: &Path, content: &[u8], rights: Rights<'_>) -> io::Result<(File, File)> {
    let mode = match rights {
        Rights::Of(Access::Private) | Rights::Like(_) | Rights::To(..) => 0o600,
        Rights::Of(Access::Public) => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    // The lock tells [`sweep`] that the file is in use. Where files cannot be locked, the sweep leaves all of them.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    file.write_all(content)?;
    let directory = directory_of(path);
    match rights {
        Rights::Of(_) => give_to_owner_of(directory, &file)?,
        Rights::Like(other) => make_like(&file, &fs::metadata(other)?)?,
        Rights::To(user, group) => fchown(&file, Some(user), Some(group))?,
    }
    file.sync_all()?;
    Ok((file, File::open(directory)?))
}

/// Gives a file that root writes to the owner of the directory, who must be able to read it.
pub(super) fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    let (owner, own) = (fs::metadata(directory)?, file.metadata()?);
    if owner.uid() != own.uid() && own.uid() == 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Gives a file the owner, group and mode of another one. The mode comes last: a new owner takes some bits away.
fn make_like(file: &File, other: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (other.uid(), other.gid()) {
        fchown(file, Some(other.uid()), Some(other.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(other.mode() & 0o777))
}

/// Removes temporary files that crashes have left. A file that another process is writing stays.
pub fn sweep(directory: &Path) {
    sweep_if(directory, |_| true);
}

/// Removes temporary files that crashes have left of one file, and of files whose names begin with its own.
pub fn sweep_beside(file: &Path) {
    let stem = file.file_stem().unwrap_or_default();
    let is_of_file = |path: &Path| {
        let name = path.file_stem().unwrap_or_default();
        name == stem || Some(name) == file.file_name()
    };
    sweep_if(directory_of(file), is_of_file);
}

fn sweep_if(directory: &Path, is_meant: impl Fn(&Path) -> bool) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !is_temporary(&path) || !is_meant(&path) || !entry.file_type().is_ok_and(|one| one.is_file()) {
            continue;
        }
        let left = File::open(&path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if left {
            // A file that stays is in nobody's way.
            let _ = fs::remove_file(path);
        }
    }
}

/// Returns whether this is the name of a temporary file: `new-` and 16 hexadecimal digits behind the last dot.
fn is_temporary(path: &Path) -> bool {
    let number = path.extension().and_then(|extension| extension.to_str()?.strip_prefix(TEMPORARY));
    number.is_some_and(|number| number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// A mounted file cannot be replaced, and files are written whole or not at all.
const MOUNTED: &str = "the file itself is mounted, perhaps into a container: mount the directory that it is in instead";
const TEMPORARY: &str = "new-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::read_private;

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
        for name in ["ca.new-0123456789abcdef", "tokens", "ca.pem", "ca.new-5555555555555555", "my.new-chapter"] {
            fs::write(at(name), b"half").unwrap();
        }
        let written = File::open(at("ca.new-5555555555555555")).unwrap();
        flock(&written, FlockOperation::LockExclusive).unwrap();
        sweep(directory.path());
        let there = |name: &str| at(name).exists();
        assert_eq!(
            ["ca.new-0123456789abcdef", "tokens", "ca.pem", "ca.new-5555555555555555"].map(there),
            [false, true, true, true]
        );
        drop(written);
        sweep(directory.path());
        assert!(!there("ca.new-5555555555555555"));
    }
}
