//! Verification of a login: by the password cache, or after a delay by as many Argon2 runs as for every other one.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::JoinError;

use super::delay::Origin;
use super::revalidate::Verified;
use super::schedule::{Class, Reservation};
use super::{Device, Devices, charset, names};
use crate::failure::{Failure, Kind};
use crate::pool;
use crate::secret::Secret;
use crate::source::Source;

impl Devices {
    /// Verifies a login, and returns its device.
    ///
    /// A try is delayed after earlier failures. A password that was verified lately costs a keyed hash then; every
    /// other one takes the same number of Argon2 runs, whether or not the login is known. A device at a known source is
    /// not delayed where the cache has its password; it may miss the cache a few times.
    ///
    /// # Errors
    /// [`Kind::WrongPassword`]; its detail is for the log, and the device always gets the same reply.
    /// [`Kind::NotVerified`] if the password was not looked at, because too many wrong ones came before or at the same
    /// time.
    pub async fn verify(
        self: &Arc<Self>,
        login: &[u8],
        password: &Secret,
        source: IpAddr,
    ) -> Result<Verified, Failure> {
        let login = names::written(login);
        let found = self.find(&login);
        let from = Source::from(source);
        let who = Origin {
            source: from,
            // All names of a device count as one, and all forms of a name.
            name: found.map_or_else(|| names::normal(&login).to_owned(), |(_, device)| device.name.clone()),
            is_familiar: found.is_some_and(|(_, device)| device.serves(source) && self.known.has(&device.name, from)),
        };
        if who.is_familiar
            && self.misses.take(&who.name, from)
            && let Some((device, hash)) = self.remembered(found, password, source)
        {
            self.misses.give_back(&who.name, from);
            return Ok(Verified::new(device, login, hash));
        }
        let turn = self.delays.admit(&who).await?;
        if let Some((device, hash)) = self.remembered(found, password, source) {
            // The failures of a known pair count on: its right passwords give a guesser at its address no new tries.
            if !who.is_familiar {
                turn.succeeded();
            }
            return Ok(Verified::new(device, login, hash));
        }
        let class = if who.is_familiar { Class::Known } else { Class::Stranger };
        let place = self.schedule.reserve(class, from).await;
        let place = place.ok_or_else(|| not_verified("too many passwords are being verified"))?;
        // A task of its own finishes the try, which counts even if the device leaves before the answer.
        let (devices, password, index) = (Arc::clone(self), password.clone(), found.map(|(index, _)| index));
        let verified = tokio::spawn(async move {
            let verdict = devices.check(index, &password, source, &place).await;
            match &verdict {
                Ok(_) => turn.succeeded(),
                Err(failure) if failure.kind == Kind::WrongPassword => turn.failed(),
                // The password was not verified.
                Err(_) => drop(turn),
            }
            verdict
        });
        let (index, hash) = match verified.await.unwrap_or_else(|ended| Err(interrupted(&ended))) {
            Ok(verified) => verified,
            Err(failure) if found.is_none() && failure.kind == Kind::WrongPassword => {
                return Err(self.unknown(&login, source));
            }
            Err(failure) => return Err(failure),
        };
        let device = self.devices.get(index).ok_or_else(|| wrong(""))?;
        Ok(Verified::new(device, login, hash))
    }

    /// Returns the device and the index of its hash, where this password was verified lately.
    fn remembered<'a>(
        &self,
        found: Option<(usize, &'a Arc<Device>)>,
        password: &Secret,
        source: IpAddr,
    ) -> Option<(&'a Arc<Device>, usize)> {
        let (index, device) = found.filter(|(_, device)| device.serves(source))?;
        let hash = self.memory.has(device, index, password)?;
        self.known.add_with(&device.name, source.into(), device.mark(hash));
        Some((device, hash))
    }

