//! This test proves that hundreds of devices, through many disturbances, lose no mail and leave nothing behind in the
//! proxy.
//!
//! The devices use IMAP and POP3, TLS 1.0 to 1.2, polls, IDLE, 25 MiB messages, and tokens that live for a minute. Half of
//! them have a server whose connections are parked. The server and the token endpoint go away and come back, and devices
//! are rude. The log has no reader, threads are
//! refused, files hang, and the network forgets connections. Every line of the log has its cause, or is counted as
//! lost. `make soak` runs it, as root.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// Printed figures are the purpose of this test.
#![allow(clippy::print_stdout)]

mod causes;
mod device;
mod disturbances;
mod gauges;
mod ledger;
mod run;
mod system;

use std::collections::{BTreeMap, HashSet};
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use device::Device;
use disturbances::Reloaded;
use gauges::Gauges;
use run::{Cause, Latch, Run, read};
use support::certificates::Certificates;
use support::dovecot::Dovecot;
use support::issuer::{CLIENT_SECRET, Issuer};
use support::proxy::{Proxy, sum, translating_listener, upstreams};
use support::strain::{Hanging, as_another_user, directory_of, reader};
use support::translated::{DEVICE_PASSWORD, account_of, device};

#[test]
fn soak() {
    let (minutes, devices) = (setting("SOAK_MINUTES", 10), setting("SOAK_DEVICES", 500));
    let seed = setting("SOAK_SEED", 1) as u64;
    let lasting = Duration::from_secs(60 * minutes as u64);
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let issuer = Issuer::start();
    issuer.shorten(60);
    let dovecot = Dovecot::start_for_a_crowd(&issuer);
    let mailboxes: Vec<String> = (0..devices).map(|_| dovecot.user_with(&[])).collect();
    let (own, hanging, second) = (tempfile::tempdir().unwrap(), Hanging::new(), lasting_port());
    Certificates::for_name("localhost", 30).write(&hanging.behind());
    let parts = configuration(&dovecot, &issuer, &mailboxes, &Files::new(own.path(), &hanging));
    let configure = |turn: usize| of_turn(&parts, second, turn);
    let (cat, stderr, log) = reader();
    let command = as_another_user(USER, THREADS);
    let mut proxy = Proxy::start_by(command, Some(&state(own.path())), "info", &configure(0), Some((stderr, log)));
    let ways = ["imap", "imap-clear", "pop3", "pop3-clear"].map(|way| (way, proxy.address(way)));
    let run = Run::new(seed, BTreeMap::from(ways));
    let ports = [dovecot.imap, dovecot.imaps, dovecot.pop3, dovecot.pop3s];
    let (dovecot, calm, reloads) = (RwLock::new(dovecot), Latch::default(), AtomicUsize::new(0));
    let reloaded = Reloaded { configuration: configure, certificate: hanging.behind(), second };
    println!("{devices} devices for {minutes} minutes, seed {seed}");
    let mut gauges = Gauges::of(&proxy, || issuer.counts().0 >= devices as u64);

    std::thread::scope(|scope| {
        let devices: Vec<_> = (0..devices)
            .map(|number| {
                let run = &run;
                let live = move || Device::new(run, number).live();
                std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, live).unwrap()
            })
            .collect();
        let beside = [
            scope.spawn(|| disturbances::feed(&run, &calm, &dovecot, &mailboxes)),
            scope.spawn(|| disturbances::restarts(&run, &calm, &dovecot)),
            scope.spawn(|| disturbances::outages(&run, &calm, &issuer)),
            scope.spawn(|| disturbances::reloads(&run, &calm, &proxy, &reloaded, &reloads)),
            scope.spawn(|| system::stops_the_log(&run, &calm, &proxy, &cat)),
            scope.spawn(|| system::refuses_threads(&run, &calm, &proxy)),
            scope.spawn(|| system::hangs(&run, &calm, &hanging)),
            scope.spawn(|| system::forgets(&run, &calm, &proxy, &ports)),
        ];
        // A failure must not leave the other threads waiting for ever.
        let watched = catch_unwind(AssertUnwindSafe(|| {
            gauges.watch(&proxy, &run, lasting - lasting / 8);
            calm.set();
            beside.into_iter().for_each(|one| one.join().unwrap());
            gauges.watch(&proxy, &run, lasting / 8);
        }));
        calm.set();
        run.over.set();
        let joined: Vec<_> = devices.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        watched.unwrap_or_else(|panic| resume_unwind(panic));
        joined.into_iter().for_each(Result::unwrap);
    });

    gauges.until_quiet(&proxy);
    let metrics = proxy.metrics();
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    let log = proxy.log.to_the_end();
    // The proxy is dropped before any failure, because its drop would print the whole log once more.
    drop(proxy);
    tell(&run, &issuer, read(&reloads), &metrics, log.len());

    let mut faults = causes::unexplained(&run, &log, devices);
    faults.extend(causes::unaccounted(&log, &metrics));
    faults.extend(run.unexplained());
    let dovecot = dovecot.into_inner().unwrap();
    faults.extend(parked(&run, &dovecot, &mailboxes, &metrics));
    let names = mailboxes.iter().flat_map(|mailbox| dovecot.names_of(mailbox));
    let left: Vec<u64> = names.map(|name| number_in(&name)).collect();
    println!("{} messages are left in the mailboxes", left.len());
    faults.extend(run.ledger.settle(&left));
    faults.extend(gauges.faults());
    let sums = run.ledger.sums();
    if sums.had != sums.delivered {
        faults.push(format!("{} messages were delivered, and {} fetched", sums.delivered, sums.had));
    }
    for (what, count) in [
        ("messages", sums.had),
        ("server restarts", run.disturbances.count(Cause::Server)),
        ("tokens refused in outages", issuer.counts().1 as usize),
        ("reloads", read(&reloads)),
        ("lines of the log lost", sum(&metrics, "packetboat_log_lines_lost_total", "") as usize),
        ("times without new threads", run.disturbances.count(Cause::Threads)),
        ("times that files hang", run.disturbances.count(Cause::Files)),
        ("flows forgotten", read(&run.tally.forgotten)),
        ("devices that vanish", read(&run.tally.vanished)),
        ("times told in IDLE", read(&run.tally.told)),
        ("messages of 25 MiB", sums.large),
        ("resumed sessions", read(&run.tally.resumed)),
        ("wrong passwords", read(&run.tally.wrong_passwords)),
        ("logins that took a parked connection", sum(&metrics, "packetboat_parked_taken_total", "") as usize),
    ] {
        if count == 0 {
            faults.push(format!("no {what}: this run shows nothing"));
        }
    }
    if !faults.is_empty() {
        // The server itself may have caused it.
        let log = dovecot.log();
        let told = |line: &&str| ["Error", "Fatal", "Panic", "Warning"].iter().any(|word| line.contains(word));
        log.lines().filter(told).take(100).for_each(|line| println!("the server: {line}"));
    }
    let shown = faults.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} faults:\n{shown}", faults.len());
}

