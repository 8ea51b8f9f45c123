//! The inventory of a fleet: each instance puts what it has seen into the database, and reads what the others have seen.
//!
//! Nothing of it stands between a device and its mailbox. Where the database is away, an instance shows its own devices,
//! and what it has read before.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::crypto::jitter;
use crate::fleet::{Error, Fleet, SeenByInstance, SeenCursor, SeenRecord, SeenRecords, interval_of};
use crate::inventory::Inventory;
use crate::lifecycle::{Lifecycle, Phase, unix_time};
use crate::pool;

/// The exchange of an inventory with those of the other instances.
pub struct FleetInventory {
    inventory: Arc<Inventory>,
    fleet: Arc<Fleet>,
    records: Arc<dyn SeenRecords>,
    /// The hash of each record that the database has from this process.
    put: tokio::sync::Mutex<HashMap<String, u64>>,
    reading: tokio::sync::Mutex<Reading>,
    state: Mutex<State>,
}

/// The progress of reading the others' records.
#[derive(Default)]
struct Reading {
    cursor: SeenCursor,
    last: Option<Instant>,
    /// The time of the next reading of all records; none where it is due.
    complete: Option<Instant>,
    /// The last time that the instances were listed.
    listed: Option<Instant>,
}

#[derive(Default)]
struct State {
    /// The last time that the records of the others were read, in seconds since 1970.
    read: Option<u64>,
    /// The names of the instances that are registered, as the database had them last.
    instances: Vec<String>,
    /// The reason why records cannot be read or put.
    problem: Option<String>,
}

impl FleetInventory {
    /// The exchange of this inventory. The records have a connection of their own: a long list holds up nobody else.
    pub fn new(inventory: &Arc<Inventory>, fleet: &Arc<Fleet>, records: Arc<dyn SeenRecords>) -> Arc<Self> {
        inventory.set_instance(&fleet.instance().name);
        Arc::new(Self {
            inventory: Arc::clone(inventory),
            fleet: Arc::clone(fleet),
            records,
            put: tokio::sync::Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        })
    }

    /// The last time that the records of the other instances were read, in seconds since 1970; none before the first.
    pub fn read_at(&self) -> Option<u64> {
        self.state.lock().read
    }

    /// The names of the instances that are registered, as the database had them last.
    pub fn instances(&self) -> Vec<String> {
        self.state.lock().instances.clone()
    }

    /// The reason why the records of the other instances cannot be read, or those of this one not be put, if so.
    pub fn problem(&self) -> Option<String> {
        self.state.lock().problem.clone()
    }

    /// Reads what the others have seen since, unless that was read within the last seconds. Returns after a second at
    /// most: the caller then has what was read before.
    pub async fn refresh(&self) {
        if self.fleet.status().outage().is_none() {
            // The next round tells what is wrong.
            drop(timeout(REFRESH, self.read(FRESH, FRESH)).await);
        }
    }

