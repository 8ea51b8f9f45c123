//! These tests prove how a kept message is delivered: to each recipient once, counted like any other message, and not
//! while Exchange Online throttles the mailbox.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use packetboat::simulator::RepeatedError;
use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::SmtpMoment;
use serde_json::json;
use support::exchange::*;
use support::proxy::{Proxy, translating_listener};
use support::strain::until;

use super::kept::{KEPT, fault, in_spool, keeping};
use super::kept_commands::{ids, messages, said};
use super::{MESSAGE, Scanner};

const OTHER: &str = "other@contoso.example";

/// A message to two recipients that the server has refused for the moment.
fn keep_one(exchange: &Exchange, proxy: &Proxy) {
    fault(exchange, SmtpMoment::Mail, Some("451 4.3.2 busy"), None);
    let mut scanner = Scanner::log_in(proxy);
    scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{SCAN}>"));
    scanner.ok(&format!("RCPT TO:<{OTHER}>"));
    scanner.ok("DATA");
    scanner.0.send(stuffed(MESSAGE));
    assert_eq!(scanner.reply(), KEPT);
    exchange.quirk(|quirks| quirks.smtp.faults.clear());
}

fn retry(proxy: &Proxy) {
    let [id] = <[String; 1]>::try_from(ids(proxy)).unwrap();
    said(proxy, &["retry", &id]);
}

fn by_account(proxy: &Proxy, result: &str, reason: &str) -> u64 {
    let labels = format!("account=\"scans\",reason=\"{reason}\",result=\"{result}\"");
    proxy.metric("packetboat_mailbox_messages_total", &labels)
}

#[test]
fn one_deferred_recipient_does_not_hold_the_others() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    keep_one(&exchange, &proxy);
    fault(&exchange, SmtpMoment::Recipient, Some("450 4.2.0 later"), Some(1));
    retry(&proxy);
    proxy.log.wait_for("the line", |line| line.contains("kept message sent to 1 of 2 recipients"));
    proxy
        .log
        .wait_for("the wait", |line| line.contains("a kept message waits for its next attempt: it is sent to others"));
    let [left] = <[_; 1]>::try_from(messages(&proxy)).unwrap();
    assert_eq!((&left["recipients"], &left["may_exist_twice"]), (&json!([SCAN]), &json!(false)), "{left}");
    // Another process knows it, too.
    drop(proxy);
    let proxy = keeping(&exchange, "");
    retry(&proxy);
    until("an empty spool", || in_spool(&exchange) == 0);
    let sent: Vec<_> = exchange.simulator.submissions().into_iter().map(|one| one.recipients).collect();
    assert_eq!(sent, [[OTHER], [SCAN]]);
    assert!(!proxy.log.all().contains("once more"), "no second copy is possible");
}

/// Messages that the spool sends count by account and for the recipients of a day, as those of a device's session do.
#[test]
fn a_kept_message_counts_when_it_is_sent() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    keep_one(&exchange, &proxy);
    assert_eq!(by_account(&proxy, "accepted", "none"), 0);
    fault(&exchange, SmtpMoment::EndOfData, Some("451 4.3.2 busy"), Some(1));
    retry(&proxy);
    proxy.log.wait_for("the wait", |line| line.contains("a kept message waits for its next attempt"));
    retry(&proxy);
    until("an empty spool", || in_spool(&exchange) == 0);
    until("the counts", || by_account(&proxy, "accepted", "none") == 1);
    assert_eq!(by_account(&proxy, "deferred", "message_deferred"), 1);
    assert_eq!(proxy.metric("packetboat_mailbox_recipients_day", "account=\"scans\""), 2);
}

/// The answer that comes after the device has left counts as well.
#[test]
fn a_late_answer_counts() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "patience = \"100ms\"\n");
    exchange.quirk(|quirks| quirks.smtp.final_delay = Duration::from_secs(1));
    let mut scanner = Scanner::log_in(&proxy);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    until("an empty spool", || in_spool(&exchange) == 0);
    until("the counts", || by_account(&proxy, "accepted", "none") == 1);
    assert_eq!(proxy.metric("packetboat_mailbox_recipients_day", "account=\"scans\""), 1);
}

/// The drain waits for an answer that comes after the device has left, so that the message is not sent a second time.
#[test]
fn the_drain_waits_for_a_late_answer() {
    let exchange = Exchange::new();
    let mut proxy = keeping(&exchange, "patience = \"100ms\"\n");
    exchange.quirk(|quirks| quirks.smtp.final_delay = Duration::from_secs(3));
    let mut scanner = Scanner::log_in(&proxy);
    assert_eq!(scanner.submit(&stuffed(MESSAGE)), KEPT);
    scanner.ok("QUIT");
    proxy.until_open(0);
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    assert_eq!((in_spool(&exchange), exchange.simulator.messages(SCAN)), (0, 1), "{}", proxy.log.all());
}

