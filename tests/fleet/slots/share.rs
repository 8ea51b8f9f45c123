//! The instances among which a mailbox's sessions are divided without the database: those that are registered when it
//! goes away.

use packetboat::fleet::Fleet;
use support::simulated_records::Lists;
use tokio::task::JoinSet;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// The life of a registration.
const LEASE: Duration = Duration::from_secs(30);
/// The longest interval between two counts, and some statements.
const COUNT: Duration = Duration::from_secs(14);

/// An instance with its registration.
struct Registered {
    way: Arc<Way>,
    fleet: Arc<Fleet>,
    mailbox: Arc<MailboxSlots>,
    trigger: Trigger,
    parts: JoinSet<()>,
}

impl Registered {
    fn start(database: &Arc<SimulatedRecords>, name: usize) -> Self {
        let way = database.of_instance();
        way.pause_after_failures();
        let fleet = Arc::new(Fleet::new(Arc::clone(&way) as _, &name.to_string(), None).unwrap());
        let mailbox = fleet.slots().mailbox(key(SessionKind::Reading));
        mailbox.limit(MOST, 30);
        let (trigger, lifecycle) = lifecycle::begin();
        let (mut parts, registered, ends) = (JoinSet::new(), Arc::clone(&fleet), lifecycle.clone());
        parts.spawn(async move { registered.run(ends).await });
        parts.spawn(Arc::clone(fleet.slots()).run(lifecycle));
        Self { way, fleet, mailbox, trigger, parts }
    }

    /// Starts so many instances, and waits until they know each other.
    async fn several(database: &Arc<SimulatedRecords>, count: usize) -> Vec<Self> {
        let several: Vec<_> = (0..count).map(|name| Self::start(database, name)).collect();
        sleep(LEASE + COUNT).await;
        assert!(several.iter().all(|one| one.counted() == count));
        several
    }

    async fn stop(mut self) {
        self.trigger.enter(Phase::Draining);
        while self.parts.join_next().await.is_some() {}
    }

    async fn kill(mut self) {
        self.parts.shutdown().await;
    }

    fn counted(&self) -> usize {
        usize::try_from(self.fleet.slots().numbers().instances).unwrap()
    }

    /// The sessions that this instance begins by itself, once it has lost the database.
    async fn share(&self) -> usize {
        self.way.cut(true);
        sleep(5 * SECOND).await;
        let mut sessions = Vec::new();
        while let Ok(session) = timeout(SECOND, self.mailbox.acquire()).await {
            sessions.push(session.unwrap());
        }
        sessions.len()
    }
}

/// An instance that has ended in good order leaves with the next count, one that was killed when its registration ends,
/// and the share of the others grows.
#[tokio::test(start_paused = true)]
async fn who_has_ended_has_no_share() {
    let database = SimulatedRecords::with(0, Lists::Whole);
    let mut several = Registered::several(&database, 4).await;
    several.pop().unwrap().stop().await;
    sleep(COUNT).await;
    assert!(several.iter().all(|one| one.counted() == 3));
    several.pop().unwrap().kill().await;
    sleep(LEASE - 11 * SECOND).await;
    assert!(several.iter().all(|one| one.counted() == 3), "the registration lives for 20 s at least");
    sleep(11 * SECOND + COUNT).await;
    assert!(several.iter().all(|one| one.counted() == 2));
    // Nobody is told of an end while the database is away: the number stays.
    database.set_away(true);
    several.pop().unwrap().stop().await;
    sleep(600 * SECOND).await;
    assert_eq!((several[0].counted(), several[0].share().await), (2, 4));
}

/// The database is back for some seconds, and goes away again before all instances have registered: each keeps the share
/// that it had. Once the database stays, those that have not come back have none.
#[tokio::test(start_paused = true)]
async fn a_database_that_comes_and_goes_gives_nobody_more() {
    for shown in [1, 2, 4, 8, 16] {
        let database = SimulatedRecords::with(0, Lists::Whole);
        let several = Registered::several(&database, 8).await;
        for _ in 0..5 {
            // All registrations end meanwhile.
            database.set_away(true);
            sleep(60 * SECOND).await;
            database.set_away(false);
            sleep(shown * SECOND).await;
        }
        database.set_away(true);
        sleep(SECOND).await;
        for one in &several {
            assert_eq!((one.counted(), one.share().await), (8, 1), "back for {shown} s");
        }
        database.set_away(false);
        several.iter().for_each(|one| one.way.cut(false));
        let (stays, gone) = several.split_at(5);
        gone.iter().for_each(|one| one.way.cut(true));
        sleep(LEASE + LEASE + COUNT).await;
        assert!(stays.iter().all(|one| one.counted() == 5));
    }
}

/// All instances start at the same moment, and the database goes away soon afterwards: none takes itself for the only one.
#[tokio::test(start_paused = true)]
async fn a_start_together_gives_nobody_all() {
    for shown in 1..=3 {
        let database = SimulatedRecords::with(0, Lists::Whole);
        let several: Vec<_> = (0..3).map(|name| Registered::start(&database, name)).collect();
        sleep(shown * SECOND).await;
        database.set_away(true);
        sleep(SECOND).await;
        for one in &several {
            assert_eq!(one.share().await, 2, "{shown} s behind the start");
        }
    }
}
