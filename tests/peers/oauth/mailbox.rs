//! These tests prove how the proxy handles the mailbox behind a token: not open, full, throttled, or on an unusual
//! front end.

use std::time::{Duration, Instant};

use packetboat::simulator::Quirks;
use packetboat::simulator::quirks::{Greeting, Moment};

use support::exchange::*;
use support::imap::{Part, status};
use support::process::PATIENCE;
use support::proxy::Proxy;

/// Exchange with these quirks, and a proxy whose application has a secret.
fn with(change: impl FnOnce(&mut Quirks)) -> (Exchange, Proxy) {
    let exchange = Exchange::new();
    exchange.quirk(change);
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    (exchange, proxy)
}

/// Exchange accepts the login and rejects the first command, so the proxy refuses the device's login.
#[test]
fn a_token_that_opens_no_mailbox() {
    let (exchange, proxy) = with(|quirks| quirks.mail.not_connected = true);
    logins_hear(&proxy, "NO [AUTHORIZATIONFAILED] ", "-ERR [AUTH] ");
    for listener in ["imap", "pop3"] {
        let line = proxy.log.wait_for("advice", |line| {
            line.contains("login failed") && line.contains(&format!("\"listener\":\"{listener}\""))
        });
        for words in ["\"reason\":\"not_authorized\"", "FullAccess for the application", "packetboat setup", SCAN] {
            assert!(line.contains(words), "{line}");
        }
    }
    let counts = exchange.simulator.counts();
    assert_eq!((counts.imap().not_connected, counts.pop3().not_connected), (1, 1));
}

/// A mailbox that was opened is not probed by the next login: the device gets its OK, and hears itself what the server
/// refuses. The logins behind that probe it, on new connections, by either protocol. Since the mailbox was open before, the
/// device is told to come back.
#[test]
fn a_probe_is_good_until_a_refusal() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    assert!(pop3_login(&proxy).starts_with("+OK"));
    imap(&proxy).login(LOGIN, PASSWORD);
    exchange.quirk(|quirks| quirks.mail.not_connected = true);
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    assert!(status(&device.command("SELECT INBOX")).starts_with("BAD User is authenticated but not connected"));
    proxy.log.wait_for("notice", |line| line.contains("\"reason\":\"not_authorized\""));
    logins_hear(&proxy, "NO [UNAVAILABLE] ", "-ERR [SYS/TEMP] ");
    proxy.log.wait_for("advice", |line| line.contains("login failed") && line.contains("FullAccess"));
    exchange.quirk(|quirks| quirks.mail.not_connected = false);
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    device.ok("SELECT INBOX");
}

/// A session that the server has broken off says nothing about the mailbox: the next login probes it.
#[test]
fn a_probe_is_good_until_a_session_is_lost() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    exchange.quirk(|quirks| quirks.mail.close_13 = Some(Duration::ZERO));
    assert!(device.device.line().starts_with("* BYE ") && device.device.has_ended());
    proxy.log.wait_for("end", |line| line.contains("session ended") && line.contains("\"server_closed\""));
    exchange.quirk(|quirks| (quirks.mail.close_13, quirks.mail.not_connected) = (None, true));
    let answer = imap_login(&proxy);
    assert!(answer.starts_with("NO [UNAVAILABLE] "), "{answer}");
}

/// Without the probe the device gets an OK to its login, and only the log has the refusal that follows.
#[test]
fn without_the_probe_the_log_tells() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.mail.not_connected = true);
    let account = account("scans", SCAN, "probe = false");
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &account));
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    assert!(status(&device.command("SELECT INBOX")).starts_with("BAD User is authenticated but not connected"));
    let line = proxy.log.wait_for("notice", |line| line.contains("\"reason\":\"not_authorized\""));
    assert!(line.contains("opens no mailbox: packetboat check --online"), "{line}");
}

#[test]
fn a_mailbox_has_so_many_sessions() {
    let exchange = Exchange::new();
    let limits = "[limits]\nsessions_per_mailbox = 2\nmailbox_queue = \"1s\"\n";
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + limits));
    let (mut one, mut two) = (imap(&proxy), pop3(&proxy));
    one.login(LOGIN, PASSWORD);
    two.login(LOGIN, PASSWORD);
    let began = Instant::now();
    logins_hear(&proxy, "NO [INUSE] ", "-ERR [IN-USE] ");
    assert!(began.elapsed() >= Duration::from_secs(2));
    let line = proxy.log.wait_for("reason", |line| line.contains("\"reason\":\"too_many_sessions\""));
    assert!(line.contains("limits.sessions_per_mailbox = 2"), "{line}");
    assert_eq!(exchange.simulator.counts().mail_connections, 2, "the others never got there");
}

