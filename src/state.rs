//! Files in the state directory: written whole or not at all, and private ones only if nobody else can read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, access, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::crypto;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone.
    Private,
    /// Everybody.
    Public,
}

/// Makes the directory if it is missing, for its owner alone.
///
/// # Errors
/// Not allowed, no space, or something else stands there; the text says what to do.
pub fn make_directory(directory: &Path) -> Result<(), String> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
        format!(
            "cannot make {}: {error}; set state_directory to a directory that this user may write, or make it",
            directory.display()
        )
    })
}

/// Whether the directory is there or could be made, and files written in it. Nothing is made to find out.
///
/// # Errors
/// It could not; the text says what to do.
pub fn could_make_directory(directory: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    let there = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    if there.is_dir() && access(there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok() {
        return Ok(());
    }
    Err(format!(
        "cannot make {}, because {} is no directory that this user may write; set state_directory to another one",
        directory.display(),
        there.display()
    ))
}

/// Writes a file so that it is there whole or not at all, after a crash too: temporary file, fsync, rename, fsync of
/// the directory.
///
/// # Errors
/// Not allowed or no space; what was there before is still there.
pub fn write(path: &Path, content: &[u8], access: Access) -> Result<(), String> {
    place(path, content, access, |temporary| fs::rename(temporary, path)).map(drop)
}

/// The same, where nothing is there yet. Whether it was written: if somebody else was faster, theirs stays.
///
/// # Errors
/// Not allowed or no space.
pub fn write_new(path: &Path, content: &[u8], access: Access) -> Result<bool, String> {
    place(path, content, access, |temporary| match fs::hard_link(temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.and_then(|()| fs::remove_file(temporary)).map(|()| true),
    })
}

fn place<T>(
    path: &Path,
    content: &[u8],
    access: Access,
    into_place: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    // A name that nobody can have prepared a link under.
    let random: [u8; 8] = crypto::random().map_err(|refused| failed(&refused))?;
    let temporary = path.with_extension(format!("{TEMPORARY}{:016x}", u64::from_be_bytes(random)));
    let result = write_temporary(path, &temporary, content, access).and_then(|directory| {
        let placed = into_place(&temporary)?;
        directory.sync_all()?;
        Ok(placed)
    });
    // It is gone already, or it never was, or it is in nobody's way.
    let _ = fs::remove_file(&temporary);
    result.map_err(|error| failed(&error))
}

/// The directory is returned, to be synced once the file has its name.
fn write_temporary(path: &Path, temporary: &Path, content: &[u8], access: Access) -> io::Result<File> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    file.write_all(content)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(directory)?;
    // Root may look after files of the service's own user, who must be able to read them afterwards.
    let (owner, own) = (directory.metadata()?, file.metadata()?);
    if owner.uid() != own.uid() && own.uid() == 0 {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    Ok(directory)
}

/// Whether it is one that a crash has left: half of a file, or one without its name.
pub fn is_temporary(path: &Path) -> bool {
    path.extension().and_then(|extension| extension.to_str()).is_some_and(|one| one.starts_with(TEMPORARY))
}

/// Reads a file that holds a key. One that others can read is refused, with the command that mends it; but not where
/// container runtimes put secrets, which nobody outside of the container sees whatever their mode.
///
/// # Errors
/// Missing, not readable, or readable by others.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: io::Error| {
        let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|one| path.starts_with(one));
        let advice = if is_credential && error.kind() == io::ErrorKind::NotFound {
            "; credentials are handed over when the service starts: put it into /etc/packetboat/credentials, and restart"
        } else {
            ""
        };
        format!("cannot read {}: {error}{advice}", path.display())
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let (shown, own) = (path.display(), geteuid().as_raw());
    if !CONTAINER_SECRETS.iter().any(|directory| path.starts_with(directory)) {
        let mode = metadata.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(format!(
                "{shown} can be read by everybody (mode {mode:03o}); mend it with: chmod o-rwx {shown}"
            ));
        }
        if mode & 0o020 != 0 {
            return Err(format!(
                "{shown} can be changed by a group (mode {mode:03o}); mend it with: chmod g-w {shown}"
            ));
        }
        if ![own, 0].contains(&metadata.uid()) && own != 0 {
            return Err(format!("{shown} belongs to user {}; mend it with: chown {own} {shown}", metadata.uid()));
        }
    }
    whole(file, &metadata).map_err(unreadable)
}

