//! Worker threads, one for each core. Each has an event loop, sockets to accept from, and connections that stay with
//! it.
//!
//! Threads share nothing while octets move, and do not wake each other. Compared with tokio's work-stealing runtime
//! this saves a seventh of a session's CPU time (benches/record/). The kernel spreads connections over the sockets of
//! one port (SO_REUSEPORT). Where its spread is uneven, a worker hands a connection over once, right after it has
//! accepted it.

use std::io;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::accept::{Frontend, accept};
use crate::metrics::Metrics;
use crate::proxy::connection::{self, Accepted};
use crate::proxy::limits::Peer;

/// The worker threads. Dropping it ends them, with their connections.
pub(in crate::proxy) struct Workers {
    handles: Arc<[WorkerHandle]>,
    threads: Vec<JoinHandle<()>>,
}

/// The heartbeat of the workers: it tells whether one is stuck.
#[derive(Clone)]
pub struct Heartbeat(Arc<[WorkerHandle]>);

/// A handle for other threads on a worker.
struct WorkerHandle {
    jobs: UnboundedSender<Job>,
    /// The number of the worker's connections.
    open: Arc<AtomicUsize>,
}

/// A request to a worker.
enum Job {
    Accept(StdListener, Frontend, Spread),
    Serve(StdStream, Accepted, LoadGuard),
    /// Answers, to show that the worker is not stuck.
    Beat(oneshot::Sender<()>),
    Stop,
}

/// The spread of an address's connections over the workers.
#[derive(Clone, Copy)]
enum Spread {
    /// The kernel spreads them over sockets of all workers.
    Kernel,
    /// One worker accepts them all.
    Worker,
}

/// A worker, for the tasks that run on it.
#[derive(Clone)]
pub(in crate::proxy) struct Worker {
    handles: Arc<[WorkerHandle]>,
    own: usize,
}

/// A timer of one second on a worker's event loop, for as long as connections come.
///
/// A timer that is due before all others makes tokio wake the event loop by an eventfd, from its own thread as well, and
/// each session has such timers. None of them is due before this one.
#[derive(Default)]
struct Pace {
    came: AtomicBool,
    wake: Notify,
}

/// Counts one connection of a worker. Dropping it takes the connection off the count.
struct LoadGuard(Arc<AtomicUsize>);

/// The number of workers: one for each core that this process may use.
pub(in crate::proxy) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Workers {
    /// Starts this number of threads.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub(in crate::proxy) fn start(count: usize, metrics: &Metrics) -> io::Result<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count.max(1)).map(|_| unbounded_channel()).unzip();
        let handles: Arc<[WorkerHandle]> =
            senders.into_iter().map(|jobs| WorkerHandle { jobs, open: Arc::default() }).collect();
        let mut workers = Self { handles: Arc::clone(&handles), threads: Vec::new() };
        for (own, jobs) in receivers.into_iter().enumerate() {
            let worker = Worker { handles: Arc::clone(&handles), own };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            metrics.add_event_loop(runtime.metrics());
            let work = move || {
                runtime.block_on(work(worker, jobs));
                // A thread that looks up a name may run on.
                runtime.shutdown_background();
            };
            workers.threads.push(std::thread::Builder::new().name(format!("worker-{own}")).spawn(work)?);
        }
        Ok(workers)
    }

    /// Accepts connections at these sockets of one address. Each socket goes to another worker.
    pub(in crate::proxy) fn accept(&self, sockets: Vec<StdListener>, frontend: &Frontend) {
        let spread = if sockets.len() < self.handles.len() { Spread::Worker } else { Spread::Kernel };
        for (socket, worker) in sockets.into_iter().zip(self.handles.iter().cycle()) {
            // A worker that has ended was stopped.
            let _ = worker.jobs.send(Job::Accept(socket, frontend.clone(), spread));
        }
    }

    /// The heartbeat of the workers.
    pub(in crate::proxy) fn heartbeat(&self) -> Heartbeat {
        Heartbeat(Arc::clone(&self.handles))
    }
}

impl Heartbeat {
    /// Returns whether each worker's event loop answers within this time. A stuck one does not.
    pub async fn answers_within(&self, patience: Duration) -> bool {
        timeout(patience, self.beat()).await.unwrap_or_default()
    }

