//! This file reads the CPU time and memory of one process.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::process::Process;
use crate::proxy::Proxy;

/// A process whose cost is read.
pub struct Cost {
    id: u32,
    clock: ClockId,
}

impl Cost {
    pub fn of(process: &Process) -> Self {
        let id = process.0.id();
        Self { id, clock: clock_getcpuclockid(Pid::from_raw(id.try_into().unwrap())).unwrap() }
    }

    /// CPU time of all threads, user and system, in nanoseconds, including threads that have ended. The sum comes from
    /// `/proc/PID/task/*/schedstat`; children would be missing, so the process must have none.
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

/// The share of packetboat's handshakes with the server that resumed a session. The log line of the very last session
/// may be missing yet.
pub fn resumed(proxy: &Proxy) -> String {
    let ended = proxy.log.count(|line| line.contains("session ended"));
    let resumed = proxy.log.count(|line| line.contains("session ended") && line.contains(" resumed\""));
    format!("TLS towards the server was resumed in {resumed} of {ended} sessions")
}
