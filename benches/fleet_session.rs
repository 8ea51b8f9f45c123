//! This bench compares an instance of a fleet with one that is alone: the instructions of a session, by callgrind, and the
//! memory of connected devices.
//!
//! `make bench-fleet-session` runs it, with a real PostgreSQL. It fails where a session of the fleet takes over 2 % more. Work that
//! an instance does by the clock, whatever devices do, is measured apart, over the same time without a session.
//! `PROGRAM=PATH` measures another packetboat than the one that cargo has just built.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ::packetboat::state::{self, Access};
use openssl::ssl::{SslSession, SslVersion};
use support::bench::callgrind::Callgrind;
use support::bench::device::{self, Kind};
use support::bench::submitter::{self, SENDER, Submitter};
use support::bench::upstream::{SUBMISSION, Upstream};
use support::bench::{self, packetboat};
use support::certificates::Certificates;
use support::imap::Imap;
use support::postgresql::{Database, Postgresql};
use support::process::Process;
use support::proxy::{translating_listener, upstream};
use support::translated::{self, DEVICE_PASSWORD, account_of};
use support::{free_ports, server};
use tempfile::TempDir;

/// The most that a session of a fleet may cost, beside one without.
const MOST: f64 = 1.02;
const SESSIONS: usize = 60;
/// The numbers of devices whose memory is measured.
const DEVICES: [usize; 2] = [100, 1000];
/// The time in which a program finishes with the connections just opened.
const SETTLING: Duration = Duration::from_secs(2);

/// The servers behind packetboat.
struct Setting {
    directory: TempDir,
    upstream: Upstream,
    endpoint: u16,
    server: Postgresql,
    database: Database,
}

/// An instance, with its listeners of IMAP and SMTP, which translate logins.
struct Instance {
    process: Process,
    reading: SocketAddr,
    sending: SocketAddr,
}

/// Millions of instructions.
struct Cost {
    session: f64,
    /// The work by the clock, in a second.
    second: f64,
    /// The queries of all measured sessions for a session of the mailbox.
    queries: u64,
}

fn main() {
    bench::main(|words| {
        let setting = Setting::start();
        if words.is_empty() || words.contains(&"instructions") {
            compare_sessions(&setting);
        }
        if words.is_empty() || words.contains(&"memory") {
            compare_memory(&setting);
        }
    });
}

fn compare_sessions(setting: &Setting) {
    let [alone, fleet] = ["alone", "fleet"].map(|name| {
        let directory = setting.make_directory(name);
        let instance = setting.instance(Callgrind::command(&program(), &directory), name, 1);
        let callgrind = Callgrind::of(instance.process.0.id(), &directory);
        let costs = [("session that reads", true), ("session that sends 1 KiB", false)].map(|(what, reads)| {
            let cost = Cost::of(setting, &callgrind, &instance, reads);
            println!(
                "{name}: {what} {:.3} million instructions; by the clock {:.3} million in a second; {} queries for sessions",
                cost.session, cost.second, cost.queries
            );
            cost
        });
        costs.map(|cost| cost.session)
    });
    for (alone, fleet) in alone.into_iter().zip(fleet) {
        println!("a session of a fleet beside one without: {:.4}", fleet / alone);
        assert!(fleet <= alone * MOST, "{fleet:.3} and {alone:.3} million instructions");
    }
}

fn compare_memory(setting: &Setting) {
    for name in ["alone-memory", "fleet-memory"] {
        setting.make_directory(name);
        let most = DEVICES[1];
        let instance = setting.instance(Command::new(program()), name, most);
        std::thread::sleep(SETTLING);
        println!("{name}: {} KiB with {most} mailboxes and no device", instance.process.figure("VmRSS:"));
        let (kind, mut devices) = (Kind::old(device::SUITE), Vec::new());
        for count in DEVICES {
            while devices.len() < count {
                let mut device = kind.connect(instance.reading, None);
                device.login(&login(devices.len()), DEVICE_PASSWORD);
                device.ok("SELECT INBOX");
                device.idle();
                devices.push(device);
            }
            std::thread::sleep(SETTLING);
            let (memory, files) = (instance.process.figure("VmRSS:"), instance.process.open_files());
            println!("{name}: {memory} KiB and {files} files with {count} connected devices");
        }
    }
}

fn program() -> PathBuf {
    std::env::var_os("PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_packetboat").into(), PathBuf::from)
}

fn login(number: usize) -> String {
    if number == 0 { SENDER.to_owned() } else { format!("device{number}") }
}

