//! Trouble of a fleet while its database answers: changes that it has lost, two databases, one name for two instances, and
//! tables of another version. None of it is taken for trouble at a plain restart.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use packetboat::fleet::{Instance, InstanceRecords, SCHEMA};
use support::exchange::Ran;
use support::postgresql::{Database, Pgbouncer, Postgresql};
use support::process::program;
use support::proxy::Proxy;

use crate::{configured, migrated, records, until, until_now};

/// A running instance of this name.
fn instance(database: &Database, name: &str) -> Proxy {
    started(&(database.section(name) + "migrate = true\n"))
}

fn started(section: &str) -> Proxy {
    let proxy = Proxy::start_with(None, "info", &configured(Path::new("/store.key"), section));
    until_now("it is registered", || proxy.metric("packetboat_fleet_database_reachable", "") == 1);
    proxy
}

fn trouble(proxy: &Proxy, reason: &str) -> u64 {
    proxy.metric("packetboat_fleet_trouble", &format!("reason=\"{reason}\""))
}

fn losses(proxy: &Proxy) -> u64 {
    proxy.metric("packetboat_fleet_database_losses_total", "")
}

/// The id of the database that the instance uses.
fn database_id(proxy: &Proxy) -> String {
    let metrics = proxy.metrics();
    let line = metrics.lines().find(|line| line.starts_with("packetboat_fleet_database_info{"));
    line.unwrap_or_else(|| panic!("{metrics}")).split('"').nth(1).unwrap().to_owned()
}

/// The instances that the page lists.
fn listed(proxy: &Proxy) -> usize {
    proxy.status()["fleet"]["instances"].as_array().unwrap().len()
}

/// The output of a command that succeeds, on the computer of this instance.
fn printed(proxy: &Proxy, arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(proxy.configuration());
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.output, ran.errors);
    ran.output
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lacks_what_it_has_confirmed_is_told_from_one_that_has_it() {
    let mut server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let id = "00000000-0000-4000-8000-000000000001".to_owned();
    let instance = Instance { id, name: "west".to_owned(), version: "9.9".to_owned() };
    let register = async || {
        let mut registered = None;
        let attempt = async || {
            registered = records.register(&instance, LIFE).await.ok();
            registered.is_some()
        };
        until("a registration", attempt).await;
        registered.unwrap()
    };
    let first = register().await;
    assert_eq!((first.schema, first.until_before), (Some((SCHEMA, 1)), None));
    let backup = server.dump(&database.name);
    let second = register().await;
    assert!(second.until_before == Some(first.until) && !second.lacks(&first), "{second:?}");
    server.stop();
    server.start_again();
    let third = register().await;
    assert!(third.origin != second.origin && !third.lacks(&second), "a restart loses nothing: {third:?}");
    server.restore(&database.name, &backup);
    let restored = register().await;
    assert!(restored.until_before == Some(first.until) && restored.lacks(&third), "{restored:?}");
    // A statement that was held up comes behind a later one, and shortens nothing.
    let held_up = records.register(&instance, LIFE - Duration::from_secs(10)).await.unwrap();
    assert!(held_up.until == restored.until && !register().await.lacks(&restored), "{held_up:?}");
    let last = register().await;
    server.sql(&database.name, "delete from packetboat.instance");
    let removed = register().await;
    assert!(removed.until_before.is_none() && removed.lacks(&last), "{removed:?}");
    // The same a day later: others have removed what had ended.
    let mut long_ago = last;
    long_ago.until -= 86_400.0;
    assert!(!removed.lacks(&long_ago));
}

/// A restart of PostgreSQL and one of an instance are no loss. A backup that is put back is one, at each instance that had
/// registered since.
#[test]
fn a_backup_that_is_put_back_is_a_loss_and_a_restart_is_none() {
    let mut server = Postgresql::start();
    let database = server.database();
    let [one, two] = ["one", "two"].map(|name| instance(&database, name));
    let registered = |name: &str| {
        let until =
            || server.sql(&database.name, &format!("select until from packetboat.instance where name = '{name}'"));
        let before = until();
        until_now("another registration", || until() != before);
    };
    let backup = server.dump(&database.name);
    ["one", "two"].into_iter().for_each(registered);
    server.stop();
    for proxy in [&one, &two] {
        until_now("the database is away", || proxy.metric("packetboat_fleet_database_reachable", "") == 0);
        assert!(!proxy.metrics().contains("packetboat_fleet_database_info{"), "{}", proxy.metrics());
    }
    server.start_again();
    for proxy in [&one, &two] {
        until_now("the database is back", || proxy.metric("packetboat_fleet_database_reachable", "") == 1);
        assert_eq!(losses(proxy), 0, "{}", proxy.log.all());
    }
    drop(one);
    let one = instance(&database, "one");
    assert_eq!(losses(&one), 0, "{}", one.log.all());
    server.restore(&database.name, &backup);
    for proxy in [&one, &two] {
        until_now("a loss", || losses(proxy) == 1);
        proxy.logs(1, "has lost changes that it had confirmed");
    }
    assert_eq!(database_id(&one), database_id(&two));
}

