//! These tests prove that `kill -9` while certificates are made leaves whole files, and never replaces a CA that
//! devices know.
//!
//! The next start completes what is missing. (Kills while refresh tokens rotate are in `oauth::rotation`.)

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use openssl::pkey::PKey;
use openssl::x509::X509;

use support::exchange::*;
use support::process::{PATIENCE, Process};

/// The kill comes as soon as a file has its name, and at random moments.
#[test]
fn on_the_first_start() {
    const CHOSEN: [&str; 6] = ["lock", "certificates.lock", "ca.key", "ca.pem", "default.key", "default.pem"];
    const RANDOM: u32 = 40;
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let state = exchange.state();
    let mut halfway = 0;
    for name in CHOSEN {
        for _ in 0..3 {
            let _ = fs::remove_dir_all(&state);
            let path = state.join(name);
            kill_when(start(&exchange, &configuration), || path.exists());
            let left = CHOSEN.iter().filter(|name| state.join(name).exists()).count();
            halfway += u32::from(left < CHOSEN.len());
            comes_up(&exchange, &configuration);
        }
    }
    assert!(halfway >= 9, "{halfway}");
    // From here on starts in one directory are killed until its certificate exists; then a new one begins.
    let _ = fs::remove_dir_all(&state);
    let mut done = 0;
    for _ in 0..RANDOM {
        let began = Instant::now();
        let after = random(Duration::from_millis(500));
        kill_when(start(&exchange, &configuration), || began.elapsed() > after);
        halves_are_whole(&state);
        if state.join("default.pem").exists() {
            comes_up(&exchange, &configuration);
            fs::remove_dir_all(&state).unwrap();
            done += 1;
        }
    }
    println!(
        "{halfway} of {} chosen kills came halfway; {RANDOM} random ones, over {done} directories",
        CHOSEN.len() * 3
    );
    comes_up(&exchange, &configuration);
}

/// The CA stays the same, and the certificate fits its key, whenever the kill comes.
#[test]
fn while_a_certificate_is_renewed() {
    const KILLS: u32 = 40;
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    comes_up(&exchange, &configuration);
    let state = exchange.state();
    let authority = ["ca.pem", "ca.key"].map(|name| fs::read(state.join(name)).unwrap());
    let mut cut_short = 0;
    for number in 0..KILLS {
        let before = fs::read(state.join("default.key")).unwrap();
        let renew = Process::start(exchange.command(&["certificate", "renew"], &configuration).stdout(Stdio::null()));
        let (began, after) = (Instant::now(), random(Duration::from_millis(400)));
        if number % 2 == 0 {
            // The kill falls between the key and its certificate.
            kill_when(renew, || fs::read(state.join("default.key")).unwrap() != before);
        } else {
            kill_when(renew, || began.elapsed() > after);
        }
        let fits = fits(&state.join("default.pem"), &state.join("default.key"));
        cut_short += u32::from(!fits);
        if fits && number % 4 != 0 {
            continue;
        }
        // A start, or any command that needs the certificate, completes it.
        if number % 8 == 0 {
            comes_up(&exchange, &configuration);
        } else {
            let ran = exchange.run(&["certificate", "show"], &configuration);
            assert_eq!(ran.code, 0, "{}", ran.errors);
        }
        whole_certificates(&state);
        assert!(["ca.pem", "ca.key"].map(|name| fs::read(state.join(name)).unwrap()) == authority);
    }
    println!("{cut_short} of {KILLS} kills came between the key and its certificate");
    assert!(cut_short > 0, "no kill came between the key and its certificate");
    comes_up(&exchange, &configuration);
}

