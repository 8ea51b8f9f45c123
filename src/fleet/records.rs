//! The records that all instances of a fleet have in common, as operations with types. PostgreSQL carries them out; a
//! simulated database can as well, so that what stands above runs over both.
//!
//! Three rules hold for every operation:
//!
//! - It is one statement, whole or not at all, and ends within [`PATIENCE`]. If it fails with
//!   [`Error::may_be_done`], nobody knows whether it was carried out: read before it is tried again.
//! - Times are lengths, measured by the clock of the database. A wrong clock of an instance changes nothing.
//! - Secrets are sealed before they come here, under [`SignInKey::label`].
//!
//! Each kind of record has a trait of its own, and [`Records`] is all of them. A new kind gets a new trait.

mod sessions;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use super::error::Error;
use crate::config::fleet::DatabaseServer;
use crate::crypto;
pub use sessions::{
    Borrowed, HeldSession, MailboxKey, MailboxNews, MailboxUse, SessionKind, SessionRecords, SessionRequest, Wanted,
};

/// The longest time that an operation takes, with a new connection if there has to be one.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The time after which the registration of an instance that has ended may be removed: half of the day for which others
/// list it.
const REMOVED: Duration = Duration::from_secs(12 * 60 * 60);

/// The answer of the database, to be awaited.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// All records of a fleet.
pub trait Records: InstanceRecords + SignInRecords + SessionRecords {}

impl<T: InstanceRecords + SignInRecords + SessionRecords> Records for T {}

/// An instance of packetboat, from one start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The id of this start, a random UUID (RFC 9562).
    pub id: String,
    /// The name of the instance in the configuration, or of its computer.
    pub name: String,
    /// The version of packetboat.
    pub version: String,
}

/// An instance as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownInstance {
    /// The instance.
    pub instance: Instance,
    /// The time since it has registered.
    pub age: Duration,
    /// The time until its registration ends; none where it has ended.
    pub left: Option<Duration>,
}

/// The server process and the tables that an answer came from. They change where the server was restarted, another one
/// has taken over, or the tables were restored from a backup: the records may be earlier ones then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub String);

impl Origin {
    /// A short id of the same, for people and for metrics. It is the same at all instances that use one database.
    pub fn id(&self) -> String {
        let digest = crypto::sha256(self.0.as_bytes());
        digest.iter().take(6).map(|octet| format!("{octet:02x}")).collect()
    }
}

/// The database's answer to a registration.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// The server and the tables that the answer comes from.
    pub origin: Origin,
    /// The version of packetboat's tables, and the earliest one that they serve; none where they do not say.
    pub schema: Option<(i32, i32)>,
    /// The end of the registration by the clock of the database, in seconds since 1970.
    pub until: f64,
    /// The same before the registration was prolonged; none where the database did not have it.
    pub until_before: Option<f64>,
}

impl Registered {
    /// Returns whether the database has lost an earlier registration of the same instance, which it had confirmed. One that
    /// ended a day ago was removed, and is not lost.
    pub fn lacks(&self, earlier: &Self) -> bool {
        let may_be_removed = self.until - earlier.until > REMOVED.as_secs_f64();
        !may_be_removed && self.until_before.is_none_or(|before| before < earlier.until)
    }
}

/// Two servers of the database that take changes at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBrain {
    /// The server that this instance uses.
    pub used: DatabaseServer,
    /// The other one.
    pub other: DatabaseServer,
    /// The one that was the primary before the other one was promoted; none where the servers do not say.
    pub earlier: Option<DatabaseServer>,
}

impl fmt::Display for SplitBrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { used, other, earlier } = self;
        write!(f, "{used} and {other} both take changes, and this instance uses {used}: ")?;
        match earlier {
            Some(earlier) => {
                write!(f, "stop {earlier} at once, which was the primary before, and make it a standby again")
            }
            None => f.write_str("stop the one that was the primary before at once, and make it a standby again"),
        }
    }
}

/// Facts about the database itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseFacts {
    /// The version of the server, in its own words.
    pub server_version: String,
    /// The server is a standby.
    pub is_standby: bool,
    /// The clock of the database, in seconds since 1970.
    pub time: f64,
    /// The version of packetboat's tables, and the earliest one that they serve; none where there are no tables.
    pub schema: Option<(i32, i32)>,
    /// The server process and the tables; none where there are no tables.
    pub origin: Option<Origin>,
}

