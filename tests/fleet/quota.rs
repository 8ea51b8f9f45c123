//! Three running instances of packetboat with one PostgreSQL, in front of the simulated Exchange Online, which counts the
//! sessions of its mailbox.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packetboat::simulator::quirks::Moment;
use packetboat::state::{self, Access};
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, account, imap, imap_login};
use support::imap::{Imap, status};
use support::postgresql::{Database, Postgresql};
use support::process::PATIENCE;
use support::proxy::{Proxy, translating_listener};
use support::smtp::{Login, Smtp};
use support::stacks::{Start, TLS_1_0};

/// The fleet with its database and the mail server.
pub struct Fleet {
    pub exchange: Exchange,
    pub server: Postgresql,
    pub database: Database,
    pub instances: [Proxy; 3],
}

impl Fleet {
    /// Three instances that count each other, with further keys at the top and for the upstream.
    pub fn start(top: &str, upstream: &str) -> Self {
        let exchange = Exchange::new();
        let server = Postgresql::start();
        let database = server.database();
        let key = exchange.file("store.key", [7; 32]);
        let instances = ["west", "east", "north"].map(|name| {
            let text = exchange.submission_frame()
                + &translating_listener("smtps", "smtp", "implicit", "")
                + &exchange.identity(BY_SECRET)
                + &account("scans", SCAN, "");
            let text = text.replace("[upstream.exchange]\n", &format!("[upstream.exchange]\n{upstream}"));
            let section = database.section(name) + "migrate = true\n";
            Proxy::start(&format!("store_key = {key:?}\n{top}{section}{text}"))
        });
        let fleet = Self { exchange, server, database, instances };
        for proxy in &fleet.instances {
            fleet.until("all are counted", || proxy.metric("packetboat_fleet_instances", "") == 3);
        }
        fleet
    }

    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn most_sessions(&self) -> usize {
        self.exchange.simulator.counts().most_sessions
    }

    /// The mailbox had so many sessions at a time. On a slow computer the database may answer later than a login waits,
    /// which begins one by its instance's share then.
    #[track_caller]
    fn assert_most(&self, expected: usize) {
        let (most, alone) = (self.most_sessions(), self.instances.iter().map(alone).sum::<usize>());
        assert!((expected..=expected + alone).contains(&most), "{most} sessions, {alone} without the database");
    }

    /// A login that gets a session within the patience of a test.
    fn login(&self, proxy: &Proxy) -> Imap {
        let mut device = None;
        self.until("a session for a device", || {
            device = try_login(proxy);
            device.is_some()
        });
        device.unwrap()
    }
}

/// Logins of an instance that went on without the database; none of one that has ended.
fn alone(proxy: &Proxy) -> usize {
    let has_ended = !std::path::Path::new(&format!("/proc/{}/stat", proxy.process.0.id())).exists();
    if has_ended { 0 } else { proxy.metric("packetboat_fleet_share_logins_total", "") as usize }
}

/// A device gets no session at this instance, unless the database answers too late.
#[track_caller]
fn assert_refused(proxy: &Proxy) {
    let before = alone(proxy);
    if let Some(device) = try_login(proxy) {
        assert!(alone(proxy) > before, "a device got a session");
        device.log_out();
    }
}

/// A login that may be refused, because no session is free.
fn try_login(proxy: &Proxy) -> Option<Imap> {
    let mut device = imap(proxy);
    let answer = status(&device.command(&format!("LOGIN {LOGIN} {PASSWORD}")));
    assert!(answer.starts_with("OK") || answer.starts_with("NO [INUSE]"), "{answer}");
    answer.starts_with("OK").then_some(device)
}

