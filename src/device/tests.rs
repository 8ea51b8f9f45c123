//! These tests configure devices, and look at what their logins open.

use super::*;
use crate::failure::Failure;
use crate::secret::Secret;
use std::path::Path;
use std::time::{Duration, Instant};

fn devices(more: &str) -> Arc<Devices> {
    let hash = password::hash(b"k7m2xp9at").unwrap();
    let text = format!(
        "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n\
         [account.a]\nmailbox = \"Shared@contoso.example\"\n\
         [[device]]\nlogin = \"Scanner3\"\naliases = [\"scan@contoso.example\"]\npasswords = [\"{hash}\"]\n{more}"
    );
    let config = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config;
    Arc::new(Devices::new(&config, &Arc::default(), None).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}")))
}

async fn verify(devices: &Arc<Devices>, login: &str, password: &str) -> Result<String, Failure> {
    verify_from("192.0.2.1", devices, login, password).await
}

async fn verify_from(source: &str, devices: &Arc<Devices>, login: &str, password: &str) -> Result<String, Failure> {
    let source = source.parse().unwrap();
    let password = Secret::new(password.as_bytes().to_vec());
    match devices.verify(login.as_bytes(), &password, source).await {
        Ok(verified) => Ok(verified.device.account.clone()),
        Err(failure) => Err(failure),
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_opens_its_account() {
    let devices = devices("");
    assert_eq!(verify(&devices, "SCANNER3 ", "k7m2xp9at").await, Ok("a".to_owned()));
    assert!(verify(&devices, "scan", "k7m2xp9at").await.is_err());
    assert!(verify(&devices, "scanner3", "wrong").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn networks_of_a_device() {
    let devices = devices("networks = [\"198.51.100.0/24\"]");
    assert!(verify(&devices, "scanner3", "k7m2xp9at").await.unwrap_err().detail.contains("not in the networks"));
}

/// The cache remembers the password, not the device.
#[tokio::test(start_paused = true)]
async fn a_remembered_device_still_needs_its_password() {
    let devices = devices("");
    verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
    let has = |password: &[u8]| devices.memory.has(&devices.devices[0], 0, &Secret::new(password.to_vec())).is_some();
    assert!(has(b"k7m2xp9at") && !has(b"k7m2xp9a"));
    assert!(verify(&devices, "scanner3", "k7m2xp9aT").await.is_err());
}

/// The delay grows, and does not keep out who has the password in memory.
#[tokio::test(start_paused = true)]
async fn failures_are_slowed_down() {
    let devices = devices("");
    verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
    let began = tokio::time::Instant::now();
    for _ in 0..4 {
        verify(&devices, "scanner3", "guess").await.unwrap_err();
    }
    // 0.5 s, 1 s and 2 s before the second, third and fourth.
    assert!(began.elapsed() >= Duration::from_millis(3500), "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
}

/// A stranger that has failed waits for its delay, whether or not the memory has the password that it tries.
#[tokio::test(start_paused = true)]
async fn a_stranger_learns_nothing_from_the_password_memory_before_the_delay() {
    let devices = devices("");
    verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
    for _ in 0..4 {
        verify(&devices, "scanner3", "guess").await.unwrap_err();
    }
    for password in ["guess", "k7m2xp9at"] {
        let attempt = verify(&devices, "scanner3", password);
        let answer = tokio::time::timeout(Duration::from_millis(50), attempt).await;
        assert!(answer.is_err(), "{password}: {answer:?}");
    }
    assert!(!devices.knows("192.0.2.1".parse().unwrap()));
}

/// At a known device's address, a guesser that leaves its turn gets a few answers from the memory, and then none.
#[tokio::test(start_paused = true)]
async fn the_memory_tells_a_guesser_at_a_known_address_little() {
    let devices = devices("");
    verify(&devices, "scanner3", "k7m2xp9at").await.unwrap();
    for _ in 0..3 {
        verify(&devices, "scanner3", "guess").await.unwrap_err();
    }
    let soon = |password: &'static str| {
        let devices = Arc::clone(&devices);
        async move {
            let attempt = verify(&devices, "scanner3", password);
            tokio::time::timeout(Duration::from_millis(50), attempt).await.is_ok_and(|answer| answer.is_ok())
        }
    };
    // The device itself goes on beside a few guesses.
    assert!(!soon("guess").await && soon("k7m2xp9at").await);
    for _ in 0..10 {
        assert!(!soon("guess").await);
    }
    assert!(!soon("k7m2xp9at").await);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(soon("k7m2xp9at").await);
}

/// Each try has as many runs as the device with the most passwords needs.
#[test]
fn unknown_logins_are_compared_as_often() {
    let hash = password::hash(b"another one").unwrap();
    let devices = devices(&format!("[[device]]\nlogin = \"other\"\npasswords = [\"{hash}\", \"{hash}\", \"{hash}\"]"));
    assert_eq!(devices.dummy_hashes.len(), 3);
    assert!(devices.devices.iter().all(|device| device.hashes.len() == 3));
    assert_eq!(devices.devices.iter().map(|device| device.own).collect::<Vec<_>>(), [1, 3]);
}

/// Every spelling of a login, and every alias, is the same login to who guesses from many addresses that have
/// failed.
#[tokio::test(start_paused = true)]
async fn spelling_does_not_evade_the_delay() {
    let devices = devices("");
    for number in 0..4 {
        verify_from(&format!("192.0.2.{number}"), &devices, &format!("guess{number}"), "guess").await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = tokio::time::Instant::now();
    for (number, login) in
        ["scanner3", "d0\\scanner3\\shared", "scan@contoso.example", "SCANNER3/shared"].iter().enumerate()
    {
        verify_from(&format!("192.0.2.{number}"), &devices, login, "guess").await.unwrap_err();
    }
    assert!(began.elapsed() >= Duration::from_millis(3500), "{:?}", began.elapsed());
}

/// Tries of others with its login do not slow down a device that has logged in from there before.
#[tokio::test(start_paused = true)]
async fn a_known_device_does_not_wait_for_strangers() {
    let devices = devices("");
    verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
    devices.memory.forget();
    for number in 0..5 {
        verify_from(&format!("192.0.2.{number}"), &devices, "scanner3", "guess").await.unwrap_err();
    }
    let began = tokio::time::Instant::now();
    verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
}

/// The device does not wait even for guessers without a failure of their own, because each of them has its own run.
#[tokio::test(start_paused = true)]
async fn a_device_from_a_new_source_waits_for_no_guesser() {
    let devices = devices("");
    for number in 0..5 {
        verify_from(&format!("192.0.2.{number}"), &devices, "scanner3", "guess").await.unwrap_err();
    }
    let began = tokio::time::Instant::now();
    verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
    assert!(devices.knows("192.0.2.9".parse().unwrap()) && !devices.knows("192.0.2.1".parse().unwrap()));
}

/// Whenever devices leave, whatever they try: all that a login takes is given back, and the device itself gets in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_logins_are_cancelled_at_any_point() {
    let devices = devices("[limits]\nfailure_delay = \"1ms\"\nlongest_failure_delay = \"1s\"");
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..80_u64 {
        let devices = Arc::clone(&devices);
        // 0 to 198 ms, in no order, and none at all.
        let stays = Duration::from_millis(number * 37 % 67 * 3);
        tries.spawn(async move {
            let (login, password) = (["scanner3", "nobody"][number as usize % 2], ["k7m2xp9at", "guess"]);
            let source = format!("192.0.2.{}", number % 4);
            let attempt = verify_from(&source, &devices, login, password[number as usize / 2 % 2]);
            drop(tokio::time::timeout(stays, attempt).await);
        });
    }
    tries.join_all().await;
    let begun = Instant::now();
    while !devices.schedule.is_idle() || !devices.delays.is_idle() {
        assert!(begun.elapsed() < Duration::from_secs(60), "something is held");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    verify_from("192.0.2.9", &devices, "scanner3", "k7m2xp9at").await.unwrap();
}

/// A client that hangs up before the answer has tried all the same.
#[tokio::test]
async fn a_try_counts_even_if_nobody_waits_for_it() {
    let devices = devices("");
    let source = "192.0.2.1".parse().unwrap();
    let password = Secret::new(b"guess".to_vec());
    let attempt = devices.verify(b"scanner3", &password, source);
    assert!(tokio::time::timeout(Duration::ZERO, attempt).await.is_err());
    while !devices.schedule.is_idle() || !devices.delays.is_idle() {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    verify(&devices, "scanner3", "guess").await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}
