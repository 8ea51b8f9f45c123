//! This test proves that each fault in each state, on both sides of both protocols, ends in time and leaks nothing.
//!
//! The peer is told, and the log has one line. Then all cells run again while standard error has no reader.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use packetboat::protocol::Protocol;

use crate::expect::{Clock, DeviceState, ServerState, Verdict, of_device, of_server};
use crate::fault::Fault;
use crate::setup::Setup;
use crate::{device, server};

#[derive(Clone, Copy, Debug)]
enum At {
    Device(DeviceState),
    Server(ServerState),
}

#[derive(Clone, Debug)]
struct Cell {
    protocol: Protocol,
    at: At,
    fault: Fault,
    verdict: Verdict,
}

impl Cell {
    fn clock(&self) -> Clock {
        match self.verdict {
            Verdict::Ends(clock, _) | Verdict::LoginFails(clock, _) => clock,
            Verdict::None(why) => panic!("not a cell: {why}"),
        }
    }

    fn run(&self, setup: &Setup, from: Ipv4Addr) -> Result<(), String> {
        match (self.at, &self.verdict) {
            (At::Device(state), Verdict::Ends(_, ends)) => {
                device::run(setup, self.protocol, state, self.fault, from, ends)
            }
            (At::Device(_), _) => panic!("a device's fault has an end of its own"),
            (At::Server(state), verdict) => server::run(setup, self.protocol, state, self.fault, from, verdict),
        }
    }

    /// The reasons that the log must have, one set for each line.
    fn reasons(&self) -> Vec<Vec<&'static str>> {
        match &self.verdict {
            Verdict::Ends(_, ends) => vec![ends.iter().map(|end| end.label()).collect()],
            Verdict::LoginFails(_, kinds) => {
                vec![kinds.iter().map(|kind| kind.label()).collect(), vec!["logged_out"]]
            }
            Verdict::None(_) => Vec::new(),
        }
    }
}

/// All valid cells, and the number of combinations left out.
fn cells() -> (Vec<Cell>, usize) {
    let mut cells = Vec::new();
    let mut left_out = 0;
    for protocol in Protocol::MAILBOX {
        for fault in Fault::ALL {
            let of_devices =
                DeviceState::ALL.map(|state| (At::Device(state), of_device(protocol, state, fault))).into_iter();
            let of_servers =
                ServerState::ALL.map(|state| (At::Server(state), of_server(protocol, state, fault))).into_iter();
            for (at, verdict) in of_devices.chain(of_servers) {
                match verdict {
                    Verdict::None(_) => left_out += 1,
                    verdict => cells.push(Cell { protocol, at, fault, verdict }),
                }
            }
        }
    }
    (cells, left_out)
}

/// Runs cells side by side; returns the failed ones with their reasons.
fn run(setups: &BTreeMap<Clock, Setup>, cells: &[Cell], round: u8) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((number, cell)) = take(&next, cells) {
                    let work = || cell.run(&setups[&cell.clock()], source(round, number));
                    let outcome = catch_unwind(AssertUnwindSafe(work));
                    let outcome = outcome.unwrap_or_else(|panic| Err(format!("panicked: {:?}", panic_text(&panic))));
                    if let Err(why) = outcome {
                        failures.lock().unwrap().push(format!("{} {cell:?}: {why}", source(round, number)));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

fn take<'a>(next: &AtomicUsize, cells: &'a [Cell]) -> Option<(usize, &'a Cell)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    cells.get(number).map(|cell| (number, cell))
}

fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

/// Each cell has a source address of its own, which finds its log lines and keeps it below the limits per source.
fn source(round: u8, number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, round, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap())
}

