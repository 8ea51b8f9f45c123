//! Reading: files and nothing else, and no more of them than they can rightly hold. What stands in a file's place after
//! an accident may be a directory, a pipe that nobody writes to, or a gigabyte of nothing.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::rights::{is_kept_from_others, is_ours_alone, missing_rights};
use crate::secret::Secret;
use crate::text;

/// Reads a file that holds a key. One that others can read is refused, with the command that mends it; but not where
/// container runtimes put secrets, which nobody outside of the container sees whatever their mode.
///
/// # Errors
/// Missing, not readable, or readable by others.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unreadable = |error: io::Error| {
        let is_credential = std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|one| path.starts_with(one));
        let advice = match error.kind() {
            io::ErrorKind::NotFound if is_credential => {
                "; credentials are handed over when the service starts: put it into /etc/packetboat/credentials, and restart"
                    .to_owned()
            }
            _ => advice(path, &error),
        };
        format!("cannot read {}: {error}{advice}", path.display())
    };
    let (file, metadata) = open(path).map_err(unreadable)?;
    if !CONTAINER_SECRETS.iter().any(|directory| path.starts_with(directory)) {
        is_kept_from_others(path, &metadata)?;
    }
    whole(file, &metadata, LARGEST_SECRET).map_err(unreadable)
}

/// Reads a secret that a person or a program has put into a file for us alone: one line, but for white space at its end.
///
/// # Errors
/// Missing, not readable, readable by others, empty, or no line of text; the text says what to do.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    secret(path, &read_private(path)?)
}

/// The same, where the container runtime sees to who may read it.
///
/// # Errors
/// Missing, not readable, empty, or no line of text; the text says what to do.
pub fn read_token(path: &Path) -> Result<Secret, String> {
    secret(path, &Zeroizing::new(read(path)?))
}

fn secret(path: &Path, content: &[u8]) -> Result<Secret, String> {
    let line = text::one_line(content.trim_ascii_end()).map_err(|why| format!("{} {why}", path.display()))?;
    if line.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(Secret::new(line.as_bytes().to_vec()))
}

/// Reads a private key in PEM.
///
/// # Errors
/// Missing, not readable, readable by others, or in another encoding; the text says what to do.
pub fn read_private_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    text::pem(&read_private(path)?).map_err(|why| format!("{} {why}", path.display()))
}

/// Reads certificates in PEM, which everybody may see.
///
/// # Errors
/// Missing, not readable, or in another encoding; the text says what to do.
pub fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    text::pem(&read(path)?).map_err(|why| format!("{} {why}", path.display()))
}

/// Reads a file that packetboat has made for itself: nobody else may own, read or write it.
///
/// # Errors
/// Missing, not readable, or not ours alone; the text holds the command that mends it.
pub fn read_own(path: &Path) -> Result<Zeroizing<Vec<u8>>, (io::ErrorKind, String)> {
    let unreadable = |error: io::Error| {
        let leads_nowhere = error.kind() == io::ErrorKind::NotFound && super::is_there(path);
        let (kind, advice) = if leads_nowhere {
            // What a link leads to may come back, and is not to be made anew meanwhile.
            (io::ErrorKind::Other, "; it is a link that leads nowhere".to_owned())
        } else {
            (error.kind(), advice(path, &error))
        };
        (kind, format!("cannot read {}: {error}{advice}", path.display()))
    };
    let not_ours = |message| (io::ErrorKind::PermissionDenied, message);
    let (file, metadata) = open(path).map_err(|error| match fs::metadata(path) {
        // Why it cannot be opened mends more than that it cannot.
        Ok(metadata) if metadata.is_file() => {
            is_ours_alone(path, &metadata).err().map_or_else(|| unreadable(error), not_ours)
        }
        Ok(_) | Err(_) => unreadable(error),
    })?;
    is_ours_alone(path, &metadata).map_err(not_ours)?;
    whole(file, &metadata, LARGEST_SECRET).map_err(unreadable)
}

/// Reads a file that everybody may see.
///
/// # Errors
/// Missing, not readable, or no file.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_up_to(path, LARGEST)
}

/// The same, where more than usual may stand in it.
///
/// # Errors
/// Missing, not readable, no file, or larger than this.
pub fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let read = open(path).and_then(|(file, metadata)| whole(file, &metadata, most));
    let mut content =
        read.map_err(|error| format!("cannot read {}: {error}{}", path.display(), advice(path, &error)))?;
    Ok(std::mem::take(&mut *content))
}

/// What mends it that a file cannot be opened, as the end of a sentence: its owner and mode, or that those are not the cause.
fn advice(path: &Path, error: &io::Error) -> String {
    let why = if error.kind() == io::ErrorKind::PermissionDenied { missing_rights(path) } else { None };
    why.or_else(|| super::why_denied(path, error)).map(|why| format!("; {why}")).unwrap_or_default()
}

/// A file, and never something else that would have us wait. Root follows no other user's link to a third one's file.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let open = |flags: OFlags| {
        let flags = (flags | OFlags::NONBLOCK).bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    let opened = open(OFlags::NOFOLLOW);
    let is_link = matches!(&opened, Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()));
    let file = if is_link { open(OFlags::empty())? } else { opened? };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file; put it away"));
    }
    if geteuid().is_root() {
        is_no_trap(path, is_link, &metadata)?;
    }
    Ok((file, metadata))
}

/// Whoever owns a directory may lay links in it, to files that root alone may read. (Links of root's own are followed:
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

/// At once in its full size: a buffer that grows would leave copies behind.
fn whole(file: File, metadata: &Metadata, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let too_large = || io::Error::other(format!("it is larger than {most} octets, and damaged"));
    if metadata.size() > most {
        return Err(too_large());
    }
    let size = usize::try_from(metadata.size()).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    // It may grow while it is read.
    let read = file.take(most + 1).read_to_end(&mut content)?;
    if u64::try_from(read).is_ok_and(|read| read <= most) { Ok(content) } else { Err(too_large()) }
}

/// Keys, tokens, passwords.
const LARGEST_SECRET: u64 = 1024 * 1024;
/// Chains of certificates.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Docker's and Kubernetes'.
const CONTAINER_SECRETS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
