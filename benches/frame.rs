//! This bench measures the protocols without sockets: framing, logins, and the rewriting of capability lists.
//! A plain memchr scan of the same octets is the reference for framing.
//!
//! Input comes in pieces of 64 KiB, as from the relay's buffer. `make bench-frame`

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packetboat::proto::{self, Action, CommandLimits, Offer, Outbox, Session, Side, Step, Terms, UpstreamLogin};
use packetboat::protocol::{Protocol, Security};

const PIECE: usize = 64 * 1024;
const OFFER: Offer = Offer { encrypted: true, starttls: false, plaintext_login: false, xoauth2: false, ..Offer::NONE };

fn frame(criterion: &mut Criterion) {
    let line = b"the quick brown fox jumps over the lazy dog, 72 octets to a line of mail\r\n";
    let body = line.repeat(16 * 1024 * 1024 / line.len());
    let literals = format!("* 1 FETCH (BODY[] {{{}}}\r\n", body.len()).into_bytes();
    let literals = [literals.as_slice(), &body, b")\r\n"].concat();
    let flags: Vec<u8> =
        (1..200_000).flat_map(|n| format!("* {n} FETCH (FLAGS (\\Seen) UID {n})\r\n").into_bytes()).collect();
    let message = [b"+OK 16 MiB\r\n", body.as_slice(), b".\r\n"].concat();
    let submission = [body.as_slice(), b".\r\n"].concat();
    let inputs = [
        ("imap-literal", &literals),
        ("imap-lines", &flags),
        ("pop3-message", &message),
        ("smtp-submission", &submission),
    ];

    let mut group = criterion.benchmark_group("frame");
    for (name, input) in inputs {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.sample_size(20);
        group.bench_with_input(BenchmarkId::new("packetboat", name), input, |bencher, input| {
            let mut session = logged_in(protocol(name));
            bencher.iter(|| {
                if name == "smtp-submission" {
                    return submit(session.as_mut(), input);
                }
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

/// Reads a device's login, from its octets to the credentials.
fn login(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("login");
    let ways: [(&str, &[u8]); 5] = [
        ("imap-login", b"a1 LOGIN scanner3 k7Qm2xP9aT\r\n"),
        ("imap-login-quoted", b"a1 LOGIN \"scan@contoso.example\" \"k7Qm \\\"2xP9aT\"\r\n"),
        ("imap-authenticate-plain", b"a1 AUTHENTICATE PLAIN AHNjYW5AY29udG9zby5leGFtcGxlAFBhNTV3b3Jk\r\n"),
        ("pop3-user-pass", b"USER scanner3\r\nPASS k7Qm2xP9aT\r\n"),
        ("smtp-auth-plain", b"AUTH PLAIN AHNjYW5AY29udG9zby5leGFtcGxlAFBhNTV3b3Jk\r\n"),
    ];
    for (name, input) in ways {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut out = Outbox::default();
                let mut session = proto::session(protocol(name), OFFER, CommandLimits::default());
                let mut rest = black_box(input);
                loop {
                    match session.recv(Side::Downstream, rest, &mut out).unwrap() {
                        Step::Consume(count) => rest = rest.split_at(count).1,
                        Step::Act(_, Action::Authenticate(credentials)) => return credentials,
                        other => panic!("{other:?}"),
                    }
                }
            });
        });
    }
    group.finish();
}

/// Rewrites a line with a capability list for the device; beside it a line that passes.
fn rewrite(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite");
    let exchange =
        b"* CAPABILITY IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT ENABLE IMAP4rev2 \
        CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE NAMESPACE LITERAL+\r\n";
    for (name, input) in [("imap-capability", exchange.as_slice()), ("imap-other-line", b"* 172 EXISTS\r\n")] {
        group.bench_function(name, |bencher| {
            let mut session = logged_in(Protocol::Imap);
            let mut out = Outbox::default();
            bencher.iter(|| {
                let mut rest = black_box(input);
                while !rest.is_empty() {
                    match session.recv(Side::Upstream, rest, &mut out).unwrap() {
                        Step::Consume(count) | Step::Forward(count) => rest = rest.split_at(count).1,
                        other => panic!("{other:?}"),
                    }
                }
                out.downstream.clear();
            });
        });
    }
    group.finish();
}

/// Hands a piece over until the session has forwarded all of it, except the end that it holds back.
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

/// Submits a message: what the session holds back of a piece, the end of a line mostly, comes again with the next one.
fn submit(session: &mut dyn Session, message: &[u8]) {
    let mut out = Outbox::default();
    say(session, Side::Downstream, b"DATA\r\n");
    say(session, Side::Upstream, b"354 go on\r\n");
    let (mut at, mut end) = (0, 0);
    while at < message.len() {
        match session.recv(Side::Downstream, black_box(&message[at..end]), &mut out).unwrap() {
            Step::Forward(count) => at += count,
            Step::Read => end = message.len().min(end + PIECE),
            other => panic!("{other:?}"),
        }
    }
    say(session, Side::Upstream, b"250 queued\r\n");
}

/// Hands over a line, whatever becomes of it.
fn say(session: &mut dyn Session, side: Side, line: &[u8]) {
    assert!(!matches!(session.recv(side, line, &mut Outbox::default()), Ok(Step::Read) | Err(_)));
}

fn protocol(name: &str) -> Protocol {
    Protocol::ALL.into_iter().find(|protocol| name.starts_with(protocol.key())).unwrap()
}

fn logged_in(protocol: Protocol) -> Box<dyn Session> {
    match protocol {
        Protocol::Imap => log_in(protocol, &["a LOGIN u p\r\n"], &["* OK ready\r\n", "P2 OK in\r\n"]),
        Protocol::Pop3 => log_in(protocol, &["USER u\r\n", "PASS p\r\n"], &["+OK ready\r\n", "+OK\r\n", "+OK in\r\n"]),
        Protocol::Smtp => {
            log_in(protocol, &["AUTH PLAIN AHUAcA==\r\n"], &["220 mail\r\n", "250 AUTH PLAIN\r\n", "235 2.7.0 in\r\n"])
        }
    }
}

/// Takes a session to where device and server talk to each other.
fn log_in(protocol: Protocol, device: &[&str], server: &[&str]) -> Box<dyn Session> {
    let mut session = proto::session(protocol, OFFER, CommandLimits::default());
    let mut out = Outbox::default();
    for line in device {
        if let Step::Act(_, action) = session.recv(Side::Downstream, line.as_bytes(), &mut out).unwrap() {
            let Action::Authenticate(credentials) = action else { panic!("{action:?}") };
            let terms = Terms::pass_through(protocol);
            session.upstream_connected(UpstreamLogin { credentials, security: Security::Implicit, terms });
        }
    }
    for line in server {
        assert!(matches!(
            session.recv(Side::Upstream, line.as_bytes(), &mut out),
            Ok(Step::Consume(_) | Step::Act(_, Action::LoggedIn))
        ));
    }
    assert!(session.phase().is_relaying());
    session
}

criterion_group!(benches, frame, login, rewrite);
criterion_main!(benches);
