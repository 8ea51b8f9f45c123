//! The queries that instances make, as a real PostgreSQL counts them (pg_stat_statements): a login makes none, and a sign-in
//! few.

use std::collections::BTreeMap;
use std::time::Instant;

use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, account, imap, imap_login, pop3};
use support::postgresql::Postgresql;
use support::proxy::{Proxy, translating_listener};
use support::smtp::{Login, Smtp};
use support::stacks::{Start, TLS_1_0};

use crate::several::{Several, until_served};
use crate::until_now;

/// Parts of statements, and names for them. An instance makes those of the first list by the clock, whatever devices do.
const BY_THE_CLOCK: [(&str, &str); 11] = [
    ("insert into packetboat.instance", "registration"),
    ("with forgotten as (delete from packetboat.mailbox_want", "number of instances"),
    // The statement before has these words as well.
    ("from packetboat.instance where until", "list of instances"),
    ("from (select distinct upstream, mailbox, kind from packetboat.mailbox_session", "news of sessions"),
    ("update packetboat.mailbox_session s set until = clock_timestamp()", "renewal of sessions"),
    ("packetboat.seen", "inventory"),
    ("packetboat.kept", "certificates"),
    ("octet_length(s.sealed) <=", "ends of sign-ins"),
    ("packetboat.schema", "version of the tables"),
    // A part of the pace is taken for 10 s, and what was not sent by then is given back.
    ("insert into packetboat.mailbox (upstream, mailbox, kind, paced_until)", "pace"),
    ("set paced_until = paced_until -", "return of pace"),
];
const OTHERS: [(&str, &str); 6] = [
    ("with free as (select number from packetboat.mailbox_session", "session"),
    ("insert into packetboat.mailbox_session", "rows of sessions"),
    ("update packetboat.mailbox_session s set until = $", "return of sessions"),
    // It reads the table as well.
    ("with free as (select identity", "lease of a sign-in"),
    ("from packetboat.sign_in where", "sign-in"),
    ("update packetboat.sign_in set sealed", "commit of a sign-in"),
];

/// The calls of statements, by name. One without a name has its text.
struct Calls(BTreeMap<String, u64>);

impl Calls {
    fn of(server: &Postgresql, database: &str) -> Self {
        let mut calls: BTreeMap<String, u64> = BTreeMap::new();
        for statement in server.statements(database) {
            let mut known = OTHERS.iter().chain(&BY_THE_CLOCK);
            let name = known.find(|(part, _)| statement.text.contains(part));
            *calls.entry(name.map_or(statement.text, |(_, name)| (*name).to_owned())).or_default() += statement.calls;
        }
        Self(calls)
    }

