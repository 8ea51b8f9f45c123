//! Sources that devices have logged in from: they tell a known device from a stranger, over restarts too.
//!
//! A pair is the name of a device and a source. Nothing in a pair opens anything: whoever comes from a known source
//! still needs the password. The text that is kept holds names, addresses, days, and marks of the hashes that the
//! configuration has. A pair that was not used for 90 days is forgotten.

mod pairs;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::crypto::sha256;
use crate::source::Source;
use crate::state;
use pairs::{Pair, Pairs};

/// The pairs of all devices. Several configurations in turn have them in common.
#[derive(Default)]
pub struct KnownSources {
    stores: Mutex<Stores>,
    /// There are changes that have not been saved.
    is_unsaved: AtomicBool,
    changed: Notify,
}

/// The pairs of devices, and those of logins that are passed through: none of the one makes one of the other go.
#[derive(Default)]
struct Stores {
    devices: Pairs,
    passed: Pairs,
    /// The day on which pairs that are too old were forgotten.
    day: u32,
}

impl KnownSources {
    /// Takes in a login that went well.
    pub fn add(&self, device: &str, source: Source) {
        self.add_with(device, source, None);
    }

    /// Adds a login with the [`mark`] of its password's hash.
    pub(super) fn add_with(&self, device: &str, source: Source, mark: Option<u64>) {
        let pair = Pair::new(source, today(), mark);
        if self.stores().of(device).add(device, pair) {
            self.keep_for_later();
        }
    }

    /// Returns whether the device has logged in from this source, with whichever password.
    pub fn has(&self, device: &str, source: Source) -> bool {
        self.stores().of(device).has(device, source)
    }

    /// Returns whether some device has logged in from this address with a password that it still has.
    pub fn knows(&self, source: IpAddr) -> bool {
        let (stores, source) = (self.stores(), source.into());
        stores.devices.trusts(source) || stores.passed.trusts(source)
    }

    /// Takes in the configured devices with the marks of their passwords' hashes. Pairs of other devices are forgotten,
    /// and sources that had other passwords are strangers until they log in again.
    pub fn retain_devices(&self, marks: impl Fn(&str) -> Option<Vec<u64>>) {
        if self.stores().devices.retain(marks) {
            self.keep_for_later();
        }
    }

    /// Forgets the logins that were passed through.
    pub fn forget_passed(&self) {
        if self.stores().passed.retain(|_| None) {
            self.keep_for_later();
        }
    }

    /// Returns the path of the file.
    pub fn path(state_directory: &Path) -> PathBuf {
        state_directory.join(FILE)
    }

    /// Loads the file of an earlier run, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged; nothing of it is used then.
    pub fn load(&self, path: &Path) -> Result<(), state::Error> {
        if !state::is_there(path) {
            return Ok(());
        }
        let text = state::read_up_to(path, LARGEST)?;
        let read = std::str::from_utf8(&text).ok().and_then(read);
        let known = read.ok_or_else(|| state::Error::damaged(path))?;
        let mut stores = self.stores();
        let day = stores.day;
        for (pair, device) in known.into_iter().filter(|(pair, _)| !pair.is_too_old(day)) {
            stores.of(device).add(device, pair);
        }
        Ok(())
    }

    /// The text to keep, if anything has changed since the last time: one line for each pair, the oldest first, with
    /// the source, the day of its last use, the mark of its password's hash and the device.
    pub fn unsaved(&self) -> Option<String> {
        if !self.is_unsaved.swap(false, Ordering::Relaxed) {
            return None;
        }
        // Written without the lock: every login asks for it.
        let stores = self.stores();
        let all = [stores.devices.all(), stores.passed.all()];
        drop(stores);
        let lines = all.into_iter().flatten().map(|(pair, device)| format!("{pair} {device}\n"));
        Some(format!("{TITLE}\n") + &lines.collect::<String>())
    }

    /// Marks the list as changed, so that it is saved later, or again after a failure.
    pub fn keep_for_later(&self) {
        self.is_unsaved.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits for a change that is not kept.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn stores(&self) -> MutexGuard<'_, Stores> {
        let mut stores = self.stores.lock();
        let today = today();
        if stores.day != today {
            stores.day = today;
            let gone = [stores.devices.forget_too_old(today), stores.passed.forget_too_old(today)];
            if gone.contains(&true) {
                self.keep_for_later();
            }
        }
        stores
    }
}

