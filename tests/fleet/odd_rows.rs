//! Rows that no packetboat writes: infinite times, numbers without a next one, many rows of one key. They keep no instance
//! from the records of the others, and fill nobody's memory.

use std::time::{Duration, Instant};

use packetboat::fleet::{
    Error, Instance, InstanceRecords, KeptRecords, Lease, MailboxKey, Renewal, SealedAccess, SeenCursor, SeenRecord,
    SeenRecords, SessionKind, SessionRecords, SessionRequest, SignInKey, SignInRecords,
};
use support::postgresql::Postgresql;

use crate::{migrated, records, refused_at_length, until};

const ID: &str = "00000000-0000-4000-8000-000000000001";
const LIFE: Duration = Duration::from_secs(45);

fn anna() -> SignInKey {
    let [identity, person, issuer] = ["office", "anna", "1"].map(str::to_owned);
    SignInKey { identity, person, issuer }
}

#[tokio::test(flavor = "multi_thread")]
async fn infinite_times_hide_nothing() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let instance = Instance { id: ID.to_owned(), name: "west".to_owned(), version: "9.9".to_owned() };
    records.register(&instance, LIFE).await.unwrap();
    server.sql(
        &database.name,
        "insert into packetboat.instance (id, name, version, since, until) values \
         ('00000000-0000-4000-8000-000000000002', 'a', '1', '-infinity', 'infinity'), \
         ('00000000-0000-4000-8000-000000000003', 'b', '1', 'infinity', 'infinity'); \
         insert into packetboat.candidate (identity, person, issuer, from_generation, sealed, since) values \
         ('office', 'anna', '1', 1, '', '-infinity'), ('office', 'anna', '1', 1, '', 'infinity'); \
         insert into packetboat.seen (device, instance, record, has_logged_in, last_seen, changed) values \
         ('a', 'east', '{}', true, 'infinity', 1), ('b', 'east', '{}', true, '-infinity', 1)",
    );
    let known = records.instances().await.unwrap();
    let west = known.iter().find(|one| one.instance.id == ID).unwrap();
    assert!(west.left.is_some() && known.len() == 3);
    assert_eq!(records.candidates(&anna()).await.unwrap().len(), 2);
    let (seen, _) = records.seen_behind(&SeenCursor::default(), 10).await.unwrap().unwrap();
    assert_eq!(seen.len(), 2);
    // They go by themselves.
    records.limit_seen(Duration::from_secs(90 * 86_400), 100).await.unwrap();
    assert_eq!(server.sql(&database.name, "select count(*) from packetboat.seen"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_ahead_of_the_clock_hides_no_later_one() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    server.sql(
        &database.name,
        "insert into packetboat.seen (device, instance, record, has_logged_in, last_seen, changed) values \
         ('a', 'east', '{}', true, clock_timestamp(), 9223372036854775807)",
    );
    let (_, cursor) = records.seen_behind(&SeenCursor::default(), 10).await.unwrap().unwrap();
    assert!(records.seen_behind(&cursor, 10).await.unwrap().is_none(), "reading comes to an end");
    let later = SeenRecord { device: "b".to_owned(), json: "{}".to_owned(), has_logged_in: true, age: Duration::ZERO };
    records.put_seen("west", &[later]).await.unwrap();
    let (seen, _) = records.seen_behind(&cursor.earlier(Duration::from_secs(10)), 10).await.unwrap().unwrap();
    assert!(seen.iter().any(|one| one.device == "b"), "{seen:?}");
}

/// The last number of leases and of sessions has no next one. Counting begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_number_is_followed_by_the_first() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    records.put(&anna(), None, 7, b"first").await.unwrap();
    let last = || {
        server
            .sql(&database.name, "update packetboat.sign_in set epoch = 9223372036854775807, lease_until = '-infinity'")
    };
    last();
    let lease: Lease = records.begin(&anna(), ID, LIFE).await.unwrap().unwrap();
    assert_eq!((lease.epoch, lease.generation), (1, 7));
    let access = SealedAccess { sealed: b"access".to_vec(), left: LIFE };
    assert!(records.commit(&anna(), &lease, Renewal { sealed: b"second", access: &access }).await.unwrap());
    last();
    assert!(records.put(&anna(), Some(8), 9, b"signed in anew").await.unwrap());
    assert_eq!(records.sign_in(&anna()).await.unwrap().unwrap().generation, 9);

    let key = MailboxKey { upstream: "exchange".to_owned(), mailbox: "scans".to_owned(), kind: SessionKind::Reading };
    let request = SessionRequest { instance: ID, most: 1, count: 1, holds: 0, life: LIFE };
    let borrowed = records.borrow_sessions(&key, request).await.unwrap().sessions;
    records.return_sessions(ID, &[(key.clone(), borrowed[0])]).await.unwrap();
    server.sql(&database.name, "update packetboat.mailbox_session set epoch = 9223372036854775807");
    let borrowed = records.borrow_sessions(&key, request).await.unwrap().sessions;
    assert_eq!(borrowed.iter().map(|session| session.epoch).collect::<Vec<_>>(), [1]);
}

/// The owner of the tables drops their keys, and writes many rows for one key. The database sends one of them.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_rows_is_read() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    server.sql(
        &database.name,
        "alter table packetboat.sign_in drop constraint sign_in_pkey; \
         alter table packetboat.kept drop constraint kept_pkey; \
         insert into packetboat.sign_in (identity, person, issuer, generation, sealed) \
         select 'office', 'anna', '1', 1, '' from generate_series(1, 500); \
         insert into packetboat.kept (name, sealed, generation) select 'ca', '', 1 from generate_series(1, 500)",
    );
    server.count_statements();
    assert!(records.sign_in(&anna()).await.unwrap().is_some());
    assert!(records.kept("ca").await.unwrap().is_some());
    assert!(records.begin(&anna(), ID, LIFE).await.unwrap().is_some());
    let most = "select max(s.rows / s.calls) from pg_stat_statements s join pg_roles r on r.oid = s.userid \
                where r.rolname = 'packetboat'";
    assert_eq!(server.sql("postgres", most), "1");
}

/// A server that takes each login and breaks off behind it: it is not dialled for each statement, so that neither it nor
/// the log is flooded.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_at_once_become_rare() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let value = refused_at_length(&server, &database);
    let (begun, mut broken) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(4) {
        match records.keep_first("ca", &value).await {
            Err(Error::Lost(_)) => broken += 1,
            Err(error @ Error::Again(_)) => {
                assert!(error.is_away() && !error.may_be_done(), "{error}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((2..=12).contains(&broken), "{broken} connections in 4 s");
    server.sql(&database.name, "drop trigger shout on packetboat.kept");
    until("the database serves again", async || records.keep_first("ca", &value).await.is_ok()).await;
}
