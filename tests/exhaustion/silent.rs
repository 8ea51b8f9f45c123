//! These tests prove that ten thousand connections without a handshake or login take bounded memory.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::crowd::{self, half_hello, has_ended, milliseconds, source, tcp_from};
use crate::storm::MANY_HANDSHAKES;
use support::harness::Harness;

/// Memory of a connection that has sent nothing, or half a ClientHello: its task, its timers, and its entry in tables.
const MEMORY_SILENT: usize = 8 * 1024;
/// Memory of a connection with a TLS session: OpenSSL's state and the protocol's, too.
const MEMORY_SHAKEN: usize = 40 * 1024;
/// The allocators' reserve, and structures that exist once.
const MEMORY_ONCE: usize = 24 << 20;

/// Memory that stays in the allocators between two crowds of one kind.
const MEMORY_LEFT: usize = 32 << 20;
/// The length of half a ClientHello and of half a line; a longer one is refused, or is complete.
const HELLO: usize = 15_000;
const LINE: usize = 8000;

fn limits(more: &str) -> String {
    format!("[limits]\nconnections = 20000\nconnections_per_source = 20000\n{MANY_HANDSHAKES}\n{more}\n")
}

/// Measures a crowd's memory, and checks that other devices are served meanwhile.
fn weigh(harness: &Harness, what: &str, count: usize, begun: Instant, before: usize) -> usize {
    harness.until_open(count);
    let came = begun.elapsed();
    let memory = harness.memory();
    let (median, longest) = harness.visits(10);
    let grown = memory.saturating_sub(before);
    println!(
        "{count} {what}: open within {:.1} s; memory {:.1} MiB and {:.1} MiB more, {:.1} KiB each; {} open files; a good \
         device's visit {:.0} ms (longest {:.0} ms)",
        came.as_secs_f64(),
        before as f64 / 1048576.0,
        grown as f64 / 1048576.0,
        grown as f64 / 1024.0 / count as f64,
        harness.process.open_files(),
        milliseconds(median),
        milliseconds(longest)
    );
    memory
}

fn everything_is_back(harness: &Harness, files: usize) {
    harness.until_open(0);
    harness.until_files(files);
    println!("afterwards {:.1} MiB, {} open files", harness.memory() as f64 / 1048576.0, harness.process.open_files());
}

/// The crowd has silent connections, halves of a ClientHello, and halves of a line in clear. The first crowd leaves and
/// the time-out ends the second, because fresh memory costs nothing the first time.
#[test]
fn ten_thousand_that_never_shake_hands() {
    let _alone = crowd::alone();
    let count = crowd::size();
    let harness = Harness::new(&limits("handshake_timeout = \"12s\"\nlogin_timeout = \"12s\""));
    harness.visits(3);
    let (files, before) = (harness.process.open_files(), harness.memory());
    let (hello, line) = (half_hello(HELLO), vec![b'x'; LINE]);
    let sent = count / 4 * (HELLO + LINE);
    let mut first = 0;
    for round in 1..=2 {
        let begun = Instant::now();
        let (tls, clear) = (harness.address("imap"), harness.address("clear"));
        let mut crowd: Vec<TcpStream> = (0..count)
            .map(|number| {
                let kind = number % 4;
                let mut stream = tcp_from(source(number / 4), if kind == 3 { clear } else { tls });
                match kind {
                    0 => {}
                    1 => crowd::say(&mut stream, &hello[..100]),
                    2 => crowd::say(&mut stream, &hello),
                    _ => crowd::say(&mut stream, &line),
                }
                stream
            })
            .collect();
        let memory = weigh(&harness, "connections without a handshake", count, begun, before);
        let most = before + MEMORY_ONCE + count * MEMORY_SILENT + sent;
        assert!(memory < most, "round {round}: {memory} octets, and no more than {most} are promised");
        if round == 2 {
            assert!(crowd.iter_mut().all(has_ended), "ended by the time-out");
        }
        drop(crowd);
        everything_is_back(&harness, files);
        if round == 1 {
            first = memory;
        }
        assert!(memory < first + MEMORY_LEFT, "{memory} octets, and {first} the first time");
    }
    let late = |name, reason| usize::try_from(harness.metric(name, reason)).unwrap();
    assert_eq!(late("packetboat_handshake_failures_total", "handshake_timeout"), count - count / 4);
    assert_eq!(late("packetboat_sessions_total", "login_timeout"), count / 4);
}

/// Each device shakes hands and stays; every fourth one has begun a record of 16 KiB.
#[test]
fn ten_thousand_that_never_log_in() {
    let _alone = crowd::alone();
    let count = crowd::size();
    let harness = Harness::new(&limits(""));
    harness.visits(3);
    let (files, before) = (harness.process.open_files(), harness.memory());
    let half_record = [[23, 3, 1, 0x40, 0].as_slice(), &[7; 8000]].concat();
    let mut first = 0;
    for (round, count) in [(1, count), (2, count / 4)] {
        let begun = Instant::now();
        // The crowd is as large as this machine can shake hands with in time.
        let crowd = crowd::by_threads(|shaker, number| {
            if number >= count || number >= LEAST_SHAKEN && begun.elapsed() > SHAKING {
                return None;
            }
            let mut stream = shaker.shake(tcp_from(source(number / 4), harness.address("imap")));
            if number % 4 == 0 {
                crowd::say(&mut stream, &half_record);
            }
            Some(stream)
        });
        let memory = weigh(&harness, "connections without a login", crowd.len(), begun, before);
        if round == 1 {
            let most = before + MEMORY_ONCE + crowd.len() * MEMORY_SHAKEN;
            assert!(memory < most, "{memory} octets, and no more than {most} are promised");
            first = memory;
        }
        drop(crowd);
        everything_is_back(&harness, files);
        assert!(memory < first + MEMORY_LEFT, "{memory} octets, and {first} the first time");
    }
}

const LEAST_SHAKEN: usize = 2000;
const SHAKING: Duration = Duration::from_secs(8);
