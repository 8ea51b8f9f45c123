//! These tests prove that a disk that refuses writes for a while (full, read-only, or over a limit) loses no token.

use std::fs;
use std::process::Command;
use std::time::Duration;

use support::exchange::*;
use support::mounted::Disk;
use support::proxy::Proxy;

/// A fault of the disk: a function that begins it, one that ends it, and the operating system's message.
type Fault<'a> = (&'a dyn Fn(&Proxy), &'a dyn Fn(&Proxy), &'a str);

#[test]
fn a_full_disk() {
    let disk = Disk::new(512);
    survives(&disk, (&|_| disk.fill(), &|_| disk.make_room(), "No space left on device"));
}

#[test]
fn a_disk_that_becomes_read_only() {
    let disk = Disk::new(512);
    survives(&disk, (&|_| disk.make_read_only(true), &|_| disk.make_read_only(false), "Read-only file system"));
}

/// The limit works like `LimitFSIZE=` or a quota.
#[test]
fn a_limit_to_the_size_of_files() {
    let limit = |size: &'static str| {
        move |proxy: &Proxy| {
            let process = proxy.process.0.id().to_string();
            let status = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={size}")]).status();
            assert!(status.unwrap().success());
        }
    };
    survives(&Disk::new(512), (&limit("16:unlimited"), &limit("unlimited"), "File too large"));
}

/// The identity gets another client_id while the disk is full. The earlier sign-in reaches the disk nevertheless, and
/// counts again once the identity is back.
#[test]
fn a_full_disk_and_another_application() {
    let (disk, exchange) = (Disk::new(512), Exchange::new());
    disk.put_in_place_of(&exchange.state());
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    exchange.quirk(|quirks| {
        quirks.endpoint.expires_in = 2;
        quirks.refresh.strict_rotation = true;
    });
    let proxy = exchange.proxy(&configuration);
    disk.fill();
    proxy.logs(1, "refresh token cannot be kept");
    let reload = |text: &str, count| {
        proxy.configure(text);
        proxy.process.signal("HUP");
        proxy.logs(count, "configuration reloaded");
    };
    reload(&configuration.replace(APP, "99999999-2222-3333-4444-555555555555"), 1);
    proxy.logs(1, "has signed in with another token endpoint, tenant or client_id");
    disk.make_room();
    proxy.logs(1, "the newest refresh token is kept");
    reload(&configuration, 2);
    assert!(imap_login(&proxy).starts_with("OK"));
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
}

/// Devices notice nothing, each refresh token is used once, and the files stay whole. The log, the page and the metrics
/// report the fault once. The newest token reaches the disk as soon as the disk takes it.
fn survives(disk: &Disk, (begin, end, words): Fault<'_>) {
    let exchange = Exchange::new();
    disk.put_in_place_of(&exchange.state());
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    exchange.quirk(|quirks| {
        // The proxy refreshes every five seconds, and each token outlives the test's session.
        quirks.endpoint.expires_in = 2;
        quirks.endpoint.token_life = Some(Duration::from_secs(3600));
        quirks.refresh.strict_rotation = true;
    });
    let proxy = exchange.proxy(&configuration);
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    let [file] = exchange.tokens().try_into().unwrap();
    begin(&proxy);
    let unkept = |line: &str| line.contains("refresh token cannot be kept");
    let line = proxy.log.wait_for("line about the disk", unkept);
    assert!(line.contains(words) && line.contains(".token: ") && line.contains("\"level\":\"ERROR\""), "{line}");
    let kept = fs::read(&file).unwrap();
    let begun = exchange.simulator.counts().tokens_issued;
    exchange.until("two more refreshes", |counts| counts.tokens_issued >= begun + 2);
    device.ok("NOOP");
    // Another configuration, whose tokens are fetched anew, also goes on with the newest refresh token.
    proxy.configure(&format!("[limits]\nconnect_timeout = \"9s\"\n{configuration}"));
    proxy.process.signal("HUP");
    proxy.log.wait_for("line that it is taken", |line| line.contains("configuration reloaded"));
    let begun = exchange.simulator.counts().tokens_issued;
    exchange.until("two refreshes after the reload", |counts| counts.tokens_issued >= begun + 2);
    assert!(imap_login(&proxy).starts_with("OK") && pop3_login(&proxy).starts_with("+OK"));
    assert_eq!(fs::read(&file).unwrap(), kept, "the file is as it was");
    assert_eq!(proxy.log.count(unkept), 1, "{}", proxy.log.all());
    assert!(proxy.get("/metrics").contains("\npacketboat_state_write_success 0\n"));
    let status = proxy.status();
    let problem = status["problem"].as_str().unwrap();
    assert!(problem.contains("in memory alone, account scans: ") && problem.contains(words), "{problem}");
    assert_eq!(status["ready"], true);

    end(&proxy);
    proxy.log.wait_for("line that it is kept", |line| line.contains("the newest refresh token is kept"));
    assert_ne!(fs::read(&file).unwrap(), kept);
    assert!(proxy.get("/metrics").contains("\npacketboat_state_write_success 1\n"));
    assert_eq!(proxy.status()["problem"], serde_json::Value::Null);
    device.ok("NOOP");
    // The token on disk is the one that the endpoint accepts.
    drop(proxy);
    let begun = exchange.simulator.counts().tokens_issued;
    let _proxy = exchange.proxy(&configuration);
    exchange.until("refresh", |counts| counts.tokens_issued > begun);
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
    only_whole_files(&exchange);
}

