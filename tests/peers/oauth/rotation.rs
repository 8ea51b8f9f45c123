//! These tests prove that the newest refresh token is always the next one used, whatever happens in between.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use support::exchange::*;
use support::process::Process;

/// A sign-in whose access tokens are so short-lived that they are refreshed every second.
fn rotating() -> (Exchange, String) {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 2);
    (exchange, configuration)
}

/// Waits for `count` more refreshes; returns the refresh tokens that were presented.
fn presented(exchange: &Exchange, count: u64) -> Vec<String> {
    let begun = exchange.simulator.counts().tokens_issued;
    let next = |number| exchange.until("refresh", |counts| counts.tokens_issued >= begun + number);
    (1..=count).map(|number| next(number).last_refresh_token.unwrap()).collect()
}

/// Under strict rotation the endpoint would refuse an old token.
#[test]
fn each_refresh_token_is_used_once() {
    let (exchange, configuration) = rotating();
    exchange.quirk(|quirks| quirks.refresh.strict_rotation = true);
    let [file] = exchange.tokens().try_into().unwrap();
    let mut contents = HashSet::from([fs::read(&file).unwrap()]);
    let mut proxy = exchange.proxy(&configuration);
    let mut seen = presented(&exchange, 3);
    assert!(imap_login(&proxy).starts_with("OK"));
    // A refresh on its way reaches the disk before the process ends, and the next process continues with it.
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    contents.insert(fs::read(&file).unwrap());
    let _proxy = exchange.proxy(&configuration);
    seen.extend(presented(&exchange, 2));
    contents.insert(fs::read(&file).unwrap());
    assert_eq!((seen.iter().collect::<HashSet<_>>().len(), contents.len()), (5, 3), "{seen:?}");
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
}

#[test]
fn without_a_new_one_the_old_one_stays() {
    let (exchange, configuration) = rotating();
    exchange.quirk(|quirks| quirks.refresh.omit_new = true);
    let proxy = exchange.proxy(&configuration);
    let seen = presented(&exchange, 2);
    assert_eq!(seen[0], seen[1]);
    assert!(pop3_login(&proxy).starts_with("+OK"));
}

/// The sign-in is revoked. The device gets the reason, nothing is deleted, and a new sign-in needs no restart.
#[test]
fn revoked_and_signed_in_again() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    exchange.simulator.revoke_refresh_tokens();
    let proxy = exchange.proxy(&configuration);
    let line = proxy.log.wait_for("advice", |line| line.contains("AADSTS700082"));
    assert!(line.contains("packetboat login scans") && line.contains("token_refused"), "{line}");
    assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN]"));
    assert_eq!((exchange.tokens().len(), exchange.simulator.counts().token_refusals), (1, 1));
    exchange.sign_in(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
}

/// Another process that holds one sign-in's lock delays no other sign-in.
#[test]
fn a_lock_on_one_sign_in_delays_no_other() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 12);
    let far = exchange.identity(BY_PERSON).replace("identity.office", "identity.far");
    let configuration = exchange.configured(BY_PERSON, &account("scans", SCAN, "identity = \"office\""))
        + &far
        + &account("far", SCAN, "identity = \"far\"");
    exchange.sign_in_to("scans", &configuration);
    exchange.sign_in_to("far", &configuration);
    let proxy = exchange.proxy(&configuration);
    let of_far = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("far-");
    let file = exchange.tokens().into_iter().find(of_far).unwrap().with_extension("lock");
    assert!(imap_login(&proxy).starts_with("OK"));
    let lock = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    // The wait is longer than a token's life, and longer than a wait for the lock.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        let visit = Instant::now();
        assert!(imap_login(&proxy).starts_with("OK"));
        assert!(visit.elapsed() < Duration::from_secs(5), "{:?}", visit.elapsed());
    }
}

/// Two programs share one sign-in, and neither loses the other's token.
#[test]
fn a_check_beside_the_proxy() {
    let (exchange, configuration) = rotating();
    let proxy = exchange.proxy(&configuration);
    for _ in 0..3 {
        presented(&exchange, 1);
        let ran = exchange.run(&["check", "--online"], &configuration);
        assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    }
    assert!(imap_login(&proxy).starts_with("OK"));
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
    assert!(!proxy.log.all().contains("\"level\":\"ERROR\""));
}

/// A refresh that is under way at SIGTERM is waited for, and its token kept.
#[test]
fn stopped_in_the_middle_of_a_rotation() {
    let (exchange, configuration) = rotating();
    exchange.quirk(|quirks| quirks.endpoint.delay = Duration::from_secs(1));
    let before = exchange.simulator.counts();
    let mut proxy = exchange.proxy(&configuration);
    exchange.until_connected();
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    let after = exchange.simulator.counts();
    assert_eq!(after.tokens_issued - before.tokens_issued, 1);
    exchange.quirk(|quirks| quirks.endpoint.delay = Duration::ZERO);
    let _proxy = exchange.proxy(&configuration);
    let next = exchange.until("request", |counts| counts.tokens_issued > after.tokens_issued);
    assert_ne!(next.last_refresh_token, after.last_refresh_token);
}

/// `kill -9` comes at random moments of a rotation. Microsoft accepts an old refresh token once more, so one whole
/// token on disk is enough.
#[test]
fn killed_in_the_middle_of_a_rotation() {
    const KILLS: u64 = 120;
    let (exchange, configuration) = rotating();
    let mut lost = 0;
    let began = Instant::now();
    for number in 0..KILLS {
        let before = exchange.simulator.counts();
        let mut command = exchange.command(&["run"], &configuration);
        let (mut process, log) = Process::logged(&mut command);
        // The answer is written a millisecond or two after the request, on a slow disk twenty.
        exchange.until("request", |counts| counts.grant("refresh_token") > before.grant("refresh_token"));
        let octets: [u8; 2] = packetboat::crypto::random().unwrap();
        let most = if number % 4 == 3 { 60_000 } else { 6_000 };
        thread::sleep(Duration::from_micros(u64::from(u16::from_be_bytes(octets)) % most));
        process.0.kill().unwrap();
        process.wait();
        let log = log.all();
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{number}: {log}");
        let after = exchange.simulator.counts();
        assert_eq!(after.token_refusals, 0, "{number}");
        // The next process presents the token on disk: the same one again if the kill came before the rename.
        lost += u64::from(after.last_refresh_token == before.last_refresh_token);
    }
    assert!(lost < KILLS, "no rotation ever came to its end");
    println!("{lost} of {KILLS} kills came before the new token was kept, in {:?}", began.elapsed());
    let ran = exchange.run(&["check", "--online"], &configuration);
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.authorizations, counts.token_refusals), (1, 0), "nobody signed in again");
    let names: Vec<_> =
        fs::read_dir(exchange.state().join("tokens")).unwrap().map(|e| e.unwrap().file_name()).collect();
    let whole = |name: &std::ffi::OsString| {
        name.to_string_lossy().ends_with("lock") || name.to_string_lossy().ends_with(".token")
    };
    assert!(names.len() == 3 && names.iter().all(whole), "two locks and a token: {names:?}");
}
