//! Worker threads, one for each core: an event loop, sockets of its own to accept from, and the connections it keeps.
//!
//! Nothing is shared while octets move, and no other thread is woken for them: beside tokio's work-stealing runtime that is
//! a seventh of a session's CPU time (benches/record/). The kernel spreads connections over the sockets of one port
//! (SO_REUSEPORT); where that goes wrong, a connection is handed over once, right when it is accepted.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::debug;

use super::connection;
use super::door::Door;
use super::limits::{Admitted, Connections};
use crate::lifecycle::Lifecycle;

/// All worker threads. They end when it is dropped, whatever they are at.
pub(super) struct Workers {
    desks: Arc<[Desk]>,
    threads: Vec<JoinHandle<()>>,
}

/// A worker, as others see it.
struct Desk {
    jobs: UnboundedSender<Job>,
    /// Connections that it has.
    open: Arc<AtomicUsize>,
}

/// What a worker is asked to do.
enum Job {
    Accept(StdListener, Arc<Door>, Arc<Connections>, Lifecycle),
    Serve(StdStream, Guest, Seat),
    Stop,
}

/// Who has been let in, with all that it takes to serve it.
pub(super) struct Guest {
    pub(super) source: SocketAddr,
    pub(super) door: Arc<Door>,
    pub(super) admitted: Admitted,
    pub(super) lifecycle: Lifecycle,
}

/// The worker that a task runs on.
#[derive(Clone)]
pub(super) struct Here {
    desks: Arc<[Desk]>,
    own: usize,
}

/// One of a worker's connections. Dropping it takes it off the count.
struct Seat(Arc<AtomicUsize>);

/// One for each core that this process may use.
pub(super) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Workers {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The operating system has none.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count.max(1)).map(|_| unbounded_channel()).unzip();
        let desks: Arc<[Desk]> = senders.into_iter().map(|jobs| Desk { jobs, open: Arc::default() }).collect();
        let mut workers = Self { desks: Arc::clone(&desks), threads: Vec::new() };
        for (own, jobs) in receivers.into_iter().enumerate() {
            let here = Here { desks: Arc::clone(&desks), own };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let work = move || {
                runtime.block_on(work(here, jobs));
                // A thread that looks up a name may take its time.
                runtime.shutdown_background();
            };
            workers.threads.push(std::thread::Builder::new().name(format!("worker-{own}")).spawn(work)?);
        }
        Ok(workers)
    }

    /// Has these sockets of one address accepted from, each by a worker.
    pub(super) fn accept(
        &self,
        sockets: Vec<StdListener>,
        door: &Arc<Door>,
        connections: &Arc<Connections>,
        lifecycle: &Lifecycle,
    ) {
        for (socket, desk) in sockets.into_iter().zip(self.desks.iter().cycle()) {
            let job = Job::Accept(socket, Arc::clone(door), Arc::clone(connections), lifecycle.clone());
            // A worker that has ended has been told to.
            let _ = desk.jobs.send(job);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for desk in self.desks.iter() {
            let _ = desk.jobs.send(Job::Stop);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Here {
    /// Serves a connection: here, or where there are clearly fewer of them.
    pub(super) fn serve(&self, stream: TcpStream, guest: Guest) {
        let open = |desk: &Desk| desk.open.load(Ordering::Relaxed);
        let Some(own) = self.desks.get(self.own) else { return };
        let Some(least) = self.desks.iter().min_by_key(|desk| open(desk)) else { return };
        let fewest = open(least);
        if open(own) <= fewest + fewest / 8 {
            return sit_down(Seat::at(own), stream, guest);
        }
        match stream.into_std() {
            Ok(stream) => drop(least.jobs.send(Job::Serve(stream, guest, Seat::at(least)))),
            Err(error) => debug!(source = %guest.source, %error, "gone before it was served"),
        }
    }
}

impl Seat {
    fn at(desk: &Desk) -> Self {
        desk.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&desk.open))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn work(here: Here, mut jobs: UnboundedReceiver<Job>) {
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Accept(socket, door, connections, lifecycle) => match TcpListener::from_std(socket) {
                Ok(socket) => drop(tokio::spawn(super::accept(socket, door, connections, lifecycle, here.clone()))),
                Err(error) => tracing::error!(listener = door.listener.name, %error, "cannot accept connections"),
            },
            Job::Serve(stream, guest, seat) => match TcpStream::from_std(stream) {
                Ok(stream) => sit_down(seat, stream, guest),
                Err(error) => debug!(source = %guest.source, %error, "gone before it was served"),
            },
            Job::Stop => return,
        }
    }
}

/// Serves a connection on this thread.
fn sit_down(seat: Seat, stream: TcpStream, guest: Guest) {
    tokio::spawn(async move {
        connection::serve(stream, guest.source, guest.door, guest.admitted, guest.lifecycle).await;
        drop(seat);
    });
}
