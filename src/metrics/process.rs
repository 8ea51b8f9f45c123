//! Metrics of the process from the operating system, with the names of Prometheus' client libraries.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Counter, Gauge};
use rustix::process::{Resource, getrlimit};

pub(super) struct Gauges {
    open_files: Gauge,
    most_files: Gauge,
    memory: Gauge,
    cpu: Counter,
}

impl Gauges {
    pub(super) fn new(
        gauge: impl Fn(&str, &str) -> prometheus::Result<Gauge>,
        counter: impl Fn(&str, &str) -> prometheus::Result<Counter>,
    ) -> prometheus::Result<Self> {
        // /proc has it in files that a confined service does not see.
        let started = gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")?;
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        Ok(Self {
            open_files: gauge("process_open_fds", "Number of open file descriptors.")?,
            most_files: gauge("process_max_fds", "Maximum number of open file descriptors.")?,
            memory: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            cpu: counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")?,
        })
    }

    /// Updates the gauges. A value that cannot be read stays as it was.
    pub(super) fn read(&self) {
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as f64);
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            self.most_files.set(most as f64);
        }
        let Some(stat) = Stat::read() else { return };
        let second = rustix::param::clock_ticks_per_second() as f64;
        self.memory.set(stat.pages * rustix::param::page_size() as f64);
        self.cpu.inc_by((stat.cpu / second - self.cpu.get()).max(0.0));
    }
}

/// Values of proc_pid_stat(5), in clock ticks and pages.
struct Stat {
    cpu: f64,
    pages: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // Fields from the third on. The second is the name, which may contain anything.
        let fields: Vec<f64> = text
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        Some(Self { cpu: fields.get(10)? + fields.get(11)?, pages: *fields.get(20)? })
    }
}
