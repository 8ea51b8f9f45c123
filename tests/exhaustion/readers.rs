//! This test proves that a device that stops reading also stops the server that sends to it.

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::time::Duration;

use openssl::ssl::Ssl;

use crate::crowd::{self, DEVICE_ROOM, milliseconds, small_tcp_from, source};
use support::connection::TlsStream;
use support::harness::Harness;
use support::process::PATIENCE;
use support::server;
use support::server::answer;
use support::stacks::{self, Version, old};

const READERS: usize = 24;
/// Every second device reads this many octets before it stops, so the kernel gives it a larger buffer.
const READ_FIRST: usize = 512 << 10;
/// Memory of the proxy per device: both TLS libraries and three buffers of 130 KiB. The buffers hold the server's TLS,
/// the same in clear, and the device's TLS.
const MEMORY: usize = 512 * 1024;
/// An allowance beside the buffers of the proxy and the kernel.
const SLACK: usize = 1 << 20;

#[test]
fn slow_readers_hold_their_servers_up() {
    let (sender, taken) = channel();
    let harness = Harness::with("[limits]\nconnections_per_source = 1000", move |mut stream| {
        // A slow device's login name is "slow".
        let _ = stream.write_all(b"* OK ready\r\n");
        if !server::hear(&mut stream).contains("slow") {
            let _ = stream.write_all(b"P2 OK in\r\n");
            return answer(stream);
        }
        let _ = stream.write_all(b"P2 OK in\r\n");
        stream.get_ref().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let line = b"* 12345 FETCH (FLAGS (\\Seen) UID 1234567890)\r\n".repeat(350);
        let mut count = 0;
        while let Ok(written) = stream.write(&line) {
            count += written;
            if count > MOST {
                break;
            }
        }
        let _ = sender.send(count);
        let _ = stream.get_ref().set_read_timeout(Some(PATIENCE));
        let _ = stream.get_mut().read(&mut [0]);
    });
    harness.visits(3);
    let (files, before) = (harness.process.open_files(), harness.memory());
    let context = stacks::context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
    let readers: Vec<TlsStream> = crowd::by_threads(|_, number| {
        if number >= READERS {
            return None;
        }
        let stream = small_tcp_from(source(number), harness.address("imap"));
        let mut stream = Ssl::new(&context).unwrap().connect(stream.into()).unwrap();
        server::hear(&mut stream);
        stream.write_all(b"a LOGIN slow p\r\n").unwrap();
        let mut left = if number % 2 == 0 { READ_FIRST } else { 0 };
        let mut octets = vec![0; 65_536];
        while left > 0 {
            left = left.saturating_sub(stream.read(&mut octets).unwrap());
        }
        Some(stream)
    });
    let mut taken: Vec<usize> = (0..READERS).map(|_| taken.recv_timeout(PATIENCE).unwrap()).collect();
    taken.sort_unstable();
    let grown = harness.memory().saturating_sub(before);
    let (median, longest) = harness.visits(10);
    let kernel = kernel_most();
    let (to_devices, from_server) = queues(harness.address("imap").port(), harness.server);
    println!(
        "{READERS} slow readers: the server was let send {:.0} KiB at the median, {:.0} KiB at most, {:.0} KiB of which were \
         read; memory {:.1} MiB more, {:.0} KiB each; the kernel keeps {:.0} KiB \
         on the way to each device, {:.0} KiB from its server, and may keep {:.0} KiB in all; a good device's visit {:.0} ms \
         (longest {:.0} ms)",
        taken[READERS / 2] as f64 / 1024.0,
        taken[READERS - 1] as f64 / 1024.0,
        READ_FIRST as f64 / 1024.0,
        grown as f64 / 1048576.0,
        grown as f64 / 1024.0 / READERS as f64,
        to_devices as f64 / 1024.0 / READERS as f64,
        from_server as f64 / 1024.0 / READERS as f64,
        kernel as f64 / 1024.0,
        milliseconds(median),
        milliseconds(longest)
    );
    assert!(grown < READERS * MEMORY, "grown by {grown} octets");
    let most = READ_FIRST + MEMORY + kernel + SLACK;
    assert!(taken[READERS - 1] < most, "{} octets, and no more than {most} are promised", taken[READERS - 1]);
    drop(readers);
    harness.until_open(0);
    harness.until_files(files);
    println!("afterwards {:.1} MiB", harness.memory() as f64 / 1048576.0);
}

/// Octets in the kernel's queues of the proxy: written to devices, and sent by servers but not read yet (proc_net_tcp
/// in the kernel's documentation).
fn queues(listener: u16, server: u16) -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let is = |address: &str, port: u16| number(address.split_once(':').unwrap().1) == usize::from(port);
    let (mut sent, mut received) = (0, 0);
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (own, peer) = (fields[1], fields[2]);
        let (to_send, to_read) = fields[4].split_once(':').unwrap();
        if is(own, listener) && fields[3] == ESTABLISHED {
            sent += number(to_send);
        }
        if is(peer, server) && fields[3] == ESTABLISHED {
            received += number(to_read);
        }
    }
    (sent, received)
}

/// The largest content of four sockets: the server's, the proxy's two, and the device's small one (tcp(7)).
fn kernel_most() -> usize {
    let most = |name: &str| -> usize {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        text.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    most("tcp_rmem") + 2 * most("tcp_wmem") + 2 * DEVICE_ROOM
}

const ESTABLISHED: &str = "01";
/// The test stops a server that is never held up after this many octets.
const MOST: usize = 1 << 30;
