//! An instance of the fleet: its registration, its borrowed sessions and its sign-ins, and its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packetboat::crypto::jitter;
use packetboat::fleet::{Fleet, InstanceRecords, MailboxSlots, interval_of};
use packetboat::lifecycle::{self, Phase, Trigger};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

pub(super) use super::renewal::Disk;
use super::renewal::{KeptSignIn, Surroundings};
use super::{MOST, World, mailbox_key};
use crate::simulated_records::Way;

/// A running instance.
pub(super) struct Instance {
    pub(super) way: Arc<Way>,
    fleet: Arc<Fleet>,
    /// In the order of the site's persons.
    pub(super) sign_ins: Vec<Arc<KeptSignIn>>,
    /// In the order of the site's mailboxes.
    pub(super) mailboxes: Vec<Arc<MailboxSlots>>,
    ending: watch::Sender<bool>,
    trigger: Trigger,
    /// Its registration and its borrowing.
    parts: Mutex<JoinSet<()>>,
    /// Renewals, and sessions of devices.
    work: Arc<Mutex<JoinSet<()>>>,
}

impl Instance {
    /// Starts an instance with the state directory that it has.
    pub(super) fn start(world: &Arc<World>, site: usize, number: usize) -> Arc<Self> {
        let way = world.way_of(number);
        way.delay(TO_DATABASE, FROM_DATABASE);
        way.pause_after_failures();
        let fleet = Arc::new(Fleet::new(Arc::clone(&way) as _, &format!("i{number:05}"), None).unwrap());
        let (ending, is_ending) = watch::channel(false);
        let holder = fleet.instance().id.clone();
        let (records, disk) = (Arc::clone(&way) as _, Arc::clone(&world.disks[number]));
        let around = Surroundings { records, holder, disk, ending: is_ending };
        let open = |person| KeptSignIn::open(world, number, person, &around);
        let sign_ins: Vec<_> = world.case.persons(site).map(open).collect();
        let mailboxes = world.case.mailboxes(site).map(|mailbox| {
            let mailbox = fleet.slots().mailbox(mailbox_key(mailbox));
            mailbox.limit(MOST, 30);
            mailbox
        });
        let mailboxes = mailboxes.collect();
        let (trigger, lifecycle) = lifecycle::begin();
        let work = Arc::<Mutex<JoinSet<()>>>::default();
        let mut parts = JoinSet::new();
        let (registered, slots, ends) = (Arc::clone(&fleet), Arc::clone(fleet.slots()), lifecycle.clone());
        parts.spawn(async move { registered.run(ends).await });
        parts.spawn(slots.run(lifecycle));
        parts.spawn(list(Arc::clone(&fleet), Arc::clone(&way)));
        parts.spawn(keep_fresh(sign_ins.clone(), Arc::clone(&work), around.ending.clone(), fleet.returns()));
        let parts = Mutex::new(parts);
        Arc::new(Self { way, fleet, sign_ins, mailboxes, ending, trigger, parts, work })
    }

    /// The id of the instance in the database.
    pub(super) fn id(&self) -> &str {
        &self.fleet.instance().id
    }

    /// Waits until it has a token for each person.
    pub(super) async fn until_ready(&self) {
        while !self.sign_ins.iter().all(|sign_in| sign_in.has_token()) {
            sleep(READY).await;
        }
    }

    /// Runs the session of a device.
    pub(super) fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        spawn(&self.work, session);
    }

    /// Ends as SIGKILL does.
    pub(super) fn kill(&self) {
        self.way.cut(true);
        self.work.lock().unwrap().abort_all();
        self.parts.lock().unwrap().abort_all();
    }

    /// Ends in good order: sessions and renewals come to their end, and then nothing is held any more.
    pub(super) async fn stop(&self) {
        self.ending.send_replace(true);
        let mut work = std::mem::take(&mut *self.work.lock().unwrap());
        while work.join_next().await.is_some() {}
        self.trigger.enter(Phase::Draining);
        let mut parts = std::mem::take(&mut *self.parts.lock().unwrap());
        // Lists are read until the end.
        while parts.len() > ENDLESS && parts.join_next().await.is_some() {}
    }
}

/// Lists the instances as the inventory does (`src/admin/fleet_inventory.rs`).
async fn list(fleet: Arc<Fleet>, way: Arc<Way>) {
    let mut part = jitter(0.0, 1.0);
    loop {
        // The next round tries again.
        let _ = way.instances().await;
        let registered = usize::try_from(fleet.slots().numbers().registered).unwrap();
        sleep(interval_of(ROUND, registered).mul_f64(std::mem::replace(&mut part, 1.0))).await;
    }
}

/// Does what is due for each sign-in, until the end.
async fn keep_fresh(
    sign_ins: Vec<Arc<KeptSignIn>>,
    work: Arc<Mutex<JoinSet<()>>>,
    mut ending: watch::Receiver<bool>,
    mut returns: watch::Receiver<u64>,
) {
    let (sender, mut done) = mpsc::unbounded_channel();
    let mut looks: BinaryHeap<_> = (0..sign_ins.len()).map(|number| Reverse((Instant::now(), number))).collect();
    loop {
        let next = looks.peek().map(|Reverse((at, _))| *at);
        tokio::select! {
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            Some(look) = done.recv() => {
                looks.push(Reverse(look));
                continue;
            }
            Ok(()) = returns.changed() => {
                sign_ins.iter().for_each(|sign_in| sign_in.look_soon());
                looks = looks.drain().map(|Reverse((_, number))| Reverse((Instant::now(), number))).collect();
            }
            () = ended(&mut ending) => return,
        }
        while let Some(number) = pop_due(&mut looks) {
            let (sign_in, sender) = (Arc::clone(&sign_ins[number]), sender.clone());
            spawn(&work, async move {
                // Nobody listens any more where the instance ends.
                let _ = sender.send((sign_in.step().await, number));
            });
        }
    }
}

async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|is_ending| *is_ending).await;
}

/// Takes the first look out that is due.
fn pop_due(looks: &mut BinaryHeap<Reverse<(Instant, usize)>>) -> Option<usize> {
    let Reverse((at, number)) = *looks.peek()?;
    (at <= Instant::now()).then(|| {
        looks.pop();
        number
    })
}

/// Spawns a task, and forgets those that have ended.
fn spawn(tasks: &Mutex<JoinSet<()>>, task: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = tasks.lock().unwrap();
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task);
}

/// `ROUND` of `src/admin/fleet_inventory.rs`.
const ROUND: Duration = Duration::from_secs(30);
/// The parts of an instance that do not end by themselves.
const ENDLESS: usize = 1;
/// A statement takes a millisecond each way.
const TO_DATABASE: Duration = Duration::from_millis(1);
const FROM_DATABASE: Duration = Duration::from_millis(1);
/// The pause between two looks whether an instance is ready.
const READY: Duration = Duration::from_millis(100);
