//! Who has failed waits before the next try, twice as long each time: by source and by login, in bounded memory.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// The failures of all sources and logins.
///
/// They are counted in a fixed number of drawers, so that nobody can fill the memory with made-up names; the hash that
/// chooses a drawer differs from start to start. An unknown login has a drawer like every other.
pub(super) struct Delays {
    first: Duration,
    longest: Duration,
    hasher: RandomState,
    drawers: Mutex<Vec<Drawer>>,
}

#[derive(Clone, Copy, Default)]
struct Drawer {
    failures: u32,
    last: Option<Instant>,
    /// The next try may not begin before.
    opens: Option<Instant>,
}

/// Who tries.
pub(super) struct Who {
    pub(super) source: IpAddr,
    /// The login, in the one form that stands for all of its spellings.
    pub(super) name: String,
    /// The two have been seen together with the right password; they are counted for themselves.
    pub(super) is_familiar: bool,
}

/// A try that may begin.
pub(super) struct Turn(Instant);

impl Delays {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let drawers = Mutex::new(vec![Drawer::default(); DRAWERS]);
        Self { first, longest: longest.max(first), hasher: RandomState::new(), drawers }
    }

    /// Whether the other ones are as long.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.first, self.longest) == (other.first, other.longest)
    }

    /// The next turn of this source and login, behind those who have come before; none where too many have.
    pub(super) fn turn(&self, who: &Who) -> Option<Turn> {
        let now = Instant::now();
        let mut drawers = self.drawers.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys(who);
        let opens = keys.iter().filter_map(|key| drawers.get(*key)?.opens).max().map_or(now, |opens| opens.max(now));
        if opens > now + self.longest {
            return None;
        }
        for key in keys {
            let Some(drawer) = drawers.get_mut(key) else { continue };
            if drawer.last.is_none_or(|last| now.duration_since(last) > FORGOTTEN) {
                *drawer = Drawer::default();
            }
            // Whoever comes at the same time comes behind.
            if drawer.failures > 0 {
                drawer.opens = Some(opens + self.delay(drawer.failures));
            }
        }
        Some(Turn(opens))
    }

    /// As long as anybody waits at all.
    pub(super) async fn sit_out(&self) {
        sleep(self.longest).await;
    }

    pub(super) fn failed(&self, who: &Who) {
        let now = Instant::now();
        let mut drawers = self.drawers.lock().unwrap_or_else(PoisonError::into_inner);
        let [one, other] = self.keys(who);
        for key in std::iter::once(one).chain((other != one).then_some(other)) {
            let Some(drawer) = drawers.get_mut(key) else { continue };
            drawer.failures = drawer.failures.saturating_add(1);
            drawer.last = Some(now);
            let opens = now + self.delay(drawer.failures);
            drawer.opens = Some(drawer.opens.map_or(opens, |other| other.max(opens)));
        }
    }

    pub(super) fn succeeded(&self, who: &Who) {
        let mut drawers = self.drawers.lock().unwrap_or_else(PoisonError::into_inner);
        for key in self.keys(who) {
            if let Some(drawer) = drawers.get_mut(key) {
                *drawer = Drawer::default();
            }
        }
    }

    fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    fn keys(&self, who: &Who) -> [usize; 2] {
        let source = network(who.source);
        if who.is_familiar {
            let own = self.drawer((2_u8, source, &who.name));
            return [own, own];
        }
        [self.drawer((0_u8, source)), self.drawer((1_u8, &who.name))]
    }

    fn drawer(&self, key: impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(key) % DRAWERS as u64).unwrap_or_default()
    }
}

impl Turn {
    /// Waits for it.
    pub(super) async fn come(self) {
        sleep_until(self.0).await;
    }
}

/// An IPv6 host chooses among the 2^64 addresses of its network as it likes.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// 200 KiB of them.
const DRAWERS: usize = 4096;
/// Failures older than this do not count.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
