//! The database of a fleet is away, and comes back.

use std::time::Duration;

use support::exchange::imap_login;
use support::proxy::Proxy;

use crate::several::{Several, until_served};

/// An endpoint like Microsoft's: devices notice nothing for several lives of an access token, an instance that starts
/// meanwhile serves from its copy, and the database gets the newest refresh token once it is back.
#[test]
fn a_lenient_endpoint_serves_without_the_database() {
    let mut several = Several::lenient(10);
    several.sign_in();
    let instances = ["one", "two"].map(|name| several.instance(name));
    instances.iter().for_each(until_served);
    let generation = several.row("generation");
    several.server.stop();
    let before = several.refreshes();
    for instance in &instances {
        instance.log.wait_for("line about the database", |line| line.contains("goes on without the fleet's database"));
    }
    crate::until_now("two renewals by each instance", || {
        for instance in &instances {
            let took = instance.time_of(|| assert!(imap_login(instance).starts_with("OK"), "{}", instance.log.all()));
            assert!(took < Duration::from_secs(6), "a device waited for the database: {took:?}");
        }
        several.refreshes() >= before + 4
            && instances.iter().all(|one| one.log.count(|line| line.contains("renewed without the fleet's")) >= 2)
    });
    let [one, two] = instances;
    let metrics = metrics(&two);
    assert!(metrics.contains("packetboat_fleet_sign_ins_success 0"), "{metrics}");
    drop(one);
    let one = several.instance("one");
    until_served(&one);
    several.server.start_again();
    for instance in [&one, &two] {
        instance.log.wait_for("line about the database", |line| line.contains("has the sign-in again"));
        assert!(imap_login(instance).starts_with("OK"));
    }
    assert_ne!(several.row("generation"), generation);
    assert_eq!(several.row("coalesce(trouble, 'none')"), "none");
    let before = several.row("generation");
    crate::until_now("a renewal by lease", || several.row("generation") != before);
}

/// An endpoint that takes each refresh token once: nobody asks it without the database. Devices are served while the
/// access token lives, and again as soon as the database is back.
#[test]
fn a_strict_endpoint_is_left_alone() {
    let mut several = Several::strict(30);
    several.sign_in();
    let instances = ["one", "two"].map(|name| several.instance(name));
    instances.iter().for_each(until_served);
    // Nobody is about to renew: the next renewal is due when nearly half of the life is over.
    let before = several.generation();
    crate::until_now("a renewal", || several.generation() > before);
    instances.iter().for_each(|instance| several.until_newest_token(instance));
    several.server.stop();
    let before = several.refreshes();
    for instance in &instances {
        instance.log.wait_for("line about the database", |line| line.contains("goes on without the fleet's database"));
        assert!(imap_login(instance).starts_with("OK"));
    }
    crate::until_now("the token's end", || !imap_login(&instances[0]).starts_with("OK"));
    assert_eq!(several.refreshes(), before);
    several.server.start_again();
    instances.iter().for_each(until_served);
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
    for instance in &instances {
        assert_eq!(instance.log.count(|line| line.contains("packetboat login")), 0, "{}", instance.log.all());
    }
}

fn metrics(instance: &Proxy) -> String {
    instance.metrics()
}
