//! A disk that hangs: nothing waits for it for ever, and what it does later counts for nobody.

use super::super::error::PATIENCE;
use super::super::store::Store;
use super::*;

fn refused() -> Outcome {
    Outcome::Refused("451 later".to_owned())
}

fn store(bench: &Bench) -> Arc<Store> {
    bench.spool.queue.lock().store.clone().unwrap()
}

/// Waits for something that a thread does, without letting the paused clock go on.
async fn soon(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it never came to that");
        tokio::task::yield_now().await;
    }
}

/// The device has its answer after the patience. The disk's late success keeps nothing, and sends nothing.
#[tokio::test(start_paused = true)]
async fn a_message_that_the_disk_takes_too_late_is_not_kept() {
    let mut bench = Bench::new();
    let store = store(&bench);
    let hanging = store.hang();
    let mut writer = bench.spool.begin(envelope()).unwrap();
    writer.append(CONTENT.as_bytes());
    let mut other = bench.spool.begin(envelope()).unwrap();
    other.append(CONTENT.as_bytes());
    let kept = tokio::spawn(writer.commit(refused()));
    tokio::task::yield_now().await;
    let begun = Instant::now();
    tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
    assert!(!kept.is_finished());
    tokio::time::advance(Duration::from_millis(2)).await;
    let why = kept.await.unwrap().err().unwrap();
    assert!(matches!(why, Error::Hangs(_)), "{why}");
    assert!(begun.elapsed() < PATIENCE * 2);
    // No other message waits: neither one that has begun, nor a new one.
    let at = Instant::now();
    assert!(matches!(other.commit(refused()).await, Err(Error::Hangs(_))));
    assert!(bench.spool.begin(envelope()).is_none());
    assert_eq!(at.elapsed(), Duration::ZERO);
    let summary = bench.spool.summary();
    assert_eq!((summary.counts.not_kept, summary.octets), (3, 0), "no room is reserved");
    assert_eq!(summary.problem, Some(why.to_string()));
    drop(hanging);
    soon(|| bench.spool.summary().problem.is_none()).await;
    assert_eq!((bench.files(), bench.spool.list()), (Vec::new(), Vec::new()));
    drop(bench.keep(CONTENT, refused()).await);
    bench.run();
    bench.until_empty().await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())], "the message behind the hang, once");
}

/// A message that still streams gives up its copy after the patience, and goes on.
#[tokio::test(start_paused = true)]
async fn a_message_that_streams_gives_up_its_copy() {
    let bench = Bench::new();
    let store = store(&bench);
    let hanging = store.hang();
    let mut writer = bench.spool.begin(envelope()).unwrap();
    let piece = [b'x'; 64 * 1024];
    for _ in 0..9 {
        writer.ready().await;
        writer.append(&piece);
    }
    let ready = tokio::spawn(async move {
        writer.ready().await;
        writer
    });
    tokio::task::yield_now().await;
    assert!(!ready.is_finished(), "the message waits for the disk at first");
    tokio::time::advance(PATIENCE + Duration::from_millis(1)).await;
    let mut writer = ready.await.unwrap();
    assert!(!writer.is_able());
    // The rest passes at once.
    for _ in 0..100 {
        writer.ready().await;
        writer.append(&piece);
    }
    assert!(bench.spool.summary().problem.is_some());
    drop(hanging);
    soon(|| bench.spool.summary().problem.is_none()).await;
    // The copy is lost, but the disk does not hang any more.
    assert!(matches!(writer.commit(refused()).await, Err(Error::Hangs(_))));
    let summary = bench.spool.summary();
    assert_eq!((summary.octets, summary.problem), (0, None));
    soon(|| bench.files().is_empty()).await;
    drop(bench.keep(CONTENT, refused()).await);
}

/// The disk takes the note of the end too late, when the attempt is over: the message was not sent, and is sent once.
#[tokio::test(start_paused = true)]
async fn a_note_that_the_disk_takes_too_late_makes_no_second_copy() {
    let mut bench = Bench::new();
    drop(bench.keep(CONTENT, refused()).await);
    let before = bench.files();
    let store = store(&bench);
    let hanging = store.hang();
    bench.run();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while *bench.server.unreadable.lock() == 0 {
        assert!(std::time::Instant::now() < deadline, "the attempt waits for ever");
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    assert_eq!(bench.spool.list()[0].state, ItemState::Sending, "what hangs is waited for");
    drop(hanging);
    soon(|| bench.spool.list()[0].state == ItemState::Waiting).await;
    assert_eq!(bench.files(), before, "nothing says that it may have been sent");
    let item = bench.spool.list().remove(0);
    assert!(!item.may_exist_twice && item.last.contains("hangs"), "{item:?}");
    bench.until_empty().await;
    assert_eq!(bench.got(), [(envelope(), CONTENT.to_owned())]);
    assert_eq!(bench.spool.summary().counts.repeated, 0);
}

/// A disk that takes other messages is busy, and does not hang.
#[tokio::test(start_paused = true)]
async fn a_message_waits_for_a_busy_disk() {
    let bench = Bench::new();
    let store = store(&bench);
    let busy = store.hang();
    let mut writer = bench.spool.begin(envelope()).unwrap();
    writer.append(CONTENT.as_bytes());
    let kept = tokio::spawn(writer.commit(refused()));
    tokio::task::yield_now().await;
    for _ in 0..3 {
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
        bench.spool.disk_has_answered();
        tokio::time::advance(Duration::from_millis(2)).await;
        assert!(!kept.is_finished() && bench.spool.summary().problem.is_none());
    }
    drop(busy);
    drop(kept.await.unwrap().unwrap());
    assert_eq!(bench.spool.list().len(), 1);
}
