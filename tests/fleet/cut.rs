//! The network between one instance and the database loses packets, in both directions or in one: nobody closes a
//! connection, and nobody answers. The other instance reaches the database all the time.

use std::time::Duration;

use support::network::{HERE, Network, THERE, THERE_TOO, Way};
use support::postgresql::Postgresql;
use support::proxy::Proxy;

use crate::several::{RowLock, Several, until_served, while_devices_are_served};

/// A fleet on one host, and its database on the other. Instance `one` reaches it by addresses of its own, whose packets
/// can be lost.
struct Apart {
    network: Network,
    several: Several,
}

impl Apart {
    fn strict(life: u64) -> Self {
        Self::with(|server| Several::strict_at(server, THERE_TOO, life))
    }

    fn lenient(life: u64) -> Self {
        Self::with(|server| Several::lenient_at(server, THERE_TOO, life))
    }

    fn with(several: impl FnOnce(Postgresql) -> Several) -> Self {
        let network = Network::new();
        let server = network.there(|| Postgresql::start_with("ssl = on\nlisten_addresses = '*'\n"));
        let several = several(server);
        several.sign_in();
        Self { network, several }
    }

    /// The instance whose packets can be lost.
    fn one(&self) -> Proxy {
        let hosts = format!("{THERE}:{}", self.several.server.port);
        let configuration = self.several.configuration_at(&hosts, "one");
        Proxy::start_with(Some(&self.several.state("one")), "debug", &configuration)
    }

    /// The other one.
    fn two(&self) -> Proxy {
        self.several.instance("two")
    }

    /// Waits until `one` has a connection to the database of this kind: by its own addresses.
    fn until_one_is_connected(&self) {
        let connected = format!("select count(*) from pg_stat_activity where client_addr = '{HERE}'");
        crate::until_now("a connection by the addresses of one", || self.several.sql(&connected) != "0");
    }

    /// The name of the instance that holds the lease, or had it last.
    fn holder(&self) -> String {
        self.several.sql(
            "select coalesce((select name from packetboat.instance where id = holder), 'nobody') from packetboat.sign_in",
        )
    }
}

/// An instance whose lease is granted, and the answer that says so is lost. Returns it with the number of its refresh
/// token. Tokens live for a minute, so that the present one serves for a while.
fn leased_unheard(apart: &Apart) -> (Proxy, i64) {
    let several = &apart.several;
    let one = apart.one();
    until_served(&one);
    apart.until_one_is_connected();
    let before = several.generation();
    crate::until_now("the life of the token is half over", || {
        several.row("access_until between clock_timestamp() and clock_timestamp() + interval '34 s'") == "t"
    });
    let lock = RowLock::take(several);
    lock.until_waited_for(several, "with free as");
    let refreshes = several.refreshes();
    apart.network.lose(Way::Back);
    lock.release();
    crate::until_now("the lease is granted", || apart.holder() == "one");
    one.log.wait_for("silence of the database", |line| line.contains("goes on without the fleet's database"));
    assert_eq!((several.refreshes(), several.generation()), (refreshes, before), "nobody has heard of the lease");
    (one, before)
}

/// The instance hears again while its lease lasts, and finds that it holds it.
#[test]
fn a_lease_that_was_not_heard_of_is_found() {
    let apart = Apart::strict(60);
    let (one, before) = leased_unheard(&apart);
    while_devices_are_served(&[&one], || {
        apart.network.deliver(Way::Back);
        crate::until_now("a renewal", || apart.several.generation() > before);
        one.log.wait_for("return of the database", |line| line.contains("has the sign-in again"));
    });
    apart.several.assert_spent_once();
}

/// The lease ends before the instance hears again, and another one renews. The refresh token is sent once, although it
/// counts as perhaps spent.
#[test]
fn a_lease_that_was_not_heard_of_ends() {
    let apart = Apart::strict(60);
    let (one, before) = leased_unheard(&apart);
    let two = apart.two();
    until_served(&two);
    while_devices_are_served(&[&one, &two], || {
        assert_eq!(apart.several.end_leases("one"), 1);
        crate::until_now("a renewal by the other", || apart.several.generation() > before);
        apart.network.deliver(Way::Back);
        apart.several.until_newest_token(&one);
    });
    apart.several.assert_spent_once();
}

