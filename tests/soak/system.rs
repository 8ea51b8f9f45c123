//! This file disturbs the proxy's system: its log has no reader, threads are refused, files hang, and the network
//! forgets connections.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::device::connect;
use crate::run::{Cause, Latch, Run, add};
use crate::{THREADS, USER};
use support::connection::Connection;
use support::forgotten::{forget, held_connections, is_held};
use support::fuzz::random::Random;
use support::process::Process;
use support::proxy::{Proxy, sum};
use support::strain::{Hanging, allow_threads};

/// The source that fills the log while it has no reader.
pub const TALKATIVE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 2, 0, 1));

/// Stops the log's reader until lines are lost, and some seconds longer.
pub fn stops_the_log(run: &Run, calm: &Latch, proxy: &Proxy, reader: &Process) {
    let mut random = Random(run.seed + 3);
    let mut pause = Duration::from_secs(15);
    while calm.pause(pause) {
        let _stop = run.disturbances.begins(Cause::Log);
        let lost = || sum(&proxy.metrics(), "packetboat_log_lines_lost_total", "");
        let before = lost();
        reader.signal("STOP");
        let begun = Instant::now();
        while lost() == before {
            assert!(begun.elapsed() < LONG, "no lines of the log are lost");
            (0..200).for_each(|_| talk(run));
        }
        calm.pause(Duration::from_millis(500 + random.below(6000) as u64));
        reader.signal("CONT");
        println!("nobody read the log for {:.1} s", begun.elapsed().as_secs_f64());
        pause = Duration::from_secs(75);
    }
}

/// Neither TLS nor IMAP: a line of the log.
fn talk(run: &Run) {
    let IpAddr::V4(source) = TALKATIVE else { unreachable!("an IPv4 address") };
    let connection =
        connect(source, run.address("imap")).and_then(|mut connection| connection.send(&[0; 16]).map(|()| connection));
    let _ = connection.and_then(Connection::close);
}

/// Limits the proxy's user to the threads that exist.
pub fn refuses_threads(run: &Run, calm: &Latch, proxy: &Proxy) {
    let mut random = Random(run.seed + 4);
    let mut pause = Duration::from_secs(10);
    while calm.pause(pause) {
        let _refusal = run.disturbances.begins(Cause::Threads);
        allow_threads(&proxy.process, USER, 1..=THREADS);
        calm.pause(Duration::from_millis(3000 + random.below(12_000) as u64));
        allow_threads(&proxy.process, USER, THREADS..=THREADS);
        pause = Duration::from_secs(40);
    }
}

/// Makes files hang: for a short time that no device notices, and for one that outlasts a token.
pub fn hangs(run: &Run, calm: &Latch, hanging: &Hanging) {
    let mut pause = Duration::from_secs(20);
    for length in [6, 40].into_iter().cycle() {
        if !calm.pause(pause) {
            return;
        }
        let _hang = run.disturbances.begins(Cause::Files);
        hanging.hang();
        calm.pause(Duration::from_secs(length));
        hanging.go_on();
        pause = Duration::from_secs(80);
    }
}

/// Makes the network forget some of the proxy's connections to these ports, which the proxy has to give up in time.
pub fn forgets(run: &Run, calm: &Latch, proxy: &Proxy, ports: &[u16]) {
    let mut random = Random(run.seed + 5);
    let mut pause = Duration::from_secs(35);
    while calm.pause(pause) {
        let _flows = run.disturbances.begins(Cause::Flow);
        let begun = Instant::now();
        let mut all = held_connections();
        all.retain(|(_, remote)| ports.contains(&remote.port()));
        let chosen: Vec<_> = (0..FLOWS.min(all.len())).map(|_| all.swap_remove(random.below(all.len()))).collect();
        let forgotten: Vec<_> = chosen.into_iter().filter(|flow| forget_of(proxy, *flow).is_some()).collect();
        add(&run.tally.forgotten, forgotten.len());
        while let Some(flow) = forgotten.iter().find(|(local, remote)| is_held(*local, *remote)) {
            assert!(begun.elapsed() < GIVEN_UP, "the forgotten connection {flow:?} is still held");
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{} flows forgotten, given up within {:.1} s", forgotten.len(), begun.elapsed().as_secs_f64());
        pause = Duration::from_secs(30);
    }
}

/// Forgets a connection; `None` if the proxy has closed it meanwhile.
fn forget_of(proxy: &Proxy, (local, remote): (SocketAddr, SocketAddr)) -> Option<()> {
    let id = Pid::from_child(&proxy.process.0);
    let process = pidfd_open(id, PidfdFlags::empty()).unwrap();
    let has_it = |socket: &OwnedFd| {
        let socket = SockRef::from(socket);
        let is = |address: std::io::Result<socket2::SockAddr>, other| {
            address.is_ok_and(|one| one.as_socket() == Some(other))
        };
        is(socket.local_addr(), local) && is(socket.peer_addr(), remote)
    };
    let entries = fs::read_dir(format!("/proc/{}/fd", proxy.process.0.id())).unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut files = numbers.filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok());
    files.find(has_it).map(|socket| forget(&socket))
}

/// The number of connections that are forgotten at a time.
const FLOWS: usize = 6;
/// The time in which the proxy gives up a connection. An idle machine needs 15 s from the last acknowledgement, or from
/// the first octet without one.
const GIVEN_UP: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(60);
