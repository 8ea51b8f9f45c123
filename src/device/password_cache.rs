//! The cache of verified passwords, by keyed hash: a device that polls costs next to nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::Device;
use crate::crypto::{KeyedHash, Tag, Unavailable};
use crate::secret::Secret;

/// The verified passwords of all devices.
pub(super) struct PasswordCache {
    hash: Arc<KeyedHash>,
    /// The time for which a password is remembered after its last use.
    time: Duration,
    /// The verified passwords by the index of the device.
    passwords: Mutex<HashMap<usize, Vec<Remembered>>>,
}

/// A password that was verified.
#[derive(Clone)]
struct Remembered {
    tag: Tag,
    /// The index of the device's hash that it has.
    hash: usize,
    until: Instant,
}

impl PasswordCache {
    /// A cache for these devices, with the verified passwords of devices that have not changed since `before`.
    pub(super) fn new(
        time: Duration,
        devices: &[Arc<Device>],
        before: Option<(&PasswordCache, &[Arc<Device>])>,
    ) -> Result<Self, Unavailable> {
        let Some((before, old)) = before else {
            let hash = Arc::new(KeyedHash::new()?);
            return Ok(Self { hash, time, passwords: Mutex::default() });
        };
        let same = |index: &usize| {
            let old = old.get(*index)?;
            devices.iter().position(|new| new.name == old.name && new.written == old.written)
        };
        let known = before.passwords();
        let passwords = known.iter().filter_map(|(old, tags)| Some((same(old)?, tags.clone()))).collect();
        Ok(Self { hash: Arc::clone(&before.hash), time, passwords: Mutex::new(passwords) })
    }

    /// Returns the hash of this password, where it was verified lately. It is remembered for as long as it is used.
    pub(super) fn has(&self, device: &Device, index: usize, password: &Secret) -> Option<usize> {
        let tag = self.tag(device, password);
        let now = Instant::now();
        let mut known = self.passwords();
        let passwords = known.get_mut(&index)?;
        passwords.retain(|one| one.until > now);
        let one = passwords.iter_mut().find(|one| one.tag.is(&tag))?;
        one.until = now + self.time;
        Some(one.hash)
    }

    /// Takes in that the device of this index has logged in with the password of this hash.
    pub(super) fn keep(&self, device: &Device, index: usize, hash: usize, password: &Secret) {
        let tag = self.tag(device, password);
        let mut known = self.passwords();
        let passwords = known.entry(index).or_default();
        passwords.retain(|one| !one.tag.is(&tag));
        passwords.push(Remembered { tag, hash, until: Instant::now() + self.time });
    }

    fn tag(&self, device: &Device, password: &Secret) -> Tag {
        self.hash.of(&[device.name.as_bytes(), password.expose()])
    }

    fn passwords(&self) -> MutexGuard<'_, HashMap<usize, Vec<Remembered>>> {
        self.passwords.lock()
    }

    /// Forgets all passwords.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.passwords().clear();
    }
}