/// Twenty-four devices log in and out for some seconds, and connections are parked: never more than eight sessions, and
/// every instance serves its devices.
#[test]
fn eight_sessions_are_those_of_three_instances() {
    let fleet = Fleet::start("", "park = \"5m\"\n");
    let served = [const { AtomicUsize::new(0) }; 3];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for device in 0..24 {
            let (proxy, served, is_over) = (&fleet.instances[device % 3], &served[device % 3], &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    if let Some(mut device) = try_login(proxy) {
                        device.ok("SELECT INBOX");
                        // Some leave in step, and some are switched off.
                        if served.fetch_add(1, Ordering::Relaxed) % 4 > 0 {
                            device.log_out();
                        }
                    }
                }
            });
        }
        fleet.until("all are served", || served.iter().all(|count| count.load(Ordering::Relaxed) > 40));
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(fleet.most_sessions() >= 6, "{} sessions", fleet.most_sessions());
    fleet.assert_most(fleet.most_sessions().min(8));
}

/// A device that comes again finds the session that its instance has borrowed, and its login asks the database nothing,
/// unless it comes before the end of the login before has freed that session.
#[test]
fn a_login_finds_the_borrowed_session() {
    let fleet = Fleet::start("", "");
    let west = &fleet.instances[0];
    let waits = || west.metric("packetboat_fleet_login_waits_total", "");
    assert_eq!(waits(), 0);
    for _ in 0..10 {
        let device = try_login(west).unwrap();
        fleet.until("the session is borrowed", || west.metric("packetboat_fleet_borrowed_sessions", "") == 1);
        device.log_out();
        let mailbox = fleet.exchange.until("no session", |counts| counts.open_sessions() == 0);
        assert_eq!(mailbox.most_sessions, 1);
        west.until_open(0);
    }
    assert!(waits() <= 3, "{} of 10 logins have waited", waits());
}

/// The sessions of an instance that is killed are free within a minute, and the database shows who holds which.
#[test]
fn a_killed_instance_leaves_its_sessions_within_a_minute() {
    let mut fleet = Fleet::start("limits.mailbox_queue = \"1s\"\n", "");
    let held: Vec<_> = (0..8).map(|_| fleet.login(&fleet.instances[0])).collect();
    assert_refused(&fleet.instances[1]);
    let rows = "select count(*) from packetboat.mailbox_session s join packetboat.instance i on i.id = s.instance \
                where i.name = 'west' and s.until > now()";
    fleet.until("all are borrowed", || fleet.server.sql(&fleet.database.name, rows) == "8");
    fleet.instances[0].process.signal("KILL");
    let killed = Instant::now();
    fleet.instances[0].process.wait();
    let within = "select max(until) < clock_timestamp() + interval '1 minute' from packetboat.mailbox_session";
    assert_eq!(fleet.server.sql(&fleet.database.name, within), "t");
    drop(held);
    fleet.exchange.until("the end of all sessions", |counts| counts.open_sessions() == 0);
    let mut taken = Vec::new();
    fleet.until("all are free", || {
        taken.extend(try_login(&fleet.instances[1]));
        taken.len() == 8
    });
    assert!(killed.elapsed() > Duration::from_secs(5), "they were held: {:?}", killed.elapsed());
    fleet.assert_most(8);
}

/// An instance stands still for longer than its sessions are borrowed for, and others borrow them: so many more are open
/// at the mail server as it has open, and none more. It wakes with them, and begins no further one beyond the number.
#[test]
fn an_instance_that_stood_still_begins_none_beyond_the_number() {
    let fleet = Fleet::start("limits.mailbox_queue = \"1s\"\n", "");
    let [west, east, _] = &fleet.instances;
    let mut of_west: Vec<_> = (0..3).map(|_| fleet.login(west)).collect();
    let mut of_east: Vec<_> = (0..5).map(|_| fleet.login(east)).collect();
    fleet.assert_most(8);
    let borrowed = "select count(*) from packetboat.mailbox_session where until > now()";
    fleet.until("all are borrowed", || fleet.server.sql(&fleet.database.name, borrowed) == "8");
    west.process.signal("STOP");
    assert!(try_login(east).is_none());
    fleet.until("east has what west had", || {
        of_east.extend(try_login(east));
        of_east.len() == 8
    });
    let held = "select count(*) from packetboat.mailbox_session s join packetboat.instance i on i.id = s.instance \
                where i.name = 'east' and s.until > now()";
    fleet.until("all are borrowed by east", || fleet.server.sql(&fleet.database.name, held) == "8");
    assert_eq!(fleet.exchange.simulator.counts().open_sessions(), 8 + 3);
    west.process.signal("CONT");
    for _ in 0..5 {
        assert!(try_login(west).is_none());
    }
    // What was open goes on, and what ends is not begun again.
    of_west.iter_mut().for_each(|device| drop(device.ok("NOOP")));
    of_west.into_iter().for_each(|device| device.log_out());
    fleet.exchange.until("the end of the sessions of west", |counts| counts.open_sessions() == 8);
    assert_refused(west);
    of_east.pop().unwrap().log_out();
    let _device = fleet.login(west);
    fleet.assert_most(8 + 3);
    assert_eq!(fleet.exchange.simulator.counts().open_sessions(), 8);
}

