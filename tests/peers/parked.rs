//! These tests prove parked connections: a device that polls costs the mail server one login, and never notices which
//! connection it has.

mod dovecot;
mod ends;
mod programs;
mod refused;
mod stale;
mod stress;

use std::time::{Duration, Instant};

use support::exchange::*;
use support::imap::{Imap, status};
use support::process::PATIENCE;
use support::proxy::Proxy;

/// A proxy that parks connections to this server, with more keys below the upstream.
fn parking(exchange: &Exchange, more: &str, accounts: &str) -> Proxy {
    exchange.proxy(&configuration(exchange, more, accounts))
}

fn configuration(exchange: &Exchange, more: &str, accounts: &str) -> String {
    let below = format!("[upstream.exchange]\npark = \"5m\"\n{more}\n");
    exchange.configured(BY_SECRET, accounts).replacen("[upstream.exchange]\n", &below, 1)
}

/// The same, once the login that is compared with its parked connection has been. Two connections have been parked.
fn compared(exchange: &Exchange, more: &str, accounts: &str) -> Proxy {
    let proxy = parking(exchange, more, accounts);
    for count in [1, 2] {
        polls(&proxy, LOGIN).ok("LOGOUT");
        until_parked(&proxy, count);
    }
    proxy
}

fn scans() -> String {
    account("scans", SCAN, "")
}

/// A device of that login that has selected its mailbox.
fn polls(proxy: &Proxy, login: &str) -> Imap {
    let mut device = imap(proxy);
    device.login(login, PASSWORD);
    device.ok("SELECT INBOX");
    device
}

/// Waits until so many connections have been parked since the start. The page may show numbers of a moment ago, so that
/// only those that rise are waited for.
#[track_caller]
fn until_parked(proxy: &Proxy, count: u64) {
    until(proxy, "packetboat_parked_total", "", count);
}

/// Waits until a metric has this value.
#[track_caller]
fn until(proxy: &Proxy, name: &str, labels: &str, value: u64) {
    let deadline = Instant::now() + PATIENCE;
    while proxy.metric(name, labels) != value {
        assert!(Instant::now() < deadline, "{name} {labels} is not {value}\n{}", numbers(proxy));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The metrics of parked connections.
fn numbers(proxy: &Proxy) -> String {
    proxy.metrics().lines().filter(|line| line.starts_with("packetboat_parked")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_device_that_polls_ten_times_logs_in_once() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &scans());
    for poll in 0..10 {
        let message = support::message(1000 + poll);
        assert!(exchange.simulator.deliver(SCAN, message.clone()));
        let mut device = polls(&proxy, LOGIN);
        assert!(device.fetch(poll + 1) == message, "the message that came between two polls is there");
        device.ok("LOGOUT");
        until_parked(&proxy, poll as u64 + 1);
    }
    // The second one dials as well, and is compared with the first one for stale mail.
    until(&proxy, "packetboat_parked_taken_total", "", 8);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.imap().accepted, counts.mail_connections, counts.most_sessions), (2, 2, 2));
    until(&proxy, "packetboat_logins_total", "listener=\"imap\"", 10);
    until(&proxy, "packetboat_parked_connections", "", 1);
    until(&proxy, "packetboat_parked_ended_total", "full", 1);
    until(&proxy, "packetboat_parked_stale_total", "", 0);
    // The log says the same, a line a session.
    proxy.logs(2, "\"server_connection\":\"dialled\"");
    proxy.logs(8, "\"server_connection\":\"parked\"");
}

/// Without `park` nothing is parked, and LOGOUT is the server's to answer.
#[test]
fn parking_is_off_by_default() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let parts = polls(&proxy, LOGIN).ok("LOGOUT");
    assert!(format!("{parts:?}").contains("signing off"), "{parts:?}");
    exchange.until("end", |counts| counts.open_sessions() == 0);
    assert_eq!(proxy.metric("packetboat_parked_total", ""), 0);
}

#[test]
fn a_password_is_verified_before_a_parked_connection_is_taken() {
    let exchange = Exchange::new();
    let proxy = compared(&exchange, "", &scans());
    let answer = status(&imap(&proxy).command(&format!("LOGIN {LOGIN} another")));
    assert!(answer.starts_with("NO "), "{answer}");
    let line = proxy.log.wait_for("end", |line| line.contains("session ended") && line.contains("\"device_closed\""));
    assert!(!line.contains("server_connection"), "it has had none: {line}");
    // The right one takes it.
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 3);
    until(&proxy, "packetboat_parked_taken_total", "", 1);
}