/// Locks a file over all processes, and makes it first where it is missing. Waits for who has it. Given back when the
/// file is closed, also by a kill.
///
/// # Errors
/// It cannot be opened; the text holds the command that mends it.
pub fn lock(path: &Path) -> Result<File, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot lock {}: {error}", path.display());
    // Not through a link: somebody else could have laid it.
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    let opened =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).custom_flags(no_links).open(path);
    let file = opened.map_err(|error| match fs::symlink_metadata(path) {
        Ok(metadata) => is_ours_alone(path, &metadata).err().unwrap_or_else(|| failed(&error)),
        Err(_) => failed(&error),
    })?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(&error))?;
    Ok(file)
}

/// Reads a file that packetboat has made for itself: nobody else may own, read or write it.
///
/// # Errors
/// Missing, not readable, or not ours alone; the text holds the command that mends it.
pub fn read_own(path: &Path) -> Result<Zeroizing<Vec<u8>>, (io::ErrorKind, String)> {
    let unreadable = |error: io::Error| (error.kind(), format!("cannot read {}: {error}", path.display()));
    let not_ours = |message| (io::ErrorKind::PermissionDenied, message);
    let file = File::open(path).map_err(|error| match fs::metadata(path) {
        // Why it cannot be opened mends more than that it cannot.
        Ok(metadata) => is_ours_alone(path, &metadata).err().map_or_else(|| unreadable(error), not_ours),
        Err(_) => unreadable(error),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    is_ours_alone(path, &metadata).map_err(not_ours)?;
    whole(file, &metadata).map_err(unreadable)
}

/// Whether a directory that packetboat has made for itself is still for it alone.
///
/// # Errors
/// It is not; the text holds the command that mends it.
pub fn check_own(directory: &Path) -> Result<(), String> {
    // Not where a link leads to: somebody else could have laid it.
    let metadata = fs::symlink_metadata(directory);
    let metadata = metadata.map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    if !metadata.is_dir() {
        return Err(format!("{} is no directory; put it away", directory.display()));
    }
    is_ours_alone(directory, &metadata)
}

/// At once in its full size: a buffer that grows would leave copies behind.
fn whole(mut file: File, metadata: &fs::Metadata) -> io::Result<Zeroizing<Vec<u8>>> {
    let size = usize::try_from(metadata.size()).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn is_ours_alone(path: &Path, metadata: &fs::Metadata) -> Result<(), String> {
    let shown = path.display();
    let own = geteuid().as_raw();
    if metadata.uid() != own {
        let owner = metadata.uid();
        return Err(if own == 0 {
            format!(
                "{shown} belongs to user {owner}, and this is root; run this as that user: sudo -u '#{owner}' packetboat ..."
            )
        } else {
            format!("{shown} belongs to user {owner}, and this is user {own}; mend it with: chown {own} {shown}")
        });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let right = if metadata.is_dir() { 700 } else { 600 };
        return Err(format!("{shown} is open to others (mode {mode:03o}); mend it with: chmod {right} {shown}"));
    }
    Ok(())
}

/// What changes whenever a file is replaced, rewritten, or its mode mended: inode and time. None if it is not there.
pub type Stamp = Option<(u64, i64, i64)>;

/// A file's present stamp.
pub fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).ok().map(|one| (one.ino(), one.ctime(), one.ctime_nsec()))
}

/// Reads a file that everybody may see.
///
/// # Errors
/// Missing or not readable.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Whether a failure to open a file, as told here, passes by itself: the process or the computer is short of open files or of
/// memory for the moment. The text holds the operating system's number, as every [`io::Error`] does.
pub fn passes(failure: &str) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM]
        .iter()
        .any(|errno| failure.contains(&format!("(os error {})", errno.raw_os_error())))
}

const TEMPORARY: &str = "new-";
/// Docker's and Kubernetes'.
const CONTAINER_SECRETS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

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
    fn a_shortage_passes_and_a_missing_file_does_not() {
        let failure = |errno: Errno| format!("cannot read /x: {}; do this", io::Error::from(errno));
        assert!(passes(&failure(Errno::MFILE)) && passes(&failure(Errno::NFILE)) && passes(&failure(Errno::NOMEM)));
        assert!(!passes(&failure(Errno::NOENT)) && !passes(&failure(Errno::ACCESS)));
    }

    #[test]
    fn a_key_that_everybody_reads_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write(&path, b"one", Access::Public).unwrap();
        assert!(read_private(&path).unwrap_err().contains("chmod o-rwx"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).is_ok());
    }
}