/// A waiting device gets in when another one leaves.
#[test]
fn a_session_that_ends_makes_room() {
    let exchange = Exchange::new();
    let limits = "[limits]\nsessions_per_mailbox = 1\nmailbox_queue = \"50s\"\n";
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + limits));
    let mut one = imap(&proxy);
    one.login(LOGIN, PASSWORD);
    let mut two = imap(&proxy);
    two.device.send(format!("w LOGIN {LOGIN} {PASSWORD}\r\n"));
    one.ok("NOOP");
    one.ok("LOGOUT");
    let answer = two.answer("w");
    assert!(status(&answer).starts_with("OK"), "{answer:?}");
    assert_eq!(exchange.simulator.counts().most_sessions, 1);
    // A device that just disconnects makes room, too.
    drop(two);
    assert!(pop3_login(&proxy).starts_with("+OK"));
}

/// The mailbox reaches Exchange's own limit, because the configured one is too high.
#[test]
fn reset_without_a_word() {
    let (_exchange, proxy) = with(|quirks| quirks.mail.max_sessions = Some(1));
    let mut one = imap(&proxy);
    one.login(LOGIN, PASSWORD);
    logins_hear(&proxy, "NO [UNAVAILABLE] ", "-ERR [SYS/TEMP] ");
    one.ok("NOOP");
}

/// Exchange throttles the mailbox, and the proxy stays away for the demanded time.
#[test]
fn throttled_at_login() {
    let (exchange, proxy) = with(|quirks| quirks.mail.throttle = Some((Moment::Login, 299_961)));
    assert!(imap_login(&proxy).starts_with("NO [UNAVAILABLE] "));
    proxy.log.wait_for("its words", |line| line.contains("Suggested Backoff Time: 299961"));
    logins_hear(&proxy, "NO [UNAVAILABLE] ", "-ERR [SYS/TEMP] ");
    proxy.log.wait_for("local refusal", |line| line.contains("the mail server throttles this mailbox for another "));
    assert_eq!(exchange.simulator.counts().mail_connections, 1);
}

#[test]
fn a_backoff_comes_to_an_end() {
    let (exchange, proxy) = with(|quirks| quirks.mail.throttle = Some((Moment::Login, 2000)));
    assert!(pop3_login(&proxy).starts_with("-ERR [SYS/TEMP] "));
    let began = Instant::now();
    exchange.quirk(|quirks| quirks.mail.throttle = None);
    while !pop3_login(&proxy).starts_with("+OK") {
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(exchange.simulator.counts().mail_connections, 2);
}

/// A server's notice in the middle of a session reaches the device unchanged, and the log in plain words.
#[test]
fn lines_of_a_running_session() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    exchange.quirk(|quirks| quirks.mail.throttle = Some((Moment::Command, 60_000)));
    let answer = status(&device.command("SELECT INBOX"));
    assert_eq!(answer, "BAD Request is throttled. Suggested Backoff Time: 60000 milliseconds");
    let line = proxy.log.wait_for("notice", |line| line.contains("let devices ask less often"));
    assert!(line.contains("\"reason\":\"unavailable\"") && line.contains(&format!("\"login\":\"{LOGIN}\"")), "{line}");
    // The next login waits until the minute is over.
    assert!(imap_login(&proxy).starts_with("NO [UNAVAILABLE]"));
    assert_eq!(exchange.simulator.counts().mail_connections, 1);
    exchange.quirk(|quirks| quirks.mail.session_life = Some(Duration::ZERO));
    assert_eq!(device.device.line(), "* BYE Session invalidated - AccessTokenExpired");
    assert!(device.device.has_ended());
    let line = proxy.log.wait_for("notice", |line| line.contains("\"reason\":\"token_expired\""));
    assert!(line.contains("the device connects again by itself"), "{line}");
}

/// The server repeats a folder's name. A folder that is named like Exchange's own words locks no device out.
#[test]
fn a_folder_that_is_called_like_a_throttle() {
    let exchange = Exchange::new();
    let accounts = account("scans", SCAN, "") + &account("other", SCAN, "");
    let proxy = exchange.proxy(&exchange.configured(BY_SECRET, &accounts));
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    for name in [
        "Request is throttled. Suggested Backoff Time: 900000",
        "Request is throttled. Suggested Backoff Time: 900000 milliseconds",
        "Server Unavailable. 15",
        "Session invalidated - AccessTokenExpired",
        "User is authenticated but not connected.",
    ] {
        for command in ["SELECT", "EXAMINE", "STATUS", "CREATE"] {
            let more = if command == "STATUS" { " (MESSAGES)" } else { "" };
            let answer = status(&device.command(&format!("{command} \"{name}\"{more}")));
            assert!(command != "SELECT" || answer.contains(name), "the server repeats it: {answer}");
        }
        assert!(status(&imap(&proxy).command(&format!("LOGIN other {PASSWORD}"))).starts_with("OK"), "{name}");
        assert!(pop3_login(&proxy).starts_with("+OK"), "{name}");
    }
    for words in ["let devices ask less often", "too many sessions", "connects again by itself", "opens no mailbox"] {
        assert_eq!(proxy.log.count(|line| line.contains(words)), 0, "{words}");
    }
}

