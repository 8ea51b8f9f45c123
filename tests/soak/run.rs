//! A run has a state that all devices share: addresses, the ledger of mail, counts, and disturbances.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use openssl::ssl::SslContext;

use crate::device::{Device, Trouble};
use crate::ledger::{LARGE, Ledger};
use support::stacks::{Version, context, old};

pub struct Run {
    pub seed: u64,
    pub contexts: [SslContext; 3],
    pub ledger: Ledger,
    pub tally: Tally,
    pub disturbances: Disturbances,
    addresses: BTreeMap<&'static str, SocketAddr>,
    /// The bell that tells devices to come for the last time.
    pub over: Latch,
    unexplained: Mutex<Vec<String>>,
}

/// Set once, and wakes all who wait.
#[derive(Default)]
pub struct Latch(Mutex<bool>, Condvar);

/// Counts of the devices' actions.
#[derive(Default)]
pub struct Tally {
    pub visits: AtomicUsize,
    pub logins: AtomicUsize,
    /// Logins of devices that poll, whose connections are parked.
    pub polls: AtomicUsize,
    pub rude: AtomicUsize,
    pub wrong_passwords: AtomicUsize,
    /// Visits that a disturbance has spoilt.
    pub disturbed: AtomicUsize,
    /// Connections to the server that were forgotten on the way, and visits that nothing else has spoilt.
    pub forgotten: AtomicUsize,
    pub spoilt: AtomicUsize,
    /// Devices that were forgotten on the way.
    pub vanished: AtomicUsize,
    /// Counts of IDLE commands, and of those that ended with new mail.
    pub idles: AtomicUsize,
    pub told: AtomicUsize,
    pub resumed: AtomicUsize,
    pub versions: [AtomicUsize; 3],
    pub fetches: AtomicUsize,
    pub octets: AtomicUsize,
    pub large: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
}

/// Disturbances, each with its beginning and end.
#[derive(Default)]
pub struct Disturbances(Mutex<Vec<Disturbance>>);

struct Disturbance {
    cause: Cause,
    from: SystemTime,
    to: Option<SystemTime>,
}

/// The causes of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The mail server is stopped and started.
    Server,
    /// The token endpoint gives no tokens.
    Tokens,
    /// The certificate changes, whose two files are written one after the other.
    Certificate,
    /// The log has no reader.
    Log,
    /// The system gives no new thread.
    Threads,
    /// Files that the configuration names do not answer.
    Files,
    /// The network forgets connections to the server.
    Flow,
    /// A device types a wrong password.
    WrongPassword,
    /// A device resets, or leaves half of something.
    Rudeness,
    /// The line is part of normal operation.
    Ordinary,
}

impl Run {
    pub fn new(seed: u64, addresses: BTreeMap<&'static str, SocketAddr>) -> Self {
        Self {
            seed,
            contexts: contexts(),
            ledger: Ledger::default(),
            tally: Tally::default(),
            disturbances: Disturbances::default(),
            addresses,
            over: Latch::default(),
            unexplained: Mutex::default(),
        }
    }

    pub fn address(&self, way: &str) -> SocketAddr {
        self.addresses[way]
    }

    pub fn login(&self, number: usize) -> String {
        format!("device{number}")
    }

    /// Counts a failed visit: as disturbed, or as a fault if no disturbance explains it.
    pub fn troubled(&self, number: usize, begun: SystemTime, trouble: &Trouble) {
        let now = SystemTime::now();
        let causes: &[Cause] = match trouble {
            Trouble::Broken(..) | Trouble::Answered(_) => &[Cause::Server],
            Trouble::Refused(_) if Device::has_a_file_that_hangs(number) => {
                &[Cause::Server, Cause::Tokens, Cause::Files]
            }
            Trouble::Refused(_) => &[Cause::Server, Cause::Tokens],
            Trouble::Rude => return,
        };
        if causes.iter().any(|cause| self.disturbances.explains(*cause, begun, now)) {
            add(&self.tally.disturbed, 1);
        } else if self.disturbances.explains(Cause::Flow, begun, now) {
            // The end of the run compares these visits with the number of forgotten connections.
            add(&self.tally.disturbed, 1);
            add(&self.tally.spoilt, 1);
        } else {
            let words = format!("device {number} at {}: {trouble}", humantime::format_rfc3339_millis(now));
            println!("unexplained: {words}");
            self.unexplained.lock().unwrap().push(words);
        }
    }

