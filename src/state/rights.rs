//! Advice about owners and modes of files, as commands that can be followed where the files stand: on a disk of this
//! computer, or on a read-only mount of a container.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags, accessat, statvfs};
use rustix::process::{getegid, geteuid};

use super::error::{Error, Operation};
use super::names::group_name;

/// A command that mends the rights of a file or directory.
enum Command {
    /// The file's owner changes its mode.
    Chmod(&'static str),
    /// Root gives the file to this user.
    Chown(String),
    /// Root keeps the file, and lets this group read it.
    Share(String),
}

impl Command {
    /// The command line for this path.
    fn line(&self, path: &Path) -> String {
        let shown = quoted(path);
        match self {
            Self::Chmod(mode) => format!("chmod {mode} {shown}"),
            Self::Chown(user) => format!("chown {user} {shown}"),
            Self::Share(group) => format!("chown root:{group} {shown}; chmod 640 {shown}"),
        }
    }
}

/// Proves that nobody else owns a file, and that nobody else may read or write it.
///
/// # Errors
/// Another user does or may; the text says what mends it.
pub(super) fn is_ours_alone(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let own = geteuid().as_raw();
    if metadata.uid() != own {
        let owner = metadata.uid();
        return Err(if own == 0 {
            let fault = format!("belongs to user {owner}, and this is root");
            Error::wrong(Operation::Check, path, fault)
                .advise(format!("run this as that user: sudo -u '#{owner}' packetboat ..."))
        } else {
            let fault = format!("belongs to {}, and this is user {own}", name(owner));
            Error::wrong(Operation::Check, path, fault).advise(mend(path, &Command::Chown(own.to_string())))
        });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let command = Command::Chmod(if metadata.is_dir() { "700" } else { "600" });
        let fault = format!("is open to others (mode {mode:03o})");
        return Err(Error::wrong(Operation::Check, path, fault).advise(mend(path, &command)));
    }
    Ok(())
}

/// Proves that other users cannot put files into the state directory in place of packetboat's. Rights that only the
/// directory's owner can mend, as of a container's volume, are returned as a warning.
///
/// # Errors
/// Other users may write there, and this user can mend that; the text holds the command.
pub fn open_to_others(directory: &Path) -> Result<Option<Error>, Error> {
    // One that is not there is made for its owner alone.
    let Ok(metadata) = fs::metadata(directory) else { return Ok(None) };
    let (own, mode) = (geteuid().as_raw(), metadata.mode() & 0o7777);
    if !metadata.is_dir() || mode & 0o022 == 0 {
        return Ok(None);
    }
    let is_ours = own == 0 || metadata.uid() == own;
    let whose = if mode & 0o002 != 0 { "every user" } else { "its group" };
    let fault = format!("can be changed by {whose} (mode {mode:03o})");
    let advice = mend(directory, &Command::Chmod("700"));
    let error = Error::wrong(Operation::Check, directory, fault).advise(advice);
    match (mode & 0o002 != 0, is_ours) {
        (true, true) => Err(error),
        (true, false) | (false, true) => Ok(Some(error)),
        // Kubernetes gives a pod's volumes to root and the group of the pod (fsGroup).
        (false, false) => Ok(None),
    }
}

/// Returns a warning, if this is root and another user owns the state directory and can change what is in it.
pub fn of_another_than_root(directory: &Path) -> Option<String> {
    let owner = fs::metadata(directory).ok()?.uid();
    (geteuid().is_root() && owner != 0).then(|| {
        let shown = directory.display();
        format!(
            "{shown} belongs to user {owner}, who can change what is kept there, and this is root: run packetboat as \
             that user, as a service does (systemctl start packetboat); or, if none does, give all of it to root with: \
             chown -R 0:0 {shown}"
        )
    })
}

/// Proves that other users cannot read or change a file with a secret.
///
/// # Errors
/// They can; the text says what mends it.
pub(super) fn is_kept_from_others(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let (own, mode) = (geteuid().as_raw(), metadata.mode() & 0o777);
    let (fault, command) = if mode & 0o007 != 0 {
        (format!("can be read by everybody (mode {mode:03o})"), Command::Chmod("o-rwx"))
    } else if mode & 0o020 != 0 {
        (format!("can be changed by a group (mode {mode:03o})"), Command::Chmod("g-w"))
    } else if ![own, 0].contains(&metadata.uid()) && own != 0 {
        (format!("belongs to {}, and this is user {own}", name(metadata.uid())), readable_by_own_group())
    } else {
        return Ok(());
    };
    Err(Error::wrong(Operation::Check, path, fault).advise(mend(path, &command)))
}

/// Returns why this user may not open a file, and what mends it. None where owner and mode are not the cause.
pub fn missing_rights(path: &Path) -> Option<String> {
    let own = geteuid().as_raw();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut above: Vec<&Path> = absolute.ancestors().skip(1).collect();
    above.reverse();
    if let Some(closed) = above.into_iter().find(|directory| is_closed(directory, Access::EXEC_OK)) {
        let (group, shown) = (group_name(getegid().as_raw()), quoted(closed));
        if closed == Path::new(CREDENTIALS) {
            return Some(format!(
                "{}, and systemd hands its files over: run this as root, and name the file as \"credential:NAME\"",
                owned(closed)
            ));
        }
        // A home stays closed.
        let opening = if HOMES.iter().any(|home| closed.starts_with(home)) {
            String::new()
        } else {
            format!(", or mend it as root with: chgrp {group} {shown}; chmod g+x {shown}")
        };
        return Some(format!(
            "{}, which user {own} may not enter: put the file elsewhere, as into /etc/packetboat{opening}",
            owned(closed)
        ));
    }
    let command = readable_by_own_group();
    is_closed(path, Access::READ_OK)
        .then(|| format!("{}, and this is user {own}; {}", owned(path), mend(path, &command)))
}

/// Returns why this user may not use its own state directory, and the command that mends it: another user, as root, has
/// made it or files in it. None where owners are not to blame.
pub fn why_not_ours(directory: &Path) -> Option<String> {
    let (own, group) = (geteuid().as_raw(), getegid().as_raw());
    if own == 0 {
        return None;
    }
    let is_foreign = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.uid() != own);
    let what = if is_foreign(directory) && is_closed(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        owned(directory)
    } else {
        let inside = [directory.to_path_buf(), directory.join("tokens")];
        let entries = inside.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
        let mut foreign: Vec<_> = entries.filter(|path| is_foreign(path)).collect();
        foreign.sort();
        let (first, more) = (foreign.first()?, foreign.len().saturating_sub(1));
        if more == 0 { owned(first) } else { format!("{}, as do {more} more files there", owned(first)) }
    };
    let command = Command::Chown(format!("-R {own}:{group}"));
    Some(format!("{what}, and this is user {own}; {}", mend(directory, &command)))
}

