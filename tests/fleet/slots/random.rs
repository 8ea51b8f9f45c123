//! Instances that borrow, return, crash, freeze and lose their way to the database at random, for hours.
//!
//! The rule: never more than eight sessions are in use at a time. Those of an instance do not count from its return on
//! if it was frozen for longer than the time that its sessions were borrowed for: 39 seconds, because they are renewed
//! each 20 of 60, and given up one before.

use support::fuzz::random::Random;
use tokio::time::Instant;

use super::*;

/// The sessions that are in use, but for those that the rule excuses.
#[derive(Default)]
struct InUse {
    now: usize,
    most: usize,
    served: usize,
    refused: usize,
}

struct World {
    database: Arc<SimulatedRecords>,
    in_use: Arc<Mutex<InUse>>,
}

/// A running instance with its devices.
struct Running {
    instance: Arc<Instance>,
    era: Arc<Mutex<Era>>,
    devices: Vec<AbortHandle>,
}

/// The sessions of an instance since the rule has last excused some.
#[derive(Default)]
struct Era {
    number: usize,
    open: usize,
}

/// A session in use, counted until it ends or is excused.
struct Counted {
    _session: BorrowedSession,
    in_use: Arc<Mutex<InUse>>,
    era: Arc<Mutex<Era>>,
    begun_in: usize,
}

impl Counted {
    fn begin(session: BorrowedSession, in_use: &Arc<Mutex<InUse>>, era: &Arc<Mutex<Era>>) -> Self {
        let (mut all, mut own) = (in_use.lock().unwrap(), era.lock().unwrap());
        own.open += 1;
        all.now += 1;
        all.served += 1;
        all.most = all.most.max(all.now);
        Self { _session: session, in_use: Arc::clone(in_use), era: Arc::clone(era), begun_in: own.number }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Another panic has poisoned it.
        let (Ok(mut all), Ok(mut own)) = (self.in_use.lock(), self.era.lock()) else { return };
        if own.number == self.begun_in {
            own.open -= 1;
            all.now -= 1;
        }
    }
}

impl World {
    fn start(&self, name: &str, seed: u64) -> Running {
        let instance = Arc::new(Instance::start(&self.database, name));
        let era = Arc::<Mutex<Era>>::default();
        let devices = (0..4).map(|device| {
            let (instance, era, in_use) = (Arc::clone(&instance), Arc::clone(&era), Arc::clone(&self.in_use));
            let mut random = Random(seed * 100 + device);
            let ice = Arc::clone(&instance.ice);
            let device = async move {
                loop {
                    sleep(Duration::from_millis(random.below(8000) as u64)).await;
                    let Some(session) = instance.login().await else {
                        in_use.lock().unwrap().refused += 1;
                        continue;
                    };
                    let _counted = Counted::begin(session, &in_use, &era);
                    // Most devices fetch and leave; some stay.
                    let stays = if random.below(40) == 0 { 90_000 } else { 3000 };
                    sleep(Duration::from_millis(random.below(stays) as u64)).await;
                }
            };
            tokio::spawn(async move { ice.melts(device).await }).abort_handle()
        });
        let devices = devices.collect();
        Running { instance, era, devices }
    }
}

impl Running {
    /// Takes the sessions that are open out of the count, now and when they end.
    fn excuse(&self, in_use: &Mutex<InUse>) {
        let (mut all, mut own) = (in_use.lock().unwrap(), self.era.lock().unwrap());
        all.now -= own.open;
        *own = Era { number: own.number + 1, open: 0 };
    }

    fn kill(&self) {
        self.instance.kill();
        self.devices.iter().for_each(AbortHandle::abort);
    }

    async fn freeze(&self, time: Duration, in_use: &Mutex<InUse>) {
        self.instance.ice.freeze(true);
        let begun = Instant::now();
        sleep(time.min(EXCUSED)).await;
        if time > EXCUSED {
            // From here on other instances may borrow what this one has.
            self.excuse(in_use);
            sleep(time - EXCUSED).await;
        }
        assert_eq!(begun.elapsed(), time);
        self.instance.ice.freeze(false);
        // Two in a row are one of their length, unless there is time for a renewal in between.
        sleep(Duration::from_millis(1500)).await;
    }
}

async fn hours(seed: u64) {
    let mut random = Random(seed);
    let world = World { database: SimulatedRecords::new(5), in_use: Arc::default() };
    let mut running: Vec<Running> = (0..5).map(|number| world.start(&format!("{seed}-{number}"), number)).collect();
    for round in 0..200_u64 {
        sleep(Duration::from_millis(random.below(30_000) as u64)).await;
        let index = random.below(5);
        match random.below(4) {
            0 => {
                running[index].kill();
                running[index] = world.start(&format!("{seed}-{index}-{round}"), round + 10);
            }
            1 => {
                running[index].devices.iter().for_each(AbortHandle::abort);
                sleep(Duration::from_millis(1)).await;
                running[index].instance.stop();
                running[index] = world.start(&format!("{seed}-{index}-{round}"), round + 10);
            }
            2 => {
                let time = Duration::from_millis(random.below(90_000) as u64);
                running[index].freeze(time, &world.in_use).await;
            }
            _ => {
                let [there, back] = [0, 1].map(|_| Duration::from_millis(random.below(50) as u64));
                running[index].instance.way.delay(there, back);
            }
        }
        let most = world.in_use.lock().unwrap().most;
        assert!(most <= MOST, "seed {seed}, round {round}: {most} sessions");
    }
    let (served, refused) = {
        let in_use = world.in_use.lock().unwrap();
        (in_use.served, in_use.refused)
    };
    assert!(served > 2000 && refused < served / 10, "{refused} refused, {served} served");
    running.iter().for_each(Running::kill);
}

#[tokio::test(start_paused = true)]
async fn never_more_than_eight_are_in_use() {
    for seed in 0..6 {
        hours(seed).await;
    }
}

const EXCUSED: Duration = Duration::from_secs(38);
