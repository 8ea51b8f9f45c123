//! The database has a standby, which is promoted when the primary dies: instances that know both servers go on with the
//! promoted one, and an earlier primary that comes back is not used.

use std::time::Duration;

use support::exchange::{Ran, imap_login};
use support::postgresql::Postgresql;
use support::proxy::Proxy;

use crate::several::{Several, until_served, while_devices_are_served};

/// A fleet whose database has a primary and a standby.
struct Pair {
    several: Several,
    standby: Postgresql,
}

impl Pair {
    /// Access tokens live for this many seconds; the endpoint takes each refresh token once.
    fn new(life: u64) -> Self {
        let mut several = Several::strict(life);
        let standby = several.server.standby();
        several.name_server(&standby);
        several.sign_in();
        Self { several, standby }
    }

    /// Two instances with an access token.
    fn instances(&self) -> [Proxy; 2] {
        let instances = ["one", "two"].map(|name| self.several.instance(name));
        instances.iter().for_each(until_served);
        instances
    }

    /// A column of the sign-in's row as the standby has it.
    fn standby_row(&self, column: &str) -> String {
        self.standby.sql(&self.several.database.name, &format!("select {column} from packetboat.sign_in"))
    }

    fn standby_generation(&self) -> i64 {
        self.standby_row("generation").parse().unwrap()
    }

    /// Asserts that no refresh token was sent twice, and that the sign-in has no trouble.
    fn assert_spent_once(&self) {
        assert_eq!(self.several.exchange.simulator.refresh_token_reuses(), 0);
        assert_eq!(self.standby_row("coalesce(trouble, 'none')"), "none");
    }

    /// `packetboat fleet status`.
    fn status(&self) -> Ran {
        self.several.exchange.run(&["fleet", "status"], &self.several.configuration("operator"))
    }
}

/// The standby does not get the last renewal, and is promoted. The instances know that renewal, and bring it there
/// before anybody spends a refresh token. The primary comes back, and takes changes as before: the instances stay with
/// the promoted server, an instance that starts finds it, and the operator is told.
#[test]
fn a_promoted_standby_has_lost_the_last_renewal() {
    let mut pair = Pair::new(30);
    let instances = pair.instances();
    let several = &pair.several;
    crate::until_now("the standby has the sign-in", || pair.standby_generation() == several.generation());
    for statement in ["alter system set primary_conninfo = ''", "select pg_reload_conf()"] {
        pair.standby.sql("postgres", statement);
    }
    crate::until_now("the standby is cut off", || several.sql("select count(*) from pg_stat_replication") == "0");
    let before = pair.standby_generation();
    crate::until_now("a renewal that the standby misses", || several.generation() > before);
    instances.iter().for_each(|instance| several.until_newest_token(instance));
    let registered = pair.standby.sql(&several.database.name, "select max(until) from packetboat.instance");
    let later = format!("select bool_and(until > '{registered}') from packetboat.instance");
    crate::until_now("registrations that the standby misses", || several.sql(&later) == "t");
    let known = several.generation();
    while_devices_are_served(&[&instances[0], &instances[1]], || {
        pair.several.server.kill();
        assert_eq!(pair.standby_generation(), before, "the standby has lost nothing");
        pair.standby.promote();
        crate::until_now("a renewal by the promoted server", || pair.standby_generation() > known);
    });
    pair.assert_spent_once();
    instances.iter().for_each(|instance| crate::until_now("a loss", || losses(instance) == 1));
    an_earlier_primary_comes_back(pair, &instances, known);
}

fn an_earlier_primary_comes_back(mut pair: Pair, instances: &[Proxy; 2], known: i64) {
    pair.several.server.start_again();
    // They connect anew, and the earlier primary stands first in the configuration.
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'packetboat'";
    assert_ne!(pair.standby.sql("postgres", cut), "0");
    let renewed = pair.standby_generation();
    let third = pair.several.instance("three");
    until_served(&third);
    third.log.wait_for("warning of two primaries", |line| line.contains("both take changes"));
    let at = format!("used at localhost:{}", pair.standby.port);
    third.logs(1, &at);
    let status = pair.status();
    assert!(status.output.contains("MORE THAN ONE SERVER TAKES CHANGES"), "{}{}", status.output, status.errors);
    crate::until_now("a renewal by the promoted server", || pair.standby_generation() > renewed);
    // The promoted one goes away, and nobody turns to the earlier one.
    pair.standby.stop();
    for instance in instances {
        instance.logs(1, "another server was promoted in the place of this one");
        assert!(imap_login(instance).starts_with("OK"), "{}", instance.log.all());
    }
    pair.standby.start_again();
    let renewed = pair.standby_generation();
    crate::until_now("another renewal by the promoted server", || pair.standby_generation() > renewed);
    for instance in instances.iter().chain([&third]) {
        assert!(imap_login(instance).starts_with("OK"), "{}", instance.log.all());
    }
    assert_eq!(pair.several.generation(), known, "somebody has renewed at the earlier primary");
    pair.assert_spent_once();
}

