//! Memory of logins that went well: verified passwords by keyed hash, and the sources that devices have logged in from.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Device;
use crate::crypto::{KeyedHash, Tag};
use crate::secret::Secret;
use crate::source::Source;

/// What is remembered of all devices.
pub(super) struct Memory {
    hash: Arc<KeyedHash>,
    /// How long a password is remembered after its last use.
    time: Duration,
    known: Mutex<Known>,
}

/// By device.
#[derive(Default)]
struct Known {
    /// Tags that verified passwords left behind.
    passwords: HashMap<usize, Vec<(Tag, Instant)>>,
    /// Where devices have logged in from.
    sources: HashSet<(usize, Source)>,
}

impl Memory {
    /// Of these devices; with what is known from before of those that have the same passwords.
    pub(super) fn new(
        time: Duration,
        devices: &[Device],
        before: Option<(&Memory, &[Device])>,
    ) -> Result<Self, String> {
        let Some((before, old)) = before else {
            let hash = Arc::new(KeyedHash::new().map_err(|refused| refused.to_string())?);
            return Ok(Self { hash, time, known: Mutex::default() });
        };
        let same = |index: &usize| {
            let old = old.get(*index)?;
            devices.iter().position(|new| new.name == old.name && new.written == old.written)
        };
        let known = before.known();
        let passwords = known.passwords.iter().filter_map(|(old, tags)| Some((same(old)?, tags.clone())));
        let sources = known.sources.iter().filter_map(|(old, source)| Some((same(old)?, *source)));
        let known = Mutex::new(Known { passwords: passwords.collect(), sources: sources.collect() });
        Ok(Self { hash: Arc::clone(&before.hash), time, known })
    }

    /// Whether this password of the device was verified lately. It is remembered for as long as it is used.
    pub(super) fn has(&self, device: &Device, index: usize, password: &Secret) -> bool {
        let tag = self.tag(device, password);
        let now = Instant::now();
        let mut known = self.known();
        let Some(tags) = known.passwords.get_mut(&index) else { return false };
        tags.retain(|(_, until)| *until > now);
        let Some((_, until)) = tags.iter_mut().find(|(known, _)| known.is(&tag)) else { return false };
        *until = now + self.time;
        true
    }

    /// Whether the device has logged in from there before, so that what others do with its login does not slow it down.
    pub(super) fn is_familiar(&self, index: usize, source: Source) -> bool {
        self.known().sources.contains(&(index, source))
    }

    /// The device has logged in so, from there.
    pub(super) fn keep(&self, device: &Device, index: usize, password: &Secret, source: Source) {
        let tag = self.tag(device, password);
        let mut known = self.known();
        if known.sources.len() >= FAMILIAR {
            known.sources.clear();
        }
        known.sources.insert((index, source));
        let tags = known.passwords.entry(index).or_default();
        tags.retain(|(known, _)| !known.is(&tag));
        tags.push((tag, Instant::now() + self.time));
    }

    fn tag(&self, device: &Device, password: &Secret) -> Tag {
        self.hash.of(&[device.name.as_bytes(), password.expose()])
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets passwords, and no sources.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.known().passwords.clear();
    }
}

/// Pairs of a device and a source.
const FAMILIAR: usize = 10_000;
