//! A computer that was alone joins a fleet with its sign-ins, and leaves it again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use support::exchange::{SCAN, imap_login};
use support::proxy::Proxy;

use crate::several::{RowLock, Several, end, until_served};

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

/// Kills an instance between the endpoint's answer, which is on its disk then, and the commit: the database never gets it.
fn kill_before_commit(several: &Several, mut instance: Proxy) {
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::from_secs(2));
    let lock = RowLock::take_before_commit(several);
    lock.until_waited_for(several, "update packetboat.sign_in set sealed");
    instance.process.signal("KILL");
    instance.process.wait();
    // The server would carry the statement out, although nobody waits for it.
    several.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity \
         where wait_event_type = 'Lock' and query like 'update packetboat.sign_in set sealed%'",
    );
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    crate::until_now("the end of the statement", || several.sql(waiting) == "0");
    lock.release();
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::ZERO);
}

/// An instance was killed with an answer of the endpoint that the database does not have. An export on its computer takes
/// the answer, and the computer goes on alone. An export on another computer has the spent refresh token, and says so.
#[test]
fn an_export_takes_what_the_disk_alone_has() {
    let several = Several::strict(10);
    several.sign_in();
    let instance = several.instance("one");
    until_served(&instance);
    kill_before_commit(&several, instance);
    several.end_leases("one");
    let generation = several.row("generation");
    let export = |name: &str| {
        let state = several.state(name);
        let arguments = ["fleet", "export", "--state-directory", state.to_str().unwrap()];
        let ran = several.exchange.run(&arguments, &several.configuration(name));
        assert_eq!(ran.code, 0, "{}", ran.errors);
        assert!(ran.output.contains("An answer of the token endpoint that another instance has on its disk"));
        ran.output
    };
    let elsewhere = export("two");
    assert!(elsewhere.contains("has not brought the answer to the database"), "{elsewhere}");
    assert!(!elsewhere.contains("the copy on this computer"), "{elsewhere}");
    let status = several.exchange.run(&["fleet", "status"], &several.configuration("two")).output;
    assert!(status.contains("renewals    1 without a result"), "{status}");
    assert!(status.contains(&format!("{SCAN} with identity office, by instance: one\n")), "{status}");
    let status = several.exchange.run(&["fleet", "status", "--json"], &several.configuration("two")).output;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["unfinished_renewals"][0]["instance"], "one", "{status}");

    let at_home = export("one");
    let copy = format!("This is the copy on this computer, in {}", several.state("one").join("fleet").display());
    assert!(at_home.contains("the state directory has this sign-in now") && at_home.contains(&copy), "{at_home}");
    assert!(!at_home.contains("has set out to spend"), "{at_home}");
    assert_eq!(several.row("generation"), generation, "an export changes nothing in the database");
    assert!(export("one").contains("had this sign-in already"));

    // It goes on alone, and none of its refresh tokens was spent before.
    let renewed = several.refreshes();
    let alone = Proxy::start_with(Some(&several.state("one")), "debug", &several.alone());
    until_served(&alone);
    crate::until_now("two renewals", || several.refreshes() >= renewed + 2);
    assert!(imap_login(&alone).starts_with("OK"), "{}", alone.log.all());
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
    end(alone);

    // It joins again: what it has got alone is newer than all that the fleet has.
    let state = several.state("one");
    let arguments = ["fleet", "import", "--state-directory", state.to_str().unwrap()];
    let ran = several.exchange.run(&arguments, &several.configuration("one"));
    assert!(ran.output.contains("the fleet has this sign-in now"), "{} {}", ran.output, ran.errors);
    let status = several.exchange.run(&["fleet", "status"], &several.configuration("two")).output;
    assert!(!status.contains("without a result"), "{status}");
    until_served(&several.instance("two"));
    several.assert_spent_once();
}

/// The advice of the export on another computer is followed: the instance starts once, and its answer is in the database.
#[test]
fn an_answer_of_another_instance_is_brought_by_its_start() {
    let several = Several::strict(10);
    several.sign_in();
    let instance = several.instance("one");
    until_served(&instance);
    kill_before_commit(&several, instance);
    let generation = several.generation();
    let export = || several.exchange.run(&["fleet", "export"], &several.configuration("two")).output;
    assert!(export().contains("An instance renews this sign-in now. Stop all instances"));
    several.end_leases("one");
    assert!(export().contains("has not brought the answer to the database"));
    let instance = several.instance("one");
    crate::until_now("the answer in the database", || {
        several.generation() > generation && instance.metric("packetboat_fleet_sign_ins_success", "") == 1
    });
    end(instance);
    // What was exported before is spent, and an earlier one than that of the fleet now.
    let output = export();
    assert!(output.contains("the state directory has this sign-in now"), "{output}");
    assert!(!output.contains("has set out to spend"), "{output}");
    let alone = several.exchange.proxy(&several.alone());
    until_served(&alone);
    several.assert_spent_once();
}