    pub fn unexplained(&self) -> Vec<String> {
        let (spoilt, forgotten) = (read(&self.tally.spoilt), read(&self.tally.forgotten));
        let too_many = (spoilt > forgotten).then(|| format!("{forgotten} forgotten flows have spoilt {spoilt} visits"));
        self.unexplained.lock().unwrap().iter().cloned().chain(too_many).collect()
    }
}

impl Latch {
    /// Waits for so long; false if it is set, which may be earlier.
    pub fn pause(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut is_set = self.0.lock().unwrap();
        while !*is_set {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            is_set = self.1.wait_timeout(is_set, left).unwrap().0;
        }
        false
    }

    pub fn is_set(&self) -> bool {
        *self.0.lock().unwrap()
    }

    pub fn set(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

impl Tally {
    pub fn fetched(&self, octets: usize) {
        add(&self.fetches, 1);
        add(&self.octets, octets);
        add(&self.large, usize::from(octets >= LARGE));
    }

    /// Counts the time from a message's arrival until an idling device had it.
    pub fn waited(&self, wait: Duration) {
        self.waits.lock().unwrap().push(wait);
    }

    pub fn median_wait(&self) -> Duration {
        let mut waits = self.waits.lock().unwrap().clone();
        waits.sort();
        waits.get(waits.len() / 2).copied().unwrap_or_default()
    }
}

impl Disturbances {
    /// Begins a disturbance, which lasts until the guard is dropped.
    pub fn begins(&self, cause: Cause) -> impl Drop + '_ {
        let mut all = self.0.lock().unwrap();
        all.push(Disturbance { cause, from: SystemTime::now(), to: None });
        Passing(self, all.len() - 1)
    }

    pub fn count(&self, cause: Cause) -> usize {
        self.0.lock().unwrap().iter().filter(|one| one.cause == cause).count()
    }

    /// Whether a disturbance of this cause was active between these times, or shortly before.
    pub fn explains(&self, cause: Cause, from: SystemTime, to: SystemTime) -> bool {
        let all = self.0.lock().unwrap();
        let over = |one: &Disturbance| one.to.is_some_and(|end| end + cause.aftermath() < from);
        all.iter().any(|one| one.cause == cause && one.from <= to && !over(one))
    }
}

struct Passing<'a>(&'a Disturbances, usize);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap()[self.1].to = Some(SystemTime::now());
    }
}

impl Cause {
    /// The time after a disturbance's end in which effects may still appear.
    fn aftermath(self) -> Duration {
        Duration::from_secs(match self {
            // The connections under way when the server returns still fail.
            Self::Server => 10,
            // The endpoint is asked again after ever longer pauses.
            Self::Tokens => 60,
            // Changed files are looked for every few seconds.
            Self::Certificate => 30,
            // The next line reports the lost ones.
            Self::Log => 10,
            // The file is read again after ever longer pauses.
            Self::Files => 60,
            // A session breaks before the disturbance ends, and a device may notice a moment later.
            Self::Flow => 5,
            Self::Threads | Self::WrongPassword | Self::Rudeness | Self::Ordinary => 0,
        })
    }
}

/// Devices' TLS, by version.
fn contexts() -> [SslContext; 3] {
    [(Version::Tls1_0, "AES128-SHA"), (Version::Tls1_1, "AES256-SHA"), (Version::Tls1_2, "ECDHE-RSA-AES128-GCM-SHA256")]
        .map(|(version, ciphers)| context(|context| old(context, version, ciphers)))
}

pub fn add(counter: &AtomicUsize, more: usize) {
    counter.fetch_add(more, Ordering::Relaxed);
}

pub fn read(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}
