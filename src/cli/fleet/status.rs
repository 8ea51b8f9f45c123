//! The state of a fleet, for people and for programs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cli::error::{CommandError, unavailable};
use crate::cli::output::print;
use crate::config::Fleet;
use crate::config::fleet::DatabaseServer;
use crate::fleet::{
    DatabaseFacts, Error, KnownInstance, LIFE, MailboxUse, Origin, Records, SCHEMA, ServerProcess, UnfinishedRenewal,
    check_schema,
};

/// The state of the fleet, as the database has it.
struct Status<'a> {
    fleet: &'a Fleet,
    servers: Servers,
    facts: DatabaseFacts,
    /// The time from a question to the database's answer.
    round_trip: Duration,
    /// The seconds by which the clock of this computer is ahead of the database's, give or take half a round trip.
    clock_ahead: f64,
    instances: Vec<KnownInstance>,
    mailboxes: Vec<MailboxUse>,
    unfinished: Vec<UnfinishedRenewal>,
}

/// The servers of the database, with the process of each that takes changes; none where there is one alone.
type Servers = Vec<(DatabaseServer, Result<ServerProcess, Error>)>;

/// Prints the state of the fleet. The tables decide the exit code.
pub(super) async fn show(
    records: &dyn Records,
    (fleet, servers): (&Fleet, Servers),
    json: bool,
) -> Result<(), CommandError> {
    let (begin, now) = (Instant::now(), wall_clock());
    let facts = records.database().await.map_err(unavailable)?;
    let round_trip = begin.elapsed();
    let clock_ahead = now + round_trip.as_secs_f64() / 2.0 - facts.time;
    let fits = check_schema(facts.schema);
    let (instances, mailboxes, unfinished) = match fits {
        Ok(()) => {
            let instances = records.instances().await.map_err(unavailable)?;
            let mailboxes = records.sessions().await.map_err(unavailable)?;
            (instances, mailboxes, records.unfinished_renewals().await.map_err(unavailable)?)
        }
        Err(_) => Default::default(),
    };
    let status = Status { fleet, servers, facts, round_trip, clock_ahead, instances, mailboxes, unfinished };
    if json {
        print(format_args!("{}\n", status.json()))?
    } else {
        print(status.text())?
    }
    fits.map_err(unavailable)
}

