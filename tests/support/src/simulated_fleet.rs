//! A simulated fleet: many instances with a hundred devices each, over packetboat's own code of leases, borrowed sessions
//! and registrations, a simulated database and a simulated token endpoint, on a paused clock. `benches/fleet` prints what
//! a day of ten thousand instances would load; `tests/fleet/simulation.rs` holds the laws at a few.
//!
//! Real: `LeasedSignIn`, `Slots` and `Fleet`. Modelled: when an instance renews (`src/token/cache.rs` and
//! `src/token/keeping/fleet.rs` have a configuration and HTTP beneath them), the devices, and the records
//! ([`simulated_records`](crate::simulated_records)). `tests/fleet/simulation.rs` compares the model with three real
//! instances over PostgreSQL.

mod endpoint;
mod instance;
mod renewal;
mod report;
mod scenario;
mod site;
mod tally;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use packetboat::crypto::Vault;
use packetboat::fleet::lease::LeasedSignIn;
use packetboat::fleet::{MailboxKey, SessionKind, SignInKey};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use crate::fuzz::random::Random;
use crate::simulated_records::{Lists, SimulatedRecords, Way};
use endpoint::Endpoint;
use instance::Disk;
use renewal::Seed;
pub use report::Report;
use site::Site;
use tally::Tally;

/// A fleet, its devices, and what befalls it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Instances. Three make a site; a device comes to one of its site.
    pub instances: usize,
    /// Devices of each instance: a multiple of ten, unless the mix is [`Mix::Sites`].
    pub devices: usize,
    pub mix: Mix,
    /// The interval at which a device polls, within a tenth.
    pub poll: Duration,
    pub scenario: Scenario,
    /// The time that is measured.
    pub time: Duration,
    /// The life of an access token.
    pub life: Duration,
    /// The time until the token endpoint answers.
    pub delay: Duration,
    /// Each instance of a site has a database of its own, which breaks the laws.
    pub is_split: bool,
}

crate::each! {
    /// The persons who have signed in, and the mailboxes that the devices poll.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mix {
        /// One person has signed in for the whole fleet, and may open a mailbox for each ten devices.
        OnePerson,
        /// A person and one mailbox for each site: three hundred devices have it in common.
        Sites,
        /// A person and a mailbox for each ten devices.
        TenDevices,
    }
}

crate::each! {
    /// The events of the measured time.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Scenario {
        Steady,
        /// Instances are killed while they wait for the token endpoint: one of a hundred, and at least one. Each starts
        /// again after five minutes.
        Deaths,
        /// One of a hundred instances, and at least one, is cut off from the database for ten minutes.
        Cut,
        /// The database crashes, and is back after three minutes without the tables that are not logged.
        Restart,
        /// The token endpoint answers after 25 s.
        SlowEndpoint,
        /// The token endpoint refuses everybody for ten minutes.
        RefusingEndpoint,
        /// All instances are restarted; those of a site one after the other.
        Rolling,
        /// All instances are killed at the same moment, and start together a while later.
        PowerCut,
    }
}

/// The fleet and its surroundings.
struct World {
    case: Case,
    database: Arc<SimulatedRecords>,
    /// The databases that instances have to themselves, where nothing is in common.
    others: Vec<Arc<SimulatedRecords>>,
    endpoint: Endpoint,
    tally: Tally,
    vault: Arc<Vault>,
    random: Mutex<Random>,
    /// The state directories of the instances.
    disks: Vec<Disk>,
}

impl Case {
    /// The usual case: a hundred devices an instance that poll each five minutes, and tokens that live for an hour.
    pub fn new(instances: usize, mix: Mix, scenario: Scenario) -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let (poll, time, life, delay) = (minutes(5), minutes(60), minutes(60), Duration::from_millis(300));
        Self { instances, devices: 100, mix, poll, scenario, time, life, delay, is_split: false }
    }

    /// Plays the case.
    pub fn run(self) -> Report {
        let begun = std::time::Instant::now();
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let mut report = runtime.block_on(play(self));
        report.wall = begun.elapsed();
        report
    }

    /// The instances of a site, by their numbers.
    fn members(&self, site: usize) -> std::ops::Range<usize> {
        site * SITE..((site + 1) * SITE).min(self.instances)
    }

    fn sites(&self) -> usize {
        self.instances.div_ceil(SITE)
    }

    /// The mailboxes of a site, by their numbers.
    fn mailboxes(&self, site: usize) -> std::ops::Range<usize> {
        match self.mix {
            Mix::Sites => site..site + 1,
            Mix::OnePerson | Mix::TenDevices => {
                let members = self.members(site);
                members.start * self.devices / SHARING..members.end * self.devices / SHARING
            }
        }
    }

    /// The persons whose sign-ins the instances of a site have, by their numbers.
    fn persons(&self, site: usize) -> std::ops::Range<usize> {
        match self.mix {
            Mix::OnePerson => 0..1,
            Mix::Sites | Mix::TenDevices => self.mailboxes(site),
        }
    }

    fn all_persons(&self) -> usize {
        self.persons(self.sites() - 1).end
    }

    fn all_mailboxes(&self) -> usize {
        self.mailboxes(self.sites() - 1).end
    }
}