/// Without the database each of three instances has two sessions of eight; with it, each has what it can get.
#[test]
fn without_the_database_instances_have_their_shares() {
    let mut fleet = Fleet::start("limits.mailbox_queue = \"1s\"\n", "");
    fleet.server.stop();
    let mut held = Vec::new();
    for proxy in &fleet.instances {
        held.extend([try_login(proxy).unwrap(), try_login(proxy).unwrap()]);
        assert!(try_login(proxy).is_none());
        assert_eq!(proxy.metric("packetboat_fleet_share_logins_total", ""), 2);
    }
    assert_eq!(fleet.most_sessions(), 6);
    fleet.server.start_again();
    fleet.until("what is open is borrowed", || {
        let rows = "select count(*) from packetboat.mailbox_session where until > now()";
        fleet.server.sql(&fleet.database.name, rows) == "6"
    });
    let west = &fleet.instances[0];
    held.extend([fleet.login(west), fleet.login(west)]);
    assert!(try_login(west).is_none() && try_login(&fleet.instances[1]).is_none());
    assert_eq!(fleet.most_sessions(), 8);
}

/// One instance ends in good order, and another one is killed. Without the database, the last one then has all sessions.
#[test]
fn instances_that_have_ended_have_no_share() {
    let mut fleet = Fleet::start("limits.mailbox_queue = \"1s\"\n", "");
    let sharing = |fleet: &Fleet| fleet.instances[0].metric("packetboat_fleet_sharing_instances", "");
    fleet.instances[2].process.signal("TERM");
    assert!(fleet.instances[2].process.wait().success());
    fleet.until("the one that has ended does not count", || sharing(&fleet) == 2);
    fleet.instances[1].process.signal("KILL");
    fleet.instances[1].process.wait();
    fleet.until("the one that was killed does not count", || sharing(&fleet) == 1);
    fleet.server.stop();
    let west = &fleet.instances[0];
    let held: Vec<_> = (0..8).map(|_| fleet.login(west)).collect();
    assert!(try_login(west).is_none(), "eight is the number");
    assert_eq!((fleet.most_sessions(), alone(west)), (8, held.len()));
}

/// Exchange throttles the mailbox at one instance. The others leave it alone within seconds, although it would take them.
#[test]
fn a_throttled_mailbox_is_left_alone_by_all() {
    let fleet = Fleet::start("", "");
    let [west, east, north] = &fleet.instances;
    // This one has a free session in hand, and learns it by the news.
    try_login(north).unwrap().log_out();
    fleet.exchange.quirk(|quirks| quirks.mail.throttle = Some((Moment::Login, 299_961)));
    assert!(imap_login(west).starts_with("NO [UNAVAILABLE] "));
    fleet.exchange.quirk(|quirks| quirks.mail.throttle = None);
    for proxy in [east, north] {
        let took = proxy.time_of(|| {
            fleet.until("the mailbox is left alone", || imap_login(proxy).starts_with("NO [UNAVAILABLE] "));
        });
        assert!(took < Duration::from_secs(5), "{took:?}");
        proxy.logs(1, "the mail server throttles this mailbox for another ");
    }
    let status = status_of(&fleet);
    assert!(status.contains("scan@contoso.example at exchange, read: throttled for another "), "{status}");
}

