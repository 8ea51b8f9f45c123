//! Several instances of packetboat with one PostgreSQL and one pretend Exchange Online.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use packetboat::simulator::User;
use packetboat::state::{self, Access};
use support::exchange::{BY_PERSON, Exchange, imap_login};
use support::postgresql::{Database, Postgresql};
use support::process::Process;
use support::proxy::Proxy;
use tempfile::TempDir;

use crate::records;

/// A fleet whose instances have the usual account, which a person signs in for.
pub struct Several {
    pub server: Postgresql,
    pub database: Database,
    pub exchange: Exchange,
    directory: TempDir,
    /// The servers of the database as the instances name them.
    hosts: String,
    /// Further lines for `[identity.office]`.
    identity: String,
    accounts: String,
}

impl Several {
    /// A fleet whose endpoint takes each refresh token once. Access tokens live for this many seconds.
    pub fn strict(life: u64) -> Self {
        Self::strict_at(Postgresql::start(), "localhost", life)
    }

    /// A fleet whose endpoint lets earlier refresh tokens live, as Microsoft's does.
    pub fn lenient(life: u64) -> Self {
        Self::lenient_at(Postgresql::start(), "localhost", life)
    }

    /// The same with a PostgreSQL that counts its statements, in `pg_stat_statements`.
    pub fn counted(life: u64) -> Self {
        let server = Postgresql::start_with("ssl = on\nshared_preload_libraries = 'pg_stat_statements'\n");
        let several = Self::lenient_at(server, "localhost", life);
        several.sql("create extension pg_stat_statements");
        several
    }

    /// A fleet whose endpoint takes each refresh token once, with this server of the database at this host.
    pub fn strict_at(server: Postgresql, host: &str, life: u64) -> Self {
        let several = Self::with(server, host, &format!("{BY_PERSON}\nrotation = \"strict\""), life);
        several.exchange.quirk(|quirks| quirks.refresh.reuse_ends_family = true);
        several
    }

    /// The same with an endpoint that lets earlier refresh tokens live.
    pub fn lenient_at(server: Postgresql, host: &str, life: u64) -> Self {
        Self::with(server, host, BY_PERSON, life)
    }

    fn with(server: Postgresql, host: &str, identity: &str, life: u64) -> Self {
        let exchange = Exchange::with(|tenant| {
            let person = |number| User::new(&format!("p{number}@contoso.example"), "a password that nobody types");
            tenant.users.extend((0..MOST_PERSONS).map(person));
        });
        let database = server.database();
        let hosts = format!("{host}:{}", server.port);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(records(&database.section_of(&hosts, "maker")).migrate()).unwrap();
        exchange.quirk(|quirks| quirks.endpoint.expires_in = life);
        let directory = tempfile::tempdir().unwrap();
        state::write(&directory.path().join("store.key"), &[7; 32], Access::Private).unwrap();
        let accounts = support::exchange::account("scans", support::exchange::SCAN, "");
        Self { server, database, exchange, directory, hosts, identity: identity.to_owned(), accounts }
    }

    /// Lets instances name this server of the database as well, behind the others.
    pub fn name_server(&mut self, server: &Postgresql) {
        self.hosts += &format!(",localhost:{}", server.port);
    }

    /// The configuration of an instance.
    pub fn configuration(&self, name: &str) -> String {
        self.configuration_at(&self.hosts, name)
    }

