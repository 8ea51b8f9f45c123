//! These tests prove that a storm of reconnects delays no other device, is counted in full, and keeps the log small.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::crowd::{self, milliseconds, tcp_from};
use support::device::Device;
use support::harness::Harness;
use support::proxy::{Proxy, listener};

/// Connections in each of two rounds.
const STORM: usize = 2000;
/// The hostile devices' addresses.
const SOURCES: usize = 2;
/// Log lines per minute about one source, as in config/packetboat.toml.
const LINES_OF_SOURCE: usize = 300;
const MEMORY_LEFT: usize = 16 << 20;

#[test]
fn a_reconnect_storm() {
    let mut harness = Harness::new(&format!("[limits]\n{MANY_HANDSHAKES}"));
    let (mut good, mut first) = (harness.visits(3), 0);
    let mut visits = 3;
    let files = harness.process.open_files();
    let begun = Instant::now();
    for round in 1..=2 {
        let round_begun = Instant::now();
        let is_over = AtomicBool::new(false);
        let stormed = std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                let mut seen = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    seen.push(harness.visit());
                }
                seen.sort();
                seen
            });
            let stormed = crowd::by_threads(|shaker, number| {
                let from = crowd::source(number % SOURCES);
                (number < STORM).then(|| drop(shaker.shake(tcp_from(from, harness.address("imap")))))
            });
            is_over.store(true, Ordering::Relaxed);
            let seen = others.join().unwrap();
            visits += seen.len();
            good = (seen[seen.len() / 2], seen[seen.len() - 1]);
            stormed.len()
        });
        assert_eq!(stormed, STORM);
        let took = round_begun.elapsed();
        harness.until_open(0);
        harness.until_files(files);
        let memory = harness.memory();
        println!(
            "{STORM} connections that shake hands and leave, within {:.1} s ({:.0} a second); {:.1} MiB afterwards; a good \
             device's visit {:.0} ms (longest {:.0} ms)",
            took.as_secs_f64(),
            STORM as f64 / took.as_secs_f64(),
            memory as f64 / 1048576.0,
            milliseconds(good.0),
            milliseconds(good.1)
        );
        if round == 1 {
            first = memory;
        }
        assert!(memory < first + MEMORY_LEFT, "{memory} octets, and {first} after the first round");
    }
    let (accepted, over) =
        (harness.metric("packetboat_connections_accepted_total", ""), harness.metric("packetboat_sessions_total", ""));
    assert_eq!(accepted, over, "opened and closed");
    assert_eq!(over, (2 * STORM + visits) as u64);
    let log = end(&mut harness);
    let since = begun.elapsed();
    log.adds_up("session ended", over);
    assert_eq!(log.lines("session ended", "\"127.0.0.1:"), visits, "nothing of a good device's is left out");
    let most = SOURCES * (LINES_OF_SOURCE + LINES_OF_SOURCE * usize::try_from(since.as_secs() + 1).unwrap() / 60);
    let written = log.lines("session ended", "") - visits;
    println!("{written} lines about {} hostile connections, {} octets in all", 2 * STORM, log.0.len());
    assert!((SOURCES..=most).contains(&written), "{written} lines, and no more than {most} are promised");
}

/// The log reports omitted lines while the storm lasts, and not only at the end of the process.
#[test]
fn omitted_log_lines_are_reported_soon() {
    let proxy = Proxy::start(&format!(
        "lines_per_minute_of_source = 1\n[admin]\nlisten = [\"127.0.0.1:0\"]\n{}",
        listener("imap", "imap", "starttls", "")
    ));
    for _ in 0..3 {
        let mut device = Device::plain(proxy.address("imap"));
        device.line();
        device.send("a LOGOUT\r\n");
        while device.try_line().is_some() {}
    }
    let line = proxy.log.wait_for("what was left out", |line| line.contains("left out: "));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let told = ["listener", "reason", "source"].map(|key| line[key].as_str().unwrap());
    assert_eq!((told, line["left_out"].as_u64().unwrap()), (["imap", "logged_out", "127.0.0.1"], 2), "{line}");
    assert_eq!(proxy.log.count(|line| line.contains("session ended: ")), 1);
}

