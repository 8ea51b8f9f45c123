//! Accounts that somebody tries on the page: the check of `packetboat check --online`, with the running proxy's tokens.
//!
//! The page asks for the steps while they happen. One attempt of an account runs at a time, few in all, and each ends in
//! bounded time. An attempt takes no session from a device, and no failure of it counts as a device's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::info;

use super::Admin;
use crate::lifecycle::unix_time;
use crate::proxy::{LoginChecks, StepState, TriedStep, readiness};
use crate::transport::http::server::{Request, Response};

/// The newest attempt of each account.
#[derive(Default)]
pub(super) struct Attempts(Mutex<BTreeMap<String, Attempt>>);

/// One attempt, with its steps so far.
struct Attempt {
    /// Seconds since 1970.
    begun: u64,
    steps: Vec<TriedStep>,
    /// The result, once it has ended.
    result: Option<AttemptResult>,
}

struct AttemptResult {
    is_ready: bool,
    /// The last line of `packetboat check --online`.
    summary: String,
}

/// The reason for not beginning an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Busy {
    /// The account is being tried.
    Account,
    /// Too many other accounts are being tried.
    Others,
}

impl Attempts {
    fn begin(&self, account: &str) -> Result<(), Busy> {
        let mut all = self.0.lock();
        let running = all.iter().filter(|(_, attempt)| attempt.result.is_none());
        let running: Vec<&String> = running.map(|(name, _)| name).collect();
        if running.iter().any(|name| *name == account) {
            return Err(Busy::Account);
        }
        if running.len() >= AT_A_TIME {
            return Err(Busy::Others);
        }
        if all.len() >= MOST_KEPT && !all.contains_key(account) {
            let ended = all.iter().filter(|(_, attempt)| attempt.result.is_some());
            let oldest = ended.min_by_key(|(_, attempt)| attempt.begun).map(|(name, _)| name.clone());
            oldest.and_then(|name| all.remove(&name));
        }
        all.insert(account.to_owned(), Attempt { begun: unix_time(), steps: Vec::new(), result: None });
        Ok(())
    }

    /// Takes in a step: a new one, or the next state of the last one.
    fn report(&self, account: &str, step: TriedStep) {
        let mut all = self.0.lock();
        let Some(attempt) = all.get_mut(account) else { return };
        match attempt.steps.last_mut() {
            Some(last) if last.name == step.name => *last = step,
            _ => attempt.steps.push(step),
        }
    }

    fn end(&self, account: &str, is_ready: bool, summary: String) {
        if let Some(attempt) = self.0.lock().get_mut(account) {
            // A step that was cut short has not succeeded.
            for step in attempt.steps.iter_mut().filter(|step| step.state == StepState::Running) {
                step.state = StepState::Failed;
            }
            attempt.result = Some(AttemptResult { is_ready, summary });
        }
    }

    /// The attempts by account, for the page.
    pub(super) fn to_json(&self) -> Value {
        let all = self.0.lock();
        all.iter().map(|(name, attempt)| (name.clone(), attempt.to_json())).collect::<serde_json::Map<_, _>>().into()
    }
}

impl Attempt {
    fn to_json(&self) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(step_to_json).collect();
        json!({
            "begun": self.begun,
            "steps": steps,
            "ready": self.result.as_ref().map(|result| result.is_ready),
            "summary": self.result.as_ref().map(|result| result.summary.as_str()),
        })
    }
}

fn step_to_json(step: &TriedStep) -> Value {
    let state = match step.state {
        StepState::Running => "running",
        StepState::Ok => "ok",
        StepState::Failed => "failed",
    };
    json!({ "name": step.name, "state": state, "text": step.text, "advice": step.advice })
}

impl Admin {
    /// Begins to try the account of the request, and answers at once.
    pub(super) async fn try_account(self: &Arc<Self>, received: &Request) -> Response {
        let account = received.field("account").unwrap_or_default();
        let Some(checks) = self.serving.read().await.login_checks(account) else {
            return Response::text(404, "the running configuration has no such account that devices log in to\n");
        };
        match self.attempts.begin(account) {
            Ok(()) => {}
            Err(Busy::Account) => return Response::text(409, "this account is being tried already\n"),
            Err(Busy::Others) => {
                let words = format!("{AT_A_TIME} accounts are being tried already: wait until one has ended\n");
                return Response::text(429, words);
            }
        }
        info!(account, "an account is tried: somebody asked for it on the page");
        tokio::spawn(run(Arc::clone(self), account.to_owned(), checks));
        Response::text(202, "begun\n")
    }
}

async fn run(admin: Arc<Admin>, account: String, checks: LoginChecks) {
    let attempts = &admin.attempts;
    let trying = checks.try_account(&account, |step| attempts.report(&account, step));
    let failed = readiness(1, &[&account]);
    match timeout(LONGEST, trying).await {
        Ok(true) => attempts.end(&account, true, readiness(1, &[])),
        Ok(false) => attempts.end(&account, false, failed),
        Err(_) => {
            let longest = humantime::format_duration(LONGEST);
            attempts.end(&account, false, format!("{failed} (no result within {longest})"));
        }
    }
}

/// The most attempts at a time.
const AT_A_TIME: usize = 4;
/// The most accounts whose newest attempt is kept.
const MOST_KEPT: usize = 100;
/// The longest attempt: a token, and a login by each protocol at a server that hardly answers.
const LONGEST: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_bounded() {
        let attempts = Attempts::default();
        for number in 0..MOST_KEPT * 2 {
            let name = format!("account{number}");
            assert_eq!(attempts.begin(&name), Ok(()));
            attempts.end(&name, true, readiness(1, &[]));
        }
        assert_eq!(attempts.0.lock().len(), MOST_KEPT);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(attempts.begin(name), Ok(()));
        }
        assert_eq!((attempts.begin("e"), attempts.begin("a")), (Err(Busy::Others), Err(Busy::Account)));
        attempts.end("a", false, readiness(1, &["a"]));
        assert_eq!(attempts.begin("e"), Ok(()));
    }

    #[test]
    fn a_step_is_replaced_by_its_next_state() {
        let attempts = Attempts::default();
        attempts.begin("a").unwrap();
        let step = |name: &str, state| TriedStep { name: name.to_owned(), state, text: "x".to_owned(), advice: None };
        for (name, state) in [("token", StepState::Running), ("token", StepState::Ok), ("IMAP", StepState::Running)] {
            attempts.report("a", step(name, state));
        }
        let states = |json: &Value| -> Vec<Value> {
            json["a"]["steps"].as_array().unwrap().iter().map(|step| step["state"].clone()).collect()
        };
        assert_eq!(states(&attempts.to_json()), ["ok", "running"]);
        attempts.end("a", false, readiness(1, &["a"]));
        let json = attempts.to_json();
        assert_eq!(states(&json), ["ok", "failed"]);
        assert_eq!(json["a"]["summary"], "0 of 1 account ready; not ready: a");
    }
}