/// The registration of instances.
pub trait InstanceRecords: Send + Sync {
    /// Reads facts about the database, also where it does not have packetboat's tables.
    fn database(&self) -> Answer<'_, DatabaseFacts>;

    /// Registers an instance for this time from now on, or prolongs its registration.
    fn register<'a>(&'a self, instance: &'a Instance, life: Duration) -> Answer<'a, Registered>;

    /// Looks whether another server of the configuration takes changes beside the one that is used. This connects to the
    /// others, and may take longer than [`PATIENCE`]. The error says that a server does not answer, so that this is not known.
    fn split_brain(&self) -> Answer<'_, Option<SplitBrain>>;

    /// Ends the registration of an instance.
    fn unregister<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// Lists the instances, by name, also those whose registration has ended within the last day.
    fn instances(&self) -> Answer<'_, Vec<KnownInstance>>;
}

/// The person and the issuer of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignInKey {
    /// The name of the identity in the configuration.
    pub identity: String,
    /// The person, in lower case.
    pub person: String,
    /// A short hash of token endpoint, tenant and client id: a refresh token belongs to its issuer.
    pub issuer: String,
}

/// The kind of a sealed value. A value of one kind does not open in the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedKind {
    /// The record with the refresh token.
    SignIn,
    /// The access token.
    Access,
}

impl SignInKey {
    /// Returns the label under which a value of this sign-in is sealed. It opens neither for another sign-in, nor for
    /// another generation of this one, nor as another kind.
    pub fn label(&self, kind: SealedKind, generation: i64) -> Vec<u8> {
        let kind: &[u8] = match kind {
            SealedKind::SignIn => b"packetboat fleet sign-in 1",
            SealedKind::Access => b"packetboat fleet access 1",
        };
        let names = [&self.identity, &self.person, &self.issuer].map(|name| name.as_bytes());
        // No name has the octet 0 in it, because PostgreSQL's text takes none.
        [&[kind], names.as_slice(), &[&generation.to_be_bytes()]].concat().join(&0)
    }
}

/// A sealed access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedAccess {
    /// The token, sealed with the label of its generation.
    pub sealed: Vec<u8>,
    /// The time for which it lives on.
    pub left: Duration,
}

/// A sign-in as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// The number of this refresh token: each new one gets the next.
    pub generation: i64,
    /// The record with the refresh token, sealed.
    pub sealed: Vec<u8>,
    /// The newest access token, where it still lives.
    pub access: Option<SealedAccess>,
    /// The number of leases so far.
    pub epoch: i64,
    /// The generation whose refresh token an instance has set out to spend, and has not told the result of.
    pub spending: Option<i64>,
    /// The id of the instance that holds the lease, and the time until the lease ends; none where nobody holds it.
    pub lease: Option<(String, Duration)>,
    /// The time for which nobody may begin, after a refusal.
    pub pause: Option<Duration>,
    /// The reason of the refusal, in words for the operator.
    pub trouble: Option<String>,
    /// The server and the tables that this comes from.
    pub origin: Origin,
}

/// The right to spend a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The number of this lease. A commit with another number is fenced.
    pub epoch: i64,
    /// The number of the refresh token.
    pub generation: i64,
    /// The record with the refresh token, sealed.
    pub sealed: Vec<u8>,
    /// The newest access token, where it still lives: it may be newer than the one that the caller knows.
    pub access: Option<SealedAccess>,
    /// An earlier holder has set out to spend this refresh token, and its lease ended without a word.
    pub is_perhaps_spent: bool,
}

/// The answer of the token endpoint, sealed with the labels of the generation that follows the lease's.
#[derive(Clone, Copy, Debug)]
pub struct Renewal<'a> {
    /// The record with the new refresh token.
    pub sealed: &'a [u8],
    /// The access token.
    pub access: &'a SealedAccess,
}

/// The answer of a holder that was fenced: somebody else has changed the sign-in meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The number of the candidate in the database.
    pub id: i64,
    /// The generation whose refresh token was spent for it. It is sealed with the label of the next one.
    pub from_generation: i64,
    /// The record with the refresh token, sealed.
    pub sealed: Vec<u8>,
    /// The time since it was put there.
    pub age: Duration,
}

