//! The tables come to the next version while instances and other programs use them, and once a database is there that was
//! away at the start.

use packetboat::fleet::{Migration, SCHEMA, SignInKey, SignInRecords};
use support::proxy::Proxy;

use crate::records;
use crate::several::Several;
use crate::until_now;

/// The tables of version 1.
const EARLIER: &str = "do $$ declare name text; begin \
    foreach name in array array['instance', 'sign_in', 'candidate', 'mailbox', 'mailbox_session', 'mailbox_want', 'seen', \
    'kept'] loop execute format('alter table packetboat.%I drop constraint bounded', name); end loop; end $$; \
    update packetboat.schema set version = 1";

/// pg_dump locks each table for as long as it runs. A migration that waits for such a lock would keep all statements of all
/// instances waiting.
#[test]
fn a_migration_behind_a_backup_holds_up_no_instance() {
    let several = Several::lenient(3600);
    several.sql(EARLIER);
    let mut backup = several
        .transaction("begin; lock table packetboat.sign_in, packetboat.seen in access share mode; select 'begun'");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let [migrating, instance] = ["m", "i"].map(|name| records(&several.database.section(name)));
    let migrated = runtime.spawn(async move { migrating.migrate().await });
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'lock table%'";
    let [identity, person, issuer] = ["office", "anna", "1"].map(str::to_owned);
    let key = SignInKey { identity, person, issuer };
    for attempt in 0..3 {
        until_now("the migration waits for the lock", || several.sql(waiting) == "1");
        let read = runtime.block_on(instance.sign_in(&key));
        assert!(matches!(read, Ok(None)), "attempt {attempt}: {:?}", read.err().map(|error| error.to_string()));
        until_now("the migration makes way", || several.sql(waiting) == "0");
    }
    assert!(!migrated.is_finished());
    assert_eq!(several.sql("select version from packetboat.schema"), "1", "whole or not at all");
    drop(backup.0.stdin.take());
    backup.wait();
    let migrated = runtime.block_on(migrated).unwrap().unwrap();
    assert_eq!(migrated, Migration { from: Some(1), to: SCHEMA });
    let constraints = "select count(*) from pg_constraint where conname = 'bounded'";
    assert_eq!(several.sql(constraints), "8");
}

/// The database starts after the instance, as in a new cluster of containers.
#[test]
fn a_database_that_comes_later_gets_its_tables() {
    let mut several = Several::lenient(3600);
    several.sql("drop schema packetboat cascade");
    several.server.stop();
    let configuration = several.configuration("one").replace("instance = ", "migrate = true\ninstance = ");
    let instance = Proxy::start_with(Some(&several.state("one")), "info", &configuration);
    instance.log.wait_for("line about the tables", |line| line.contains("the fleet's tables are not migrated"));
    several.server.start_again();
    instance.log.wait_for("line about the fleet", |line| line.contains("an instance of the fleet with the database"));
    until_now("the registration", || {
        several.try_sql("select count(*) from packetboat.instance").is_ok_and(|count| count == "1")
    });
    assert_eq!(several.sql("select version from packetboat.schema"), SCHEMA.to_string());
    assert_eq!(instance.log.count(|line| line.contains("are not migrated")), 1, "{}", instance.log.all());
}
