//! The phases of the process (running, draining, ending), and the signals that it reacts to.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The phase of the process, or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New connections are accepted.
    Running,
    /// No new connections are accepted; sessions go on.
    Draining,
    /// The drain is over; sessions end with a reply.
    Ending,
}

/// The handle that sets the phase. Dropping it ends all phases.
pub struct Trigger(watch::Sender<Phase>);

/// The handle that observes the phase.
#[derive(Clone)]
pub struct Lifecycle(watch::Receiver<Phase>);

/// Begins a lifecycle in the phase of running.
pub fn begin() -> (Trigger, Lifecycle) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger(sender), Lifecycle(receiver))
}

impl Trigger {
    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Waits until no [`Lifecycle`] is left, at most for this time. Returns whether none is.
    pub async fn all_gone(&self, at_most: Duration) -> bool {
        tokio::select! {
            () = self.0.closed() => true,
            () = sleep(at_most) => false,
        }
    }
}

impl Lifecycle {
    /// Waits for this phase or a later one.
    pub async fn reached(&mut self, phase: Phase) {
        // An error says that the trigger was dropped, which ends everything.
        let _ = self.0.wait_for(|current| *current >= phase).await;
    }
}

/// Returns whether an event loop runs a task within this time. A stuck one does not.
pub async fn answers(event_loop: &Handle, patience: Duration) -> bool {
    timeout(patience, event_loop.spawn(async {})).await.is_ok_and(|ran| ran.is_ok())
}

/// The time of the wall clock, in seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Stop the process; with the name of the signal.
    End(&'static str),
    /// Reload the configuration.
    Reload,
}

/// Signals that would end the process without a drain, and that people and programs send by habit. From here on the
/// process handles them. Call it first of all, inside a runtime.
pub struct EarlySignals {
    hangup: Signal,
    ignored: Ignored,
}

/// Signals with a request.
pub struct Signals {
    ends: Vec<(&'static str, Signal)>,
    hangup: Signal,
}

/// Signals without a request, which are ignored.
pub struct Ignored(Vec<(&'static str, Signal)>);

impl EarlySignals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        use rustix::process::Signal as Number;
        // By default a file beyond LimitFSIZE ends the process. With a handler, which stays, the write fails instead.
        drop(signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?);
        let ignored = listen_to(&[
            ("SIGUSR1", Number::USR1),
            ("SIGUSR2", Number::USR2),
            ("SIGALRM", Number::ALARM),
            ("SIGVTALRM", Number::VTALARM),
            ("SIGPROF", Number::PROF),
            ("SIGIO", Number::IO),
        ])?;
        Ok(Self { hangup: signal(SignalKind::hangup())?, ignored: Ignored(ignored) })
    }

    /// Handles signals that stop the process, too, once the stop takes time.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn and_ends(self) -> io::Result<(Signals, Ignored)> {
        use rustix::process::Signal as Number;
        let ends = listen_to(&[
            ("SIGTERM", Number::TERM),
            ("SIGINT", Number::INT),
            ("SIGQUIT", Number::QUIT),
            // The power button of a container or a virtual machine.
            ("SIGPWR", Number::POWER),
        ])?;
        Ok((Signals { ends, hangup: self.hangup }, self.ignored))
    }
}

impl Signals {
    /// Waits for the next request.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            name = any(&mut self.ends) => Request::End(name),
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}

impl Ignored {
    /// Waits for the next ignored signal. Returns its name.
    pub async fn next(&mut self) -> &'static str {
        any(&mut self.0).await
    }
}

fn listen_to(signals: &[(&'static str, rustix::process::Signal)]) -> io::Result<Vec<(&'static str, Signal)>> {
    signals.iter().map(|(name, number)| Ok((*name, signal(SignalKind::from_raw(number.as_raw()))?))).collect()
}

async fn any(signals: &mut [(&'static str, Signal)]) -> &'static str {
    poll_fn(|context| {
        let came = signals.iter_mut().find_map(|(name, signal)| signal.poll_recv(context).is_ready().then_some(*name));
        came.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::runtime::Builder;

    #[tokio::test]
    async fn an_event_loop_that_is_stuck_does_not_answer() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let handle = runtime.handle().clone();
        let (release, released) = mpsc::channel::<()>();
        let control = std::thread::spawn(move || {
            let _ = released.recv();
            runtime.block_on(std::future::pending::<()>());
        });
        assert!(!answers(&handle, Duration::from_millis(20)).await);
        drop(release);
        assert!(answers(&handle, Duration::from_secs(60)).await);
        drop(control);
    }
}
