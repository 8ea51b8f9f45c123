//! These tests prove that accepted sockets have the listening socket's options, without a system call for each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::{getpeername, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::accept::Frontend;
use super::worker::Workers;
use crate::config::Config;
use crate::lifecycle;
use crate::mode::Mode;
use crate::proxy::current_service::CurrentService;
use crate::proxy::{PreparedService, ProcessState};

/// The socket of this process whose peer is this device.
fn accepted(device: &TcpStream) -> Option<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let device = device.local_addr().unwrap();
    std::fs::read_dir("/proc/self/fd").unwrap().find_map(|entry| {
        let number = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let socket = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()?;
        let peer = SocketAddr::try_from(getpeername(&socket).ok()??).ok()?;
        (SocketAddr::new(peer.ip().to_canonical(), peer.port()) == device).then_some(socket)
    })
}

/// Serves a listener, at a socket of its own or at one that was handed over. Returns what a device finds behind its
/// greeting: its socket's options on our side.
fn options_behind(header: &str, more: &str, handed_over: Option<TcpListener>) -> (u32, [Duration; 3], bool, bool) {
    let directory = tempfile::tempdir().unwrap();
    let address = handed_over.as_ref().map_or("127.0.0.1:0".to_owned(), |socket| {
        SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port())).to_string()
    });
    let text = format!(
        "state_directory = {:?}\n[limits]\nkeep_alive = \"80s\"\n[upstream.x]\nhost = \"127.0.0.1\"\n[[listener]]\n\
         protocol = \"imap\"\nlisten = [\"{address}\"]\nentry = \"plaintext\"\nallow_plaintext = true\n\
         allowed_networks = [\"127.0.0.0/8\"]\nlogins = \"pass-through\"\n{more}",
        directory.path()
    );
    let config = Config::parse(&text, Path::new("x")).unwrap().config;
    let process = ProcessState::with(&config, handed_over.into_iter().collect()).unwrap();
    let opened = crate::proxy::open(&config, Mode::Apply, &process, None).unwrap_or_else(|found| panic!("{found:?}"));
    let PreparedService { service, mut bound } = opened.services.into_iter().next().unwrap();
    let (_trigger, lifecycle) = lifecycle::begin();
    let (_open_trigger, open) = lifecycle::begin();
    let workers = Workers::start(2, &process.metrics).unwrap();
    let current = Arc::new(CurrentService::new(&service, open));
    let (connections, registry) = (Arc::clone(&process.connections), Arc::clone(&process.registry));
    let bound = bound.remove(0);
    workers.accept(bound.sockets, &Frontend { current, connections, registry, lifecycle, is_inherited: false });
    let mut device = TcpStream::connect(bound.address).unwrap();
    device.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    device.write_all(header.as_bytes()).unwrap();
    let mut greeting = [0; 4];
    device.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"* OK");
    let socket = accepted(&device).expect("the device is greeted at a socket of this process");
    let times = [
        sockopt::tcp_keepidle(&socket).unwrap(),
        sockopt::tcp_keepintvl(&socket).unwrap(),
        Duration::from_millis(sockopt::tcp_user_timeout(&socket).unwrap().into()),
    ];
    let is_kept_alive = sockopt::socket_keepalive(&socket).unwrap();
    (sockopt::tcp_keepcnt(&socket).unwrap(), times, is_kept_alive, sockopt::tcp_nodelay(&socket).unwrap())
}

/// An eighth of the keep-alive's idle time is between its four probes.
#[test]
fn accepted_sockets_have_the_options_of_the_listening_one() {
    let handed_over = || Some(TcpListener::bind("127.0.0.1:0").unwrap());
    let balancer = "proxy_protocol = [\"127.0.0.1/32\"]\n";
    let header = "PROXY TCP4 127.0.0.2 127.0.0.1 4711 143\r\n";
    let expected = (4, [80, 10, 120].map(Duration::from_secs), true, true);
    for (header, more, socket) in
        [("", "", None), ("", "", handed_over()), (header, balancer, None), (header, balancer, handed_over())]
    {
        let is_handed_over = socket.is_some();
        assert_eq!(options_behind(header, more, socket), expected, "{header:?}, handed over: {is_handed_over}");
    }
}
