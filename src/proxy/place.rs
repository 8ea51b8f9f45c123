//! Where a listener is reached: an address with its sockets, new, handed over by the service manager, or running already.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustix::io::Errno;
use tracing::info;

use super::door::Door;
use super::doorway::Doorway;
use super::serving::Present;
use super::{Common, worker};
use crate::config::{Config, Listener};
use crate::diagnostic::Diagnostic;
use crate::lifecycle::{self, Trigger};
use crate::mode::Mode;
use crate::transport::host::{self, Program};
use crate::transport::{adopt, listen};

/// An address that a listener is to be reached at.
pub(super) struct Place {
    pub(super) key: PlaceKey,
    /// With the port that the system chose where 0 was asked for.
    pub(super) address: SocketAddr,
    /// One for each worker, or one that was handed over; none where it runs already.
    pub(super) sockets: Vec<TcpListener>,
}

/// What makes a place the same in two configurations: its address, or, where any port would do, its listener's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlaceKey {
    listener: Option<String>,
    address: SocketAddr,
}

/// A place that is accepted at. Dropping it ends that.
pub(super) struct Running {
    pub(super) key: PlaceKey,
    pub(super) address: SocketAddr,
    pub(super) doorway: Arc<Doorway>,
    _open: Trigger,
}

impl Running {
    pub(super) fn new(place: &Place, door: &Arc<Door>) -> Self {
        let (trigger, open) = lifecycle::begin();
        let doorway = Arc::new(Doorway::new(door, open));
        Self { key: place.key.clone(), address: place.address, doorway, _open: trigger }
    }
}

/// Takes every address of a listener.
pub(super) fn take(
    config: &Config,
    listener: &Listener,
    mode: Mode,
    common: &Common,
    before: Option<&Present>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Place> {
    let mut places = Vec::new();
    for &address in &listener.listen {
        let key = PlaceKey { listener: (address.port() == 0).then(|| listener.name.clone()), address };
        if let Some(address) = before.and_then(|before| before.listens(&key)) {
            places.push(Place { key, address, sockets: Vec::new() });
            continue;
        }
        // A place that is on its way out may hold the port still.
        let is_own = before.is_some_and(|before| before.has_port(address.port()));
        if let Some(message) = is_shared(config, listener, common, address) {
            diagnostics.push(Diagnostic::new(format!("listener.{}.listen", listener.name), message));
            continue;
        }
        let taken = match common.handed_over(address) {
            Some(socket) => adopt(socket, config.limits.keep_alive).map(|socket| vec![socket]),
            None => listen(address, worker::count(), config.limits.keep_alive, is_own),
        };
        let error = match taken {
            Ok(sockets) => {
                let bound = sockets.first().and_then(|socket| socket.local_addr().ok());
                places.push(Place { key, address: bound.unwrap_or(address), sockets });
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
        let message = format!("cannot listen on {address}: {}", why_not_bound(&error, address, common));
        diagnostics.push(Diagnostic::new(format!("listener.{}.listen", listener.name), message));
    }
    places
}

/// Why a socket that was handed over for both families cannot be shared: another listener wants it for IPv6 alone.
fn is_shared(config: &Config, listener: &Listener, common: &Common, address: SocketAddr) -> Option<String> {
    let own = common.handed_over(address)?.local_addr().ok().filter(|own| *own != address)?;
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
pub fn why_not_bound(error: &io::Error, address: SocketAddr, common: &Common) -> String {
    let port = address.port();
    let is_of_rights = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied].contains(&error.kind());
    if let Some(why) = common.handed_over_otherwise(address).filter(|_| is_of_rights) {
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
