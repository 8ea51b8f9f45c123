//! The connection to the database: verified TLS or none beyond this computer, plain words for each mistake, and a bound
//! for everything.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use packetboat::config::{Config, Fleet};
use packetboat::fleet::{Error, Instance, InstanceRecords, PATIENCE, Postgres, SignInKey, SignInRecords};
use packetboat::state::{self, Access};
use support::certificates::Certificates;
use support::network::{Network, THERE};
use support::postgresql::{CERTIFIED_USER, Postgresql};
use support::process::Process;

use crate::{configured, migrated, records, until};

async fn error_of(section: &str) -> Error {
    records(section).connect().await.unwrap_err()
}

/// The error behind a repeated one.
fn cause(error: &Error) -> &Error {
    if let Error::Again(error) = error { cause(error) } else { error }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_and_nothing_goes_without() {
    let server = Postgresql::start();
    let database = server.database();
    let good = database.section("i");
    records(&good).connect().await.unwrap();
    let over_tls = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
                    where ssl and version in ('TLSv1.2', 'TLSv1.3') and usename = 'packetboat'";
    let open = records(&good);
    open.connect().await.unwrap();
    assert_eq!(server.sql("postgres", over_tls), "1");
    let error = error_of(&good.replace("localhost", "127.0.0.1")).await;
    assert!(matches!(cause(&error), Error::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("its certificate is not accepted"), "{error}");
    let others = tempfile::tempdir().unwrap();
    Certificates::for_name("localhost", 30).write(others.path());
    let roots = server.roots().display().to_string();
    let error = error_of(&good.replace(&roots, others.path().join("ca.pem").to_str().unwrap())).await;
    assert!(error.to_string().contains("its certificate is not accepted"), "{error}");
    let plain = Postgresql::start_without_tls();
    let error = error_of(&plain.database().section("i")).await;
    assert!(matches!(cause(&error), Error::NoTls(_)) && error.to_string().contains("ssl = on"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_on_this_computer_alone() {
    let server = Postgresql::start_without_tls();
    let database = server.database();
    let password = server.password_file();
    for address in [
        database.url(),
        format!("postgresql://packetboat@:{}/{}?host={}", server.port, database.name, server.socket().display()),
    ] {
        let section = format!("[fleet]\ndatabase = \"{address}\"\npassword_file = {password:?}\n");
        records(&section).migrate().await.unwrap_or_else(|error| panic!("{address}: {error}"));
    }
}

/// `localhost` is this computer by the file of hosts, or by whoever answers for the DNS. Here it leads to another one.
#[test]
fn a_name_that_leads_elsewhere_gets_no_password_in_clear() {
    let network = Network::new();
    let server = network.there(|| Postgresql::start_with("listen_addresses = '*'\n"));
    let section = server.database().section_of(&format!("{THERE}:{}", server.port), "i");
    let text = configured(Path::new("/store.key"), &section);
    let config = Config::parse(&text, Path::new("x.toml")).unwrap_or_else(|found| panic!("{found:?}")).config;
    // What a name of this computer has.
    let fleet = Fleet { tls: false, ..config.fleet.clone().unwrap() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Postgres::new(&fleet, &config, None).connect()).unwrap_err();
    assert!(matches!(cause(&error), Error::NotLocal(_)), "{error}");
    assert!(error.to_string().contains("/etc/hosts") && !error.is_away(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_logs_in_without_a_password() {
    let server = Postgresql::start();
    let database = server.database();
    let directory = tempfile::tempdir().unwrap();
    server.write_client_certificate(directory.path());
    let section = format!(
        "[fleet]\ndatabase = \"{}\"\nroots = {:?}\nclient_certificate = {:?}\nclient_key = {:?}\n",
        database.url().replace("packetboat@", &format!("{CERTIFIED_USER}@")),
        server.roots(),
        directory.path().join("server.pem"),
        directory.path().join("server.key"),
    );
    let records = records(&section);
    records.connect().await.unwrap();
    assert!(records.database().await.unwrap().schema.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_is_named_with_what_mends_it() {
    let server = Postgresql::start();
    let database = server.database();
    let good = database.section("i");
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong");
    state::write(&wrong, b"wrong", Access::Private).unwrap();
    let password = server.password_file().display().to_string();
    let error = error_of(&good.replace(&password, wrong.to_str().unwrap())).await;
    assert!(matches!(cause(&error), Error::Login { .. }), "{error}");
    assert!(error.to_string().contains("fleet.password_file"), "{error}");
    let without: String = good.lines().filter(|line| !line.starts_with("password_file")).collect::<Vec<_>>().join("\n");
    let error = error_of(&(without + "\n")).await;
    assert!(matches!(cause(&error), Error::PasswordMissing(_)), "{error}");
    assert!(error.to_string().contains("packetboat-fleet-password"), "{error}");
    let error = error_of(&good.replace(&database.name, "no_such")).await;
    assert!(matches!(cause(&error), Error::NoDatabase(_)) && error.to_string().contains("createdb"), "{error}");
    let key = SignInKey { identity: String::new(), person: String::new(), issuer: String::new() };
    let error = records(&good).sign_in(&key).await.unwrap_err();
    assert!(matches!(error, Error::NoSchema) && error.to_string().contains("fleet migrate"), "{error}");
    assert!(!error.is_away());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_at_once_and_the_connection_comes_back() {
    let mut server = Postgresql::start();
    let records = records(&migrated(&server).await.section("i"));
    assert!(records.instances().await.unwrap().is_empty());
    server.stop();
    let begin = Instant::now();
    for _ in 0..100 {
        let error = records.instances().await.unwrap_err();
        assert!(error.is_away(), "{error}");
    }
    assert!(begin.elapsed() < 10 * PATIENCE, "a hundred operations without a server took {:?}", begin.elapsed());
    server.start_again();
    until("the database is back", async || records.instances().await.is_ok()).await;
}

/// A primary becomes a standby while connections are open, as behind a pooler or by a setting: the next statements go to
/// the server that was promoted, and stay there when the earlier one takes changes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_turns_read_only_leads_to_the_promoted_server() {
    let primary = Postgresql::start();
    let database = migrated(&primary).await;
    let standby = primary.standby();
    // The standby stands first, and is passed over.
    let hosts = format!("localhost:{},localhost:{}", standby.port, primary.port);
    let records = records(&database.section_of(&hosts, "i"));
    let instance = |number: usize| Instance {
        id: format!("00000000-0000-4000-8000-{number:012}"),
        name: format!("i{number}"),
        version: "9.9".to_owned(),
    };
    let life = Duration::from_secs(600);
    records.register(&instance(1), life).await.unwrap();
    let count = |server: &Postgresql, number: usize| {
        server.sql(&database.name, &format!("select count(*) from packetboat.instance where name = 'i{number}'"))
    };
    until("the standby has it as well", async || count(&standby, 1) == "1").await;
    for statement in ["alter system set default_transaction_read_only = on", "select pg_reload_conf()"] {
        primary.sql("postgres", statement);
    }
    until("the open connection is refused", async || {
        matches!(records.register(&instance(2), life).await, Err(Error::ReadOnly))
    })
    .await;
    let error = records.register(&instance(2), life).await.unwrap_err();
    assert!(error.is_away() && !error.may_be_done(), "{error}");
    standby.promote();
    until("the promoted server is found", async || records.register(&instance(3), life).await.is_ok()).await;
    assert_eq!((count(&standby, 3), count(&primary, 3)), ("1".to_owned(), "0".to_owned()));
    for statement in ["alter system reset default_transaction_read_only", "select pg_reload_conf()"] {
        primary.sql("postgres", statement);
    }
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'packetboat'";
    standby.sql("postgres", cut);
    until("it is used again", async || records.register(&instance(4), life).await.is_ok()).await;
    assert_eq!((count(&standby, 4), count(&primary, 4)), ("1".to_owned(), "0".to_owned()));
    let servers: Vec<bool> = records.servers().await.into_iter().map(|(_, state)| state.is_ok()).collect();
    assert_eq!(servers, [true, true]);
}

/// A server that is frozen answers nothing, not even a login.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_holds_nobody_for_longer_than_the_bound() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let key = SignInKey { identity: "a".to_owned(), person: "b".to_owned(), issuer: "c".to_owned() };
    records.put(&key, None, 1, b"first").await.unwrap();
    let mut locking = server.psql(&database.name).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut statements = locking.stdin.take().unwrap();
    let _locking = Process(locking);
    statements.write_all(b"begin; lock table packetboat.sign_in in access exclusive mode;\n").unwrap();
    statements.flush().unwrap();
    let locked = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted \
                  and relation = 'packetboat.sign_in'::regclass";
    until("the table is locked", async || server.sql(&database.name, locked) == "1").await;
    let begin = Instant::now();
    let error = records.sign_in(&key).await.unwrap_err();
    assert!(matches!(error, Error::Late(_)) && error.may_be_done() && error.is_away(), "{error}");
    assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", begin.elapsed());
    // The server does not go on with it either: each such connection would be one of its max_connections.
    let waiting = "select count(*) from pg_stat_activity where usename = 'packetboat' and wait_event_type = 'Lock'";
    until("no statement waits for the lock", async || server.sql(&database.name, waiting) == "0").await;
    // Another table on a new connection.
    until("other records are served", async || records.instances().await.is_ok()).await;
    drop(statements);
    until("the lock is gone", async || records.sign_in(&key).await.is_ok()).await;
}

/// A server that takes connections and says nothing, ends a migration with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_does_not_wait_for_a_silent_server() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let section = format!("[fleet]\ndatabase = \"postgresql://pb@{}/mail\"\n", silent.local_addr().unwrap());
    let begin = Instant::now();
    let error = records(&section).migrate().await.unwrap_err();
    assert!(matches!(error, Error::Late(_)) && error.is_away(), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
