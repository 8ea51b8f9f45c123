//! Several instances keep one sign-in fresh: together they spend each refresh token once.

use std::time::{Duration, Instant};

use support::exchange::imap_login;

use crate::several::{Several, until_served};

/// A sign-in on one computer serves the devices of all instances, which wait for it. From then on there is one refresh
/// for each half of an access token's life, whoever makes it, and no refresh token is sent twice.
#[test]
fn one_refresh_serves_all_instances() {
    let several = Several::strict(12);
    let instances = ["one", "two", "three"].map(|name| several.instance(name));
    for instance in &instances {
        instance.log.wait_for("line about the missing sign-in", |line| line.contains("has not signed in to the fleet"));
        assert!(!imap_login(instance).starts_with("OK"));
    }
    several.sign_in();
    let took = instances[0].time_of(|| instances.iter().for_each(until_served));
    assert!(took < Duration::from_secs(30), "{took:?}");
    let (begun, before) = (Instant::now(), several.refreshes());
    several.exchange.until("five more refreshes", |counts| counts.grant("refresh_token") >= before + 5);
    // Each comes when at least 45 % of 12 s are over.
    assert!(begun.elapsed() > Duration::from_millis(4 * 5400), "{:?}", begun.elapsed());
    for instance in &instances {
        assert!(imap_login(instance).starts_with("OK"));
    }
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
    assert_eq!(several.row("coalesce(trouble, 'none')"), "none");
}
