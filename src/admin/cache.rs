//! An answer is made once for all clients that ask for it at the same time, and sent to them from one copy.
//!
//! Readers of the page are strangers, and what they ask for costs processor time and memory. One answer of a kind is
//! made at a time, whoever asks. It then counts for ten times as long as it took, so that readers get a tenth of a core
//! at most. A change by an administrator ends that at once: who asks after the change sees it. A slow reader holds the
//! copy that it reads: where an older copy is still being sent as well, no third one is made, and who asks gets the newer
//! of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::transport::http::server::{BodyWatch, Response};

/// The cache of one kind of answer.
#[derive(Default)]
pub(super) struct Cache {
    state: Arc<Mutex<CacheState>>,
    /// The number of changes since the start.
    changes: AtomicU64,
}

#[derive(Default)]
struct CacheState {
    newest: Option<CachedAnswer>,
    /// The copy before, while a client still reads it.
    older: Option<BodyWatch>,
}

struct CachedAnswer {
    said: Response,
    /// The answer is fresh until then.
    until: Instant,
    /// The number of changes when it was begun. After another one it is not fresh.
    changes: u64,
}

impl Cache {
    /// The fresh answer, made now if there is none.
    pub(super) async fn get<F>(&self, make: impl FnOnce() -> F) -> Response
    where
        F: Future<Output = Response> + Send + 'static,
    {
        // The first caller makes the body, and all others wait here.
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(said) = state.current(changes) {
            return said;
        }
        let (making, all) = (make(), Arc::clone(&self.state));
        // A task of its own finishes the body even if its caller leaves.
        let made = tokio::spawn(async move {
            let begun = Instant::now();
            let said = making.await;
            let counts = (begun.elapsed() * SHARE).clamp(SHORTEST, LONGEST);
            state.put(CachedAnswer { said: said.clone(), until: Instant::now() + counts, changes });
            drop(state);
            tokio::spawn(forget(all, counts));
            said
        });
        made.await.unwrap_or_else(|_| Response::text(500, "an internal error, which the log names\n"))
    }

    /// Notes a change: an answer that was begun before is given to nobody who asks from here on, unless slow readers hold two
    /// copies.
    pub(super) fn outdate(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// Drops an answer that no client asks for any more.
async fn forget(state: Arc<Mutex<CacheState>>, after: Duration) {
    sleep(after).await;
    let mut state = state.lock().await;
    if state.newest.as_ref().is_some_and(|made| !made.is_young() && !made.said.body.is_held_elsewhere()) {
        state.newest = None;
    }
}

impl CacheState {
    fn current(&self, changes: u64) -> Option<Response> {
        let newest = self.newest.as_ref()?;
        let is_older_read = self.older.as_ref().is_some_and(|older| !older.is_done());
        let has_no_room = is_older_read && newest.said.body.is_held_elsewhere();
        let is_fresh = newest.is_young() && newest.changes == changes;
        (is_fresh || has_no_room).then(|| newest.said.clone())
    }

    fn put(&mut self, made: CachedAnswer) {
        if let Some(before) = self.newest.replace(made)
            && before.said.body.is_held_elsewhere()
        {
            self.older = Some(before.said.body.watch());
        }
    }
}

impl CachedAnswer {
    fn is_young(&self) -> bool {
        Instant::now() < self.until
    }
}

/// An answer is fresh for so many times as long as it took to make.
const SHARE: u32 = 10;
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static MADE: AtomicUsize = AtomicUsize::new(0);

    async fn make() -> Response {
        let number = MADE.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(Duration::from_millis(200)).await;
        Response::text(200, number.to_string())
    }

    fn number(said: &Response) -> &[u8] {
        said.body.as_ref()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_made_for_all_and_slow_readers_hold_two_at_most() {
        let cache = Arc::new(Cache::default());
        let ask = || {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.get(make).await })
        };
        // The first leaves before it is made.
        let first = ask();
        tokio::task::yield_now().await;
        let others: Vec<_> = (0..100).map(|_| ask()).collect();
        first.abort();
        for other in others {
            assert_eq!(number(&other.await.unwrap()), b"1");
        }
        sleep(LONGEST).await;
        let slow = ask().await.unwrap();
        assert_eq!(number(&slow), b"2");
        sleep(LONGEST).await;
        let slow_too = ask().await.unwrap();
        assert_eq!(number(&slow_too), b"3");
        sleep(LONGEST * 10).await;
        assert_eq!(number(&ask().await.unwrap()), b"3", "two copies are being read");
        drop(slow);
        assert_eq!(number(&ask().await.unwrap()), b"4");
        drop(slow_too);
        sleep(LONGEST * 2).await;
        assert!(cache.state.lock().await.newest.is_none(), "nobody has asked for it since");
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_from_before_a_change_is_given_after_it() {
        let (cache, state) = (Cache::default(), Arc::new(AtomicUsize::new(1)));
        let make = || {
            let state = Arc::clone(&state);
            async move {
                let seen = state.load(Ordering::Relaxed);
                sleep(LONGEST).await;
                Response::text(200, seen.to_string())
            }
        };
        let change = |to: usize| {
            state.store(to, Ordering::Relaxed);
            cache.outdate();
        };
        assert_eq!(number(&cache.get(make).await), b"1");
        change(2);
        assert_eq!(number(&cache.get(make).await), b"2");
        assert_eq!(number(&cache.get(make).await), b"2");
        // The change comes while the answer is made.
        sleep(LONGEST * 2).await;
        let (before, after) = tokio::join!(cache.get(make), async {
            sleep(LONGEST / 2).await;
            change(3);
            cache.get(make).await
        });
        assert_eq!((number(&before), number(&after)), (&b"2"[..], &b"3"[..]));
    }
}
