//! Somebody who may write to the database, or a file that is damaged, keeps no instance from serving the others' devices,
//! and fills nobody's memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use packetboat::fleet::{
    Error, InstanceRecords, KeptRecords, MailboxKey, SeenCursor, SeenRecords, SessionKind, SessionRecords, SignInKey,
    SignInRecords, Slots,
};
use packetboat::lifecycle;
use packetboat::state::{self, Access};
use support::exchange::imap_login;
use support::postgresql::Postgresql;

use crate::several::{Several, end, until_served};
use crate::{migrated, records, refused_at_length, until};

/// Rows of 8 MiB each, in all tables: what comes from them to an instance is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn long_rows_are_not_read_whole() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let refused = server.psql(&database.name).args(["-c", &long()]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("violates check constraint"), "the tables are bounded");
    // Whoever owns the tables may change them.
    for table in ["sign_in", "candidate", "seen", "kept", "instance", "mailbox", "mailbox_want", "mailbox_session"] {
        server.sql(&database.name, &format!("alter table packetboat.{table} drop constraint bounded"));
    }
    server.sql(&database.name, &long());
    let [identity, person, issuer] = ["office", "anna", "1"].map(str::to_owned);
    let key = SignInKey { identity, person, issuer };
    let row = records.sign_in(&key).await.unwrap().unwrap();
    assert_eq!((row.sealed.len(), row.trouble.map(|trouble| trouble.len())), (65_536, Some(2000)));
    assert_eq!(row.access.unwrap().sealed.len(), 65_536);
    let lease = records.begin(&key, ID, Duration::from_secs(45)).await.unwrap().unwrap();
    assert_eq!((lease.sealed.len(), lease.access.unwrap().sealed.len()), (65_536, 65_536));
    let candidates = records.candidates(&key).await.unwrap();
    assert_eq!((candidates.len(), candidates[0].sealed.len()), (16, 65_536));
    assert_eq!(records.kept("ca").await.unwrap().unwrap().sealed.len(), 262_144);
    let (seen, _) = records.seen_behind(&SeenCursor::default(), 10).await.unwrap().unwrap();
    let lengths: Vec<_> = seen.iter().map(|one| (one.device.len(), one.json.as_ref().map(String::len))).collect();
    assert_eq!(lengths, [(5, Some(16_384))], "a device with a long name is none");
    let instance = &records.instances().await.unwrap()[0].instance;
    assert_eq!((instance.name.len(), instance.version.len()), (255, 255));
    assert!(records.session_news(ID).await.unwrap().is_empty() && records.sessions().await.unwrap().is_empty());
}

/// A server that sends more than it was asked for, as a table that somebody has replaced by a view may make it: the
/// connection ends, and the memory stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_any_length_ends_the_connection() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let value = refused_at_length(&server, &database);
    let error = records.keep_first("ca", &value).await.unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    until("a new connection serves", async || matches!(records.kept("ca").await, Ok(None))).await;
}

/// The copy of a sign-in is damaged: the instance takes the sign-in from the database, and keeps the file.
#[test]
fn a_damaged_copy_is_set_aside() {
    let several = Several::strict(3600);
    several.sign_in();
    let instance = several.instance("one");
    until_served(&instance);
    end(instance);
    let copy = copies(&several.state("one")).remove(0);
    state::write(&copy, b"damaged", Access::Private).unwrap();
    let instance = several.instance("one");
    until_served(&instance);
    let line = instance.log.wait_for("line about the copy", |line| line.contains("does not open"));
    let kept = fs::read_dir(several.state("one").join("fleet")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = kept.filter(|path| path.to_string_lossy().contains(".copy.unopened-")).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read(&kept[0]).unwrap(), b"damaged");
    assert!(line.contains(&kept[0].display().to_string()) && line.contains("packetboat login scans"), "{line}");
    end(instance);
    assert!(copies(&several.state("one")).contains(&copy), "a new copy is there");
}

/// The copies of sign-ins in a state directory.
fn copies(state: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(state.join("fleet")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "copy")).collect()
}

/// An instance with another key tries again and again. It holds no lease meanwhile, and the others renew in time.
#[test]
fn another_key_keeps_nobody_from_renewing() {
    let several = Several::strict(12);
    several.sign_in();
    let file = several.state("other.key");
    state::write(&file, &[8; 32], Access::Private).unwrap();
    let configuration = several.configuration("stranger");
    let key = configuration.lines().next().unwrap();
    let configuration = configuration.replace(key, &format!("store_key = {file:?}"));
    let epoch = || several.row("epoch").parse::<i64>().unwrap();
    let before = epoch();
    let stranger = support::proxy::Proxy::start_with(Some(&several.state("stranger")), "debug", &configuration);
    stranger.log.wait_for("line about the key", |line| line.contains("was sealed with another key"));
    assert!(!imap_login(&stranger).starts_with("OK"));
    assert_eq!(epoch(), before, "no lease has begun");
    until_served(&several.instance("one"));
}

