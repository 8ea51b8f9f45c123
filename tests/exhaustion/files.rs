//! These tests prove that a shortage of open files delays only the work that needs one, and that this work succeeds
//! later.

use std::fs;
use std::process::Command;
use std::time::Instant;

use support::exchange::{self, BY_PERSON, BY_SECRET, Exchange, LOGIN, PASSWORD};
use support::harness::Harness;
use support::imap::status;
use support::proxy::Proxy;

/// Leaves the proxy this many open files more than it has, until the guard is dropped.
struct Drought<'a>(&'a Proxy);

impl<'a> Drought<'a> {
    fn of(proxy: &'a Proxy) -> Self {
        Self::with(proxy, 0)
    }

    fn with(proxy: &'a Proxy, files: usize) -> Self {
        let id = proxy.process.0.id();
        let numbers = fs::read_dir(format!("/proc/{id}/fd")).unwrap().map(|entry| entry.unwrap().file_name());
        let numbers: Vec<usize> = numbers.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
        // The kernel gives out the lowest free number, so the limit is the first number that stays free.
        let first = (0..).filter(|number| !numbers.contains(number)).nth(files).unwrap();
        limit(proxy, first);
        Self(proxy)
    }
}

impl Drop for Drought<'_> {
    fn drop(&mut self) {
        limit(self.0, 4096);
    }
}

fn limit(proxy: &Proxy, files: usize) {
    let (id, limit) = (proxy.process.0.id().to_string(), format!("--nofile={files}:"));
    assert!(Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap().success());
}

/// The device is told to try again on the same connection; open sessions go on.
#[test]
fn a_login_without_a_file_for_the_server() {
    let harness = Harness::new("");
    let mut running = harness.session();
    let mut device = harness.greeted();
    let drought = Drought::of(&harness);
    let answer = device.command("LOGIN u p");
    assert!(status(&answer).starts_with("NO [UNAVAILABLE]"), "{answer:?}");
    harness.log.wait_for("reason", |line| line.contains("login failed") && line.contains("Too many open files"));
    running.ok("NOOP");
    drop(drought);
    device.login("u", "p");
    device.ok("LOGOUT");
    running.ok("LOGOUT");
    harness.visits(3);
}

/// A reload that cannot open its file changes nothing, and the next reload succeeds.
#[test]
fn a_reload_without_a_file() {
    let harness = Harness::new("");
    let mut running = harness.session();
    let drought = Drought::of(&harness);
    harness.process.signal("HUP");
    harness.log.wait_for("refusal", |line| line.contains("rejected; still running with the previous version"));
    running.ok("NOOP");
    drop(drought);
    let (code, said) = harness.reload();
    assert_eq!(code, 0, "{said}");
    running.ok("LOGOUT");
    harness.visits(3);
}

/// A token request without a free file fails for a moment, is repeated soon, and needs no operator. If only the new
/// refresh token cannot be written, it is written later.
#[test]
fn a_token_without_a_file() {
    std::thread::scope(|scope| {
        for (grant, files) in [(BY_SECRET, 0), (BY_PERSON, 0), (BY_PERSON, FILES_OF_A_REQUEST)] {
            scope.spawn(move || token_without_a_file(grant, files));
        }
    });
}

fn token_without_a_file(grant: &str, files: usize) {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(grant);
    if grant == BY_PERSON {
        exchange.sign_in(&configuration);
    }
    // The proxy fetches a token every five seconds, and the endpoint takes no refresh token twice.
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 2);
    exchange.quirk(|quirks| quirks.refresh.strict_rotation = true);
    let mut proxy = exchange.proxy(&configuration);
    proxy.log.wait_for("token", |line| line.contains("new access token"));
    let mut device = exchange::imap(&proxy);
    let drought = Drought::with(&proxy, files);
    let line = proxy.log.wait_for("trouble", |line| line.contains("Too many open files") && line.contains("token"));
    if files == 0 {
        assert!(line.contains("\"reason\":\"token_unavailable\""), "{line}");
    } else {
        assert!(line.contains("the new refresh token cannot be kept"), "{line}");
    }
    drop(drought);
    let begun = Instant::now();
    if files == 0 {
        proxy.log.wait_for("end of it", |line| line.contains("access token again"));
        println!("{grant}: a token again {:.1} s after files were to be had", begun.elapsed().as_secs_f64());
    }
    device.login(LOGIN, PASSWORD);
    drop(device);
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    exchange::imap(&exchange.proxy(&configuration)).login(LOGIN, PASSWORD);
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
}

/// A request needs two files, the lock and the connection. Writing its result needs another two.
const FILES_OF_A_REQUEST: usize = 2;
