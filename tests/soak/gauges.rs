//! This file samples the proxy's resources again and again: memory, open files, threads, connections, tasks.

use std::time::{Duration, Instant};

use crate::run::{Run, read};
use support::process::PATIENCE;
use support::proxy::{Proxy, sum};

pub struct Gauges {
    begun: Instant,
    /// The sample before the first device came.
    first: Sample,
    /// Samples while devices came and went.
    samples: Vec<Sample>,
    /// Resources that were still held after the last device.
    faults: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Memory in KiB.
    memory: usize,
    files: usize,
    threads: usize,
    open: u64,
    tasks: u64,
}

impl Gauges {
    /// Waits until each account has its first token. The least that the proxy needs then is the level to return to.
    pub fn of(proxy: &Proxy, has_tokens: impl Fn() -> bool) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while !has_tokens() {
            assert!(Instant::now() < deadline, "tokens do not come");
            std::thread::sleep(Duration::from_millis(20));
        }
        let samples: Vec<Sample> = (0..20)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(100));
                Sample::of(proxy)
            })
            .collect();
        let first = samples.into_iter().min_by_key(|sample| (sample.tasks, sample.files)).unwrap();
        Self { begun: Instant::now(), first, samples: Vec::new(), faults: Vec::new() }
    }

    /// Samples every five seconds for this long, and prints every sixth sample.
    pub fn watch(&mut self, proxy: &Proxy, run: &Run, lasting: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < lasting && run.over.pause(EACH.min(lasting.saturating_sub(begun.elapsed()))) {
            let sample = Sample::of(proxy);
            self.samples.push(sample);
            if self.samples.len().is_multiple_of(6) {
                println!(
                    "{:5} s: {sample}, {} logins, {} messages had",
                    self.begun.elapsed().as_secs(),
                    read(&run.tally.logins),
                    run.ledger.sums().had
                );
            }
        }
    }

    /// Waits until every connection is over, and its resources are free.
    pub fn until_quiet(&mut self, proxy: &Proxy) {
        let deadline = Instant::now() + PATIENCE;
        let (last, is_quiet) = loop {
            let sample = Sample::of(proxy);
            let is_quiet = sample.open == 0 && sample.is_no_more_than(&self.first);
            if is_quiet || Instant::now() > deadline {
                break (sample, is_quiet);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let words = format!("at the end: {last}; at the beginning: {}", self.first);
        println!("{words}");
        if !is_quiet {
            self.faults.push(words);
        }
    }

    /// Returns leaks. Memory may grow while devices come for the first time, so the last quarter is compared with the
    /// second.
    pub fn faults(&self) -> Vec<String> {
        let quarter = self.samples.len() / 4;
        let mean = |samples: &[Sample]| samples.iter().map(|one| one.memory).sum::<usize>() / samples.len().max(1);
        let (before, after) = (mean(&self.samples[quarter..2 * quarter]), mean(&self.samples[3 * quarter..]));
        let peak = self.samples.iter().map(|one| one.memory).max().unwrap_or_default();
        println!("memory: {before} KiB on average in the second quarter, {after} KiB in the last; {peak} KiB at most");
        let bound = before + before / 4 + SPARE;
        let grown = (after > bound).then(|| format!("memory grew from {before} KiB to {after} KiB"));
        self.faults.iter().cloned().chain(grown).collect()
    }
}

impl Sample {
    fn of(proxy: &Proxy) -> Self {
        let process = &proxy.process;
        let metrics = proxy.metrics();
        let (open, tasks) = (sum(&metrics, "packetboat_connections_open", ""), sum(&metrics, "packetboat_tasks", ""));
        Self {
            memory: process.figure("VmRSS:"),
            files: process.open_files(),
            threads: process.figure("Threads:"),
            open,
            tasks,
        }
    }

    /// Whether devices have left nothing behind. Resources kept for the next device were there at the beginning, too.
    fn is_no_more_than(&self, first: &Self) -> bool {
        self.files <= first.files && self.tasks <= first.tasks && self.threads <= first.threads + THREADS
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { memory, files, threads, open, tasks } = self;
        write!(f, "{memory} KiB, {files} files, {threads} threads, {open} connections, {tasks} tasks")
    }
}

const EACH: Duration = Duration::from_secs(5);
/// The memory of one argon2 hash in KiB (19 MiB), which comes and goes.
const SPARE: usize = 20 << 10;
/// Threads of the blocking pools, which start with the first password, and stay while tokens are renewed.
const THREADS: usize = 16;
