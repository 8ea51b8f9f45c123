//! These tests prove that the spool loses nothing on a disk that is full or read-only, and works again once the disk does.

use std::fs;
use std::process::Command;

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::SmtpMoment;
use serde_json::Value;
use support::exchange::*;
use support::mounted::Disk;
use support::process::program;
use support::proxy::Proxy;
use support::strain::until;

use super::kept::{KEPT, fault, in_spool, keeping};
use super::kept_commands::{ids, said};
use super::{MESSAGE, Scanner};

const BUSY: &str = "451 4.3.2 busy";

/// A fault of the disk: a function that begins it, one that ends it, and the operating system's words.
type Fault<'a> = (&'a dyn Fn(), &'a dyn Fn(), &'a str);

#[test]
fn a_full_disk_and_a_read_only_one_only_stream() {
    let disk = Disk::new(1024);
    only_streams(&disk, (&|| disk.fill(), &|| disk.make_room(), "No space left on device"));
    let disk = Disk::new(1024);
    only_streams(&disk, (&|| disk.make_read_only(true), &|| disk.make_read_only(false), "Read-only file system"));
}

/// The device hears the server's own words, or 4yz where there is no server. A message kept before stays, and is sent once.
fn only_streams(disk: &Disk, (begin, end, words): Fault<'_>) {
    let (exchange, proxy, mut scanner) = on(disk);
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    begin();
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), BUSY);
    let line = proxy.log.wait_for("the line", |line| line.contains("messages are not kept in the spool"));
    assert!(line.contains(words) && line.contains("make room on the disk, or let packetboat write there"), "{line}");
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), BUSY);
    assert_eq!(proxy.log.count(|line| line.contains("messages are not kept in the spool")), 1, "said once");
    let problem = proxy.status()["spool"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains(words), "{problem}");
    assert!(said(&proxy, &["list"]).contains(&format!("\nproblem: {problem}\n")));
    assert!(proxy.metric("packetboat_spool_not_kept_total", "") >= 2);
    // Without a server nobody has the message, and the device hears that.
    fault(&exchange, SmtpMoment::Login, Some("454 4.7.0 Temporary authentication failure"), None);
    let answer = attempt(&proxy);
    assert!(answer.starts_with('4'), "{answer}");
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    assert_eq!((in_spool(&exchange), exchange.simulator.messages(SCAN)), (1, 1));
    end();
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    // An answer of the page may be a second old.
    until("no problem is left", || proxy.status()["spool"]["problem"] == Value::Null);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    send_all(&exchange, &proxy, 3);
}

/// A message that is larger than what the disk has left. The file of its first half goes away.
#[test]
fn a_disk_that_fills_while_a_message_streams() {
    let disk = Disk::new(2048);
    let (exchange, proxy, mut scanner) = on(&disk);
    let message = [MESSAGE, &b"page\r\n".repeat(100_000)].concat();
    let data = stuffed(&message);
    for (reply, expected) in [(Some(BUSY), BUSY), (None, "250 2.")] {
        exchange.quirk(|quirks| quirks.smtp.faults.clear());
        if reply.is_some() {
            fault(&exchange, SmtpMoment::EndOfData, reply, None);
        }
        begin_data(&mut scanner);
        scanner.0.send(&data[..200_000]);
        until("the file of the first half", || largest(&exchange) > 64 * 1024);
        disk.fill();
        scanner.0.send(&data[200_000..]);
        let answer = scanner.reply();
        assert!(answer.starts_with(expected), "{answer}");
        until("no file", || largest(&exchange) == 0);
        disk.make_room();
    }
    assert!(proxy.log.all().contains("No space left on device"));
    assert!(exchange.simulator.contents(SCAN) == [message], "the whole message, once");
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    assert_eq!(scanner.submit(&data), KEPT);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    send_all(&exchange, &proxy, 2);
}

#[test]
fn a_disk_that_becomes_read_only_while_a_message_streams() {
    let disk = Disk::new(2048);
    let (exchange, proxy, mut scanner) = on(&disk);
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    let data = stuffed(&[MESSAGE, &b"page\r\n".repeat(100_000)].concat());
    begin_data(&mut scanner);
    scanner.0.send(&data[..1000]);
    disk.make_read_only(true);
    scanner.0.send(&data[1000..]);
    assert_eq!(scanner.reply(), BUSY);
    proxy.log.wait_for("the line", |line| {
        line.contains("messages are not kept in the spool") && line.contains("Read-only file system")
    });
    disk.make_read_only(false);
    assert_eq!(scanner.submit(&data), KEPT);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    send_all(&exchange, &proxy, 1);
}