/// The inventory's fault is reported once as well.
#[test]
fn an_inventory_that_cannot_be_kept() {
    let disk = Disk::new(512);
    let exchange = Exchange::new();
    disk.put_in_place_of(&exchange.state());
    let configuration = exchange.configuration(BY_SECRET);
    let mut proxy = exchange.proxy(&configuration);
    disk.fill();
    assert!(imap_login(&proxy).starts_with("OK"));
    let unkept = |line: &str| line.contains("the inventory cannot be kept") && line.contains("No space left");
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    proxy.log.wait_for("line about the inventory", unkept);
    assert!(!exchange.state().join("inventory.json").exists());
    disk.make_room();
    // The proxy starts on a full disk that has all needed files.
    disk.fill();
    let mut proxy = exchange.proxy(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
    disk.make_room();
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    assert!(fs::read_to_string(exchange.state().join("inventory.json")).unwrap().contains(LOGIN));
    only_whole_files(&exchange);
}

/// With all needed files, devices get their mail; without them, the start is refused and names what is missing.
#[test]
fn a_start_on_a_read_only_disk() {
    let disk = Disk::new(512);
    let exchange = Exchange::new();
    disk.put_in_place_of(&exchange.state());
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    disk.make_read_only(true);
    let ran = exchange.run(&["run"], &configuration);
    let no_certificate = "ca.key: Read-only file system";
    assert!(ran.code == 69 && ran.errors.contains(no_certificate), "{} {}", ran.code, ran.errors);
    disk.make_read_only(false);
    drop(exchange.proxy(&configuration));
    // A volume has no lock before its first run.
    fs::remove_file(exchange.state().join("lock")).unwrap();
    disk.make_read_only(true);
    let proxy = exchange.proxy(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
    let line =
        proxy.log.wait_for("warning", |line| line.contains("\"level\":\"WARN\"") && line.contains("cannot write in"));
    assert!(line.contains("packetboat cannot make certificates, and loses new refresh tokens"), "{line}");
    let second = super::twice::refused(&exchange, &configuration);
    assert!(second.contains("is in use by"), "{second}");
    disk.make_read_only(false);
    proxy.log.wait_for("line that it is kept", |line| line.contains("the newest refresh token is kept"));
}

/// Checks that no temporary file is left behind.
pub fn only_whole_files(exchange: &Exchange) {
    for directory in [exchange.state(), exchange.state().join("tokens")] {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains(".new-"), "{name}");
        }
    }
}
