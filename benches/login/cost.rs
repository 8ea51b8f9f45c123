//! What a process has cost so far, and figures with their spread.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::support::process::Process;
use crate::support::proxy::Proxy;

/// Watches one process.
pub struct Cost {
    id: u32,
    clock: ClockId,
}

impl Cost {
    pub fn of(process: &Process) -> Self {
        let id = process.0.id();
        Self { id, clock: clock_getcpuclockid(Pid::from_raw(id.try_into().unwrap())).unwrap() }
    }

    /// CPU time of all its threads, user and system, in nanoseconds: what `/proc/PID/task/*/schedstat` adds up to, and
    /// the threads that have ended besides. Its children would be missing, so it must have none.
    pub fn cpu(&self) -> Duration {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.id)).unwrap_or_default();
        assert!(children.is_empty(), "it has started others: {children}");
        self.clock.now().unwrap().into()
    }

    /// Resident memory now and at most, in MiB.
    pub fn memory(&self) -> (f64, f64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
        };
        (figure("VmRSS:"), figure("VmHWM:"))
    }
}

/// How often packetboat could save itself the greater half of the handshake with the server; the log of the very last
/// session may not be there yet.
pub fn resumed(proxy: &Proxy) -> String {
    let ended = proxy.log.count(|line| line.contains("session ended"));
    let resumed = proxy.log.count(|line| line.contains("session ended") && line.contains(" resumed\""));
    format!("TLS towards the server was resumed in {resumed} of {ended} sessions")
}

/// One figure per round.
#[derive(Default)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Round by round what is more here than there: what slows the machine down for a while slows down both.
    pub fn beyond(&self, other: &Figures) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    /// Between which two the median of endless rounds lies, in 95 of 100 runs: by rank, whatever the distribution.
    pub fn median_interval(&self) -> (f64, f64) {
        let margin = 0.98 / (self.0.len() as f64).sqrt();
        (self.quantile((0.5 - margin).max(0.0)), self.quantile((0.5 + margin).min(1.0)))
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = share * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    }
}

/// The median, and the quartiles.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let (lower, upper) = (self.quantile(0.25), self.quantile(0.75));
        write!(f, "{:8.digits$} ({lower:.digits$} to {upper:.digits$})", self.median())
    }
}
