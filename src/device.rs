//! Devices: login and password are verified, and open the one account that the device was given.

mod charset;
mod delay;
mod dummy_hashes;
mod known;
mod miss_budget;
mod names;
pub mod password;
mod password_cache;
mod revalidate;
mod schedule;
mod source;
mod verify;

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Config, Networks};
use crate::diagnostic::Diagnostic;
use crate::submission::DeviceLists;
pub use delay::{Delays, Origin, Permit};
use dummy_hashes::DummyHashes;
pub use known::{KnownSources, PASSED};
use miss_budget::MissBudget;
use names::Names;
pub use names::normal_form;
use password::Hash;
use password_cache::PasswordCache;
pub use revalidate::Verified;
use schedule::Schedule;

/// All devices of the configuration.
pub struct Devices {
    devices: Vec<Arc<Device>>,
    names: Names,
    memory: PasswordCache,
    known: Arc<KnownSources>,
    delays: Arc<Delays>,
    misses: Arc<MissBudget>,
    schedule: Arc<Schedule>,
    /// Hashes that the password of an unknown login is compared with, so that it takes as long.
    dummy_hashes: Arc<[Hash]>,
}

/// A device of the configuration.
#[derive(Debug)]
pub struct Device {
    /// The first login, in lower case.
    pub name: String,
    /// The key of the account in [`Config::accounts`].
    pub account: String,
    /// The device's own hashes, followed by dummy hashes.
    hashes: Arc<[Hash]>,
    /// The number of its own hashes.
    own: usize,
    /// The hashes as the configuration has them.
    written: Vec<String>,
    networks: Option<Networks>,
    /// True if the device may delete mail.
    pub delete: bool,
    /// True if the device may send mail without a login, from its networks.
    sends_without_login: bool,
    /// The lists of senders and recipients that stand in the place of its account's.
    pub submission: DeviceLists,
}

impl Device {
    /// Returns whether the configuration has the same for both.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let Self { name, account, written, networks, delete, .. } = self;
        (name, account, written, networks, delete)
            == (&other.name, &other.account, &other.written, &other.networks, &other.delete)
    }
}

impl Devices {
    /// Reads every hash. Passwords that were verified before are remembered, where devices have the same ones.
    ///
    /// # Errors
    /// Hashes that cannot be verified.
    pub fn new(config: &Config, known: &Arc<KnownSources>, before: Option<&Devices>) -> Result<Self, Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut devices = Vec::new();
        let mut names = Names::default();
        for device in &config.devices {
            let name = device.logins.first().cloned().unwrap_or_default();
            let mut hashes = Vec::new();
            for written in &device.passwords {
                match Hash::parse(written) {
                    Ok(hash) if hash.is_of_short() && !is_narrowed(device) => {
                        diagnostics.push(Diagnostic::of_file(format!("device.{name}.networks"), SHORT_ANYWHERE));
                    }
                    Ok(hash) => hashes.push(hash),
                    Err(why) => diagnostics.push(Diagnostic::of_file(format!("device.{name}.passwords"), why)),
                }
            }
            let mailbox = config.accounts.get(&device.account).map(|account| account.mailbox.as_str());
            names.add(&device.logins, mailbox.unwrap_or_default());
            devices.push(Device {
                name,
                account: device.account.clone(),
                own: hashes.len(),
                hashes: hashes.into(),
                written: device.passwords.clone(),
                delete: device.delete,
                networks: device.networks.clone(),
                sends_without_login: device.sends_without_login,
                submission: device.submission.clone(),
            });
        }
        let dummy_hashes = DummyHashes::new(devices.iter().map(|device| &*device.hashes));
        for device in &mut devices {
            device.hashes = dummy_hashes.beside(&device.hashes).into();
        }
        let devices: Vec<_> = devices.into_iter().map(Arc::new).collect();
        if !diagnostics.is_empty() {
            return Err(diagnostics);
        }
        let delays = Delays::new(config.limits.failure_delay, config.limits.longest_failure_delay);
        let (delays, misses) = match before.map(|before| (&before.delays, &before.misses)) {
            Some((same, misses)) if same.is_like(&delays) => (Arc::clone(same), Arc::clone(misses)),
            Some(_) | None => (Arc::new(delays), Arc::new(MissBudget::new(config.limits.longest_failure_delay))),
        };
        let (memory, time) = (before.map(|before| (&before.memory, &*before.devices)), config.limits.password_memory);
        let memory = PasswordCache::new(time, &devices, memory).map_err(|why| vec![Diagnostic::new("", why)])?;
        Ok(Self {
            devices,
            names,
            memory,
            known: Arc::clone(known),
            delays,
            misses,
            schedule: before.map_or_else(Schedule::new, |before| Arc::clone(&before.schedule)),
            dummy_hashes: dummy_hashes.beside(&[]).into(),
        })
    }

    /// Takes effect: known sources of devices and passwords that are no longer configured are forgotten.
    pub fn begin(&self) {
        self.known.retain_devices(|name| {
            let device = self.devices.iter().find(|device| device.name == name)?;
            let of_network = device.sends_without_login.then(|| known::mark(WITHOUT_LOGIN));
            Some(device.written.iter().map(|hash| known::mark(hash)).chain(of_network).collect())
        });
    }

    /// Returns whether some device has logged in from this address with a password that it still has.
    pub fn knows(&self, source: IpAddr) -> bool {
        self.known.knows(source)
    }

    /// Returns whether the password of one more known device could be verified now.
    pub fn has_room(&self) -> bool {
        self.schedule.has_room()
    }

    /// Returns whether a device may act as this authorization identity (RFC 4616 §2): a name of its own, or its
    /// mailbox.
    pub fn may_act_as(&self, device: &Device, authzid: &[u8]) -> bool {
        let name = names::written(authzid);
        let own = device.name.as_str();
        name.trim().is_empty() || self.find(own).is_some_and(|(index, _)| self.names.belongs_to(&name, index))
    }

    fn find(&self, login: &str) -> Option<(usize, &Arc<Device>)> {
        let index = self.names.find(login)?;
        Some((index, self.devices.get(index)?))
    }
}

