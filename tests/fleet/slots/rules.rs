//! One rule each: borrowing, giving back, the share, fairness, the mail server's throttling, and the pace.

use packetboat::fleet::{LOGIN_PATIENCE, SESSION_LIFE};
use support::simulated_records::Statement;
use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_login_that_finds_a_free_session_asks_nobody() {
    let database = SimulatedRecords::new(3);
    let instance = Instance::start(&database, "west");
    drop(instance.login().await.unwrap());
    let before = database.statements();
    // The first session of a mailbox: one statement that finds no rows, one that adds them, and the first one again.
    assert_eq!(before.of(Statement::Borrow), 3);
    for _ in 0..1000 {
        drop(instance.login().await.unwrap());
    }
    assert_eq!(database.statements(), before);
    // A device that comes each two minutes finds its session as well.
    for _ in 0..30 {
        sleep(120 * SECOND).await;
        drop(instance.login().await.unwrap());
    }
    assert_eq!(database.statements().of(Statement::Borrow), 3);
    assert_eq!(instance.slots.numbers().waited, 1);
}

#[tokio::test(start_paused = true)]
async fn eight_is_the_number_of_all_instances_together() {
    let database = SimulatedRecords::new(3);
    let instances = ["west", "east", "north"].map(|name| Instance::start(&database, name));
    let mut sessions = Vec::new();
    for number in 0..MOST {
        sessions.push(instances[number % 3].login().await.unwrap());
    }
    let begun = Instant::now();
    for instance in &instances {
        assert!(instance.login().await.is_none());
    }
    assert_eq!(begun.elapsed(), 3 * QUEUE);
    // Hours later they are still held, because they are in use.
    sleep(3600 * SECOND).await;
    assert!(instances[0].login().await.is_none());
    assert_eq!(database.borrowed(), MOST);
    drop(sessions);
    sleep(300 * SECOND).await;
    assert_eq!(database.borrowed(), 0, "nobody uses them");
}

