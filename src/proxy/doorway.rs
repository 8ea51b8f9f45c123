//! Which door newcomers come to: it can be another one from one connection to the next, and from a greeting to the login.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::door::Door;
use crate::lifecycle::Lifecycle;

/// Of one address.
pub(super) struct Doorway {
    door: RwLock<Arc<Door>>,
    is_closed: AtomicBool,
    pub(super) open: Lifecycle,
}

impl Doorway {
    /// To this door, until the lifecycle ends.
    pub(super) fn new(door: &Arc<Door>, open: Lifecycle) -> Self {
        Self { door: RwLock::new(Arc::clone(door)), is_closed: AtomicBool::new(false), open }
    }

    /// The present one.
    pub(super) fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// To this one from now on.
    pub(super) fn lead_to(&self, door: &Arc<Door>) {
        *self.door.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(door);
    }

    /// No listener has the address any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}
