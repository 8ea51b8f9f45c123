//! These tests prove that password guessers never cost a device its service.
//!
//! They guess its own login or made-up ones, from one address or hundreds, and also after a restart.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use support::device::{Device, tcp_from};
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, account};
use support::guessers::{Guessers, stranger};
use support::imap::{Imap, status};
use support::process::PATIENCE;
use support::proxy::{Proxy, translating_listener};

const DEVICE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// The time that a visit may take beyond one at rest.
const LATER: Duration = Duration::from_secs(1);

/// The configuration, with a listener named `clear`.
fn configuration(exchange: &Exchange, limits: &str) -> String {
    let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
    let clear = translating_listener("clear", "imap", "starttls", clear);
    format!("[limits]\nsessions_per_mailbox = 16\n{limits}\n{}{clear}", exchange.configuration(BY_SECRET))
}

fn greeted(proxy: &Proxy, from: Ipv4Addr) -> Imap {
    Imap::greeted(Device::over(tcp_from(from, proxy.address("clear"))))
}

/// The time that a device from this address takes to log in and out, beside what other programs take. Its first login must succeed.
fn visit(proxy: &Proxy, from: Ipv4Addr, password: &str) -> Duration {
    let begun = Instant::now();
    proxy.time_of(|| {
        let mut imap = greeted(proxy, from);
        let answer = status(&imap.command(&format!("LOGIN {LOGIN} {password}")));
        assert!(answer.starts_with("OK"), "{answer} after {:?}", begun.elapsed());
        imap.ok("LOGOUT");
    })
}

/// Runs one crowd at a time, because each takes all of the processor.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop(mut proxy: Proxy) {
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
}

/// The device comes from a new address, and after a restart or a new password from an address with wrong passwords,
/// too. Other devices may share that address.
#[test]
fn a_guesser_does_not_lock_its_device_out() {
    let at_rest = {
        let exchange = Exchange::new();
        visit(&exchange.proxy(&configuration(&exchange, "")), DEVICE, PASSWORD)
    };
    for connections in [4, 1] {
        let exchange = Exchange::new();
        let text = configuration(&exchange, "");
        let proxy = exchange.proxy(&text);
        let guess = |proxy: &Proxy, from: Ipv4Addr, login: &str| {
            let login = login.to_owned();
            Guessers::start(proxy.address("clear"), [from], connections, move |_| login.clone())
        };
        let mut visits = Vec::new();
        let guessers = guess(&proxy, stranger(0), LOGIN).until(3);
        visits.push(visit(&proxy, DEVICE, PASSWORD));
        drop(guessers);
        stop(proxy);
        let proxy = exchange.proxy(&text);
        let guessers = [guess(&proxy, stranger(0), LOGIN).until(3), guess(&proxy, DEVICE, "nobody").until(3)];
        visits.push(visit(&proxy, DEVICE, PASSWORD));
        let hash = packetboat::device::password::hash(b"another-one").unwrap();
        proxy.configure(&text.replace("passwords = [\"", &format!("passwords = [\"{hash}\", \"")));
        let (code, said) = proxy.reload();
        assert_eq!(code, 0, "{said}");
        visits.push(visit(&proxy, DEVICE, "\"another-one\""));
        let told = guessers.map(|one| one.told());
        assert!(
            visits.iter().all(|visit| *visit < at_rest + LATER),
            "at rest {at_rest:.1?}, then {visits:.1?}: {told:?}"
        );
    }
}

/// Guessers at many addresses, with many connections each, try logins that do not exist. The device polls so rarely
/// that its password is no longer remembered.
fn strangers_cost_a_known_device_nothing(addresses: usize, connections: usize) {
    let _alone = alone();
    let exchange = Exchange::new();
    let text = configuration(&exchange, "password_memory = \"1s\"\nconnections = 4000\nlogin_timeout = \"1h\"");
    let mut at_rest = Duration::MAX;
    for _ in 0..2 {
        let proxy = exchange.proxy(&text);
        if at_rest == Duration::MAX {
            at_rest = visit(&proxy, DEVICE, PASSWORD);
        }
        let sources = (0..addresses).map(stranger);
        let guess = |number| format!("guess{number}");
        let guessers = Guessers::start(proxy.address("clear"), sources, connections, guess).until(addresses.min(100));
        let mut visits = Vec::new();
        for _ in 0..4 {
            visits.push(visit(&proxy, DEVICE, PASSWORD));
            // The proxy forgets the device's password meanwhile.
            std::thread::sleep(Duration::from_millis(1100));
        }
        let longest = visits.iter().max().unwrap();
        assert!(*longest < at_rest + LATER, "at rest {at_rest:.1?}, then {visits:.1?}; {}", guessers.told());
        drop(guessers);
        stop(proxy);
    }
}

