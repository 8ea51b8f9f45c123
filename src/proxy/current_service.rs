//! The service behind a bound address: a reload swaps it, from one connection to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::service::Service;
use crate::lifecycle::Lifecycle;

/// The present service of one address.
pub(super) struct CurrentService {
    service: ArcSwap<Service>,
    is_closed: AtomicBool,
    /// Drains when the address is closed.
    pub(super) open: Lifecycle,
}

impl CurrentService {
    /// Begins with this service; the address is open until the lifecycle drains.
    pub(super) fn new(service: &Arc<Service>, open: Lifecycle) -> Self {
        Self { service: ArcSwap::new(Arc::clone(service)), is_closed: AtomicBool::new(false), open }
    }

    /// The present service.
    pub(super) fn load(&self) -> Arc<Service> {
        self.service.load_full()
    }

    /// Puts another service in the present one's place, for logins and connections from now on.
    pub(super) fn replace(&self, service: &Arc<Service>) {
        self.service.store(Arc::clone(service));
    }

    /// Marks the address as one that no listener has any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    /// True if no listener has the address any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}
