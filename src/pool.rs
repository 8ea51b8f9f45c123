//! Threads for calls that block: files, name resolution, password hashes. No event loop ever makes such a call itself.
//!
//! Each kind of call has a pool of its own, so that a hung file system delays no password and a hung resolver no token.
//! A pool starts its first threads with the service ([`start`]) and keeps them, so that work goes on while the
//! operating system refuses new threads. Threads, waiting jobs and the wait of a caller are bounded. A caller that
//! stops waiting takes its job out of the queue, with everything that the job holds; a job that panics ends neither its
//! thread nor its pool.

mod closing;
mod gate;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;
use tokio::time::timeout;

pub use closing::Closing;
pub use gate::Gate;

/// Argon2 runs at a time. A run takes 19 MiB and some 20 ms, so that few threads bound the memory.
pub const PASSWORD_RUNS: usize = 2;

/// Argon2 runs.
pub static PASSWORDS: Pool = Pool::new("password", PASSWORD_RUNS, PASSWORD_RUNS, 1024);
/// Files that the configuration names: secrets, keys, certificates. They may lie on a network file system that hangs.
pub static FILES: Pool = Pool::new("file", 2, 32, 256);
/// Jobs on files in the state directory: refresh tokens, the inventory.
pub static STATE: Pool = Pool::new("state", 2, 8, 256);
/// Messages in the spool.
pub static SPOOL: Pool = Pool::new("spool", 1, 4, 1024);
/// Host names of mail servers and token endpoints.
pub static NAMES: Pool = Pool::new("resolver", 2, 16, 1024);
/// Names of devices by their address, which only decorate the inventory.
pub static DEVICE_NAMES: Pool = Pool::new("reverse", 1, 1, 1);
/// Messages to the service manager, in their order.
pub static MANAGER: Pool = Pool::new("manager", 1, 1, 64);

/// Answers of the page that take processor time, one after the other.
pub static PAGE: Pool = Pool::new("page-answer", 1, 1, 16);

/// Every pool of the process.
const ALL: [&Pool; 8] = [&PASSWORDS, &FILES, &STATE, &SPOOL, &NAMES, &DEVICE_NAMES, &MANAGER, &PAGE];

/// Starts the first threads of every pool. The service calls this before it takes a connection.
///
/// # Errors
/// The operating system refuses a thread.
pub fn start() -> io::Result<()> {
    ALL.iter().try_for_each(|pool| pool.start())
}

/// Threads for one kind of call.
pub struct Pool {
    name: &'static str,
    /// The threads that are kept, whether or not there is work.
    first: usize,
    /// The most threads.
    most: usize,
    /// Jobs that may wait for a thread.
    queue: usize,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    threads: usize,
    /// The threads that run no job.
    idle: usize,
    /// The last time that a thread took a job.
    taken: Option<Instant>,
    waiting: VecDeque<Arc<Waiting>>,
}

/// A job until a thread takes it, or its caller stops waiting.
struct Waiting(Mutex<Option<Job>>);

type Job = Box<dyn FnOnce() + Send>;

/// A guard that takes a job out of the queue when its caller is gone.
struct Ticket {
    pool: &'static Pool,
    waiting: Arc<Waiting>,
}

/// The position of a job in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    First,
    Last,
}

/// The reason why a job gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// Too many jobs wait already.
    Full,
    /// The operating system refuses the first thread.
    NoThread,
    /// The job did not end in time. It may end later.
    Late,
    /// The job panicked.
    Panicked,
}

impl Pool {
    const fn new(name: &'static str, first: usize, most: usize, queue: usize) -> Self {
        let state = Mutex::new(State { threads: 0, idle: 0, taken: None, waiting: VecDeque::new() });
        Self { name, first, most, queue, state, work: Condvar::new() }
    }

    /// Runs a job on a thread of the pool and waits for its result, for as long as it takes.
    ///
    /// # Errors
    /// See [`NotDone`]; never [`NotDone::Late`].
    pub async fn run<T: Send + 'static>(&'static self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, NotDone> {
        #[cfg(test)]
        let _clock = hold_paused_clock();
        let (sender, result) = oneshot::channel();
        // The caller may be gone: then nobody wants the result.
        let waiting = self.submit(Box::new(move || drop(sender.send(job()))), Position::Last)?;
        let _ticket = Ticket { pool: self, waiting };
        // A job that panics drops its sender.
        result.await.map_err(|_| NotDone::Panicked)
    }

