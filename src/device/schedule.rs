//! The schedule of Argon2 runs: known devices first, then strangers; within each class, one source after the other.
//!
//! As many runs are under way as the pool has threads, so that a known device waits for no more than those. A source
//! that has many runs to do has one, and then every other source has one. Tries that have begun hold a place until
//! their verdict; known devices have places of their own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::pool::PASSWORD_RUNS;
use crate::source::Source;

/// The class of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A device at a source that it has logged in from before.
    Known,
    /// Every other device or person.
    Stranger,
}

/// The runs that wait, and the reservations of tries.
pub(super) struct Schedule {
    queues: Mutex<Queues>,
    of_known: Arc<Semaphore>,
    of_strangers: Arc<Semaphore>,
}

/// The reservation of a try from its beginning to its result.
pub(super) struct Reservation {
    schedule: Arc<Schedule>,
    class: Class,
    source: Source,
    _permit: OwnedSemaphorePermit,
}

/// A run that may begin. Dropping it lets the next one begin.
pub(super) struct Run(Arc<Schedule>);

#[derive(Default)]
struct Queues {
    /// Runs that are under way.
    running: usize,
    known: Rounds,
    strangers: Rounds,
}

/// The runs of one class that wait. The sources take turns.
#[derive(Default)]
struct Rounds {
    by_source: HashMap<Source, VecDeque<oneshot::Sender<Run>>>,
    turns: VecDeque<Source>,
}

impl Schedule {
    pub(super) fn new() -> Arc<Self> {
        let places = || Arc::new(Semaphore::new(PLACES));
        Arc::new(Self { queues: Mutex::default(), of_known: places(), of_strangers: places() })
    }

    /// Waits for a reservation; none where all those of its class are taken for too long. A device that were refused at
    /// once would come again at once.
    pub(super) async fn reserve(self: &Arc<Self>, class: Class, source: Source) -> Option<Reservation> {
        let places = match class {
            Class::Known => &self.of_known,
            Class::Stranger => &self.of_strangers,
        };
        let permit = timeout(PATIENCE, Arc::clone(places).acquire_owned()).await.ok()?.ok()?;
        Some(Reservation { schedule: Arc::clone(self), class, source, _permit: permit })
    }

    /// Returns whether one more known device would get a reservation.
    pub(super) fn has_room(&self) -> bool {
        self.of_known.available_permits() > 0
    }

    /// Returns whether no try has a reservation.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let are_free = [&self.of_known, &self.of_strangers].iter().all(|places| places.available_permits() == PLACES);
        are_free && self.queues().running == 0
    }

    /// Begins as many runs as there is room for.
    fn advance(self: &Arc<Self>) {
        loop {
            let mut queues = self.queues();
            if queues.running >= PASSWORD_RUNS {
                return;
            }
            let Some(next) = queues.known.next().or_else(|| queues.strangers.next()) else { return };
            queues.running += 1;
            drop(queues);
            // One that nobody waits for any more is dropped, and so over.
            drop(next.send(Run(Arc::clone(self))));
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock()
    }
}

impl Reservation {
    /// Waits until one run may begin.
    pub(super) async fn run(&self) -> Option<Run> {
        let (begins, run) = oneshot::channel();
        self.schedule.queues().of(self.class).add(self.source, begins);
        self.schedule.advance();
        // The sender is kept until it is used.
        run.await.ok()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut queues = self.0.queues();
        queues.running = queues.running.saturating_sub(1);
        drop(queues);
        self.0.advance();
    }
}

impl Queues {
    fn of(&mut self, class: Class) -> &mut Rounds {
        match class {
            Class::Known => &mut self.known,
            Class::Stranger => &mut self.strangers,
        }
    }
}

impl Rounds {
    fn add(&mut self, source: Source, begins: oneshot::Sender<Run>) {
        let runs = self.by_source.entry(source).or_default();
        if runs.is_empty() {
            self.turns.push_back(source);
        }
        runs.push_back(begins);
    }

    fn next(&mut self) -> Option<oneshot::Sender<Run>> {
        let source = self.turns.pop_front()?;
        let runs = self.by_source.get_mut(&source)?;
        let next = runs.pop_front();
        if runs.is_empty() {
            self.by_source.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        next
    }
}

/// Tries of each class that have begun, and have no verdict yet. One source of strangers has two of them at the most:
/// that is what its delays let begin.
const PLACES: usize = 256;
/// The longest wait of a try for a place.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn source(last: u8) -> Source {
        IpAddr::from(Ipv4Addr::new(192, 0, 2, last)).into()
    }

    /// Runs that wait, in the order in which they were asked for: their class and source; in which order they begin.
    async fn order(asked: &[(Class, u8)]) -> Vec<(Class, u8)> {
        let schedule = Schedule::new();
        let first = schedule.reserve(Class::Stranger, source(1)).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..PASSWORD_RUNS {
            held.push(first.run().await.unwrap());
        }
        let (sender, mut began) = tokio::sync::mpsc::unbounded_channel();
        for (class, last) in asked.iter().copied() {
            let (place, sender) = (schedule.reserve(class, source(last)).await.unwrap(), sender.clone());
            tokio::spawn(async move {
                let run = place.run().await.unwrap();
                sender.send((class, last)).unwrap();
                drop(run);
            });
            tokio::task::yield_now().await;
        }
        drop(sender);
        // One run at a time from here on.
        held.pop();
        let mut order = Vec::new();
        while let Some(one) = began.recv().await {
            order.push(one);
        }
        drop((held, first));
        assert!(schedule.is_idle());
        order
    }

    #[tokio::test]
    async fn known_devices_come_before_strangers() {
        use Class::{Known, Stranger};
        let asked = [(Stranger, 1), (Stranger, 2), (Known, 3), (Stranger, 4), (Known, 3)];
        let expected = [(Known, 3), (Known, 3), (Stranger, 1), (Stranger, 2), (Stranger, 4)];
        assert_eq!(order(&asked).await, expected);
    }

    #[tokio::test]
    async fn one_source_does_not_go_before_another_with_all_that_it_has() {
        let asked = [1, 1, 1, 2, 3, 2].map(|last| (Class::Stranger, last));
        assert_eq!(order(&asked).await, [1, 2, 3, 1, 2, 1].map(|last| (Class::Stranger, last)));
    }

    /// Strangers take no place of a known device, and wait for one of their own for a time.
    #[tokio::test(start_paused = true)]
    async fn known_devices_have_places_of_their_own() {
        let schedule = Schedule::new();
        let all = async |class| {
            let mut places = Vec::new();
            for _ in 0..PLACES {
                places.push(schedule.reserve(class, source(1)).await.unwrap());
            }
            places
        };
        let mut strangers = all(Class::Stranger).await;
        let began = tokio::time::Instant::now();
        assert!(schedule.reserve(Class::Stranger, source(2)).await.is_none());
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(schedule.has_room() && schedule.reserve(Class::Known, source(2)).await.is_some());
        let known = all(Class::Known).await;
        assert!(!schedule.has_room());
        let (waited, _) = tokio::join!(schedule.reserve(Class::Stranger, source(2)), async { drop(strangers.pop()) });
        assert!(waited.is_some());
        drop((strangers, known, waited));
        assert!(schedule.is_idle());
    }
}