/// A device over the limit is refused at once and cheaply; devices within it are served, and other sources notice
/// nothing.
#[test]
fn limits_are_reached() {
    let mut harness = Harness::new("[limits]\nconnections = 400\nconnections_per_source = 100");
    let address = harness.address("imap");
    let files = harness.process.open_files();
    let mut session = harness.session();
    let of = |last: u8| (0..100).map(|_| tcp_from(last, address)).collect::<Vec<_>>();
    let second = of(2);
    harness.until_open(101);
    let (begun, spent) = (Instant::now(), harness.process.processor());
    let mut waits: Vec<Duration> = (0..REFUSED)
        .map(|_| {
            let begun = Instant::now();
            assert!(crowd::has_ended(&mut tcp_from(2, address)));
            begun.elapsed()
        })
        .collect();
    waits.sort();
    let (took, spent) = (begun.elapsed(), harness.process.processor() - spent);
    let (median, longest) = harness.visits(10);
    println!(
        "{REFUSED} over the limit of their source, refused within {:.2} ms each (longest {:.1} ms), {:.0} us of processor time, \
         {:.1} s in all; a good device's visit {:.0} ms (longest {:.0} ms)",
        milliseconds(waits[REFUSED / 2]),
        milliseconds(waits[REFUSED - 1]),
        spent.as_secs_f64() * 1e6 / REFUSED as f64,
        took.as_secs_f64(),
        milliseconds(median),
        milliseconds(longest)
    );
    // Two handshakes would exceed this bound, because each costs some 1000 us.
    assert!(spent < Duration::from_millis(2) * u32::try_from(REFUSED).unwrap(), "{spent:?}");
    let others: Vec<_> = [3, 4, 5].into_iter().flat_map(|last| of(last).into_iter().take(100)).collect();
    // Sources without a login get three quarters of the places; the session belongs to a known source.
    harness.until_open(301);
    assert!(crowd::has_ended(&mut tcp_from(6, address)), "refused, whoever it is that has not logged in");
    session.ok("NOOP");
    harness.visits(3);
    assert!(harness.metric("packetboat_connections_refused_total", "too_many_connections") >= 2);
    drop(others);
    harness.until_open(101);
    harness.visits(3);
    session.ok("LOGOUT");
    drop((second, session));
    harness.until_open(0);
    harness.until_files(files);
    let refused = harness.metric("packetboat_connections_refused_total", "too_many_from_source");
    assert_eq!(refused, REFUSED as u64);
    let all = harness.metric("packetboat_connections_refused_total", "");
    let log = end(&mut harness);
    log.adds_up("refused", all);
    let most = LINES_OF_SOURCE + LINES_OF_SOURCE * usize::try_from(begun.elapsed().as_secs() + 1).unwrap() / 60;
    assert!(log.lines("refused", "too_many_from_source") <= most);
    assert!(log.0.contains("limits.connections_per_source = 100"), "the first ones say what to change");
}

const REFUSED: usize = 3000;
/// Limits high enough that no handshake is refused for its rate, which other tests cover.
pub const MANY_HANDSHAKES: &str = "handshakes_per_minute = 1000000\nhandshakes_per_minute_of_source = 1000000";

/// The whole log of a proxy that has ended.
struct Log(String);

fn end(harness: &mut Harness) -> Log {
    harness.process.signal("TERM");
    assert!(harness.process.wait().success());
    Log(harness.log.to_the_end())
}

impl Log {
    fn lines(&self, what: &str, more: &str) -> usize {
        let begins = format!("\"message\":\"{what}");
        self.0.lines().filter(|line| line.contains(&begins) && line.contains(more)).count()
    }

    /// Checks that the lines written and the lines omitted add up to the count.
    fn adds_up(&self, what: &str, counted: u64) {
        let told = format!("more lines \\\"{what}\\\"");
        let left_out = self.0.lines().filter(|line| line.contains(&told)).map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["left_out"].as_u64().unwrap()
        });
        let left_out: u64 = left_out.sum();
        assert!(left_out > 0, "nothing was left out");
        assert_eq!(self.lines(what, "") as u64 + left_out, counted, "written, and left out: {left_out}");
    }
}