/// The files that the configuration names.
struct Files {
    /// The directory of the devices' certificate and its key.
    certificate: PathBuf,
    /// The secret of most applications, and the one of those whose file hangs now and then.
    secrets: [PathBuf; 2],
}

impl Files {
    fn new(own: &Path, hanging: &Hanging) -> Self {
        directory_of(USER, &state(own));
        let secret = own.join("secret");
        std::fs::write(&secret, CLIENT_SECRET).unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let hung = hanging.file("secret", CLIENT_SECRET);
        for file in [&secret, &hung] {
            chown(file, Some(USER), Some(USER)).unwrap();
        }
        Self { certificate: hanging.mounted(), secrets: [secret, hung] }
    }
}

fn state(own: &Path) -> PathBuf {
    own.join("state")
}

/// Parts of the configuration: mail servers, listeners and certificate; accounts, identities and devices.
struct Parts {
    frame: String,
    devices: String,
}

fn configuration(dovecot: &Dovecot, issuer: &Issuer, mailboxes: &[String], files: &Files) -> Parts {
    let mut frame = LOG.to_owned() + &upstreams(dovecot);
    frame = frame.replacen("[upstream.implicit]\n", "[upstream.implicit]\nwarm_connections = 2\npark = \"20s\"\n", 1);
    let [chain, key] = ["server.pem", "server.key"].map(|name| files.certificate.join(name));
    frame += &format!("[certificate.own]\nchain = {chain:?}\nkey = {key:?}\n");
    for (name, protocol, entry) in [
        ("imap", "imap", "implicit"),
        ("imap-clear", "imap", "starttls"),
        ("pop3", "pop3", "implicit"),
        ("pop3-clear", "pop3", "starttls"),
    ] {
        frame += &translating_listener(name, protocol, entry, "certificate = \"own\"");
    }
    let mut devices = String::new();
    for (number, mailbox) in mailboxes.iter().enumerate() {
        let (name, upstream) = (format!("device{number}"), if number % 2 == 0 { "implicit" } else { "starttls" });
        let secret = &files.secrets[usize::from(Device::has_a_file_that_hangs(number))];
        devices += &account_of(&name, mailbox, upstream, &name);
        devices += &issuer.identity_by(&name, mailbox, &format!("client_secret_file = {secret:?}"));
        devices += &device(&name, &name, DEVICE_PASSWORD, "");
    }
    Parts { frame, devices }
}

/// The configuration of this reload; a limit, a listener and a device's description change each time.
fn of_turn(Parts { frame, devices }: &Parts, second: SocketAddr, turn: usize) -> String {
    let mut text = format!(
        "{frame}[limits]\nkeep_alive = \"10s\"\nidle_timeout = \"{}m\"\nconnections = {}\n",
        35 + turn % 50,
        2000 + turn
    );
    if turn % 2 == 1 {
        text += &format!("[[listener]]\nname = \"second\"\nprotocol = \"imap\"\nlisten = [\"{second}\"]\n");
    }
    text + devices + &format!("description = \"as it is since reload {turn}\"\n")
}

