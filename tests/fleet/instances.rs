//! Instances are registered while they run, by the clock of the database.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use packetboat::fleet::{Instance, InstanceRecords, SeenRecords, SessionRecords};
use support::postgresql::Postgresql;
use support::proxy::Proxy;

use crate::{configured, migrated, records, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_registered_until_its_time_is_over() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let instance = |digit: &str, name: &str| {
        let id = "00000000-0000-4000-8000-00000000000".to_owned() + digit;
        Instance { id, name: name.to_owned(), version: "9.9".to_owned() }
    };
    let (one, other) = (instance("1", "west"), instance("2", "east"));
    records.register(&one, Duration::from_secs(30)).await.unwrap();
    records.register(&other, Duration::from_millis(100)).await.unwrap();
    let known = records.instances().await.unwrap();
    assert_eq!(known.iter().map(|one| one.instance.name.as_str()).collect::<Vec<_>>(), ["east", "west"]);
    let left = known[1].left.unwrap();
    assert!(left <= Duration::from_secs(30) && left > Duration::from_secs(20), "{left:?}");
    until("the registration ends", async || records.instances().await.unwrap()[0].left.is_none()).await;
    records.register(&other, Duration::from_secs(30)).await.unwrap();
    assert!(records.instances().await.unwrap()[0].left.is_some(), "it is prolonged");
    records.unregister(&other.id).await.unwrap();
    assert_eq!(records.instances().await.unwrap().len(), 1);
    // Those that ended two days ago are forgotten with the next count.
    server.sql(&database.name, "update packetboat.instance set until = now() - interval '2 days'");
    records.register(&other, Duration::from_secs(30)).await.unwrap();
    assert_eq!(records.instances().await.unwrap().len(), 2);
    assert_eq!(
        (records.count_instances().await.unwrap(), records.running().await.unwrap()),
        (1, vec!["east".to_owned()])
    );
    assert_eq!(records.instances().await.unwrap()[0].instance, other);
    assert_eq!(records.instances().await.unwrap().len(), 1);
    // The clock of the database was ahead, and was set back: nobody knows whether the instance runs, until it says so.
    server.sql(&database.name, "update packetboat.instance set until = now() + interval '1 day'");
    assert_eq!((records.count_instances().await.unwrap(), records.running().await.unwrap()), (0, Vec::new()));
    assert!(records.instances().await.unwrap()[0].left.is_none());
    records.register(&other, Duration::from_secs(30)).await.unwrap();
    assert_eq!(records.count_instances().await.unwrap(), 1);
}

/// The database takes connections and says nothing: an instance that waits for the migration of its tables ends as soon as
/// it is told to.
#[test]
fn a_silent_database_does_not_hold_the_end_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let section = format!("[fleet]\ndatabase = \"postgresql://pb@{address}/mail\"\nmigrate = true\n");
    let mut instance = Proxy::start_with(None, "info", &configured(Path::new("/store.key"), &section));
    let _silence = silent.accept().unwrap();
    let begin = Instant::now();
    instance.process.signal("TERM");
    assert!(instance.process.wait().success(), "{}", instance.log.all());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// Ten thousand other instances are registered. What this one does all the time reads none of their rows: they are
/// counted and listed each ten minutes.
#[test]
fn ten_thousand_instances_cost_each_other_little() {
    let server = Postgresql::start();
    let database = server.database();
    let section = database.section("west") + "migrate = true\n";
    let proxy = Proxy::start_with(None, "info", &configured(Path::new("/store.key"), &section));
    let sql = |statement: &str| server.sql(&database.name, statement);
    crate::until_now("it is registered", || proxy.metric("packetboat_fleet_instances", "") == 1);
    let id = sql("select id from packetboat.instance");
    sql("insert into packetboat.instance (id, name, version, until) \
         select gen_random_uuid(), 'i' || n, '9.9', now() + interval '4 minutes' from generate_series(1, 10000) n; \
         analyze packetboat.instance");
    crate::until_now("all are counted", || proxy.metric("packetboat_fleet_instances", "") == 10_001);
    let registrations = |count: usize| {
        for _ in 0..count {
            let until = || sql(&format!("select until from packetboat.instance where id = '{id}'"));
            let before = until();
            crate::until_now("a registration", || until() != before);
        }
    };
    let rows_read = || {
        let statement = "select seq_tup_read from pg_stat_user_tables where relid = 'packetboat.instance'::regclass";
        sql(statement).parse::<u64>().unwrap()
    };
    // PostgreSQL tells what a statement has read some seconds later, and the list of before may still be due.
    let reads_none = (0..4).any(|_| {
        let before = rows_read();
        registrations(3);
        rows_read() == before
    });
    assert!(reads_none, "{} rows", rows_read());
}
