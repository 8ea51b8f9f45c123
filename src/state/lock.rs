//! Locks over all processes: on a file while it is changed, and on the whole directory while a proxy runs there. The
//! kernel releases them, also after a kill.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::error::{Error, Operation};
use super::rights::{is_ours_alone, why_not_ours};
use super::write::give_to_owner_of;

/// The state directory, held by the one process that runs on it for as long as this lives.
pub struct Hold {
    /// The reason why nothing can be written there, if so.
    pub unwritable: Option<Error>,
    _file: Option<File>,
}

/// Locks the directory, which must exist. Call it before anything is read or made in it. Where nothing can be written,
/// and there is no lock file, the directory itself is locked.
///
/// # Errors
/// Another process holds it, or it cannot be locked; the text names the process, and what to do.
pub fn hold(directory: &Path) -> Result<Hold, Error> {
    let path = directory.join(HOLD);
    // Open for reading alone while it is held: who wants to make the disk read-only is not kept from it.
    let (made, unwritable) = match open(&path) {
        Ok(file) => (Some(file), None),
        Err(error) if is_closed_to_us(&error, &path) => {
            let error = Error::io(Operation::WriteIn, directory, error);
            (None, Some(why_not_ours(directory).into_iter().fold(error, Error::advise)))
        }
        Err(error) => return Err(not_held(directory, &path, error)),
    };
    let mut file = match open_to_read(&path) {
        Ok(file) => file,
        // A volume that cannot be written may lack the lock file; then the directory itself is locked.
        Err(_) if unwritable.is_some() && !super::is_there(&path) => {
            File::open(directory).map_err(|error| not_held(directory, directory, error))?
        }
        Err(error) => return Err(not_held(directory, &path, error)),
    };
    let mut locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    // NFS locks for writing what is open for writing.
    if let (Err(Errno::BADF), Some(made)) = (locked, &made) {
        file = made.try_clone().map_err(|error| opening_error(&path, error))?;
        locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    }
    match locked {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let fault = format!(
                "is in use by {}: two proxies would spend each other's refresh tokens. Stop that one, or give this one \
                 another state_directory",
                holder(&mut file)
            );
            return Err(Error::wrong(Operation::Check, directory, fault));
        }
        Err(error) => return Err(not_locked(&path, error)),
    }
    if let Some(mut made) = made {
        // The file names this process to the next one. A full disk only leaves the name out.
        let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
        let _ = made.set_len(0).and_then(|()| writeln!(made, "{} {} {program}", std::process::id(), host()));
    }
    Ok(Hold { unwritable, _file: Some(file) })
}

/// Locks a file over all processes, and makes it first where it is missing. Waits for the process that has it. The lock
/// ends when the file is closed, also by a kill.
///
/// # Errors
/// It cannot be opened; the text holds the command that mends it.
pub fn lock(path: &Path) -> Result<File, Error> {
    let file = match open(path) {
        // A disk that has become read-only still serves the files that it has.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => match open_to_read(path) {
            // A directory that nobody can write needs no lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return File::open(super::directory_of(path)).map_err(|error| opening_error(path, error));
            }
            opened => opened,
        },
        opened => opened,
    };
    let file = file.map_err(|error| opening_error(path, error))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|error| not_locked(path, error))?;
    Ok(file)
}

/// Locks a file like [`lock`], and does not wait. None if another process has the lock. The file is open for reading
/// alone while it is locked, so that a disk can be made read-only meanwhile; on a disk that is, it has to exist.
///
/// # Errors
/// It cannot be opened; the text holds the command that mends it.
pub fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let made = match open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && super::is_there(path) => None,
        Err(error) => return Err(opening_error(path, error)),
    };
    let mut file = open_to_read(path).map_err(|error| opening_error(path, error))?;
    let mut locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    // NFS locks for writing what is open for writing.
    if let (Err(Errno::BADF), Some(made)) = (locked, made) {
        file = made;
        locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
    }
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(not_locked(path, error)),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let is_new = !super::is_there(path);
    // The open follows no link, which another user could have laid, and does not wait for a pipe's other end.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file; put it away"));
    }
    if is_new {
        give_to_owner_of(super::directory_of(path), &file)?;
    }
    Ok(file)
}

fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn is_closed_to_us(error: &io::Error, path: &Path) -> bool {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => true,
        // Another user's lock is another matter than another user's directory.
        io::ErrorKind::PermissionDenied => !super::is_there(path),
        _ => false,
    }
}

/// Returns the error of a directory that cannot be locked; if another user owns it, with the command that mends it.
fn not_held(directory: &Path, path: &Path, error: io::Error) -> Error {
    match why_not_ours(directory).filter(|_| error.kind() == io::ErrorKind::PermissionDenied) {
        Some(why) => Error::io(Operation::Lock, path, error).advise(why),
        None => opening_error(path, error),
    }
}

fn opening_error(path: &Path, error: io::Error) -> Error {
    let failed = || Error::io(Operation::Lock, path, error);
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => is_ours_alone(path, &metadata).err().unwrap_or_else(failed),
        Ok(metadata) if metadata.is_symlink() || metadata.is_dir() => {
            Error::wrong(Operation::Lock, path, "it is no file").advise("put it away")
        }
        Ok(_) | Err(_) => failed(),
    }
}

fn not_locked(path: &Path, error: Errno) -> Error {
    let failed = Error::io(Operation::Lock, path, error);
    match error {
        Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BADF => failed.advise(
            "this file system cannot lock files: put state_directory on a local disk, or mount it with locks (nfs: \
             without nolock, and with a lock service)",
        ),
        _ => failed,
    }
}

/// Returns the process that holds the lock. A process that has just taken it may not have written its name yet.
fn holder(file: &mut File) -> String {
    let told_by = Instant::now() + UNTIL_TOLD;
    loop {
        let mut text = String::new();
        let _ = file.rewind().and_then(|()| file.take(LONGEST_HOLDER).read_to_string(&mut text));
        let mut words = text.trim_end().splitn(3, ' ');
        if let (true, Some(process), Some(on), Some(program)) =
            (text.ends_with('\n'), words.next(), words.next(), words.next())
        {
            let place = if on == host() { String::new() } else { format!(" on the host or in the container {on}") };
            return format!("process {process} ({program}){place}");
        }
        if Instant::now() > told_by {
            return "another packetboat".to_owned();
        }
        thread::sleep(UNTIL_TOLD / 10);
    }
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const HOLD: &str = "lock";
const LONGEST_HOLDER: u64 = 4096;
const UNTIL_TOLD: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let hold_it = || hold(directory.path());
        let held = hold_it().unwrap();
        let Err(error) = hold_it() else { panic!("held twice") };
        let message = error.to_string();
        assert!(message.contains(&format!("in use by process {} (/", std::process::id())), "{message}");
        drop(held);
        assert!(hold_it().is_ok());
    }

    #[test]
    fn another_host_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let held = hold(directory.path()).unwrap();
        fs::write(directory.path().join(HOLD), "1 mailproxy-7d9f /usr/bin/packetboat\n").unwrap();
        let Err(error) = hold(directory.path()) else { panic!("held twice") };
        let message = error.to_string();
        let words = "process 1 (/usr/bin/packetboat) on the host or in the container mailproxy-7d9f";
        assert!(message.contains(words), "{message}");
        fs::write(directory.path().join(HOLD), [0xff; 3]).unwrap();
        let Err(error) = hold(directory.path()) else { panic!("held twice") };
        let message = error.to_string();
        assert!(message.contains("in use by another packetboat"), "{message}");
        drop(held);
    }

    #[test]
    fn a_file_system_without_locks() {
        let message = not_locked(Path::new("/mnt/state/lock"), Errno::NOLCK).to_string();
        assert!(message.starts_with("cannot lock /mnt/state/lock: ") && message.contains("local disk"), "{message}");
    }
}
