//! These tests prove that a wall clock that is wrong or leaps by years breaks neither tokens nor sessions.
//!
//! The proxy measures them by a clock that does not leap.

use std::fs;

use openssl::x509::X509;

use support::clock::Clock;
use support::exchange::*;
use support::proxy::Proxy;
use support::strain;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// A proxy by this clock.
fn proxy(clock: &Clock, exchange: &Exchange, configuration: &str) -> Proxy {
    Proxy::start_by(clock.program(), Some(&exchange.state()), "debug", configuration, None)
}

fn end(mut proxy: Proxy) {
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    let said = proxy.log.to_the_end();
    assert!(!said.contains("panicked") && !said.contains("ERROR"), "{said}");
}

/// When something of this metric ends, in seconds since 1970.
fn ends(proxy: &Proxy, what: &str) -> i64 {
    i64::try_from(proxy.metric(&format!("packetboat_{what}_token_expiry_timestamp_seconds"), "")).unwrap()
}

/// The clock leaps years ahead, years back, and right again, while the proxy runs.
#[test]
fn the_clock_leaps_while_the_proxy_runs() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let clock = Clock::new(&exchange.state());
    let proxy = proxy(&clock, &exchange, &configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
    let issued = exchange.simulator.counts().tokens_issued;
    let mut device = imap(&proxy);
    device.login(LOGIN, PASSWORD);
    for ahead in [5 * YEAR, -20 * YEAR, 300 * DAY, 0] {
        clock.set(ahead);
        let until = now() + ahead;
        // Values from before the leap may be shown for another second.
        strain::until("expiry by the new clock", || (60..6_000).contains(&(ends(&proxy, "access") - until)));
        let ends = ends(&proxy, "refresh");
        assert!((89 * DAY..91 * DAY).contains(&(ends - until)), "{ahead}: {ends} {until}");
        device.ok("NOOP");
        // In five years the mail server's certificate will have expired, and an operator must act.
        let answer = if ahead > YEAR { "NO [CONTACTADMIN]" } else { "OK" };
        let said = imap_login(&proxy);
        assert!(said.starts_with(answer), "{ahead}: {said}");
        // The delays of guesses follow the clock that does not leap.
        if ahead == -20 * YEAR {
            let wrong = support::imap::status(&imap(&proxy).command(&format!("LOGIN {LOGIN} wrong")));
            assert!(wrong.starts_with("NO [AUTHENTICATIONFAILED]"), "{ahead}: {wrong}");
        }
        let end = || proxy.status()["history"]["end"].as_i64().unwrap();
        strain::until("end of the charts by the new clock", || (end() - until).abs() < 600);
        let status = proxy.status();
        assert_eq!(status["devices"].as_array().unwrap().len(), 1, "{ahead}: {status}");
    }
    assert_eq!(exchange.simulator.counts().tokens_issued, issued, "the token that is there is used");
    end(proxy);
}

/// The clock is wrong when tokens are kept and devices seen, or wrong now.
#[test]
fn the_clock_is_wrong_at_the_start() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let clock = Clock::new(&exchange.state());
    for ahead in [300 * DAY, 0, -20 * YEAR, 0] {
        clock.set(ahead);
        let before = exchange.simulator.counts().tokens_issued;
        let proxy = proxy(&clock, &exchange, &configuration);
        assert!(imap_login(&proxy).starts_with("OK"), "{ahead}");
        exchange.until("refresh", |counts| counts.tokens_issued > before);
        let until = now() + ahead;
        let is_renewed = || (89 * DAY..91 * DAY).contains(&(ends(&proxy, "refresh") - until));
        strain::until(&format!("expiry by the clock of {ahead}"), is_renewed);
        end(proxy);
    }
    let counts = exchange.simulator.counts();
    assert_eq!((counts.authorizations, counts.token_refusals), (1, 0));
}

/// A computer without a battery starts in 1970. Certificates and tokens made then are valid once the clock is set.
#[test]
fn certificates_that_are_made_in_1970() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let clock = Clock::new(&exchange.state());
    clock.set(100 - now());
    // The mail server's certificate is not valid yet, and the device is told to try again.
    let proxy = proxy(&clock, &exchange, &configuration);
    let answer = imap_login(&proxy);
    assert!(answer.starts_with("NO [UNAVAILABLE]"), "{answer}");
    let line =
        proxy.log.wait_for("warning of the certificate", |line| line.contains("WARN") && line.contains("certificate"));
    assert!(line.to_lowercase().contains("clock") || line.contains("not valid yet"), "{line}");
    let made = fs::read(exchange.state().join("default.pem")).unwrap();
    for name in ["default.pem", "ca.pem"] {
        let made = X509::from_pem(&fs::read(exchange.state().join(name)).unwrap()).unwrap();
        let in_nine_years = openssl::asn1::Asn1Time::days_from_now(9 * 365).unwrap();
        assert!(made.not_after() > &*in_nine_years, "{name} until {}", made.not_after());
    }
    // The network sets the clock, and everything works without a restart.
    clock.set(0);
    strain::until("login", || imap_login(&proxy).starts_with("OK"));
    end(proxy);
    assert!(fs::read(exchange.state().join("default.pem")).unwrap() == made);
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}