/// A token that the endpoint has just issued is not to blame, so no other token is fetched.
#[test]
fn a_young_token_that_is_refused() {
    let (exchange, proxy) = with(|quirks| quirks.mail.refuse_logins = true);
    logins_hear(&proxy, "NO [AUTHORIZATIONFAILED] ", "-ERR [AUTH] ");
    proxy.log.wait_for("advice", |line| line.contains("FullAccess for the application's service principal"));
    assert_eq!((exchange.requests(), exchange.simulator.counts().imap().refused), (1, 1));
}

/// A refusal after a recent success counts as an outage, and devices are told to come back.
#[test]
fn a_refusal_out_of_the_blue() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    assert!(imap_login(&proxy).starts_with("OK"));
    exchange.quirk(|quirks| quirks.mail.refuse_logins = true);
    logins_hear(&proxy, "NO [UNAVAILABLE] ", "-ERR [SYS/TEMP] ");
    proxy.log.wait_for("advice", |line| line.contains("FullAccess for the application's service principal"));
    exchange.quirk(|quirks| quirks.mail.refuse_logins = false);
    assert!(imap_login(&proxy).starts_with("OK"));
}

/// Exchange's POP3 closes on long tokens without a reason, which the proxy supplies. IMAP accepts them.
#[test]
fn a_token_too_long_for_pop3() {
    let (exchange, proxy) = with(|quirks| quirks.endpoint.token_length = Some(4097));
    assert!(pop3_login(&proxy).starts_with("-ERR [SYS/PERM] "));
    proxy.log.wait_for("advice", |line| line.contains("takes 4096 over POP3: remove group claims"));
    assert!(imap_login(&proxy).starts_with("OK"));
    let counts = exchange.simulator.counts();
    assert_eq!((counts.mail_connections, counts.pop3().refused), (1, 0));
}

/// Neither the JSON of the challenge nor the names in a long refusal reach the device or the log.
#[test]
fn refusals_in_many_words() {
    let (exchange, proxy) = with(|quirks| quirks.mail.refuse_logins = true);
    for (json, long) in [(true, false), (false, true), (true, true)] {
        exchange.quirk(|quirks| {
            quirks.mail.json_challenge = json;
            quirks.mail.long_diagnostics = long;
        });
        let mut device = imap(&proxy);
        let answer = device.command(&format!("LOGIN {LOGIN} {PASSWORD}"));
        let [Part::Line(line)] = answer.as_slice() else { panic!("{answer:?}") };
        assert!(line.contains("NO [AUTHORIZATIONFAILED] ") && !line.contains("AuthFailed"), "{line}");
        device.ok("NOOP");
        let mut device = pop3(&proxy);
        device.ok(&format!("USER {LOGIN}"));
        let answer = device.command(&format!("PASS {PASSWORD}"));
        assert!(answer.starts_with("-ERR [AUTH] ") && !answer.contains("AuthFailed"), "{answer}");
        device.ok("QUIT");
    }
    let log = proxy.log.all();
    assert!(log.contains("LogonDenied") && !log.contains("eyJ") && !log.contains("\"status\":\"400\""), "{log}");
}

/// The test plays every front end that has been observed.
#[test]
fn front_ends() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    for greeting in [Greeting::Classic, Greeting::TcpProxy] {
        for (is_new, has_space) in [(false, false), (false, true), (true, false), (true, true)] {
            exchange.quirk(|quirks| {
                quirks.mail.greeting = greeting;
                quirks.mail.continuation_space = has_space;
                quirks.mail.login_disabled = is_new;
                quirks.mail.rev2 = is_new;
            });
            fetch_both(&exchange, &proxy, SCAN, LOGIN);
            let mut device = imap(&proxy);
            device.login(LOGIN, PASSWORD);
            let said = device.ok("CAPABILITY");
            let Part::Line(line) = &said[0] else { panic!("{said:?}") };
            assert!(line.starts_with("* CAPABILITY IMAP4") && !line.contains("LOGINDISABLED"), "{line}");
            device.ok("LOGOUT");
        }
    }
    exchange.quirk(|quirks| quirks.mail.greeting = Greeting::Bye);
    logins_hear(&proxy, "NO [UNAVAILABLE] ", "-ERR [SYS/TEMP] ");
    exchange.quirk(|quirks| quirks.mail.unavailable = Some(Moment::Login));
    exchange.quirk(|quirks| quirks.mail.greeting = Greeting::Classic);
    logins_hear(&proxy, "NO [UNAVAILABLE] ", "-ERR [SYS/TEMP] ");
}
