//! A computer that was alone joins a fleet with its sign-ins, and leaves it again.

use std::time::{SystemTime, UNIX_EPOCH};

use support::exchange::imap_login;
use support::proxy::Proxy;

use crate::several::{Several, end, until_served};

/// The sign-in of one computer serves in the fleet, and the fleet's serves on one computer. A newer one stays.
#[test]
fn sign_ins_come_along() {
    let several = Several::strict(3600);
    let (alone, joined) = (several.alone(), several.configuration("one"));
    let exchange = &several.exchange;
    exchange.sign_in(&alone);
    let ran = exchange.run(&["fleet", "import"], &joined);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    assert!(ran.output.contains("the fleet has this sign-in now"), "{}", ran.output);
    assert!(exchange.run(&["fleet", "import"], &joined).output.contains("had this sign-in already"));
    // Which sign-in is newer is known by the second.
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signed_in = second();
    crate::until_now("another second", || second() > signed_in);
    let instance = several.instance("one");
    until_served(&instance);
    end(instance);
    // The fleet has gone on: what the directory has is spent.
    let ran = exchange.run(&["fleet", "import"], &joined);
    assert!(ran.output.contains("newer sign-in, which stays; --replace"), "{}", ran.output);
    let generation = several.row("generation");
    let ran = exchange.run(&["fleet", "export"], &joined);
    assert!(ran.output.contains("the state directory has this sign-in now"), "{} {}", ran.output, ran.errors);
    assert_eq!(several.row("generation"), generation);
    let proxy = Proxy::start_with(Some(&exchange.state()), "debug", &alone);
    until_served(&proxy);
    assert!(imap_login(&proxy).starts_with("OK"));
    assert_eq!(exchange.simulator.refresh_token_reuses(), 0);
    end(proxy);
    let ran = exchange.run(&["fleet", "import", "--replace"], &joined);
    assert!(ran.output.contains("the fleet has this sign-in now"), "{}", ran.output);
    until_served(&several.instance("two"));
    assert_eq!(exchange.simulator.refresh_token_reuses(), 0);
}