/// A lost CA certificate is made again from its key, as devices know it. The same CA makes all other lost files.
#[test]
fn the_same_authority_replaces_lost_files() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    comes_up(&exchange, &configuration);
    let state = exchange.state();
    let imported = X509::from_pem(&fs::read(state.join("ca.pem")).unwrap()).unwrap();
    for lost in [
        ["ca.pem"].as_slice(),
        &["default.pem"],
        &["default.key"],
        &["default.pem", "default.key"],
        &["ca.pem", "default.pem", "default.key"],
    ] {
        for name in lost {
            fs::remove_file(state.join(name)).unwrap();
        }
        let ran = exchange.run(&["certificate", "renew"], &configuration);
        assert_eq!(ran.code, 0, "{lost:?}: {}", ran.errors);
        comes_up(&exchange, &configuration);
        let leaf = X509::from_pem(&fs::read(state.join("default.pem")).unwrap()).unwrap();
        assert!(leaf.verify(&imported.public_key().unwrap()).unwrap(), "{lost:?}");
        let (issuer, known) = (leaf.issuer_name().to_der().unwrap(), imported.subject_name().to_der().unwrap());
        assert_eq!(issuer, known, "{lost:?}");
    }
    fs::remove_file(state.join("ca.key")).unwrap();
    let before = fs::read(state.join("ca.pem")).unwrap();
    let ran = exchange.run(&["certificate", "renew"], &configuration);
    assert!(ran.code == 69 && ran.errors.contains("ca.key is missing"), "{}", ran.errors);
    comes_up(&exchange, &configuration);
    assert_eq!(fs::read(state.join("ca.pem")).unwrap(), before);
}

fn start(exchange: &Exchange, configuration: &str) -> Process {
    Process::start(exchange.command(&["run"], configuration).stderr(Stdio::null()))
}

/// Kills the process as soon as the condition holds, unless it has ended before.
fn kill_when(mut process: Process, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() && process.0.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the moment does not come");
        thread::yield_now();
    }
    let _ = process.0.kill();
    process.wait();
}

/// Checks an undisturbed start: it becomes ready, its certificates are whole, the CA is the same, and temporary files
/// are gone.
fn comes_up(exchange: &Exchange, configuration: &str) {
    halves_are_whole(&exchange.state());
    let imported = fs::read(exchange.state().join("ca.pem")).ok();
    let (mut process, log) = Process::ready(&mut exchange.command(&["run"], configuration));
    process.signal("TERM");
    assert!(process.wait().success());
    let said = log.to_the_end();
    assert!(!said.contains("ERROR") && !said.contains("panicked"), "{said}");
    whole_certificates(&exchange.state());
    super::full::only_whole_files(exchange);
    if let Some(imported) = imported {
        assert!(fs::read(exchange.state().join("ca.pem")).unwrap() == imported, "another CA");
    }
}

/// Checks that each named file is whole, and that each certificate has its key.
fn halves_are_whole(state: &Path) {
    for name in ["ca", "default"] {
        let (pem, key) = (state.join(format!("{name}.pem")), state.join(format!("{name}.key")));
        if key.exists() {
            PKey::private_key_from_pem(&fs::read(&key).unwrap()).unwrap_or_else(|error| panic!("{name}.key: {error}"));
        }
        if pem.exists() {
            X509::from_pem(&fs::read(&pem).unwrap()).unwrap_or_else(|error| panic!("{name}.pem: {error}"));
            assert!(name != "ca" || !state.join("ca.key").exists() || fits(&pem, &key), "the key is of another CA");
        }
    }
}

/// Checks that the CA fits its key, that the certificate fits its own, and that the CA has signed it.
pub fn whole_certificates(state: &Path) {
    let at = |name: &str| state.join(name);
    assert!(fits(&at("default.pem"), &at("default.key")));
    let authority = X509::from_pem(&fs::read(at("ca.pem")).unwrap()).unwrap();
    let leaf = X509::from_pem(&fs::read(at("default.pem")).unwrap()).unwrap();
    assert!(leaf.verify(&authority.public_key().unwrap()).unwrap());
    assert!(!at("ca.key").exists() || fits(&at("ca.pem"), &at("ca.key")));
}

fn fits(certificate: &Path, key: &Path) -> bool {
    let certificate = X509::from_pem(&fs::read(certificate).unwrap()).unwrap();
    let key = PKey::private_key_from_pem(&fs::read(key).unwrap()).unwrap();
    certificate.public_key().unwrap().public_eq(&key)
}

fn random(most: Duration) -> Duration {
    let octets: [u8; 4] = packetboat::crypto::random().unwrap();
    most.mul_f64(f64::from(u32::from_be_bytes(octets)) / f64::from(u32::MAX))
}
