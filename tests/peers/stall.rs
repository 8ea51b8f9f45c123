//! These tests prove that nothing outside stalls the process: a stopped log reader, missing threads, or a hanging file
//! system.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use support::device::Device;
use support::exchange::*;
use support::imap::Imap;
use support::process::Process;
use support::proxy::{Proxy, translating_listener};
use support::strain::{Hanging, as_another_user, directory_of, reader, until};

fn health(proxy: &Proxy) -> (i32, String) {
    ask(proxy, &["health"])
}

fn ready(proxy: &Proxy) -> (i32, String) {
    ask(proxy, &["health", "--ready"])
}

fn ask(proxy: &Proxy, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let output = command.args(arguments).arg("--config").arg(proxy.configuration()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// Whether this metric has another value than 0.
fn counts(proxy: &Proxy, name: &str) -> bool {
    let metrics = proxy.get("/metrics");
    metrics.lines().any(|line| line.strip_prefix(name).is_some_and(|count| count.trim() != "0"))
}

/// Fills the pipe to the log's reader, and the queue behind it.
fn talk_until_lines_are_lost(proxy: &Proxy) {
    until("lost lines", || {
        for _ in 0..500 {
            let mut stream = TcpStream::connect(proxy.address("imap")).unwrap();
            // The octets are neither TLS nor IMAP, and cause a log line.
            let _ = stream.write_all(&[0; 16]);
            let _ = stream.read(&mut [0; 64]);
        }
        counts(proxy, "packetboat_log_lines_lost_total ")
    });
}

#[test]
fn a_reader_of_the_log_that_stops_costs_lines_alone() {
    let exchange = Exchange::new();
    let (cat, stderr, log) = reader();
    // The text is appended to the section of the log, with which the file begins.
    let text = "lines_per_minute = 1000000\nlines_per_minute_of_source = 1000000\n[admin]\nlisten = [\"127.0.0.1:0\"]\n"
        .to_owned() + &exchange.configuration(BY_SECRET);
    let command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let mut proxy = Proxy::start_by(command, Some(&exchange.state()), "debug", &text, Some((stderr, log)));
    // The admin address is read while its line can still be read.
    proxy.admin();
    cat.signal("STOP");
    talk_until_lines_are_lost(&proxy);
    assert!(imap_login(&proxy).starts_with("OK"));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    assert_eq!(health(&proxy), (0, "alive\n".to_owned()));
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    cat.signal("CONT");
    let told = proxy.log.wait_for("line of what is lost", |line| line.contains("log lines are lost"));
    assert!(told.contains("\"left_out\":"), "{told}");
    cat.signal("STOP");
    talk_until_lines_are_lost(&proxy);
    let begun = Instant::now();
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// A user whose threads are counted for this test alone, and the number of threads that the proxy may see there.
const USER: u32 = 54_321;
const THREADS: usize = 60;

#[test]
fn threads_that_cannot_be_made_cost_no_login() {
    let exchange = Exchange::new();
    let text = "[limits]\npassword_memory = \"1s\"\n".to_owned() + &exchange.configuration(BY_SECRET);
    directory_of(USER, &exchange.state());
    std::os::unix::fs::chown(exchange.file("SECRET", SECRET), Some(USER), Some(USER)).unwrap();
    let proxy = Proxy::start_by(as_another_user(USER, THREADS), Some(&exchange.state()), "debug", &text, None);
    // The other processes use up the user's threads, because the limit binds only the proxy.
    let others: Vec<Process> =
        (0..THREADS).map(|_| Process::start(Command::new("sleep").arg("600").uid(USER).gid(USER))).collect();
    let begun = Instant::now();
    let mut attempts = 0;
    while attempts < 8 || begun.elapsed() < Duration::from_secs(3) {
        assert!(imap_login(&proxy).starts_with("OK"), "attempt {attempts}");
        assert_eq!(health(&proxy).0, 0);
        attempts += 1;
    }
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    drop(others);
    assert!(imap_login(&proxy).starts_with("OK"));
    assert_eq!(proxy.log.count(|line| line.contains("internal error") || line.contains("panicked")), 0);
}

/// A configuration of two devices: one device's secret hangs, and tokens live for seconds.
fn one_that_hangs(exchange: &Exchange, hanging: &Hanging) -> String {
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 12);
    let secret = hanging.file("SECRET", SECRET);
    let far = exchange.identity(&format!("client_secret_file = {secret:?}")).replace("identity.office", "identity.far");
    exchange.configured(BY_SECRET, &account("scans", SCAN, "identity = \"office\""))
        + &far
        + &account("far", SCAN, "identity = \"far\"")
        + "[limits]\npassword_memory = \"1h\"\n"
}

fn login_of(proxy: &Proxy, login: &str) -> String {
    support::imap::status(&imap(proxy).command(&format!("LOGIN {login} {PASSWORD}")))
}

#[test]
fn a_file_system_that_hangs_delays_nobody_else() {
    let (exchange, hanging) = (Exchange::new(), Hanging::new());
    let proxy = exchange.proxy(&one_that_hangs(&exchange, &hanging));
    for login in [LOGIN, "far"] {
        assert!(login_of(&proxy, login).starts_with("OK"), "{login}");
    }
    hanging.hang();
    // Once its old token has expired, the device gets a temporary refusal before its own patience ends.
    until("refusal", || !login_of(&proxy, "far").starts_with("OK"));
    let begun = Instant::now();
    let answer = login_of(&proxy, "far");
    assert!(answer.starts_with("NO [UNAVAILABLE]"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    proxy.log.wait_for("reason", |line| line.contains("cannot read") && line.contains("SECRET"));
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| login_of(&proxy, "far"))).collect();
        let longest = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert_eq!(login_of(&proxy, LOGIN).get(..2), Some("OK"));
                assert_eq!(health(&proxy).0, 0);
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        for device in waiting {
            assert!(device.join().unwrap().starts_with("NO [UNAVAILABLE]"));
        }
        stopped.store(true, Ordering::Relaxed);
        let longest = longest.join().unwrap();
        assert!(longest < Duration::from_secs(5), "{longest:?}");
    });
    hanging.go_on();
    until("login", || login_of(&proxy, "far").starts_with("OK"));
}

