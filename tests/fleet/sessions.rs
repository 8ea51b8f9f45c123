//! Borrowed sessions over a real PostgreSQL, also behind pgbouncer: the rules of the records.

use std::sync::Arc;
use std::time::Duration;

use packetboat::fleet::{
    Borrowed, HeldSession, Instance, InstanceRecords, MailboxKey, MailboxNews, MailboxUse, Postgres, SeenCursor,
    SeenRecord, SeenRecords, SessionKind, SessionRecords, SessionRequest, Wanted,
};
use support::postgresql::{Pgbouncer, Postgresql};

use crate::{migrated, records, until};

const MINUTE: Duration = Duration::from_secs(60);

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn key(mailbox: &str, kind: SessionKind) -> MailboxKey {
    MailboxKey { upstream: "exchange".to_owned(), mailbox: mailbox.to_owned(), kind }
}

fn scans() -> MailboxKey {
    key("scans@contoso.example", SessionKind::Reading)
}

/// Asks for sessions of eight.
async fn borrow(records: &Postgres, instance: &str, count: i16, holds: i16, life: Duration) -> Borrowed {
    let request = SessionRequest { instance, most: 8, count, holds, life };
    records.borrow_sessions(&scans(), request).await.unwrap()
}

/// Forty callers at once over five connections get eight sessions, each of them once, also behind pgbouncer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn forty_callers_at_once_get_eight_sessions() {
    let server = Postgresql::start();
    let bouncer = Pgbouncer::start(&server);
    for port in [server.port, bouncer.port] {
        let database = migrated(&server).await;
        let ways: Vec<_> = (0..5).map(|_| records(&database.section_at(port, "i"))).collect();
        for round in 0..10 {
            let calls = (0..40).map(|number| {
                let way = Arc::clone(&ways[number % 5]);
                tokio::spawn(async move { (id(number), borrow(&way, &id(number), 1, 0, MINUTE).await.sessions) })
            });
            let mut got: Vec<(String, HeldSession)> = Vec::new();
            for call in calls.collect::<Vec<_>>() {
                let (instance, sessions) = call.await.unwrap();
                got.extend(sessions.into_iter().map(|session| (instance.clone(), session)));
            }
            // An instance behind one that waits gets none, although one may be free.
            let mut numbers: Vec<i16> = got.iter().map(|(_, session)| session.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), got.len(), "round {round}: {got:?}");
            assert!((1..=8).contains(&got.len()), "round {round}: {got:?}");
            for (instance, session) in &got {
                ways[0].return_sessions(instance, &[(scans(), *session)]).await.unwrap();
            }
            server.sql(&database.name, "delete from packetboat.mailbox_want");
        }
        let all = borrow(&ways[0], &id(99), 40, 0, MINUTE).await.sessions;
        assert_eq!(all.iter().map(|session| session.number).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_held_until_its_time_is_over_and_not_by_an_earlier_number() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let (one, other) = (id(1), id(2));
    let first = borrow(&records, &one, 8, 0, Duration::from_secs(5)).await.sessions;
    assert_eq!(first.len(), 8);
    let held: Vec<_> = first.iter().map(|session| (scans(), *session)).collect();
    assert!(borrow(&records, &other, 1, 0, MINUTE).await.sessions.is_empty());
    // The time of those that are not renewed ends, and the next one gets them.
    let kept = records.renew_sessions(&one, &held[..3], MINUTE).await.unwrap();
    assert_eq!(kept.len(), 3);
    let mut second = Vec::new();
    until("the time of five ends", async || {
        second.extend(borrow(&records, &other, 8, 0, MINUTE).await.sessions);
        second.len() == 5
    })
    .await;
    assert!(second.iter().all(|session| session.number >= 3 && session.epoch == 2), "{second:?}");
    // The earlier holder neither prolongs nor returns them.
    assert_eq!(records.renew_sessions(&one, &held, MINUTE).await.unwrap().len(), 3);
    records.return_sessions(&one, &held[3..]).await.unwrap();
    assert!(borrow(&records, &id(3), 1, 0, MINUTE).await.sessions.is_empty());
    // Nor does the new holder with a number of before.
    records.return_sessions(&other, &held[3..]).await.unwrap();
    assert!(borrow(&records, &id(3), 1, 0, MINUTE).await.sessions.is_empty());
    records.return_all_sessions(&other).await.unwrap();
    assert_eq!(borrow(&records, &id(3), 8, 0, MINUTE).await.sessions.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_are_news_and_come_in_order() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let instance = Instance { id: id(1), name: "west".to_owned(), version: "9.9".to_owned() };
    records.register(&instance, MINUTE).await.unwrap();
    let held = borrow(&records, &id(1), 8, 0, MINUTE).await.sessions;
    assert!(records.session_news(&id(1)).await.unwrap().is_empty());
    assert!(borrow(&records, &id(2), 2, 1, MINUTE).await.sessions.is_empty());
    assert!(borrow(&records, &id(3), 1, 0, MINUTE).await.sessions.is_empty());
    // A wish is for a second, and this computer may be slow.
    let longer = "update packetboat.mailbox_want set until = clock_timestamp() + interval '9 seconds'";
    server.sql(&database.name, longer);
    let wanted = Some(Wanted { count: 3, holds: 0 });
    let news = |quiet| vec![MailboxNews { key: scans(), wanted, quiet }];
    assert_eq!(records.session_news(&id(1)).await.unwrap(), news(None));
    assert!(records.session_news(&id(2)).await.unwrap().is_empty(), "who holds nothing has no news");
    // The one that holds fewer comes first, although the other one has waited for longer.
    records.return_sessions(&id(1), &[(scans(), held[0])]).await.unwrap();
    server.sql(&database.name, longer);
    assert!(borrow(&records, &id(2), 2, 1, MINUTE).await.sessions.is_empty());
    assert_eq!(borrow(&records, &id(3), 1, 0, MINUTE).await.sessions.len(), 1);
    until("wishes end", async || records.session_news(&id(1)).await.unwrap().is_empty()).await;
    // A throttled mailbox is news as well, and the longer time stands.
    records.throttle(&scans(), MINUTE).await.unwrap();
    records.throttle(&scans(), Duration::from_secs(5)).await.unwrap();
    let quiet = records.session_news(&id(1)).await.unwrap()[0].quiet.unwrap();
    assert!(quiet > Duration::from_secs(50) && quiet <= MINUTE, "{quiet:?}");
    let refused = borrow(&records, &id(2), 1, 0, MINUTE).await;
    assert!(refused.quiet.is_some_and(|quiet| quiet > Duration::from_secs(50)));
    let uses = records.sessions().await.unwrap();
    let [MailboxUse { key, holders, quiet: Some(_) }] = uses.as_slice() else { panic!("{uses:?}") };
    assert_eq!((key, holders.as_slice()), (&scans(), &[(id(3), 1), ("west".to_owned(), 7)][..]));
    assert_eq!(records.count_instances().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pace_is_taken_in_parts() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let key = key("fax@contoso.example", SessionKind::Sending);
    assert_eq!(records.draw_pace(&key, MINUTE).await.unwrap(), Duration::ZERO);
    let ahead = records.draw_pace(&key, MINUTE).await.unwrap();
    assert!(ahead > Duration::from_secs(50) && ahead <= MINUTE, "{ahead:?}");
    records.return_pace(&key, MINUTE * 2).await.unwrap();
    assert_eq!(records.draw_pace(&key, MINUTE).await.unwrap(), Duration::ZERO);
}

/// The clock of the database was ahead, and was set back: what ends later than anybody writes it is over.
#[tokio::test(flavor = "multi_thread")]
async fn times_of_a_clock_that_was_ahead_hold_nobody() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let sql = |statement: &str| server.sql(&database.name, statement);
    assert_eq!(borrow(&records, &id(1), 8, 0, MINUTE).await.sessions.len(), 8);
    assert!(borrow(&records, &id(2), 1, 0, MINUTE).await.sessions.is_empty());
    records.throttle(&scans(), MINUTE).await.unwrap();
    records.draw_pace(&scans(), MINUTE).await.unwrap();
    for set in ["mailbox_session set until", "mailbox_want set until", "mailbox set paced_until"] {
        sql(&format!("update packetboat.{set} = clock_timestamp() + interval '1 day'"));
    }
    sql("update packetboat.mailbox set quiet_until = clock_timestamp() + interval '1 day'");
    let borrowed = borrow(&records, &id(3), 8, 7, MINUTE).await;
    assert_eq!((borrowed.sessions.len(), borrowed.quiet), (8, None));
    assert!(records.session_news(&id(3)).await.unwrap().iter().all(|news| (news.wanted, news.quiet) == (None, None)));
    records.throttle(&scans(), MINUTE).await.unwrap();
    let quiet = records.session_news(&id(3)).await.unwrap()[0].quiet.unwrap();
    assert!(quiet <= MINUTE, "{quiet:?}");
    assert_eq!(records.draw_pace(&scans(), MINUTE).await.unwrap(), Duration::ZERO);
}

/// Another user of the database, who may create functions in it, has none of them called by packetboat.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_others_are_not_called() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let body = "language plpgsql as $$ begin raise exception 'called'; end $$";
    let operator = |name: &str, left: &str, right: &str| {
        format!(
            "create function public.op({left}, {right}) returns double precision {body}; \
             create operator public.{name} (function = public.op, leftarg = {left}, rightarg = {right})"
        )
    };
    let hostile = [
        format!("create function public.make_interval(secs double precision) returns interval {body}"),
        format!("create function public.unnest(text[]) returns setof text {body}"),
        operator("*", "numeric", "integer"),
        operator("*", "integer", "double precision"),
        operator("/", "bigint", "double precision"),
    ];
    hostile.iter().for_each(|statement| drop(server.sql(&database.name, statement)));
    borrow(&records, &id(1), 1, 0, MINUTE).await;
    records.throttle(&scans(), MINUTE).await.unwrap();
    records.draw_pace(&scans(), MINUTE).await.unwrap();
    records.session_news(&id(1)).await.unwrap();
    records.sessions().await.unwrap();
    let seen = SeenRecord { device: "d".to_owned(), json: "{}".to_owned(), has_logged_in: true, age: MINUTE };
    records.put_seen("i", &[seen]).await.unwrap();
    records.seen_behind(&SeenCursor::default(), 10).await.unwrap().unwrap();
    records.remove_seen("i", &["d".to_owned()]).await.unwrap();
    records.seen_behind(&SeenCursor::default(), 10).await.unwrap().unwrap();
    records.forget_seen("d").await.unwrap();
    records.limit_seen(MINUTE, 10).await.unwrap();
}
