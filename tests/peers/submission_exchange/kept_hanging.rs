//! These tests prove that a spool whose disk hangs, without an error, stalls nothing: a device gets an answer within ten
//! seconds, other devices notice nothing, and messages are neither lost nor doubled once the disk answers again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::SmtpMoment;
use serde_json::Value;
use support::exchange::*;
use support::mounted::Freezable;
use support::proxy::Proxy;
use support::strain::{Hanging, until};

use super::kept::{KEPT, fault, keeping};
use super::kept_commands::{ids, said};
use super::{MESSAGE, Scanner};

const BUSY: &str = "451 4.3.2 busy";
/// The longest wait for the disk, and the time that a busy computer takes for the rest.
const BOUND: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(20);
/// The longest time of a device that does not need the disk.
const USUAL: Duration = Duration::from_secs(8);

#[test]
fn a_frozen_disk_delays_one_message_by_ten_seconds_and_other_devices_not_at_all() {
    let Some(disk) = Freezable::new(32) else { return };
    let exchange = Exchange::new();
    let proxy = with_spool_at(&exchange, &disk.path());
    let (mut scanner, mut other) = (Scanner::log_in(&proxy), Scanner::log_in(&proxy));
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), Some(1));
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    let freeze = disk.freeze();
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), Some(1));
    let mut sent = 0;
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let victim = scope.spawn(move || {
            let answer = scanner.submit(&stuffed(MESSAGE));
            (answer, begun.elapsed())
        });
        until("a thread of the spool that waits for the disk", || waits_for_disk(&proxy));
        while !victim.is_finished() {
            let visit = Instant::now();
            let answer = other.submit(&stuffed(MESSAGE));
            assert!(answer.starts_with("250 2."), "{answer}");
            sent += 1;
            assert!(imap_login(&proxy).starts_with("OK"));
            assert_eq!(proxy.get("/live"), "alive\n");
            assert!(visit.elapsed() < USUAL, "{:?}", visit.elapsed());
        }
        let (answer, lasted) = victim.join().unwrap();
        println!("answer after {lasted:?}; {sent} messages of the other device meanwhile");
        assert_eq!(answer, BUSY, "the server's own words");
        assert!((BOUND..BOUND + SLACK).contains(&lasted), "{lasted:?}");
    });
    assert!(sent > 0);
    // From here on no message waits for that disk, whether the server takes it or not.
    let begun = Instant::now();
    let large = [MESSAGE, &b"page\r\n".repeat(200_000)].concat();
    assert!(other.submit(&stuffed(&large)).starts_with("250 2."));
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    assert_eq!(other.submit(&stuffed(MESSAGE)), BUSY);
    assert!(begun.elapsed() < USUAL, "{:?}", begun.elapsed());
    says_so_once(&proxy, &disk.path());
    // The one that waited, the two behind it, and what the other device began while the first one had its answer.
    let not_kept = proxy.metric("packetboat_spool_not_kept_total", "");
    assert!((3..=5).contains(&not_kept), "{not_kept}");
    drop(freeze);
    works_again(&exchange, &proxy, &mut other);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    send_all(&proxy);
    // Those of the other device, the large one, the one before the freeze, and the one behind it.
    assert_eq!(exchange.simulator.messages(SCAN), sent + 3);
    until("no file", || files(&disk.path()) == 0);
}

/// The copy is given up in the middle of a message. The message itself goes on to the server, whole.
#[test]
fn a_disk_that_freezes_while_a_message_streams() {
    let Some(disk) = Freezable::new(32) else { return };
    let exchange = Exchange::new();
    let proxy = with_spool_at(&exchange, &disk.path());
    let mut scanner = Scanner::log_in(&proxy);
    let message = [MESSAGE, &b"page\r\n".repeat(500_000)].concat();
    let data = stuffed(&message);
    for line in [format!("MAIL FROM:<{SCAN}>"), format!("RCPT TO:<{SCAN}>"), "DATA".to_owned()] {
        scanner.ok(&line);
    }
    scanner.0.send(&data[..200_000]);
    until("the file of the first part", || largest(&disk.path()) > 64 * 1024);
    let freeze = disk.freeze();
    let begun = Instant::now();
    scanner.0.send(&data[200_000..]);
    let answer = scanner.reply();
    let lasted = begun.elapsed();
    println!("answer after {lasted:?}");
    assert!(answer.starts_with("250 2."), "{answer}");
    assert!((BOUND..BOUND + SLACK).contains(&lasted), "{lasted:?}");
    assert!(exchange.simulator.contents(SCAN) == [message], "the whole message, once");
    says_so_once(&proxy, &disk.path());
    drop(freeze);
    works_again(&exchange, &proxy, &mut scanner);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    send_all(&proxy);
    assert_eq!(exchange.simulator.messages(SCAN), 2);
    until("no file", || files(&disk.path()) == 0);
}

