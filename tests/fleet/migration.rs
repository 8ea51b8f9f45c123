//! The tables are made once, whoever comes first, and serve two versions of packetboat side by side.

use packetboat::fleet::{Error, InstanceRecords, Migration, SCHEMA, check_schema};
use support::postgresql::Postgresql;
use tokio::task::JoinSet;

use crate::{migrated, records};

#[tokio::test(flavor = "multi_thread")]
async fn twelve_instances_migrate_at_once_and_one_does_it() {
    let server = Postgresql::start();
    let database = server.database();
    let mut migrating = JoinSet::new();
    for number in 0..12 {
        let records = records(&database.section(&format!("i{number}")));
        migrating.spawn(async move { records.migrate().await.unwrap() });
    }
    let done = migrating.join_all().await;
    let first = Migration { from: None, to: SCHEMA };
    assert_eq!(done.iter().filter(|one| **one == first).count(), 1, "{done:?}");
    let later = Migration { from: Some(SCHEMA), to: SCHEMA };
    assert_eq!(done.iter().filter(|one| **one == later).count(), 11, "{done:?}");
    assert_eq!(server.sql(&database.name, "select count(*) from packetboat.schema"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_version_stays_and_serves_this_one_until_it_says_otherwise() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let check = async || check_schema(records.database().await.unwrap().schema);
    check().await.unwrap();
    server.sql(&database.name, &format!("update packetboat.schema set version = {}", SCHEMA + 1));
    check().await.unwrap();
    assert_eq!(records.migrate().await.unwrap(), Migration { from: Some(SCHEMA + 1), to: SCHEMA + 1 });
    server.sql(&database.name, &format!("update packetboat.schema set serves_from = {}", SCHEMA + 1));
    let error = check().await.unwrap_err();
    assert!(matches!(error, Error::NewerSchema { .. }) && error.to_string().contains("update packetboat"), "{error}");
    server.sql(&database.name, "update packetboat.schema set version = 0, serves_from = 0");
    let error = check().await.unwrap_err();
    assert!(error.to_string().contains("run packetboat fleet migrate"), "{error}");
}

/// A migration that fails in its middle leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_is_whole_or_not_at_all() {
    let server = Postgresql::start();
    let database = server.database();
    // The last table of the step cannot be made, because its name is taken.
    server.sql(
        &database.name,
        "create schema packetboat; create table packetboat.schema (version integer not null, serves_from integer not \
         null); create table packetboat.kept (); grant all on schema packetboat to packetboat; \
         grant all on all tables in schema packetboat to packetboat",
    );
    let error = records(&database.section("i")).migrate().await.unwrap_err();
    assert!(!matches!(error, Error::NoSchema), "{error}");
    let tables = "select count(*) from pg_tables where schemaname = 'packetboat'";
    assert_eq!(server.sql(&database.name, tables), "2");
    assert_eq!(server.sql(&database.name, "select count(*) from packetboat.schema"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_create_tables_is_told_whom_to_ask() {
    let server = Postgresql::start();
    let database = server.database();
    server.sql("postgres", &format!("alter database {} owner to postgres", database.name));
    let error = records(&database.section("i")).migrate().await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed(_)) && error.to_string().contains("as the owner"), "{error}");
    // Where the tables are there, their user needs no right to make any.
    server.sql("postgres", &format!("alter database {} owner to packetboat", database.name));
    records(&database.section("i")).migrate().await.unwrap();
    server.sql("postgres", &format!("alter database {} owner to postgres", database.name));
    assert_eq!(records(&database.section("i")).migrate().await.unwrap().from, Some(SCHEMA));
}