/// An account of the mailbox of somebody else, which the same application may open.
const OTHER: &str = "other@contoso.example";

fn two_mailboxes() -> Exchange {
    Exchange::with(|tenant| {
        tenant.users.push(packetboat::simulator::User::new(OTHER, "another password"));
        tenant.app_mailboxes.push(OTHER.to_owned());
    })
}

#[test]
fn two_devices_of_one_mailbox_share_and_two_mailboxes_never() {
    let exchange = two_mailboxes();
    assert!(exchange.simulator.deliver(SCAN, b"Subject: of scan\r\n\r\nscan\r\n".to_vec()));
    assert!(exchange.simulator.deliver(OTHER, b"Subject: of other\r\n\r\nother\r\n".to_vec()));
    let second = account("scans", SCAN, "").replace(LOGIN, "scanner4");
    let second = &second[second.find("[[device]]").unwrap()..];
    let accounts = format!("{}{second}{}", scans(), account("other", OTHER, ""));
    let proxy = parking(&exchange, "", &accounts);
    let polled = [(LOGIN, "scan"), ("other", "other"), ("scanner4", "scan"), ("other", "other"), (LOGIN, "scan")];
    for (poll, (login, owns)) in polled.into_iter().enumerate() {
        let mut device = polls(&proxy, login);
        let message = String::from_utf8(device.fetch(1)).unwrap();
        assert!(message.contains(&format!("Subject: of {owns}")), "{login}: {message}");
        device.ok("LOGOUT");
        until_parked(&proxy, poll as u64 + 1);
    }
    until(&proxy, "packetboat_parked_taken_total", "", 2);
    // One login of each mailbox, and the one that is compared.
    assert_eq!(exchange.simulator.counts().imap().accepted, 3);
    // The lines of the log name the device that was there, and not the one that logged in to the server.
    proxy.log.wait_for("line of scanner4", |line| line.contains("session ended") && line.contains("\"scanner4\""));
}

/// A device without the right to delete starts anew at a connection of one that has it, and the other way round.
#[test]
fn the_right_to_delete_is_the_devices_own() {
    let exchange = Exchange::new();
    for _ in 0..2 {
        assert!(exchange.simulator.deliver(SCAN, support::message(500)));
    }
    let second = account("scans", SCAN, "").replace(LOGIN, "scanner4");
    let second = second[second.find("[[device]]").unwrap()..].to_owned() + "delete = false\n";
    let proxy = compared(&exchange, "", &format!("{}{second}", scans()));
    let mut guarded = polls(&proxy, "scanner4");
    guarded.ok("STORE 1 +FLAGS.SILENT (\\Seen)");
    assert!(status(&guarded.command("EXPUNGE")).starts_with("NO [NOPERM]"));
    guarded.ok("LOGOUT");
    until_parked(&proxy, 3);
    assert_eq!(exchange.simulator.messages(SCAN), 2);
    let mut other = polls(&proxy, LOGIN);
    other.ok("STORE 1 +FLAGS (\\Deleted)");
    other.ok("EXPUNGE");
    other.ok("LOGOUT");
    until_parked(&proxy, 4);
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    until(&proxy, "packetboat_parked_taken_total", "", 2);
}

/// \Deleted stays after LOGOUT: nothing that packetboat does expunges.
#[test]
fn parking_expunges_nothing() {
    let exchange = Exchange::new();
    assert!(exchange.simulator.deliver(SCAN, support::message(500)));
    let proxy = compared(&exchange, "", &scans());
    let mut device = polls(&proxy, LOGIN);
    device.ok("STORE 1 +FLAGS (\\Deleted)");
    device.ok("LOGOUT");
    until_parked(&proxy, 3);
    assert_eq!(exchange.simulator.messages(SCAN), 1);
    let mut device = polls(&proxy, LOGIN);
    assert!(format!("{:?}", device.ok("FETCH 1 FLAGS")).contains("\\Deleted"));
}

