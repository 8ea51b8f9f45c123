//! A disk that takes nothing any more, and takes it again: full, read-only, or beyond a limit.

use std::fs;
use std::process::Command;
use std::time::Duration;

use support::exchange::*;
use support::proxy::Proxy;

use super::mounted::Disk;

/// Why nothing can be written, as it begins and as it ends, and what the operating system calls it.
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

/// As with `LimitFSIZE=`, or a quota.
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

/// The identity gets another client_id while the disk is full: the sign-in with the earlier one reaches the disk nevertheless,
/// and counts again when that is back.
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

/// Devices notice nothing, each refresh token is used once, what is on disk stays whole; the fault is told once, on the
/// page and to Prometheus too; and the newest token is brought to the disk as soon as that takes it.
fn survives(disk: &Disk, (begin, end, words): Fault<'_>) {
    let exchange = Exchange::new();
    disk.put_in_place_of(&exchange.state());
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    exchange.quirk(|quirks| {
        // Fetched anew every five seconds, and good for a session that goes on.
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
    // Another configuration, by which tokens are fetched in another way, goes on with the newest one as well.
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
    // What is on disk is the one that counts.
    drop(proxy);
    let begun = exchange.simulator.counts().tokens_issued;
    let _proxy = exchange.proxy(&configuration);
    exchange.until("refresh", |counts| counts.tokens_issued > begun);
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
    only_whole_files(&exchange);
}

/// The inventory, which is told of once as well.
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
    // It comes up on a full disk, where there is all that is needed.
    disk.fill();
    let mut proxy = exchange.proxy(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
    disk.make_room();
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    assert!(fs::read_to_string(exchange.state().join("inventory.json")).unwrap().contains(LOGIN));
    only_whole_files(&exchange);
}

/// With all that is needed, devices get their mail; without, the start is refused with what is missing.
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
    // As on a volume on which nobody has ever run.
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

/// No half of a file is left where everything is over.
pub fn only_whole_files(exchange: &Exchange) {
    for directory in [exchange.state(), exchange.state().join("tokens")] {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.contains(".new-"), "{name}");
        }
    }
}
