//! This file simulates a NAT or firewall that has forgotten a connection: one end drops whatever arrives.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::{SockFilter, SockRef};

/// Makes the kernel drop all octets that arrive at this end of a TCP connection (SO_ATTACH_FILTER, socket(7)). The peer
/// gets no acknowledgement, as when a NAT has forgotten the flow.
pub fn forget(socket: &impl AsFd) {
    const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    SockRef::from(socket).attach_filter(&[DROP]).unwrap();
}

/// Whether a process holds this end of a TCP connection.
pub fn is_held(local: SocketAddr, remote: SocketAddr) -> bool {
    held_connections().contains(&(local, remote))
}

/// The ends of TCP connections that processes hold: established, or closed by the other end only (proc_net(5)).
pub fn held_connections() -> Vec<(SocketAddr, SocketAddr)> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let held = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        ["01", "08"].contains(&state).then_some((address(local)?, address(remote)?))
    };
    table.lines().filter_map(held).collect()
}

/// Parses an address of `/proc/net/tcp`: `0100007F:1F90` is 127.0.0.1:8080, with octets in this machine's order.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let host = u32::from_str_radix(host, 16).ok()?.to_ne_bytes();
    Some(SocketAddr::from((host, u16::from_str_radix(port, 16).ok()?)))
}
