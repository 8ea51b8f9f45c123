//! Mailboxes that devices open: server, token, and the number of sessions at a time.

mod sessions;
mod sharing;
mod submission;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::repeated_errors::RepeatedErrors;
use crate::config::{Account, Config, Identity};
use crate::device::Device;
use crate::failure::{Failure, Kind};
use crate::fleet::{Slots, Throttled};
use crate::inventory::Inventory;
use crate::proto::sasl::{Credentials, Mechanism, Method};
use crate::proto::{AccessSettings, SubmissionTerms, Terms};
use crate::protocol::{ByProtocol, Protocol};
use crate::secret::Secret;
use crate::submission::{HoldBack, Stamps};
use crate::token::{AccessToken, CachedToken, Tokens};
use crate::transport::upstream::{MailServer, Server};
use crate::withdrawal::Withdrawn;
pub(in crate::proxy) use sessions::Admission;
use sessions::Sessions;
use submission::{quota, stamp};

/// The mailboxes by the name of their account.
pub(in crate::proxy) struct Mailboxes(BTreeMap<String, ByProtocol<Option<Arc<Mailbox>>>>);

/// The mailbox of one account, by one protocol.
pub(in crate::proxy) struct Mailbox {
    pub(in crate::proxy) account: Account,
    pub(in crate::proxy) server: Arc<Server>,
    identity: Identity,
    slot: Arc<CachedToken>,
    /// Accounts of the same mailbox on the same server share its sessions.
    sessions: Arc<Sessions>,
    history: Arc<Mutex<History>>,
    /// The last time that the server has opened the mailbox for a probe.
    probed: Mutex<Option<Instant>>,
    submission: Arc<SubmissionTerms>,
    errors: Arc<RepeatedErrors>,
    /// Knows the recipients of each device in the last hour.
    inventory: Option<Arc<Inventory>>,
    /// The most recipients of a device in an hour, unless its section has a number of its own.
    recipients_per_hour: u32,
}

/// The outcome of the mailbox's logins so far.
#[derive(Clone, Copy, Default)]
struct History {
    /// A login has succeeded since packetboat started.
    has_opened: bool,
    refused_since: Option<Instant>,
}

/// The parts of the process that mailboxes need beside their configuration. A check needs none of them.
#[derive(Clone, Copy, Default)]
pub(in crate::proxy) struct Surroundings<'a> {
    /// Knows the recipients of the last 24 hours.
    pub(in crate::proxy) inventory: Option<&'a Arc<Inventory>>,
    /// Lends the sessions of mailboxes to the instances of a fleet; none where this one is alone.
    pub(in crate::proxy) slots: Option<&'a Arc<Slots>>,
}

impl Mailboxes {
    /// The mailboxes of this configuration. Open sessions and the history of a mailbox are taken over.
    pub(in crate::proxy) fn new(
        config: &Config,
        tokens: &Tokens,
        servers: &BTreeMap<String, Arc<MailServer>>,
        before: Option<&Mailboxes>,
        Surroundings { inventory, slots }: Surroundings<'_>,
    ) -> Self {
        // Those that send are counted apart from those that read: the mail server has a limit of its own for each.
        let mut sessions: HashMap<(String, &str, bool), Arc<Sessions>> = HashMap::new();
        let mut mailboxes = BTreeMap::new();
        for (name, account) in &config.accounts {
            let (Some(slot), Some(servers), Some(identity)) =
                (tokens.of(name), servers.get(&account.upstream), config.identities.get(&account.identity))
            else {
                continue;
            };
            let known = |submits: bool| {
                let same = |other: &&Arc<Mailbox>| {
                    other.account.mailbox.eq_ignore_ascii_case(&account.mailbox)
                        && other.account.upstream == account.upstream
                        && other.submits() == submits
                };
                before.and_then(|before| before.all().find(same))
            };
            let histories = [false, true]
                .map(|submits| Arc::new(Mutex::new(known(submits).map(|one| *one.history.lock()).unwrap_or_default())));
            let by_protocol = ByProtocol::new(|protocol| {
                let server = servers.of(protocol)?;
                let submits = protocol.submits();
                let key = (account.mailbox.to_lowercase(), account.upstream.as_str(), submits);
                let before = || known(submits).map(|known| known.sessions.as_ref());
                let new = || {
                    Sessions::new(
                        config,
                        submits,
                        before(),
                        slots.map(|slots| sessions::of_fleet(slots, account, submits)),
                    )
                };
                let sessions = sessions.entry(key).or_insert_with(new);
                let [reading, sending] = &histories;
                let history = if submits { sending } else { reading };
                let (mailbox, rules) = (account.mailbox.clone(), account.submission.clone());
                let quota = quota(config, &mailbox, inventory);
                let (stamps, hold_back) = (Stamps::new(stamp), HoldBack::default());
                let submission = SubmissionTerms { mailbox, rules, stamps, quota, hold_back };
                // A reload that changes the account may have mended what was wrong.
                let errors = known(submits).filter(|known| known.account == *account);
                let errors = errors.map(|known| Arc::clone(&known.errors)).unwrap_or_default();
                Some(Arc::new(Mailbox {
                    account: account.clone(),
                    server: Arc::clone(server),
                    identity: identity.clone(),
                    slot: Arc::clone(slot),
                    sessions: Arc::clone(sessions),
                    history: Arc::clone(history),
                    probed: Mutex::default(),
                    submission: Arc::new(submission),
                    errors,
                    inventory: inventory.cloned(),
                    recipients_per_hour: config.limits.submission.recipients_per_hour_of_device,
                }))
            });
            mailboxes.insert(name.clone(), by_protocol);
        }
        Self(mailboxes)
    }

