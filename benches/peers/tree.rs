//! This file reads the cost of a process and its children: CPU time and memory, as the kernel counts them.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// A process and its descendants, none of which may end while it is watched.
pub struct Tree {
    processes: Vec<(u32, ClockId)>,
}

impl Tree {
    pub fn of(id: u32) -> Self {
        let clock = clock_getcpuclockid(Pid::from_raw(id.try_into().unwrap())).unwrap();
        let mut processes = vec![(id, clock)];
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        for child in children.split_whitespace() {
            processes.extend(Self::of(child.parse().unwrap()).processes);
        }
        Self { processes }
    }

    /// This tree and another one.
    pub fn with(mut self, other: Self) -> Self {
        self.processes.extend(other.processes);
        self
    }

    /// The numbers of the processes.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(|(id, _)| *id)
    }

    /// CPU time, user and system, of all threads, including those that have ended.
    pub fn cpu(&self) -> Duration {
        self.processes.iter().map(|(_, clock)| Duration::from(clock.now().unwrap())).sum()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        let of = |id: &u32| fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        self.processes.iter().map(|(id, _)| of(id)).sum()
    }

    /// Memory in KiB; shared pages are divided among their processes (PSS).
    pub fn memory(&self) -> f64 {
        let figure = |id: &u32| {
            let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap()
        };
        self.processes.iter().map(|(id, _)| figure(id)).sum()
    }
}
