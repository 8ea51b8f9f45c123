//! The counts of devices: logins, refusals, and the sessions of each mailbox that are in use at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::World;

/// The counts of all devices.
pub(super) struct Tally(Mutex<State>);

struct State {
    /// The sessions of each mailbox that are in use.
    in_use: Vec<usize>,
    counts: Counts,
}

/// The counts so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) logins: u64,
    /// Logins that found no access token.
    pub(super) without_token: u64,
    /// Logins that got no session of the mailbox in time.
    pub(super) without_session: u64,
    /// Logins that found no instance.
    pub(super) without_instance: u64,
    /// The longest wait for a session.
    pub(super) longest_wait: Duration,
    /// The most sessions of one mailbox at once.
    pub(super) most: usize,
}

/// A session in use.
pub(super) struct InUse(Arc<World>, usize);

impl Tally {
    pub(super) fn new(mailboxes: usize) -> Self {
        Self(Mutex::new(State { in_use: vec![0; mailboxes], counts: Counts::default() }))
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap().counts);
    }

    pub(super) fn counts(&self) -> Counts {
        self.0.lock().unwrap().counts
    }

    pub(super) fn forget_counts(&self) {
        self.0.lock().unwrap().counts = Counts::default();
    }
}

impl InUse {
    pub(super) fn begin(world: &Arc<World>, mailbox: usize) -> Self {
        let mut state = world.tally.0.lock().unwrap();
        state.in_use[mailbox] += 1;
        state.counts.most = state.counts.most.max(state.in_use[mailbox]);
        drop(state);
        Self(Arc::clone(world), mailbox)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // Another panic has poisoned it.
        if let Ok(mut state) = self.0.tally.0.lock() {
            state.in_use[self.1] -= 1;
        }
    }
}