/// Exchange Online has 550 for a throttle. It is no refusal of the message, and the mailbox is left alone.
#[test]
fn a_throttled_mailbox_is_left_alone_and_loses_nothing() {
    let exchange = Exchange::new();
    let proxy = keeping(&exchange, "");
    keep_one(&exchange, &proxy);
    exchange.simulator.throttle_submission(SCAN, Some(RepeatedError::SendAsDenied));
    retry(&proxy);
    let line = proxy.log.wait_for("the hold", |line| line.contains("kept messages wait for their mail server"));
    assert!(line.contains("mail server throttles the mailbox") && line.contains("next try in 1"), "{line}");
    until("the count", || by_account(&proxy, "deferred", "mailbox_throttled") == 1);
    let tries = || (messages(&proxy)[0]["attempts"].clone(), messages(&proxy)[0]["state"].clone());
    assert_eq!(tries(), (json!(2), json!("waiting")));
    // Nobody asks the server meanwhile, not even for an operator, and that is no try. A device's message is kept.
    let asked = exchange.simulator.counts().mail_connections;
    retry(&proxy);
    until("the hold", || said(&proxy, &["show", &ids(&proxy)[0]]).contains("the mail server throttles this mailbox"));
    assert_eq!(tries(), (json!(2), json!("waiting")));
    assert_eq!(Scanner::log_in(&proxy).submit(&stuffed(MESSAGE)), KEPT);
    assert_eq!(exchange.simulator.counts().mail_connections, asked);
    assert_eq!((in_spool(&exchange), exchange.simulator.messages(SCAN)), (2, 0));
}

/// A way to the server that takes a few octets and then nothing for a while.
struct Narrow {
    address: SocketAddr,
    is_open: Arc<AtomicBool>,
}

impl Narrow {
    fn before(server: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(64).unwrap();
        let listener = TcpListener::from(socket);
        let (address, is_open) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let open = Arc::clone(&is_open);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).unwrap();
                let (back, home) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let open = Arc::clone(&open);
                thread::spawn(move || pass(client, server, &open));
                thread::spawn(move || pass(back, home, &AtomicBool::new(true)));
            }
        });
        Self { address, is_open }
    }
}

/// Passes octets on while the way is open.
fn pass(mut from: TcpStream, mut to: TcpStream, is_open: &AtomicBool) {
    let mut octets = [0; 4096];
    loop {
        while !is_open.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        match from.read(&mut octets) {
            Ok(count) if count > 0 && to.write_all(&octets[..count]).is_ok() => {}
            _ => {
                let _ = to.shutdown(std::net::Shutdown::Write);
                return;
            }
        }
    }
}

/// The server stops reading, at whatever place in the message that is: in its content, or when packetboat has all of it and
/// the end has not left. The message is kept, and arrives once.
#[test]
fn a_server_that_reads_slowly_and_answers_late_gets_each_message_once() {
    let exchange = Exchange::new();
    let way = Narrow::before(exchange.simulator.smtp());
    let frame = exchange.frame() + &format!("[upstream.exchange.smtp]\nport = {}\n", way.address.port());
    let listener = translating_listener("smtps", "smtp", "implicit", "spool = \"fallback\"\n");
    let more = "[spool]\npatience = \"300ms\"\n[submission]\nmessages_per_minute = 10000\n";
    let below = exchange.identity(BY_SECRET) + &account("scans", SCAN, "") + more;
    let proxy = exchange.proxy(&(frame + &listener + &below));
    let count = |words: &str| proxy.log.all().matches(words).count();
    let (mut sent, mut less, mut more) = (0, 0_usize, 16_384_usize);
    // What the sockets on the way hold is found by bisection. It changes on a busy computer, and so a message that ends just
    // behind it may not be among the tries.
    while count(NOT_TAKEN) == 0 && sent < 20 {
        let kibibytes = less.midpoint(more);
        sent += 1;
        way.is_open.store(true, Ordering::Relaxed);
        let mut scanner = Scanner::log_in(&proxy);
        scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
        scanner.ok(&format!("RCPT TO:<{SCAN}>"));
        scanner.ok("DATA");
        way.is_open.store(false, Ordering::Relaxed);
        let text = [MESSAGE, "page page page\r\n".repeat(kibibytes * 64).as_bytes()].concat();
        let (open, answered) = (Arc::clone(&way.is_open), Arc::new(AtomicBool::new(false)));
        let is_answered = Arc::clone(&answered);
        let opens = thread::spawn(move || {
            let began = Instant::now();
            // A device whose message does not fit is not answered before.
            while !is_answered.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(4) {
                thread::sleep(Duration::from_millis(5));
            }
            open.store(true, Ordering::Relaxed);
        });
        scanner.0.send(stuffed(&text));
        let answer = scanner.reply();
        assert!(answer.starts_with("250 "), "{kibibytes} KiB: {answer}");
        // The device was answered while nothing went on.
        let is_whole = !way.is_open.load(Ordering::Relaxed);
        answered.store(true, Ordering::Relaxed);
        opens.join().unwrap();
        (less, more) = if is_whole { (kibibytes, more) } else { (less, kibibytes) };
        if more - less < 4 {
            // The sockets hold more or less from one time to the next.
            (less, more) = (less.saturating_sub(100), more + 100);
        }
    }
    for id in ids(&proxy) {
        // It may be under way, or have been sent.
        let _ = super::kept_commands::spool(&proxy, &["retry", &id]);
    }
    until("an empty spool", || in_spool(&exchange) == 0);
    assert_eq!(exchange.simulator.messages(SCAN), sent, "{}", proxy.log.all());
}

const NOT_TAKEN: &str = "message kept in the spool: the mail server did not take the whole message in time";
