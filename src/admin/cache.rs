//! An answer is made once for all clients that ask for it at the same time, and sent to them from one copy.
//!
//! Readers of the page are strangers, and what they ask for costs processor time and memory. One answer of a kind is
//! made at a time, whoever asks. It then counts for ten times as long as it took, so that readers get a tenth of a core
//! at most. A slow reader holds the copy that it reads: where an older copy is still being sent as well, no third one
//! is made, and who asks gets the newer of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::transport::http::server::{BodyWatch, Response};

/// The cache of one kind of answer.
#[derive(Default)]
pub(super) struct Cache(Arc<Mutex<CacheState>>);

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
}

impl Cache {
    /// The fresh answer, made now if there is none.
    pub(super) async fn get<F>(&self, make: impl FnOnce() -> F) -> Response
    where
        F: Future<Output = Response> + Send + 'static,
    {
        // The first caller makes the body, and all others wait here.
        let mut state = Arc::clone(&self.0).lock_owned().await;
        if let Some(said) = state.current() {
            return said;
        }
        let (making, all) = (make(), Arc::clone(&self.0));
        // A task of its own finishes the body even if its caller leaves.
        let made = tokio::spawn(async move {
            let begun = Instant::now();
            let said = making.await;
            let counts = (begun.elapsed() * SHARE).clamp(SHORTEST, LONGEST);
            state.put(CachedAnswer { said: said.clone(), until: Instant::now() + counts });
            drop(state);
            tokio::spawn(forget(all, counts));
            said
        });
        made.await.unwrap_or_else(|_| Response::text(500, "an internal error, which the log names\n"))
    }
}

/// Drops an answer that no client asks for any more.
async fn forget(state: Arc<Mutex<CacheState>>, after: Duration) {
    sleep(after).await;
    let mut state = state.lock().await;
    if state.newest.as_ref().is_some_and(|made| !made.is_fresh() && !made.said.body.is_held_elsewhere()) {
        state.newest = None;
    }
}

impl CacheState {
    fn current(&self) -> Option<Response> {
        let newest = self.newest.as_ref()?;
        let is_older_read = self.older.as_ref().is_some_and(|older| !older.is_done());
        let has_no_room = is_older_read && newest.said.body.is_held_elsewhere();
        (newest.is_fresh() || has_no_room).then(|| newest.said.clone())
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
    fn is_fresh(&self) -> bool {
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        assert!(cache.0.lock().await.newest.is_none(), "nobody has asked for it since");
    }
}