/// The server takes a kept message, and the disk freezes before its file is removed. Nothing is sent twice.
#[test]
fn a_disk_that_freezes_behind_a_kept_message_has_none_sent_twice() {
    let Some(disk) = Freezable::new(32) else { return };
    let exchange = Exchange::new();
    let proxy = with_spool_at(&exchange, &disk.path());
    let mut scanner = Scanner::log_in(&proxy);
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    for _ in 0..2 {
        assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    }
    exchange.quirk(|quirks| {
        quirks.smtp.faults.clear();
        quirks.smtp.final_delay = Duration::from_secs(3);
    });
    said(&proxy, &["retry", &ids(&proxy)[0]]);
    until("the note that the server may have it", || {
        let names = fs::read_dir(disk.path().join("spool")).unwrap().flatten().map(|file| file.file_name());
        names.into_iter().any(|name| name.to_str().unwrap().ends_with(".1.message"))
    });
    let freeze = disk.freeze();
    exchange.quirk(|quirks| quirks.smtp.final_delay = Duration::ZERO);
    until("a thread of the spool that waits for the disk", || waits_for_disk(&proxy));
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    let begun = Instant::now();
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    assert!(begun.elapsed() < USUAL, "{:?}", begun.elapsed());
    drop(freeze);
    until("the end of the first", || ids(&proxy).len() == 1);
    send_all(&proxy);
    assert_eq!(exchange.simulator.messages(SCAN), 3);
    assert!(!proxy.log.all().contains("second copy"));
    until("no file", || files(&disk.path()) == 0);
}

/// The process ends within its time although its spool hangs, and the next start sends what was kept before, once.
#[test]
fn a_spool_that_hangs_does_not_keep_the_process_from_its_end() {
    let (exchange, hanging) = (Exchange::new(), Hanging::new());
    let directory = hanging.mounted().join("spool");
    let mut proxy = with_spool_at(&exchange, &hanging.mounted());
    let mut scanner = Scanner::log_in(&proxy);
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    hanging.hang();
    let (answer, ended) = std::thread::scope(|scope| {
        let victim = scope.spawn(move || scanner.submit(&stuffed(MESSAGE)));
        until("a request to the file system", || hanging.requests() > 0);
        let begun = Instant::now();
        proxy.process.signal("TERM");
        let status = proxy.process.wait();
        let ended = begun.elapsed();
        assert!(status.success(), "{status}");
        (victim.join().unwrap(), ended)
    });
    println!("ended after {ended:?}");
    assert_eq!(answer, BUSY, "the device's session lasts until it has its answer");
    // The device leaves behind its answer, and so the drain ends before its time.
    assert!(ended < BOUND + SLACK, "{ended:?}");
    hanging.go_on();
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    let proxy = with_spool_at(&exchange, &hanging.mounted());
    assert_eq!(ids(&proxy).len(), 1);
    send_all(&proxy);
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    until("no file", || fs::read_dir(&directory).unwrap().count() == 1);
}

/// packetboat with its spool in a directory of this disk, and the rest of its state elsewhere.
fn with_spool_at(exchange: &Exchange, disk: &Path) -> Proxy {
    keeping(exchange, &format!("directory = {:?}\n", disk.join("spool")))
}

/// Whether a thread of the spool waits in the kernel, where no signal reaches it (proc_pid_stat(5)).
fn waits_for_disk(proxy: &Proxy) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", proxy.process.0.id())).unwrap().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.into_iter().any(|stat| stat.contains("(spool) D"))
}

/// One line of the log, the page and the commands name the disk and what to do.
fn says_so_once(proxy: &Proxy, disk: &Path) {
    let is_about = |line: &str| line.contains("messages are not kept in the spool");
    let line = proxy.log.wait_for("the line", is_about);
    let words = format!("the disk of {} hangs: it has not answered within 10s", disk.join("spool").display());
    assert!(line.contains(&words) && line.contains("look at this disk, or at the server"), "{line}");
    assert_eq!(proxy.log.count(is_about), 1, "said once");
    // An answer of the page may be a second old.
    until("the problem on the page", || {
        proxy.status()["spool"]["problem"].as_str().is_some_and(|problem| problem.contains(&words))
    });
    assert!(said(proxy, &["list"]).contains(&format!("\nproblem: {words}")));
}

/// Once the disk answers, the next message is kept, without a restart.
fn works_again(exchange: &Exchange, proxy: &Proxy, scanner: &mut Scanner) {
    proxy.log.wait_for("the line", |line| line.contains("the disk of the spool answers again"));
    fault(exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    until("no problem is left", || proxy.status()["spool"]["problem"] == Value::Null);
}

/// Has everything that is kept tried at once.
fn send_all(proxy: &Proxy) {
    for id in ids(proxy) {
        said(proxy, &["retry", &id]);
        until("the message's end", || !ids(proxy).contains(&id));
    }
}

fn sizes(disk: &Path) -> Vec<u64> {
    let files = fs::read_dir(disk.join("spool")).unwrap().flatten().filter(|file| file.file_name() != "lock");
    files.filter_map(|file| file.metadata().ok()).map(|about| about.len()).collect()
}

/// The number of files of messages, whole or not.
fn files(disk: &Path) -> usize {
    sizes(disk).len()
}

/// The size of the largest of them.
fn largest(disk: &Path) -> u64 {
    sizes(disk).into_iter().max().unwrap_or(0)
}
