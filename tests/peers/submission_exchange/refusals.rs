//! These tests prove that each refusal of Exchange Online reaches the device as the right response, and the log as advice.

use packetboat::simulator::client::stuffed;
use packetboat::simulator::quirks::smtp::{Denial, LoginRefusal, SmtpFault, SmtpMoment};
use packetboat::simulator::{Quirks, RepeatedError};
use support::exchange::*;

use super::{MESSAGE, Scanner, proxy};

/// The device hears that its settings are not at fault, and the log says what the administrator has to do.
#[test]
fn each_refusal_of_a_login_says_what_to_do() {
    let switch = "Set-CASMailbox -SmtpClientAuthenticationDisabled $false";
    for (refusal, advice) in [
        (LoginRefusal::DisabledForTenant, switch),
        (LoginRefusal::DisabledForMailbox, switch),
        (LoginRefusal::SecurityDefaults, "security defaults of the directory block SMTP AUTH"),
        (LoginRefusal::Criteria, "Conditional Access or an authentication policy refuses this login"),
        (
            LoginRefusal::Unsuccessful,
            "it said \\\"535 5.7.3 Authentication unsuccessful [FR4P281CA0012.DEUP281.PROD.OUTLOOK.COM ",
        ),
    ] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        exchange.quirk(|quirks| quirks.smtp.login_refusal = Some(refusal));
        let (_, answer) = Scanner::try_to_log_in(&proxy);
        assert!(answer.starts_with("535 5.7."), "{refusal:?}: {answer}");
        proxy.log.wait_for("line of the refusal", |line| line.contains(advice));
        assert!(!proxy.log.all().contains(PASSWORD));
        assert_eq!(exchange.simulator.counts().smtp().accepted, 0);
    }
}

/// A fault of Exchange Online, the response that the device hears, and words of the log.
type Row = (&'static str, fn(&mut Quirks), &'static str, &'static str);

#[test]
fn each_refusal_of_a_message_reaches_the_device_in_its_words() {
    let rows: [Row; 6] = [
        ("full", |quirks| quirks.smtp.mailbox_full = true, "452 4.2.2 ", "Sent Items"),
        ("too big", |quirks| quirks.smtp.max_send_size = 10, "552 5.3.4 ", "MaxSendSize"),
        ("quota", |quirks| quirks.smtp.recipients_per_day = 0, "451 4.7.1 ", "number of recipients"),
        ("busy", |quirks| fault(quirks, "451 4.7.500 Server busy. Please try again later."), "451 4.7.1 ", "4.7.500"),
        ("passing", |quirks| fault(quirks, "451 4.7.0 Temporary server error. PRX4"), "451 4.7.0 ", "PRX4"),
        ("spam", |quirks| fault(quirks, "550 5.1.8 Bad outbound sender"), "550 5.1.8 ", "Restricted entities"),
    ];
    for (name, change, heard, logged) in rows {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        let mut scanner = Scanner::log_in(&proxy);
        exchange.quirk(change);
        let answer = scanner.submit(&stuffed(MESSAGE));
        assert!(answer.starts_with(heard), "{name}: {answer}");
        proxy.log.wait_for("line of the refusal", |line| line.contains(logged));
        assert_eq!((exchange.simulator.submissions().len(), exchange.simulator.messages(SCAN)), (1, 0), "{name}");
    }
}

fn fault(quirks: &mut Quirks, reply: &str) {
    quirks.smtp.faults.push(SmtpFault::reply(SmtpMoment::EndOfData, reply));
}

/// The mailbox has lost a right that packetboat counts on. 550 with the same number is the throttle, which passes.
#[test]
fn a_denied_sender_and_a_throttled_mailbox_are_told_apart() {
    for denial in [Denial::Permissions, Denial::SendAsDenied, Denial::StoreDriver] {
        let exchange = Exchange::new();
        let proxy = proxy(&exchange, BY_SECRET);
        exchange.quirk(|quirks| {
            quirks.smtp.denial = denial;
            quirks.smtp.sends_as_nobody = true;
        });
        let answer = Scanner::log_in(&proxy).submit(&stuffed(MESSAGE));
        assert!(answer.starts_with("550 5.7.1 "), "{denial:?}: {answer}");
        proxy.log.wait_for("line of the refusal", |line| line.contains("Add-RecipientPermission"));
    }
    let exchange = Exchange::new();
    let proxy = proxy(&exchange, BY_SECRET);
    exchange.simulator.throttle_submission(SCAN, Some(RepeatedError::SendAsDenied));
    let answer = Scanner::log_in(&proxy).submit(&stuffed(MESSAGE));
    assert!(answer.starts_with("451 4.7.1 "), "{answer}");
    proxy.log.wait_for("line of the throttle", |line| line.contains("Exchange Online takes nothing from this mailbox"));
}
