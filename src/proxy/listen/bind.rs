//! Where a listener is reached: an address with its sockets, new, handed over by the service manager, or running already.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustix::io::Errno;
use tracing::info;

use super::worker;
use crate::config::{Config, Listener};
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{self, Trigger};
use crate::mode::Mode;
use crate::proxy::ProcessState;
use crate::proxy::current_service::CurrentService;
use crate::proxy::running::Snapshot;
use crate::proxy::service::Service;
use crate::transport::host::{self, Program};
use crate::transport::{adopt, listen};

/// An address that a listener is to be reached at.
pub(in crate::proxy) struct BoundAddress {
    pub(in crate::proxy) key: BindKey,
    /// With the port that the system chose where 0 was asked for.
    pub(in crate::proxy) address: SocketAddr,
    /// One for each worker, or one that was handed over; none where it runs already.
    pub(in crate::proxy) sockets: Vec<TcpListener>,
}

/// What makes an address the same in two configurations: its address, or, where any port would do, its listener's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct BindKey {
    listener: Option<String>,
    address: SocketAddr,
}

/// An address that is accepted at. Dropping it ends that.
pub(in crate::proxy) struct ActiveAddress {
    pub(in crate::proxy) key: BindKey,
    pub(in crate::proxy) address: SocketAddr,
    pub(in crate::proxy) current: Arc<CurrentService>,
    _open: Trigger,
}

impl ActiveAddress {
    pub(in crate::proxy) fn new(address: &BoundAddress, service: &Arc<Service>) -> Self {
        let (trigger, open) = lifecycle::begin();
        let current = Arc::new(CurrentService::new(service, open));
        Self { key: address.key.clone(), address: address.address, current, _open: trigger }
    }
}

/// Takes every address of a listener.
pub(in crate::proxy) fn bind_all(
    config: &Config,
    listener: &Listener,
    mode: Mode,
    process: &ProcessState,
    before: Option<&Snapshot>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<BoundAddress> {
    let mut bound = Vec::new();
    for &address in &listener.listen {
        let key = BindKey { listener: (address.port() == 0).then(|| listener.name.clone()), address };
        if let Some(address) = before.and_then(|before| before.listens(&key)) {
            bound.push(BoundAddress { key, address, sockets: Vec::new() });
            continue;
        }
        // An address that is on its way out may hold the port still.
        let is_own = before.is_some_and(|before| before.has_port(address.port()));
        if let Some(message) = claimed_by_another(config, listener, process, address) {
            diagnostics.push(Diagnostic::new(format!("listener.{}.listen", listener.name), message));
            continue;
        }
        let taken = match process.handed_over(address) {
            Some(socket) => adopt(socket, config.limits.keep_alive).map(|socket| vec![socket]),
            None => listen(address, worker::count(), config.limits.keep_alive, is_own),
        };
        let error = match taken {
            Ok(sockets) => {
                let local = sockets.first().and_then(|socket| socket.local_addr().ok());
                bound.push(BoundAddress { key, address: local.unwrap_or(address), sockets });
                continue;
            }
            Err(error) => error,
        };
        if address.ip().is_unspecified()
            && address.is_ipv6()
            && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
        {
            // Where there is no IPv6, nobody misses it.
            info!(listener = listener.name, "this computer has no IPv6: nothing listens on {address}");
            continue;
        }
        // Trying out a file beside the proxy that it is for is not a mistake.
        if mode == Mode::DryRun && is_beside_own(&error, address) {
            continue;
        }
        let message = format!("cannot listen on {address}: {}", why_not_bound(&error, address, process));
        diagnostics.push(Diagnostic::new(format!("listener.{}.listen", listener.name), message));
    }
    bound
}

/// Why a socket that was handed over for both families cannot be shared: another listener wants it for IPv6 alone.
fn claimed_by_another(
    config: &Config,
    listener: &Listener,
    process: &ProcessState,
    address: SocketAddr,
) -> Option<String> {
    let own = process.handed_over(address)?.local_addr().ok().filter(|own| *own != address)?;
    let other = config.listeners.iter().find(|other| other.name != listener.name && other.listen.contains(&own))?;
    Some(format!(
        "{own} was handed over by the service manager for IPv6 and IPv4, and listener {} has it: have its socket unit say \
         BindIPv6Only=ipv6-only, and ListenStream={address} beside ListenStream={own}",
        other.name
    ))
}

/// Whether packetboat itself, or systemd for it, holds the address; or somebody whom this user may not see.
pub fn is_beside_own(error: &io::Error, address: SocketAddr) -> bool {
    let is_low = error.kind() == io::ErrorKind::PermissionDenied && address.port() < PRIVILEGED;
    if !is_low && error.kind() != io::ErrorKind::AddrInUse {
        return false;
    }
    match host::listening_program(address) {
        Some(holder) => [OWN_NAME, "systemd"].contains(&holder.name.as_str()),
        None => host::is_listened_on(address),
    }
}

/// Why an address cannot be listened on, and what to do.
pub fn why_not_bound(error: &io::Error, address: SocketAddr, process: &ProcessState) -> String {
    let port = address.port();
    let is_of_rights = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied].contains(&error.kind());
    if let Some(why) = process.handed_over_otherwise(address).filter(|_| is_of_rights) {
        return why;
    }
    let holder = || match host::listening_program(address) {
        Some(Program { id, .. }) if id == std::process::id() => {
            "packetboat itself has the port until now, for something else: reload without it first, or restart"
                .to_owned()
        }
        Some(Program { name, id }) => format!("the port is in use by {name}, process {id}"),
        None => format!("the port is in use by another program (ss -ltnp 'sport = :{port}')"),
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => holder(),
        // Who may not open a low port is told that first, also where it is taken.
        io::ErrorKind::PermissionDenied if host::is_listened_on(address) => holder(),
        io::ErrorKind::PermissionDenied => {
            let socket = UNITS.iter().find(|(of, _)| *of == port).map_or("a socket unit", |(_, unit)| unit);
            format!(
                "ports below {PRIVILEGED} need systemd to open them ({socket}: docs/install.md), or CAP_NET_BIND_SERVICE; or use a \
                 higher port"
            )
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// What the package brings along.
const UNITS: [(u16, &str); 4] = [
    (143, "systemctl enable --now packetboat-imap.socket"),
    (993, "systemctl enable --now packetboat-imaps.socket"),
    (110, "systemctl enable --now packetboat-pop3.socket"),
    (995, "systemctl enable --now packetboat-pop3s.socket"),
];
/// As the kernel shows it for a process.
const OWN_NAME: &str = "packetboat";
const PRIVILEGED: u16 = 1024;
