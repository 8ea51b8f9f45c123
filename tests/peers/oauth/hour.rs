//! These tests prove, on a clock that the test sets, which tokens are kept fresh, and how rarely the endpoint is asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packetboat::config::Config;
use packetboat::failure::{Failure, Kind};
use packetboat::lifecycle::{self, Trigger};
use packetboat::mode::Mode;
use packetboat::simulator::Counts;
use packetboat::simulator::quirks::Fault;
use packetboat::token::{AccessToken, CachedToken, Tokens};
use tokio::runtime::{Builder, Runtime};

use support::exchange::*;
use support::process::PATIENCE;

/// The tokens of a configuration, with a clock of their own. They are refreshed only while the test waits for
/// something.
struct Hour {
    runtime: Runtime,
    tokens: Arc<Tokens>,
    slot: Arc<CachedToken>,
    _trigger: Trigger,
}

impl Hour {
    fn begin(exchange: &Exchange, identity: &str) -> Self {
        let state = exchange.state();
        let text = format!("state_directory = {state:?}\n{}", exchange.configuration(identity));
        let proven = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}"));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let tokens = Arc::new(Tokens::open(&proven.config, Mode::Apply, None, None).unwrap());
        let (trigger, lifecycle) = lifecycle::begin();
        runtime.block_on(async { tokens.keep_fresh(&lifecycle) });
        let slot = Arc::clone(tokens.of("scans").unwrap());
        Self { runtime, tokens, slot, _trigger: trigger }
    }

    /// Advances the clock by this many seconds.
    fn pass(&self, seconds: u64) {
        self.runtime.block_on(async {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            tokio::time::resume();
        });
    }

    /// The token's remaining life in seconds, by this clock.
    fn left(&self) -> u64 {
        let token = self.access().unwrap();
        let _context = self.runtime.enter();
        token.left().as_secs()
    }

    /// The token that replaces one that a server has refused.
    fn instead_of(&self, token: &Arc<AccessToken>) -> Option<Arc<AccessToken>> {
        self.runtime.block_on(self.slot.instead_of(token))
    }

    /// Asks for a token as a device does.
    fn access(&self) -> Result<Arc<AccessToken>, Failure> {
        self.runtime.block_on(self.slot.access())
    }

    fn until(&self, exchange: &Exchange, what: &str, condition: impl FnMut(&Counts) -> bool) -> Counts {
        let waiting = async {
            let seen = tokio::time::timeout(PATIENCE, exchange.simulator.until(condition)).await;
            // The answer is still on its way, and the clock must not change before it has come.
            self.tokens.settle().await;
            seen
        };
        self.runtime.block_on(waiting).unwrap_or_else(|_| panic!("no {what}: {:?}", exchange.simulator.counts()))
    }
}

fn fault(exchange: &Exchange, fault: Option<Fault>) {
    exchange.quirk(|quirks| quirks.endpoint.fault = fault);
}

/// The endpoint is down for an hour after a token was fetched. Devices notice nothing, and the endpoint is asked a few
/// times. When the token ends, devices are told to try later; then the endpoint works again.
#[test]
fn down_for_an_hour() {
    let exchange = Exchange::new();
    let hour = Hour::begin(&exchange, BY_SECRET);
    assert!(hour.left() > 4500);
    fault(&exchange, Some(Fault::Down));
    // The token counts as stale between 45 % and 55 % of 4512 s.
    hour.pass(2000);
    hour.access().unwrap();
    assert_eq!(exchange.requests(), 1);
    hour.pass(500);
    hour.until(&exchange, "refresh ahead of time", |counts| counts.token_refusals == 1);
    for round in 2..=4 {
        hour.pass(365);
        hour.access().unwrap();
        hour.until(&exchange, "another try", |counts| counts.token_refusals >= round);
    }
    assert!(exchange.requests() <= 8, "{}", exchange.requests());
    hour.pass(860);
    hour.access().unwrap();
    hour.pass(60);
    let failure = hour.access().err().unwrap();
    assert_eq!(failure.kind, Kind::TokenUnavailable, "{failure}");
    fault(&exchange, None);
    hour.pass(365);
    hour.until(&exchange, "recovery", |counts| counts.tokens_issued == 2);
    assert!(hour.left() > 4000);
}

/// A token is renewed while it is still valid, and no device waits.
#[test]
fn renewed_ahead_of_time() {
    let exchange = Exchange::new();
    let hour = Hour::begin(&exchange, BY_SECRET);
    let first = hour.access().unwrap();
    for number in 2..=4 {
        hour.pass(2500);
        hour.until(&exchange, "next one", |counts| counts.tokens_issued == number);
    }
    let last = hour.access().unwrap();
    assert!(first.secret().expose() != last.secret().expose());
    assert_eq!(exchange.requests(), 4);
}

/// After a day without a device, an application's token is not renewed; the next device gets a new one at once.
#[test]
fn unused_tokens_are_not_renewed() {
    let exchange = Exchange::new();
    let hour = Hour::begin(&exchange, BY_SECRET);
    hour.access().unwrap();
    hour.pass(30 * 60 * 60);
    hour.pass(30 * 60 * 60);
    let before = exchange.requests();
    assert!(before <= 2, "{before}");
    hour.access().unwrap();
    assert!(exchange.requests() > before);
}

