//! The table of devices is bounded, in all and for each address; devices that have logged in are forgotten last.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::SeenDevice;
use crate::protocol::Protocol;
use crate::source::Source;

/// Devices by address; only a few of each.
#[derive(Default)]
pub(super) struct DeviceTable {
    by_source: HashMap<IpAddr, Vec<Arc<Entry>>>,
    count: usize,
}

pub(super) struct Entry {
    /// Entries by age: of two that are alike otherwise, the older one is forgotten first.
    number: u64,
    pub(super) protocol: Protocol,
    /// The fingerprint of the ClientHello; empty before one was seen.
    fingerprint: String,
    pub(super) open: AtomicUsize,
    device: Mutex<SeenDevice>,
}

impl Entry {
    pub(super) fn new(device: SeenDevice) -> Self {
        let (protocol, fingerprint) = (device.protocol, device.fingerprint.clone().unwrap_or_default());
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { number, protocol, fingerprint, open: AtomicUsize::new(0), device: Mutex::new(device) }
    }

    /// The rank of a device; the lowest is forgotten first: never logged in, not connected, without TLS, not seen for
    /// longest. Anybody can be connected, so a login ranks above that.
    fn rank(&self) -> (bool, bool, bool, u64) {
        let device = self.device();
        let is_open = self.open.load(Ordering::Relaxed) > 0;
        (device.logged_in.is_some(), is_open, device.tls_mode.is_some(), device.last_seen)
    }

    pub(super) fn device(&self) -> MutexGuard<'_, SeenDevice> {
        self.device.lock()
    }

    pub(super) fn is(&self, protocol: &str, fingerprint: &str) -> bool {
        self.protocol.name() == protocol && self.fingerprint == fingerprint
    }

    fn has_logged_in(&self) -> bool {
        self.device().logged_in.is_some()
    }

    pub(super) fn snapshot(&self) -> SeenDevice {
        let open = self.open.load(Ordering::Relaxed);
        SeenDevice { open, ..self.device().clone() }
    }
}

impl DeviceTable {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The devices of one address.
    pub(super) fn at(&self, source: IpAddr) -> &[Arc<Entry>] {
        self.by_source.get(&source).map(Vec::as_slice).unwrap_or_default()
    }