/// Lines that the log lacks, or has too often.
fn misreported(setups: &BTreeMap<Clock, Setup>, cells: &[Cell], round: u8) -> Vec<String> {
    let lines: BTreeMap<Clock, _> = setups.iter().map(|(clock, setup)| (*clock, setup.lines())).collect();
    let mut failures = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let of_cell = lines[&cell.clock()].get(&source(round, number).to_string()).cloned().unwrap_or_default();
        let expected = cell.reasons();
        let fits = of_cell.len() == expected.len()
            && of_cell.iter().zip(&expected).all(|(line, reasons)| reasons.contains(&line["reason"].as_str().unwrap()));
        if !fits {
            let had: Vec<String> =
                of_cell.iter().map(|line| format!("{} {}", line["reason"], line["message"])).collect();
            failures.push(format!("{} {cell:?}: the log has {had:?}", source(round, number)));
        }
    }
    failures
}

#[test]
fn every_fault_in_every_state() {
    let (mut cells, left_out) = cells();
    if let Ok(only) = std::env::var("CELLS") {
        cells.retain(|cell| format!("{cell:?}").contains(&only));
    }
    // The slow cells come first, so that none is left over at the end.
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.clock()));
    let setups: BTreeMap<Clock, Setup> = thread::scope(|scope| {
        let starting = Clock::ALL.map(|clock| scope.spawn(move || (clock, Setup::new(clock))));
        starting.into_iter().map(|setup| setup.join().unwrap()).collect()
    });
    // A fifth of the cells warms every proxy up, so that the measurement sees only growth.
    let first: Vec<Cell> = cells.iter().step_by(5).cloned().collect();
    let mut failures = run(&setups, &first, 1);
    let before: Vec<_> = setups.values().map(|setup| setup.holdings(0)).collect();
    let begun = std::time::Instant::now();
    failures.extend(run(&setups, &cells, 2));
    let took = begun.elapsed();
    // The failures are printed before an assertion can end the test.
    failures.iter().for_each(|failure| println!("{failure}"));
    let after: Vec<_> = setups.values().zip(&before).map(|(setup, before)| setup.holdings(before.files)).collect();
    failures.extend(misreported(&setups, &cells, 2));
    for (clock, (before, after)) in Clock::ALL.iter().zip(before.iter().zip(&after)) {
        let grown = after.resident_kib.saturating_sub(before.resident_kib);
        println!("{clock:?}: {} files before, {} after; grown by {grown} KiB", before.files, after.files);
        if after.files > before.files || grown > GROWTH_KIB {
            failures.push(format!("the proxy {clock:?} has kept something: {before:?}, {after:?}"));
        }
    }
    failures.extend(with_a_blocked_log(&setups, &cells));
    for setup in setups.values() {
        for protocol in Protocol::MAILBOX {
            failures.extend(device::good(setup, protocol).err());
        }
    }
    println!("{} cells in {took:.1?}, {left_out} left out with a reason", cells.len());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Runs the cells while standard error has no reader. Peers get the same replies, each session is counted, and the
/// proxy keeps nothing.
fn with_a_blocked_log(setups: &BTreeMap<Clock, Setup>, cells: &[Cell]) -> Vec<String> {
    thread::scope(|scope| setups.values().for_each(|setup| drop(scope.spawn(|| setup.block_log()))));
    let sessions = || setups.values().map(|setup| setup.proxy.metric("packetboat_sessions_total", "")).sum::<u64>();
    let before: Vec<_> = setups.values().map(|setup| setup.holdings(0)).collect();
    let over = sessions();
    let mut failures: Vec<String> =
        run(setups, cells, 3).into_iter().map(|failure| format!("nobody reads the log: {failure}")).collect();
    for (setup, before) in setups.values().zip(&before) {
        let after = setup.holdings(before.files);
        if after.files > before.files {
            failures.push(format!("without a reader of its log the proxy has kept something: {before:?}, {after:?}"));
        }
    }
    let over = sessions() - over;
    if over != cells.len() as u64 {
        failures.push(format!("{over} sessions in {} cells", cells.len()));
    }
    setups.values().for_each(Setup::unblock_log);
    failures
}

/// Cells that run side by side.
const AT_A_TIME: usize = 64;
/// The memory that a proxy may gain over all cells, after the first fifth.
const GROWTH_KIB: usize = 8 * 1024;
