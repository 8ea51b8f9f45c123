//! These tests prove that a connection is of no use to the next device where the mail server refuses the mailbox on it: it is
//! not parked, and the login behind a lost one tries the mailbox first.

use packetboat::simulator::quirks::imap::ImapFault;
use packetboat::simulator::quirks::smtp::Afterwards;

use super::*;

const NOT_CONNECTED: &str = "TAG BAD User is authenticated but not connected.";

fn fault(exchange: &Exchange, fault: ImapFault) {
    exchange.quirk(|quirks| quirks.imap.faults = vec![fault]);
}

/// The server opens no mailbox on the connection, and leaves it open. NOOP would be answered with OK on it.
#[test]
fn a_connection_without_its_mailbox_is_not_parked() {
    let refusals = [
        ("LIST", "LIST \"\" *", NOT_CONNECTED),
        ("FETCH", "FETCH 1 FLAGS", NOT_CONNECTED),
        // Any words will do where INBOX is refused.
        ("SELECT", "SELECT INBOX", "TAG NO [SERVERBUG] Internal error"),
        ("STATUS", "STATUS \"inbox\" (MESSAGES)", "TAG BAD Command Error. 12"),
    ];
    for (name, command, reply) in refusals {
        let exchange = Exchange::new();
        let proxy = compared(&exchange, "", &account("scans", SCAN, "probe = false"));
        let mut device = polls(&proxy, LOGIN);
        fault(&exchange, ImapFault::reply(name, reply));
        assert_eq!(status(&device.command(command)), reply.replace("TAG ", ""));
        // The server is still there, and the device goes on.
        device.ok("NOOP");
        device.ok("LOGOUT");
        exchange.until("end", |counts| counts.open_sessions() == 0);
        assert_eq!(proxy.metric("packetboat_parked_total", ""), 2, "{command}");
        polls(&proxy, LOGIN).ok("LOGOUT");
        assert_eq!(exchange.simulator.counts().imap().accepted, 3, "{command}: on a new connection");
        until_parked(&proxy, 3);
    }
}

/// One session hears that the mailbox is not open any more, and the connection that another device has left ends.
#[test]
fn a_parked_connection_ends_with_the_mailbox() {
    let exchange = Exchange::new();
    let proxy = compared(&exchange, "", &scans());
    let (mut taken, mut dialled) = (polls(&proxy, LOGIN), polls(&proxy, LOGIN));
    taken.ok("LOGOUT");
    until_parked(&proxy, 3);
    fault(&exchange, ImapFault::reply("LIST", NOT_CONNECTED));
    assert!(status(&dialled.command("LIST \"\" *")).starts_with("BAD "));
    until(&proxy, "packetboat_parked_ended_total", "refused", 1);
    exchange.until("end of the parked one", |counts| counts.open_sessions() == 1);
}

/// A parked connection is lost, within the time for which the mailbox's last probe is good. The server lets the login in, and
/// opens nothing: the device learns it by its login.
#[test]
fn the_login_behind_a_lost_connection_probes_the_mailbox() {
    for lost in [ImapFault::reply("NOOP", NOT_CONNECTED), ImapFault::silent("NOOP", Afterwards::Reset)] {
        let exchange = Exchange::new();
        let proxy = compared(&exchange, "", &scans());
        exchange.quirk(|quirks| quirks.mail.not_connected = true);
        let name = format!("{lost:?}");
        fault(&exchange, lost);
        let answer = imap_login(&proxy);
        assert!(answer.starts_with("NO [UNAVAILABLE] "), "{name}: {answer}");
        until(&proxy, "packetboat_parked_lost_total", "", 1);
        exchange.quirk(|quirks| quirks.mail.not_connected = false);
        polls(&proxy, LOGIN).ok("LOGOUT");
        until_parked(&proxy, 3);
    }
}