fn tell(run: &Run, issuer: &Issuer, reloads: usize, metrics: &str, log: usize) {
    let (tally, sums) = (&run.tally, run.ledger.sums());
    let (tokens, refused) = issuer.counts();
    let versions = tally.versions.each_ref().map(read);
    println!(
        "{} visits, {} logins, {} resumed handshakes (TLS 1.0, 1.1, 1.2: {versions:?}); {} rude visits with {} wrong \
         passwords; {} visits that a disturbance spoilt",
        read(&tally.visits),
        read(&tally.logins),
        read(&tally.resumed),
        read(&tally.rude),
        read(&tally.wrong_passwords),
        read(&tally.disturbed)
    );
    println!(
        "{} messages with {} MiB delivered, {} fetched, {} deletions confirmed, {} fetched again after a broken session; {} \
         fetches with {} MiB, {} of 25 MiB; {} times in IDLE, told of mail {} times, and half of that had within {:.1} s",
        sums.delivered,
        sums.octets >> 20,
        sums.had,
        sums.confirmed,
        sums.again,
        read(&tally.fetches),
        read(&tally.octets) >> 20,
        read(&tally.large),
        read(&tally.idles),
        read(&tally.told),
        tally.median_wait().as_secs_f64()
    );
    println!(
        "{} server restarts, {} token outages, {reloads} reloads, {} new certificates; {tokens} tokens given, {refused} \
         requests for one turned away; {log} octets of log",
        run.disturbances.count(Cause::Server),
        run.disturbances.count(Cause::Tokens),
        run.disturbances.count(Cause::Certificate)
    );
    println!(
        "{} lines of the log lost, {} times without new threads, {} times that files hung, {} flows forgotten and {} visits \
         spoilt by that, {} devices vanished",
        sum(metrics, "packetboat_log_lines_lost_total", ""),
        run.disturbances.count(Cause::Threads),
        run.disturbances.count(Cause::Files),
        read(&tally.forgotten),
        read(&tally.spoilt),
        read(&tally.vanished)
    );
    println!(
        "metrics: {} connections accepted, {} over, {} logins",
        sum(metrics, "packetboat_connections_accepted_total", ""),
        sum(metrics, "packetboat_sessions_total", ""),
        sum(metrics, "packetboat_logins_total", "")
    );
}

/// Compares the logins at the server with those of the devices that poll, and prints the numbers of parked connections.
/// Returns the faults.
fn parked(run: &Run, dovecot: &Dovecot, mailboxes: &[String], metrics: &str) -> Vec<String> {
    let log = dovecot.log();
    let polling: HashSet<&str> =
        (0..mailboxes.len()).filter(|number| Device::polls(*number)).map(|number| mailboxes[number].as_str()).collect();
    let is_of_poll = |line: &&str| {
        let user = line.split("Login: user=<").nth(1).and_then(|rest| rest.split('>').next());
        line.contains("imap-login") && user.is_some_and(|user| polling.contains(user))
    };
    let (at_server, polls) = (log.lines().filter(is_of_poll).count(), read(&run.tally.polls));
    let of = |name: &str| sum(metrics, &format!("packetboat_parked_{name}"), "");
    let (kept, taken, lost, stale) = (of("total"), of("taken_total"), of("lost_total"), of("stale_total"));
    println!(
        "{} devices poll: {polls} logins, and {at_server} at the server; {kept} connections parked, {taken} taken, {lost} lost, \
         {} ended, {stale} stale",
        polling.len(),
        of("ended_total")
    );
    let mut faults = Vec::new();
    // Reloads, restarts and ends of tokens end parked connections all the time.
    if at_server == 0 || at_server * 4 > polls * 3 {
        faults.push(format!("{polls} logins of devices that poll are {at_server} at the server"));
    }
    if stale > 0 {
        faults.push(format!("{stale} parked connections are said to be stale"));
    }
    if kept < taken + lost {
        faults.push(format!("{kept} connections were parked, {taken} taken, {lost} lost"));
    }
    faults
}

fn number_in(name: &str) -> u64 {
    name.strip_prefix("1.M")
        .and_then(|name| name.strip_suffix("P1.soak"))
        .unwrap_or_default()
        .parse()
        .unwrap_or_default()
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} = {value:?}")))
}

/// An address whose port stays free while no listener uses it.
fn lasting_port() -> SocketAddr {
    let first = 30_100 + u16::try_from(std::process::id() % 2000).unwrap();
    let port = (first..32_700).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The section of the log, which writes every line while its reader reads. It is not the last section, to which the
/// tests add keys.
const LOG: &str =
    "lines_per_minute = 1000000\nlines_per_minute_of_source = 1000000\n[admin]\nlisten = [\"127.0.0.1:0\"]\n";
/// The proxy's user, and the threads that it may have.
const USER: u32 = 54_322;
const THREADS: usize = 500;
/// The stack of a device's thread, large enough for OpenSSL; there are many of them.
const STACK: usize = 512 << 10;