#[test]
fn a_reload_that_hangs_stops_neither_health_nor_the_end() {
    let (exchange, hanging) = (Exchange::new(), Hanging::new());
    let mut proxy = exchange.proxy(&one_that_hangs(&exchange, &hanging));
    proxy.admin();
    hanging.hang();
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| proxy.reload());
        proxy.log.wait_for("reload", |line| line.contains("SIGHUP: reading"));
        let mut longest = Duration::ZERO;
        while !reload.is_finished() {
            let begun = Instant::now();
            assert_eq!(health(&proxy), (0, "alive\n".to_owned()));
            assert_eq!(login_of(&proxy, LOGIN).get(..2), Some("OK"));
            longest = longest.max(begun.elapsed());
        }
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        let (code, said) = reload.join().unwrap();
        assert!(code == 69 && said.contains("does a network file system hang?"), "{code} {said}");
    });
    proxy.process.signal("HUP");
    proxy.logs(2, "SIGHUP: reading");
    let begun = Instant::now();
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Twenty RSA keys take seconds to make; the main loop goes on meanwhile, and pauses only to swap them in.
#[test]
fn a_reload_that_makes_keys_pauses_nothing() {
    let exchange = Exchange::new();
    let text = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&text);
    let certificates: String = (0..20).map(|number| format!("[certificate.c{number}]\n")).collect();
    proxy.configure(&(text + &certificates));
    proxy.admin();
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| {
            let begun = Instant::now();
            (proxy.reload(), begun.elapsed())
        });
        let mut pauses = Vec::new();
        while !reload.is_finished() {
            let begun = Instant::now();
            assert_eq!(proxy.get("/live"), "alive\n");
            pauses.push(begun.elapsed());
        }
        let ((code, said), lasted) = reload.join().unwrap();
        assert_eq!(code, 0, "{said}");
        let longest = pauses.iter().max().unwrap();
        println!("reload {lasted:?}, longest answer of /live {longest:?} of {}", pauses.len());
        assert!(*longest * 4 < lasted && *longest < Duration::from_secs(1), "{longest:?} of {lasted:?}");
    });
}

