//! A thread of its own writes standard error, so that a reader that stops reading costs lines and stalls nobody.
//!
//! Until that thread is started, lines are written at once where standard error takes them, so that a start that fails
//! or hangs says why. Lines that find no room are dropped and counted; the first line after a gap tells how many there
//! were.

use std::collections::VecDeque;
use std::io::{self, Write, stderr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// The way to standard error; every clone is the same one.
#[derive(Clone, Default)]
pub(super) struct StandardError(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    /// There is a line to write.
    work: Condvar,
    /// All lines are written.
    written: Condvar,
}

#[derive(Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    /// Octets of all of them, and of the line that is being written.
    octets: usize,
    dropped: u64,
    /// Dropped lines that no line has told of yet.
    unreported: u64,
    has_thread: bool,
    /// Standard error took nothing the last time that it was waited for.
    is_blocked: bool,
}

impl StandardError {
    /// Starts the thread that writes the lines.
    ///
    /// # Errors
    /// The operating system refuses the thread.
    pub(super) fn start_thread(&self) -> io::Result<()> {
        let writer = self.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.work())?;
        self.0.state.lock().has_thread = true;
        Ok(())
    }

    /// Lines that were dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    /// Waits until all lines are written, but no longer than `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.0.state.lock();
        while state.octets > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.0.written.wait_for(&mut state, left);
        }
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if !state.has_thread {
            let patience = if state.is_blocked { Duration::ZERO } else { PATIENCE };
            state.is_blocked = !write_within(line, patience);
            if state.is_blocked {
                state.drop_line();
            }
            return;
        }
        if state.octets.saturating_add(line.len()) > ROOM {
            state.drop_line();
            return;
        }
        state.octets += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.0.work.notify_one();
    }

    fn work(&self) {
        let mut state = self.0.state.lock();
        loop {
            let Some(line) = state.lines.pop_front() else {
                let unreported = std::mem::take(&mut state.unreported);
                if unreported > 0 {
                    drop(state);
                    warn!(left_out = unreported, "{unreported} log lines are lost: nobody read standard error");
                    state = self.0.state.lock();
                    continue;
                }
                self.0.written.notify_all();
                self.0.work.wait(&mut state);
                continue;
            };
            drop(state);
            let is_written = write_whole(&line).is_ok();
            state = self.0.state.lock();
            state.octets = state.octets.saturating_sub(line.len());
            if !is_written {
                state.dropped += 1;
            }
        }
    }
}

impl QueueState {
    fn drop_line(&mut self) {
        self.dropped += 1;
        self.unreported += 1;
    }
}

/// One line a call, as the formatting layer writes it.
impl Write for &StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for StandardError {
    type Writer = &'a StandardError;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Writes a line for as long as it takes; the reader may have made standard error non-blocking for itself.
fn write_whole(mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match stderr().write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => line = line.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(is_writable(None)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes a line in pieces that a pipe takes whole once it takes anything (pipe(7), `PIPE_BUF`); whether it is written.
fn write_within(line: &[u8], patience: Duration) -> bool {
    line.chunks(PIECE).all(|piece| is_writable(Some(patience)) && stderr().write_all(piece).is_ok())
}

fn is_writable(patience: Option<Duration>) -> bool {
    let until = patience.map(|patience| Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    });
    let stderr = stderr();
    loop {
        match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], until.as_ref()) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Octets that may wait to be written: some 5,000 lines.
const ROOM: usize = 1024 * 1024;
/// A start waits for standard error once, and no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
const PIECE: usize = 4096;