    /// The same with other addresses of the database's servers.
    pub fn configuration_at(&self, hosts: &str, name: &str) -> String {
        let key = self.directory.path().join("store.key");
        let text = self.exchange.configured(&self.identity, &self.accounts);
        format!("store_key = {key:?}\n{}{text}", self.database.section_of(hosts, name))
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

    /// Ends what an instance that was killed has borrowed, as if the clock of the database had gone on by a minute.
    pub fn end_sessions(&self, name: &str) {
        self.sql(&format!(
            "update packetboat.mailbox_session set until = '-infinity' where instance in \
             (select id from packetboat.instance where name = '{name}')"
        ));
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

    /// Begins a transaction by statements whose result is the word `begun`. It lasts until the process ends.
    pub fn transaction(&self, statements: &str) -> Process {
        let mut psql = self.server.psql(&self.database.name);
        let mut process = Process::start(psql.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let input = process.0.stdin.as_mut().unwrap();
        input.write_all(format!("{statements};\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(process.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "begun");
        process
    }

    /// A number or text of the only sign-in's row.
    pub fn row(&self, column: &str) -> String {
        self.server.sql(&self.database.name, &format!("select {column} from packetboat.sign_in"))
    }

    pub fn sql(&self, statement: &str) -> String {
        self.server.sql(&self.database.name, statement)
    }

    /// The same where the server may refuse, or be away.
    pub fn try_sql(&self, statement: &str) -> Result<String, String> {
        self.server.try_sql(&self.database.name, statement)
    }

    /// The number of the refresh token in the only sign-in's row.
    pub fn generation(&self) -> i64 {
        self.row("generation").parse().unwrap()
    }

    /// Waits for a lease that begins from now on: its request comes to an endpoint that was told to be slow before.
    pub fn until_leased(&self) {
        let epoch = self.row("epoch");
        let begun = format!("epoch > {epoch} and {LEASED}");
        crate::until_now("a lease", || self.row(&begun) == "t");
    }

    /// Waits until the endpoint has the request of a lease that begins from now on.
    pub fn until_asked(&self) {
        let mut before = None;
        crate::until_now("a moment without a lease", || {
            let (epoch, refreshes) = (self.row("epoch"), self.refreshes());
            let is_still = !self.is_leased() && self.row("epoch") == epoch;
            before = Some((format!("epoch > {epoch}"), refreshes));
            is_still
        });
        let (begun, refreshes) = before.unwrap();
        crate::until_now("a request", || self.row(&begun) == "t" && self.refreshes() > refreshes);
    }

    /// Returns whether an instance holds the lease now.
    pub fn is_leased(&self) -> bool {
        self.row(LEASED) == "t"
    }

    /// Waits until an instance has the access token of the database, by the time of its end. Metrics have whole seconds.
    pub fn until_newest_token(&self, instance: &Proxy) {
        let name = "packetboat_access_token_expiry_timestamp_seconds";
        crate::until_now("an instance has the newest access token", || {
            // The row may have none for a moment: then the time is infinite.
            let end = self.row("floor(extract(epoch from access_until))").parse::<u64>();
            end.is_ok_and(|end| instance.metric(name, "") + 1 >= end)
        });
    }

    /// Asserts that no refresh token was sent twice, and that the sign-in has no trouble.
    #[track_caller]
    pub fn assert_spent_once(&self) {
        assert_eq!(self.exchange.simulator.refresh_token_reuses(), 0);
        assert_eq!(self.row("coalesce(trouble, 'none')"), "none");
    }

    /// Refresh tokens that were sent to the endpoint.
    pub fn refreshes(&self) -> u64 {
        self.exchange.simulator.counts().grant("refresh_token")
    }
}

const MOST_PERSONS: usize = 8;
/// PostgreSQL before 17 subtracts no infinite times.
const LEASED: &str = "lease_until between clock_timestamp() and clock_timestamp() + interval '45 s'";

/// A lock on the only sign-in's row, held by another session of the database.
pub struct RowLock(Process);

impl RowLock {
    /// Takes the lock, and returns once it is held.
    pub fn take(several: &Several) -> Self {
        Self(several.transaction("begin; select 'begun' from packetboat.sign_in for update"))
    }

    /// Takes the lock while an instance holds the lease: its commit waits for the lock. The endpoint is slow.
    pub fn take_before_commit(several: &Several) -> Self {
        loop {
            several.until_leased();
            let generation = several.generation();
            let lock = Self::take(several);
            // On a slow computer the answer may have come first.
            if several.is_leased() && several.generation() == generation {
                return lock;
            }
            lock.release();
        }
    }

    /// Waits until a statement that begins so waits for the lock.
    pub fn until_waited_for(&self, several: &Several, statement: &str) {
        let waiting = format!(
            "select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock' and query like '{statement}%'"
        );
        crate::until_now("a statement that waits", || several.sql(&waiting) == "t");
    }

    /// Ends the session, and the lock with it.
    pub fn release(mut self) {
        drop(self.0.0.stdin.take());
        self.0.wait();
    }
}

/// Does this while devices log in at each of these instances all the time. None of them is refused.
pub fn while_devices_are_served<T>(instances: &[&Proxy], work: impl FnOnce() -> T) -> T {
    /// Ends the devices, also where the work panics.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let over = Over(is_over);
        let device = |instance: &Proxy| {
            let mut served = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = imap_login(instance);
                assert!(answer.starts_with("OK"), "after {served} logins: {answer}\n{}", instance.log.all());
                served += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            served
        };
        let devices: Vec<_> = instances.iter().map(|instance| scope.spawn(move || device(instance))).collect();
        let done = work();
        drop(over);
        for device in devices {
            assert!(device.join().expect("a device was refused") > 0, "a device never logged in");
        }
        done
    })
}

/// Ends an instance in good order: what it has got from the endpoint is on its disk. A device is served before that.
pub fn end(mut instance: Proxy) {
    instance.process.signal("TERM");
    assert!(instance.process.wait().success(), "{}", instance.log.all());
}

/// Waits until a device gets in by IMAP.
pub fn until_served(proxy: &Proxy) {
    crate::until_now("a device is served", || imap_login(proxy).starts_with("OK"));
}