/// A reload without a waiting command opens its new listeners when its files answer, and the next reload works as well.
#[test]
fn a_reload_behind_one_that_hung_is_taken() {
    let (exchange, hanging) = (Exchange::new(), Hanging::new());
    // Only the reload reads that file, because tokens live for an hour.
    let identity = exchange.identity(&format!("client_secret_file = {:?}", hanging.file("SECRET", SECRET)));
    let text = exchange.frame() + &identity + &account("scans", SCAN, "");
    let proxy = exchange.proxy(&text);
    assert!(imap_login(&proxy).starts_with("OK"));
    let addresses: Vec<String> = (1..=50).map(|host| format!("127.88.0.{host}:19993")).collect();
    let listener = |address: &String| {
        let name = address.replace(['.', ':'], "-");
        format!("[[listener]]\nname = \"{name}\"\nprotocol = \"imap\"\nlisten = [\"{address}\"]\n")
    };
    hanging.hang();
    proxy.configure(&addresses.iter().map(listener).fold(text, |text, listener| text + &listener));
    let (code, said) = proxy.reload();
    assert!(code == 69 && said.contains("does a network file system hang?"), "{code} {said}");
    std::thread::scope(|scope| {
        let (hung, begun) = (hanging.requests(), Instant::now());
        let next = scope.spawn(|| proxy.reload());
        proxy.logs(2, "SIGHUP: reading");
        // A second reload that read files as well would show at the same moment.
        while begun.elapsed() < Duration::from_secs(2) {
            assert_eq!(hanging.requests(), hung, "the second reload does not wait for the first");
            std::thread::sleep(Duration::from_millis(5));
        }
        hanging.go_on();
        let (code, said) = next.join().unwrap();
        assert_eq!(code, 0, "{said}");
    });
    addresses.iter().for_each(|address| drop(TcpStream::connect(address).unwrap()));
}

/// Gives this thread and its children a name server that receives questions and never answers.
fn silent_name_server() -> UdpSocket {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: run this as root");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let server = UdpSocket::bind("127.0.0.153:53").unwrap();
    fs::write(&file, "nameserver 127.0.0.153\noptions timeout:30 attempts:1\n").unwrap();
    let real = fs::canonicalize("/etc/resolv.conf").unwrap_or_else(|_| Path::new("/etc/resolv.conf").to_path_buf());
    let command = format!("mount --make-rprivate / && mount --bind {file:?} {real:?}");
    assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    server
}

#[test]
fn a_resolver_that_does_not_answer_delays_nobody_else() {
    let _server = silent_name_server();
    let exchange = Exchange::new();
    // The healthy server has a name as well, which /etc/hosts knows.
    let text = "[limits]\nconnect_timeout = \"2s\"\n[upstream.far]\nhost = \"mail.hangs.example\"\n".to_owned()
        + &exchange.configuration(BY_SECRET).replacen("host = \"127.0.0.1\"", "host = \"localhost\"", 1)
        + &account("far", SCAN, "").replace("upstream = \"exchange\"", "upstream = \"far\"");
    let proxy = exchange.proxy(&text);
    // The lookups outnumber the threads for names, and go on for longer than a name is remembered.
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let devices: Vec<_> = (0..40)
            .map(|_| {
                scope.spawn(|| {
                    while begun.elapsed() < Duration::from_secs(15) {
                        let answer = login_of(&proxy, "far");
                        assert!(answer.starts_with("NO [UNAVAILABLE]"), "{answer}");
                    }
                })
            })
            .collect();
        while !devices.iter().all(|device| device.is_finished()) {
            let visit = Instant::now();
            assert_eq!(login_of(&proxy, LOGIN).get(..2), Some("OK"));
            assert_eq!(health(&proxy).0, 0);
            assert!(visit.elapsed() < Duration::from_secs(5), "{:?}", visit.elapsed());
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
    });
    proxy.log.wait_for("reason", |line| line.contains("the system's resolver does not answer"));
    assert!(proxy.process.figure("Threads:") < 30);
}

