//! The socket in the state directory: commands of root and of the service's user query the running proxy by it.
//!
//! Any program may bind a port on loopback first. A socket in a directory that only its owner may write is the owner's:
//! no other user fills its queue, answers in the proxy's place, or sees what is sent.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, open};
use rustix::net::socket_with;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_to, listen as take,
};
use rustix::process::geteuid;

use super::error::{Error, Operation};
use super::is_there;

/// Listens in a state directory that this process has locked. A socket that is there is left from a killed process.
///
/// # Errors
/// It cannot be made; the text names it.
pub fn listen(state_directory: &Path) -> Result<UnixListener, Error> {
    let path = state_directory.join(NAME);
    let failed = |error: io::Error| Error::io(Operation::Listen, &path, error);
    match fs::symlink_metadata(&path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(Error::wrong(Operation::Listen, &path, "it is no socket").advise("put it away"));
        }
        Ok(_) => fs::remove_file(&path).map_err(failed)?,
        Err(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|error| failed(error.into()))?;
    // The file that bind makes has the socket's mode (unix(7)), so that it is never open to others.
    fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
    let directory = File::open(state_directory).map_err(failed)?;
    let address = SocketAddrUnix::new(within(&path, &directory, NAME)).map_err(|error| failed(error.into()))?;
    bind(&socket, &address).map_err(|error| failed(error.into()))?;
    take(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
    Ok(UnixListener::from(socket))
}

/// Removes the socket at the end.
pub fn remove(state_directory: &Path) {
    // A directory that cannot be written keeps the socket, where nobody answers.
    let _ = fs::remove_file(state_directory.join(NAME));
}

/// Returns whether a user may use the socket.
pub fn is_for(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Connects to the proxy that runs on a state directory; none where none listens there. The connection does not block.
///
/// # Errors
/// This user may not connect, or it is another user's socket; the text names it.
pub fn connect(state_directory: &Path) -> Result<Option<UnixStream>, Error> {
    let path = state_directory.join(NAME);
    if !is_there(&path) {
        return Ok(None);
    }
    let failed = |error: io::Error| Error::io(Operation::Connect, &path, error);
    // The open follows no link, because another writer of the directory could lead root to any socket.
    // With musl, the standard library's OpenOptions would drop O_PATH.
    let file = match open(&path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let made = file.metadata().map_err(failed)?;
    if !made.file_type().is_socket() {
        return Err(Error::wrong(Operation::Connect, &path, "it is no socket").advise("put it away"));
    }
    let owner = fs::metadata(state_directory).map_err(failed)?.uid();
    if ![0, geteuid().as_raw(), owner].contains(&made.uid()) {
        let fault =
            format!("belongs to user {}, and the directory to user {owner}: that is not packetboat's", made.uid());
        return Err(Error::wrong(Operation::Check, &path, fault).advise("put it away"));
    }
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .map_err(|error| failed(error.into()))?;
    let address = SocketAddrUnix::new(of_descriptor(&file)).map_err(|error| failed(error.into()))?;
    match connect_to(&socket, &address) {
        Ok(()) => {}
        // A process that was killed has left it.
        Err(rustix::io::Errno::CONNREFUSED) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    }
    Ok(Some(UnixStream::from(socket)))
}

/// Returns a path that fits an address (unix(7): 107 octets), however long the directory's is.
fn within(path: &Path, directory: &File, name: &str) -> PathBuf {
    if path.as_os_str().len() < LONGEST { path.to_path_buf() } else { of_descriptor(directory).join(name) }
}

fn of_descriptor(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

const NAME: &str = "control";
const LONGEST: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_the_owners_alone_and_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        // However long the path is.
        let state = directory.path().join("x".repeat(200));
        fs::create_dir(&state).unwrap();
        assert!(connect(&state).unwrap().is_none());
        let listening = listen(&state).unwrap();
        let made = fs::symlink_metadata(state.join(NAME)).unwrap();
        assert_eq!((made.mode() & 0o777, made.uid()), (0o600, geteuid().as_raw()));
        let connection = connect(&state).unwrap().unwrap();
        drop((listening, connection));
        assert!(connect(&state).unwrap().is_none(), "left by a process that was killed");
        let listening = listen(&state).unwrap();
        let elsewhere = directory.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(state.join(NAME), elsewhere.join(NAME)).unwrap();
        assert!(connect(&elsewhere).is_err_and(|why| why.to_string().contains("no socket")));
        assert!(super::listen(&elsewhere).is_err_and(|why| why.to_string().contains("no socket")));
        drop(listening);
        remove(&state);
        assert!(!is_there(&state.join(NAME)));
    }
}