/// The directory cannot be opened at the start. Devices can send all the same, and the messages of the run before are
/// sent as soon as the disk lets it, without a reload.
#[test]
fn a_spool_that_could_not_be_opened_opens_by_itself() {
    let (disk, exchange) = (Disk::new(1024), Exchange::new());
    disk.put_in_place_of(&exchange.state());
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    let proxy = keeping(&exchange, "");
    assert_eq!(Scanner::log_in(&proxy).submit(&stuffed(MESSAGE)), KEPT);
    drop(proxy);
    fs::remove_file(exchange.state().join("spool/lock")).unwrap();
    disk.make_read_only(true);
    let proxy = keeping(&exchange, "");
    let line = proxy.log.wait_for("the line", |line| line.contains("the spool is not open"));
    assert!(line.contains("Read-only file system") && line.contains("mend it: packetboat tries again"), "{line}");
    let problem = proxy.status()["spool"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("Read-only file system"), "{problem}");
    let mut scanner = Scanner::log_in(&proxy);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), BUSY);
    fault(&exchange, SmtpMoment::Login, Some("454 4.7.0 Temporary authentication failure"), None);
    let answer = attempt(&proxy);
    assert!(answer.starts_with('4'), "{answer}");
    disk.make_read_only(false);
    fault(&exchange, SmtpMoment::EndOfData, Some(BUSY), None);
    // This message has the spool opened, and does not wait for it.
    assert!([BUSY, KEPT].contains(&scanner.submit(&stuffed(MESSAGE)).as_str()));
    proxy.log.wait_for("the line", |line| line.contains("the spool is open now"));
    let before = in_spool(&exchange);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    assert_eq!(in_spool(&exchange), before + 1);
    // An answer of the page may be a second old.
    until("no problem is left", || proxy.status()["spool"]["problem"] == Value::Null);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
    // A proxy that has found its disk read-only has no socket for the commands; the next one has.
    drop(proxy);
    send_all(&exchange, &keeping(&exchange, ""), before + 1);
}

/// A packetboat that has found its disk read-only at its start has no socket. Each command that uses it says so.
#[test]
fn commands_say_that_the_state_directory_is_read_only() {
    let (disk, exchange) = (Disk::new(1024), Exchange::new());
    disk.put_in_place_of(&exchange.state());
    drop(keeping(&exchange, ""));
    disk.make_read_only(true);
    let proxy = keeping(&exchange, "");
    let line = proxy.log.wait_for("the line", |line| line.contains("find no process"));
    assert!(line.contains("mend it, then restart packetboat"), "{line}");
    let id = "0123456789abcdef";
    let commands: [&[&str]; 7] = [
        &["spool", "list"],
        &["spool", "show", id],
        &["spool", "remove", id],
        &["spool", "retry", id],
        &["devices"],
        &["health"],
        &["reload"],
    ];
    let fails = |command: &[&str]| {
        let mut program = Command::new(program());
        Ran::of(program.args(command).arg("--config").arg(proxy.configuration()).output().unwrap())
    };
    for command in commands {
        let ran = fails(command);
        let words = format!(
            "packetboat has no socket for commands in {}, whose disk is read-only: let packetboat write there, then start it, \
             or restart it if it runs",
            exchange.state().display()
        );
        assert!(ran.code == 69 && ran.errors.contains(&words), "{command:?}: {} {}", ran.code, ran.errors);
    }
    // The advice works.
    disk.make_read_only(false);
    drop(proxy);
    assert_eq!(said(&keeping(&exchange, ""), &["list"]), "no message is in the spool\n");
}

/// A proxy with its state on this disk, and a device that has logged in.
fn on(disk: &Disk) -> (Exchange, Proxy, Scanner) {
    let exchange = Exchange::new();
    disk.put_in_place_of(&exchange.state());
    let proxy = keeping(&exchange, "");
    let scanner = Scanner::log_in(&proxy);
    (exchange, proxy, scanner)
}

/// Has everything that is kept tried at once. Then the mailbox has so many messages.
fn send_all(exchange: &Exchange, proxy: &Proxy, count: usize) {
    for id in ids(proxy) {
        said(proxy, &["retry", &id]);
        until("the message's end", || !ids(proxy).contains(&id));
    }
    assert_eq!(exchange.simulator.messages(SCAN), count);
    assert_eq!(largest(exchange), 0);
}

/// The first refusal that a device hears, or the answer to its message.
fn attempt(proxy: &Proxy) -> String {
    let (mut scanner, answer) = Scanner::try_to_log_in(proxy);
    if !answer.starts_with("235 ") {
        return answer;
    }
    for line in [format!("MAIL FROM:<{SCAN}>"), format!("RCPT TO:<{SCAN}>"), "DATA".to_owned()] {
        let answer = scanner.ask(&line);
        if !answer.starts_with(['2', '3']) {
            return answer;
        }
    }
    scanner.0.send(stuffed(MESSAGE));
    scanner.reply()
}

fn begin_data(scanner: &mut Scanner) {
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok("DATA");
}

/// The size of the largest file of a message, whole or not.
fn largest(exchange: &Exchange) -> u64 {
    let files = fs::read_dir(exchange.state().join("spool")).unwrap().flatten();
    let files = files.filter(|file| file.file_name() != "lock");
    files.filter_map(|file| file.metadata().ok()).map(|about| about.len()).max().unwrap_or(0)
}