/// Sign-ins that hang with the state directory do not affect an account whose secret is elsewhere.
#[test]
fn a_state_directory_that_hangs_costs_no_login_of_an_application() {
    let (exchange, hanging) = (Exchange::new(), Hanging::new());
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 12);
    let people: String = (0..6)
        .map(|number| {
            let identity = exchange.identity("grant = \"device-code\"");
            identity.replace("identity.office", &format!("identity.person{number}"))
                + &account(&format!("person{number}"), SCAN, &format!("identity = \"person{number}\""))
        })
        .collect();
    let text = exchange.configured(BY_SECRET, &account("scans", SCAN, "identity = \"office\"")) + &people;
    let state = hanging.mounted().join("state");
    let proxy = Proxy::start_with(Some(&state), "debug", &text);
    proxy.admin();
    assert_eq!(login_of(&proxy, LOGIN).get(..2), Some("OK"));
    hanging.hang();
    // The wait is longer than a look at each of them, and than tokens live.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(40) {
        let visit = Instant::now();
        assert_eq!(login_of(&proxy, LOGIN).get(..2), Some("OK"));
        assert!(visit.elapsed() < Duration::from_secs(5), "{:?}", visit.elapsed());
    }
    assert!(proxy.process.figure("Threads:") < 30);
}

/// All places for known devices are taken; health reports it, and reports its end. Strangers take none of these places.
#[test]
fn health_fails_while_no_login_is_taken() {
    let exchange = Exchange::new();
    let devices: String = (0..250).map(|number| account(&format!("mfp{number}"), SCAN, "")).collect();
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
    let text = "[limits]\nconnections_per_source = 900\nlongest_failure_delay = \"5s\"\n".to_owned()
        + &exchange.configuration(BY_SECRET)
        + &translating_listener("clear", "imap", "starttls", clear)
        + &devices;
    // The devices have logged in from here before.
    let known: String = (0..250).map(|number| format!("127.0.0.1 mfp{number}\n")).collect();
    fs::create_dir(exchange.state()).unwrap();
    exchange.file("state/known-devices", "packetboat known devices, version 1\n".to_owned() + &known);
    let proxy = exchange.proxy(&text);
    assert_eq!(ready(&proxy), (0, "ready\n".to_owned()));
    let guess = |logins: Vec<String>| {
        let mut devices: Vec<_> = logins.iter().map(|_| Imap::greeted(Device::plain(proxy.address("clear")))).collect();
        devices.iter_mut().zip(&logins).for_each(|(device, login)| device.say(&format!("LOGIN {login} guess")));
        devices
    };
    let strangers = guess(vec![LOGIN.to_owned(); 300]);
    for _ in 0..10 {
        assert_eq!(ready(&proxy), (0, "ready\n".to_owned()));
    }
    // Two connections of each device come at a time.
    let known = guess((0..500).map(|number| format!("mfp{}", number % 250)).collect());
    until("health that fails", || {
        let (code, said) = ready(&proxy);
        code == 69 && said.contains("too many passwords are being verified")
    });
    drop((strangers, known));
    until("health that is well", || ready(&proxy).0 == 0);
    until("login", || login_of(&proxy, LOGIN).starts_with("OK"));
}
