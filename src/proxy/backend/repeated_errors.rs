//! Errors that a device repeats: Exchange Online throttles the whole mailbox for them, and so the device is held back
//! before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::device::Device;
use crate::failure::RepeatedError;

/// The errors of a mailbox's devices, by the device's name.
#[derive(Default)]
pub(super) struct RepeatedErrors(Mutex<HashMap<String, Errors>>);

/// The same error of one device, again and again.
struct Errors {
    /// The device, as configured when it made the first one.
    device: Arc<Device>,
    error: RepeatedError,
    count: u32,
    held_until: Option<Instant>,
}

impl RepeatedErrors {
    /// Counts an error. Returns whether the device is held back from now on.
    pub(super) fn count(&self, device: &Arc<Device>, error: RepeatedError, hold: Duration) -> bool {
        let mut all = self.0.lock();
        let fresh = || Errors { device: Arc::clone(device), error, count: 0, held_until: None };
        let errors = all.entry(device.name.clone()).or_insert_with(fresh);
        if errors.error != error || !errors.device.is_same_as(device) {
            *errors = fresh();
        }
        errors.count += 1;
        // Another session of the device may have been under way.
        let is_new = errors.count >= MOST && errors.held_until.is_none_or(|until| until <= Instant::now());
        if is_new {
            errors.held_until = Some(Instant::now() + hold);
        }
        is_new
    }

    /// Forgets the errors of a device whose message was taken.
    pub(super) fn forget(&self, device: &Device) {
        self.0.lock().remove(&device.name);
    }

    /// Returns whether the device is held back, unless a reload has changed it.
    pub(super) fn is_held_back(&self, device: &Device) -> bool {
        let all = self.0.lock();
        let errors = all.get(&device.name).filter(|errors| errors.device.is_same_as(device));
        errors.and_then(|errors| errors.held_until).is_some_and(|until| until > Instant::now())
    }
}

/// The number of errors in a row at which a device is held back. Exchange Online's own number is not published; one
/// refusal of a sender has been seen to pass by itself.
const MOST: u32 = 2;