/// A renewal whose lease has ended without a word: the endpoint may have spent the refresh token, and the answer may be
/// on the disk of its holder alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRenewal {
    /// The sign-in.
    pub key: SignInKey,
    /// The name of the instance that held the lease, or its id; none where that is not known any more.
    pub holder: Option<String>,
}

/// The sign-ins of persons, each with the lease of its renewal.
pub trait SignInRecords: Send + Sync {
    /// Reads a sign-in; none where nobody has signed in.
    fn sign_in<'a>(&'a self, key: &'a SignInKey) -> Answer<'a, Option<SignIn>>;

    /// Lists the keys of all sign-ins.
    fn sign_ins(&self) -> Answer<'_, Vec<SignInKey>>;

    /// Lists the sign-ins whose person has signed out, each with the number of its empty record.
    fn signed_out(&self) -> Answer<'_, Vec<(SignInKey, i64)>>;

    /// Lists the renewals whose lease has ended without a word.
    fn unfinished_renewals(&self) -> Answer<'_, Vec<UnfinishedRenewal>>;

    /// Takes the lease of a renewal for this time, and notes that its refresh token is being spent. Of all callers at a
    /// time one gets it. None where there is no sign-in, somebody holds the lease, or a pause is on.
    fn begin<'a>(&'a self, key: &'a SignInKey, holder: &'a str, life: Duration) -> Answer<'a, Option<Lease>>;

    /// Puts the endpoint's answer in the place of the refresh token that was spent, and ends the lease. Returns false
    /// where the holder is fenced: another lease has begun, or somebody has signed in anew. Nothing has changed then,
    /// and the answer is to be kept by [`add_candidate`](Self::add_candidate).
    fn commit<'a>(&'a self, key: &'a SignInKey, lease: &'a Lease, renewal: Renewal<'a>) -> Answer<'a, bool>;

    /// Notes that the endpoint has refused, for the operator, and that nobody may begin for this time; ends the lease.
    /// Returns false where the holder is fenced.
    fn refuse<'a>(
        &'a self,
        key: &'a SignInKey,
        lease: &'a Lease,
        pause: Duration,
        trouble: &'a str,
    ) -> Answer<'a, bool>;

    /// Ends a lease whose holder has not asked the endpoint. Returns false where the holder is fenced.
    fn give_back<'a>(&'a self, key: &'a SignInKey, lease: &'a Lease) -> Answer<'a, bool>;

    /// Puts a sign-in with this generation in the place of the one whose generation is `before`; none where there is
    /// none yet. Ends a lease, a pause and trouble, and fences the holder of the lease. Returns false where the database
    /// has another generation than `before`, and has changed nothing.
    fn put<'a>(
        &'a self,
        key: &'a SignInKey,
        before: Option<i64>,
        generation: i64,
        sealed: &'a [u8],
    ) -> Answer<'a, bool>;

    /// Keeps the answer of a fenced holder.
    fn add_candidate<'a>(&'a self, key: &'a SignInKey, from_generation: i64, sealed: &'a [u8]) -> Answer<'a, ()>;

    /// Lists the newest candidates of a sign-in, the newest first, up to 16.
    fn candidates<'a>(&'a self, key: &'a SignInKey) -> Answer<'a, Vec<Candidate>>;

    /// Removes one candidate of a sign-in, which the endpoint has refused.
    fn remove_candidate<'a>(&'a self, key: &'a SignInKey, id: i64) -> Answer<'a, ()>;

    /// Removes the candidates of a sign-in up to this number.
    fn remove_candidates<'a>(&'a self, key: &'a SignInKey, up_to: i64) -> Answer<'a, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_values_have_one_label() {
        let key = |identity: &str, person: &str| SignInKey {
            identity: identity.to_owned(),
            person: person.to_owned(),
            issuer: "i".to_owned(),
        };
        let labels = [
            key("a", "b").label(SealedKind::SignIn, 1),
            key("a", "b").label(SealedKind::SignIn, 2),
            key("a", "b").label(SealedKind::Access, 1),
            key("ab", "").label(SealedKind::SignIn, 1),
            key("", "ab").label(SealedKind::SignIn, 1),
        ];
        for (at, label) in labels.iter().enumerate() {
            assert_eq!(labels.iter().position(|other| other == label), Some(at));
        }
    }
}
