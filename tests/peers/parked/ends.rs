//! These tests prove that a device notices nothing of a parked connection that ends: its login dials then.

use packetboat::simulator::quirks::imap::ImapFault;
use packetboat::simulator::quirks::smtp::Afterwards;

use super::*;

fn fault(exchange: &Exchange, fault: ImapFault) {
    exchange.quirk(|quirks| quirks.imap.faults = vec![fault]);
}

/// A session that needs all of a mailbox: it sees the message, and logs out.
fn reads(proxy: &Proxy) {
    let mut device = polls(proxy, LOGIN);
    assert!(device.fetch(1) == support::message(900));
    let parts = device.ok("LOGOUT");
    assert!(format!("{parts:?}").contains("BYE"), "{parts:?}");
}

/// The token ends, the connection dies, or the server refuses or says nothing: in answer to NOOP of ours.
#[test]
fn noop_is_not_answered_with_ok() {
    let faults = [
        ImapFault::expired("NOOP"),
        ImapFault::silent("NOOP", Afterwards::Close),
        ImapFault::silent("NOOP", Afterwards::Reset),
        ImapFault::silent("NOOP", Afterwards::Hang),
        ImapFault::reply("NOOP", "TAG NO not now"),
        ImapFault::reply("NOOP", "TAG BAD Command Error. 12"),
        ImapFault::reply("NOOP", "* 3 EXISTS\r\nTAG OK NOOP completed."),
    ];
    for one in faults {
        let exchange = Exchange::new();
        assert!(exchange.simulator.deliver(SCAN, support::message(900)));
        let proxy = compared(&exchange, "", &account("scans", SCAN, "probe = false"));
        let name = format!("{one:?}");
        fault(&exchange, one);
        let began = Instant::now();
        reads(&proxy);
        assert!(began.elapsed() < Duration::from_secs(10), "{name}: NOOP has two seconds");
        until_parked(&proxy, 3);
        until(&proxy, "packetboat_parked_lost_total", "", 1);
        until(&proxy, "packetboat_parked_taken_total", "", 0);
        let counts = exchange.until("end of the lost one", |counts| counts.open_sessions() == 1);
        assert_eq!(counts.imap().accepted, 3, "{name}");
        // The next one takes the connection of the login that dialled.
        reads(&proxy);
        until(&proxy, "packetboat_parked_taken_total", "", 1);
    }
}

/// The token ends in answer to the device's own command: the session ends as that of a dialled one would, and no command
/// goes to the server a second time.
#[test]
fn the_token_ends_in_answer_to_the_devices_command() {
    let exchange = Exchange::new();
    assert!(exchange.simulator.deliver(SCAN, support::message(900)));
    let proxy = compared(&exchange, "", &scans());
    fault(&exchange, ImapFault::expired("SELECT"));
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    device.say("SELECT INBOX");
    let line = device.device.line();
    assert!(line.starts_with("* BYE "), "{line}");
    assert!(device.device.has_ended(), "nothing else comes");
    exchange.until("end", |counts| counts.open_sessions() == 0);
    until(&proxy, "packetboat_parked_taken_total", "", 1);
    assert_eq!(exchange.simulator.counts().imap().accepted, 2);
    until(&proxy, "packetboat_parked_connections", "", 0);
    reads(&proxy);
    until_parked(&proxy, 3);
    assert_eq!(exchange.simulator.counts().imap().accepted, 3);
}

/// The device has its answer to LOGOUT, and its connection dies within UNSELECT, or the server refuses that.
#[test]
fn unselect_is_not_answered_with_ok() {
    let faults = [
        ImapFault::expired("UNSELECT"),
        ImapFault::silent("UNSELECT", Afterwards::Close),
        ImapFault::silent("UNSELECT", Afterwards::Reset),
        ImapFault::silent("UNSELECT", Afterwards::Hang),
        ImapFault::reply("UNSELECT", "TAG NO not now"),
        ImapFault::reply("UNSELECT", "TAG BAD Command Error. 12"),
    ];
    for one in faults {
        let exchange = Exchange::new();
        assert!(exchange.simulator.deliver(SCAN, support::message(900)));
        let proxy = parking(&exchange, "", &scans());
        let name = format!("{one:?}");
        fault(&exchange, one);
        reads(&proxy);
        exchange.until("end", |counts| counts.imap().accepted == 1 && counts.open_sessions() == 0);
        assert_eq!(proxy.metric("packetboat_parked_total", ""), 0, "{name}");
        reads(&proxy);
        until_parked(&proxy, 1);
        assert_eq!(exchange.simulator.counts().imap().accepted, 2, "{name}");
    }
}

/// Nothing is parked at a server that does not announce UNSELECT, and it hears of no UNSELECT.
#[test]
fn a_server_without_unselect() {
    let exchange = Exchange::new();
    assert!(exchange.simulator.deliver(SCAN, support::message(900)));
    exchange.quirk(|quirks| quirks.mail.unselect = false);
    let proxy = parking(&exchange, "", &scans());
    for login in 1..=3 {
        reads(&proxy);
        exchange.until("end", |counts| counts.imap().accepted == login && counts.open_sessions() == 0);
    }
    assert_eq!(proxy.metric("packetboat_parked_total", ""), 0);
}

/// Tokens live for ten seconds: the connection ends before its token, although `park` and `park_age` leave it more time.
#[test]
fn its_token_ends() {
    let exchange = Exchange::new();
    assert!(exchange.simulator.deliver(SCAN, support::message(900)));
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 10);
    let proxy = parking(&exchange, "", &scans());
    reads(&proxy);
    until_parked(&proxy, 1);
    until(&proxy, "packetboat_parked_ended_total", "age", 1);
    exchange.until("end", |counts| counts.open_sessions() == 0);
    reads(&proxy);
    assert_eq!(exchange.simulator.counts().imap().accepted, 2);
}
