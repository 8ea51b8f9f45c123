//! Sources that devices have logged in from: they tell a known device from a stranger, over restarts too.
//!
//! A pair is the name of a device and a source. Nothing in a pair opens anything: whoever comes from a known source still
//! needs the password. The text that is kept holds names and addresses, and nothing that was derived from a password.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::source::Source;
use crate::state;

/// The pairs of all devices. Several configurations in turn have them in common.
#[derive(Default)]
pub struct KnownSources {
    pairs: Mutex<Pairs>,
    /// Something has changed that is not kept.
    is_unsaved: AtomicBool,
    changed: Notify,
}

/// Pairs in bounded memory: the one that was used least lately makes room.
#[derive(Default)]
struct Pairs {
    /// The sources of each device with the number of their last use, the newest last.
    by_device: HashMap<String, VecDeque<(Source, u64)>>,
    /// How many devices each source has.
    by_source: HashMap<Source, usize>,
    count: usize,
    uses: u64,
}

impl KnownSources {
    /// Takes in a login that went well.
    pub fn add(&self, device: &str, source: Source) {
        if self.pairs().add(device, source) {
            self.keep_for_later();
        }
    }

    /// Whether the device has logged in from there.
    pub fn has(&self, device: &str, source: Source) -> bool {
        self.pairs().by_device.get(device).is_some_and(|sources| sources.iter().any(|(one, _)| *one == source))
    }

    /// Whether some device has logged in from there.
    pub fn knows(&self, source: IpAddr) -> bool {
        self.pairs().by_source.contains_key(&source.into())
    }

    /// Forgets the pairs of all other devices, but for logins that are passed through: those stand in no configuration.
    pub fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        let mut pairs = self.pairs();
        let gone: Vec<String> = pairs
            .by_device
            .keys()
            .filter(|device| !is_wanted(device) && !device.starts_with(PASSED))
            .cloned()
            .collect();
        for device in &gone {
            pairs.forget(device);
        }
        drop(pairs);
        if !gone.is_empty() {
            self.keep_for_later();
        }
    }

    /// Where it is kept.
    pub fn path(state_directory: &Path) -> PathBuf {
        state_directory.join(FILE)
    }

    /// Takes in what an earlier run has kept. No file is no failure.
    ///
    /// # Errors
    /// It cannot be read, or is damaged; nothing of it is taken then.
    pub fn load(&self, path: &Path) -> Result<(), String> {
        if !state::is_there(path) {
            return Ok(());
        }
        let text = state::read_up_to(path, LARGEST)?;
        let read = std::str::from_utf8(&text).ok().and_then(read);
        let known = read.ok_or_else(|| format!("{} is damaged", path.display()))?;
        let mut pairs = self.pairs();
        for (source, device) in known {
            pairs.add(device, source);
        }
        Ok(())
    }

    /// The text to keep, if anything has changed since the last time: one line for each pair, the oldest first, with the
    /// source, a space and the device.
    pub fn unsaved(&self) -> Option<String> {
        if !self.is_unsaved.swap(false, Ordering::Relaxed) {
            return None;
        }
        // Written without the lock: every login asks for it.
        let mut all = self.pairs().all();
        all.sort_unstable();
        let lines = all.into_iter().map(|(_, source, device)| format!("{source} {device}\n"));
        Some(format!("{TITLE}\n") + &lines.collect::<String>())
    }

    /// It could not be kept, or has changed.
    pub fn keep_for_later(&self) {
        self.is_unsaved.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits for a change that is not kept.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn pairs(&self) -> MutexGuard<'_, Pairs> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pairs {
    /// Whether the pair is new. One that could not be written is not taken, nor one more of a source that has a good part of all.
    fn add(&mut self, device: &str, source: Source) -> bool {
        let is_full = self.by_source.get(&source).is_some_and(|devices| *devices >= OF_A_SOURCE);
        let is_there = self.by_device.get(device).is_some_and(|sources| sources.iter().any(|(one, _)| *one == source));
        if device.len() > LONGEST_NAME || device.contains(char::is_control) || (is_full && !is_there) {
            return false;
        }
        self.uses += 1;
        if !self.by_device.contains_key(device) {
            self.by_device.insert(device.to_owned(), VecDeque::new());
        }
        let Some(sources) = self.by_device.get_mut(device) else { return false };
        let before = sources.iter().position(|(one, _)| *one == source);
        let is_new = before.and_then(|before| sources.remove(before)).is_none();
        sources.push_back((source, self.uses));
        if is_new {
            self.count += 1;
            *self.by_source.entry(source).or_default() += 1;
            if sources.len() > OF_A_DEVICE {
                self.forget_oldest(device);
            } else if self.count > MOST {
                let oldest = self.by_device.iter().min_by_key(|(_, sources)| sources.front().map(|(_, used)| *used));
                if let Some(device) = oldest.map(|(device, _)| device.clone()) {
                    self.forget_oldest(&device);
                }
            }
        }
        is_new
    }

    fn forget_oldest(&mut self, device: &str) {
        let Some(sources) = self.by_device.get_mut(device) else { return };
        let oldest = sources.pop_front();
        if sources.is_empty() {
            self.by_device.remove(device);
        }
        oldest.into_iter().for_each(|(source, _)| self.take_off(source));
    }

    fn forget(&mut self, device: &str) {
        for (source, _) in self.by_device.remove(device).into_iter().flatten() {
            self.take_off(source);
        }
    }

    fn take_off(&mut self, source: Source) {
        self.count = self.count.saturating_sub(1);
        let Some(devices) = self.by_source.get_mut(&source) else { return };
        *devices = devices.saturating_sub(1);
        if *devices == 0 {
            self.by_source.remove(&source);
        }
    }

    fn all(&self) -> Vec<(u64, Source, String)> {
        let of = |(device, sources): (&String, &VecDeque<(Source, u64)>)| {
            sources.iter().map(|(source, used)| (*used, *source, device.clone())).collect::<Vec<_>>()
        };
        self.by_device.iter().flat_map(of).collect()
    }
}

