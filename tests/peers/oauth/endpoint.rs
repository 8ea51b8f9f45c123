//! These tests prove how devices fare with a slow, broken or refusing token endpoint, and how rarely it is asked.

use std::thread;
use std::time::{Duration, Instant};

use packetboat::simulator::User;
use packetboat::simulator::quirks::Fault;

use support::exchange::*;
use support::imap::status;

/// No device has a token until somebody signs in; then all devices connect at once.
#[test]
fn fifty_devices_at_once_cause_one_request() {
    let mailbox = |number| format!("scan{number}@contoso.example");
    let exchange = Exchange::with(|tenant| tenant.users[0].delegates.extend((0..50).map(mailbox)));
    let name = |number| if number == 0 { "scans".to_owned() } else { format!("scans{number}") };
    let user = format!("user = \"{SCAN}\"");
    let accounts: String = (0..50).map(|number| account(&name(number), &mailbox(number), &user)).collect();
    let limits = "[limits]\nconnections_per_source = 100\n";
    let configuration = exchange.configured(BY_PERSON, &accounts) + limits;
    let proxy = exchange.proxy(&configuration);
    proxy.log.wait_for("advice", |line| line.contains("has not signed in yet"));
    exchange.sign_in(&configuration);
    exchange.quirk(|quirks| quirks.endpoint.delay = Duration::from_secs(2));
    let before = exchange.requests();
    let mut devices: Vec<_> = (0..50).map(|_| imap(&proxy)).collect();
    thread::scope(|scope| {
        for (number, device) in devices.iter_mut().enumerate() {
            let login = if number == 0 { LOGIN.to_owned() } else { name(number) };
            scope.spawn(move || device.login(&login, PASSWORD));
        }
    });
    let counts = exchange.simulator.counts();
    assert_eq!((exchange.requests() - before, counts.imap().accepted, counts.open_sessions()), (1, 50, 50));
}

/// A device with a fetched token notices no outage.
#[test]
fn with_a_token_at_hand_the_endpoint_may_be_down() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    assert!(imap_login(&proxy).starts_with("OK"));
    exchange.quirk(|quirks| quirks.endpoint.fault = Some(Fault::Down));
    for _ in 0..10 {
        logins_hear(&proxy, "OK", "+OK");
    }
    assert_eq!(exchange.requests(), 1);
}

/// Without a token, devices are told at once to try later, and the endpoint is not asked for each of them. They log in
/// again once the endpoint works.
#[test]
fn temporary_failures_of_the_endpoint() {
    let ill = [Fault::Down, Fault::Status(500, None), Fault::Status(429, Some(1)), Fault::Html, Fault::Garbage];
    thread::scope(|scope| {
        for fault in ill {
            scope.spawn(|| passes(fault));
        }
    });
}

fn passes(fault: Fault) {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.fault = Some(fault.clone()));
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let line = proxy.log.wait_for("trouble", |line| line.contains("no access token at the moment"));
    assert!(line.contains("\"reason\":\"token_unavailable\"") && line.contains("WARN"), "{fault:?}: {line}");
    let began = Instant::now();
    for _ in 0..10 {
        assert!(imap_login(&proxy).starts_with("NO [UNAVAILABLE] "), "{fault:?}");
        assert!(pop3_login(&proxy).starts_with("-ERR [SYS/TEMP] "), "{fault:?}");
    }
    // The first pause is at least 4 s, the second 8 s.
    let most = 1 + began.elapsed().as_secs() / 4;
    assert!((1..=most).contains(&exchange.requests()), "{fault:?}: {} of {most}", exchange.requests());
    exchange.quirk(|quirks| quirks.endpoint.fault = None);
    exchange.until("recovery", |counts| counts.tokens_issued == 1);
    proxy.log.wait_for("recovery", |line| line.contains("access token again"));
    logins_hear(&proxy, "OK", "+OK");
}

#[test]
fn retry_after_is_honoured() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| {
        quirks.endpoint.fault = Some(Fault::Status(429, Some(8)));
        quirks.endpoint.fault_times = Some(1);
    });
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    proxy.log.wait_for("trouble", |line| line.contains("too many requests"));
    let began = Instant::now();
    assert!(imap_login(&proxy).starts_with("NO [UNAVAILABLE]"));
    exchange.until("second request", |counts| counts.tokens_issued == 1);
    let waited = began.elapsed();
    // The log line came a moment after the answer. Without Retry-After the pause would be at most 6 s.
    assert!(waited > Duration::from_millis(7500), "{waited:?}");
    assert_eq!(exchange.requests(), 2);
}

