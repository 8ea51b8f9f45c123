//! Running, draining, ended: what SIGTERM sets in motion; and SIGHUP.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New connections are taken.
    Running,
    /// No new ones; sessions go on.
    Draining,
    /// The deadline is over; sessions end politely.
    Ending,
}

/// Moves the phase on.
pub struct Trigger(watch::Sender<Phase>);

/// Sees the phase.
#[derive(Clone)]
pub struct Lifecycle(watch::Receiver<Phase>);

/// A running lifecycle, and what moves it on.
pub fn begin() -> (Trigger, Lifecycle) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger(sender), Lifecycle(receiver))
}

impl Trigger {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Waits until nobody watches any more, at most this long. Whether nobody does.
    pub async fn all_gone(&self, at_most: Duration) -> bool {
        tokio::select! {
            () = self.0.closed() => true,
            () = sleep(at_most) => false,
        }
    }
}

impl Lifecycle {
    /// Waits for a phase, or a later one.
    pub async fn reached(&mut self, phase: Phase) {
        // An error says that the trigger is gone, and with it the process's reason to run.
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

/// The wall clock, in seconds since 1970.
pub fn since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The end; by the signal of this name.
    End(&'static str),
    /// The configuration anew.
    Reload,
}

/// The signals that ask for something.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on they are ours.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn listen() -> io::Result<Self> {
        // A file beyond LimitFSIZE is an error to be told, and by default the end of the process. The handler stays.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::End("SIGTERM"),
            _ = self.interrupt.recv() => Request::End("SIGINT"),
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}
