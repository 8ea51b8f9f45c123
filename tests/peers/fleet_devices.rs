//! Many devices read and send mail behind HAProxy, with three instances and one PostgreSQL. Instances are restarted, killed
//! and frozen: no device is refused, and no mail is lost or comes twice. `FLEET_DEVICES=1000` for a thousand devices.

// Figures of a large run are printed.
#![allow(clippy::print_stdout)]

mod client;
mod device;
mod run;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use packetboat::device::password;
use packetboat::simulator::Simulator;
use support::exchange::{BY_PERSON, BY_SECRET, Exchange, PASSWORD, SCAN};
use support::postgresql::{Database, Postgresql};
use support::proxy::{Proxy, translating_listener};
use tempfile::TempDir;

use crate::fleet_haproxy::{Balancer, INSTANCES, make_certificate};
use client::Trouble;
use device::{CROWD, Device, Habit, Outbox, mailbox, message, name_of};
use run::{Run, listed};

/// Three instances with their database, and HAProxy.
struct Fleet {
    instances: Vec<Proxy>,
    configurations: Vec<String>,
    balancer: Balancer,
    states: TempDir,
    server: Postgresql,
    database: Database,
    /// Logins that went on without the database, at instances that have ended.
    by_share: u64,
}

#[test]
fn devices_notice_neither_restart_nor_kill_nor_freeze() {
    let count = std::env::var("FLEET_DEVICES").map_or(60, |count| count.parse().unwrap());
    let run = Run::new(exchange(count), count);
    let mut fleet = Fleet::start(&run);
    let begun = Instant::now();
    let sent = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> =
            shares(count).into_iter().map(|devices| scope.spawn(move || live(run, &devices))).collect();
        let disturbed = catch_unwind(AssertUnwindSafe(|| fleet.disturb(run)));
        run.is_over.store(true, Ordering::SeqCst);
        let sent: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        disturbed.unwrap_or_else(|panic| resume_unwind(panic));
        sent
    });
    assert_eq!(listed(&run.failures()), "");
    let again = compare_sent(&run, &sent);
    assert!(run.faults().is_empty(), "{:#?}", run.faults());
    let messages: usize = sent.iter().map(|(_, outbox)| outbox.sent.len()).sum();
    println!(
        "{count} devices: {} visits in {:?}; {messages} messages sent, {again} of them again; {} logins by share",
        run.visits(),
        begun.elapsed(),
        fleet.by_share
    );
}

/// A mail server with the mailboxes of these devices. Tokens are renewed in the middle of the test.
fn exchange(count: usize) -> Exchange {
    let exchange = Exchange::with(|tenant| {
        let all = (0..count).map(mailbox);
        tenant.app_mailboxes.extend(all.clone());
        tenant.app_mailboxes.sort_unstable();
        tenant.app_mailboxes.dedup();
        tenant.users[0].delegates.extend((0..count).filter(|number| is_of_a_person(*number)).map(mailbox));
    });
    exchange.quirk(|quirks| {
        quirks.endpoint.expires_in = TOKEN_LIFE;
        quirks.refresh.reuse_ends_family = true;
        quirks.smtp.messages_per_minute = None;
        // A frozen instance holds sessions at the server that others borrow anew: the test counts them, and nobody refuses.
        quirks.smtp.connections = 16;
    });
    for number in (0..count).filter(|number| Habit::of(*number) == Habit::Crowds && (number / 5).is_multiple_of(CROWD))
    {
        assert!(exchange.simulator.deliver(&mailbox(number), message(0, number / 5 / CROWD)));
    }
    exchange
}

/// Whether the mailbox is opened with the token of a person, as for half of the devices that read.
fn is_of_a_person(number: usize) -> bool {
    (number / 5) % 2 == 1 && !matches!(Habit::of(number), Habit::Sends | Habit::Crowds)
}

