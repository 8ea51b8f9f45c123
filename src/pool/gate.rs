//! One job at a time for one directory or host name: a job that hangs is not joined by the next one, and takes one
//! thread only.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{NotDone, Pool};

/// A gate that lets one job through at a time. Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

/// The gates that have names, for as long as somebody uses them.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);

impl Gate {
    /// A new gate.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Returns the gate of a directory or a host name, which all callers share.
    pub fn of(name: &str) -> Self {
        let mut gates = NAMED.lock();
        if let Some(gate) = gates.get(name).and_then(Weak::upgrade) {
            return Self(gate);
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Self::new();
        gates.insert(name.to_owned(), Arc::downgrade(&gate.0));
        gate
    }

    async fn pass(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Pool {
    /// Runs a job alone behind a gate. `patience` bounds the wait for the gate and the job together. A job that hangs
    /// keeps its gate closed until it ends, whoever waits for it; where nobody does any more, until its result is
    /// dropped, too.
    ///
    /// # Errors
    /// See [`NotDone`].
    pub async fn run_alone<T: Send + 'static>(
        &'static self,
        gate: &Gate,
        patience: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let alone = async {
            let passed = gate.pass().await;
            // Dropped in this order.
            self.run(move || (job(), passed)).await.map(|(done, _)| done)
        };
        timeout(patience, alone).await.unwrap_or(Err(NotDone::Late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::FILES;
    use std::sync::mpsc::channel;

    #[tokio::test]
    async fn a_job_that_hangs_takes_one_thread_and_blocks_its_directory_alone() {
        let (hung, healthy) = (Gate::of("/mnt/hung"), Gate::of("/etc/healthy"));
        let (release, released) = channel::<()>();
        let soon = Duration::from_millis(20);
        let late = FILES.run_alone(&hung, soon, move || released.recv().unwrap_or_default()).await;
        assert_eq!(late, Err(NotDone::Late));
        for _ in 0..100 {
            let next = FILES.run_alone(&Gate::of("/mnt/hung"), Duration::from_millis(1), || 7).await;
            assert_eq!(next, Err(NotDone::Late));
        }
        assert_eq!(FILES.run_alone(&healthy, Duration::from_secs(60), || 7).await, Ok(7));
        drop(release);
        assert_eq!(FILES.run_alone(&hung, Duration::from_secs(60), || 7).await, Ok(7));
    }
}