    /// An account's mailbox, by one protocol; none where its mail server does not serve it.
    pub(in crate::proxy) fn of(&self, account: &str, protocol: Protocol) -> Option<&Arc<Mailbox>> {
        self.0.get(account).and_then(|by_protocol| by_protocol.of(protocol).as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.0.values().flat_map(|by_protocol| by_protocol.iter().filter_map(|(_, mailbox)| mailbox.as_ref()))
    }

    /// Puts the limits of this configuration into force.
    pub(in crate::proxy) fn begin(&self) {
        self.all().for_each(|mailbox| mailbox.sessions.begin());
    }
}

impl Mailbox {
    /// Checks that a session of the other mailbox may go on as one of this mailbox: same mailbox, same server, same
    /// application and user. The application's credentials may differ.
    ///
    /// # Errors
    /// The settings that differ.
    pub(in crate::proxy) fn stands_in_for(&self, other: &Self) -> Result<(), Withdrawn> {
        if !self.account.mailbox.eq_ignore_ascii_case(&other.account.mailbox) {
            return Err(Withdrawn::Mailbox);
        }
        if !self.server.stands_in_for(&other.server) {
            return Err(Withdrawn::Upstream);
        }
        let is_same_user = self.account.user.eq_ignore_ascii_case(&other.account.user);
        if is_same_user && self.identity.is_same_as(&other.identity) { Ok(()) } else { Err(Withdrawn::Identity) }
    }

    /// Waits until a session of the mailbox is free, but not for long, because devices have timeouts.
    ///
    /// # Errors
    /// No session is free, or the mail server throttles the mailbox.
    pub(in crate::proxy) async fn admit(&self) -> Result<Admission, Failure> {
        let sessions = &self.sessions;
        if let Some(left) = self.quiet_for() {
            return Err(throttled(left));
        }
        match timeout(sessions.queue, sessions.acquire()).await {
            Ok(Some(Ok(admission))) => Ok(admission),
            // Another instance has learnt it.
            Ok(Some(Err(Throttled(left)))) => Err(throttled(Duration::from_secs(left.as_secs() + 1))),
            Ok(None) | Err(_) => {
                let queue = humantime::format_duration(sessions.queue);
                Err(self.is_full(&format!("none ended within limits.mailbox_queue = {queue}")))
            }
        }
    }

    /// The failure of a login that has got no session of the mailbox.
    pub(in crate::proxy) fn is_full(&self, why: &str) -> Failure {
        let Sessions { key, most, .. } = self.sessions.as_ref();
        let detail = format!("{}: {key} = {most}, and {why}", self.account.mailbox);
        Failure::new(Kind::TooManySessions, detail)
    }

    /// Notes what the mail server has refused in the mailbox. The next login probes it again.
    pub(in crate::proxy) fn failed(&self, failure: &Failure) {
        self.doubt();
        failure.retry_after.into_iter().for_each(|wait| self.leave_alone(wait));
    }

    /// Notes that the mail server throttles the mailbox for this time.
    pub(in crate::proxy) fn leave_alone(&self, wait: Duration) {
        self.sessions.leave_alone(wait.min(LONGEST_QUIET));
    }

    /// An access token, fresh if possible.
    ///
    /// # Errors
    /// There is none, or it is too long for the protocol.
    pub(in crate::proxy) async fn token(&self) -> Result<Arc<AccessToken>, Failure> {
        let token = self.slot.access().await?;
        self.fits(&token)?;
        Ok(token)
    }

    fn fits(&self, token: &AccessToken) -> Result<(), Failure> {
        let (length, protocol) = (token.secret().expose().len(), self.server.protocol());
        let Some(limit) = self.identity.longest_token(protocol).filter(|limit| length > *limit) else { return Ok(()) };
        let is_unlimited = |other: &Protocol| self.identity.longest_token(*other).is_none();
        let others: Vec<_> = Protocol::ALL.into_iter().filter(is_unlimited).map(Protocol::name).collect();
        let detail = format!(
            "the access token has {length} characters, and Exchange Online takes {limit} over {}: remove group claims from \
             the app registration, use grant = \"client-credentials\", or {}",
            protocol.name(),
            others.join(" or ")
        );
        Err(Failure::new(Kind::TokenRefused, detail))
    }