    /// Compares the password with all hashes. Returns the device's index, and that of the hash that fits.
    async fn check(
        &self,
        index: Option<usize>,
        password: &Secret,
        source: IpAddr,
        place: &Reservation,
    ) -> Result<(usize, usize), Failure> {
        let found = index.and_then(|index| Some((index, self.devices.get(index)?)));
        let mut right = None;
        // All of them, whichever is right.
        for reading in charset::readings(password) {
            let compared = self.compare(found.map(|(_, device)| device.as_ref()), &reading, place).await?;
            right = right.or(compared);
        }
        match (found, right) {
            (Some((index, device)), Some(hash)) if device.serves(source) => {
                self.memory.keep(device, index, hash, password);
                self.known.add_with(&device.name, source.into(), device.mark(hash));
                Ok((index, hash))
            }
            (Some((_, device)), Some(_)) => {
                let name = &device.name;
                let of = format!("the networks of device \"{name}\"");
                Err(wrong(&format!("the password is right, but {source} is not in {of}")))
            }
            (Some((_, device)), None) if device.own == 0 => Err(wrong(&format!(
                "device \"{}\" has no password: it sends without a login, by SMTP alone",
                device.name
            ))),
            (Some((_, device)), None) => Err(wrong(&format!("the password is not one of device \"{}\"", device.name))),
            (None, _) => Err(wrong(UNKNOWN)),
        }
    }

    /// The failure of a login that no device has. The commonest one is the mailbox's address, which the device had
    /// before. Otherwise the address may tell which device it is. The text is for the log and the page; the device's
    /// answer is that of any wrong password.
    fn unknown(&self, login: &str, source: IpAddr) -> Failure {
        let of_mailbox = self.names.only_of_mailbox(login).and_then(|index| Some((index, self.devices.get(index)?)));
        let Some((index, Device { name, .. })) = of_mailbox.map(|(index, device)| (index, device.as_ref())) else {
            return match self.only_at(source) {
                Some(Device { name, own: 0, .. }) => wrong(&format!(
                    "{UNKNOWN}; {source} is in the networks of device \"{name}\" alone, which sends without a login: \
                     switch SMTP authentication off in it"
                )),
                Some(Device { name, .. }) => wrong(&format!(
                    "{UNKNOWN}; {source} is in the networks of device \"{name}\" alone: type that name as the user name"
                )),
                None => wrong(UNKNOWN),
            };
        };
        let mailbox = login.trim();
        let line = if self.names.has_aliases(index) {
            format!("add \"{mailbox}\" to the aliases of its [[device]]")
        } else {
            format!("write aliases = [\"{mailbox}\"] into its [[device]]")
        };
        wrong(&format!("{UNKNOWN}; it is the mailbox of device \"{name}\": type that name as the user name, or {line}"))
    }

    /// The only device whose `networks` have this address.
    fn only_at(&self, source: IpAddr) -> Option<&Device> {
        let mut at = self.devices.iter().filter(|device| device.networks.is_some() && device.serves(source));
        let only = at.next()?;
        at.next().is_none().then_some(only)
    }

    /// Returns the first of the device's hashes that fits the password. Each comparison is a run of its own, so that
    /// other sources are served between them.
    async fn compare(
        &self,
        device: Option<&Device>,
        password: &Secret,
        place: &Reservation,
    ) -> Result<Option<usize>, Failure> {
        let (hashes, own) = device.map_or((&self.dummy_hashes, 0), |device| (&device.hashes, device.own));
        let mut right = None;
        for index in 0..hashes.len() {
            let run = place.run().await;
            let (hashes, password) = (Arc::clone(hashes), password.clone());
            let compared =
                pool::PASSWORDS.run(move || hashes.get(index).is_some_and(|hash| hash.is_of(password.expose())));
            let is_of_it = compared.await.map_err(|why| not_verified(&why.to_string()))?;
            // Dummy hashes follow the device's own.
            right = right.or((is_of_it && index < own).then_some(index));
            drop(run);
        }
        Ok(right)
    }
}

/// A verification that ended without a result: by a panic, which costs this login alone, or with the process.
fn interrupted(ended: &JoinError) -> Failure {
    if ended.is_panic() {
        not_verified("an internal error, which the log names")
    } else {
        Failure::new(Kind::Drained, "")
    }
}

fn not_verified(detail: &str) -> Failure {
    Failure::new(Kind::NotVerified, detail)
}

const UNKNOWN: &str = "no [[device]] has this login";

fn wrong(detail: &str) -> Failure {
    Failure::new(Kind::WrongPassword, detail)
}
