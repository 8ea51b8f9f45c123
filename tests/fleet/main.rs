//! These tests prove the records of a fleet over a real PostgreSQL, also behind pgbouncer, and the commands about them.

#![cfg(feature = "fleet")]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod certificates;
mod clock;
mod commands;
mod connection;
mod cut;
mod disk;
mod dump;
mod entra;
mod hostile;
mod instances;
mod inventory;
mod kills;
mod migration;
mod odd_rows;
mod outage;
mod pace;
mod promotion;
mod queries;
mod quota;
mod renewal;
mod restored;
mod seen;
mod sessions;
mod several;
mod sign_ins;
mod signing_out;
mod simulation;
mod slots;
mod transfer;
mod troubles;
mod upgrade;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use packetboat::config::Config;
use packetboat::fleet::{Kept, Postgres};
use support::postgresql::{Database, Postgresql};
use support::process::PATIENCE;

/// A configuration with one listener and this section `[fleet]`.
fn configured(store_key: &Path, section: &str) -> String {
    format!(
        "store_key = {store_key:?}\n{section}[[listener]]\nname = \"observing\"\nprotocol = \"imap\"\n\
         listen = [\"127.0.0.1:0\"]\nobserve = true\n"
    )
}

/// The records of a section `[fleet]`, with connections of their own.
fn records(section: &str) -> Arc<Postgres> {
    let text = configured(Path::new("/store.key"), section);
    let config = Config::parse(&text, Path::new("packetboat.toml")).unwrap_or_else(|found| panic!("{found:?}")).config;
    Arc::new(Postgres::new(config.fleet.as_ref().unwrap(), &config, None))
}

/// A database with packetboat's tables.
async fn migrated(server: &Postgresql) -> Database {
    let database = server.database();
    records(&database.section("maker")).migrate().await.unwrap();
    database
}

/// A value that the database refuses to keep, with 4 MiB of words.
fn refused_at_length(server: &Postgresql, database: &Database) -> Kept {
    server.sql(
        &database.name,
        "create function packetboat.shout() returns trigger language plpgsql as \
         $$ begin raise exception '%', repeat('x', 4 * 1024 * 1024); end $$; \
         create trigger shout before insert on packetboat.kept execute function packetboat.shout()",
    );
    Kept { sealed: b"x".to_vec(), generation: 1 }
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same where the condition waits for nothing itself.
fn until_now(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + 2 * PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
