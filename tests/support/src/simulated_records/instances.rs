//! The registration of instances.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use packetboat::fleet::{
    Answer, DatabaseFacts, Instance, InstanceRecords, KnownInstance, Registered, SCHEMA, SplitBrain,
};
use tokio::time::Instant;

use super::{Lists, Statement, Way, left};

pub(super) struct Registrations {
    /// Instances without a row, which are registered for ever.
    others: usize,
    rows: HashMap<String, Registration>,
    /// The rows by the end of their registration.
    ends: BTreeSet<(Instant, String)>,
}

struct Registration {
    instance: Instance,
    since: Instant,
    until: Instant,
}

impl Registrations {
    pub(super) fn with(others: usize) -> Self {
        Self { others, rows: HashMap::new(), ends: BTreeSet::new() }
    }

    /// Registers an instance, or prolongs its registration. Returns the end from before.
    fn register(&mut self, instance: &Instance, now: Instant, until: Instant) -> Option<Instant> {
        let before = self.rows.get(&instance.id).map(|row| row.until);
        let row = self.rows.entry(instance.id.clone()).or_insert_with(|| Registration {
            instance: instance.clone(),
            since: now,
            until,
        });
        self.ends.remove(&(row.until, instance.id.clone()));
        row.until = until;
        self.ends.insert((until, instance.id.clone()));
        before
    }

    fn unregister(&mut self, id: &str) {
        if let Some(row) = self.rows.remove(id) {
            self.ends.remove(&(row.until, id.to_owned()));
        }
    }

    /// Forgets instances whose registration ended a day ago.
    pub(super) fn forget(&mut self, now: Instant) {
        while let Some((until, id)) = self.ends.first()
            && *until + DAY < now
        {
            self.rows.remove(id);
            self.ends.pop_first();
        }
    }

    pub(super) fn count(&self, now: Instant) -> usize {
        // Few registrations end without an instance, and those are the first.
        let ended = self.ends.iter().take_while(|(until, _)| *until <= now).count();
        self.others + self.ends.len() - ended
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn name(&self, id: &str) -> Option<String> {
        self.rows.get(id).map(|row| row.instance.name.clone())
    }

    fn list(&self, now: Instant) -> Vec<KnownInstance> {
        let known = |row: &Registration| KnownInstance {
            instance: row.instance.clone(),
            age: now - row.since,
            left: left(row.until, now),
        };
        let mut list: Vec<KnownInstance> = self.rows.values().map(known).collect();
        list.sort_by(|one, other| one.instance.name.cmp(&other.instance.name).then(other.age.cmp(&one.age)));
        list
    }
}

impl InstanceRecords for Way {
    fn database(&self) -> Answer<'_, DatabaseFacts> {
        let begun = self.database.begun;
        self.run(Statement::List, move |_, now| DatabaseFacts {
            server_version: "simulated".to_owned(),
            is_standby: false,
            time: (now - begun).as_secs_f64(),
            schema: Some((SCHEMA, SCHEMA)),
            origin: None,
        })
    }

    fn register<'a>(&'a self, instance: &'a Instance, life: Duration) -> Answer<'a, Registered> {
        let begun = self.database.begun;
        let seconds = move |time: Instant| (time - begun).as_secs_f64();
        self.run(Statement::Register, move |tables, now| Registered {
            until: seconds(now + life),
            until_before: tables.registrations.register(instance, now, now + life).map(seconds),
            schema: Some((SCHEMA, SCHEMA)),
            origin: tables.origin(),
        })
    }

    /// The simulated database has one server.
    fn split_brain(&self) -> Answer<'_, Option<SplitBrain>> {
        Box::pin(async { Ok(None) })
    }

    fn unregister<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.run(Statement::Register, move |tables, _| tables.registrations.unregister(id))
    }

    fn instances(&self) -> Answer<'_, Vec<KnownInstance>> {
        let lists = self.database.lists;
        self.run(Statement::List, move |tables, now| {
            tables.load.listed += tables.registrations.rows.len() as u64;
            if lists == Lists::Whole { tables.registrations.list(now) } else { Vec::new() }
        })
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