/// The id tells two databases apart, as if a name led each instance to another one; it is the same through a pooler.
#[test]
fn two_databases_have_two_ids() {
    let server = Postgresql::start();
    let [database, other] = [server.database(), server.database()];
    let [one, two, lost] = [instance(&database, "one"), instance(&database, "two"), instance(&other, "lost")];
    let pooler = Pgbouncer::start(&server);
    let pooled = started(&database.section_at(pooler.port, "pooled"));
    let id = database_id(&one);
    assert_eq!([database_id(&two), database_id(&pooled)], [id.clone(), id.clone()]);
    assert_ne!(database_id(&lost), id);
    let status = printed(&one, &["fleet", "status"]);
    assert!(status.contains(&format!("\nid          {id}\n")), "{status}");
}

/// Two instances have one name: both say so, until one of them has ended. The instance that was killed a moment before its
/// next start is no second one, although it is registered for a while.
#[test]
fn two_instances_of_one_name_say_so_and_a_restart_does_not() {
    let server = Postgresql::start();
    let database = server.database();
    let killed = instance(&database, "west");
    drop(killed);
    let west = instance(&database, "west");
    until_now("both are listed", || listed(&west) == 2);
    until_now("the one that was killed is gone", || listed(&west) == 1);
    let line = "another instance of the fleet has the name west as well";
    assert_eq!((trouble(&west, "same_name"), west.log.count(|one| one.contains(line))), (0, 0));
    let status = printed(&west, &["fleet", "status"]);
    assert!(!status.contains("IS THE NAME OF"), "{status}");
    let mut second = instance(&database, "west");
    for proxy in [&west, &second] {
        until_now("the second one of the name", || listed(proxy) == 2 && trouble(proxy, "same_name") == 1);
        proxy.logs(1, line);
        let troubles = proxy.status()["fleet"]["troubles"].to_string();
        assert!(troubles.contains("fleet.instance"), "{troubles}");
    }
    let status = printed(&west, &["fleet", "status"]);
    assert!(status.contains("  west IS THE NAME OF MORE THAN ONE INSTANCE"), "{status}");
    second.process.signal("TERM");
    second.process.wait();
    until_now("one has the name", || listed(&west) == 1 && trouble(&west, "same_name") == 0);
    west.logs(1, "no other instance of the fleet has the name");
    assert_eq!(west.log.count(|one| one.contains(line)), 1, "{}", west.log.all());
}

/// The tables come to a version that serves this packetboat, and to one that does not: that is seen for as long as it lasts.
#[test]
fn tables_that_no_longer_fit_are_seen_for_as_long_as_they_are_there() {
    let server = Postgresql::start();
    let database = server.database();
    let west = instance(&database, "west");
    let sets = |version: i32, serves_from: i32| {
        let statement = format!("update packetboat.schema set version = {version}, serves_from = {serves_from}");
        server.sql(&database.name, &statement);
    };
    let registers = || {
        let until = || server.sql(&database.name, "select until from packetboat.instance");
        let before = until();
        until_now("another registration", || until() != before);
    };
    sets(SCHEMA + 1, SCHEMA);
    (0..2).for_each(|_| registers());
    assert_eq!(trouble(&west, "tables"), 0, "later tables that serve this version fit: {}", west.log.all());
    sets(SCHEMA + 2, SCHEMA + 1);
    until_now("the tables do not fit", || trouble(&west, "tables") == 1);
    (0..2).for_each(|_| registers());
    let line = format!("have version {}, and serve packetboats from version {} ", SCHEMA + 2, SCHEMA + 1);
    assert_eq!(west.log.count(|one| one.contains(&line)), 1, "{}", west.log.all());
    let ready = printed(&west, &["health", "--ready"]);
    assert!(ready.contains("update packetboat on this computer"), "{ready}");
    assert!(west.status()["fleet"]["troubles"].to_string().contains(&line));
    assert_eq!(west.metric("packetboat_fleet_database_reachable", ""), 1);
    sets(SCHEMA, SCHEMA);
    until_now("the tables fit", || trouble(&west, "tables") == 0);
    west.logs(1, "the fleet's tables fit this packetboat again");
    // A start finds them, and logs them once as well.
    sets(SCHEMA + 2, SCHEMA + 1);
    let east = instance(&database, "east");
    until_now("the tables do not fit", || trouble(&east, "tables") == 1);
    registers();
    assert_eq!(east.log.count(|one| one.contains(&line)), 1, "{}", east.log.all());
}

/// Longer than any test.
const LIFE: Duration = Duration::from_secs(60);