    /// Has a device forgotten by all instances.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn forget(&self, device: &str) -> Result<(), Error> {
        self.records.forget_seen(device).await
    }

    /// Puts and reads until the drain, and puts a last time then.
    pub async fn run(&self, mut lifecycle: Lifecycle) {
        // The first round is now. The next ones of instances that were started together come at different moments.
        let mut tick = interval(ROUND);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_first = true;
        let mut limited: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = lifecycle.reached(Phase::Draining) => break,
            }
            let is_due = limited.is_none_or(|limited| limited.elapsed() >= LIMITING);
            let done = tokio::select! {
                done = self.round(is_due) => done,
                // A database that is slow with each of many statements does not hold the end up.
                () = lifecycle.reached(Phase::Draining) => break,
            };
            if done.is_ok() && is_due {
                limited = Some(Instant::now());
            }
            self.note(done);
            if std::mem::take(&mut is_first) {
                tick.reset_after(ROUND.mul_f64(jitter(0.0, 1.0)));
            }
        }
        // The next start puts what this does not.
        drop(timeout(LAST, self.put()).await);
    }

    async fn round(&self, limits: bool) -> Result<(), Error> {
        self.put().await?;
        // The first instance does that for all.
        if limits && self.instances().first() == Some(&self.fleet.instance().name) {
            let bounds = self.inventory.limits();
            let most = u32::try_from(bounds.devices.saturating_mul(RECORDS_OF_A_DEVICE)).unwrap_or(u32::MAX);
            self.records.limit_seen(bounds.forget_after, most).await?;
        }
        let instances = usize::try_from(self.fleet.slots().numbers().registered).unwrap_or(usize::MAX);
        self.read(Duration::ZERO, interval_of(ROUND, instances)).await
    }

    /// Keeps the reason why the exchange fails, for the page. The log has it once; an outage of the database is logged
    /// elsewhere.
    fn note(&self, done: Result<(), Error>) {
        let problem = done.as_ref().err().map(ToString::to_string);
        let before = std::mem::replace(&mut self.state.lock().problem, problem.clone());
        match (done, problem) {
            (Err(error), Some(problem)) if !error.is_away() && before.as_ref() != Some(&problem) => {
                warn!("the devices of the other instances are not shown: {problem}");
            }
            (Ok(()), _) if before.is_some() => info!("the devices of all instances are shown again"),
            _ => {}
        }
    }

    /// Puts the records that have changed, and removes those that this instance has no room for any more.
    async fn put(&self) -> Result<(), Error> {
        let mut put = self.put.lock().await;
        let inventory = Arc::clone(&self.inventory);
        // A page that is being made goes first.
        let hashed = pool::PAGE.run(move || {
            let records = inventory.seen_records();
            records.into_iter().map(|record| (hash(&record), record)).collect::<Vec<_>>()
        });
        let all = hashed.await.map_err(Error::NotRead)?;
        let done = self.put_changes(&mut put, all).await;
        if done.is_err() {
            // The database may come back from a backup, without what it had.
            put.clear();
        }
        done
    }

    async fn put_changes(&self, put: &mut HashMap<String, u64>, all: Vec<(u64, SeenRecord)>) -> Result<(), Error> {
        let instance = &self.fleet.instance().name;
        let kept: HashSet<&str> = all.iter().map(|(_, record)| record.device.as_str()).collect();
        let gone: Vec<String> = put.keys().filter(|device| !kept.contains(device.as_str())).cloned().collect();
        for batch in gone.chunks(BATCH) {
            self.records.remove_seen(instance, batch).await?;
            for device in batch {
                put.remove(device);
            }
        }
        let (hashes, changed): (Vec<u64>, Vec<SeenRecord>) =
            all.into_iter().filter(|(hash, record)| put.get(&record.device) != Some(hash)).take(MOST).unzip();
        for (batch, hashes) in changed.chunks(BATCH).zip(hashes.chunks(BATCH)) {
            self.records.put_seen(instance, batch).await?;
            put.extend(batch.iter().zip(hashes).map(|(record, hash)| (record.device.clone(), *hash)));
        }
        Ok(())
    }

    /// Lists the instances, unless that was done within this time.
    async fn list(&self, reading: &mut Reading, fresh: Duration) -> Result<(), Error> {
        if reading.listed.is_none_or(|listed| listed.elapsed() >= fresh) {
            let begun = Instant::now();
            let names = self.records.running().await?;
            reading.listed = Some(begun);
            self.inventory.set_running(names.clone());
            self.fleet.note_names(&names);
            self.state.lock().instances = names;
        }
        Ok(())
    }

    /// Reads the records that have changed, unless that was done within this time, and lists the instances, unless that
    /// was done within the other one. Now and then it reads all records: some may have been removed.
    async fn read(&self, fresh: Duration, fresh_list: Duration) -> Result<(), Error> {
        let mut reading = self.reading.lock().await;
        self.list(&mut reading, fresh_list).await?;
        if reading.last.is_some_and(|last| last.elapsed() < fresh) {
            return Ok(());
        }
        let begun = Instant::now();
        let is_complete = reading.complete.is_none_or(|complete| complete <= begun);
        let mut cursor = if is_complete { SeenCursor::default() } else { reading.cursor.earlier(OVERLAP) };
        let (mut records, mut last, mut octets): (Vec<SeenByInstance>, _, _) = (Vec::new(), None, 0_usize);
        let most = self.inventory.limits().devices.saturating_mul(RECORDS_OF_A_DEVICE);
        while let Some((mut rows, end)) = self.records.seen_behind(&cursor, PAGE).await? {
            let is_last = rows.len() < PAGE as usize;
            octets += rows.iter().filter_map(|row| row.json.as_ref()).map(String::len).sum::<usize>();
            records.append(&mut rows);
            cursor = end.clone();
            last = Some(end);
            // Longer records than usual are of somebody who wants to fill the memory.
            if is_last || records.len() > most || octets > most.saturating_mul(USUAL_LENGTH) {
                break;
            }
        }
        let inventory = Arc::clone(&self.inventory);
        pool::PAGE.run(move || inventory.take_records(records, is_complete)).await.map_err(Error::NotRead)?;
        if let Some(last) = last {
            reading.cursor = last;
        }
        reading.last = Some(begun);
        if is_complete {
            reading.complete = Some(begun + COMPLETE.mul_f64(jitter(0.8, 1.0)));
        }
        self.state.lock().read = Some(unix_time());
        Ok(())
    }
}

fn hash(record: &SeenRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.json.hash(&mut hasher);
    hasher.finish()
}

/// The interval at which an instance puts what it has seen, and reads what the others have. It lists the instances as
/// often in a small fleet.
const ROUND: Duration = Duration::from_secs(30);
/// The time for which records that were read are new enough for the page and the commands.
const FRESH: Duration = Duration::from_secs(3);
/// The longest wait of a page for the records of the others.
const REFRESH: Duration = Duration::from_secs(1);
/// The longest time of the last put.
const LAST: Duration = Duration::from_secs(3);
/// The interval at which all records are read.
const COMPLETE: Duration = Duration::from_secs(600);
/// The interval at which records beyond the limits are removed.
const LIMITING: Duration = Duration::from_secs(600);
/// The longest time of a statement that puts records: reading goes back so far, because others were put meanwhile.
const OVERLAP: Duration = Duration::from_secs(10);
/// The records of one statement.
const BATCH: usize = 250;
/// The most records that one round puts.
const MOST: usize = 10_000;
/// The records that one statement reads.
const PAGE: u32 = 500;
/// The records that the database keeps for each device of the inventory, because devices move between instances.
const RECORDS_OF_A_DEVICE: usize = 8;
/// Octets of a record; most have fewer.
const USUAL_LENGTH: usize = 4096;
