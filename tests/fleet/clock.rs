//! The clock of one computer is wrong by an hour. Leases, sessions and tokens are measured by the clock of the database,
//! and by clocks that do not leap.

use std::time::Duration;

use support::clock::Clock;
use support::exchange::imap_login;
use support::proxy::Proxy;

use crate::several::{Several, end, until_served, while_devices_are_served};

const HOUR: i64 = 3600;

/// An instance whose clock is so many seconds ahead.
fn instance(several: &Several, name: &str, ahead: i64) -> Proxy {
    let clock = Clock::new(&several.state(name));
    clock.set(ahead);
    Proxy::start_by(clock.program(), Some(&several.state(name)), "debug", &several.configuration(name), None)
}

/// Three instances, an hour apart from each other, renew one sign-in, and start again with what they have on disk: no
/// refresh token is sent twice, no lease is stolen, and the mail server sees no access token behind its end.
#[test]
fn instances_whose_clocks_are_an_hour_apart() {
    let several = Several::strict(12);
    several.sign_in();
    let clocks = [("right", 0), ("ahead", HOUR), ("behind", -HOUR)];
    let start = || clocks.map(|(name, ahead)| instance(&several, name, ahead));
    // An answer that takes a while: the others look at the lease meanwhile.
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::from_secs(2));
    for _ in 0..2 {
        let instances = start();
        instances.iter().for_each(until_served);
        let before = several.generation();
        let [right, ahead, behind] = &instances;
        while_devices_are_served(&[right, ahead, behind], || {
            crate::until_now("three renewals", || several.generation() >= before + 3);
        });
        let registered = "select count(*) from packetboat.instance where until between clock_timestamp() and \
                          clock_timestamp() + interval '1 minute'";
        crate::until_now("three instances are registered", || several.sql(registered) == "3");
        instances.into_iter().for_each(end);
    }
    several.assert_spent_once();
    assert_eq!(several.sql("select count(*) from packetboat.candidate"), "0", "a holder was fenced");
    let logins = several.exchange.simulator.counts().imap();
    assert_eq!((logins.refused, logins.not_connected), (0, 0), "a token was used behind its end");
}

/// The clock is set back by an hour while the instance is down. Its copy's access token seems to live on; when the mail
/// server refuses it, the instance gets another one for the same login.
#[test]
fn a_clock_that_is_set_back_while_the_instance_is_down() {
    let several = Several::strict(10);
    several.sign_in();
    let before = instance(&several, "one", 0);
    until_served(&before);
    end(before);
    crate::until_now("the access token ends", || several.row("access_until < clock_timestamp()") == "t");
    let one = instance(&several, "one", -HOUR);
    let answer = imap_login(&one);
    assert!(answer.starts_with("OK"), "{answer}");
    several.assert_spent_once();
}