impl World {
    fn new(case: Case) -> Arc<Self> {
        let others = if case.is_split { SITE - 1 } else { 0 };
        let database = || SimulatedRecords::with(0, Lists::Empty);
        Arc::new(Self {
            case,
            database: database(),
            others: (0..others).map(|_| database()).collect(),
            endpoint: Endpoint::new(case.all_persons(), case.life, case.delay),
            tally: Tally::new(case.all_mailboxes()),
            vault: Arc::new(Vault::new(&[7; 32]).unwrap()),
            random: Mutex::new(Random(case.instances as u64)),
            disks: (0..case.instances).map(|_| Disk::default()).collect(),
        })
    }

    /// A random number between the two.
    fn between(&self, least: f64, most: f64) -> f64 {
        let part = self.random.lock().unwrap().next_u64() as f64 / u64::MAX as f64;
        least + (most - least) * part
    }

    /// A random time below this one.
    fn within(&self, time: Duration) -> Duration {
        time.mul_f64(self.between(0.0, 1.0))
    }

    /// The way of an instance to its database.
    fn way_of(&self, instance: usize) -> Arc<Way> {
        let own = (instance % SITE).checked_sub(1).and_then(|number| self.others.get(number));
        own.unwrap_or(&self.database).of_instance()
    }

    /// Has everybody signed in at some time of the last half life.
    async fn sign_in(&self, database: &Arc<SimulatedRecords>) {
        let way = database.of_instance();
        for person in 0..self.case.all_persons() {
            let sign_in = LeasedSignIn::new(Arc::clone(&way) as _, "seed", key(person), Arc::clone(&self.vault), None);
            sign_in.put(&endpoint::record(0), 1).await.unwrap();
            let age = self.case.life.mul_f64(self.between(0.0, 0.45));
            sign_in.renew(&Seed::new(self, person, age)).await.unwrap_or_else(|_| panic!("nobody else renews"));
        }
    }
}

async fn play(case: Case) -> Report {
    let world = World::new(case);
    // Tokens were fetched before now.
    sleep(case.life).await;
    for database in std::iter::once(&world.database).chain(&world.others) {
        world.sign_in(database).await;
    }
    let sites: Vec<Arc<Site>> = (0..case.sites()).map(|site| Site::start(&world, site)).collect();
    sleep(WARM_UP + case.poll).await;
    world.database.forget_load();
    world.endpoint.forget_counts();
    world.tally.forget_counts();
    let begun = Instant::now();
    let blocked = scenario::play(&world, &sites).await;
    Report::of(&world, begun.elapsed(), blocked)
}

/// The key of a person's sign-in.
fn key(person: usize) -> SignInKey {
    let [identity, issuer] = ["office", "0123456789ab"].map(str::to_owned);
    SignInKey { identity, person: format!("p{person}@contoso.example"), issuer }
}

/// The key of a mailbox.
fn mailbox_key(mailbox: usize) -> MailboxKey {
    let mailbox = format!("m{mailbox}@contoso.example");
    MailboxKey { upstream: "exchange".to_owned(), mailbox, kind: SessionKind::Reading }
}

/// Devices that have a mailbox in common, but for [`Mix::Sites`].
const SHARING: usize = 10;
/// Instances of a site.
const SITE: usize = 3;
/// The most sessions of a mailbox, as in the configuration.
const MOST: usize = 8;
/// The time in which all instances start, and some more. Behind it each device has come for the first time.
const WARM_UP: Duration = Duration::from_secs(3 * 60);