/// A sign-in that no device uses is renewed once a week, so that it does not expire.
#[test]
fn renewed_weekly_without_devices() {
    const DAY: u64 = 24 * 60 * 60;
    let exchange = Exchange::new();
    exchange.sign_in(&exchange.configuration(BY_PERSON));
    let hour = Hour::begin(&exchange, BY_PERSON);
    hour.access().unwrap();
    let before = exchange.simulator.counts().grant("refresh_token");
    for week in 1..=3 {
        for _ in 0..3 {
            hour.pass(2 * DAY);
        }
        assert_eq!(exchange.simulator.counts().grant("refresh_token"), before + week - 1, "the week is not over");
        hour.pass(DAY + 60);
        hour.until(&exchange, "weekly renewal", |counts| counts.grant("refresh_token") == before + week);
    }
}

/// A permanent failure is tried again after a minute, and then more and more rarely.
#[test]
fn permanent_failures_are_retried_ever_more_rarely() {
    let exchange = Exchange::new();
    let sign_in = exchange.configuration(BY_PERSON);
    exchange.sign_in(&sign_in);
    let before = exchange.requests();
    fault(&exchange, Some(Fault::Error("invalid_grant", 70_008)));
    let hour = Hour::begin(&exchange, BY_PERSON);
    assert_eq!(hour.access().err().unwrap().kind, Kind::TokenRefused);
    fault(&exchange, None);
    hour.pass(45);
    assert_eq!(hour.access().err().unwrap().kind, Kind::TokenRefused);
    assert_eq!(exchange.requests() - before, 1);
    hour.pass(30);
    hour.access().unwrap();
    assert_eq!(exchange.requests() - before, 2);
}

/// A new sign-in is noticed without a device that asks.
#[test]
fn a_new_sign_in_is_noticed() {
    let exchange = Exchange::new();
    let hour = Hour::begin(&exchange, BY_PERSON);
    assert!(hour.access().err().unwrap().detail.contains("packetboat login scans"));
    exchange.sign_in(&exchange.configuration(BY_PERSON));
    let before = exchange.requests();
    hour.pass(11);
    hour.until(&exchange, "refresh", |counts| counts.tokens_issued > before);
    hour.access().unwrap();
    assert_eq!(exchange.requests() - before, 1);
}

/// The secret's file is read for each request.
#[test]
fn a_secret_that_is_replaced() {
    let exchange = Exchange::new();
    exchange.file("SECRET", "expired");
    let hour = Hour::begin(&exchange, BY_SECRET);
    assert_eq!(hour.access().err().unwrap().kind, Kind::TokenRefused);
    exchange.file("SECRET", SECRET);
    hour.pass(75);
    hour.access().unwrap();
}

#[test]
fn retry_after_in_minutes() {
    let exchange = Exchange::new();
    fault(&exchange, Some(Fault::Status(429, Some(600))));
    let hour = Hour::begin(&exchange, BY_SECRET);
    hour.access().err().unwrap();
    fault(&exchange, None);
    hour.pass(590);
    assert_eq!(hour.access().err().unwrap().kind, Kind::TokenUnavailable);
    assert_eq!(exchange.requests(), 1);
    hour.pass(11);
    hour.access().unwrap();
    assert_eq!(exchange.requests(), 2);
}

/// A token that a server refuses is replaced once: neither while it is young, nor again within five minutes.
#[test]
fn a_token_that_a_server_refuses_is_replaced_once() {
    let exchange = Exchange::new();
    let hour = Hour::begin(&exchange, BY_SECRET);
    let first = hour.access().unwrap();
    assert!(hour.instead_of(&first).is_none(), "too young to be to blame");
    hour.pass(61);
    let second = hour.instead_of(&first).unwrap();
    assert!(first.secret().expose() != second.secret().expose());
    assert!(Arc::ptr_eq(&second, &hour.instead_of(&first).unwrap()), "another one is there already");
    hour.pass(61);
    assert!(hour.instead_of(&second).is_none(), "once in five minutes");
    assert_eq!(exchange.requests(), 2);
}

/// The token does not open one mailbox, and the endpoint is down; the other mailboxes keep using the token.
#[test]
fn a_refused_token_stays_for_other_mailboxes() {
    let exchange = Exchange::new();
    let hour = Hour::begin(&exchange, BY_SECRET);
    let token = hour.access().unwrap();
    fault(&exchange, Some(Fault::Down));
    hour.pass(61);
    assert!(hour.instead_of(&token).is_none());
    assert!(Arc::ptr_eq(&token, &hour.access().unwrap()));
}

/// Devices that wait for the same token share it, however short its life.
#[test]
fn waiting_devices_share_even_a_short_token() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 40);
    let hour = Hour::begin(&exchange, BY_SECRET);
    hour.access().unwrap();
    hour.pass(35);
    hour.runtime.block_on(async {
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let slot = Arc::clone(&hour.slot);
                tokio::spawn(async move { slot.access().await })
            })
            .collect();
        for one in waiting {
            one.await.unwrap().unwrap();
        }
    });
    assert_eq!(exchange.requests(), 2);
}

/// An endpoint that reports a nonsensical lifetime is not asked without end.
#[test]
fn a_lifetime_of_zero_causes_one_request() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.expires_in = 0);
    let hour = Hour::begin(&exchange, BY_SECRET);
    for _ in 0..20 {
        hour.access().unwrap();
    }
    assert_eq!(exchange.requests(), 1);
}
