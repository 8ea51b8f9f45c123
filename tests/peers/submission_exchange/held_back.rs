//! These tests prove that a device that repeats an error is held back, before Exchange Online throttles its mailbox.

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{SmtpFault, SmtpMoment};
use support::exchange::*;
use support::proxy::{Proxy, translating_listener};
use support::strain::until;

use super::{MESSAGE, Scanner, proxy_at};

const HELD: &str = "450 4.7.1 held back after repeated refusals, try again later";
const LINE: &str = "this device sends nothing for 15m";

/// packetboat with two devices of one mailbox, and more lines for its account.
fn configuration(exchange: &Exchange, more: &str) -> String {
    let second = account("other", "o@contoso.example", "");
    let device = &second[second.find("[[device]]").unwrap()..];
    let device = device.replace("account = \"other\"", "account = \"scans\"");
    exchange.identity(BY_SECRET) + &account("scans", SCAN, more) + &device
}

fn mail(scanner: &mut Scanner) -> String {
    scanner.ask(&format!("MAIL FROM:<{SCAN}>"))
}

fn lines(proxy: &Proxy) -> usize {
    proxy.log.all().matches(LINE).count()
}

#[test]
fn two_refusals_of_a_sender_hold_the_device_back_and_no_other() {
    let exchange = Exchange::new();
    let proxy = proxy_at(&exchange, "", &configuration(&exchange, ""));
    exchange.quirk(|quirks| quirks.smtp.sends_as_nobody = true);
    let mut scanner = Scanner::log_in(&proxy);
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("550 5.7.1 "));
    assert_eq!(lines(&proxy), 0, "the first one may pass by itself");
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("550 5.7.1 "));
    proxy.log.wait_for("the advice", |line| line.contains(LINE) && line.contains("Add-RecipientPermission"));
    assert_eq!(mail(&mut scanner), HELD);
    // Another session of the device is held back as well, and another device is not.
    let mut again = Scanner::log_in(&proxy);
    assert_eq!(mail(&mut again), HELD);
    drop(again);
    exchange.quirk(|quirks| quirks.smtp.sends_as_nobody = false);
    let mut other = Scanner::log_in_as(&proxy, "other");
    assert!(other.submit(&stuffed(MESSAGE)).starts_with("250 2."));
    assert_eq!(mail(&mut scanner), HELD);
    assert_eq!((lines(&proxy), exchange.simulator.submissions().len()), (1, 3));
    // A reload that changes nothing changes nothing here either; one that changes the account ends it.
    let frame = || exchange.submission_frame() + &translating_listener("smtps", "smtp", "implicit", "");
    for (more, is_held) in [("", true), ("sender = \"envelope\"", false)] {
        proxy.configure(&(frame() + &configuration(&exchange, more)));
        let (code, said) = proxy.reload();
        assert_eq!(code, 0, "{said}");
        let answer = mail(&mut Scanner::log_in(&proxy));
        assert_eq!(answer == HELD, is_held, "{answer}");
    }
}

/// The time passes, and the log has the line again only for two more errors.
#[test]
fn a_device_is_held_back_for_its_time() {
    let exchange = Exchange::new();
    let limits = "[submission]\nhold_back = \"2s\"\n";
    let proxy = proxy_at(&exchange, "", &(configuration(&exchange, "") + limits));
    exchange.quirk(|quirks| quirks.smtp.sends_as_nobody = true);
    let mut scanner = Scanner::log_in(&proxy);
    for _ in 0..2 {
        assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("550 5.7.1 "));
    }
    exchange.quirk(|quirks| quirks.smtp.sends_as_nobody = false);
    assert_eq!(mail(&mut scanner), HELD);
    until("the end of the time", || mail(&mut scanner) != HELD);
    scanner.ok("RSET");
    assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."));
}

#[test]
fn each_error_that_is_repeated_counts_and_a_success_ends_the_row() {
    for (moment, reply) in [
        (SmtpMoment::EndOfData, "554 5.2.2 mailbox full; STOREDRV"),
        (SmtpMoment::EndOfData, "554 5.2.253 invalid license"),
        (SmtpMoment::EndOfData, "554 5.2.254 too many recipients"),
        (SmtpMoment::EndOfData, "554 5.2.255 invalid recipients"),
        (SmtpMoment::Recipient, "550 5.1.1 User unknown"),
    ] {
        let exchange = Exchange::new();
        let proxy = proxy_at(&exchange, "", &configuration(&exchange, ""));
        let mut scanner = Scanner::log_in(&proxy);
        let refused = |scanner: &mut Scanner| {
            exchange.quirk(|quirks| {
                let fault = SmtpFault { times: Some(1), ..SmtpFault::reply(moment, reply) };
                quirks.smtp.faults = vec![fault];
            });
            scanner.ok(&format!("MAIL FROM:<{SCAN}>"));
            let answer = scanner.ask(&format!("RCPT TO:<{SCAN}>"));
            if moment == SmtpMoment::EndOfData {
                scanner.ok("DATA");
                scanner.0.send(stuffed(MESSAGE));
                assert!(scanner.reply().starts_with(['4', '5']));
            } else {
                assert_eq!(answer, reply);
                scanner.ok("RSET");
            }
        };
        refused(&mut scanner);
        assert!(scanner.submit(&stuffed(MESSAGE)).starts_with("250 2."), "{reply}");
        refused(&mut scanner);
        refused(&mut scanner);
        assert_eq!(mail(&mut scanner), HELD, "{reply}");
        proxy.log.wait_for("the advice", |line| line.contains(LINE));
        assert_eq!(lines(&proxy), 1);
    }
}
