//! Reading reads regular files alone, and no more of them than they can rightly hold. After an accident a path may lead
//! to a directory, a pipe that nobody writes to, or a gigabyte of zeros.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::error::{Error, Operation, UNSHOWN};
use super::rights::{is_kept_from_others, is_ours_alone, missing_rights};
use crate::secret::Secret;
use crate::text;

/// Reads a file that holds a key. One that others can read is refused, with the command that mends it; but not where
/// container runtimes put secrets, which nobody outside of the container sees whatever their mode.
///
/// # Errors
/// Missing, not readable, or readable by others.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unreadable = |error: io::Error| {
        let error = if error.kind() == io::ErrorKind::NotFound && is_credential(path) {
            Error::io(Operation::Read, path, error).advise(CREDENTIAL)
        } else {
            unreadable(path, error)
        };
        if is_shown(path) { error } else { error.without_path() }
    };
    let (file, metadata) = open(path).map_err(unreadable)?;
    if !CONTAINER_SECRETS.iter().any(|directory| path.starts_with(directory)) {
        is_kept_from_others(path, &metadata)?;
    }
    whole(file, &metadata, LARGEST_SECRET).map_err(unreadable)
}

/// Returns whether the service manager has handed a file over: a copy of the time of the start.
pub fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory))
}

/// Reads a secret from a file that is closed to others: one line, without the white space at its end.
///
/// # Errors
/// Missing, not readable, readable by others, empty, or no line of text; the text says what to do.
pub fn read_secret(path: &Path) -> Result<Secret, Error> {
    secret(path, &read_private(path)?)
}

/// Reads a secret from a file whose readers the container runtime decides on.
///
/// # Errors
/// Missing, not readable, empty, or no line of text; the text says what to do.
pub fn read_token(path: &Path) -> Result<Secret, Error> {
    if !is_shown(path) {
        return Err(Error::io(Operation::Read, path, Errno::NOENT).without_path());
    }
    secret(path, &Zeroizing::new(read(path)?))
}

/// Returns the path of a secret's file as messages may repeat it. Where neither the file nor its directory exists, the
/// path may be the secret itself, and is not repeated.
pub fn shown(path: &Path) -> String {
    if is_shown(path) { path.display().to_string() } else { UNSHOWN.to_owned() }
}

fn is_shown(path: &Path) -> bool {
    let directory = super::directory_of(path);
    super::is_there(path) || (directory != Path::new("/") && super::is_there(directory))
}

fn secret(path: &Path, content: &[u8]) -> Result<Secret, Error> {
    let line = text::one_line(content.trim_ascii_end()).map_err(|error| Error::text(path, error))?;
    if line.is_empty() {
        return Err(Error::wrong(Operation::Check, path, "is empty"));
    }
    Ok(Secret::new(line.as_bytes().to_vec()))
}

/// Reads a private key in PEM.
///
/// # Errors
/// Missing, not readable, readable by others, or in another encoding; the text says what to do.
pub fn read_private_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    text::pem(&read_private(path)?).map_err(|error| Error::text(path, error))
}

/// Reads certificates in PEM, which everybody may see.
///
/// # Errors
/// Missing, not readable, or in another encoding; the text says what to do.
pub fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    text::pem(&read(path)?).map_err(|error| Error::text(path, error))
}

/// Reads a file that packetboat has made: nobody else may own, read or write it.
///
/// # Errors
/// Missing, not readable, or open to others; the text holds the command that mends it.
pub fn read_own(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unreadable = |error: io::Error| {
        // The file behind a link may come back, and is not to be made anew meanwhile.
        let leads_nowhere = error.kind() == io::ErrorKind::NotFound && super::is_there(path);
        if leads_nowhere { Error::dangling_link(path, error) } else { unreadable(path, error) }
    };
    let (file, metadata) = open(path).map_err(|error| match fs::metadata(path) {
        // The file's mode explains the failure better than the failure itself.
        Ok(metadata) if metadata.is_file() => is_ours_alone(path, &metadata).err().unwrap_or_else(|| unreadable(error)),
        Ok(_) | Err(_) => unreadable(error),
    })?;
    is_ours_alone(path, &metadata)?;
    whole(file, &metadata, LARGEST_SECRET).map_err(unreadable)
}

