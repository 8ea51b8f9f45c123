//! Commands query the running proxy at the socket in its state directory, or at its page where there is no socket.
//!
//! No command sends the admin token. The socket needs none, and a port belongs to whoever has bound it.

use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use super::error::{CommandError, unavailable};
use super::run_files::RunningProcess;
use super::{ConfigFile, runtime};
use crate::state;
use crate::transport::http;

/// The running proxy's answer to a request.
pub(super) struct Answer {
    /// The status code of HTTP.
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Requests a path from the running proxy; the answer has at most so many octets.
///
/// # Errors
/// No proxy runs, or it does not answer, or answers with more.
pub(super) async fn request(
    file: &ConfigFile,
    path: &str,
    patience: Duration,
    most: usize,
) -> Result<Answer, CommandError> {
    let directories = file.state_directories();
    let mut denied = None;
    for directory in &directories {
        match state::socket::connect(directory) {
            Ok(Some(stream)) => {
                let at = |why: &dyn Display| unavailable(format_args!("packetboat at {}: {why}", directory.display()));
                let stream = UnixStream::from_std(stream).map_err(|error| at(&error))?;
                let (status, body) = http::get(stream, path, patience, most).await.map_err(|error| at(&error))?;
                return Ok(Answer { status, body: body.to_vec() });
            }
            Ok(None) => {}
            Err(why) if why.is_denied() => denied = denied.or(Some(no_right(directory))),
            Err(why) => denied = denied.or(Some(unavailable(why))),
        }
    }
    if denied.is_none() {
        denied = unreadable(file).or_else(|| unwritable(&directories));
    }
    let nobody = || {
        unavailable(
            "packetboat is not running, or has neither a state directory nor an address in admin.listen; if it does not \
             start, packetboat check says why",
        )
    };
    let Some(address) = page_address(file, &directories) else { return Err(denied.unwrap_or_else(nobody)) };
    let at = |why: &dyn Display| unavailable(format_args!("{address}: {why}"));
    let asked = async {
        let stream = tokio::time::timeout(patience, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| at(&"no answer in time"))?.map_err(|error| at(&error))?;
        http::get(stream, path, patience, most).await.map_err(|error| at(&error))
    };
    // Where the socket is closed to this user, nothing follows from a page that does not answer.
    let (status, body) = asked.await.map_err(|error| denied.unwrap_or(error))?;
    if status == UNAUTHORIZED {
        return Err(unavailable(format_args!(
            "{address} asks for the admin token, which no command sends: run this as root or as the service's user, who \
             ask by the state directory, or use curl"
        )));
    }
    Ok(Answer { status, body: body.to_vec() })
}

/// Requests a path at the socket of a state directory; none where no proxy answers there, or this user may not ask.
pub(super) async fn request_at_socket(directory: &Path, path: &str, patience: Duration, most: usize) -> Option<Answer> {
    let stream = UnixStream::from_std(state::socket::connect(directory).ok()??).ok()?;
    let (status, body) = http::get(stream, path, patience, most).await.ok()?;
    Some(Answer { status, body: body.to_vec() })
}

/// Sends a form to the running proxy, at the socket in the state directory alone: a change is asked for by root, or by
/// the service's user.
///
/// # Errors
/// No proxy runs, this user may not ask it, or it does not answer.
pub(super) async fn request_change(
    file: &ConfigFile,
    path: &str,
    form: String,
    patience: Duration,
) -> Result<Answer, CommandError> {
    let mut denied = None;
    let directories = file.state_directories();
    for directory in &directories {
        match state::socket::connect(directory) {
            Ok(Some(stream)) => {
                let at = |why: &dyn Display| unavailable(format_args!("packetboat at {}: {why}", directory.display()));
                let stream = UnixStream::from_std(stream).map_err(|error| at(&error))?;
                let (status, body) = http::post(stream, path, form, patience).await.map_err(|error| at(&error))?;
                return Ok(Answer { status, body: body.to_vec() });
            }
            Ok(None) => {}
            Err(why) if why.is_denied() => denied = denied.or(Some(no_right(directory))),
            Err(why) => denied = denied.or(Some(unavailable(why))),
        }
    }
    Err(denied.or_else(|| unreadable(file)).or_else(|| unwritable(&directories)).unwrap_or_else(|| {
        unavailable(
            "packetboat is not running, or has no state directory: messages in the spool are changed through it",
        )
    }))
}

/// The error where this user may not look into the state directory, whether a proxy runs or not.
fn no_right(directory: &Path) -> CommandError {
    let owner = fs::metadata(directory).ok().map(|metadata| metadata.uid()).filter(|user| *user != 0);
    let owner = owner.map(|user| format!(", or as {}", state::user_name(user))).unwrap_or_default();
    unavailable(format_args!(
        "this user has no right to ask packetboat in {}: run this as root (sudo){owner}",
        directory.display()
    ))
}

/// The error where this user may not read the configuration, which names the state directory.
fn unreadable(file: &ConfigFile) -> Option<CommandError> {
    let error = fs::File::open(&file.config).err()?;
    (error.kind() == ErrorKind::PermissionDenied).then(|| {
        unavailable(format_args!(
            "this user has no right to read {}, and so to ask packetboat: run this as root (sudo)",
            file.config.display()
        ))
    })
}

/// The error where the disk of a state directory lets nobody make a socket, so that a proxy may run without one.
pub(super) fn unwritable(directories: &[PathBuf]) -> Option<CommandError> {
    let (directory, fault) =
        directories.iter().find_map(|directory| Some((directory, state::disk_fault(directory)?)))?;
    Some(unavailable(format_args!(
        "packetboat has no socket for commands in {}, whose disk is {fault}: let packetboat write there, then start it, or \
         restart it if it runs (systemctl restart packetboat)",
        directory.display()
    )))
}

/// The process that listens at the socket of a state directory, or has left its number there.
pub(super) fn process(directories: &[PathBuf]) -> Option<u32> {
    let listening = directories.iter().find_map(|directory| {
        let stream = state::socket::connect(directory).ok()??;
        let runtime = runtime().ok()?;
        let _inside = runtime.enter();
        let process = UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid()?;
        // The kernel reports process 0 for a peer in another namespace.
        u32::try_from(process).ok().filter(|process| *process > 0)
    });
    listening.or_else(|| live_process(directories).map(|running| running.process))
}

fn live_process(directories: &[PathBuf]) -> Option<RunningProcess> {
    directories.iter().filter_map(|directory| RunningProcess::read(directory)).find(RunningProcess::is_alive)
}

/// The page's address on this computer: from the file that the process has left, else from the configuration.
fn page_address(file: &ConfigFile, directories: &[PathBuf]) -> Option<SocketAddr> {
    let mut address = match live_process(directories) {
        Some(running) => running.admin?,
        None => {
            let leaves_word =
                |directory: &PathBuf| directory.is_dir() && state::could_make_directory(directory).is_ok();
            if directories.first().is_some_and(leaves_word) {
                return None;
            }
            // Nobody can be asked at port 0.
            file.read().ok()?.config.admin.listen.first().copied().filter(|address| address.port() != 0)?
        }
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    Some(address)
}

const UNAUTHORIZED: u16 = 401;
