//! The database is restored from a backup that was made just before a renewal.

use support::exchange::imap_login;

use crate::several::{Several, end, until_served};

/// At an endpoint that takes each refresh token once, and ends the sign-in at a second use: one instance knows the refresh
/// token of the backup, the other one has spent it. The first one waits until the second one has brought the newest.
#[test]
fn a_backup_from_before_a_renewal_costs_no_refresh_token() {
    let several = Several::strict(20);
    several.sign_in();
    let (newest, earlier) = (several.instance("newest"), several.instance("earlier"));
    for instance in [&newest, &earlier] {
        until_served(instance);
    }
    // What the stopped instance knows is what the backup has.
    let generation = || several.row("generation").parse::<i64>().unwrap();
    earlier.process.signal("STOP");
    let (before, backup) = (generation(), several.server.dump(&several.database.name));
    crate::until_now("a renewal", || generation() > before);
    let renewed = generation();
    several.server.restore(&several.database.name, &backup);
    earlier.process.signal("CONT");
    crate::until_now("the newest refresh token in the restored database", || generation() >= renewed);
    crate::until_now("another renewal", || generation() > renewed);
    for instance in [&newest, &earlier] {
        until_served(instance);
        assert!(imap_login(instance).starts_with("OK"));
        assert_eq!(instance.log.count(|line| line.contains("packetboat login")), 0, "{}", instance.log.all());
    }
    assert_eq!(several.exchange.simulator.refresh_token_reuses(), 0);
}

/// The same, where both instances are stopped meanwhile. The first one starts first, and sees by its copy that the database
/// is another one.
#[test]
fn a_backup_and_a_restart_cost_no_refresh_token() {
    let several = Several::strict(20);
    several.sign_in();
    let (newest, earlier) = (several.instance("newest"), several.instance("earlier"));
    for instance in [&newest, &earlier] {
        until_served(instance);
        several.until_newest_token(instance);
    }
    end(earlier);
    let (before, backup) = (several.generation(), several.server.dump(&several.database.name));
    crate::until_now("a renewal", || several.generation() > before);
    end(newest);
    let renewed = several.generation();
    several.server.restore(&several.database.name, &backup);
    assert_eq!(several.generation(), before);
    let earlier = several.instance("earlier");
    let newest = several.instance("newest");
    crate::until_now("the newest refresh token in the restored database", || several.generation() >= renewed);
    crate::until_now("another renewal", || several.generation() > renewed);
    until_served(&earlier);
    until_served(&newest);
    several.assert_spent_once();
}