impl Cost {
    /// The cost of a session whose device resumes its TLS session.
    fn of(setting: &Setting, callgrind: &Callgrind, instance: &Instance, reads: bool) -> Self {
        let (kind, content) = (Kind::old(device::SUITE), submitter::content(1024));
        let read = |resumed: Option<&SslSession>| -> Imap {
            let mut device = kind.connect(instance.reading, resumed);
            device.login(SENDER, DEVICE_PASSWORD);
            device.ok("SELECT INBOX");
            device.fetch_size(1);
            device
        };
        let send = |resumed: Option<&SslSession>| -> Submitter {
            let mut device = kind.connect_submitter(instance.sending, resumed);
            device.login(SENDER, DEVICE_PASSWORD);
            device.submit(&content);
            device
        };
        // A login comes first, because the sessions of known devices are in a cache of their own. Then two at a time: in a
        // fleet the second session is borrowed as well, for a device that comes early.
        let resumed = if reads {
            read(None).log_out();
            let devices = [read(None), read(None)];
            let session = device::session(&devices[0].device);
            devices.into_iter().for_each(Imap::log_out);
            session
        } else {
            send(None).quit();
            let devices = [send(None), send(None)];
            let session = device::session(devices[0].device());
            devices.into_iter().for_each(Submitter::quit);
            session
        };
        let session = || if reads { read(Some(&resumed)).log_out() } else { send(Some(&resumed)).quit() };
        // The first sessions allocate tables and fetch tickets.
        (0..5).for_each(|_| session());
        setting.server.count_statements();
        callgrind.zero();
        let begun = Instant::now();
        (0..SESSIONS).for_each(|_| session());
        let time = begun.elapsed();
        let (_, all) = callgrind.dump();
        let queries = setting.queries();
        callgrind.zero();
        std::thread::sleep(time);
        let (_, by_the_clock) = callgrind.dump();
        let millions = |instructions: u64| instructions as f64 / 1e6;
        Self {
            session: (millions(all) - millions(by_the_clock)) / SESSIONS as f64,
            second: millions(by_the_clock) / time.as_secs_f64(),
            queries,
        }
    }
}

impl Setting {
    fn start() -> Self {
        let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
        let upstream = Upstream::start(directory.path());
        let endpoint = server::tls(&certificates, SslVersion::TLS1_3, |stream| {
            server::hand_out(stream, &"t".repeat(1500));
        });
        let path = directory.path();
        state::write(&path.join("client-secret"), b"anything", Access::Private).unwrap();
        state::write(&path.join("store.key"), &[7; 32], Access::Private).unwrap();
        let server = Postgresql::start();
        let database = server.database();
        Self { directory, upstream, endpoint, server, database }
    }

    /// The statements that borrow a session, or take a part of the pace.
    fn queries(&self) -> u64 {
        let of_a_login = ["with free as (select number", "insert into packetboat.mailbox"];
        let statements = self.server.statements(&self.database.name).into_iter();
        let borrows = statements.filter(|one| of_a_login.iter().any(|beginning| one.text.starts_with(beginning)));
        borrows.map(|one| one.calls).sum()
    }

    fn make_directory(&self, name: &str) -> PathBuf {
        let directory = self.directory.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    /// Starts packetboat by this command: in a fleet where its name says so, and with so many mailboxes.
    fn instance(&self, command: Command, name: &str, mailboxes: usize) -> Instance {
        let path = self.directory.path();
        let ports = free_ports();
        let (imap, smtp) = (self.upstream.ports[0], self.upstream.ports[SUBMISSION[0]]);
        let (roots, secret, key) = (path.join("ca.pem"), path.join("client-secret"), path.join("store.key"));
        let limits = ["handshake_timeout", "login_timeout", "upstream_handshake_timeout"];
        let mut text = format!("store_key = {key:?}\n")
            + &packetboat::beginning(path, &format!("state-{name}"))
            + &format!("[limits]\n{}", limits.map(|limit| format!("{limit} = \"5m\"\n")).concat())
            + "connections_per_source = 2000\n"
            + "[submission]\nmessages_per_minute = 10000\nrecipients_per_hour_of_device = 1000000\n"
            + &upstream("u", [imap; 2], path, "")
            + &format!(
                "[upstream.u.smtp]\nport = {smtp}\nsecurity = \"implicit\"\n\
                 [identity.i]\ntenant = \"contoso.example\"\nclient_id = \"1\"\nclient_secret_file = {secret:?}\n\
                 token_endpoint = \"https://localhost:{}/token\"\nroots = {roots:?}\n",
                self.endpoint
            )
            + &packetboat::at(ports[0], &translating_listener("imap", "imap", "implicit", ""))
            + &packetboat::at(ports[1], &translating_listener("smtp", "smtp", "implicit", ""));
        for number in 0..mailboxes {
            let account = format!("a{number}");
            text += &account_of(&account, &format!("scans{number}@contoso.example"), "u", "i");
            text += &translated::device(&login(number), &account, DEVICE_PASSWORD, "");
        }
        if name.starts_with("fleet") {
            text += &(self.database.section(name) + "migrate = true\n");
        }
        let (process, [reading, sending]) = packetboat::start(command, path, name, &text, ports);
        Instance { process, reading, sending }
    }
}