    /// A token in place of this one, which the server has refused. None where another try has no prospect.
    pub(in crate::proxy) async fn token_instead_of(&self, token: &Arc<AccessToken>) -> Option<Arc<AccessToken>> {
        let other = self.slot.instead_of(token).await?;
        self.fits(&other).is_ok().then_some(other)
    }

    /// Notes that a login on these terms has succeeded at the server.
    pub(in crate::proxy) fn opened(&self, terms: &Terms) {
        self.login_succeeded();
        if terms.probes() {
            *self.probed.lock() = Some(Instant::now());
        }
    }

    /// Notes that a login has succeeded at the server.
    pub(in crate::proxy) fn login_succeeded(&self) {
        *self.history.lock() = History { has_opened: true, refused_since: None };
    }

    /// The settings of a device's access to the mailbox.
    pub(in crate::proxy) fn settings(&self, device: &Arc<Device>) -> AccessSettings {
        let probed = *self.probed.lock();
        let was_probed = probed.is_some_and(|since| since.elapsed() < PROBED && !self.is_in_trouble_since(since));
        let probe = self.account.probe && !was_probed;
        let submission = self.terms_of(device);
        let parks = !self.server.parking().time.is_zero();
        AccessSettings { probe, delete: device.delete, parks, submission }
    }

    /// The credentials for the mail server, in place of the device's. With a person's token, IMAP and POP3 name the
    /// mailbox, and SMTP the person, who then sends as the mailbox.
    pub(in crate::proxy) fn credentials(&self, token: &AccessToken) -> Credentials {
        let names_person = self.submits() && self.identity.grant.is_of_a_person();
        let user = if names_person { &self.account.user } else { &self.account.mailbox };
        Credentials {
            method: Method::Sasl(Mechanism::Xoauth2),
            login: user.clone().into_bytes(),
            authzid: Vec::new(),
            secret: Secret::clone(token.secret()),
        }
    }

    /// Adds advice to a refusal. The device's password was right, so the operator has to act.
    pub(in crate::proxy) fn explain(&self, failure: Failure) -> Failure {
        let advice = match failure.kind {
            // A server says no more than this about an address that it does not know.
            Kind::LoginRefused => format!("is the address right? If so: {}", self.advice()),
            Kind::NotAuthorized => self.advice().to_owned(),
            _ => return failure,
        };
        let kind = if self.has_only_just_been_refused() { Kind::Unavailable } else { Kind::NotAuthorized };
        let said = if failure.detail.is_empty() { String::new() } else { format!("; {}", failure.detail) };
        Failure { kind, detail: format!("{}: {advice}{said}", self.account.mailbox), ..failure }
    }

    /// Returns whether a refusal is new after logins that succeeded. Outages of Exchange's login look like a refusal, and
    /// so do logins that open no mailbox because it has many sessions. Many devices delete an account after a definite
    /// refusal, so they get a temporary failure at first.
    fn has_only_just_been_refused(&self) -> bool {
        let now = Instant::now();
        let mut history = self.history.lock();
        let since = *history.refused_since.get_or_insert(now);
        history.has_opened && now.duration_since(since) < OUTAGE
    }

    fn advice(&self) -> &'static str {
        if self.submits() && self.identity.cloud.is_microsoft() {
            self.submission_advice()
        } else if !self.identity.tokens_are_of_cloud {
            "does the mail server know this mailbox, and does it take tokens of this token endpoint?"
        } else if !self.identity.cloud.is_microsoft() {
            "is the user's IMAP and POP access switched on, and is this the user who signed in?"
        } else if self.identity.grant.is_of_a_person() {
            "needs IMAP and POP switched on (Set-CASMailbox), and who signed in needs FullAccess on it; see packetboat \
             setup"
        } else {
            "needs IMAP and POP switched on (Set-CASMailbox), and FullAccess for the application's service principal, \
             made with the enterprise application's object id: packetboat.ps1 does both (packetboat setup --script \
             writes it)"
        }
    }
}

fn throttled(left: Duration) -> Failure {
    let left = humantime::format_duration(left);
    Failure::new(Kind::Unavailable, format!("the mail server throttles this mailbox for another {left}"))
}

/// The time for which a probe is good: rights in a mailbox rarely change, and a device's commands show that as well.
const PROBED: Duration = Duration::from_secs(10 * 60);
/// The longest time for which a throttled mailbox is not tried.
const LONGEST_QUIET: Duration = Duration::from_secs(15 * 60);
/// The time for which a new refusal may be an outage.
const OUTAGE: Duration = Duration::from_secs(10 * 60);
