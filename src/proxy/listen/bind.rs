//! Bound addresses of listeners: with new sockets, with sockets from the service manager, or kept from the running
//! proxy.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use tracing::info;

use super::inherited::InheritedSockets;
use super::worker;
use crate::config::{Config, Listener};
use crate::mode::Mode;
use crate::protocol::{Protocol, Security};
use crate::transport::ports::{self, Program};
use crate::transport::{adopt, listen};

/// An address of a listener, with its sockets.
pub(in crate::proxy) struct BoundAddress {
    pub(in crate::proxy) key: BindKey,
    /// The address, with the port that the system chose for port 0.
    pub(in crate::proxy) address: SocketAddr,
    /// A socket for each worker, or an inherited one; none if the address is open already.
    pub(in crate::proxy) sockets: Vec<TcpListener>,
    /// True if the service manager has handed the socket over, and keeps it.
    pub(in crate::proxy) is_inherited: bool,
}

/// The identity of an address in two configurations: for port 0 the listener's name counts, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct BindKey {
    listener: Option<String>,
    address: SocketAddr,
}

/// The addresses of the running proxy, for a configuration that takes over from it.
pub(in crate::proxy) struct AddressesInUse {
    pub(in crate::proxy) active: Vec<(BindKey, SocketAddr)>,
    /// The ports of these addresses, and those that were closed a moment ago.
    pub(in crate::proxy) ports: Vec<u16>,
}

/// Binds the addresses of a configuration's listeners.
pub(in crate::proxy) struct Binder<'a> {
    pub(in crate::proxy) config: &'a Config,
    pub(in crate::proxy) mode: Mode,
    pub(in crate::proxy) inherited: &'a InheritedSockets,
    /// The addresses that the running proxy keeps.
    pub(in crate::proxy) in_use: Option<&'a AddressesInUse>,
}

/// The error of an address that cannot be bound, with advice.
#[derive(Debug)]
pub(in crate::proxy) enum BindError {
    /// A socket was handed over for both families, and another listener has it for IPv6 alone.
    Claimed {
        /// The address for IPv4.
        address: SocketAddr,
        /// The address of the socket.
        socket: SocketAddr,
        /// The name of the other listener.
        listener: String,
    },
    /// The system refuses the address.
    Refused {
        /// The address.
        address: SocketAddr,
        /// The reason in plain words, and what to do.
        advice: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claimed { address, socket, listener } => write!(
                f,
                "{socket} was handed over by the service manager for IPv6 and IPv4, and listener {listener} has it: \
                 have its socket unit say BindIPv6Only=ipv6-only, and ListenStream={address} beside \
                 ListenStream={socket}"
            ),
            Self::Refused { address, advice, .. } => write!(f, "cannot listen on {address}: {advice}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Claimed { .. } => None,
            Self::Refused { source, .. } => Some(source),
        }
    }
}

impl BoundAddress {
    /// An address that is open already.
    fn open(key: BindKey, address: SocketAddr) -> Self {
        Self { key, address, sockets: Vec::new(), is_inherited: false }
    }
}

impl Binder<'_> {
    /// Binds an address of a listener. Returns none where nothing has to listen.
    ///
    /// # Errors
    /// The system refuses the address, or it is another listener's.
    pub(in crate::proxy) fn bind(
        &self,
        listener: &Listener,
        address: SocketAddr,
    ) -> Result<Option<BoundAddress>, BindError> {
        let key = BindKey { listener: (address.port() == 0).then(|| listener.name.clone()), address };
        if let Some(address) = self.in_use.and_then(|in_use| in_use.address(&key)) {
            return Ok(Some(BoundAddress::open(key, address)));
        }
        if let Some(conflict) = self.other_claim(listener, address) {
            return Err(conflict);
        }
        match self.sockets(address) {
            Ok(sockets) => {
                let local = sockets.first().and_then(|socket| socket.local_addr().ok());
                let is_inherited = self.inherited.for_address(address).is_some();
                Ok(Some(BoundAddress { key, address: local.unwrap_or(address), sockets, is_inherited }))
            }
            Err(error) if is_without_ipv6(&error, address) => {
                info!(listener = listener.name, "this computer has no IPv6: nothing listens on {address}");
                Ok(None)
            }
            // `check` may run beside the proxy whose file it checks.
            Err(error) if self.mode == Mode::DryRun && is_beside_own(&error, address) => {
                Ok(Some(BoundAddress::open(key, address)))
            }
            Err(source) => {
                let advice = why_not_bound(&source, address, self.inherited);
                Err(BindError::Refused { address, advice, source })
            }
        }
    }

    fn sockets(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let keep_alive = self.config.limits.keep_alive;
        match self.inherited.for_address(address) {
            Some(socket) => adopt(socket, keep_alive).map(|socket| vec![socket]),
            None => {
                // An address that is about to close may still hold the port.
                let is_own = self.in_use.is_some_and(|in_use| in_use.ports.contains(&address.port()));
                listen(address, worker::count(), keep_alive, is_own)
            }
        }
    }

    /// The conflict where a socket was handed over for both families, and another listener has it for IPv6 alone.
    fn other_claim(&self, listener: &Listener, address: SocketAddr) -> Option<BindError> {
        let socket = self.inherited.for_address(address)?.local_addr().ok().filter(|socket| *socket != address)?;
        let other =
            self.config.listeners.iter().find(|other| other.name != listener.name && other.listen.contains(&socket))?;
        Some(BindError::Claimed { address, socket, listener: other.name.clone() })
    }
}

