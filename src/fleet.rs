//! A fleet is several instances of packetboat that share one PostgreSQL database. This room has the records in it, and
//! the registration of this instance; everything that is shared stands above [`Records`].

mod certificates;
mod error;
mod interval;
mod kept;
pub mod lease;
mod password;
#[cfg(feature = "fleet")]
mod postgres;
mod records;
mod seen;
mod slots;
mod status;
mod trouble;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::Config;
use crate::crypto::{self, jitter};
use crate::lifecycle::{Lifecycle, Phase};

pub use certificates::{CertificatesError, FleetCertificates, Settled};
pub use error::Error;
pub use interval::interval_of;
pub use kept::{Kept, KeptRecords, label as kept_label};
pub use password::PasswordSource;
#[cfg(feature = "fleet")]
pub use postgres::{Migration, Postgres, ServerProcess};
pub use records::{
    Answer, Borrowed, Candidate, DatabaseFacts, HeldSession, Instance, InstanceRecords, KnownInstance, Lease,
    MailboxKey, MailboxNews, MailboxUse, Origin, PATIENCE, Records, Registered, Renewal, SealedAccess, SealedKind,
    SessionKind, SessionRecords, SessionRequest, SignIn, SignInKey, SignInRecords, SplitBrain, UnfinishedRenewal,
    Wanted,
};
pub use seen::{SeenByInstance, SeenCursor, SeenRecord, SeenRecords};
pub use slots::{BorrowedNumbers, BorrowedSession, LOGIN_PATIENCE, MailboxSlots, POLL, SESSION_LIFE, Slots, Throttled};
pub use status::{Outage, Status};
pub use trouble::{Trouble, Troubles};

/// This process as an instance of its fleet.
pub struct Fleet {
    records: Arc<dyn Records>,
    instance: Instance,
    status: Status,
    troubles: Troubles,
    slots: Arc<Slots>,
    /// Counts how often the database came back, perhaps with earlier records.
    returns: watch::Sender<u64>,
    /// The sign-ins whose person has signed out, each with the number of its empty record.
    signed_out: watch::Sender<HashMap<SignInKey, i64>>,
    /// The last answer to a registration.
    registered: Mutex<Option<Registered>>,
    /// Counts how often the database had lost what it had confirmed.
    losses: AtomicU64,
    /// The time since which another instance of this name is registered.
    namesake: Mutex<Option<Instant>>,
    password: Option<Arc<dyn PasswordSource>>,
    /// This process serves devices; a command does not.
    serves: AtomicBool,
}

