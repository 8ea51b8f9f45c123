//! These tests prove the watch for stale mail: a server whose old connections do not see new mail gets no more parked ones,
//! an honest one never does, and no device waits for the comparison.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use packetboat::simulator::quirks::imap::ImapFault;
use packetboat::simulator::quirks::smtp::Afterwards;

use super::*;

#[test]
fn a_stale_connection_ends_parking_at_its_server() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &scans());
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 1);
    let message = support::message(700);
    assert!(exchange.simulator.deliver(SCAN, message.clone()));
    exchange.quirk(|quirks| quirks.imap.stale_views = true);
    let mut device = polls(&proxy, LOGIN);
    assert!(device.fetch(1) == message, "the device whose connection is compared has the new one, with the new mail");
    device.ok("LOGOUT");
    until(&proxy, "packetboat_parked_stale_total", "", 1);
    until(&proxy, "packetboat_parked_ended_total", "stale", 1);
    proxy.log.wait_for("stale mail", |line| {
        line.contains("ERROR") && line.contains("showed older mail") && line.contains(SCAN) && line.contains("exchange")
    });
    exchange.until("end", |counts| counts.imap().accepted == 2 && counts.open_sessions() == 0);
    // From here on each login dials, and the connection ends with it.
    polls(&proxy, LOGIN).ok("LOGOUT");
    exchange.until("end", |counts| counts.imap().accepted == 3 && counts.open_sessions() == 0);
    assert_eq!(proxy.metric("packetboat_parked_total", ""), 1);
    // A reload begins it anew, with a comparison at the first take.
    assert_eq!(proxy.reload().0, 0);
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 2);
    assert!(exchange.simulator.deliver(SCAN, message));
    polls(&proxy, LOGIN).ok("LOGOUT");
    until(&proxy, "packetboat_parked_stale_total", "", 2);
}

/// Mail arrives all the time, so also between the answers of the two connections.
#[test]
fn an_honest_server_is_never_taken_for_a_stale_one() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &scans());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                assert!(exchange.simulator.deliver(SCAN, b"Subject: x\r\n\r\nx\r\n".to_vec()));
                thread::sleep(Duration::from_micros(100));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 1..=ROUNDS {
                // The first take of each configuration is compared.
                assert_eq!(proxy.reload().0, 0);
                for count in [2 * round - 1, 2 * round] {
                    polls(&proxy, LOGIN).ok("LOGOUT");
                    until_parked(&proxy, count);
                }
                until(&proxy, "packetboat_parked_ended_total", "full", round);
            }
        }));
        is_done.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    until(&proxy, "packetboat_parked_stale_total", "", 0);
    assert_eq!(exchange.simulator.counts().imap().accepted, 2 * ROUNDS);
}

/// The server answers no STATUS: the device has its login and its LOGOUT all the same, and the parked connection stays.
#[test]
fn no_device_waits_for_the_comparison() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &account("scans", SCAN, "probe = false"));
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 1);
    exchange.quirk(|quirks| quirks.imap.faults = vec![ImapFault::silent("STATUS", Afterwards::Hang)]);
    let mut device = polls(&proxy, LOGIN);
    exchange.quirk(|quirks| assert_eq!(quirks.imap.faults.len(), 1, "STATUS is not sent while the device is in"));
    let began = Instant::now();
    device.ok("LOGOUT");
    assert!(began.elapsed() < Duration::from_secs(2), "that is the time of an answer to STATUS");
    exchange.until("end of the dialled one", |counts| counts.imap().accepted == 2 && counts.open_sessions() == 1);
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 2);
    until(&proxy, "packetboat_parked_taken_total", "", 1);
    assert_eq!(exchange.simulator.counts().imap().accepted, 2);
}

/// The server does not answer on the parked connection: that one is lost, and the dialled one is parked.
#[test]
fn a_parked_connection_that_does_not_answer_is_not_stale() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &account("scans", SCAN, "probe = false"));
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 1);
    exchange.quirk(|quirks| quirks.imap.faults = vec![ImapFault::expired("STATUS").after(1)]);
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 2);
    until(&proxy, "packetboat_parked_lost_total", "", 1);
    until(&proxy, "packetboat_parked_stale_total", "", 0);
    exchange.until("end of the parked one", |counts| counts.open_sessions() == 1);
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 3);
    until(&proxy, "packetboat_parked_taken_total", "", 1);
}

/// The connection that waits for the comparison counts in the mailbox's quota, and gives way first.
#[test]
fn a_comparison_takes_no_session_from_a_device() {
    for (most, accepted) in [(1, 1), (2, 2)] {
        let exchange = Exchange::new();
        let accounts = format!("{}[limits]\nsessions_per_mailbox = {most}\nmailbox_queue = \"50s\"\n", scans());
        let proxy = parking(&exchange, "", &accounts);
        polls(&proxy, LOGIN).ok("LOGOUT");
        until_parked(&proxy, 1);
        let mut device = polls(&proxy, LOGIN);
        // The only session is the parked one: the device has it.
        until(&proxy, "packetboat_parked_taken_total", "", if most == 1 { 1 } else { 0 });
        assert_eq!(exchange.simulator.counts().imap().accepted, accepted);
        if most == 2 {
            let answer = pop3_login(&proxy);
            assert!(answer.starts_with("+OK"), "{answer}");
            until(&proxy, "packetboat_parked_ended_total", "gave_way", 1);
        }
        device.ok("LOGOUT");
        // There is nothing to compare with any more, and the dialled one is parked.
        until_parked(&proxy, 2);
        assert_eq!(exchange.simulator.counts().most_sessions, most);
        until(&proxy, "packetboat_parked_stale_total", "", 0);
    }
}

const ROUNDS: u64 = 25;