    /// Runs a job and waits no longer than `patience`. A job that no thread has begun by then never runs.
    ///
    /// # Errors
    /// See [`NotDone`].
    pub async fn run_within<T: Send + 'static>(
        &'static self,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        timeout(patience, self.run(job)).await.unwrap_or(Err(NotDone::Late))
    }

    /// Returns whether jobs get a thread: one in front of the queue is done within `patience`, or a thread has taken a
    /// job lately and still runs it.
    pub async fn answers(&'static self, patience: Duration) -> bool {
        let (sender, result) = oneshot::channel();
        let answer = move || {
            let _ = sender.send(());
        };
        let Ok(waiting) = self.submit(Box::new(answer), Position::First) else { return false };
        let _ticket = Ticket { pool: self, waiting };
        let is_done = timeout(patience, result).await.is_ok_and(|done| done.is_ok());
        is_done || self.state().taken.is_some_and(|taken| taken.elapsed() < LONGEST_JOB)
    }

    /// Queues a job whose end nobody waits for. A job that finds no room is dropped.
    pub fn hand_over(&'static self, job: impl FnOnce() + Send + 'static) {
        // A dropped ticket takes its job out of the queue; this job has none, and stays.
        drop(self.submit(Box::new(job), Position::Last));
    }

    /// Queues a job that frees what another one has left: ahead of the others, and whether or not there is room, so that
    /// it is not dropped here, on an event loop. The things that it frees bound the number of such jobs.
    pub fn hand_over_cleanup(&'static self, job: impl FnOnce() + Send + 'static) {
        drop(self.submit(Box::new(job), Position::First));
    }

    fn start(&'static self) -> io::Result<()> {
        let mut state = self.state();
        while state.threads < self.first {
            self.spawn(&mut state)?;
        }
        Ok(())
    }

    fn submit(&'static self, job: Job, position: Position) -> Result<Arc<Waiting>, NotDone> {
        let mut state = self.state();
        if state.idle <= state.waiting.len() && state.threads < self.most {
            // If the system refuses a thread, the existing ones take the job in order.
            let spawned = self.spawn(&mut state);
            if spawned.is_err() && state.threads == 0 {
                return Err(NotDone::NoThread);
            }
        }
        if position == Position::Last && state.waiting.len() >= self.queue.saturating_add(state.idle) {
            return Err(NotDone::Full);
        }
        let waiting = Arc::new(Waiting(Mutex::new(Some(job))));
        match position {
            Position::Last => state.waiting.push_back(Arc::clone(&waiting)),
            Position::First => state.waiting.push_front(Arc::clone(&waiting)),
        }
        drop(state);
        self.work.notify_one();
        Ok(waiting)
    }

    fn spawn(&'static self, state: &mut State) -> io::Result<()> {
        let is_kept = state.threads < self.first;
        thread::Builder::new().name(self.name.to_owned()).spawn(move || self.work(is_kept))?;
        state.threads += 1;
        state.idle += 1;
        Ok(())
    }

    fn work(&self, is_kept: bool) {
        let mut state = self.state();
        loop {
            let Some(next) = state.waiting.pop_front() else {
                let waited = self.work.wait_for(&mut state, IDLE);
                if waited.timed_out() && !is_kept && state.waiting.is_empty() {
                    state.threads -= 1;
                    state.idle -= 1;
                    return;
                }
                continue;
            };
            state.idle -= 1;
            state.taken = Some(Instant::now());
            drop(state);
            if let Some(job) = next.take() {
                // The panic hook has told what it was.
                drop::<Result<(), Box<dyn Any + Send>>>(catch_unwind(AssertUnwindSafe(job)));
            }
            state = self.state();
            state.idle += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Waiting {
    fn take(&self) -> Option<Job> {
        self.0.lock().take()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.waiting.take().is_some() {
            self.pool.state().waiting.retain(|other| !Arc::ptr_eq(other, &self.waiting));
        }
    }
}

impl fmt::Display for NotDone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            NotDone::Full => "too many others wait for the same",
            NotDone::NoThread => {
                "the operating system gives this process no thread; raise TasksMax (systemd), pids.max or ulimit -u"
            }
            NotDone::Late => "it does not answer",
            NotDone::Panicked => "an internal error, which the log names",
        })
    }
}

impl std::error::Error for NotDone {}

/// Longest job: no password takes this long, however expensive its hash may be.
const LONGEST_JOB: Duration = Duration::from_secs(60);
/// Time without work after which a thread ends that is not among the first.
const IDLE: Duration = Duration::from_secs(60);