impl Fleet {
    /// An instance with this name, over these records, whose password has this source.
    ///
    /// # Errors
    /// The operating system has no random octets for its id.
    pub fn new(
        records: Arc<dyn Records>,
        name: &str,
        password: Option<Arc<dyn PasswordSource>>,
    ) -> Result<Self, Error> {
        let instance = Instance { id: uuid()?, name: name.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
        let slots = Slots::new(Arc::clone(&records) as _, &instance.id);
        Ok(Self {
            records,
            instance,
            status: Status::default(),
            troubles: Troubles::default(),
            slots,
            returns: watch::Sender::new(0),
            signed_out: watch::Sender::default(),
            registered: Mutex::default(),
            losses: AtomicU64::new(0),
            namesake: Mutex::default(),
            password,
            serves: AtomicBool::new(false),
        })
    }

    /// Notes that this process serves devices: the copies of sign-ins on this computer are its own.
    pub fn will_serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// Returns whether this process serves devices.
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Relaxed)
    }

    /// Whether the database is reached.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Changes when a person has signed out, or has signed in again.
    pub fn signed_out(&self) -> watch::Receiver<HashMap<SignInKey, i64>> {
        self.signed_out.subscribe()
    }

    /// The trouble that goes on while the database answers.
    pub fn troubles(&self) -> &Troubles {
        &self.troubles
    }

    /// The server process and the tables that the last registration went to; none where the database is not reached.
    pub fn origin(&self) -> Option<Origin> {
        let registered = self.registered.lock().as_ref().map(|registered| registered.origin.clone());
        registered.filter(|_| self.status.is_reached())
    }

    /// How often the database had lost what it had confirmed to this instance.
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }

    /// This process as an instance of the fleet that the configuration names; none where it is alone. The password comes
    /// from this source, if there is one. Nothing is dialled yet.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    #[cfg(feature = "fleet")]
    pub fn of(config: &Config, password: Option<Arc<dyn PasswordSource>>) -> Result<Option<Arc<Self>>, Error> {
        let Some(section) = &config.fleet else { return Ok(None) };
        let records = Arc::new(Postgres::new(section, config, password.clone()));
        Ok(Some(Arc::new(Self::new(records, &instance_name(config), password)?)))
    }

    /// None: the configuration cannot have a fleet without the cargo feature.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(feature = "fleet"))]
    pub fn of(_: &Config, _: Option<Arc<dyn PasswordSource>>) -> Result<Option<Arc<Self>>, Error> {
        Ok(None)
    }

    /// The records of the fleet.
    pub fn records(&self) -> &Arc<dyn Records> {
        &self.records
    }

    /// This instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The sessions of mailboxes that this instance borrows from the others.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// The source of the database's password, where it is no file.
    pub fn password(&self) -> Option<Arc<dyn PasswordSource>> {
        self.password.clone()
    }

    /// Changes when the database comes back, perhaps with earlier records: it was away, or its server or its tables are
    /// others.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    /// Keeps this instance registered until the process drains, and ends the registration then. The log says when the
    /// database goes away and when it is back.
    pub async fn run(&self, mut lifecycle: Lifecycle) {
        tokio::select! {
            () = self.keep_registered() => {}
            () = self.watch_servers() => {}
            () = self.watch_signed_out() => {}
            () = lifecycle.reached(Phase::Draining) => {}
        }
        if let Err(error) = self.records.unregister(&self.instance.id).await {
            warn!(
                instance = self.instance.name,
                "the registration of this instance ends by itself within {}: {error}",
                humantime::format_duration(LIFE)
            );
        }
    }

    async fn keep_registered(&self) {
        loop {
            let renewed = self.renew().await;
            // Instances that were started together, or have found the database again together, part here.
            let parts = renewed.is_ok() && !self.status.is_reached();
            self.log_change(renewed);
            sleep(if parts { RENEWAL.mul_f64(jitter(0.0, 1.0)) } else { RENEWAL }).await;
        }
    }

    /// Looks whether another server of the database takes changes as well. An instance connects to one of them alone, and
    /// would not see that otherwise.
    async fn watch_servers(&self) {
        let mut unknown = 0;
        loop {
            self.pause().await;
            match self.records.split_brain().await {
                Ok(split) => {
                    unknown = 0;
                    self.note(Trouble::SplitBrain, split.map(|split| split.to_string()));
                }
                // While one does not answer, nobody knows: a promotion may be under way, or the server be overloaded. One that
                // stays away takes no changes.
                Err(_) if unknown < LOOKS => unknown += 1,
                Err(_) => self.note(Trouble::SplitBrain, None),
            }
        }
    }

    /// Looks who has signed out: an access token that an instance has would serve devices until its end otherwise. One
    /// question is about all sign-ins, and none is made where no account has one.
    async fn watch_signed_out(&self) {
        loop {
            self.pause().await;
            if self.signed_out.receiver_count() == 0 {
                continue;
            }
            // An outage is logged elsewhere.
            let Ok(signed_out) = self.records.signed_out().await else { continue };
            let signed_out: HashMap<_, _> = signed_out.into_iter().collect();
            self.signed_out.send_if_modified(|before| {
                let is_other = *before != signed_out;
                *before = signed_out;
                is_other
            });
        }
    }

    /// The time between two looks. Instances that were started together do not look at the same moments.
    async fn pause(&self) {
        let instances = usize::try_from(self.slots.numbers().registered).unwrap_or(usize::MAX);
        sleep(interval_of(WATCH, instances).mul_f64(jitter(0.8, 1.0))).await;
    }

    /// Prolongs the registration. The statement touches the row of this instance alone, however many there are.
    async fn renew(&self) -> Result<(), Error> {
        let registered = self.records.register(&self.instance, LIFE).await?;
        let before = self.registered.lock().replace(registered.clone());
        // The first answer as well: another database may be there since the last start.
        let is_other = before.as_ref().is_none_or(|before| before.origin != registered.origin);
        if is_other || self.status.outage().is_some() {
            self.returns.send_modify(|count| *count += 1);
        }
        if before.is_some_and(|before| registered.lacks(&before)) {
            self.losses.fetch_add(1, Ordering::Relaxed);
            warn!(instance = self.instance.name, "{LOST}");
        }
        let fits = check_schema(registered.schema);
        self.note(Trouble::Tables, fits.err().map(|error| error.to_string()));
        Ok(())
    }

    /// Takes note of the names of the instances that are registered. One that was killed is registered for [`LIFE`] more, so
    /// that a second instance of this one's name counts only if it is there for longer: it runs then.
    pub fn note_names(&self, names: &[String]) {
        let own = &self.instance.name;
        let others = names.iter().filter(|name| *name == own).count().saturating_sub(1);
        let since = {
            let mut namesake = self.namesake.lock();
            *namesake = (others > 0).then(|| namesake.unwrap_or_else(Instant::now));
            *namesake
        };
        let runs = since.is_some_and(|since| since.elapsed() > LIFE);
        self.note(
            Trouble::SameName,
            runs.then(|| {
                format!(
                    "another instance of the fleet has the name {own} as well, and each of the two overwrites in the \
                     database what the other has seen: give each one a name of its own by fleet.instance, and restart it"
                )
            }),
        );
    }

    /// Takes note of trouble, with its reason and its cure, or that there is none of this kind. The log has each change
    /// once.
    fn note(&self, trouble: Trouble, why: Option<String>) {
        let before = self.troubles.note(trouble, why.clone());
        let instance = self.instance.name.as_str();
        match why {
            Some(why) if before.as_ref() != Some(&why) => warn!(instance, "{why}"),
            None if before.is_some() => info!(instance, "{}", trouble.over()),
            _ => {}
        }
    }

    /// Logs an outage once, and another reason of it; and once that it is over.
    fn log_change(&self, renewed: Result<(), Error>) {
        let before = self.status.outage();
        let instance = self.instance.name.as_str();
        match renewed {
            Ok(()) => {
                self.status.reached();
                if let Some(outage) = before {
                    info!(instance, "the fleet's database is back; it was away since {}", outage.since_words());
                }
            }
            Err(error) => {
                self.status.failed(&error);
                let error = error.to_string();
                if before.is_none_or(|before| before.why != error) {
                    warn!(instance, "{error}; until then this instance goes on without the database");
                }
            }
        }
    }
}

