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
    /// Devices come for the last time.
    pub over: Latch,
    unexplained: Mutex<Vec<String>>,
}

/// Set once, and wakes all who wait.
#[derive(Default)]
pub struct Latch(Mutex<bool>, Condvar);

/// What devices have done.
#[derive(Default)]
pub struct Tally {
    pub visits: AtomicUsize,
    pub logins: AtomicUsize,
    pub rude: AtomicUsize,
    pub wrong_passwords: AtomicUsize,
    /// Visits that a disturbance has spoilt.
    pub disturbed: AtomicUsize,
    /// Connections to the server that were forgotten on the way, and visits that nothing else has spoilt.
    pub forgotten: AtomicUsize,
    pub spoilt: AtomicUsize,
    /// Devices that were forgotten on the way.
    pub vanished: AtomicUsize,
    /// Times in IDLE, and those that were told of new mail.
    pub idles: AtomicUsize,
    pub told: AtomicUsize,
    pub resumed: AtomicUsize,
    pub versions: [AtomicUsize; 3],
    pub fetches: AtomicUsize,
    pub octets: AtomicUsize,
    pub large: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
}

/// Disturbances, from when to when.
#[derive(Default)]
pub struct Disturbances(Mutex<Vec<Disturbance>>);

struct Disturbance {
    cause: Cause,
    from: SystemTime,
    to: Option<SystemTime>,
}

/// What accounts for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The mail server is stopped and started.
    Server,
    /// The token endpoint gives no tokens.
    Tokens,
    /// Devices are shown a new certificate, and its two files are written one after the other.
    Certificate,
    /// Nobody reads the log.
    Log,
    /// The system gives no new thread.
    Threads,
    /// Files that the configuration names do not answer.
    Files,
    /// Connections to the server are forgotten on the way.
    Flow,
    /// A device types a wrong password.
    WrongPassword,
    /// A device resets, or leaves half of something.
    Rudeness,
    /// It is as it should be.
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

    /// A visit has failed: it was disturbed, or there is no reason for it.
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
            // No more of them than there were flows: the end of the run counts.
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

    /// How long a message had been there when a device had it that waits in IDLE.
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
    /// It goes on until the guard is dropped.
    pub fn begins(&self, cause: Cause) -> impl Drop + '_ {
        let mut all = self.0.lock().unwrap();
        all.push(Disturbance { cause, from: SystemTime::now(), to: None });
        Passing(self, all.len() - 1)
    }

    pub fn count(&self, cause: Cause) -> usize {
        self.0.lock().unwrap().iter().filter(|one| one.cause == cause).count()
    }

    /// Whether there was one of this cause between these times, or shortly before.
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
    /// How long after its end something may still come of it.
    fn aftermath(self) -> Duration {
        Duration::from_secs(match self {
            // What is on its way when the server comes back.
            Self::Server => 10,
            // The endpoint is asked again after ever longer pauses.
            Self::Tokens => 60,
            // Changed files are looked for every few seconds.
            Self::Certificate => 30,
            // What was lost is told in the next line.
            Self::Log => 10,
            // The file is read again after ever longer pauses.
            Self::Files => 60,
            // A session breaks before the disturbance is over, and a device may hear of it a moment later.
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
