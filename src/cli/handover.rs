//! A command that root runs as the service's user gets its credentials as the service gets them from systemd: as copies
//! in a private directory, which ends with the command.
//!
//! The service's user may try to have root read other files for it, by links or by names in a configuration of its own.
//! Therefore root reads regular files of [`DIRECTORY`] alone, which nobody else can change, follows no link, and writes
//! into a directory that nobody else can enter before it is complete.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, Uid, fchmod, fchown, flock, mkdirat, open, openat, statat, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::service_user::ServiceUser;
use crate::config::CREDENTIALS as DIRECTORY;
use crate::crypto;

/// Credentials that are handed over. Dropping it removes them.
pub(super) struct Handover {
    /// Root's own directory. That of the service's user lies in it, so that nobody else can put another in its stead.
    outer: PathBuf,
    inner: OwnedFd,
    names: Vec<String>,
    /// Names that [`DIRECTORY`] does not have.
    pub(super) missing: Vec<String>,
    /// Held for as long as the directory is in use.
    _lock: OwnedFd,
}

impl Handover {
    /// Hands copies of these credentials over to a user, and removes those that a killed command has left.
    ///
    /// # Errors
    /// The credentials could be another user's trap, or the copies cannot be made.
    pub(super) fn of(names: &[String], user: &ServiceUser) -> io::Result<Self> {
        let (source, run) = (open_trusted(Path::new(DIRECTORY))?, open_trusted(Path::new(RUN))?);
        sweep();
        let (outer, lock) = make_outer(&run)?;
        let result = fill(&lock, &source, names, user);
        match result {
            Ok((inner, missing)) => Ok(Self { outer, inner, names: names.to_vec(), missing, _lock: lock }),
            Err(error) => {
                remove(&outer);
                Err(error)
            }
        }
    }

    /// The directory for `CREDENTIALS_DIRECTORY`.
    pub(super) fn directory(&self) -> PathBuf {
        self.outer.join(INNER)
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        // From here on its owner changes nothing in it.
        let _ = fchown(&self.inner, Some(Uid::ROOT), Some(Gid::ROOT)).and_then(|()| fchmod(&self.inner, Mode::RWXU));
        // Also if it has mounted something over the directory.
        for name in &self.names {
            let _ = unlinkat(&self.inner, copy_of(name), AtFlags::empty());
        }
        remove(&self.outer);
    }
}

/// Removes a directory of root's in [`RUN`]. Links in it are removed, and never followed.
fn remove(outer: &Path) {
    // What stays is removed by the next command.
    let _ = fs::remove_dir_all(outer);
}

/// Opens a directory that root alone can change, as can be said of each directory above it; no link leads there.
fn open_trusted(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = open("/", flags, Mode::empty())?;
    let mut walked = PathBuf::from("/");
    for part in path.iter().skip(1) {
        walked.push(part);
        let named = |error: Errno| match error {
            Errno::LOOP | Errno::NOTDIR => {
                io::Error::other(format!("{} is no directory, or a link to one", walked.display()))
            }
            error => io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", walked.display())),
        };
        directory = openat(&directory, part, flags, Mode::empty()).map_err(named)?;
        let metadata = File::from(directory.try_clone()?).metadata()?;
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
            return Err(io::Error::other(format!(
                "{} can be changed by others than root (owner {owner}, mode {mode:03o})",
                walked.display()
            )));
        }
    }
    Ok(directory)
}

/// Makes the outer directory under a name that nobody can guess, and locks it.
fn make_outer(run: &impl AsFd) -> io::Result<(PathBuf, OwnedFd)> {
    for _ in 0..ATTEMPTS {
        let random: [u8; 8] = crypto::random().map_err(io::Error::other)?;
        let name = format!("{PREFIX}{:016x}", u64::from_be_bytes(random));
        mkdirat(run, &name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Another command may have swept it away, before it was locked.
        let Ok(outer) = openat(run, &name, flags, Mode::empty()) else { continue };
        let is_locked = flock(&outer, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_locked && statat(run, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            // Others pass through it, and do not open it.
            fchmod(&outer, Mode::RWXU | Mode::XGRP | Mode::XOTH)?;
            return Ok((Path::new(RUN).join(name), outer));
        }
    }
    Err(io::Error::other(format!("no directory can be made in {RUN}")))
}

/// Copies the credentials into the inner directory, and gives that to the user at last.
fn fill(
    outer: &impl AsFd,
    source: &impl AsFd,
    names: &[String],
    user: &ServiceUser,
) -> io::Result<(OwnedFd, Vec<String>)> {
    mkdirat(outer, INNER, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = openat(outer, INNER, flags, Mode::empty())?;
    let (owner, group) = (Some(Uid::from_raw(user.user)), Some(Gid::from_raw(user.group)));
    let mut missing = Vec::new();
    for name in names {
        let content = match read(source, name) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(name.clone());
                continue;
            }
            Err(error) => return Err(io::Error::new(error.kind(), format!("{DIRECTORY}/{name}: {error}"))),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&inner, copy_of(name), flags, Mode::RUSR)?);
        file.write_all(&content)?;
        fchown(&file, owner, group)?;
    }
    fchown(&inner, owner, group)?;
    Ok((inner, missing))
}

/// The name of a copy, as systemd gives it to a file of a directory that is called packetboat.
fn copy_of(name: &str) -> String {
    format!("packetboat_{name}")
}

/// Reads a regular file of the directory, as systemd does: no link, and not more than a credential can hold.
fn read(source: &impl AsFd, name: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let is_link = |error: Errno| match error {
        Errno::LOOP => io::Error::other("it is a link, which systemd does not hand over either"),
        error => error.into(),
    };
    let file = File::from(openat(source, name, flags, Mode::empty()).map_err(is_link)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::Error::other(format!("it is no file, or larger than {LARGEST} octets")));
    }
    let size = usize::try_from(metadata.len()).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    // It may grow while it is read.
    file.take(LARGEST).read_to_end(&mut content)?;
    Ok(content)
}

/// Removes directories that commands have left when they were killed.
fn sweep() {
    for entry in fs::read_dir(RUN).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if !is_ours {
            continue;
        }
        let Ok(outer) = open(entry.path(), flags, Mode::empty()) else { continue };
        // A command that runs has it locked.
        if flock(&outer, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove(&entry.path());
        }
    }
}

/// Root's own directory, in memory.
const RUN: &str = "/run";
const PREFIX: &str = "packetboat-credentials-";
const INNER: &str = "credentials";
const ATTEMPTS: usize = 8;
/// The largest credential of systemd.exec(5).
const LARGEST: u64 = 1024 * 1024;
