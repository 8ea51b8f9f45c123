//! Pairs of devices and sources in bounded memory: the pair that was used least lately makes room.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::source::Source;

/// The pairs of one kind.
#[derive(Default)]
pub(super) struct Pairs {
    /// The pairs of each device, the newest last.
    by_device: HashMap<String, VecDeque<Pair>>,
    by_source: HashMap<Source, Share>,
    count: usize,
    uses: u64,
}

/// A source that a device has logged in from.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    source: Source,
    /// The number of its last use.
    used: u64,
    /// The day of its last use.
    day: u32,
    /// The mark of the hash of the password that it used. Pairs of earlier files, and logins that are passed through,
    /// have none.
    mark: Option<u64>,
    /// The device has this password still.
    is_trusted: bool,
}

/// The pairs of one source.
#[derive(Default)]
struct Share {
    pairs: usize,
    trusted: usize,
}

impl Pair {
    pub(super) fn new(source: Source, day: u32, mark: Option<u64>) -> Self {
        Self { source, used: 0, day, mark, is_trusted: true }
    }

    /// The text that [`fmt::Display`] writes, of which the source is taken off, and the device behind it.
    pub(super) fn read<'a>(source: &str, rest: &'a str) -> Option<(Self, &'a str)> {
        let (day, rest) = rest.split_once(' ')?;
        let (mark, device) = rest.split_once(' ')?;
        let mark = if mark == NO_MARK { None } else { Some(u64::from_str_radix(mark, 16).ok()?) };
        Some((Self::new(source.parse().ok()?, day.parse().ok()?, mark), device))
    }

    /// Whether it was not used for so long that it is forgotten on this day.
    pub(super) fn is_too_old(&self, day: u32) -> bool {
        day.saturating_sub(self.day) > LONGEST_UNUSED
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, day, mark, .. } = self;
        match mark {
            Some(mark) => write!(f, "{source} {day} {mark:016x}"),
            None => write!(f, "{source} {day} {NO_MARK}"),
        }
    }
}

impl Pairs {
    /// Takes in a pair that was used just now. Whether there is anything new to keep. A name that could not be written
    /// is not taken, nor one more of a source that has a good part of all.
    pub(super) fn add(&mut self, device: &str, mut pair: Pair) -> bool {
        let is_full = self.by_source.get(&pair.source).is_some_and(|share| share.pairs >= OF_A_SOURCE);
        if device.len() > LONGEST_NAME
            || device.contains(char::is_control)
            || (is_full && !self.has(device, pair.source))
        {
            return false;
        }
        self.uses += 1;
        pair.used = self.uses;
        if !self.by_device.contains_key(device) {
            self.by_device.insert(device.to_owned(), VecDeque::new());
        }
        let Some(pairs) = self.by_device.get_mut(device) else { return false };
        let position = pairs.iter().position(|one| one.source == pair.source);
        let before = position.and_then(|position| pairs.remove(position));
        // A clock that was set back makes no pair older.
        pair.day = before.map_or(pair.day, |before| before.day.max(pair.day));
        pairs.push_back(pair);
        let of_device = pairs.len();
        before.into_iter().for_each(|before| self.take_off(before));
        self.count += 1;
        let share = self.by_source.entry(pair.source).or_default();
        share.pairs += 1;
        share.trusted += usize::from(pair.is_trusted);
        if of_device > OF_A_DEVICE {
            self.forget_oldest(device);
        } else if self.count > MOST {
            let oldest = self.by_device.iter().min_by_key(|(_, pairs)| pairs.front().map(|pair| pair.used));
            if let Some(device) = oldest.map(|(device, _)| device.clone()) {
                self.forget_oldest(&device);
            }
        }
        before.is_none_or(|before| (before.day, before.mark) != (pair.day, pair.mark))
    }

    pub(super) fn has(&self, device: &str, source: Source) -> bool {
        self.by_device.get(device).is_some_and(|pairs| pairs.iter().any(|pair| pair.source == source))
    }

    /// Whether some device has logged in from there with a password that it has still.
    pub(super) fn trusts(&self, source: Source) -> bool {
        self.by_source.get(&source).is_some_and(|share| share.trusted > 0)
    }

    /// Forgets devices that have no marks any more, and trusts pairs whose mark the device has. Whether any is gone.
    pub(super) fn retain(&mut self, marks: impl Fn(&str) -> Option<Vec<u64>>) -> bool {
        self.rebuild(|device| {
            let marks = marks(device)?;
            Some(move |pair: &mut Pair| {
                pair.is_trusted = pair.mark.is_none_or(|mark| marks.contains(&mark));
                true
            })
        })
    }

    /// Forgets pairs that are too old on this day. Whether any is gone.
    pub(super) fn forget_too_old(&mut self, day: u32) -> bool {
        self.rebuild(|_| Some(move |pair: &mut Pair| !pair.is_too_old(day)))
    }

    /// All pairs with their devices, the one that was used least lately first.
    pub(super) fn all(&self) -> Vec<(Pair, String)> {
        let of = |(device, pairs): (&String, &VecDeque<Pair>)| {
            pairs.iter().map(|pair| (*pair, device.clone())).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.by_device.iter().flat_map(of).collect();
        all.sort_unstable_by_key(|(pair, _)| pair.used);
        all
    }

    /// Keeps the pairs that are wanted, which may be changed, and counts anew. Whether any is gone.
    fn rebuild<W: FnMut(&mut Pair) -> bool>(&mut self, wanted: impl Fn(&str) -> Option<W>) -> bool {
        let before = self.count;
        self.by_device.retain(|device, pairs| {
            match wanted(device) {
                Some(is_wanted) => pairs.retain_mut(is_wanted),
                None => pairs.clear(),
            }
            !pairs.is_empty()
        });
        self.by_source.clear();
        for pair in self.by_device.values().flatten() {
            let share = self.by_source.entry(pair.source).or_default();
            share.pairs += 1;
            share.trusted += usize::from(pair.is_trusted);
        }
        self.count = self.by_device.values().map(VecDeque::len).sum();
        self.count < before
    }

    fn forget_oldest(&mut self, device: &str) {
        let Some(pairs) = self.by_device.get_mut(device) else { return };
        let oldest = pairs.pop_front();
        if pairs.is_empty() {
            self.by_device.remove(device);
        }
        oldest.into_iter().for_each(|oldest| self.take_off(oldest));
    }

    fn take_off(&mut self, pair: Pair) {
        self.count = self.count.saturating_sub(1);
        let Some(share) = self.by_source.get_mut(&pair.source) else { return };
        share.pairs = share.pairs.saturating_sub(1);
        share.trusted = share.trusted.saturating_sub(usize::from(pair.is_trusted));
        if share.pairs == 0 {
            self.by_source.remove(&pair.source);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

/// Pairs in all.
pub(super) const MOST: usize = 10_000;
/// Sources of one device: one whose password is stolen cannot make the pairs of others go.
pub(super) const OF_A_DEVICE: usize = 64;
/// Devices of one source: logins that are passed through may have many names.
pub(super) const OF_A_SOURCE: usize = MOST / 4;
/// The longest name in octets. Names of the configuration are shorter.
const LONGEST_NAME: usize = 1024;
/// The longest time without a login, in days.
const LONGEST_UNUSED: u32 = 90;
const NO_MARK: &str = "-";