/// Reads a file that everybody may see.
///
/// # Errors
/// Missing, not readable, or no file.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    read_up_to(path, LARGEST)
}

/// Reads a file that everybody may see, up to this size.
///
/// # Errors
/// Missing, not readable, no file, or larger than this.
pub fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let read = open(path).and_then(|(file, metadata)| whole(file, &metadata, most));
    let mut content = read.map_err(|error| unreadable(path, error))?;
    Ok(std::mem::take(&mut *content))
}

/// The error of a file that cannot be opened, with what mends it: its owner and mode, or that those are not the cause.
fn unreadable(path: &Path, error: io::Error) -> Error {
    let why = if error.kind() == io::ErrorKind::PermissionDenied { missing_rights(path) } else { None };
    let why = why.or_else(|| super::denial_of(path, &error));
    let error = Error::io(Operation::Read, path, error);
    why.into_iter().fold(error, Error::advise)
}

/// Opens a regular file alone: to open a device can act on it, and to open a pipe wakes its writer. Root follows no
/// other user's link to a third one's file. All this is checked before anything is opened.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    for _ in 0..REPLACEMENTS {
        let (is_link, judged) = judge(path)?;
        let follow = if is_link { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = (follow | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            // The file has become a link since the check.
            Err(error) if !is_link && error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => continue,
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) == (judged.dev(), judged.ino()) {
            return Ok((file, metadata));
        }
    }
    Err(io::Error::other("another file took its place each time that it was read"))
}

/// Returns whether the path is a link, and the file behind it, if that may be opened.
fn judge(path: &Path) -> io::Result<(bool, Metadata)> {
    let named = fs::symlink_metadata(path)?;
    let is_link = named.is_symlink();
    let target = if is_link { fs::metadata(path)? } else { named };
    if !target.is_file() {
        return Err(io::Error::other("it is no file; put it away"));
    }
    if geteuid().is_root() {
        is_no_trap(path, is_link, &target)?;
    }
    Ok((is_link, target))
}

/// Proves that no other user's link leads root to a file that root alone may read. (Links of root's own are followed:
/// Kubernetes keeps its volumes behind such.)
fn is_no_trap(path: &Path, is_link: bool, target: &Metadata) -> io::Result<()> {
    let owner = if is_link {
        fs::symlink_metadata(path)?.uid()
    } else if target.nlink() > 1 {
        fs::metadata(super::directory_of(path))?.uid()
    } else {
        return Ok(());
    };
    if owner == 0 || owner == target.uid() {
        return Ok(());
    }
    Err(io::Error::other(format!("it is a link that user {owner} has made to another user's file; put it away")))
}

/// Reads a file into a buffer of its full size: one that grows would leave copies of a secret behind.
fn whole(file: File, metadata: &Metadata, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let too_large = || io::Error::other(format!("it is larger than {most} octets, and damaged"));
    if metadata.size() > most {
        return Err(too_large());
    }
    let size = usize::try_from(metadata.size()).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    // The file may grow while it is read.
    let read = file.take(most + 1).read_to_end(&mut content)?;
    if u64::try_from(read).is_ok_and(|read| read <= most) { Ok(content) } else { Err(too_large()) }
}

/// Advice where a credential of systemd is missing.
const CREDENTIAL: &str =
    "credentials are handed over when the service starts: put it into /etc/packetboat/credentials, and restart";
/// The number of times that a file may be replaced, as by a renewal, between the check and the opening.
const REPLACEMENTS: usize = 8;
/// Largest file with a key, a token or a password.
const LARGEST_SECRET: u64 = 1024 * 1024;
/// Largest file that everybody may see: chains of certificates.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Directories of secrets of Docker and Kubernetes.
const CONTAINER_SECRETS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