/// Keeps a paused clock (`tokio::time::pause`) from running ahead of a thread, as tokio does for its own blocking
/// calls.
#[cfg(test)]
pub fn hold_paused_clock() -> std::sync::mpsc::Sender<()> {
    let (held, released) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || {
        let _ = released.recv();
    });
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A job that holds a thread, and does so already, until the sender is dropped.
    async fn held(pool: &'static Pool) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), NotDone>>) {
        let (release, released) = mpsc::channel::<()>();
        let (sender, begun) = mpsc::channel();
        let holder = tokio::spawn(pool.run(move || {
            sender.send(()).unwrap();
            released.recv().unwrap_or_default()
        }));
        until(|| begun.try_recv().is_ok()).await;
        (release, holder)
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_panic_costs_its_job_alone() {
        static POOL: Pool = Pool::new("test", 1, 1, 8);
        for _ in 0..3 {
            assert_eq!(POOL.run(|| panic!("meant")).await, Err::<(), _>(NotDone::Panicked));
            assert_eq!(POOL.run(|| 7).await, Ok(7));
        }
        assert_eq!(POOL.state().threads, 1);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_takes_its_job_and_all_that_it_holds() {
        static POOL: Pool = Pool::new("test", 1, 1, 8);
        let (release, holder) = held(&POOL).await;
        let permit = Arc::new(());
        let taken = Arc::clone(&permit);
        let late = POOL.run_within(Duration::from_millis(20), move || drop(taken)).await;
        assert_eq!(late, Err(NotDone::Late));
        assert_eq!((Arc::strong_count(&permit), POOL.state().waiting.len()), (1, 0));
        drop(release);
        assert_eq!(holder.await.unwrap(), Ok(()));
        assert_eq!(POOL.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_pool_answers_beside_a_full_queue_and_not_where_it_hangs() {
        static POOL: Pool = Pool::new("test", 1, 1, 1);
        let soon = Duration::from_millis(20);
        assert!(POOL.answers(Duration::from_secs(60)).await);
        let (release, holder) = held(&POOL).await;
        let waits = tokio::spawn(POOL.run(|| 7));
        until(|| POOL.state().waiting.len() == 1).await;
        assert!(POOL.answers(soon).await, "it has just taken a job");
        POOL.state().taken = Instant::now().checked_sub(LONGEST_JOB);
        assert!(!POOL.answers(soon).await);
        assert_eq!(POOL.state().waiting.len(), 1);
        drop(release);
        assert!(POOL.answers(Duration::from_secs(60)).await);
        assert_eq!((waits.await.unwrap(), holder.await.unwrap()), (Ok(7), Ok(())));
    }

    /// A full queue drops no value here, where an event loop would wait for its file.
    #[tokio::test]
    async fn a_value_is_dropped_on_a_thread_even_if_the_queue_is_full() {
        static POOL: Pool = Pool::new("test", 1, 1, 1);
        struct Told(mpsc::Sender<thread::ThreadId>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(thread::current().id()).unwrap();
            }
        }
        let (release, holder) = held(&POOL).await;
        let waits = tokio::spawn(POOL.run(|| thread::current().id()));
        until(|| POOL.state().waiting.len() == 1).await;
        assert_eq!(POOL.run(|| 8).await, Err(NotDone::Full));
        let (sender, dropped) = mpsc::channel();
        drop(Closing::on(&POOL, Told(sender)));
        assert!(dropped.try_recv().is_err(), "its thread is busy");
        drop(release);
        assert_eq!(holder.await.unwrap(), Ok(()));
        let thread = waits.await.unwrap().unwrap();
        assert_eq!(dropped.recv().unwrap(), thread);
    }

    #[tokio::test]
    async fn the_queue_has_its_bound_and_threads_theirs() {
        static POOL: Pool = Pool::new("test", 1, 2, 1);
        let (release, holder) = held(&POOL).await;
        let (other_release, other_holder) = held(&POOL).await;
        assert_eq!(POOL.state().threads, 2);
        let waits = tokio::spawn(POOL.run(|| 7));
        until(|| POOL.state().waiting.len() == 1).await;
        assert_eq!(POOL.run(|| 8).await, Err(NotDone::Full));
        drop((release, other_release));
        assert_eq!((waits.await.unwrap(), holder.await.unwrap(), other_holder.await.unwrap()), (Ok(7), Ok(()), Ok(())));
    }
}
