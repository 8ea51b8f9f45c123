//! This file finds ports for programs that must name one before they bind it.
//!
//! The kernel gives ports of its own range to every connection that goes out, so that a port of that range which was free
//! a moment ago may be taken now. These ports lie below that range, and each is handed out once to one process.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Ports that nobody listens at, and that neither a connection nor another test takes.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static BLOCK: Mutex<Option<Block>> = Mutex::new(None);
    let mut block = BLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    std::array::from_fn(|_| {
        loop {
            let port = block.as_mut().and_then(|block| block.left.next());
            match port {
                Some(port) if TcpListener::bind(("127.0.0.1", port)).is_ok() => return port,
                Some(_) => {}
                None => *block = Some(Block::next()),
            }
        }
    })
}

/// Ports that this process alone hands out.
struct Block {
    left: Range<u16>,
    /// The name belongs to this process until it ends or takes another block.
    _name: UnixListener,
}

impl Block {
    /// Takes the first block that no other process has, from a place that differs from process to process.
    fn next() -> Self {
        let most = usize::from((Self::above() - FIRST) / SIZE);
        assert!(most > 0, "net.ipv4.ip_local_port_range begins at {}: no port is left for tests", Self::above());
        let start = std::process::id() as usize;
        for number in 0..most {
            let number = u16::try_from((start + number) % most).unwrap();
            let first = FIRST + number * SIZE;
            let address = SocketAddr::from_abstract_name(format!("packetboat-test-ports-{first}")).unwrap();
            if let Ok(name) = UnixListener::bind_addr(&address) {
                return Self { left: first..first + SIZE, _name: name };
            }
        }
        panic!("other processes hold all {most} blocks of ports");
    }

    /// The first port that the kernel gives by itself (ip(7)).
    fn above() -> u16 {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        range.split_whitespace().next().unwrap().parse().unwrap()
    }
}

const FIRST: u16 = 10_240;
const SIZE: u16 = 128;