impl Status<'_> {
    fn text(&self) -> String {
        let facts = &self.facts;
        let kind = if facts.is_standby { ", a standby, which takes no changes" } else { "" };
        let tables = facts.schema.map_or("none".to_owned(), |(version, _)| format!("version {version}"));
        let id = facts.origin.as_ref().map(|origin| format!("id          {}\n", origin.id())).unwrap_or_default();
        let mut text = format!(
            "database    {}, PostgreSQL {}{kind}\n{id}round trip  {:.1} ms\nclock       {}\ntables      {tables}\n",
            self.fleet.database,
            facts.server_version,
            self.round_trip.as_secs_f64() * 1000.0,
            self.clock(),
        );
        text.push_str(&self.servers());
        let registered = self.instances.iter().filter(|one| one.left.is_some()).count();
        text.push_str(&format!("instances   {registered} registered\n"));
        let width = self.instances.iter().map(|one| one.instance.name.len()).max().unwrap_or_default();
        for one in &self.instances {
            let left = one.left.map_or("ended".to_owned(), |left| format!("registered for {} s", left.as_secs()));
            text.push_str(&format!(
                "  {:width$}  packetboat {}, since {}, {left}\n",
                one.instance.name,
                one.instance.version,
                humantime::format_duration(Duration::from_secs(one.age.as_secs())),
            ));
        }
        for name in self.namesakes() {
            text.push_str(&format!("  {name} {NAMESAKES}\n"));
        }
        text.push_str(&self.unfinished());
        text.push_str(&format!("mailboxes   {} with borrowed sessions, or throttled\n", self.mailboxes.len()));
        for one in self.mailboxes.iter().take(SHOWN) {
            text.push_str(&mailbox(one));
        }
        if let Some(more) = self.mailboxes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("  {more} more: packetboat fleet status --json lists them\n"));
        }
        text
    }

    /// The renewals without a result, one a line.
    fn unfinished(&self) -> String {
        let mut text = String::new();
        if !self.unfinished.is_empty() {
            text.push_str(&format!(
                "renewals    {} without a result: the instance may have the answer on its disk, and brings it with its \
                 next start\n",
                self.unfinished.len()
            ));
        }
        for one in self.unfinished.iter().take(SHOWN) {
            let holder = one.holder.as_deref().unwrap_or("not known any more");
            text.push_str(&format!("  {} with identity {}, by instance: {holder}\n", one.key.person, one.key.identity));
        }
        text
    }

    /// The servers of several, one a line.
    fn servers(&self) -> String {
        let mut text = String::new();
        if !self.servers.is_empty() {
            text.push_str(&format!("servers     {}\n", self.servers.len()));
        }
        for (server, state) in &self.servers {
            let state = match state {
                Ok(_) => "takes changes".to_owned(),
                Err(Error::ReadOnly) => "takes no changes: a standby, or set to read-only".to_owned(),
                Err(error) => error.to_string(),
            };
            text.push_str(&format!("  {server}  {state}\n"));
        }
        if self.is_split() {
            text.push_str(SPLIT);
        }
        text
    }

    /// Returns whether more than one server takes changes.
    fn is_split(&self) -> bool {
        let mut processes = self.servers.iter().filter_map(|(_, state)| state.as_ref().ok());
        let first = processes.next();
        first.is_some_and(|first| processes.any(|other| !first.is_same(other)))
    }

    /// The names that more than one instance has. An instance that was killed is registered for [`LIFE`] more, beside the
    /// one that has come in its stead: so the newer one is older than that.
    fn namesakes(&self) -> Vec<&str> {
        let registered: Vec<_> = self.instances.iter().filter(|one| one.left.is_some() && one.age > LIFE).collect();
        let mut names: Vec<&str> = registered
            .iter()
            .map(|one| one.instance.name.as_str())
            .filter(|name| registered.iter().filter(|other| other.instance.name == *name).count() > 1)
            .collect();
        names.dedup();
        names
    }

    /// The difference of the clocks, for an operator who compares logs. The fleet does not depend on it.
    fn clock(&self) -> String {
        // The database has looked at its clock at some time of the round trip.
        let vague = 1.0 + self.round_trip.as_secs_f64() / 2.0;
        match self.clock_ahead {
            ahead if ahead.abs() < vague => "this computer and the database agree".to_owned(),
            ahead if ahead > 0.0 => format!("this computer is {ahead:.0} s ahead of the database"),
            behind => format!("this computer is {:.0} s behind the database", -behind),
        }
    }

    fn json(&self) -> Value {
        let instances = self.instances.iter().map(|one| {
            json!({
                "id": one.instance.id,
                "name": one.instance.name,
                "version": one.instance.version,
                "age_seconds": one.age.as_secs(),
                "registered_for_seconds": one.left.map(|left| left.as_secs()),
            })
        });
        let mailboxes = self.mailboxes.iter().map(|one| {
            let holders = one.holders.iter().map(|(name, count)| json!({ "instance": name, "sessions": count }));
            json!({
                "upstream": one.key.upstream,
                "mailbox": one.key.mailbox,
                "kind": one.key.kind.label(),
                "holders": holders.collect::<Vec<_>>(),
                "throttled_for_seconds": one.quiet.map(|quiet| quiet.as_secs()),
            })
        });
        let unfinished = self
            .unfinished
            .iter()
            .map(|one| json!({ "identity": one.key.identity, "person": one.key.person, "instance": one.holder }));
        let servers = self.servers.iter().map(|(server, state)| {
            let why = state.as_ref().err().map(ToString::to_string);
            json!({ "server": server.to_string(), "takes_changes": state.is_ok(), "problem": why })
        });
        json!({
            "database": self.fleet.database.to_string(),
            "database_id": self.facts.origin.as_ref().map(Origin::id),
            "split_brain": self.is_split(),
            "servers": servers.collect::<Vec<_>>(),
            "server_version": self.facts.server_version,
            "is_standby": self.facts.is_standby,
            "round_trip_seconds": self.round_trip.as_secs_f64(),
            "clock_ahead_seconds": self.clock_ahead,
            "schema": self.facts.schema.map(|(version, _)| version),
            "schema_serves_from": self.facts.schema.map(|(_, serves_from)| serves_from),
            "schema_needed": SCHEMA,
            "instances": instances.collect::<Vec<_>>(),
            "same_name": self.namesakes(),
            "mailboxes": mailboxes.collect::<Vec<_>>(),
            "unfinished_renewals": unfinished.collect::<Vec<_>>(),
        })
    }
}

/// The line of a mailbox: its sessions with their holders, and whether it is throttled.
fn mailbox(one: &MailboxUse) -> String {
    let sessions: i64 = one.holders.iter().map(|(_, count)| count).sum();
    let holders: Vec<_> = one.holders.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let held = (sessions > 0).then(|| format!("{sessions} ({})", holders.join(", ")));
    let quiet = one.quiet.map(|quiet| format!("throttled for another {} s", quiet.as_secs() + 1));
    let states: Vec<_> = quiet.into_iter().chain(held).collect();
    format!("  {} at {}, {}: {}\n", one.key.mailbox, one.key.upstream, one.key.kind.label(), states.join(", "))
}

fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// More than one instance has a name.
const NAMESAKES: &str = "IS THE NAME OF MORE THAN ONE INSTANCE: give each one a name of its own by fleet.instance, and \
                         restart it";
/// More than one server takes changes.
const SPLIT: &str = "  MORE THAN ONE SERVER TAKES CHANGES: an earlier primary is back beside the one that has replaced \
                     it. Stop the earlier one at once, and make it a standby again\n";
/// The most mailboxes, and the most renewals, in the text for people.
const SHOWN: usize = 50;