impl Stores {
    fn of(&mut self, device: &str) -> &mut Pairs {
        if device.starts_with(PASSED) { &mut self.passed } else { &mut self.devices }
    }
}

/// The mark of a password's hash as the configuration has it. The hash has a random salt, so the mark tells nothing of
/// the password.
pub(super) fn mark(written: &str) -> u64 {
    let octets = sha256(written.as_bytes());
    octets.iter().take(8).fold(0, |mark, octet| mark << 8 | u64::from(*octet))
}

/// Days since 1970.
fn today() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / (24 * 60 * 60)).unwrap_or(u32::MAX)
}

/// Reads the list; `None` if any line is damaged, because half a line may name another device.
fn read(text: &str) -> Option<Vec<(Pair, &str)>> {
    let (lines, has_days) = match text.strip_prefix(TITLE) {
        Some(lines) => (lines, true),
        None => (text.strip_prefix(TITLE_BEFORE)?, false),
    };
    let lines = lines.strip_prefix('\n')?;
    if !lines.is_empty() && !lines.ends_with('\n') {
        return None;
    }
    let today = today();
    let pair = |line| {
        let (source, rest) = str::split_once(line, ' ')?;
        if has_days { Pair::read(source, rest) } else { Some((Pair::new(source.parse().ok()?, today, None), rest)) }
    };
    lines.lines().map(pair).collect()
}

