//! One refresh of a sign-in at a time, by lease, epoch and generation.

use std::sync::Arc;
use std::time::Duration;

use packetboat::fleet::{Lease, Postgres, Renewal, SealedAccess, SignInKey, SignInRecords};
use support::postgresql::{Pgbouncer, Postgresql};
use tokio::task::JoinSet;

use crate::{migrated, records, until};

const LIFE: Duration = Duration::from_secs(45);
const ONE: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";

fn key(person: &str) -> SignInKey {
    let [identity, issuer] = ["office", "0123456789ab"].map(str::to_owned);
    SignInKey { identity, person: person.to_owned(), issuer }
}

fn access(octets: &[u8]) -> SealedAccess {
    SealedAccess { sealed: octets.to_vec(), left: Duration::from_secs(3600) }
}

async fn commit(records: &Postgres, key: &SignInKey, lease: &Lease, sealed: &[u8]) -> bool {
    let access = access(b"access");
    records.commit(key, lease, Renewal { sealed, access: &access }).await.unwrap()
}

/// Forty callers with connections of their own, ten times over: each time one of them gets the lease.
async fn forty_callers(sections: impl Fn(usize) -> String) {
    let callers: Vec<Arc<Postgres>> = (0..40).map(|number| records(&sections(number))).collect();
    let key = key("a@contoso.example");
    assert!(callers[0].put(&key, None, 1, b"first").await.unwrap());
    for round in 1..=10 {
        let mut beginning = JoinSet::new();
        for caller in &callers {
            let (caller, key) = (Arc::clone(caller), key.clone());
            beginning.spawn(async move {
                caller.connect().await.unwrap();
                caller.begin(&key, ONE, LIFE).await.unwrap()
            });
        }
        let leases: Vec<Lease> = beginning.join_all().await.into_iter().flatten().collect();
        assert_eq!(leases.len(), 1, "{leases:?}");
        assert_eq!((leases[0].epoch, leases[0].generation, leases[0].is_perhaps_spent), (round, round, false));
        assert!(commit(&callers[0], &key, &leases[0], b"next").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_callers_one_gets_the_lease() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    forty_callers(|number| database.section(&format!("i{number}"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_forty_callers_behind_pgbouncer_one_gets_the_lease() {
    let server = Postgresql::start();
    let pgbouncer = Pgbouncer::start(&server);
    let database = server.database();
    records(&database.section_at(pgbouncer.port, "maker")).migrate().await.unwrap();
    forty_callers(|number| database.section_at(pgbouncer.port, &format!("i{number}"))).await;
    let connections = "select count(*) from pg_stat_activity where usename = 'packetboat'";
    let count: usize = server.sql("postgres", connections).parse().unwrap();
    assert!((1..=2).contains(&count), "{count} connections for 40 callers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_brings_the_next_generation_with_its_access_token() {
    let server = Postgresql::start();
    let records = records(&migrated(&server).await.section("i"));
    let key = key("a");
    assert_eq!(records.sign_in(&key).await.unwrap(), None);
    assert!(records.begin(&key, ONE, LIFE).await.unwrap().is_none(), "nobody has signed in");
    assert!(records.put(&key, None, 1, b"first").await.unwrap());
    assert!(!records.put(&key, None, 1, b"again").await.unwrap(), "there is one already");
    let lease = records.begin(&key, ONE, LIFE).await.unwrap().unwrap();
    assert_eq!((lease.sealed.as_slice(), lease.access.as_ref()), (b"first".as_slice(), None));
    let held = records.sign_in(&key).await.unwrap().unwrap();
    let (holder, left) = held.lease.unwrap();
    assert!(holder == ONE && left <= LIFE && left > LIFE / 2, "{holder} {left:?}");
    assert_eq!((held.epoch, held.spending), (1, Some(1)));
    assert!(records.begin(&key, OTHER, LIFE).await.unwrap().is_none(), "the lease is held");
    assert!(commit(&records, &key, &lease, b"second").await);
    let now = records.sign_in(&key).await.unwrap().unwrap();
    assert_eq!((now.generation, now.sealed.as_slice(), now.spending, now.lease), (2, b"second".as_slice(), None, None));
    let found = now.access.unwrap();
    assert_eq!(found.sealed, b"access");
    assert!(found.left <= Duration::from_secs(3600) && found.left > Duration::from_secs(3500), "{:?}", found.left);
    assert!(!commit(&records, &key, &lease, b"twice").await, "a lease is good for one commit");
    assert_eq!(records.sign_ins().await.unwrap(), [key]);
}

/// The holder's lease ends while it sleeps: whoever takes over fences it, and its answer becomes a candidate.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_wakes_up_late_is_fenced() {
    let server = Postgresql::start();
    let records = records(&migrated(&server).await.section("i"));
    let key = key("a");
    records.put(&key, None, 1, b"first").await.unwrap();
    let late = records.begin(&key, ONE, Duration::from_millis(200)).await.unwrap().unwrap();
    let mut next = None;
    until("the lease ends", async || {
        next = records.begin(&key, OTHER, LIFE).await.unwrap();
        next.is_some()
    })
    .await;
    let next = next.unwrap();
    assert!(next.is_perhaps_spent && !late.is_perhaps_spent);
    assert_eq!((next.epoch, next.generation), (late.epoch + 1, late.generation));
    assert!(!commit(&records, &key, &late, b"late").await);
    assert!(!records.give_back(&key, &late).await.unwrap() && !records.refuse(&key, &late, LIFE, "no").await.unwrap());
    records.add_candidate(&key, late.generation, b"late").await.unwrap();
    assert!(commit(&records, &key, &next, b"second").await);
    assert!(!commit(&records, &key, &late, b"late").await);
    let candidates = records.candidates(&key).await.unwrap();
    assert_eq!(
        (candidates.len(), candidates[0].from_generation, candidates[0].sealed.as_slice()),
        (1, 1, &b"late"[..])
    );
    records.remove_candidates(&key, candidates[0].id).await.unwrap();
    assert_eq!(records.candidates(&key).await.unwrap(), []);
}

/// `packetboat login` counts, whoever is about to renew.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_sign_in_fences_the_holder() {
    let server = Postgresql::start();
    let records = records(&migrated(&server).await.section("i"));
    let key = key("a");
    records.put(&key, None, 1, b"first").await.unwrap();
    let lease = records.begin(&key, ONE, LIFE).await.unwrap().unwrap();
    assert!(!records.put(&key, Some(7), 8, b"new").await.unwrap(), "the generation is another one");
    assert!(records.put(&key, Some(1), 2, b"new").await.unwrap());
    assert!(!commit(&records, &key, &lease, b"old").await);
    let now = records.sign_in(&key).await.unwrap().unwrap();
    assert_eq!((now.generation, now.sealed.as_slice(), now.spending), (2, b"new".as_slice(), None));
    assert!(records.begin(&key, OTHER, LIFE).await.unwrap().is_some(), "the new one can be renewed at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_makes_all_instances_wait() {
    let server = Postgresql::start();
    let records = records(&migrated(&server).await.section("i"));
    let key = key("a");
    records.put(&key, None, 1, b"first").await.unwrap();
    let lease = records.begin(&key, ONE, LIFE).await.unwrap().unwrap();
    assert!(records.refuse(&key, &lease, Duration::from_secs(60), "the account is locked").await.unwrap());
    let now = records.sign_in(&key).await.unwrap().unwrap();
    assert_eq!((now.trouble.as_deref(), now.lease, now.spending), (Some("the account is locked"), None, None));
    assert!(now.pause.unwrap() > Duration::from_secs(50));
    assert!(records.begin(&key, OTHER, LIFE).await.unwrap().is_none());
    assert!(records.put(&key, Some(1), 2, b"new").await.unwrap());
    let now = records.sign_in(&key).await.unwrap().unwrap();
    assert_eq!((now.trouble, now.pause), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_free_and_nothing_is_spent() {
    let server = Postgresql::start();
    let records = records(&migrated(&server).await.section("i"));
    let key = key("a");
    records.put(&key, None, 1, b"first").await.unwrap();
    let lease = records.begin(&key, ONE, LIFE).await.unwrap().unwrap();
    assert!(records.give_back(&key, &lease).await.unwrap());
    let again = records.begin(&key, OTHER, Duration::from_millis(1)).await.unwrap().unwrap();
    assert!(!again.is_perhaps_spent);
    // This holder ends without a word: what it may have spent stays known when the next one gives back.
    let mut next = None;
    until("the lease ends", async || {
        next = records.begin(&key, ONE, LIFE).await.unwrap();
        next.is_some()
    })
    .await;
    let next = next.unwrap();
    assert!(next.is_perhaps_spent && records.give_back(&key, &next).await.unwrap());
    assert!(records.begin(&key, OTHER, LIFE).await.unwrap().unwrap().is_perhaps_spent);
}

/// The clock of the database was ahead, and was set back: a lease or a pause of that time holds nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_clock_that_was_ahead_is_over() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let key = key("a@contoso.example");
    assert!(records.put(&key, None, 1, b"first").await.unwrap());
    records.begin(&key, ONE, LIFE).await.unwrap().unwrap();
    for column in ["lease_until", "not_before"] {
        let statement = format!("update packetboat.sign_in set {column} = clock_timestamp() + interval '1 day'");
        server.sql(&database.name, &statement);
    }
    let row = records.sign_in(&key).await.unwrap().unwrap();
    assert_eq!((row.lease, row.pause), (None, None));
    let lease = records.begin(&key, OTHER, LIFE).await.unwrap().unwrap();
    assert!(lease.is_perhaps_spent);
    assert!(records.begin(&key, ONE, LIFE).await.unwrap().is_none(), "a lease of now holds");
}