/// Returns the name of this instance: that of the configuration, or that of the computer.
pub fn instance_name(config: &Config) -> String {
    let named = config.fleet.as_ref().and_then(|fleet| fleet.instance.clone());
    named.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Returns whether two versions of the tables fit: they are this packetboat's or later ones, and still serve it.
///
/// # Errors
/// There are no tables, or they do not fit.
pub fn check_schema(found: Option<(i32, i32)>) -> Result<(), Error> {
    match found {
        None => Err(Error::NoSchema),
        Some((found, _)) if found < SCHEMA => Err(Error::OlderSchema { found, needed: SCHEMA }),
        Some((found, serves_from)) if serves_from > SCHEMA => Err(Error::NewerSchema { found, serves_from }),
        Some(_) => Ok(()),
    }
}

/// A random UUID (RFC 9562 section 5.4).
fn uuid() -> Result<String, Error> {
    let octets: [u8; 16] = crypto::random()?;
    let number = u128::from_be_bytes(octets) & !(0xf << 76) & !(0b11 << 62) | 0x4 << 76 | 0b10 << 62;
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    Ok([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

/// The version of the tables that this packetboat needs.
pub const SCHEMA: i32 = 2;
/// The time for which an instance is registered.
pub const LIFE: Duration = Duration::from_secs(30);
/// The interval at which the registration is prolonged.
const RENEWAL: Duration = Duration::from_secs(10);
/// The interval at which an instance of a small fleet looks who has signed out, and at the servers of the database that it
/// does not use.
const WATCH: Duration = Duration::from_secs(30);
/// The looks in a row that do not end a split brain which is known, although another server did not answer.
const LOOKS: u32 = 3;
/// The database has lost what it had confirmed.
const LOST: &str = "the fleet's database has lost changes that it had confirmed: a backup was restored, a standby that \
                    lacks them has taken over, or its address leads to another database. This instance puts back what it \
                    knows. If nobody did that on purpose, compare the id of the database in packetboat fleet status on \
                    each instance";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_form_and_comes_once() {
        let (one, other) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
    }

    /// Tables may be ahead of packetboat as long as they serve it, and never behind.
    #[test]
    fn two_versions_stand_side_by_side() {
        assert!(check_schema(Some((SCHEMA, SCHEMA))).is_ok() && check_schema(Some((SCHEMA + 1, SCHEMA))).is_ok());
        assert!(matches!(check_schema(None), Err(Error::NoSchema)));
        assert!(matches!(check_schema(Some((SCHEMA - 1, 0))), Err(Error::OlderSchema { .. })));
        assert!(matches!(check_schema(Some((SCHEMA + 2, SCHEMA + 1))), Err(Error::NewerSchema { .. })));
    }
}
