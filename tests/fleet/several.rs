//! Several instances of packetboat with one PostgreSQL and one pretend Exchange Online.

use std::path::{Path, PathBuf};

use packetboat::simulator::User;
use packetboat::state::{self, Access};
use support::exchange::{BY_PERSON, Exchange, imap_login};
use support::postgresql::{Database, Postgresql};
use support::proxy::Proxy;
use tempfile::TempDir;

use crate::records;

/// A fleet whose instances have the usual account, which a person signs in for.
pub struct Several {
    pub server: Postgresql,
    pub database: Database,
    pub exchange: Exchange,
    directory: TempDir,
    /// Further lines for `[identity.office]`.
    identity: String,
    accounts: String,
}

impl Several {
    /// A fleet whose endpoint takes each refresh token once. Access tokens live for this many seconds.
    pub fn strict(life: u64) -> Self {
        let several = Self::new(&format!("{BY_PERSON}\nrotation = \"strict\""), life);
        several.exchange.quirk(|quirks| quirks.refresh.reuse_ends_family = true);
        several
    }

    /// A fleet whose endpoint lets earlier refresh tokens live, as Microsoft's does.
    pub fn lenient(life: u64) -> Self {
        Self::new(BY_PERSON, life)
    }

    fn new(identity: &str, life: u64) -> Self {
        let exchange = Exchange::with(|tenant| {
            let person = |number| User::new(&format!("p{number}@contoso.example"), "a password that nobody types");
            tenant.users.extend((0..MOST_PERSONS).map(person));
        });
        let server = Postgresql::start();
        let database = server.database();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(records(&database.section("maker")).migrate()).unwrap();
        exchange.quirk(|quirks| quirks.endpoint.expires_in = life);
        let directory = tempfile::tempdir().unwrap();
        state::write(&directory.path().join("store.key"), &[7; 32], Access::Private).unwrap();
        let accounts = support::exchange::account("scans", support::exchange::SCAN, "");
        Self { server, database, exchange, directory, identity: identity.to_owned(), accounts }
    }

    /// The configuration of an instance.
    pub fn configuration(&self, name: &str) -> String {
        let key = self.directory.path().join("store.key");
        let text = self.exchange.configured(&self.identity, &self.accounts);
        format!("store_key = {key:?}\n{}{text}", self.database.section(name))
    }

    /// The same configuration without the fleet.
    pub fn alone(&self) -> String {
        let key = self.directory.path().join("store.key");
        format!("store_key = {key:?}\n{}", self.exchange.configured(&self.identity, &self.accounts))
    }

    /// Starts an instance, with the state that it has had before.
    pub fn instance(&self, name: &str) -> Proxy {
        Proxy::start_with(Some(&self.state(name)), "debug", &self.configuration(name))
    }

    /// The state directory of an instance.
    pub fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs in by `packetboat login` on another computer of the fleet.
    pub fn sign_in(&self) {
        self.exchange.sign_in(&self.configuration("login"));
    }

    /// Adds accounts of further persons, who have a mailbox each: `p0`, `p1` and so on.
    pub fn with_persons(mut self, count: usize) -> Self {
        for number in 0..count {
            let mailbox = format!("p{number}@contoso.example");
            self.accounts += &support::exchange::account(&format!("p{number}"), &mailbox, "");
        }
        self
    }

    /// Signs in for another account than the usual one.
    pub fn sign_in_to(&self, account: &str) {
        self.exchange.sign_in_to(account, &self.configuration("login"));
    }

    /// Ends the leases of an instance that was killed, as if the clock of the database had gone on by 45 s. Returns how
    /// many there were.
    pub fn end_leases(&self, name: &str) -> u64 {
        let ended = self.sql(&format!(
            "with ended as (update packetboat.sign_in set lease_until = '-infinity' where holder in \
             (select id from packetboat.instance where name = '{name}') and lease_until > clock_timestamp() \
             returning 1) select count(*) from ended"
        ));
        ended.parse().unwrap()
    }

    /// A number or text of the only sign-in's row.
    pub fn row(&self, column: &str) -> String {
        self.server.sql(&self.database.name, &format!("select {column} from packetboat.sign_in"))
    }

    pub fn sql(&self, statement: &str) -> String {
        self.server.sql(&self.database.name, statement)
    }

    /// Refresh tokens that were sent to the endpoint.
    pub fn refreshes(&self) -> u64 {
        self.exchange.simulator.counts().grant("refresh_token")
    }
}

const MOST_PERSONS: usize = 8;

/// Waits until a device gets in by IMAP.
pub fn until_served(proxy: &Proxy) {
    crate::until_now("a device is served", || imap_login(proxy).starts_with("OK"));
}

/// The copies of sign-ins in a state directory.
pub fn copies(state: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(state.join("fleet")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "copy")).collect()
}