#[test]
fn six_addresses_that_guess_cost_a_known_device_nothing() {
    strangers_cost_a_known_device_nothing(6, 50);
}

#[test]
fn forty_addresses_that_guess_cost_a_known_device_nothing() {
    strangers_cost_a_known_device_nothing(40, 50);
}

#[test]
fn four_hundred_addresses_that_guess_cost_a_known_device_nothing() {
    strangers_cost_a_known_device_nothing(400, 5);
}

/// The list of known devices is written soon after a login, for its owner alone and without secrets. A removed device
/// leaves it. A damaged list is reported, and begun anew.
#[test]
fn known_devices_are_kept() {
    let exchange = Exchange::new();
    let text = configuration(&exchange, "") + &account("fax", SCAN, "");
    let path = exchange.state().join("known-devices");
    let proxy = exchange.proxy(&text);
    assert!(!path.exists());
    visit(&proxy, DEVICE, PASSWORD);
    visit(&proxy, stranger(0), PASSWORD);
    until(&path, &["127.0.0.1 scanner3", "127.1.0.1 scanner3"]);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    proxy.configure(&text.replace("login = \"scanner3\"", "login = \"scanner4\""));
    assert_eq!(proxy.reload().0, 0);
    until(&path, &[]);
    stop(proxy);
    std::fs::write(&path, "packetboat known devices, version 1\n127.0.0.1 scan").unwrap();
    let proxy = exchange.proxy(&text);
    proxy.logs(1, "known-devices is damaged; each device counts as unknown until it logs in again");
    visit(&proxy, DEVICE, PASSWORD);
    until(&path, &["127.0.0.1 scanner3"]);
}

/// The proxy reads a list of an earlier version. Pass-through logins leave it with their last listener, devices with
/// the last of their listeners. A device stays when its password changes.
#[test]
fn known_devices_leave_the_list_with_their_listeners() {
    let exchange = Exchange::new();
    let text = configuration(&exchange, "");
    let path = exchange.state().join("known-devices");
    std::fs::create_dir_all(exchange.state()).unwrap();
    let before = "packetboat known devices, version 1\n127.0.0.1 pass-through:fax\n127.0.0.1 scanner3\n127.0.0.1 old\n";
    std::fs::write(&path, before).unwrap();
    let proxy = exchange.proxy(&text);
    until(&path, &["127.0.0.1 scanner3"]);
    let hash = packetboat::device::password::hash(b"another-one").unwrap();
    let old = text.split("passwords = [\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    proxy.configure(&text.replace(old, &hash));
    assert_eq!(proxy.reload().0, 0);
    visit(&proxy, stranger(0), "another-one");
    until(&path, &["127.0.0.1 scanner3", "127.1.0.1 scanner3"]);
    let clear = "observe = true\nallow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]";
    proxy.configure(&translating_listener("clear", "imap", "starttls", clear));
    assert_eq!(proxy.reload().0, 0);
    until(&path, &[]);
}

/// A wrong password takes the same time for a known login as for an unknown one, whatever the hash costs.
#[test]
fn response_times_do_not_reveal_logins() {
    let exchange = Exchange::new();
    let dear = packetboat::device::password::hash(PASSWORD.as_bytes()).unwrap().replace("m=19456,t=2", "m=98304,t=3");
    let other = format!("[[device]]\nlogin = \"dear\"\npasswords = [\"{dear}\"]\naccount = \"scans\"\n");
    let proxy = exchange.proxy(&(configuration(&exchange, "") + &other));
    let mut sources = (0..).map(stranger);
    let mut take = |login: &str| {
        let mut imap = greeted(&proxy, sources.next().unwrap());
        let begun = Instant::now();
        let answer = status(&imap.command(&format!("LOGIN {login} wrong")));
        assert!(answer.starts_with("NO [AUTHENTICATIONFAILED]"), "{answer}");
        begun.elapsed()
    };
    let _alone = alone();
    // The shortest of five counts, because other work on this computer can only make one longer.
    let took = [LOGIN, "dear", "nobody"].map(|login| (0..5).map(|_| take(login)).min().unwrap());
    assert!(took.iter().all(|one| took.iter().all(|other| *one * 3 > *other)), "{took:.1?}");
}

/// Waits until the list of known devices has these sources and devices; days and marks stand between them.
fn until(path: &Path, pairs: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    let read = || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.strip_prefix("packetboat known devices, version 2\n")?;
        let words = lines.lines().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
        Some(words.map(|words| format!("{} {}", words[0], words[3])).collect::<Vec<_>>())
    };
    while read().is_none_or(|read| read != pairs) {
        assert!(Instant::now() < deadline, "{:?}", std::fs::read_to_string(path));
        std::thread::sleep(Duration::from_millis(20));
    }
}