    fn number(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The statements that are not made by the clock.
    fn of_devices(&self) -> Vec<(&str, u64)> {
        let is_by_the_clock = |name: &str| BY_THE_CLOCK.iter().any(|(_, clock)| *clock == name);
        self.0.iter().map(|(name, calls)| (name.as_str(), *calls)).filter(|(name, _)| !is_by_the_clock(name)).collect()
    }

    /// The statements of an instance by the clock are no more than those of so many seconds.
    fn assert_by_the_clock(&self, seconds: u64, instances: u64) {
        for (name, interval) in [
            ("registration", 10),
            ("list of instances", 30),
            // Each 8 to 12 s.
            ("number of instances", 8),
            ("renewal of sessions", 20),
            ("news of sessions", 1),
            // One puts, one reads, and one removes what is old.
            ("inventory", 10),
            ("certificates", 60),
            ("version of the tables", 600),
            // Each 24 to 30 s, and none without sign-ins.
            ("ends of sign-ins", 24),
            ("pace", 10),
            ("return of pace", 10),
        ] {
            let most = instances * (seconds / interval + 3);
            assert!(self.number(name) <= most, "{name}: more than {most} in {seconds} s: {:?}", self.0);
        }
    }
}

/// Logs in and out by IMAP, POP3 or SMTP, and waits until the server knows of no session.
fn session(exchange: &Exchange, proxy: &Proxy, number: usize) {
    match number % 3 {
        0 => {
            let mut device = imap(proxy);
            device.login(LOGIN, PASSWORD);
            device.log_out();
        }
        1 => pop3(proxy).session(LOGIN, PASSWORD, &[]),
        _ => {
            let mut device = Smtp::greeted(TLS_1_0.connect(proxy.address("smtps"), Start::Implicit));
            device.log_in(Login::Plain, LOGIN, PASSWORD);
            device.say("QUIT", "221 ");
        }
    }
    exchange.until("no session", |counts| {
        counts.open_sessions() == 0 && counts.submissions.sessions.values().all(|sessions| *sessions == 0)
    });
}

/// A hundred logins of a mailbox that an instance serves ask the database nothing: what it is asked meanwhile, it is asked
/// by the clock. The first login of a mailbox borrows a session.
#[test]
fn a_hundred_logins_by_client_credentials_make_no_query() {
    let (exchange, server) = (Exchange::new(), Postgresql::start());
    let (database, key) = (server.database(), exchange.file("store.key", [7; 32]));
    server.count_statements();
    let text = exchange.submission_frame()
        + &translating_listener("smtps", "smtp", "implicit", "")
        + &exchange.identity(BY_SECRET)
        + &account("scans", SCAN, "");
    let proxy = Proxy::start(&format!("store_key = {key:?}\n{}migrate = true\n{text}", database.section("west")));
    until_now("it shares", || proxy.metric("packetboat_fleet_instances", "") == 1);
    // Two at a time: a login may come before the session of the last one has ended.
    let both = [imap(&proxy), imap(&proxy)].map(|mut device| {
        device.login(LOGIN, PASSWORD);
        device
    });
    both.into_iter().for_each(|device| device.log_out());
    let both = [(); 2].map(|()| {
        let mut device = Smtp::greeted(TLS_1_0.connect(proxy.address("smtps"), Start::Implicit));
        device.log_in(Login::Plain, LOGIN, PASSWORD);
        device
    });
    both.into_iter().for_each(|mut device| device.say("QUIT", "221 "));
    let first = Calls::of(&server, &database.name);
    assert!(first.number("session") >= 2 && first.number("rows of sessions") == 2, "{:?}", first.0);
    let waits = proxy.metric("packetboat_fleet_login_waits_total", "");
    server.count_statements();
    let begun = Instant::now();
    (0..LOGINS).for_each(|number| session(&exchange, &proxy, number));
    // By the clock, once a second: PostgreSQL does count.
    until_now("a count of news", || Calls::of(&server, &database.name).number("news of sessions") > 0);
    let calls = Calls::of(&server, &database.name);
    assert_eq!(calls.of_devices(), [], "{:?}", calls.0);
    calls.assert_by_the_clock(begun.elapsed().as_secs(), 1);
    assert_eq!(proxy.metric("packetboat_fleet_login_waits_total", ""), waits);
    let counts = exchange.simulator.counts();
    assert!(counts.imap().accepted + counts.pop3().accepted + counts.smtp().accepted >= LOGINS as u64);
}

/// Three instances with one sign-in read it once for each access token, and the one that renews it makes two more queries:
/// the lease and the commit. Logins make none.
#[test]
fn a_sign_in_is_read_once_for_each_half_life() {
    let several = Several::strict(TOKEN_LIFE);
    let proxies = ["west", "east", "north"].map(|name| several.instance(name));
    several.sign_in();
    proxies.iter().for_each(until_served);
    several.server.count_statements();
    let (begun, before) = (Instant::now(), several.refreshes());
    let mut logins = 0;
    while several.refreshes() < before + RENEWALS {
        for proxy in &proxies {
            assert!(imap_login(proxy).starts_with("OK"));
            logins += 1;
        }
    }
    // The others take the last access token when half of the life of theirs is over.
    let calls = Calls::of(&several.server, &several.database.name);
    let (renewals, seconds) = (several.refreshes() - before, begun.elapsed().as_secs());
    let reads = calls.number("sign-in");
    assert!(reads <= 3 * (renewals + 1), "{renewals} renewals: {:?}", calls.0);
    assert!(reads >= renewals, "nothing was counted: {:?}", calls.0);
    for name in ["lease of a sign-in", "commit of a sign-in"] {
        let number = calls.number(name);
        assert!((renewals - 1..=renewals + 1).contains(&number), "{renewals} renewals, {name}: {:?}", calls.0);
    }
    let shortest = TOKEN_LIFE as f64 * 0.45;
    assert!(seconds as f64 >= shortest * (renewals - 1) as f64, "{renewals} renewals in {seconds} s");
    assert!(logins > 3 * 3 * renewals, "{logins} logins");
    calls.assert_by_the_clock(seconds, 3);
    let known = ["sign-in", "lease of a sign-in", "commit of a sign-in", "session", "return of sessions"];
    let unknown: Vec<_> = calls.of_devices().into_iter().filter(|(name, _)| !known.contains(name)).collect();
    assert_eq!(unknown, [], "{:?}", calls.0);
}

const LOGINS: usize = 100;
/// Seconds for which an access token lives.
const TOKEN_LIFE: u64 = 24;
const RENEWALS: u64 = 4;