/// Nothing if it is damaged anywhere: half a line may be another device's.
fn read(text: &str) -> Option<Vec<(Source, &str)>> {
    let lines = text.strip_prefix(TITLE)?.strip_prefix('\n')?;
    if !lines.is_empty() && !lines.ends_with('\n') {
        return None;
    }
    let pair = |line| str::split_once(line, ' ').and_then(|(source, device)| Some((source.parse().ok()?, device)));
    lines.lines().map(pair).collect()
}

/// Begins the name of a login that is passed through.
pub const PASSED: &str = "pass-through:";
const FILE: &str = "known-devices";
const TITLE: &str = "packetboat known devices, version 1";
/// Pairs in all.
const MOST: usize = 10_000;
/// Sources of one device: one whose password is stolen cannot make the pairs of others go.
const OF_A_DEVICE: usize = 64;
/// Devices of one source: logins that are passed through may have many names.
const OF_A_SOURCE: usize = MOST / 4;
/// In octets. Those of the configuration are shorter.
const LONGEST_NAME: usize = 1024;
/// Above what all of them come to, with the longest names.
const LARGEST: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
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
        known.retain(|device| device == "b");
        assert!(!known.has("a", source("192.0.2.1")) && known.has("b", source("192.0.2.1")));
        assert!(known.knows("192.0.2.1".parse().unwrap()) && !known.knows("192.0.2.2".parse().unwrap()));
        assert!(known.unsaved().is_some_and(|text| text.ends_with("\n192.0.2.1 b\n")));
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
        assert_eq!(known.pairs().count, MOST);
        assert!(!known.has("old", address(0).into()) && known.has("used", address(1).into()));
        // One device by many sources has its own alone.
        for number in 0..1000 {
            known.add("stolen", address(number + 1000).into());
        }
        assert!(known.has("device500", address(0).into()) && known.has("used", address(1).into()));
        let stolen = (0..1000).filter(|number| known.knows(address(number + 1000))).count();
        assert_eq!((stolen, known.pairs().count), (OF_A_DEVICE, MOST));
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
        assert_eq!(other.pairs().count, 1 + OF_A_SOURCE);
        assert!(other.has("old", source("192.0.2.1")));
    }

    #[test]
    fn a_damaged_file_is_taken_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let known = KnownSources::default();
        known.load(&path).unwrap();
        let line = format!("{TITLE}\n192.0.2.1 a\n");
        for damaged in
            ["", "192.0.2.1 a\n", &line[..line.len() - 1], &format!("{line}192.0.2 b\n"), &format!("{line}x\n")]
        {
            std::fs::write(&path, damaged).unwrap();
            assert!(known.load(&path).unwrap_err().contains("known-devices is damaged"), "{damaged:?}");
        }
        assert_eq!(known.pairs().count, 0);
    }
}