    /// All devices, to be read without the table's lock.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries().map(Arc::clone).collect()
    }

    /// Keeps a device that has logged in, even if it was pushed out meanwhile.
    pub(super) fn keep(&mut self, entry: &Arc<Entry>, most: usize) {
        let source = entry.device().source;
        let present = self.find(source, entry.protocol, &entry.fingerprint);
        match present {
            Some(present) if Arc::ptr_eq(&present, entry) => {}
            // The same device has come again since.
            Some(present) => {
                let known = entry.device().clone();
                let mut device = present.device();
                device.logged_in = known.logged_in;
                device.known_as = known.known_as;
                device.mailbox = known.mailbox;
            }
            None => {
                self.make_room(source, entry.protocol, &entry.fingerprint, most);
                self.add(Arc::clone(entry));
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_source.values().flatten()
    }

    pub(super) fn find(&self, source: IpAddr, protocol: Protocol, fingerprint: &str) -> Option<Arc<Entry>> {
        let entries = self.by_source.get(&source)?;
        entries.iter().find(|entry| entry.protocol == protocol && entry.fingerprint == fingerprint).map(Arc::clone)
    }

    pub(super) fn add(&mut self, entry: Arc<Entry>) {
        let source = entry.device().source;
        self.by_source.entry(source).or_default().push(entry);
        self.count += 1;
    }

    /// Removes one entry of an address.
    pub(super) fn remove(&mut self, source: IpAddr, entry: &Arc<Entry>) {
        let Some(entries) = self.by_source.get_mut(&source) else { return };
        let before = entries.len();
        entries.retain(|one| !Arc::ptr_eq(one, entry));
        self.count -= before - entries.len();
        if entries.is_empty() {
            self.by_source.remove(&source);
        }
    }

    /// Makes room for one more device: forgets one of its address if that has many, or some of all if the table is
    /// full.
    pub(super) fn make_room(&mut self, source: IpAddr, protocol: Protocol, fingerprint: &str, most: usize) {
        if let Some(entries) = self.by_source.get_mut(&source) {
            let before = entries.len();
            // An entry with a ClientHello replaces one that only names the source.
            entries.retain(|entry| {
                let is_vague = entry.protocol == protocol && entry.fingerprint.is_empty() && !entry.has_logged_in();
                fingerprint.is_empty() || !is_vague
            });
            if entries.len() >= OF_A_SOURCE
                && let Some((least, _)) = entries.iter().enumerate().min_by_key(|(_, entry)| entry.rank())
            {
                entries.remove(least);
            }
            self.count -= before - entries.len();
        }
        if self.count >= most {
            // Some at once, so that not every newcomer has all looked through.
            self.remove_least(self.count - most + 1 + most / 32, most);
        }
    }

    /// Forgets devices beyond so many.
    pub(super) fn limit(&mut self, most: usize) {
        self.remove_least(self.count.saturating_sub(most), most);
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        let mut count = 0;
        self.by_source.retain(|_, entries| {
            entries.retain(|entry| keep(entry));
            count += entries.len();
            !entries.is_empty()
        });
        self.count = count;
    }

    /// Forgets so many devices of the lowest rank, first those of networks that have more than their share.
    fn remove_least(&mut self, count: usize, most: usize) {
        if count == 0 {
            return;
        }
        let mut ranks: Vec<_> = self.entries().map(|entry| (entry.rank(), entry.number, entry)).collect();
        // The best come first, and have the shares.
        ranks.sort_unstable_by_key(|(rank, number, _)| std::cmp::Reverse((*rank, *number)));
        let mut strangers: HashMap<Source, usize> = HashMap::new();
        let mut ranks: Vec<_> = ranks
            .into_iter()
            .map(|(rank, number, entry)| {
                let has_logged_in = rank.0;
                let of_network = strangers.entry(network(entry.device().source)).or_default();
                *of_network += usize::from(!has_logged_in);
                (has_logged_in || *of_network <= most / SHARES, rank, number)
            })
            .collect();
        ranks.sort_unstable();
        ranks.truncate(count);
        let least: HashSet<u64> = ranks.into_iter().map(|(.., number)| number).collect();
        self.retain(|entry| !least.contains(&entry.number));
    }
}

/// The number of the next entry.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// The unit in which addresses count. Every program of this computer has all of 127.0.0.0/8, which counts as one.
fn network(source: IpAddr) -> Source {
    if source.to_canonical().is_loopback() { IpAddr::from(Ipv4Addr::LOCALHOST).into() } else { source.into() }
}

/// The most devices of one address: one TLS stack may fall back, and one computer may run several programs.
pub(super) const OF_A_SOURCE: usize = 8;
/// The share of one network, as a part of the table, in devices that have never logged in.
const SHARES: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::tests::{hello, inventory, observation};

    /// Connections of strangers, from a few addresses or from all of this computer's, cost a device that has logged in
    /// nothing, and leave room for others.
    #[test]
    fn open_connections_of_strangers_push_nobody_out() {
        let inventory = inventory(100);
        let own = hello(0x0301, &[0x2f]);
        inventory.observe(&observation("192.0.2.1", Some(&own))).logged_in(None);
        drop(inventory.observe(&observation("192.0.2.2", Some(&own))));
        let hellos: Vec<_> = (0..8).map(|suite| hello(0x0301, &[suite])).collect();
        let strangers = |network: &str, count: u16| -> Vec<_> {
            let addresses = (0..count).map(|n| format!("{network}.{}.{}", n / 200, n % 200 + 1));
            let all = addresses.flat_map(|address| hellos.iter().map(move |hello| (address.clone(), hello)));
            all.map(|(address, hello)| inventory.observe(&observation(&address, Some(hello)))).collect()
        };
        let is_there = |source: &str| inventory.devices().iter().any(|device| device.source.to_string() == source);
        let mut held = strangers("127.1", 400);
        assert!(is_there("192.0.2.1"));
        assert!(is_there("192.0.2.2"), "one that has not logged in, from elsewhere");
        held.extend(strangers("10.1", 14));
        assert!(is_there("192.0.2.1"));
        assert!(inventory.devices().len() <= 100);
    }

    #[test]
    fn a_device_that_was_pushed_out_before_its_login_comes_back_with_it() {
        let inventory = inventory(10);
        let own = hello(0x0301, &[0x2f]);
        let presence = inventory.observe(&observation("192.0.2.1", Some(&own)));
        let held: Vec<_> =
            (1..100).map(|n| inventory.observe(&observation(&format!("198.51.100.{n}"), Some(&own)))).collect();
        let is_there = || inventory.devices().iter().any(|device| device.source.to_string() == "192.0.2.1");
        assert!(!is_there());
        presence.logged_in(Some("scans@contoso.com"));
        assert!(is_there() && inventory.devices().len() <= 10);
        drop(held);
    }
}
