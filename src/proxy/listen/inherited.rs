//! Sockets that the service manager has opened and handed over: systemd's socket activation.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::config::Config;
use crate::transport::{serves, takes_ipv4_too};

/// The sockets that the service manager has handed over. They stay open for as long as the process runs.
#[derive(Clone, Default)]
pub struct InheritedSockets(Arc<[TcpListener]>);

impl InheritedSockets {
    /// Takes the sockets over.
    pub fn new(sockets: Vec<TcpListener>) -> Self {
        Self(sockets.into())
    }

    /// The addresses of sockets that no listener of this configuration has.
    pub fn unclaimed(&self, config: &Config) -> Vec<SocketAddr> {
        self.idle(config).filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The sockets that no listener of this configuration has.
    pub(in crate::proxy) fn idle<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = &'a TcpListener> {
        let wanted = config.listeners.iter().flat_map(|listener| &listener.listen).chain(&config.admin.listen);
        let claimed: Vec<SocketAddr> = wanted
            .filter_map(|address| self.for_address(*address).and_then(|socket| socket.local_addr().ok()))
            .collect();
        self.0.iter().filter(move |socket| !socket.local_addr().is_ok_and(|own| claimed.contains(&own)))
    }

    /// The socket for an address: bound to the address itself, or, for `0.0.0.0`, to `[::]` for both families.
    pub fn for_address(&self, address: SocketAddr) -> Option<&TcpListener> {
        let mut sockets = self.0.iter();
        let own = sockets.clone().find(|socket| socket.local_addr().is_ok_and(|own| own == address));
        own.or_else(|| sockets.find(|socket| serves(socket, address)))
    }

    /// Advice where the sockets for a port are bound to other addresses than this one; none where there are no such
    /// sockets.
    pub(super) fn advice_on_other_addresses(&self, address: SocketAddr) -> Option<String> {
        let sockets = self.0.iter().filter(|socket| {
            socket.local_addr().is_ok_and(|own| own.port() == address.port()) && !serves(socket, address)
        });
        let shown: Vec<String> = sockets
            .filter_map(|socket| {
                let families = if takes_ipv4_too(socket) { " (IPv6 and IPv4)" } else { "" };
                Some(format!("{}{families}", socket.local_addr().ok()?))
            })
            .collect();
        (!shown.is_empty()).then(|| {
            format!(
                "the service manager has handed over {} for this port: write that address here, or have its socket unit say \
                 ListenStream={address} and BindIPv6Only=ipv6-only",
                shown.join(" and ")
            )
        })
    }
}
