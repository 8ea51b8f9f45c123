//! The tables, and their migration from version to version.
//!
//! A migration expands: it adds tables and columns with defaults, so that instances of the version before go on beside
//! it. What they need is removed by a later migration alone, which raises `serves_from`. An instance works with tables
//! of its own version or a later one, as long as they serve its version.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::access::Connected;
use super::{CONNECTING, Postgres, refusal};
use crate::config::fleet::Database;
use crate::fleet::error::Error;

/// The result of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The version before; none where there were no tables.
    pub from: Option<i32>,
    /// The version now.
    pub to: i32,
}

/// One step: from the version before to this one.
struct Step {
    version: i32,
    /// The earliest version that the tables serve after this step.
    serves_from: i32,
    /// The tables of the version before that the statements change; empty for none.
    changed: &'static str,
    statements: &'static str,
}

impl Postgres {
    /// Creates the tables, or brings them to the version of this packetboat; changes nothing where they have it, or a
    /// later one. Several instances may do so at a time: one does the work, and the others wait for it.
    ///
    /// # Errors
    /// The database is not reached, does not allow it, or a lock is held for too long. Nothing has changed then.
    pub async fn migrate(&self) -> Result<Migration, Error> {
        let (deadline, mut races) = (Instant::now() + MIGRATING, 0);
        loop {
            // A new connection, which is closed after the attempt: one that fails leaves no transaction.
            let connected = timeout(CONNECTING, self.0.access.connect()).await;
            let Connected { client, task, .. } = connected.map_err(|_| Error::Late(CONNECTING))??;
            let migrated = timeout_at(deadline, attempt(&client)).await;
            task.abort();
            match migrated {
                Ok(Ok(migration)) => return Ok(migration),
                Ok(Err(error)) if is_race(&error) && races < RACES => races += 1,
                // What the attempt has held up goes on meanwhile.
                Ok(Err(error)) if is_lock(&error) && Instant::now() + BREATH < deadline => sleep(BREATH).await,
                Ok(Err(error)) if is_lock(&error) => return Err(Error::Locked),
                Ok(Err(error)) => return Err(self.refused_migration(&error)),
                Err(_) => return Err(Error::Late(MIGRATING)),
            }
        }
    }

    fn refused_migration(&self, error: &tokio_postgres::Error) -> Error {
        let database: &Database = self.0.access.database();
        refusal::error(error, database)
    }
}

/// Takes all steps in one transaction, which holds a lock on the table of versions.
async fn attempt(client: &Client) -> Result<Migration, tokio_postgres::Error> {
    client.batch_execute(BEGIN).await?;
    // A user who may use the schema, and not create one, is not refused where it is there.
    let is_there: bool = client.query_typed_one(IS_THERE, &[]).await?.try_get(0)?;
    if !is_there {
        client.batch_execute(CREATE).await?;
    }
    client.batch_execute("lock table packetboat.schema in exclusive mode").await?;
    let row = client.query_typed_opt("select version from packetboat.schema", &[]).await?;
    let from: Option<i32> = row.map(|row| row.try_get(0)).transpose()?;
    let mut to = from.unwrap_or(0);
    for step in STEPS.iter().filter(|step| from.is_none_or(|from| step.version > from)) {
        // Tables that were made a moment ago are this transaction's own.
        if from.is_some() && !step.changed.is_empty() {
            lock(client, step.changed).await?;
        }
        client.batch_execute(step.statements).await?;
        let version = format!(
            "delete from packetboat.schema; insert into packetboat.schema (version, serves_from) values ({}, {})",
            step.version, step.serves_from
        );
        client.batch_execute(&version).await?;
        to = step.version;
    }
    client.batch_execute("commit").await?;
    Ok(Migration { from, to })
}

/// Locks tables that running instances use. A lock that waits keeps all later statements waiting as well, and a backup by
/// pg_dump holds its own for as long as it runs: so the wait is shorter than that of an instance for an answer.
async fn lock(client: &Client, tables: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("set local statement_timeout = '2s'").await?;
    client.batch_execute(&format!("lock table {tables} in access exclusive mode")).await?;
    client.batch_execute("set local statement_timeout to default").await
}

/// Returns whether somebody else has held a lock for too long.
fn is_lock(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code))
}

/// Returns whether another instance has created the same thing at the same moment.
fn is_race(error: &tokio_postgres::Error) -> bool {
    let races = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| races.contains(code))
}

/// The limit holds for this transaction alone, also behind pgbouncer.
const BEGIN: &str = "begin; set local lock_timeout = '20s'";
const IS_THERE: &str = "select to_regclass('packetboat.schema') is not null";
const CREATE: &str = "create schema packetboat; \
    create table packetboat.schema (version integer not null, serves_from integer not null)";
/// The longest time of a migration.
const MIGRATING: Duration = Duration::from_secs(60);
/// The instance that loses a race finds the winner's tables the next time.
const RACES: usize = 5;
/// The pause after an attempt that did not get its locks.
const BREATH: Duration = Duration::from_secs(2);

/// The steps, in order. A step that has been released is never changed.
const STEPS: &[Step] = &[
    Step { version: 1, serves_from: 1, changed: "", statements: include_str!("schema/1.sql") },
    Step {
        version: 2,
        serves_from: 1,
        changed: "packetboat.instance, packetboat.sign_in, packetboat.candidate, packetboat.mailbox, \
                  packetboat.mailbox_session, packetboat.mailbox_want, packetboat.seen, packetboat.kept",
        statements: include_str!("schema/2.sql"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::SCHEMA;

    #[test]
    fn steps_lead_to_the_version_that_packetboat_needs() {
        let versions: Vec<i32> = STEPS.iter().map(|step| step.version).collect();
        assert_eq!(versions, (1..=SCHEMA).collect::<Vec<_>>());
        assert!(STEPS.iter().all(|step| (1..=step.version).contains(&step.serves_from)));
        assert!(STEPS.is_sorted_by_key(|step| step.serves_from), "tables never serve an earlier version again");
    }

    /// A table that a step alters is locked before, with a bound.
    #[test]
    fn a_step_locks_what_it_changes() {
        for step in STEPS {
            let altered = step.statements.lines().filter_map(|line| line.strip_prefix("alter table "));
            for table in altered.filter_map(|rest| rest.split_whitespace().next()) {
                assert!(step.changed.split(", ").any(|one| one == table), "{}: {table}", step.version);
            }
        }
    }
}
