//! The messages of a minute from one mailbox, by running instances with one PostgreSQL in front of the simulated Exchange
//! Online.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::exchange::{LOGIN, PASSWORD, SCAN};
use support::proxy::Proxy;
use support::smtp::{Login, Smtp};
use support::stacks::{Start, TLS_1_0};

use crate::quota::Fleet;

fn connected(proxy: &Proxy) -> Smtp {
    let mut device = Smtp::greeted(TLS_1_0.connect(proxy.address("smtps"), Start::Implicit));
    device.log_in(Login::Plain, LOGIN, PASSWORD);
    device
}

/// Two devices send from one mailbox, each at an instance of its own, as fast as they may: together they send what one
/// instance would. With a pace for each instance it would be twice as much.
#[test]
fn messages_of_a_minute_are_those_of_all_instances() {
    let fleet = Fleet::start(&format!("submission.messages_per_minute = {PER_MINUTE}\n"), "");
    let (is_over, sent) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for (proxy, sent) in fleet.instances.iter().zip(&sent) {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut device = connected(proxy);
                while !is_over.load(Ordering::Relaxed) {
                    let answer = device.submit(SCAN, SCAN, MESSAGE);
                    assert!(answer.starts_with("250 2."), "{answer}");
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(MEASURED);
        is_over.store(true, Ordering::Relaxed);
    });
    let seconds = begun.elapsed().as_secs_f64();
    let [west, east] = sent.map(AtomicUsize::into_inner);
    // As many as in a minute at once, and then one after the other. Each instance takes a sixth of a minute's in advance.
    let most = PER_MINUTE as f64 * (1.0 + seconds / 60.0) + 2.0 * PER_MINUTE as f64 / 6.0;
    assert!(west + east <= most as usize, "{west} and {east} in {seconds} s");
    assert!(west + east >= PER_MINUTE, "{west} and {east} in {seconds} s");
    assert!(west >= 3 && east >= 3, "{west} and {east} in {seconds} s");
}

/// A message that the mail server refuses is none of the minute's: a device may mend it and send it again.
#[test]
fn refused_messages_do_not_count() {
    let fleet = Fleet::start(&format!("submission.messages_per_minute = {PER_MINUTE}\n"), "");
    let mut device = connected(&fleet.instances[0]);
    fleet.exchange.quirk(|quirks| quirks.smtp.max_send_size = 10);
    let begun = Instant::now();
    for _ in 0..2 * PER_MINUTE {
        let answer = device.submit(SCAN, SCAN, MESSAGE);
        assert!(answer.starts_with("552 "), "{answer}");
    }
    fleet.exchange.quirk(|quirks| quirks.smtp.max_send_size = 1000);
    for _ in 0..PER_MINUTE {
        let answer = device.submit(SCAN, SCAN, MESSAGE);
        assert!(answer.starts_with("250 "), "{answer}");
    }
    // Three minutes' messages take two minutes, if all of them count.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

/// A device has its recipients of an hour once in a fleet, although it comes by way of two instances. The second one knows
/// of the first one's within a minute, and its metric of the mailbox has them.
#[test]
fn recipients_of_an_hour_are_those_of_all_instances() {
    let fleet = Fleet::start("submission.recipients_per_hour_of_device = 5\n", "");
    let [west, east, _] = &fleet.instances;
    let send = |proxy: &Proxy| connected(proxy).submit(SCAN, SCAN, MESSAGE);
    (0..3).for_each(|_| assert!(send(west).starts_with("250 ")));
    let of_day = |proxy: &Proxy| proxy.metric("packetboat_mailbox_recipients_day", "account=\"scans\"");
    assert_eq!((of_day(west), of_day(east)), (3, 0));
    fleet.until("the other instance knows of them", || of_day(east) == 3);
    (0..2).for_each(|_| assert!(send(east).starts_with("250 ")));
    let answer = connected(east).ask(&format!("MAIL FROM:<{SCAN}>"));
    assert!(answer.starts_with("450 "), "{answer}");
    assert_eq!(of_day(east), 5);
    assert_eq!(fleet.exchange.simulator.counts().submissions.delivered, 5);
}

const PER_MINUTE: usize = 12;
const MEASURED: Duration = Duration::from_secs(40);
const MESSAGE: &[u8] = b"From: <scan@contoso.example>\r\nTo: <scan@contoso.example>\r\nSubject: page\r\n\r\nhello\r\n";
