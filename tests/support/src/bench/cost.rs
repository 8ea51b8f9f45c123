//! The cost of a process so far.

use std::fs;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::process::Process;
use crate::proxy::Proxy;

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
