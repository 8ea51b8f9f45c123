//! A site: some instances, and the devices that come to one of them by a hash of their address.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packetboat::fleet::BorrowedSession;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::instance::Instance;
use super::tally::InUse;
use super::{Mix, SHARING, World};

/// A site with its instances, those that are down left out.
pub(super) struct Site {
    pub(super) number: usize,
    members: Mutex<Vec<Option<Arc<Instance>>>>,
}

impl Site {
    /// Starts a site: its instances within a minute, and then its devices.
    pub(super) fn start(world: &Arc<World>, number: usize) -> Arc<Self> {
        let count = world.case.members(number).len();
        let site = Arc::new(Self { number, members: Mutex::new(vec![None; count]) });
        for member in 0..count {
            let (world, site) = (Arc::clone(world), Arc::clone(&site));
            tokio::spawn(async move {
                sleep(world.within(STARTS)).await;
                site.begin(&world, member).await;
            });
        }
        tokio::spawn(poll(Arc::clone(world), Arc::clone(&site)));
        site
    }

    /// Starts a member, and lets devices come to it once it is ready.
    pub(super) async fn begin(&self, world: &Arc<World>, member: usize) {
        let number = world.case.members(self.number).start + member;
        let instance = Instance::start(world, self.number, number);
        instance.until_ready().await;
        self.members.lock().unwrap()[member] = Some(instance);
    }

    pub(super) fn member(&self, member: usize) -> Option<Arc<Instance>> {
        self.members.lock().unwrap()[member].clone()
    }

    /// The members that serve.
    pub(super) fn serving(&self) -> usize {
        self.members.lock().unwrap().iter().flatten().count()
    }

    /// Takes a member out: no device comes to it any more.
    pub(super) fn take_out(&self, member: usize) -> Option<Arc<Instance>> {
        self.members.lock().unwrap()[member].take()
    }

    /// The instance of a device: its own, or the next one that serves.
    fn instance_of(&self, device: usize) -> Option<Arc<Instance>> {
        let members = self.members.lock().unwrap();
        // Neighbours have a mailbox in common, and come to different instances.
        let home = device % members.len();
        let all = members.iter().cycle().skip(home).take(members.len());
        all.flatten().next().map(Arc::clone)
    }
}

/// Lets the devices of a site poll.
async fn poll(world: Arc<World>, site: Arc<Site>) {
    sleep(STARTS * 2).await;
    let interval = world.case.poll;
    let devices = world.case.members(site.number).len() * world.case.devices;
    let mut polls: BinaryHeap<_> =
        (0..devices).map(|device| Reverse((Instant::now() + world.within(interval), device))).collect();
    while let Some(Reverse((at, device))) = polls.pop() {
        sleep_until(at).await;
        polls.push(Reverse((at + interval.mul_f64(world.between(0.9, 1.1)), device)));
        world.tally.count(|counts| counts.logins += 1);
        match site.instance_of(device) {
            Some(instance) => {
                let session = serve(Arc::clone(&world), site.number, device, Arc::clone(&instance));
                instance.spawn(session);
            }
            None => world.tally.count(|counts| counts.without_instance += 1),
        }
    }
}

/// Serves a device: a token, a session of the mailbox, and the time that the device stays.
async fn serve(world: Arc<World>, site: usize, device: usize, instance: Arc<Instance>) {
    let group = device / SHARING;
    let (person, mailbox) = match world.case.mix {
        Mix::OnePerson => (0, group),
        Mix::Sites => (0, 0),
        Mix::TenDevices => (group, group),
    };
    if !instance.sign_ins[person].has_token() {
        world.tally.count(|counts| counts.without_token += 1);
        return;
    }
    let begun = Instant::now();
    let Some(session) = acquire(&instance, mailbox).await else {
        world.tally.count(|counts| counts.without_session += 1);
        return;
    };
    let waited = begun.elapsed();
    world.tally.count(|counts| counts.longest_wait = counts.longest_wait.max(waited));
    let in_use = InUse::begin(&world, world.case.mailboxes(site).start + mailbox);
    sleep(world.within(LONGEST_STAY - SHORTEST_STAY) + SHORTEST_STAY).await;
    drop(in_use);
    drop(session);
}

async fn acquire(instance: &Instance, mailbox: usize) -> Option<BorrowedSession> {
    timeout(QUEUE, instance.mailboxes[mailbox].acquire()).await.ok()?.ok()
}

/// The time in which the instances start.
const STARTS: Duration = Duration::from_secs(60);
/// The time that a device stays which looks for new mail.
const SHORTEST_STAY: Duration = Duration::from_millis(500);
const LONGEST_STAY: Duration = Duration::from_millis(1500);
/// `limits.mailbox_queue`: the wait of a device for a session.
const QUEUE: Duration = Duration::from_secs(10);
