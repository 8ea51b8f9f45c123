//! This file runs a child process that ends with its guard, and waits for its lines.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest time that any step may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test, which cargo builds beside the tests and the benches.
pub fn program() -> PathBuf {
    output_directory().join("packetboat")
}

/// Copies the binary under test to where another user can start it.
pub fn copy_program(to: &Path) {
    copy_executable(&program(), to);
}

/// Copies a program or a script, so that the copy can be started at once (`fs::copy` makes files that often cannot).
pub fn copy_executable(from: &Path, to: &Path) {
    assert!(installed(from.as_os_str(), to).wait().unwrap().success(), "{}", from.display());
}

/// Writes a script that can be started.
pub fn executable(path: &Path, script: &str) {
    let mut install = installed("/dev/stdin".as_ref(), path);
    install.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}

/// Runs install(1). A file that this process itself has open for writing is open as well, for a moment, in each child
/// that another thread starts, and cannot be executed meanwhile (ETXTBSY, execve(2)).
fn installed(from: &OsStr, to: &Path) -> Child {
    Command::new("install").args(["-m", "755"]).arg(from).arg(to).stdin(Stdio::piped()).spawn().unwrap()
}

/// A directory for files that tests make once and use again, as the one that cargo names `CARGO_TARGET_TMPDIR`.
pub fn scratch() -> PathBuf {
    let directory = output_directory().with_file_name("tmp");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// `target/debug`, above the `deps/` of the running test or bench.
fn output_directory() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(2).unwrap().to_path_buf()
}

/// A process that ends when this value is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// The process, and the lines of its standard error.
    pub fn logged(command: &mut Command) -> (Self, Lines) {
        let mut process = Self::start(command.stderr(Stdio::piped()));
        let log = Lines::of(process.0.stderr.take().unwrap());
        (process, log)
    }

    /// The same for packetboat, once it is ready.
    pub fn ready(command: &mut Command) -> (Self, Lines) {
        let (process, log) = Self::logged(command);
        log.wait_for("line that it is ready", |line| line.ends_with("ready"));
        (process, log)
    }

    pub fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    /// A number from the kernel's status of the process (proc_pid_status(5)): present memory in KiB (`VmRSS:`), peak
    /// memory in KiB (`VmHWM:`), or threads (`Threads:`).
    pub fn figure(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count()
    }

    /// CPU time of the process (proc_pid_stat(5)).
    pub fn processor(&self) -> Duration {
        processor_of(&self.0.id().to_string())
    }

    /// CPU time, divided by the processors, that all programs but this one and the test have taken so far (proc_stat(5)).
    /// Subtract it from a time that was measured, so that a busy computer looks like an idle one.
    pub fn taken_by_others(&self) -> Duration {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let fields = stat.lines().next().unwrap().split_whitespace().skip(1);
        let fields: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
        // All but idle and iowait; the last two stand in the first two as well.
        let ticks = fields[..8].iter().sum::<u64>() - fields[3] - fields[4];
        let busy = Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
        let processors = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
        busy.saturating_sub(self.processor() + processor_of("self")) / u32::try_from(processors).unwrap()
    }

    /// Waits until somebody listens at these addresses; what the program has said tells why nobody does.
    pub fn until_open(&mut self, addresses: &[SocketAddr], said: impl Fn() -> String) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while addresses.iter().any(|address| TcpStream::connect(address).is_err()) {
            let runs = self.0.try_wait().unwrap().is_none();
            assert!(runs && Instant::now() < deadline, "the program does not start: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn processor_of(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines that a process has written so far.
#[derive(Clone, Default)]
pub struct Lines(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    pub fn of(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                writer.0.0.lock().unwrap().lines.push(line);
                writer.0.1.notify_all();
            }
            writer.0.0.lock().unwrap().ended = true;
            writer.0.1.notify_all();
        });
        lines
    }

    /// Waits until a line satisfies the condition.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = state.lines.iter().find(|line| condition(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                let lines = state.lines.join("\n");
                // A panic must not poison the lock, because the guard prints the lines and ends the process.
                drop(state);
                panic!("no {what} in:\n{lines}");
            }
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    pub fn count(&self, condition: impl Fn(&str) -> bool) -> usize {
        self.0.0.lock().unwrap().lines.iter().filter(|line| condition(line)).count()
    }

    /// All lines, once the process has closed its end.
    pub fn to_the_end(&self) -> String {
        let mut state = self.0.0.lock().unwrap();
        while !state.ended {
            let (next, waited) = self.0.1.wait_timeout(state, PATIENCE).unwrap();
            state = next;
            assert!(!waited.timed_out(), "no end of:\n{}", state.lines.join("\n"));
        }
        state.lines.join("\n")
    }

    pub fn all(&self) -> String {
        // A test that has failed while waiting asks for the lines, too.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.join("\n")
    }
}
