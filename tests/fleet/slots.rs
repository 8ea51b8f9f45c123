//! The sessions of mailboxes over a simulated database, under a paused clock: many instances, a day in seconds.

mod random;
mod rules;
mod share;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use packetboat::fleet::{BorrowedSession, MailboxKey, MailboxSlots, SessionKind, Slots, Throttled};
use packetboat::lifecycle::{self, Phase, Trigger};
use support::simulated_records::{SimulatedRecords, Way};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// The most sessions of the mailbox.
const MOST: usize = 8;
/// The wait of a device for a session, as in the configuration.
const QUEUE: Duration = Duration::from_secs(10);

/// An instance over the simulated database.
struct Instance {
    way: Arc<Way>,
    slots: Arc<Slots>,
    mailbox: Arc<MailboxSlots>,
    ice: Arc<Ice>,
    trigger: Trigger,
    run: AbortHandle,
}

/// A switch that stops all of an instance's tasks, as SIGSTOP does.
#[derive(Default)]
struct Ice {
    is_frozen: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Instance {
    fn start(database: &Arc<SimulatedRecords>, name: &str) -> Self {
        Self::start_for(database, name, SessionKind::Reading)
    }

    fn start_for(database: &Arc<SimulatedRecords>, name: &str, kind: SessionKind) -> Self {
        let way = database.of_instance();
        let slots = Slots::new(Arc::clone(&way) as _, name);
        let mailbox = slots.mailbox(key(kind));
        mailbox.limit(MOST, 30);
        let (trigger, lifecycle) = lifecycle::begin();
        let ice = Arc::new(Ice::default());
        let run = {
            let (slots, ice) = (Arc::clone(&slots), Arc::clone(&ice));
            tokio::spawn(async move { ice.melts(slots.run(lifecycle)).await }).abort_handle()
        };
        Self { way, slots, mailbox, ice, trigger, run }
    }

    /// A device's login, with the patience of the configuration.
    async fn login(&self) -> Option<BorrowedSession> {
        timeout(QUEUE, self.mailbox.acquire()).await.ok().map(Result::unwrap)
    }

    /// Ends as SIGKILL does: nothing is given back.
    fn kill(&self) {
        self.run.abort();
    }

    /// Ends in good order.
    fn stop(&self) {
        self.trigger.enter(Phase::Draining);
    }
}

impl Ice {
    fn freeze(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// Runs a future, and stops while it is frozen.
    async fn melts<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if self.is_frozen.load(Ordering::SeqCst) {
                self.wakers.lock().unwrap().push(context.waker().clone());
                return Poll::Pending;
            }
            future.as_mut().poll(context)
        })
        .await
    }
}

fn key(kind: SessionKind) -> MailboxKey {
    MailboxKey { upstream: "exchange".to_owned(), mailbox: "scans@contoso.example".to_owned(), kind }
}
