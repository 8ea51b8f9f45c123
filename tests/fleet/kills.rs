//! Instances are killed at each step of a renewal. Together they spend each refresh token once, unless a kill cut a
//! lease.

use std::time::{Duration, Instant};

use support::exchange::{PASSWORD, imap_login};
use support::proxy::Proxy;

use crate::several::{RowLock, Several, until_served};

fn kill(mut instance: Proxy) {
    instance.process.signal("KILL");
    instance.process.wait();
}

/// The endpoint takes each refresh token once, and a second use ends the sign-in. A kill before the request, or behind
/// the disk, costs nothing.
#[test]
fn a_strict_endpoint_hears_each_token_once() {
    let several = Several::strict(10);
    several.sign_in();
    // The instance waits for the row: nothing has begun.
    let instance = several.instance("one");
    until_served(&instance);
    let lock = RowLock::take(&several);
    instance.log.wait_for("silence of the database", |line| line.contains("goes on without the fleet's database"));
    kill(instance);
    lock.release();
    several.end_leases("one");
    // The lease has begun, and the endpoint does not read the request.
    let instance = several.instance("one");
    until_served(&instance);
    several.exchange.quirk(|quirks| quirks.endpoint.delay = Duration::from_secs(20));
    several.until_leased();
    let before = several.generation();
    kill(instance);
    several.exchange.quirk(|quirks| quirks.endpoint.delay = Duration::ZERO);
    assert_eq!(several.end_leases("one"), 1);
    let other = several.instance("two");
    until_served(&other);
    crate::until_now("a renewal by the other", || several.generation() > before);
    kill(other);
    several.end_leases("two");
    // The answer is on the disk, and the commit waits for the row.
    let instance = several.instance("one");
    until_served(&instance);
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::from_secs(2));
    let lock = RowLock::take_before_commit(&several);
    let before = several.generation();
    lock.until_waited_for(&several, "update packetboat.sign_in set sealed");
    kill(instance);
    lock.release();
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::ZERO);
    // Its next start brings the answer to the database, although the lease has not ended.
    let instance = several.instance("one");
    until_served(&instance);
    crate::until_now("the answer in the database", || several.generation() > before);
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
    assert_eq!(several.row("coalesce(trouble, 'none')"), "none");
}

/// Three instances serve nine persons, and one of them is killed and started again, again and again, at random moments
/// of their renewals. Nobody has to sign in again, no device is refused, and no refresh token is sent a second time but
/// where a kill has cut a lease.
#[test]
fn kills_at_random_moments() {
    let kills: u64 = std::env::var("FLEET_KILLS").map_or(50, |kills| kills.parse().unwrap());
    let several = Several::lenient(10).with_persons(8);
    several.sign_in();
    for number in 0..8 {
        several.sign_in_to(&format!("p{number}"));
    }
    let names = ["one", "two", "three"];
    let mut instances: Vec<Option<Proxy>> = names.iter().map(|name| Some(several.instance(name))).collect();
    let logins: Vec<String> =
        (0..8).map(|number| format!("p{number}")).chain([support::exchange::LOGIN.to_owned()]).collect();
    for instance in instances.iter().flatten() {
        for login in &logins {
            crate::until_now("a device is served", || is_served(instance, login));
        }
    }
    // Answers that take a while: most of a lease is spent in front of the endpoint.
    several.exchange.quirk(|quirks| {
        quirks.endpoint.delay = Duration::from_millis(100);
        quirks.endpoint.answer_delay = Duration::from_millis(100);
    });
    let (mut cut, mut alone, mut steps) = (0, 0, 0x9e37_79b9_7f4a_7c15_u64);
    for round in 0..kills {
        let at = usize::try_from(round % 3).unwrap();
        steps = steps.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let wait = Duration::from_millis(steps >> 55);
        if round % 2 == 0 {
            // In the middle of this instance's renewal, where there is one soon.
            let deadline = Instant::now() + Duration::from_secs(5);
            while leases(&several, names[at]) == 0 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        std::thread::sleep(wait);
        let killed = instances[at].take().unwrap();
        alone += renewals_alone(&killed);
        kill(killed);
        cut += several.end_leases(names[at]);
        several.end_sessions(names[at]);
        for instance in instances.iter().flatten() {
            let login = &logins[usize::try_from(round).unwrap() % logins.len()];
            assert!(is_served(instance, login), "round {round}: {}", instance.log.all());
        }
        instances[at] = Some(several.instance(names[at]));
    }
    for instance in instances.iter().flatten() {
        for login in &logins {
            crate::until_now("a device is served", || is_served(instance, login));
        }
    }
    alone += instances.iter().flatten().map(renewals_alone).sum::<u64>();
    let reuses = several.exchange.simulator.refresh_token_reuses();
    println!("{kills} kills cut {cut} leases; {alone} renewals without the database; {reuses} tokens were sent twice");
    assert!(cut > kills / 10, "{cut} of {kills} kills have cut a lease");
    // On a slow computer the database may take longer than an instance waits: that renews alone, and another one, which
    // renews by the database, sends the same refresh token.
    assert!(reuses <= cut + 2 * alone, "{reuses} refresh tokens were sent again behind {cut} leases that were cut");
    assert_eq!(several.sql("select count(*) from packetboat.sign_in where trouble is not null"), "0");
}

/// Renewals by this instance without the database, because it did not answer in time.
fn renewals_alone(instance: &Proxy) -> u64 {
    u64::try_from(instance.log.count(|line| line.contains("renewed without the fleet's database"))).unwrap()
}

fn leases(several: &Several, name: &str) -> u64 {
    let count = several.sql(&format!(
        "select count(*) from packetboat.sign_in where lease_until > clock_timestamp() and holder in \
         (select id from packetboat.instance where name = '{name}')"
    ));
    count.parse().unwrap()
}

fn is_served(instance: &Proxy, login: &str) -> bool {
    let mut imap = instance.imap("imap");
    support::imap::status(&imap.command(&format!("LOGIN {login} {PASSWORD}"))).starts_with("OK")
}

/// The holder stops for longer than its lease, while the endpoint's answer is under way. The next one renews. The answer
/// that comes late is fenced, and the stopped instance goes on with what the fleet has.
#[test]
fn stopped_for_longer_than_the_lease() {
    let several = Several::lenient(10);
    several.exchange.quirk(|quirks| quirks.refresh.strict_rotation = true);
    several.sign_in();
    let stopped = several.instance("one");
    until_served(&stopped);
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::from_secs(4));
    several.until_asked();
    stopped.process.signal("STOP");
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::ZERO);
    let (before, lease) = (several.generation(), several.row("extract(epoch from lease_until)"));
    let other = several.instance("two");
    crate::until_now("the next holder's commit", || several.generation() > before);
    let is_over = format!("select extract(epoch from clock_timestamp()) > {lease}");
    assert_eq!(several.sql(&is_over), "t", "the lease was not respected");
    until_served(&other);
    stopped.process.signal("CONT");
    crate::until_now("the late answer", || several.sql("select count(*) from packetboat.candidate") == "1");
    until_served(&stopped);
    let after = several.generation();
    crate::until_now("another renewal", || several.generation() > after);
    assert!(imap_login(&stopped).starts_with("OK") && imap_login(&other).starts_with("OK"));
    assert_eq!(several.row("coalesce(trouble, 'none')"), "none");
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 1);
}