/// The command that makes a file readable by this user's group: its content stays root's to change.
fn readable_by_own_group() -> Command {
    Command::Share(group_name(getegid().as_raw()))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Returns what mends rights: a command, or, on a read-only mount, what to write where the mount is described.
fn mend(path: &Path, command: &Command) -> String {
    let line = command.line(path);
    if !is_on_a_read_only_mount(path) {
        let as_root = match command {
            Command::Chmod(_) => "",
            Command::Chown(_) | Command::Share(_) => " as root",
        };
        return format!("mend it{as_root} with: {line}");
    }
    let (own, group) = (geteuid().as_raw(), getegid().as_raw());
    let kubernetes = if own == 0 {
        "defaultMode: 0400".to_owned()
    } else {
        format!("defaultMode: 0440, and fsGroup: {group} for the pod")
    };
    format!(
        "it is mounted read-only: mend it where the mount is described, with {kubernetes} (Kubernetes), with mode: \
         0400 and uid: \"{own}\" (a secret of Docker Swarm), or on the host with: {line}"
    )
}

/// Returns whether the mount is read-only: by its flag, or by the links that Kubernetes keeps its volumes behind.
fn is_on_a_read_only_mount(path: &Path) -> bool {
    let has_links = path.parent().is_some_and(|directory| directory.join("..data").is_symlink());
    has_links || statvfs(path).is_ok_and(|about| about.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn is_closed(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS) == Err(rustix::io::Errno::ACCESS)
}

/// Returns the fault of a directory's disk that lets nobody write there, in a word; none where there is none.
pub fn disk_fault(directory: &Path) -> Option<&'static str> {
    let about = statvfs(directory).ok()?;
    if about.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some("read-only");
    }
    (about.f_bavail == 0 || (about.f_files > 0 && about.f_favail == 0)).then_some("full")
}

fn owned(path: &Path) -> String {
    let shown = path.display();
    fs::metadata(path).map_or_else(
        |_| shown.to_string(),
        |metadata| format!("{shown} belongs to {} (mode {:03o})", name(metadata.uid()), metadata.mode() & 0o777),
    )
}

fn name(user: u32) -> String {
    if user == 0 { "root".to_owned() } else { format!("user {user}") }
}

/// Homes of people, and of root.
const HOMES: [&str; 2] = ["/root", "/home"];
/// The directory that the packaged unit takes credentials from.
const CREDENTIALS: &str = "/etc/packetboat/credentials";