/// Begins the name of a login that is passed through.
pub const PASSED: &str = "pass-through:";
const FILE: &str = "known-devices";
const TITLE: &str = "packetboat known devices, version 2";
/// Lines have a source and a device alone.
const TITLE_BEFORE: &str = "packetboat known devices, version 1";
/// Above what all pairs come to, with the longest names.
const LARGEST: u64 = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::pairs::{MOST, OF_A_DEVICE, OF_A_SOURCE};
    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn reread(known: &KnownSources) -> KnownSources {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        state::write(&path, known.unsaved().unwrap().as_bytes(), state::Access::Private).unwrap();
        let other = KnownSources::default();
        other.load(&path).unwrap();
        other
    }

    #[test]
    fn pairs_outlive_a_restart() {
        let known = KnownSources::default();
        for (device, address) in [("scanner3", "192.0.2.1"), ("f\u{fc}nf", "2001:db8::7"), ("my fax", "192.0.2.1")] {
            known.add(device, source(address));
        }
        let other = reread(&known);
        assert!(other.has("scanner3", source("::ffff:192.0.2.1")) && other.has("my fax", source("192.0.2.1")));
        assert!(other.has("f\u{fc}nf", source("2001:db8::8")) && !other.has("f\u{fc}nf", source("192.0.2.1")));
        assert!(other.knows("192.0.2.1".parse().unwrap()) && !other.knows("192.0.2.2".parse().unwrap()));
        assert!(other.unsaved().is_none() && known.unsaved().is_none());
    }

    /// A device that is removed from the configuration loses them; another one of the same source keeps its own.
    #[test]
    fn devices_that_are_removed_are_forgotten() {
        let known = KnownSources::default();
        known.add("a", source("192.0.2.1"));
        known.add("b", source("192.0.2.1"));
        known.add("a", source("192.0.2.2"));
        known.unsaved();
        known.retain_devices(|device| (device == "b").then(Vec::new));
        assert!(!known.has("a", source("192.0.2.1")) && known.has("b", source("192.0.2.1")));
        assert!(known.knows("192.0.2.1".parse().unwrap()) && !known.knows("192.0.2.2".parse().unwrap()));
        assert!(known.unsaved().is_some_and(|text| text.ends_with(&format!("\n192.0.2.1 {} - b\n", today()))));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go_first() {
        let known = KnownSources::default();
        let address =
            |number: usize| IpAddr::from(std::net::Ipv4Addr::from(u32::try_from(number).unwrap() + (10 << 24)));
        known.add("old", address(0).into());
        known.add("used", address(1).into());
        for number in 0..MOST - 1 {
            known.add("used", address(1).into());
            known.add(&format!("device{number}"), address(number % 500).into());
        }
        assert_eq!(known.stores().devices.count(), MOST);
        assert!(!known.has("old", address(0).into()) && known.has("used", address(1).into()));
        // One device by many sources has its own alone.
        for number in 0..1000 {
            known.add("stolen", address(number + 1000).into());
        }
        assert!(known.has("device500", address(0).into()) && known.has("used", address(1).into()));
        let stolen = (0..1000).filter(|number| known.knows(address(number + 1000))).count();
        assert_eq!((stolen, known.stores().devices.count()), (OF_A_DEVICE, MOST));
    }

    /// One source that lets many names in cannot make the pairs of others go, nor a name the file unreadable.
    #[test]
    fn one_source_has_its_share_and_names_fit_a_line() {
        let known = KnownSources::default();
        known.add("old", source("192.0.2.1"));
        for number in 0..MOST {
            known.add(&format!("{PASSED}scan+{number}"), source("192.0.2.2"));
        }
        known.add("a\nb", source("192.0.2.3"));
        known.add(&"long".repeat(300), source("192.0.2.3"));
        assert!(!known.knows("192.0.2.3".parse().unwrap()));
        let other = reread(&known);
        let stores = other.stores();
        assert_eq!((stores.devices.count(), stores.passed.count()), (1, OF_A_SOURCE));
        drop(stores);
        assert!(other.has("old", source("192.0.2.1")));
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let known = KnownSources::default();
        known.load(&path).unwrap();
        let line = format!("{TITLE}\n192.0.2.1 20000 - a\n");
        for damaged in
            ["", "192.0.2.1 a\n", &line[..line.len() - 1], &format!("{line}192.0.2 1 - b\n"), &format!("{line}x\n")]
        {
            std::fs::write(&path, damaged).unwrap();
            assert!(known.load(&path).unwrap_err().to_string().contains("known-devices is damaged"), "{damaged:?}");
        }
        assert_eq!(known.stores().devices.count(), 0);
    }

    /// Logins that are passed through have a store of their own, however many names there are and sources.
    #[test]
    fn logins_that_are_passed_through_push_no_device_out() {
        let known = KnownSources::default();
        known.add_with("scanner3", source("192.0.2.1"), Some(1));
        for number in 0..5 * OF_A_SOURCE {
            known.add(&format!("{PASSED}scan+{number}"), source(&format!("198.51.100.{}", number % 5)));
        }
        assert_eq!(known.stores().passed.count(), MOST);
        assert!(known.has("scanner3", source("192.0.2.1")) && reread(&known).has("scanner3", source("192.0.2.1")));
        known.retain_devices(|_| None);
        assert!(!known.has("scanner3", source("192.0.2.1")) && known.stores().passed.count() == MOST);
        known.forget_passed();
        assert_eq!(known.unsaved().unwrap(), format!("{TITLE}\n"));
    }

    /// A source that had a password which the device no longer has keeps its own delays, and no other privilege. The
    /// file remembers that.
    #[test]
    fn a_source_with_a_former_password_is_a_stranger() {
        let known = KnownSources::default();
        let (thief, owner): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        known.add_with("a", thief.into(), Some(mark("old")));
        known.add_with("a", owner.into(), Some(mark("old")));
        known.retain_devices(|_| Some(vec![mark("new"), mark("old")]));
        assert!(known.knows(thief) && known.knows(owner));
        known.add_with("a", owner.into(), Some(mark("new")));
        let later = reread(&known);
        for known in [known, later] {
            known.retain_devices(|_| Some(vec![mark("new")]));
            assert!(!known.knows(thief) && known.has("a", thief.into()) && known.knows(owner));
            known.add_with("a", thief.into(), Some(mark("new")));
            assert!(known.knows(thief));
        }
    }

    /// A file of an earlier version is read: its pairs are as if they were used today, with a password that still
    /// holds.
    #[test]
    fn pairs_have_an_age_and_earlier_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let known = KnownSources::default();
        let day = today();
        let lines = format!("192.0.2.1 {} - old\n192.0.2.2 {} 00000000000000ff a b\n", day - 91, day - 89);
        for text in [format!("{TITLE}\n{lines}"), format!("{TITLE_BEFORE}\n192.0.2.3 my fax\n")] {
            std::fs::write(&path, text).unwrap();
            known.load(&path).unwrap();
        }
        known.retain_devices(|_| Some(vec![255]));
        let knows = |address: &str| known.knows(address.parse().unwrap());
        assert!(!knows("192.0.2.1") && knows("192.0.2.2") && knows("192.0.2.3"));
        assert!(known.has("a b", source("192.0.2.2")) && known.has("my fax", source("192.0.2.3")));
        known.unsaved();
        known.stores().devices.forget_too_old(day + 2);
        assert!(!knows("192.0.2.2") && knows("192.0.2.3"));
        // A day that begins while nobody logs in is noticed as well.
        known.stores().day = 0;
        assert!(knows("192.0.2.3"));
    }
}