/// The devices of each thread: those of the first crowd come all at once, and the others one after the other.
fn shares(count: usize) -> Vec<Vec<usize>> {
    let crowd: Vec<usize> = (0..count).filter(|number| Habit::of(*number) == Habit::Crowds).take(CROWD).collect();
    let others: Vec<usize> = (0..count).filter(|number| !crowd.contains(number)).collect();
    let threads = (count / 20).clamp(8, 48);
    let mut shares: Vec<Vec<usize>> = crowd.into_iter().map(|number| vec![number]).collect();
    shares.extend((0..threads).map(|thread| others.iter().skip(thread).step_by(threads).copied().collect()));
    shares
}

/// Lets these devices come again and again, and at the end a last time. Returns what they have sent.
fn live(run: &Run, numbers: &[usize]) -> Vec<(usize, Outbox)> {
    let mut devices: Vec<Device<'_>> = numbers.iter().map(|number| Device::new(run, *number)).collect();
    while !run.is_over.load(Ordering::SeqCst) {
        for device in &mut devices {
            device.come();
        }
    }
    devices.into_iter().map(Device::leave).collect()
}

/// Compares what devices have sent with what the server has. Returns the number of messages that it has got again, because
/// the device did not hear that it had them.
fn compare_sent(run: &Run, sent: &[(usize, Outbox)]) -> usize {
    let mut found: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    let mut mailboxes: Vec<String> = sent.iter().map(|(number, _)| mailbox(*number)).collect();
    mailboxes.sort_unstable();
    mailboxes.dedup();
    for message in mailboxes.iter().flat_map(|mailbox| run.exchange.simulator.sent_items(mailbox)) {
        let Some((number, device)) = name_of(&message) else { panic!("{}", String::from_utf8_lossy(&message)) };
        *found.entry((device, number)).or_default() += 1;
    }
    let mut again = 0;
    for ((device, number), tries) in
        sent.iter().flat_map(|(device, outbox)| outbox.sent.iter().map(|(number, tries)| ((*device, *number), *tries)))
    {
        match found.remove(&(device, number)) {
            Some(times) if times <= tries => again += times - 1,
            times => run.fault(format!("message {number} of device {device} is there {times:?} times of {tries}")),
        }
    }
    found.into_iter().for_each(|(unknown, _)| run.fault(format!("{unknown:?} was sent, and nobody knows of it")));
    again
}

impl Fleet {
    fn start(run: &Run) -> Self {
        let states = tempfile::tempdir().unwrap();
        make_certificate(states.path());
        let (server, key) = (Postgresql::start(), run.exchange.file("store.key", [7; 32]));
        let database = server.database();
        server.count_statements();
        let configurations: Vec<String> = (0..INSTANCES.len())
            .map(|index| configuration(run, index, (&states.path().to_path_buf(), &key), &database))
            .collect();
        let mut fleet = Self {
            instances: Vec::new(),
            configurations,
            balancer: Balancer::start(run.balancer),
            states,
            server,
            database,
            by_share: 0,
        };
        // HAProxy says "UP" about those alone that it has found down before.
        fleet.balancer.until_checked("DOWN", &INSTANCES);
        for index in 0..INSTANCES.len() {
            let instance = fleet.instance(index);
            instance.logs(1, "an instance of the fleet with the database");
            fleet.instances.push(instance);
        }
        // One sign-in serves all instances.
        let of_a_person = (0..run.count).find(|number| is_of_a_person(*number)).unwrap();
        let elsewhere = fleet.configurations[0].replace("instance = \"one\"", "instance = \"login\"");
        run.exchange.sign_in_to(&format!("device{of_a_person}"), &elsewhere);
        fleet.balancer.until_checked("UP", &INSTANCES);
        fleet
    }

    fn instance(&self, index: usize) -> Proxy {
        Proxy::start_with(Some(&self.states.path().join(INSTANCES[index])), "info", &self.configurations[index])
    }

    /// Waits until HAProxy and the devices go without an instance, starts it again, and waits until all are served.
    fn go_on_without(&mut self, index: usize, run: &Run) {
        let name = INSTANCES[index];
        self.balancer.until_checked("DOWN", &[name]);
        run.until_all_served(&format!("without {name}"));
        self.instances[index] = self.instance(index);
        self.balancer.until_checked("UP", &[name]);
        run.until_all_served(&format!("with {name} again"));
    }