/// A mailbox that was selected without a wait for the answer before is not selected for the next device.
#[test]
fn a_connection_comes_without_a_selected_mailbox() {
    let exchange = Exchange::new();
    assert!(exchange.simulator.deliver(SCAN, support::message(500)));
    let proxy = compared(&exchange, "", &scans());
    for (round, commands) in ["CLOSE\r\nx2 SELECT INBOX", "UNSELECT\r\nx2 EXAMINE INBOX"].into_iter().enumerate() {
        let mut device = polls(&proxy, LOGIN);
        device.say(commands);
        for tag in ["s", "x2"] {
            assert!(status(&device.answer(tag)).starts_with("OK"), "{commands}");
        }
        device.ok("LOGOUT");
        until_parked(&proxy, 2 * round as u64 + 3);
        let mut next = imap(&proxy);
        next.login(LOGIN, PASSWORD);
        let answer = status(&next.command("FETCH 1 FLAGS"));
        assert!(answer.starts_with("BAD "), "{commands}: {answer}");
        next.ok("LOGOUT");
        until_parked(&proxy, 2 * round as u64 + 4);
    }
    until(&proxy, "packetboat_parked_taken_total", "", 4);
}

/// A connection that keeps something of its session is not parked, nor one with a command unknown to packetboat.
#[test]
fn a_session_that_leaves_something_is_logged_out() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &scans());
    for command in ["ENABLE CONDSTORE", "NOTIFY NONE", "LANGUAGE de", "X-ANYTHING", "SELECT INBOX (CONDSTORE)", "UID X"]
    {
        let mut device = polls(&proxy, LOGIN);
        device.command(command);
        let parts = device.ok("LOGOUT");
        assert!(format!("{parts:?}").contains("signing off"), "{command}: {parts:?}");
        exchange.until("end", |counts| counts.open_sessions() == 0);
    }
    // A session that merely breaks off is not parked either.
    drop(polls(&proxy, LOGIN));
    exchange.until("end", |counts| counts.open_sessions() == 0);
    assert_eq!(proxy.metric("packetboat_parked_total", ""), 0);
}

/// The only session of the mailbox is parked: a device by POP3 gets it at once, after the server has seen the end.
#[test]
fn a_parked_connection_gives_way() {
    let exchange = Exchange::new();
    let accounts = scans() + "[limits]\nsessions_per_mailbox = 1\nmailbox_queue = \"50s\"\n";
    let proxy = parking(&exchange, "", &accounts);
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 1);
    let began = Instant::now();
    let answer = pop3_login(&proxy);
    assert!(answer.starts_with("+OK"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(20), "it waits for no timeout");
    until(&proxy, "packetboat_parked_ended_total", "gave_way", 1);
    assert_eq!(exchange.simulator.counts().most_sessions, 1, "the two were never there at a time");
}

#[test]
fn a_reload_and_the_drain_end_it() {
    let exchange = Exchange::new();
    let proxy = parking(&exchange, "", &scans());
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 1);
    assert_eq!(proxy.reload().0, 0);
    until(&proxy, "packetboat_parked_ended_total", "reload", 1);
    exchange.until("end", |counts| counts.open_sessions() == 0);
    polls(&proxy, LOGIN).ok("LOGOUT");
    until_parked(&proxy, 2);
    proxy.process.signal("TERM");
    exchange.until("end", |counts| counts.open_sessions() == 0);
}

/// A connection that is too old, or has been parked for its time, is logged out.
#[test]
fn its_time_ends() {
    for times in ["park_age = \"300ms\"", "park_age = \"5m\""] {
        let exchange = Exchange::new();
        let configuration = configuration(&exchange, times, &scans());
        let configuration = match times {
            "park_age = \"5m\"" => configuration.replacen("park = \"5m\"", "park = \"300ms\"", 1),
            _ => configuration,
        };
        let proxy = exchange.proxy(&configuration);
        polls(&proxy, LOGIN).ok("LOGOUT");
        exchange.until("end", |counts| counts.imap().accepted == 1 && counts.open_sessions() == 0);
        polls(&proxy, LOGIN).ok("LOGOUT");
        assert_eq!(exchange.simulator.counts().imap().accepted, 2, "{times}");
    }
}

/// A parked connection that does not answer NOOP with OK is not used: the login dials, and the device never notices.
#[test]
fn a_connection_that_is_lost_while_it_is_parked() {
    let exchange = Exchange::new();
    let proxy = compared(&exchange, "", &account("scans", SCAN, "probe = false"));
    exchange.quirk(|quirks| quirks.mail.unavailable = Some(packetboat::simulator::quirks::Moment::Command));
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    exchange.quirk(|quirks| quirks.mail.unavailable = None);
    device.ok("SELECT INBOX");
    device.ok("LOGOUT");
    until_parked(&proxy, 3);
    until(&proxy, "packetboat_parked_lost_total", "", 1);
    until(&proxy, "packetboat_parked_taken_total", "", 0);
}
