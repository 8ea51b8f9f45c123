//! A value with an open file, which is dropped on a thread: to close a file, or to release the lock on it, may wait for
//! the server of a network file system.

use super::Pool;

/// A value that a thread of the pool drops.
pub struct Closing<T: Send + 'static> {
    pool: &'static Pool,
    /// None once it is handed over.
    value: Option<T>,
}

impl<T: Send + 'static> Closing<T> {
    /// Has this pool drop the value.
    pub fn on(pool: &'static Pool, value: T) -> Self {
        Self { pool, value: Some(value) }
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.pool.hand_over_cleanup(move || drop(value));
        }
    }
}
