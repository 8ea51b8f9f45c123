//! The records of seen devices: put by one instance, read by the others from where they were, forgotten and bounded.

use std::time::Duration;

use packetboat::fleet::{Kept, KeptRecords, SeenByInstance, SeenCursor, SeenRecord, SeenRecords};
use support::postgresql::{Pgbouncer, Postgresql};

use crate::{migrated, records};

fn seen(device: &str, json: &str, age: u64) -> SeenRecord {
    let has_logged_in = device.contains("known");
    SeenRecord { device: device.to_owned(), json: json.to_owned(), has_logged_in, age: Duration::from_secs(age) }
}

fn kept(sealed: &[u8], generation: i64) -> Kept {
    Kept { sealed: sealed.to_vec(), generation }
}

/// Everything behind a cursor, in steps of this many records.
async fn behind(records: &dyn SeenRecords, cursor: &SeenCursor, step: u32) -> (Vec<SeenByInstance>, SeenCursor) {
    let (mut all, mut cursor) = (Vec::new(), cursor.clone());
    while let Some((mut more, last)) = records.seen_behind(&cursor, step).await.unwrap() {
        assert!(more.len() <= step as usize && last.changed >= cursor.changed);
        all.append(&mut more);
        cursor = last;
    }
    (all, cursor)
}

fn names(records: &[SeenByInstance]) -> Vec<(&str, &str, Option<&str>)> {
    let mut names: Vec<_> =
        records.iter().map(|one| (one.device.as_str(), one.instance.as_str(), one.json.as_deref())).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_read_on_from_where_they_were() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let bouncer = Pgbouncer::start(&server);
    let direct = records(&database.section("i"));
    let pooled = records(&database.section_at(bouncer.port, "i"));
    // A device may send the octet 0, and quotation marks.
    let strange = r#"{"login":"\u0000'\""}"#;
    direct.put_seen("west", &[seen("a", strange, 3600), seen("b", "{}", 5)]).await.unwrap();
    pooled.put_seen("east", &[seen("a", "{}", 0)]).await.unwrap();
    let (all, cursor) = behind(&*pooled, &SeenCursor::default(), 1).await;
    assert_eq!(names(&all), [("a", "east", Some("{}")), ("a", "west", Some(strange)), ("b", "west", Some("{}"))]);
    let old = all.iter().find(|one| one.json.as_deref() == Some(strange)).unwrap();
    assert!(old.age >= Duration::from_secs(3600) && old.age < Duration::from_secs(3660), "{:?}", old.age);
    assert!(behind(&*pooled, &cursor, 10).await.0.is_empty());
    direct.put_seen("west", &[seen("b", "[1]", 0)]).await.unwrap();
    let (changed, cursor) = behind(&*pooled, &cursor, 10).await;
    assert_eq!(names(&changed), [("b", "west", Some("[1]"))]);
    // Forgotten by one instance, and then by all.
    direct.remove_seen("west", &["b".to_owned(), "never".to_owned()]).await.unwrap();
    let (changed, cursor) = behind(&*pooled, &cursor, 10).await;
    assert_eq!(names(&changed), [("b", "west", None)]);
    pooled.forget_seen("a").await.unwrap();
    let (changed, cursor) = behind(&*direct, &cursor, 10).await;
    assert_eq!(names(&changed), [("a", "east", None), ("a", "west", None)]);
    assert!(changed[0].age < Duration::from_secs(30), "{:?}", changed[0].age);
    // It comes again.
    direct.put_seen("west", &[seen("a", "{}", 0)]).await.unwrap();
    let (changed, cursor) = behind(&*pooled, &cursor, 10).await;
    assert_eq!(names(&changed), [("a", "west", Some("{}"))]);
    let overlap = cursor.earlier(Duration::from_secs(60));
    assert_eq!(behind(&*pooled, &overlap, 10).await.0.len(), 3, "all changes are of the last minute");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_bounded() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    let day = 86_400;
    let strangers: Vec<SeenRecord> = (0..600).map(|n| seen(&format!("stranger {n}"), "{}", n)).collect();
    records.put_seen("west", &strangers).await.unwrap();
    records.put_seen("west", &[seen("known", "{}", 10 * day), seen("known long ago", "{}", 91 * day)]).await.unwrap();
    records.limit_seen(Duration::from_secs(90 * day), 101).await.unwrap();
    let (all, _) = behind(&*records, &SeenCursor::default(), 50).await;
    // The oldest one is removed for its age, and has counted.
    assert_eq!(all.len(), 100);
    let has = |device: &str| all.iter().any(|one| one.device == device);
    assert!(has("known") && has("stranger 98") && !has("known long ago") && !has("stranger 99"));
    records.forget_seen("known").await.unwrap();
    records.limit_seen(Duration::from_secs(90 * day), 1000).await.unwrap();
    let marks = "select count(*) from packetboat.seen where record is null";
    assert_eq!(server.sql(&database.name, marks), "1", "others have an hour to read it");
    server.sql(&database.name, "update packetboat.seen set changed = changed - 3700 * 1000000::bigint");
    records.limit_seen(Duration::from_secs(90 * day), 1000).await.unwrap();
    assert_eq!(server.sql(&database.name, marks), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_first_values_one_is_kept() {
    let server = Postgresql::start();
    let database = migrated(&server).await;
    let records = records(&database.section("i"));
    assert!(records.kept("ca").await.unwrap().is_none());
    let keeping = (0..20_u8).map(|n| {
        let records = std::sync::Arc::clone(&records);
        tokio::spawn(async move { records.keep_first("ca", &kept(&[n], 3)).await.unwrap() })
    });
    let mut count = 0;
    for one in keeping.collect::<Vec<_>>() {
        count += usize::from(one.await.unwrap());
    }
    assert_eq!(count, 1);
    let first = records.kept("ca").await.unwrap().unwrap();
    assert_eq!(first.generation, 3);
    assert!(records.replace_kept("ca", 3, &kept(b"new", 4)).await.unwrap());
    assert!(!records.replace_kept("ca", 3, &kept(b"late", 4)).await.unwrap());
    assert_eq!(records.kept("ca").await.unwrap().unwrap(), kept(b"new", 4));
}
