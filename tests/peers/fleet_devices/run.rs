//! A run has what all devices need: the mail server, their addresses, and the book of what went wrong.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;
use support::exchange::Exchange;
use support::stacks::{Version, context, old};

use super::client::{Trouble, Visit};
use crate::fleet_haproxy::Network;

pub struct Run {
    pub exchange: Exchange,
    pub count: usize,
    pub balancer: Network,
    /// The networks of the devices.
    pub networks: Vec<Network>,
    pub context: SslContext,
    pub is_over: AtomicBool,
    /// The beginning of the last good visit of each device.
    served: Mutex<Vec<Option<Instant>>>,
    visits: AtomicUsize,
    ends: AtomicUsize,
    failures: Mutex<Vec<Failure>>,
    faults: Mutex<Vec<String>>,
}

/// A visit that has failed.
#[derive(Debug)]
pub struct Failure {
    device: usize,
    pub begun: Instant,
    pub trouble: Trouble,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} {:?} ago: {}", self.device, self.begun.elapsed(), self.trouble)
    }
}

impl Run {
    pub fn new(exchange: Exchange, count: usize) -> Self {
        Self {
            exchange,
            count,
            balancer: Network::new(),
            networks: (0..count.div_ceil(OF_A_NETWORK)).map(|_| Network::new()).collect(),
            context: context(|context| old(context, Version::Tls1_0, "AES128-SHA")),
            is_over: AtomicBool::new(false),
            served: Mutex::new(vec![None; count]),
            visits: AtomicUsize::new(0),
            ends: AtomicUsize::new(0),
            failures: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    /// The address of a device, and that of HAProxy for the usual port.
    pub fn way(&self, device: usize, port: u16) -> (Ipv4Addr, SocketAddr) {
        let network = self.networks[device / OF_A_NETWORK];
        let last = u8::try_from(1 + device % OF_A_NETWORK).unwrap();
        (network.host(last), self.balancer.balancer(port))
    }

    /// Notes how a visit has ended.
    pub fn note(&self, device: usize, begun: Instant, visited: Visit) {
        self.visits.fetch_add(1, Ordering::Relaxed);
        match visited {
            Ok(()) => self.served.lock().unwrap()[device] = Some(begun),
            Err(trouble) => self.failures.lock().unwrap().push(Failure { device, begun, trouble }),
        }
    }

    /// Notes that the connection of a device that stays has ended between two visits.
    pub fn note_end(&self) {
        self.ends.fetch_add(1, Ordering::Relaxed);
    }

    pub fn fault(&self, words: String) {
        self.faults.lock().unwrap().push(words);
    }

    /// Waits until each device has come and was served, from now on.
    pub fn until_all_served(&self, when: &str) {
        let begun = Instant::now();
        let patience = Duration::from_secs(120) + Duration::from_millis(300) * u32::try_from(self.count).unwrap();
        loop {
            let is_late = |served: &Option<Instant>| served.is_none_or(|served| served < begun);
            let late: Vec<usize> = {
                let served = self.served.lock().unwrap();
                (0..self.count).filter(|device| is_late(&served[*device])).collect()
            };
            if late.is_empty() {
                return;
            }
            if begun.elapsed() > patience {
                panic!("{when}, these are not served: {late:?}; {}", listed(&self.failures()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The visits that have failed since the last call.
    pub fn failures(&self) -> Vec<Failure> {
        std::mem::take(&mut self.failures.lock().unwrap())
    }

    /// The connections of devices that stay which have ended since the last call.
    pub fn ends(&self) -> usize {
        self.ends.swap(0, Ordering::Relaxed)
    }

    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }

    /// Messages that were lost, came again or were changed.
    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }
}

/// Failures as lines.
pub fn listed(failures: &[Failure]) -> String {
    failures.iter().map(|failure| format!("{failure}\n")).collect()
}

/// The addresses that are used of a /24.
const OF_A_NETWORK: usize = 250;
