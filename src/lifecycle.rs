//! Running, draining, ended: what SIGTERM sets in motion; and the other signals.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

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

/// Whether an event loop runs what it is given within this time. One that is stuck does not.
pub async fn answers(event_loop: &Handle, patience: Duration) -> bool {
    timeout(patience, event_loop.spawn(async {})).await.is_ok_and(|ran| ran.is_ok())
}

/// The wall clock, in seconds since 1970.
pub fn unix_time() -> u64 {
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

/// Signals that would end the process without a drain, and that people and programs send by habit. From here on they are
/// ours. Call it first of all, inside of a runtime.
pub struct EarlySignals {
    hangup: Signal,
    ignored: Ignored,
}

/// The signals that ask for something.
pub struct Signals {
    ends: Vec<(&'static str, Signal)>,
    hangup: Signal,
}

/// Signals that ask for nothing.
pub struct Ignored(Vec<(&'static str, Signal)>);

impl EarlySignals {
    /// Takes them.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn listen() -> io::Result<Self> {
        use rustix::process::Signal as Number;
        // A file beyond LimitFSIZE is an error to be told, and by default the end of the process. The handler stays.
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

    /// Takes those, too, that ask for the end, once it is one that takes time; and what tells of those that ask for nothing.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn and_ends(self) -> io::Result<(Signals, Ignored)> {
        use rustix::process::Signal as Number;
        let ends = listen_to(&[
            ("SIGTERM", Number::TERM),
            ("SIGINT", Number::INT),
            ("SIGQUIT", Number::QUIT),
            // A container's or a virtual machine's power button.
            ("SIGPWR", Number::POWER),
        ])?;
        Ok((Signals { ends, hangup: self.hangup }, self.ignored))
    }
}

impl Signals {
    /// Waits for the next one.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            name = any(&mut self.ends) => Request::End(name),
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}

impl Ignored {
    /// Waits for the next one; its name.
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
