//! Files in the state directory: written whole or not at all, and private ones only if nobody else can read them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::Path;

use rustix::fs::access;
use rustix::process::geteuid;
use zeroize::Zeroizing;

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
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let result = write_and_rename(path, &temporary, content, access);
    if result.is_err() {
        // It may not have come into being; the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn write_and_rename(path: &Path, temporary: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(temporary)?;
    file.write_all(content)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Root may look after files of the service's own user, who must be able to read them afterwards.
    let (owner, own) = (fs::metadata(directory)?, file.metadata()?);
    if owner.uid() != own.uid() && own.uid() == 0 {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(directory)?.sync_all()
}

/// Reads a file that holds a key. One that others can read is refused, with the command that mends it; but not where
/// container runtimes put secrets, which nobody outside of the container sees whatever their mode.
///
/// # Errors
/// Missing, not readable, or readable by others.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let metadata = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let of_container = CONTAINER_SECRETS.iter().any(|directory| path.starts_with(directory));
    if metadata.mode() & 0o007 != 0 && !of_container {
        return Err(format!(
            "{} can be read by everybody (mode {:03o}); mend it with: chmod o-rwx {}",
            path.display(),
            metadata.mode() & 0o777,
            path.display()
        ));
    }
    fs::read(path).map(Zeroizing::new).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Gives what root has just made to the owner of the directory it stands in: the service's own user must be able to use
/// it afterwards.
///
/// # Errors
/// It is gone, or the file system knows no owners.
pub fn adopt(path: &Path) -> Result<(), String> {
    let change = || {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (owner, own) = (fs::metadata(parent)?, fs::metadata(path)?);
        if owner.uid() != own.uid() && geteuid().is_root() {
            chown(path, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok::<(), io::Error>(())
    };
    change().map_err(|error| format!("cannot give {} to its directory's owner: {error}", path.display()))
}

/// Reads a file that packetboat has made for itself: nobody else may own, read or write it.
///
/// # Errors
/// Missing, not readable, or not ours alone; the text holds the command that mends it.
pub fn read_own(path: &Path) -> Result<Zeroizing<Vec<u8>>, (io::ErrorKind, String)> {
    let unreadable = |error: io::Error| (error.kind(), format!("cannot read {}: {error}", path.display()));
    let not_ours = |message| (io::ErrorKind::PermissionDenied, message);
    let mut file = File::open(path).map_err(|error| match fs::metadata(path) {
        // Why it cannot be opened mends more than that it cannot.
        Ok(metadata) => is_ours_alone(path, &metadata).err().map_or_else(|| unreadable(error), not_ours),
        Err(_) => unreadable(error),
    })?;
    let metadata = file.metadata().map_err(unreadable)?;
    is_ours_alone(path, &metadata).map_err(not_ours)?;
    // At once in its full size: a buffer that grows would leave copies behind.
    let size = usize::try_from(metadata.size()).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

/// Whether a directory that packetboat has made for itself is still for it alone.
///
/// # Errors
/// It is not; the text holds the command that mends it.
pub fn check_own(directory: &Path) -> Result<(), String> {
    let metadata = fs::metadata(directory).map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    is_ours_alone(directory, &metadata)
}

fn is_ours_alone(path: &Path, metadata: &fs::Metadata) -> Result<(), String> {
    let shown = path.display();
    let own = geteuid().as_raw();
    // Root may look after files of the service's own user.
    if metadata.uid() != own && own != 0 {
        return Err(format!(
            "{shown} belongs to user {}, and this is user {own}; mend it with: chown {own} {shown}",
            metadata.uid()
        ));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let right = if metadata.is_dir() { 700 } else { 600 };
        return Err(format!("{shown} is open to others (mode {mode:03o}); mend it with: chmod {right} {shown}"));
    }
    Ok(())
}

/// Reads a file that everybody may see.
///
/// # Errors
/// Missing or not readable.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

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
    fn a_key_that_everybody_reads_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write(&path, b"one", Access::Public).unwrap();
        assert!(read_private(&path).unwrap_err().contains("chmod o-rwx"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_private(&path).is_ok());
    }
}
