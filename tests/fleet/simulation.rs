//! The simulated fleet: its laws hold at three and at thirty instances, a fleet that breaks them is found, and its figures
//! are those of three real instances over PostgreSQL. `make bench-fleet` plays larger ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::exchange::{LOGIN, PASSWORD, imap};
use support::fuzz::random::Random;
use support::proxy::Proxy;
use support::simulated_fleet::{Case, Mix, Scenario};
use support::simulated_records::Statement;

use crate::several::{Several, until_served};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Plays cases, and fails with the laws that were broken.
fn hold(cases: impl Iterator<Item = Case>) {
    let broken: Vec<String> = cases.flat_map(|case| case.run().broken()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_laws_hold_at_three_instances() {
    let cases = Scenario::ALL.into_iter().flat_map(|scenario| Mix::ALL.map(|mix| Case::new(3, mix, scenario)));
    hold(cases);
}

#[test]
fn the_laws_hold_at_thirty_instances() {
    let case = |scenario| Case { time: 12 * MINUTE, ..Case::new(30, Mix::TenDevices, scenario) };
    hold(Scenario::ALL.into_iter().map(case));
}

/// Instances that have nothing in common break the laws, and the simulation says so.
#[test]
fn a_fleet_without_a_common_database_breaks_the_laws() {
    let case = Case { poll: MINUTE, is_split: true, ..Case::new(3, Mix::Sites, Scenario::Steady) };
    let report = case.run();
    assert!(report.most() > 8, "{} sessions", report.most());
    let broken = report.broken().join("\n");
    for law in ["sessions at once", "were spent twice", "renewals came before"] {
        assert!(broken.contains(law), "{law}: {broken}");
    }
}

/// An instance that dies while it asks leaves its lease to the next one, and its sessions within a minute.
#[test]
fn a_death_costs_a_lease_and_a_minute() {
    let report = Case::new(3, Mix::TenDevices, Scenario::Deaths).run();
    let (leases, sessions) = (&report.lease_hand_overs.0, &report.session_hand_overs.0);
    let [lease] = leases.as_slice() else { panic!("{leases:?}") };
    // The lease of 45 s, and then the next instance whose token is stale: at 55 % of its life at the latest.
    assert!((44.0..=420.0).contains(lease), "{lease} s");
    assert!(!sessions.is_empty() && sessions.iter().all(|left| (38.0..=60.0).contains(left)), "{sessions:?}");
    assert_eq!(report.repeated(), 1);
}

/// Three real instances with eight devices each, for a minute: statements by the count of PostgreSQL, requests by the count
/// of the token endpoint. What comes by the clock meets the prediction within a fifth, or by five where there are few.
/// Sessions are borrowed and returned where devices happen to come at once, and stay for longer on a busy computer: there
/// three quarters are allowed.
#[test]
fn the_simulation_predicts_three_real_instances() {
    let (life, delay, poll) = (20 * SECOND, SECOND / 3, 6 * SECOND);
    let case = Case { devices: 8, poll, life, delay, time: 20 * MINUTE, ..Case::new(3, Mix::Sites, Scenario::Steady) };
    let predicted = case.run();
    assert!(predicted.broken().is_empty(), "{:?}", predicted.broken());

    let several = Several::counted(life.as_secs());
    several.exchange.quirk(|quirks| quirks.endpoint.delay = delay);
    several.sign_in();
    let instances = ["west", "east", "north"].map(|name| several.instance(name));
    for instance in &instances {
        until_served(instance);
        let sharing = || instance.metric("packetboat_fleet_instances", "") == 3;
        crate::until_now("three instances are counted", sharing);
    }
    let is_over = AtomicBool::new(false);
    let (counted, requests, time) = std::thread::scope(|scope| {
        for device in 0..3 * case.devices {
            let (instance, is_over) = (&instances[device % 3], &is_over);
            scope.spawn(move || poll_until(instance, poll, is_over, Random(device as u64)));
        }
        // Each device comes once, so that the rows of the mailbox are there.
        std::thread::sleep(2 * poll);
        several.sql("select pg_stat_statements_reset()");
        let (before, begun) = (several.refreshes(), Instant::now());
        std::thread::sleep(MINUTE);
        let counted = Counted::read(&several);
        let measured = (counted, several.refreshes() - before, begun.elapsed());
        is_over.store(true, Ordering::Relaxed);
        measured
    });
    let expected = |rate: f64| rate * time.as_secs_f64();
    let mut unlike = Vec::new();
    let mut compare = |what: &str, measured: u64, expected: f64, allowed: f64| {
        let line = format!("{what}: {measured} measured, {expected:.1} predicted, {allowed:.1} allowed");
        println!("{line}");
        if (measured as f64 - expected).abs() > allowed {
            unlike.push(line);
        }
    };
    let by_clock = |expected: f64| (expected / 5.0).max(5.0);
    let asked = expected(predicted.requests() / 3600.0);
    compare("token requests", requests, asked, by_clock(asked));
    for (what, kinds) in BY_CLOCK {
        let statements = expected(predicted.rate(kinds));
        compare(what, counted.of(kinds), statements, by_clock(statements));
    }
    let lent = expected(predicted.rate(LENDING));
    compare("sessions borrowed and returned", counted.of(LENDING), lent, lent * 0.75);
    assert!(unlike.is_empty(), "{unlike:#?}\n{:#?}", counted.0);
    assert!(several.exchange.simulator.counts().most_sessions <= 8);
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
}

/// Statements that come by the clock.
const BY_CLOCK: [(&str, &[Statement]); 4] = [
    ("statements about instances", &[Statement::Register, Statement::List, Statement::Count]),
    ("news", &[Statement::News]),
    ("renewals of sessions", &[Statement::Renew]),
    (
        "statements about sign-ins",
        &[Statement::ReadSignIn, Statement::Begin, Statement::Commit, Statement::ChangeSignIn],
    ),
];
/// Statements that come by chance.
const LENDING: &[Statement] = &[Statement::Borrow, Statement::Return, Statement::Mailbox];

/// A device that looks for mail again and again, and stays for half a second to one and a half.
fn poll_until(instance: &Proxy, poll: Duration, is_over: &AtomicBool, mut random: Random) {
    std::thread::sleep(poll.mul_f64(random.below(100) as f64 / 100.0));
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut device = imap(instance);
        device.login(LOGIN, PASSWORD);
        std::thread::sleep(SECOND / 2 + Duration::from_millis(random.below(1000) as u64));
        device.log_out();
        let interval = poll.mul_f64(0.9 + random.below(20) as f64 / 100.0);
        std::thread::sleep(interval.saturating_sub(begun.elapsed()));
    }
}

/// The statements that PostgreSQL has counted: each with its kind, and how often it came.
struct Counted(Vec<(Statement, String, u64)>);

impl Counted {
    fn read(several: &Several) -> Self {
        let rows = several.sql(
            "select calls || ' ' || regexp_replace(query, '\\s+', ' ', 'g') from pg_stat_statements s \
             join pg_database d on d.oid = s.dbid where d.datname = current_database()",
        );
        let read = |row: &str| {
            let (calls, query) = row.split_once(' ').unwrap();
            Some((kind_of(query)?, query.to_owned(), calls.parse().unwrap()))
        };
        Self(rows.lines().filter_map(read).collect())
    }

    fn of(&self, kinds: &[Statement]) -> u64 {
        self.0.iter().filter(|(kind, ..)| kinds.contains(kind)).map(|(.., calls)| calls).sum()
    }
}

/// The kind of a statement; none for those that the simulation does not have: the inventory, the certificates and
/// the ends of sign-ins.
fn kind_of(query: &str) -> Option<Statement> {
    if query.contains("octet_length(s.sealed) <=") {
        return None;
    }
    // The first that fits counts.
    let kinds = [
        ("insert into packetboat.instance ", Statement::Register),
        ("delete from packetboat.instance where id", Statement::Register),
        ("select count(*) from packetboat.instance", Statement::Count),
        ("from packetboat.instance where until", Statement::List),
        ("select mine.upstream", Statement::News),
        ("for update skip locked", Statement::Borrow),
        ("insert into packetboat.mailbox_session", Statement::Borrow),
        ("returning s.upstream", Statement::Renew),
        ("update packetboat.mailbox_session", Statement::Return),
        ("packetboat.mailbox", Statement::Mailbox),
        ("update packetboat.sign_in s set holder", Statement::Begin),
        ("generation = generation +", Statement::Commit),
        ("select generation, sealed", Statement::ReadSignIn),
        ("packetboat.candidate", Statement::ReadSignIn),
        ("packetboat.sign_in", Statement::ChangeSignIn),
    ];
    kinds.into_iter().find(|(part, _)| query.contains(part)).map(|(_, kind)| kind)
}
