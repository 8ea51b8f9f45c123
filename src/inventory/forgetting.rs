//! Forgetting removes devices from the inventory: those that were not seen for long, and one by request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inventory;
use super::device_table::Entry;
use crate::lifecycle::unix_time as now;

/// The outcome of forgetting a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// The inventory has forgotten it.
    Yes,
    /// It is connected, and stays.
    Connected,
    /// No such device was seen.
    Unknown,
}

impl Inventory {
    /// Forgets devices that were not seen for too long.
    pub fn forget_stale(&self) {
        let limits = self.limits();
        let oldest = now().saturating_sub(limits.forget_after.as_secs());
        let mut table = self.table.lock();
        let before = table.count();
        table.retain(|entry| entry.open.load(Ordering::Relaxed) > 0 || entry.device().last_seen >= oldest);
        table.limit(limits.devices);
        if table.count() != before {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// Forgets one device, by its address, its protocol's name and the fingerprint of its ClientHello. A device that is
    /// connected stays: its session would bring it back.
    pub fn forget(&self, source: IpAddr, protocol: &str, fingerprint: &str) -> Forgotten {
        let mut table = self.table.lock();
        let found = table.at(source).iter().find(|entry| entry.is(protocol, fingerprint)).map(Arc::clone);
        match found {
            Some(entry) if entry.open.load(Ordering::Relaxed) > 0 => Forgotten::Connected,
            Some(entry) => {
                table.remove(source, &entry);
                self.changed.store(true, Ordering::Relaxed);
                Forgotten::Yes
            }
            None => Forgotten::Unknown,
        }
    }

    /// Returns whether a device has not come again since a time, in seconds since 1970.
    pub(super) fn was_seen_before(&self, source: IpAddr, protocol: &str, fingerprint: &str, time: u64) -> bool {
        let table = self.table.lock();
        let of_it = |entry: &&Arc<Entry>| entry.is(protocol, fingerprint);
        table.at(source).iter().filter(of_it).all(|entry| entry.device().last_seen < time)
    }

    /// Returns whether a device is connected to this instance.
    pub fn is_open(&self, source: IpAddr, protocol: &str, fingerprint: &str) -> bool {
        let table = self.table.lock();
        let of_it = |entry: &&Arc<Entry>| entry.is(protocol, fingerprint);
        table.at(source).iter().filter(of_it).any(|entry| entry.open.load(Ordering::Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hello, inventory, observation};
    use super::*;
    use crate::config::InventoryLimits;
    use crate::transport::detect::hello::ClientHello;

    #[test]
    fn one_device_is_forgotten_by_request() {
        let inventory = inventory(10);
        let (old, new) = (hello(0x0301, &[0x2f]), hello(0x0303, &[0x2f]));
        let source = IpAddr::from([192, 0, 2, 1]);
        drop(inventory.observe(&observation("192.0.2.1", Some(&old))));
        let connected = inventory.observe(&observation("192.0.2.1", Some(&new)));
        drop(inventory.to_save());
        let forget = |hello: &ClientHello| inventory.forget(source, "IMAP", &hello.fingerprint());
        assert_eq!(inventory.forget(source, "POP3", &old.fingerprint()), Forgotten::Unknown);
        assert_eq!(inventory.forget(source, "IMAP", ""), Forgotten::Unknown);
        assert_eq!(forget(&new), Forgotten::Connected);
        assert!(!inventory.has_changed());
        assert_eq!((forget(&old), forget(&old)), (Forgotten::Yes, Forgotten::Unknown));
        assert!(inventory.has_changed());
        assert_eq!((inventory.devices().len(), inventory.table.lock().count()), (1, 1));
        drop(connected);
        assert_eq!(forget(&new), Forgotten::Yes);
        assert_eq!((inventory.devices().len(), inventory.table.lock().count()), (0, 0));
    }

    #[test]
    fn stale_devices_are_forgotten() {
        let inventory = inventory(10);
        drop(inventory.observe(&observation("192.0.2.1", None)));
        let connected = inventory.observe(&observation("192.0.2.2", None));
        for entry in inventory.table.lock().all() {
            entry.device().last_seen -= 61;
        }
        inventory.forget_stale();
        assert_eq!(inventory.devices().len(), 1);
        drop(connected);
        inventory.set_limits(InventoryLimits { devices: 1, ..inventory.limits() });
        assert_eq!(inventory.devices().len(), 1);
        assert!(inventory.has_changed());
        drop(inventory.to_save());
        assert!(!inventory.has_changed());
    }
}