/// The commit is carried out, and the answer that says so is lost. The instance keeps what it has, and another one goes
/// on from the commit.
#[test]
fn a_commit_that_is_not_heard() {
    let apart = Apart::strict(12);
    let several = &apart.several;
    let one = apart.one();
    until_served(&one);
    apart.until_one_is_connected();
    several.exchange.quirk(|quirks| {
        quirks.endpoint.answer_delay = Duration::from_secs(2);
        // The token that comes serves through the cut.
        quirks.endpoint.expires_in = 60;
    });
    let lock = RowLock::take_before_commit(several);
    let before = several.generation();
    lock.until_waited_for(several, "update packetboat.sign_in set sealed");
    several.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::ZERO);
    apart.network.lose(Way::Back);
    lock.release();
    crate::until_now("the commit is carried out", || several.generation() == before + 1);
    let two = apart.two();
    until_served(&two);
    while_devices_are_served(&[&one, &two], || {
        one.log.wait_for("silence of the database", |line| line.contains("goes on without the fleet's database"));
        crate::until_now("a renewal by the other", || several.generation() > before + 1);
        apart.network.deliver(Way::Back);
        several.until_newest_token(&one);
    });
    several.assert_spent_once();
}

/// Statements do not arrive, and what the database sends does. The instance begins no lease, serves with the token that
/// it has, and takes the newer one afterwards.
#[test]
fn statements_that_do_not_arrive() {
    let apart = Apart::strict(60);
    let several = &apart.several;
    let [one, two] = [apart.one(), apart.two()];
    [&one, &two].into_iter().for_each(until_served);
    apart.until_one_is_connected();
    while_devices_are_served(&[&one, &two], || {
        apart.network.lose(Way::There);
        one.log.wait_for("silence of the database", |line| line.contains("has not answered within"));
        let before = several.generation();
        crate::until_now("a renewal by the other", || several.generation() > before);
        assert_ne!(apart.holder(), "one");
        apart.network.deliver(Way::There);
        one.log.wait_for("return of the database", |line| line.contains("the fleet's database is back"));
        several.until_newest_token(&one);
    });
    several.assert_spent_once();
}

/// Nothing arrives for several lives of an access token. Where earlier refresh tokens stay good, devices notice nothing,
/// and the database gets what the instance has.
#[test]
fn a_cut_for_longer_than_a_token_lives() {
    let apart = Apart::lenient(10);
    let several = &apart.several;
    let [one, two] = [apart.one(), apart.two()];
    [&one, &two].into_iter().for_each(until_served);
    apart.until_one_is_connected();
    while_devices_are_served(&[&one, &two], || {
        let before = several.generation();
        [Way::There, Way::Back].into_iter().for_each(|way| apart.network.lose(way));
        one.logs(2, "renewed without the fleet's database");
        crate::until_now("renewals by the other", || several.generation() > before + 1);
        [Way::There, Way::Back].into_iter().for_each(|way| apart.network.deliver(way));
        one.log.wait_for("return of the database", |line| line.contains("has the sign-in again"));
    });
    assert_eq!(several.row("coalesce(trouble, 'none')"), "none");
}

/// The primary is silent, as when its computer has lost power: nobody refuses a connection, and nobody answers. The
/// instance turns to the promoted standby.
#[test]
fn a_primary_that_is_silent_is_left() {
    let apart = Apart::strict(60);
    let several = &apart.several;
    let standby = several.server.standby();
    let hosts = format!("{THERE}:{},localhost:{}", several.server.port, standby.port);
    let one = Proxy::start_with(Some(&several.state("one")), "debug", &several.configuration_at(&hosts, "one"));
    until_served(&one);
    one.logs(1, &format!("used at {THERE}:"));
    let generation = || standby.sql(&several.database.name, "select generation from packetboat.sign_in");
    crate::until_now("the standby has the sign-in", || generation() == several.row("generation"));
    let before: i64 = generation().parse().unwrap();
    while_devices_are_served(&[&one], || {
        [Way::There, Way::Back].into_iter().for_each(|way| apart.network.lose(way));
        standby.promote();
        one.logs(1, &format!("used at localhost:{}", standby.port));
        crate::until_now("a renewal by the promoted server", || generation().parse::<i64>().unwrap() > before);
    });
    several.assert_spent_once();
}