    fn disturb(&mut self, run: &Run) {
        run.until_all_served("at first");
        assert_eq!(run.ends(), 0, "connections end without a reason");
        self.restart_all(run);
        self.kill_one(run);
        let most = self.most_sessions(run, [0, 0]);
        assert_eq!(most[0], 8, "the crowd was no crowd");
        self.freeze_one(run);
        for (name, instance) in INSTANCES.iter().zip(&self.instances) {
            let figure = |name| instance.process.figure(name);
            let files = instance.process.open_files();
            println!("{name}: {} KiB, at most {} KiB, {files} files", figure("VmRSS:"), figure("VmHWM:"));
        }
        let mut statements = self.server.statements(&self.database.name);
        statements.sort_by(|one, other| other.time.total_cmp(&one.time));
        let (calls, time) = statements.iter().fold((0, 0.0), |(calls, time), one| (calls + one.calls, time + one.time));
        println!("{calls} statements took {time:.0} ms of the database, and of these the most:");
        for statement in statements.iter().take(6) {
            let beginning: String = statement.text.chars().take(100).collect();
            println!("{} times, {:.0} ms: {beginning}", statement.calls, statement.time);
        }
    }

    /// A rolling restart: no visit fails.
    fn restart_all(&mut self, run: &Run) {
        for index in 0..INSTANCES.len() {
            self.note_share(index);
            self.instances[index].process.signal("TERM");
            assert!(self.instances[index].process.wait().success());
            self.go_on_without(index, run);
        }
        assert_eq!(listed(&run.failures()), "");
        assert!(run.ends() > 0, "no device has stayed through a restart");
    }

    /// A kill ends the visits that are under way at that instance, and no other ones.
    fn kill_one(&mut self, run: &Run) {
        self.note_share(1);
        self.instances[1].process.signal("KILL");
        self.instances[1].process.wait();
        let killed = Instant::now();
        self.go_on_without(1, run);
        for failure in run.failures() {
            let is_broken = matches!(failure.trouble, Trouble::Broken(..));
            assert!(is_broken && failure.begun <= killed, "the kill was {:?} ago; {failure}", killed.elapsed());
        }
        println!("{} connections of devices that stay have ended by the kill", run.ends());
    }

    /// An instance is frozen for longer than it has borrowed its sessions. Devices wait for it in vain until HAProxy leaves
    /// it out, and then no longer. Others may borrow its sessions, which are open at the server.
    fn freeze_one(&mut self, run: &Run) {
        self.instances[2].process.signal("STOP");
        let held = self.held_by(INSTANCES[2]);
        self.balancer.until_checked("DOWN", &[INSTANCES[2]]);
        let down = Instant::now();
        run.until_all_served("beside a frozen instance");
        let deadline = down + Duration::from_secs(120);
        while self.held_by(INSTANCES[2]) != [0, 0] {
            assert!(Instant::now() < deadline, "a frozen instance holds its sessions");
            std::thread::sleep(Duration::from_millis(100));
        }
        run.until_all_served("behind the end of borrowed sessions");
        self.instances[2].process.signal("CONT");
        self.balancer.until_checked("UP", &[INSTANCES[2]]);
        run.until_all_served("with the woken instance");
        for failure in run.failures() {
            let is_broken = matches!(failure.trouble, Trouble::Broken(..));
            assert!(is_broken && failure.begun <= down, "it was left out {:?} ago; {failure}", down.elapsed());
        }
        (0..INSTANCES.len()).for_each(|index| self.note_share(index));
        let most = self.most_sessions(run, held);
        println!("most sessions in a mailbox: {most:?}, with a frozen instance that held {held:?}");
    }

    /// The most sessions that one mailbox has had at the server, to read and to send: those of the configuration, and these
    /// more. A login whose answer from the database takes too long goes on by the instance's share.
    fn most_sessions(&self, run: &Run, more: [usize; 2]) -> [usize; 2] {
        let counts = run.exchange.simulator.counts();
        let most = [counts.most_sessions, counts.submissions.most_sessions];
        let by_share = usize::try_from(self.by_share).unwrap();
        assert!(most[0] <= 8 + more[0] + by_share, "{most:?}, {more:?}, {by_share}");
        assert!(most[1] <= 3 + more[1] + by_share, "{most:?}, {more:?}, {by_share}");
        most
    }

