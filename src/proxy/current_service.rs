//! Which service newcomers come to: it can be another one from one connection to the next, and from a greeting to the login.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::service::Service;
use crate::lifecycle::Lifecycle;

/// Of one address.
pub(super) struct CurrentService {
    service: RwLock<Arc<Service>>,
    is_closed: AtomicBool,
    pub(super) open: Lifecycle,
}

impl CurrentService {
    /// To this service, until the lifecycle ends.
    pub(super) fn new(service: &Arc<Service>, open: Lifecycle) -> Self {
        Self { service: RwLock::new(Arc::clone(service)), is_closed: AtomicBool::new(false), open }
    }

    /// The present one.
    pub(super) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// To this one from now on.
    pub(super) fn replace(&self, service: &Arc<Service>) {
        *self.service.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(service);
    }

    /// No listener has the address any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}