/// Exchange throttles the mailbox at one instance: no device of another one gets the connection that is parked there.
#[test]
fn a_parked_connection_of_a_throttled_mailbox_ends() {
    let fleet = Fleet::start("", "park = \"5m\"\n");
    let [west, east, _] = &fleet.instances;
    try_login(east).unwrap().log_out();
    fleet.until("the connection is parked", || east.metric("packetboat_parked_connections", "") == 1);
    fleet.exchange.quirk(|quirks| quirks.mail.throttle = Some((Moment::Login, 299_961)));
    assert!(imap_login(west).starts_with("NO [UNAVAILABLE] "));
    fleet.exchange.quirk(|quirks| quirks.mail.throttle = None);
    fleet.until("the mailbox is left alone", || {
        let mut device = imap(east);
        let answer = status(&device.command(&format!("LOGIN {LOGIN} {PASSWORD}")));
        if answer.starts_with("OK") {
            device.log_out();
        }
        answer.starts_with("NO [UNAVAILABLE] ")
    });
    fleet.until("the parked connection ends", || fleet.exchange.simulator.counts().open_sessions() == 0);
    fleet.until("it is counted", || east.metric("packetboat_parked_connections", "") == 0);
}

/// One session is the limit, and a connection without a device has it: it gives way to a device at another instance.
#[test]
fn a_parked_connection_gives_way_to_another_instance() {
    let fleet = Fleet::start("limits.sessions_per_mailbox = 1\n", "park = \"5m\"\n");
    let [west, east, _] = &fleet.instances;
    try_login(west).unwrap().log_out();
    fleet.until("the connection is parked", || west.metric("packetboat_parked_connections", "") == 1);
    let status = status_of(&fleet);
    assert!(status.contains("scan@contoso.example at exchange, read: 1 (west 1)\n"), "{status}");
    let mut device = None;
    let took = east.time_of(|| device = try_login(east));
    assert!(device.is_some() && took < Duration::from_secs(6), "{took:?}");
    fleet.until("the parked connection gives way", || west.metric("packetboat_parked_ended_total", "gave_way") == 1);
    drop(device);
    fleet.assert_most(1);
}

/// By SMTP a mailbox has three connections, and devices that have just sent hold them. Messages count in the database.
#[test]
fn three_connections_that_send_are_those_of_three_instances() {
    let fleet = Fleet::start("limits.mailbox_queue = \"1s\"\n", "");
    let connected = |proxy: &Proxy| Smtp::greeted(TLS_1_0.connect(proxy.address("smtps"), Start::Implicit));
    let mut devices: Vec<_> = fleet.instances.iter().map(connected).collect();
    for device in &mut devices {
        device.log_in(Login::Plain, LOGIN, PASSWORD);
        let answer = device.submit(SCAN, SCAN, MESSAGE);
        assert!(answer.starts_with("250 2."), "{answer}");
    }
    for proxy in &fleet.instances {
        let mut device = connected(proxy);
        let [(line, _)] = Login::Plain.dialogue(LOGIN, PASSWORD).try_into().unwrap();
        let answer = device.ask(&line);
        assert!(answer.starts_with("454 "), "{answer}");
    }
    let rows =
        "select count(*) from packetboat.mailbox where kind = 'send' and paced_until > now() - interval '1 hour'";
    fleet.until("the messages count", || fleet.server.sql(&fleet.database.name, rows) == "1");
    assert_eq!(fleet.exchange.simulator.counts().submissions.most_sessions, 3);
}

const MESSAGE: &[u8] = b"From: <scan@contoso.example>\r\nTo: <scan@contoso.example>\r\nSubject: page\r\n\r\nhello\r\n";

/// `packetboat fleet status`, for people.
fn status_of(fleet: &Fleet) -> String {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("store.key");
    state::write(&key, &[7; 32], Access::Private).unwrap();
    let file = directory.path().join("packetboat.toml");
    fs::write(&file, crate::configured(&key, &fleet.database.section("operator"))).unwrap();
    let mut command = std::process::Command::new(support::process::program());
    command.args(["fleet", "status", "--config"]).arg(&file);
    command.arg("--state-directory").arg(directory.path().join("state"));
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