/// A refresh token that was refused once is kept.
#[test]
fn invalid_grant_deletes_nothing() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let [file] = exchange.tokens().try_into().unwrap();
    let kept = std::fs::read(&file).unwrap();
    exchange.quirk(|quirks| quirks.endpoint.fault = Some(Fault::Error("invalid_grant", 70_008)));
    let proxy = exchange.proxy(&configuration);
    let line = proxy.log.wait_for("trouble", |line| line.contains("says invalid_grant, AADSTS70008: the sign-in"));
    assert!(line.contains("packetboat login scans") && line.contains("\"reason\":\"token_refused\""), "{line}");
    for _ in 0..5 {
        logins_hear(&proxy, "NO [CONTACTADMIN] ", "-ERR [SYS/PERM] ");
    }
    drop(proxy);
    assert_eq!(exchange.simulator.counts().token_refusals, 1);
    assert_eq!(std::fs::read(&file).unwrap(), kept);
    exchange.quirk(|quirks| quirks.endpoint.fault = None);
    assert!(imap_login(&exchange.proxy(&configuration)).starts_with("OK"));
}

#[test]
fn a_wrong_secret_is_told_with_advice() {
    let exchange = Exchange::new();
    exchange.file("SECRET", "wrong-but-still-secret");
    let configuration = exchange.configuration(BY_SECRET);
    let proxy = exchange.proxy(&configuration);
    let line = proxy.log.wait_for("trouble", |line| line.contains("AADSTS7000215"));
    assert!(line.contains("put the secret's value into the file, not its id"), "{line}");
    logins_hear(&proxy, "NO [CONTACTADMIN] ", "-ERR [SYS/PERM] ");
    proxy.log.wait_for("session line", |line| line.contains("login failed: no access token until somebody acts"));
    assert!(!proxy.log.all().contains("wrong-but-still-secret"));
    assert_eq!(exchange.requests(), 1);
}

/// Each reason for refusing a person's account comes with advice.
#[test]
fn advice_by_number() {
    for (error, number, advice) in [
        ("invalid_grant", 50_126, "password is wrong or has expired: put the new one into password_file"),
        ("interaction_required", 50_076, "with this grant nobody can"),
        ("invalid_grant", 53_003, "Conditional Access"),
        ("invalid_grant", 65_001, "an administrator opens the consent address"),
        ("unauthorized_client", 700_016, "compare client_id and tenant"),
    ] {
        let exchange = Exchange::new();
        exchange.quirk(|quirks| quirks.endpoint.fault = Some(Fault::Error(error, number)));
        let ran = exchange.run(&["check", "--online"], &exchange.configuration(BY_SECRET));
        let said = format!("says {error}, AADSTS{number}: ");
        assert!(ran.output.contains(&said) && ran.output.contains(advice), "{}", ran.output);
    }
}

/// Two people who share one application have a token each.
#[test]
fn each_person_has_a_token() {
    let other = "other@contoso.example";
    let exchange = Exchange::with(|tenant| tenant.users.push(User::new(other, "another")));
    let [first, second] =
        [("first", SCAN_PASSWORD), ("second", "another")].map(|(name, password)| exchange.file(name, password));
    let accounts = account("scans", SCAN, &format!("password_file = {first:?}"))
        + &account("others", other, &format!("password_file = {second:?}"));
    let proxy = exchange.proxy(&exchange.configured("grant = \"password\"", &accounts));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    fetch_both(&exchange, &proxy, other, "others");
    assert_eq!(exchange.simulator.counts().grant("password"), 2);
    // One device's password opens no other device's mailbox.
    let accounts = account("scans", SCAN, &format!("password_file = {first:?}"))
        + &support::translated::device("guest", "scans", "its own", "");
    drop(proxy);
    let proxy = exchange.proxy(&exchange.configured("grant = \"password\"", &accounts));
    let answer = status(&imap(&proxy).command(&format!("LOGIN guest {PASSWORD}")));
    assert!(answer.starts_with("NO [AUTHENTICATIONFAILED]"), "{answer}");
}