/// The earlier primary is started beside the promoted server, while instances run that have a connection to the promoted
/// one: they see it all the same, and say which server is to be stopped, until it is.
#[test]
fn running_instances_see_a_second_primary() {
    let mut pair = Pair::new(3600);
    let instances = pair.instances();
    pair.several.server.kill();
    pair.standby.promote();
    let sql = |statement: &str| pair.standby.sql(&pair.several.database.name, statement);
    let promoted = sql("select clock_timestamp()");
    let registered =
        format!("select count(*) from packetboat.instance where until > '{promoted}'::timestamptz + interval '30 s'");
    crate::until_now("both are registered at the promoted server", || sql(&registered) == "2");
    assert!(!instances.iter().any(is_split));
    pair.several.server.start_again();
    let [earlier, port] = [pair.several.server.port, pair.standby.port];
    for instance in &instances {
        crate::until_now("a split brain", || is_split(instance));
        instance.logs(1, &format!("this instance uses localhost:{port}: stop localhost:{earlier} at once"));
        assert_eq!(instance.get("/ready"), "ready, but the fleet has trouble\n");
        assert!(instance.status()["fleet"]["troubles"][0].as_str().unwrap().contains("both take changes"));
    }
    pair.several.server.stop();
    for instance in &instances {
        crate::until_now("the split brain is over", || !is_split(instance));
        instance.logs(1, "one server of the fleet's database takes changes again");
    }
}

/// Two names lead to one server: that is no split brain.
#[test]
fn two_names_of_one_server_are_no_split_brain() {
    let several = Several::lenient(3600);
    let port = several.server.port;
    let hosts = format!("localhost:{port},LocalHost:{port}");
    let configuration = several.configuration_at(&hosts, "one");
    let status = several.exchange.run(&["fleet", "status"], &configuration);
    assert_eq!(status.output.matches("  takes changes\n").count(), 2, "{}{}", status.output, status.errors);
    assert!(!status.output.contains("MORE THAN ONE SERVER"), "{}", status.output);
}

/// The primary waits for the standby with each commit, and dies while an instance waits for the endpoint: the promoted
/// server has the lease, and takes the answer under it.
#[test]
fn a_synchronous_standby_has_lost_nothing() {
    let mut pair = Pair::new(30);
    for statement in ["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"] {
        pair.several.sql(statement);
    }
    let is_synchronous = "select count(*) from pg_stat_replication where sync_state = 'sync'";
    crate::until_now("the standby is synchronous", || pair.several.sql(is_synchronous) == "1");
    let instances = pair.instances();
    pair.several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::from_secs(5));
    pair.several.until_asked();
    let (before, refreshes) = (pair.several.generation(), pair.several.refreshes());
    while_devices_are_served(&[&instances[0], &instances[1]], || {
        pair.several.server.kill();
        pair.several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::ZERO);
        assert_eq!(pair.standby_generation(), before);
        pair.standby.promote();
        crate::until_now("the answer at the promoted server", || pair.standby_generation() > before);
        assert_eq!(pair.several.refreshes(), refreshes, "the answer was thrown away");
        let next = pair.standby_generation();
        crate::until_now("a renewal by the promoted server", || pair.standby_generation() > next);
    });
    pair.assert_spent_once();
    instances.iter().for_each(|instance| assert_eq!(losses(instance), 0, "{}", instance.log.all()));
    instances.iter().for_each(|instance| assert!(!is_split(instance), "{}", instance.log.all()));
    let status = pair.status();
    let states = format!("  localhost:{}  takes changes\n", pair.standby.port);
    assert!(status.output.contains("servers     2\n") && status.output.contains(&states), "{}", status.output);
    assert!(status.output.contains("the database is not reached"), "{}", status.output);
}

fn losses(instance: &Proxy) -> u64 {
    instance.metric("packetboat_fleet_database_losses_total", "")
}

/// Returns whether the instance sees a split brain.
fn is_split(instance: &Proxy) -> bool {
    instance.metric("packetboat_fleet_trouble", "reason=\"split_brain\"") == 1
}