    /// The most sessions of one mailbox that an instance has borrowed, to read and to send.
    fn held_by(&self, name: &str) -> [usize; 2] {
        ["read", "send"].map(|kind| {
            let most = self.server.sql(
                &self.database.name,
                &format!(
                    "select coalesce(max(count), 0) from (select count(*) from packetboat.mailbox_session s \
                     join packetboat.instance i on i.id = s.instance where i.name = '{name}' \
                     and s.until > clock_timestamp() and s.kind = '{kind}' group by s.mailbox, s.instance) of_mailbox"
                ),
            );
            most.parse().unwrap()
        })
    }

    /// Adds the logins that an instance has let in without the database.
    fn note_share(&mut self, index: usize) {
        self.by_share += self.instances[index].metric("packetboat_fleet_share_logins_total", "");
    }
}

/// The configuration of an instance: three listeners behind HAProxy, and all devices.
fn configuration(run: &Run, index: usize, (states, key): (&PathBuf, &PathBuf), database: &Database) -> String {
    let (exchange, at) = (&run.exchange, run.balancer.instance(index));
    let allowed: Vec<String> = run.networks.iter().map(|network| format!("\"{}/24\"", network.host(0))).collect();
    let more = format!("proxy_protocol = [\"127.0.0.1\"]\nallowed_networks = [{}]\n", allowed.join(", "));
    let listener = |protocol: &str, port: u16| {
        translating_listener(protocol, protocol, "implicit", &more).replace("127.0.0.1:0", &format!("{at}:{port}"))
    };
    let person = exchange.identity(&format!("{BY_PERSON}\nrotation = \"strict\""));
    format!(
        "store_key = {key:?}\n[admin]\nlisten = [\"{at}:9143\"]\n[limits]\ndrain_timeout = \"5s\"\n\
         [submission]\nmessages_per_minute = 10000\nrecipients_per_hour_of_device = 1000000\n\
         [certificate.default]\nchain = {:?}\nkey = {:?}\n",
        states.join("chain.pem"),
        states.join("key.pem")
    ) + &database.section(INSTANCES[index])
        + "migrate = true\n"
        + &upstream(&exchange.simulator)
        + &exchange.identity(BY_SECRET)
        + &person.replace("[identity.office]", "[identity.person]")
        + &listener("imap", 1993)
        + &listener("pop3", 1995)
        + &listener("smtp", 1465)
        + &devices(run.count)
}

fn upstream(simulator: &Simulator) -> String {
    let [imap, pop3, smtp] = [simulator.imap(), simulator.pop3(), simulator.smtp()].map(|address| address.port());
    format!(
        "[upstream.exchange]\nhost = \"127.0.0.1\"\nimap_port = {imap}\npop3_port = {pop3}\nroots = {:?}\n\
         [upstream.exchange.smtp]\nport = {smtp}\n",
        simulator.authority()
    )
}

fn devices(count: usize) -> String {
    let hash = password::hash(PASSWORD.as_bytes()).unwrap();
    let mut accounts: BTreeMap<String, String> = BTreeMap::new();
    let mut devices = String::new();
    for number in 0..count {
        let mailbox = mailbox(number);
        let name = mailbox.split('@').next().unwrap();
        let identity = if is_of_a_person(number) {
            format!("identity = \"person\"\nuser = \"{SCAN}\"")
        } else {
            "identity = \"office\"".to_owned()
        };
        let account = format!("[account.{name}]\nmailbox = \"{mailbox}\"\nupstream = \"exchange\"\n{identity}\n");
        accounts.insert(name.to_owned(), account);
        devices += &format!("[[device]]\nlogin = \"device{number}\"\npasswords = [\"{hash}\"]\naccount = \"{name}\"\n");
    }
    accounts.into_values().collect::<String>() + &devices
}

/// Seconds for which an access token lives.
const TOKEN_LIFE: u64 = 180;