/// The session of another instance is there within a second and two polls, free or in use by a device that leaves.
#[tokio::test(start_paused = true)]
async fn a_device_that_waits_gets_what_another_instance_frees() {
    let database = SimulatedRecords::new(2);
    let [west, east] = ["west", "east"].map(|name| Instance::start(&database, name));
    let mut sessions = Vec::new();
    for _ in 0..MOST {
        sessions.push(west.login().await.unwrap());
    }
    sessions.truncate(7);
    let begun = Instant::now();
    let first = east.login().await.unwrap();
    assert!(begun.elapsed() <= SECOND * 3 / 2, "{:?}", begun.elapsed());
    let waits = tokio::spawn({
        let mailbox = Arc::clone(&east.mailbox);
        async move { (timeout(QUEUE, mailbox.acquire()).await.unwrap().unwrap(), Instant::now()) }
    });
    sleep(5 * SECOND).await;
    let freed = Instant::now();
    drop(sessions.pop());
    let (second, got) = waits.await.unwrap();
    assert!(got - freed <= SECOND / 2, "{:?}", got - freed);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_killed_instance_blocks_its_sessions_for_a_minute_and_a_stopped_one_not_at_all() {
    let database = SimulatedRecords::new(2);
    let [west, east, north] = ["west", "east", "north"].map(|name| Instance::start(&database, name));
    for _ in 0..MOST {
        std::mem::forget(west.login().await.unwrap());
    }
    west.kill();
    let killed = Instant::now();
    let mut sessions = Vec::new();
    while sessions.len() < MOST {
        sessions.extend(east.login().await);
    }
    assert!(killed.elapsed() <= SESSION_LIFE + SECOND, "{:?}", killed.elapsed());
    drop(sessions);
    east.stop();
    sleep(SECOND).await;
    assert_eq!(database.borrowed(), 0);
    assert!(timeout(LOGIN_PATIENCE, north.mailbox.acquire()).await.is_ok());
}

/// With three instances the share of eight is two. The first login waits for 300 ms at most, the others not at all.
#[tokio::test(start_paused = true)]
async fn without_the_database_an_instance_has_its_share() {
    let database = SimulatedRecords::new(3);
    let instance = Instance::start(&database, "west");
    drop(instance.login().await.unwrap());
    sleep(600 * SECOND).await;
    instance.way.delay(3600 * SECOND, Duration::ZERO);
    let begun = Instant::now();
    let first = instance.login().await.unwrap();
    assert_eq!(begun.elapsed(), LOGIN_PATIENCE);
    instance.way.delay(Duration::ZERO, Duration::ZERO);
    instance.way.cut(true);
    let second = instance.login().await.unwrap();
    assert!(instance.login().await.is_none(), "two is the share");
    assert_eq!(instance.slots.numbers().alone, 2);
    // They are covered once the database is back, and a third one is there.
    instance.way.cut(false);
    sleep(5 * SECOND).await;
    assert_eq!(database.borrowed(), 2);
    let third = instance.login().await.unwrap();
    assert_eq!((database.borrowed(), instance.slots.numbers().alone), (3, 2));
    drop((first, second, third));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_never_saw_the_database_serves() {
    let database = SimulatedRecords::new(3);
    let instance = Instance::start(&database, "west");
    instance.way.cut(true);
    sleep(2 * SECOND).await;
    let begun = Instant::now();
    let _sessions = [instance.login().await.unwrap(), instance.login().await.unwrap()];
    assert_eq!(begun.elapsed(), Duration::ZERO, "who knows that the database is away does not wait for it");
}

/// A crash of PostgreSQL empties the table. Who held sessions learns it at the next renewal, and borrows anew.
#[tokio::test(start_paused = true)]
async fn lost_tables_are_written_again() {
    let database = SimulatedRecords::new(2);
    let instance = Instance::start(&database, "west");
    let sessions = [instance.login().await.unwrap(), instance.login().await.unwrap()];
    database.crash();
    assert_eq!(database.borrowed(), 0);
    sleep(25 * SECOND).await;
    assert_eq!(database.borrowed(), 2);
    drop(sessions);
}

/// One instance has devices in a queue all the time; a device of another one waits for three seconds at most.
#[tokio::test(start_paused = true)]
async fn a_busy_instance_starves_nobody() {
    let database = SimulatedRecords::new(2);
    let [west, east] = ["west", "east"].map(|name| Arc::new(Instance::start(&database, name)));
    let busy = Arc::new(AtomicUsize::new(0));
    for _ in 0..30 {
        let (west, busy) = (Arc::clone(&west), Arc::clone(&busy));
        tokio::spawn(async move {
            loop {
                if let Some(_session) = west.login().await {
                    busy.fetch_add(1, Ordering::Relaxed);
                    sleep(SECOND).await;
                }
            }
        });
    }
    sleep(30 * SECOND).await;
    for _ in 0..20 {
        let begun = Instant::now();
        let session = east.login().await.expect("the other instance gives way");
        assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
        sleep(SECOND).await;
        drop(session);
        sleep(200 * SECOND).await;
    }
    let before = busy.load(Ordering::Relaxed);
    sleep(60 * SECOND).await;
    assert!(busy.load(Ordering::Relaxed) - before > 400, "the other one has all eight again");
}

/// Twelve instances want eight sessions all the time: each gets some.
#[tokio::test(start_paused = true)]
async fn more_instances_than_sessions_take_turns() {
    let database = SimulatedRecords::new(12);
    let instances: Vec<_> = (0..12).map(|number| Arc::new(Instance::start(&database, &number.to_string()))).collect();
    let counts: Vec<_> = (0..12).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    for (instance, count) in instances.iter().zip(&counts) {
        for _ in 0..3 {
            let (instance, count) = (Arc::clone(instance), Arc::clone(count));
            tokio::spawn(async move {
                loop {
                    if let Some(_session) = instance.login().await {
                        count.fetch_add(1, Ordering::Relaxed);
                        sleep(SECOND).await;
                    }
                }
            });
        }
    }
    sleep(600 * SECOND).await;
    let counts: Vec<_> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let all: usize = counts.iter().sum();
    assert!(counts.iter().all(|count| *count > all / 12 / 4), "{counts:?}");
    assert!(all > 600 * MOST / 2, "handing over costs {counts:?}");
}

/// The mail server throttles the mailbox at one instance: the others know it within a second, or with their next session.
#[tokio::test(start_paused = true)]
async fn a_throttled_mailbox_is_left_alone_by_all() {
    let database = SimulatedRecords::new(3);
    let [west, east, north] = ["west", "east", "north"].map(|name| Instance::start(&database, name));
    drop((west.login().await, east.login().await));
    west.mailbox.leave_alone(60 * SECOND);
    sleep(SECOND * 3 / 2).await;
    for instance in [&west, &east, &north] {
        let throttled = instance.mailbox.acquire().await.err();
        assert!(throttled.is_some_and(|Throttled(left)| left > 57 * SECOND && left <= 60 * SECOND), "{throttled:?}");
    }
    sleep(60 * SECOND).await;
    for instance in [&west, &east, &north] {
        assert!(instance.mailbox.acquire().await.is_ok());
    }
}

/// Three instances send as fast as they may: as many messages in all as one instance, and a part of each more at most.
#[tokio::test(start_paused = true)]
async fn thirty_messages_a_minute_are_the_number_of_all_instances() {
    let database = SimulatedRecords::new(3);
    let sent = Arc::new(AtomicUsize::new(0));
    let instances = ["west", "east", "north"].map(|name| Instance::start_for(&database, name, SessionKind::Sending));
    for instance in &instances {
        let (mailbox, sent) = (Arc::clone(&instance.mailbox), Arc::clone(&sent));
        tokio::spawn(async move {
            let _session = mailbox.acquire().await.unwrap();
            loop {
                // The mail server takes a message in a tenth of a second.
                sleep(SECOND / 10).await;
                sent.fetch_add(1, Ordering::Relaxed);
                sleep(mailbox.message_sent()).await;
            }
        });
    }
    sleep(60 * SECOND).await;
    let first = sent.load(Ordering::Relaxed);
    assert!((45..=60 + 3 * 6).contains(&first), "{first} messages: thirty at once, and thirty in the minute");
    sleep(600 * SECOND).await;
    let more = sent.load(Ordering::Relaxed) - first;
    assert!((270..=300 + 3 * 6).contains(&more), "{more}");
    let statements = database.statements().of(Statement::Mailbox);
    assert!(statements < 200, "{statements} statements for {} messages", first + more);
}
