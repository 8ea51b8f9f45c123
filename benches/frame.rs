//! The framers in octets per second, against a plain memchr scan of the same octets for line ends.
//!
//! Input comes in pieces of 64 KiB, as from the relay's buffer. `cargo bench --bench frame`

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packetboat::proto::imap::Imap;
use packetboat::proto::pop3::Pop3;
use packetboat::proto::{Limits, Offer, Outbox, Probe, Session, Side, Step, UpstreamTls};

const PIECE: usize = 64 * 1024;
const OFFER: Offer = Offer { encrypted: true, starttls: false, plaintext_login: false, xoauth2: false };

fn frame(criterion: &mut Criterion) {
    let line = b"the quick brown fox jumps over the lazy dog, 72 octets to a line of mail\r\n";
    let body = line.repeat(16 * 1024 * 1024 / line.len());
    let literals = format!("* 1 FETCH (BODY[] {{{}}}\r\n", body.len()).into_bytes();
    let literals = [literals.as_slice(), &body, b")\r\n"].concat();
    let flags: Vec<u8> =
        (1..200_000).flat_map(|n| format!("* {n} FETCH (FLAGS (\\Seen) UID {n})\r\n").into_bytes()).collect();
    let message = [b"+OK 16 MiB\r\n", body.as_slice(), b".\r\n"].concat();

    let mut group = criterion.benchmark_group("frame");
    for (name, input) in [("imap-literal", &literals), ("imap-lines", &flags), ("pop3-message", &message)] {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.sample_size(20);
        group.bench_with_input(BenchmarkId::new("packetboat", name), input, |bencher, input| {
            let mut session = if name.starts_with("imap") { imap() } else { pop3() };
            bencher.iter(|| {
                if name == "pop3-message" {
                    forward(session.as_mut(), Side::Downstream, b"RETR 1\r\n");
                }
                input.chunks(PIECE).for_each(|piece| forward(session.as_mut(), Side::Upstream, piece));
            });
        });
        group.bench_with_input(BenchmarkId::new("memchr", name), input, |bencher, input| {
            bencher.iter(|| {
                input.chunks(PIECE).map(|piece| memchr::memchr_iter(b'\n', black_box(piece)).count()).sum::<usize>()
            });
        });
    }
    group.finish();
}

/// Hands a piece over until all of it is forwarded; what is held back at its end is left off.
fn forward(session: &mut dyn Session, side: Side, mut piece: &[u8]) {
    let mut out = Outbox::default();
    while !piece.is_empty() {
        match session.recv(side, black_box(piece), &mut out).unwrap() {
            Step::Forward(count) => piece = piece.split_at(count).1,
            Step::Read => break,
            other => panic!("{other:?}"),
        }
    }
}

fn imap() -> Box<dyn Session> {
    log_in(Box::new(Imap::new(OFFER, Limits::default())), &["a LOGIN u p\r\n"], &["* OK ready\r\n", "P2 OK in\r\n"])
}

fn pop3() -> Box<dyn Session> {
    let device = ["USER u\r\n", "PASS p\r\n"];
    log_in(Box::new(Pop3::new(OFFER, Limits::default())), &device, &["+OK ready\r\n", "+OK\r\n", "+OK in\r\n"])
}

/// Takes a session to where device and server talk to each other.
fn log_in(mut session: Box<dyn Session>, device: &[&str], server: &[&str]) -> Box<dyn Session> {
    let mut out = Outbox::default();
    for line in device {
        while !matches!(session.recv(Side::Downstream, line.as_bytes(), &mut out).unwrap(), Step::Consume(_)) {}
    }
    let Step::Authenticate(credentials) = session.recv(Side::Downstream, b"", &mut out).unwrap() else { panic!() };
    session.upstream_connected(credentials, UpstreamTls::Implicit, Probe::No);
    for line in server {
        while !matches!(session.recv(Side::Upstream, line.as_bytes(), &mut out).unwrap(), Step::Consume(_)) {}
    }
    assert!(matches!(session.recv(Side::Upstream, b"", &mut out).unwrap(), Step::LoggedIn));
    assert!(session.is_relaying());
    session
}

criterion_group!(benches, frame);
criterion_main!(benches);