impl Device {
    /// Returns the mark of one of its hashes, for the list of known devices.
    fn mark(&self, hash: usize) -> Option<u64> {
        self.written.get(hash).map(|hash| known::mark(hash))
    }

    fn serves(&self, source: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.contain(source))
    }
}

/// Returns whether the configuration restricts the device's networks.
fn is_narrowed(device: &crate::config::Device) -> bool {
    device.networks.as_ref().is_some_and(|networks| !networks.are_public())
}

/// The word that has the place of a password's hash among the known sources of a device without one.
const WITHOUT_LOGIN: &str = "send_without_login";
const SHORT_ANYWHERE: &str = "is missing or open to the world; this device's password has fewer than 8 characters and \
     is soon guessed: write networks = [\"192.168.1.20/32\"] with its address, or give it a longer one";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn devices(more: &str) -> Arc<Devices> {
        let hash = password::hash(b"k7m2xp9at").unwrap();
        let text = format!(
            "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n\
             [account.a]\nmailbox = \"Shared@contoso.example\"\n\
             [[device]]\nlogin = \"Scanner3\"\naliases = [\"scan@contoso.example\"]\npasswords = [\"{hash}\"]\n{more}"
        );
        let config = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config;
        Arc::new(Devices::new(&config, &Arc::default(), None).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}")))
    }

    async fn verify(devices: &Arc<Devices>, login: &str, password: &str) -> Result<String, String> {
        verify_from("192.0.2.1", devices, login, password).await
    }

    async fn verify_from(source: &str, devices: &Arc<Devices>, login: &str, password: &str) -> Result<String, String> {
        let source = source.parse().unwrap();
        let password = Secret::new(password.as_bytes().to_vec());
        match devices.verify(login.as_bytes(), &password, source).await {
            Ok(verified) => Ok(verified.device.account.clone()),
            Err(failure) => Err(failure.detail),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_opens_its_account() {
        let devices = devices("");
        assert_eq!(verify(&devices, "SCANNER3 ", "k7m2xp9at").await, Ok("a".to_owned()));
        assert!(verify(&devices, "scan", "k7m2xp9at").await.is_err());
        assert!(verify(&devices, "scanner3", "wrong").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn networks_of_a_device() {
        let devices = devices("networks = [\"198.51.100.0/24\"]");
        assert!(verify(&devices, "scanner3", "k7m2xp9at").await.unwrap_err().contains("not in the networks"));
    }

    /// The cache remembers the password, not the device.
    #[tokio::test(start_paused = true)]
    async fn a_remembered_device_still_needs_its_password() {
        let devices = devices("");
        verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
        let has =
            |password: &[u8]| devices.memory.has(&devices.devices[0], 0, &Secret::new(password.to_vec())).is_some();
        assert!(has(b"k7m2xp9at") && !has(b"k7m2xp9a"));
        assert!(verify(&devices, "scanner3", "k7m2xp9aT").await.is_err());
    }

    /// The delay grows, and does not keep out who has the password in memory.
    #[tokio::test(start_paused = true)]
    async fn failures_are_slowed_down() {
        let devices = devices("");
        verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
        let began = tokio::time::Instant::now();
        for _ in 0..4 {
            verify(&devices, "scanner3", "guess").await.unwrap_err();
        }
        // 0.5 s, 1 s and 2 s before the second, third and fourth.
        assert!(began.elapsed() >= Duration::from_millis(3500), "{:?}", began.elapsed());
        let began = tokio::time::Instant::now();
        verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500));
    }

    /// A stranger that has failed waits for its turn, whether or not the memory has the password that it tries.
    #[tokio::test(start_paused = true)]
    async fn a_stranger_learns_nothing_from_the_password_memory_before_its_turn() {
        let devices = devices("");
        verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
        for _ in 0..4 {
            verify(&devices, "scanner3", "guess").await.unwrap_err();
        }
        for password in ["guess", "k7m2xp9at"] {
            let attempt = verify(&devices, "scanner3", password);
            let answer = tokio::time::timeout(Duration::from_millis(50), attempt).await;
            assert!(answer.is_err(), "{password}: {answer:?}");
        }
        assert!(!devices.knows("192.0.2.1".parse().unwrap()));
    }

    /// At a known device's address, a guesser that leaves its turn gets a few answers from the memory, and then none.
    #[tokio::test(start_paused = true)]
    async fn the_memory_tells_a_guesser_at_a_known_address_little() {
        let devices = devices("");
        verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
        for _ in 0..3 {
            verify(&devices, "scanner3", "guess").await.unwrap_err();
        }
        let soon = |password: &'static str| {
            let devices = Arc::clone(&devices);
            async move {
                let attempt = verify(&devices, "scanner3", password);
                tokio::time::timeout(Duration::from_millis(50), attempt).await.is_ok_and(|answer| answer.is_ok())
            }
        };
        // The device itself goes on beside a few guesses.
        assert!(!soon("guess").await && soon("k7m2xp9at").await);
        for _ in 0..10 {
            assert!(!soon("guess").await);
        }
        assert!(!soon("k7m2xp9at").await);
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(soon("k7m2xp9at").await);
    }

    /// Each try has as many runs as the device with the most passwords needs.
    #[test]
    fn unknown_logins_are_compared_as_often() {
        let hash = password::hash(b"another one").unwrap();
        let devices =
            devices(&format!("[[device]]\nlogin = \"other\"\npasswords = [\"{hash}\", \"{hash}\", \"{hash}\"]"));
        assert_eq!(devices.dummy_hashes.len(), 3);
        assert!(devices.devices.iter().all(|device| device.hashes.len() == 3));
        assert_eq!(devices.devices.iter().map(|device| device.own).collect::<Vec<_>>(), [1, 3]);
    }

    /// Every spelling of a login, and every alias, is the same login to who guesses from many addresses that have
    /// failed.
    #[tokio::test(start_paused = true)]
    async fn spelling_does_not_evade_the_delay() {
        let devices = devices("");
        for number in 0..4 {
            verify_from(&format!("192.0.2.{number}"), &devices, &format!("guess{number}"), "guess").await.unwrap_err();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = tokio::time::Instant::now();
        for (number, login) in
            ["scanner3", "d0\\scanner3\\shared", "scan@contoso.example", "SCANNER3/shared"].iter().enumerate()
        {
            verify_from(&format!("192.0.2.{number}"), &devices, login, "guess").await.unwrap_err();
        }
        assert!(began.elapsed() >= Duration::from_millis(3500), "{:?}", began.elapsed());
    }

    /// Tries of others with its login do not slow down a device that has logged in from there before.
    #[tokio::test(start_paused = true)]
    async fn a_familiar_device_has_a_lane_of_its_own() {
        let devices = devices("");
        verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
        devices.memory.forget();
        for number in 0..5 {
            verify_from(&format!("192.0.2.{number}"), &devices, "scanner3", "guess").await.unwrap_err();
        }
        let began = tokio::time::Instant::now();
        verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500));
    }

    /// The device does not wait even for guessers without a failure of their own, because each of them has its own run.
    #[tokio::test(start_paused = true)]
    async fn a_device_from_a_new_source_waits_for_no_guesser() {
        let devices = devices("");
        for number in 0..5 {
            verify_from(&format!("192.0.2.{number}"), &devices, "scanner3", "guess").await.unwrap_err();
        }
        let began = tokio::time::Instant::now();
        verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500));
        assert!(devices.knows("192.0.2.9".parse().unwrap()) && !devices.knows("192.0.2.1".parse().unwrap()));
    }

    /// Whenever devices leave, whatever they try: all that a login takes is given back, and the device itself gets in.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_when_logins_are_cancelled_at_any_point() {
        let devices = devices("[limits]\nfailure_delay = \"1ms\"\nlongest_failure_delay = \"1s\"");
        let mut tries = tokio::task::JoinSet::new();
        for number in 0..80_u64 {
            let devices = Arc::clone(&devices);
            // 0 to 198 ms, in no order, and none at all.
            let stays = Duration::from_millis(number * 37 % 67 * 3);
            tries.spawn(async move {
                let (login, password) = (["scanner3", "nobody"][number as usize % 2], ["k7m2xp9at", "guess"]);
                let source = format!("192.0.2.{}", number % 4);
                let attempt = verify_from(&source, &devices, login, password[number as usize / 2 % 2]);
                drop(tokio::time::timeout(stays, attempt).await);
            });
        }
        tries.join_all().await;
        let begun = Instant::now();
        while !devices.schedule.is_idle() || !devices.delays.is_idle() {
            assert!(begun.elapsed() < Duration::from_secs(60), "something is held");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
    }

    /// A client that hangs up before the answer has tried all the same.
    #[tokio::test]
    async fn a_try_counts_even_if_nobody_waits_for_it() {
        let devices = devices("");
        let source = "192.0.2.1".parse().unwrap();
        let password = Secret::new(b"guess".to_vec());
        let attempt = devices.verify(b"scanner3", &password, source);
        assert!(tokio::time::timeout(Duration::ZERO, attempt).await.is_err());
        while !devices.schedule.is_idle() || !devices.delays.is_idle() {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        verify(&devices, "scanner3", "guess").await.unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    }
}