/// A person signs out on one computer. No instance renews, none brings the sign-in back from its copy, and a new sign-in
/// serves again.
#[test]
fn a_person_signs_out_of_the_whole_fleet() {
    let several = Several::strict(10);
    several.sign_in();
    let [one, two] = ["one", "two"].map(|name| several.instance(name));
    until_served(&one);
    until_served(&two);
    drop(one);
    let ran = several.exchange.run(&["logout", "scans"], &several.configuration("login"));
    assert!(ran.code == 0 && ran.output.contains("is signed out"), "{} {}", ran.output, ran.errors);
    two.log.wait_for("line about the sign-out", |line| line.contains("has signed out of the fleet"));
    crate::until_now("the token's end", || !imap_login(&two).starts_with("OK"));
    let refreshes = several.refreshes();
    // The copy of this one has the refresh token still.
    let one = several.instance("one");
    one.log.wait_for("line about the sign-out", |line| line.contains("has signed out of the fleet"));
    crate::until_now("the token's end", || !imap_login(&one).starts_with("OK"));
    several.sql("delete from packetboat.sign_in");
    crate::until_now("the sign-out in the database again", || several.row("count(*)") == "1");
    assert_eq!(several.refreshes(), refreshes);
    let again = several.exchange.run(&["logout", "scans"], &several.configuration("login"));
    assert!(again.output.contains("was not signed in"), "{}", again.output);
    several.sign_in();
    until_served(&one);
    until_served(&two);
}

/// The same for a computer that is alone.
#[test]
fn a_person_signs_out_of_one_computer() {
    let several = Several::lenient(3600);
    let (alone, exchange) = (several.alone(), &several.exchange);
    exchange.sign_in(&alone);
    until_served(&exchange.proxy(&alone));
    assert_eq!(exchange.tokens().len(), 1);
    let ran = exchange.run(&["logout", "scans"], &alone);
    assert!(ran.code == 0 && ran.output.contains("is signed out"), "{} {}", ran.output, ran.errors);
    assert_eq!(exchange.tokens().len(), 0);
    let proxy = exchange.proxy(&alone);
    proxy.log.wait_for("line about the sign-in", |line| line.contains("has not signed in yet"));
    assert!(!imap_login(&proxy).starts_with("OK"));
    assert!(exchange.run(&["logout", "scans"], &alone).output.contains("was not signed in"));
}

/// The database refuses what it is asked for one mailbox. That one goes by the instance's share, and all others by the
/// database.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_about_one_mailbox_is_not_about_all() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    server.sql(
        &database.name,
        "create function packetboat.refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$; \
         create trigger refuse before insert or update on packetboat.mailbox_session for each row \
         when (new.mailbox = 'broken@contoso.example') execute function packetboat.refuse()",
    );
    let slots = Slots::new(records(&database.section("i")) as _, ID);
    let (_trigger, lifecycle) = lifecycle::begin();
    tokio::spawn(Arc::clone(&slots).run(lifecycle));
    let [broken, good] = ["broken", "good"].map(|name| {
        let mailbox = format!("{name}@contoso.example");
        let key = MailboxKey { upstream: "exchange".to_owned(), mailbox, kind: SessionKind::Reading };
        let mailbox = slots.mailbox(key);
        mailbox.limit(8, 30);
        mailbox
    });
    // The first connection takes longer than a login waits.
    crate::until("a session of the database", async || {
        drop(good.acquire().await);
        slots.numbers().borrowed == 1
    })
    .await;
    let before = slots.numbers().alone;
    for round in 1..=5 {
        let refused = broken.acquire().await.unwrap();
        assert_eq!(slots.numbers().alone, before + round);
        drop(good.acquire().await.unwrap());
        assert_eq!(slots.numbers().alone, before + round, "the other mailbox has the database");
        drop(refused);
    }
}

/// Statements that put a row of 8 MiB into each table.
fn long() -> String {
    let text = "repeat('x', 8388608)";
    let octets = format!("convert_to({text}, 'UTF8')");
    format!(
        "insert into packetboat.sign_in (identity, person, issuer, generation, sealed, access_sealed, access_until, trouble) \
         values ('office', 'anna', '1', 1, {octets}, {octets}, now() + interval '1 hour', {text}); \
         insert into packetboat.candidate (identity, person, issuer, from_generation, sealed) \
         select 'office', 'anna', '1', 1, convert_to(repeat('x', 524288), 'UTF8') from generate_series(1, 20); \
         insert into packetboat.kept values ('ca', {octets}, 1); \
         insert into packetboat.instance values ('{ID}', {text}, {text}, now(), now() + interval '1 hour'); \
         insert into packetboat.seen values ('known', 'i', to_json({text}), true, now(), 1); \
         alter table packetboat.seen drop constraint seen_pkey; drop index packetboat.seen_changed; \
         insert into packetboat.seen values ({text}, 'i', '1', true, now(), 1)"
    )
}

const ID: &str = "11111111-1111-4111-8111-111111111111";