    async fn beat(&self) -> bool {
        let ask = |worker: &WorkerHandle| {
            let (sender, answer) = oneshot::channel();
            worker.jobs.send(Job::Beat(sender)).ok()?;
            Some(answer)
        };
        let answers: Vec<_> = self.0.iter().map(ask).collect();
        for answer in answers {
            let Some(answer) = answer else { return false };
            if answer.await.is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for worker in self.handles.iter() {
            let _ = worker.jobs.send(Job::Stop);
        }
        // A stuck thread ends with the process.
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

impl Worker {
    /// Serves a connection on this worker, or on one with clearly fewer connections. The kernel's spread may be a few
    /// connections off, because handing one over wakes another thread.
    fn serve(&self, stream: TcpStream, accepted: Accepted, spread: Spread) {
        let open = |worker: &WorkerHandle| worker.open.load(Ordering::Relaxed);
        let Some(own) = self.handles.get(self.own) else { return };
        let Some(least) = self.handles.iter().min_by_key(|worker| open(worker)) else { return };
        let fewest = open(least);
        let slack = match spread {
            Spread::Kernel => SLACK,
            Spread::Worker => 0,
        };
        if open(own) <= fewest + fewest / 8 + slack {
            return spawn(LoadGuard::at(own), stream, accepted);
        }
        match stream.into_std() {
            // A worker that has ended was stopped.
            Ok(stream) => drop(least.jobs.send(Job::Serve(stream, accepted, LoadGuard::at(least)))),
            Err(error) => log_lost(accepted.peer, &error),
        }
    }
}

impl LoadGuard {
    fn at(worker: &WorkerHandle) -> Self {
        worker.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&worker.open))
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(worker: Worker, jobs: UnboundedReceiver<Job>) {
    let pace = Arc::new(Pace::default());
    tokio::select! {
        biased;
        () = do_jobs(worker, jobs, &pace) => {}
        () = pace.keep() => {}
    }
}

async fn do_jobs(worker: Worker, mut jobs: UnboundedReceiver<Job>, pace: &Arc<Pace>) {
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Accept(socket, frontend, spread) => match TcpListener::from_std(socket) {
                Ok(socket) => {
                    let (worker, pace) = (worker.clone(), Arc::clone(pace));
                    let serve = move |stream, accepted| {
                        pace.connection_came();
                        worker.serve(stream, accepted, spread);
                    };
                    tokio::spawn(accept(socket, frontend, serve));
                }
                Err(error) => {
                    let listener = &frontend.current.load().listener.name;
                    tracing::error!(listener, %error, "cannot accept connections");
                }
            },
            Job::Serve(stream, accepted, load) => match TcpStream::from_std(stream) {
                Ok(stream) => {
                    pace.connection_came();
                    spawn(load, stream, accepted);
                }
                Err(error) => log_lost(accepted.peer, &error),
            },
            // The asking task may have given up.
            Job::Beat(answer) => drop(answer.send(())),
            Job::Stop => return,
        }
    }
}

impl Pace {
    fn connection_came(&self) {
        if !self.came.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    async fn keep(&self) {
        loop {
            self.wake.notified().await;
            while self.came.swap(false, Ordering::Relaxed) {
                sleep(PACE).await;
            }
        }
    }
}

/// Serves a connection on this thread.
fn spawn(load: LoadGuard, stream: TcpStream, accepted: Accepted) {
    tokio::spawn(async move {
        connection::serve(stream, accepted).await;
        drop(load);
    });
}

fn log_lost(Peer { id, source }: Peer, error: &io::Error) {
    debug!(connection = id.number(), %source, %error, "lost before it was served");
}

const PACE: Duration = Duration::from_secs(1);
/// The number of connections by which a worker may have more than another one, beside an eighth.
const SLACK: usize = 4;
/// The time for workers to drop their connections.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    use crate::config::Config;
    use crate::lifecycle;
    use crate::mode::Mode;
    use crate::proxy::current_service::CurrentService;
    use crate::proxy::{PreparedService, ProcessState};

    /// One worker accepts everything here, as with a socket that was inherited; each serves half.
    #[test]
    fn connections_go_to_the_worker_with_fewer() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "state_directory = {:?}\n[upstream.x]\nhost = \"127.0.0.1\"\n[[listener]]\nprotocol = \"imap\"\n\
             listen = [\"127.0.0.1:0\"]\nentry = \"plaintext\"\nallow_plaintext = true\n\
             allowed_networks = [\"127.0.0.0/8\"]\nlogins = \"pass-through\"\n",
            directory.path()
        );
        let config = Config::parse(&text, std::path::Path::new("x")).unwrap().config;
        let process = ProcessState::new(&config).unwrap();
        let opened =
            crate::proxy::open(&config, Mode::Apply, &process, None).unwrap_or_else(|found| panic!("{found:?}"));
        let PreparedService { service, mut bound } = opened.services.into_iter().next().unwrap();
        let address = bound[0].address;
        let (_trigger, lifecycle) = lifecycle::begin();
        let workers = Workers::start(2, &process.metrics).unwrap();
        let (_open_trigger, open) = lifecycle::begin();
        let current = Arc::new(CurrentService::new(&service, open));
        // The others of the port are closed, so that the kernel has no choice.
        bound[0].sockets.truncate(1);
        let only = bound.remove(0).sockets;
        let (connections, registry) = (Arc::clone(&process.connections), Arc::clone(&process.registry));
        workers.accept(only, &Frontend { current, connections, registry, lifecycle, is_inherited: false });
        let open = || workers.handles.iter().map(|worker| worker.open.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut devices: Vec<std::net::TcpStream> =
            (0..8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        for device in &mut devices {
            device.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut greeting = [0; 4];
            device.read_exact(&mut greeting).unwrap();
            assert_eq!(&greeting, b"* OK");
        }
        assert_eq!(open(), [4, 4]);
        let tasks = |count: u32| process.metrics.text().unwrap().contains(&format!("\npacketboat_tasks {count}\n"));
        assert!(tasks(9), "one that accepts, and the connections");
        drop(devices);
        let deadline = Instant::now() + Duration::from_secs(60);
        while open() != [0, 0] || !tasks(1) {
            assert!(Instant::now() < deadline, "{:?}, and tasks that have nothing to do", open());
            std::thread::yield_now();
        }
    }
}