impl AddressesInUse {
    fn address(&self, wanted: &BindKey) -> Option<SocketAddr> {
        self.active.iter().find(|(key, _)| key == wanted).map(|(_, address)| *address)
    }
}

/// True if the address is `[::]` and the computer has no IPv6, where nobody misses it.
fn is_without_ipv6(error: &io::Error, address: SocketAddr) -> bool {
    address.ip().is_unspecified()
        && address.is_ipv6()
        && error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Returns whether the service would get the address: packetboat, or systemd for it, holds it, or a program that this
/// user may not see; or the service has the capability for a low port.
pub fn is_beside_own(error: &io::Error, address: SocketAddr) -> bool {
    let is_low = error.kind() == io::ErrorKind::PermissionDenied && address.port() < PRIVILEGED;
    if !is_low && error.kind() != io::ErrorKind::AddrInUse {
        return false;
    }
    match ports::listening_program(address) {
        Some(holder) => [OWN_NAME, "systemd"].contains(&holder.name.as_str()),
        None => ports::is_listened_on(address) || (is_low && ports::opens_low_ports()),
    }
}

/// The reason for which an address cannot be bound, with advice.
pub fn why_not_bound(error: &io::Error, address: SocketAddr, inherited: &InheritedSockets) -> String {
    let port = address.port();
    let is_of_rights = [io::ErrorKind::AddrInUse, io::ErrorKind::PermissionDenied].contains(&error.kind());
    if let Some(why) = inherited.advice_on_other_addresses(address).filter(|_| is_of_rights) {
        return why;
    }
    let holder = || match ports::listening_program(address) {
        Some(Program { id, .. }) if id == std::process::id() => {
            "packetboat itself uses the port for another purpose: reload without that one first, or restart".to_owned()
        }
        Some(Program { name, id }) => format!("the port is in use by {name}, process {id}"),
        None => format!("the port is in use by another program (ss -ltnp 'sport = :{port}')"),
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => holder(),
        // Without the permission for a low port, the kernel does not report that the port is in use.
        io::ErrorKind::PermissionDenied if ports::is_listened_on(address) => holder(),
        io::ErrorKind::PermissionDenied => {
            let socket = socket_command(port).unwrap_or_else(|| "a socket unit".to_owned());
            format!(
                "ports below {PRIVILEGED} need systemd to open them ({socket}: docs/install.md), or CAP_NET_BIND_SERVICE; \
                 or use a higher port"
            )
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// The command that makes systemd open a registered port: each has its unit in the package.
fn socket_command(port: u16) -> Option<String> {
    let of_protocol = |protocol: Protocol| {
        let key = protocol.key();
        match port {
            _ if port == protocol.port(Security::StartTls) => Some(key.to_owned()),
            _ if port == protocol.port(Security::Implicit) => Some(format!("{key}s")),
            _ if protocol.more_ports().contains(&port) => Some(format!("{key}-{port}")),
            _ => None,
        }
    };
    let unit = Protocol::ALL.into_iter().find_map(of_protocol)?;
    Some(format!("systemctl enable --now packetboat-{unit}.socket"))
}

/// The name of packetboat's process in the kernel.
const OWN_NAME: &str = "packetboat";
const PRIVILEGED: u16 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The package has these units.
    #[test]
    fn a_registered_port_has_its_unit() {
        for (port, unit) in [
            (143, "imap"),
            (993, "imaps"),
            (110, "pop3"),
            (995, "pop3s"),
            (587, "smtp"),
            (465, "smtps"),
            (25, "smtp-25"),
        ] {
            let command = format!("systemctl enable --now packetboat-{unit}.socket");
            assert_eq!(socket_command(port), Some(command));
            let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("config/systemd/packetboat-{unit}.socket"));
            let text = std::fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!(":{port}\n")), "{text}");
        }
        assert_eq!(socket_command(994), None);
    }
}
