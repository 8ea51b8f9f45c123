//! These tests prove that handshakes of strangers have a bounded rate, and displace no known device's TLS session.

use std::net::Ipv4Addr;
use std::time::Instant;

use crate::crowd::{self, Shaker, milliseconds, say_hello_and_reset, tcp_from};
use crate::storm::MANY_HANDSHAKES;
use support::harness::Harness;
use support::process::PATIENCE;

/// Fifty octets make the server sign and compute a Diffie-Hellman key. A source without a login gets only as many
/// handshakes as the limits allow, and is refused before the next.
#[test]
fn client_hellos_of_strangers_are_held_to_a_rate() {
    let _alone = crowd::alone();
    let spent = |limits: &str| {
        let harness = Harness::new(limits);
        harness.visits(3);
        let (to, before, begun) = (harness.address("imap"), harness.process.processor(), Instant::now());
        (0..HELLOS).for_each(|_| say_hello_and_reset(Ipv4Addr::new(127, 0, 0, 2), to));
        let (spent, took) = (harness.process.processor() - before, begun.elapsed());
        harness.until_open(0);
        let refused = harness.metric("packetboat_handshake_failures_total", "too_many_handshakes");
        // Sources that have logged in have no such limit.
        (0..MORE_THAN_A_MINUTES).for_each(|_| say_hello_and_reset(Ipv4Addr::new(127, 0, 0, 1), to));
        harness.until_open(0);
        assert_eq!(harness.metric("packetboat_handshake_failures_total", "too_many_handshakes"), refused);
        harness.visits(3);
        (spent, took, usize::try_from(refused).unwrap(), harness)
    };
    let (unlimited, took, refused, _house) = spent(&format!("[limits]\n{MANY_HANDSHAKES}"));
    assert_eq!(refused, 0);
    let (limited, took_limited, refused, harness) = spent("");
    println!(
        "{HELLOS} ClientHellos of one source: {:.0} ms of processor time within {:.1} s without a limit; {:.0} ms within {:.1} s \
         with it, {refused} refused",
        milliseconds(unlimited),
        took.as_secs_f64(),
        milliseconds(limited),
        took_limited.as_secs_f64()
    );
    // The limit frees ten handshakes per second meanwhile.
    let let_in = HELLOS - refused;
    assert!((600..=601 + 10 * (took_limited.as_secs() as usize + 1)).contains(&let_in), "{let_in} were begun");
    assert!(limited < unlimited / 2, "{limited:?}, and {unlimited:?} without a limit");
    // The log takes 300 lines of a source at once, and the handshakes before may have used them up.
    let says_why = |line: &str| line.contains("limits.handshakes_per_minute_of_source = 600");
    let deadline = Instant::now() + PATIENCE;
    while harness.log.count(says_why) == 0 {
        assert!(Instant::now() < deadline, "no line says why");
        say_hello_and_reset(Ipv4Addr::new(127, 0, 0, 2), harness.address("imap"));
    }
    let line = harness.log.wait_for("refusal", says_why);
    assert!(line.contains("too_many_handshakes"), "{line}");
}

const HELLOS: usize = 3000;
const MORE_THAN_A_MINUTES: usize = 700;

/// Repeated handshakes of a stranger displace sessions of other strangers, and none of a known device. A slow device
/// needs seconds for a full handshake.
#[test]
fn strangers_push_no_session_of_a_known_device_out() {
    let _alone = crowd::alone();
    let harness = Harness::new(&format!("[limits]\n{MANY_HANDSHAKES}"));
    harness.visits(1);
    let to = harness.address("imap");
    let (mut known, mut stranger) = (Shaker::new(), Shaker::new());
    drop(known.shake(tcp_from(1, to)));
    drop(stranger.shake(tcp_from(2, to)));
    let shaken = crowd::by_threads(|shaker, number| {
        shaker.forget();
        (number < SESSIONS).then(|| drop(shaker.shake(tcp_from(crowd::source(number), to))))
    });
    assert_eq!(shaken.len(), SESSIONS);
    drop(stranger.shake(tcp_from(2, to)));
    assert!(!stranger.has_resumed, "there were more than are kept");
    drop(known.shake(tcp_from(1, to)));
    assert!(known.has_resumed);
}

/// More sessions than a listener keeps.
const SESSIONS: usize = 4500;
