//! `packetboat check --online` gets a token for each identity and logs in to each mailbox. It prints what fails, with
//! advice, and how many accounts are ready.

mod measures;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::error::{CommandError, Exit};
use super::output::{diagnostics_error, print, print_error};
use crate::config::{Account, Config, Proven};
use crate::confinement;
use crate::failure::{Failure, Kind};
use crate::protocol::Protocol;
use crate::proxy::{LoginChecks, LoginTimes, TriedStep, describe, readiness};
use crate::submission;
use crate::token::AccessToken;
use crate::transport::upstream::unresolved_localhost;
use measures::Measures;

/// The accounts that are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Those that fail.
    Failures,
    /// All of them.
    Everything,
}

/// The parts of a check beside the logins, and its form.
pub(super) struct Extent<'a> {
    /// Send a message to this address.
    pub(super) to: Option<&'a str>,
    /// Measure the logins, with this pause.
    pub(super) measure: Option<Duration>,
    /// Print JSON in place of text.
    pub(super) is_json: bool,
}

/// The accounts that are opened with one token, and that token.
struct TokenCheck<'a> {
    identity: &'a str,
    /// The person who has signed in, with grants of a person.
    person: Option<&'a str>,
    accounts: Vec<(&'a str, &'a Account)>,
    token: Result<Arc<AccessToken>, Failure>,
}

impl<'a> TokenCheck<'a> {
    /// Each account by name, with the token if there is one.
    fn accounts_with_token(&self) -> Vec<(&'a str, Option<Arc<AccessToken>>)> {
        let token = self.token.as_ref().ok();
        self.accounts.iter().map(|(name, _)| (*name, token.map(Arc::clone))).collect()
    }

    /// The exit code of a failed check: whether trying again without a change can help.
    fn exit(checks: &[Self]) -> Exit {
        let failures = || checks.iter().filter_map(|check| check.token.as_ref().err());
        if failures().any(|failure| failure.is_final) {
            Exit::Refused
        } else if failures().any(|failure| failure.kind == Kind::TokenRefused) {
            Exit::NotYet
        } else {
            Exit::Unavailable
        }
    }
}

/// Checks that the configuration has these accounts.
///
/// # Errors
/// One is not there.
pub(super) fn are_known(config: &Config, accounts: &[String]) -> Result<(), CommandError> {
    let Some(unknown) = accounts.iter().find(|name| !config.accounts.contains_key(*name)) else { return Ok(()) };
    let known: Vec<&str> = config.accounts.keys().map(String::as_str).collect();
    Err(Exit::Usage.because(format_args!("there is no account \"{unknown}\"; known are {}", known.join(", "))))
}

/// Checks that a test message can be sent to this address: one account is named, and it sends.
///
/// # Errors
/// It cannot.
pub(super) fn can_send(config: &Config, accounts: &[String], to: &str) -> Result<(), CommandError> {
    let [account] = accounts else {
        return Err(Exit::Usage.because("--send sends from one mailbox: name one --account"));
    };
    if !submission::is_entry(to) || to.starts_with('*') {
        return Err(Exit::Usage.because(format_args!("--send: \"{to}\" is no e-mail address")));
    }
    if !config.protocols_of(account).contains(&Protocol::SUBMISSION) {
        let why =
            "no device of the account sends: that needs a [[listener]] with protocol = \"smtp\"; see docs/send.md";
        return Err(Exit::Usage.because(why));
    }
    Ok(())
}

/// Tries these accounts, or all where none is named, to this extent. Returns the exit code where something failed, which
/// has been printed.
pub(super) fn check(
    file: &Path,
    proven: &Proven,
    accounts: &[String],
    extent: &Extent<'_>,
) -> Result<Option<Exit>, CommandError> {
    let config = &proven.config;
    confine(file, config);
    let runtime = super::runtime()?;
    let is_wanted = |name: &&str| accounts.is_empty() || accounts.iter().any(|one| one == name);
    let wanted: Vec<&str> = config.accounts.keys().map(String::as_str).filter(is_wanted).collect();
    let is_short = accounts.is_empty() && extent.measure.is_none() && !extent.is_json;
    let detail = if is_short { Detail::Failures } else { Detail::Everything };
    runtime.block_on(async {
        if let Some(why) = unresolved_localhost().await {
            print_error(format_args!("warning: {why}"));
        }
        let checks = LoginChecks::new(config).map_err(|diagnostics| diagnostics_error(proven, &diagnostics))?;
        if wanted.is_empty() && !extent.is_json {
            return print("no account to try\n").map(|()| None);
        }
        let mut tokens: Vec<TokenCheck<'_>> = Vec::new();
        for name in &wanted {
            get_token(config, &checks, name, &mut tokens).await;
        }
        for check in tokens.iter().filter(|_| !extent.is_json) {
            print(token_line(check))?;
        }
        let accounts: Vec<_> = tokens.iter().flat_map(TokenCheck::accounts_with_token).collect();
        let measure = extent.measure;
        let checks = Arc::new(AccountChecks { config: config.clone(), logins: checks, detail, measure });
        let mut failed = Vec::new();
        let mut results = Vec::new();
        let mut show = |name, result: AccountResult| {
            if !result.is_ready {
                failed.push(name);
            }
            if !extent.is_json {
                let measured = result.measured(proven, name).map(|one| one.text());
                return print(result.text + &measured.unwrap_or_default());
            }
            results.push(result.json(proven, name));
            Ok(())
        };
        try_accounts(&checks, &accounts, &mut show).await?;
        if let (Some(to), [name], []) = (extent.to, wanted.as_slice(), failed.as_slice())
            && !checks.send(name, to).await?
        {
            failed.push(name);
        }
        checks.logins.settle().await;
        if extent.is_json {
            let tokens: Vec<Value> = tokens.iter().map(token_json).collect();
            print(format_args!("{:#}\n", json!({ "tokens": tokens, "accounts": results })))?;
        } else {
            print(format_args!("{}\n", readiness(wanted.len(), &failed)))?;
        }
        Ok((!failed.is_empty()).then(|| TokenCheck::exit(&tokens)))
    })
}

/// Fetches the tokens of one identity, and logs in nowhere. Returns the exit code where a token failed.
pub(super) fn check_identity(file: &Path, proven: &Proven, identity: &str) -> Result<Option<Exit>, CommandError> {
    let config = &proven.config;
    let accounts = config.accounts.iter().filter(|(_, account)| account.identity == identity);
    let accounts: Vec<&str> = accounts.map(|(name, _)| name.as_str()).collect();
    if accounts.is_empty() {
        let why = format_args!("no [account.NAME] of the configuration has the identity \"{identity}\"");
        return Err(Exit::Usage.because(why));
    }
    confine(file, config);
    super::runtime()?.block_on(async {
        let checks = LoginChecks::new(config).map_err(|diagnostics| diagnostics_error(proven, &diagnostics))?;
        let mut tokens: Vec<TokenCheck<'_>> = Vec::new();
        for name in accounts {
            get_token(config, &checks, name, &mut tokens).await;
        }
        for check in &tokens {
            print(token_line(check))?;
        }
        checks.settle().await;
        let is_refused = tokens.iter().any(|check| check.token.is_err());
        Ok(is_refused.then(|| TokenCheck::exit(&tokens)))
    })
}

/// Confines the command like the service, so that it fails where the service would. A missing state directory is not
/// made: one of root's would be of no use to the service's user.
fn confine(file: &Path, config: &Config) {
    if !config.confine {
        return;
    }
    if let Err(why) = confinement::confine_thread(config, file).files {
        print_error(format_args!("warning: this is tried without Landlock: {why}"));
    }
    for why in confinement::unreadable_files(config, file) {
        print_error(format_args!("warning: {why}"));
    }
}

/// Gets the token of an account, unless an account before it has the same one.
async fn get_token<'a>(config: &'a Config, checks: &LoginChecks, name: &'a str, tokens: &mut Vec<TokenCheck<'a>>) {
    let Some(account) = config.accounts.get(name) else { return };
    let is_same = |other: &&mut TokenCheck<'_>| {
        other.accounts.first().is_some_and(|(first, _)| checks.have_same_token(first, name))
    };
    if let Some(same) = tokens.iter_mut().find(is_same) {
        same.accounts.push((name, account));
        return;
    }
    let identity = config.identities.get(&account.identity);
    let person = identity.filter(|identity| identity.grant.is_of_a_person()).map(|_| account.user.as_str());
    let token = checks.token(name).await;
    tokens.push(TokenCheck { identity: &account.identity, person, accounts: vec![(name, account)], token });
}

fn token_line(check: &TokenCheck<'_>) -> String {
    let person = check.person.map(|person| format!(", {person}")).unwrap_or_default();
    let result = match &check.token {
        Ok(token) => format!("ok: {}", describe(token)),
        Err(failure) => format!("failed: {failure}"),
    };
    format!("identity {}{person}: token {result}\n", check.identity)
}

fn token_json(check: &TokenCheck<'_>) -> Value {
    let (is_ok, text) = match &check.token {
        Ok(token) => (true, describe(token)),
        Err(failure) => (false, failure.to_string()),
    };
    let accounts: Vec<&str> = check.accounts.iter().map(|(name, _)| *name).collect();
    json!({ "identity": check.identity, "person": check.person, "accounts": accounts, "ok": is_ok, "text": text })
}

/// Tries accounts, several at a time, and shows each in its order.
async fn try_accounts<'a>(
    checks: &Arc<AccountChecks>,
    accounts: &[(&'a str, Option<Arc<AccessToken>>)],
    show: &mut impl FnMut(&'a str, AccountResult) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let (mut waiting, mut running) = (accounts.iter().enumerate(), JoinSet::new());
    let mut results: BTreeMap<usize, AccountResult> = BTreeMap::new();
    let mut next = 0;
    loop {
        while running.len() < AT_A_TIME {
            let Some((index, (name, token))) = waiting.next() else { break };
            let (checks, name, token) = (Arc::clone(checks), (*name).to_owned(), token.clone());
            running.spawn(async move { (index, checks.try_account(&name, token.as_deref()).await) });
        }
        let Some(ended) = running.join_next().await else { return Ok(()) };
        let (index, result) = ended.map_err(|error| Exit::OsError.because(error))?;
        results.insert(index, result);
        while let (Some(result), Some((name, _))) = (results.remove(&next), accounts.get(next)) {
            show(name, result)?;
            next += 1;
        }
    }
}

/// The parts that the checks of all accounts need.
struct AccountChecks {
    config: Config,
    logins: LoginChecks,
    detail: Detail,
    /// Measure the logins by IMAP, with this pause.
    measure: Option<Duration>,
}

/// The lines to print about an account, and whether devices can open it.
struct AccountResult {
    text: String,
    is_ready: bool,
    steps: Vec<TriedStep>,
    /// The times of logins by IMAP, and the pause between them.
    times: Option<(Duration, Result<LoginTimes, Failure>)>,
}

impl AccountResult {
    fn measured<'a>(&'a self, proven: &'a Proven, name: &'a str) -> Option<Measures<'a>> {
        let (pause, times) = self.times.as_ref()?;
        let account = proven.config.accounts.get(name)?;
        Some(Measures { proven, name, account, pause: *pause, times })
    }

    fn json(&self, proven: &Proven, name: &str) -> Value {
        let mailbox = proven.config.accounts.get(name).map(|account| account.mailbox.as_str());
        let step = |step: &TriedStep| json!({ "protocol": step.name, "ok": step.is_ok(), "text": step.text, "advice": step.advice });
        let steps: Vec<Value> = self.steps.iter().map(step).collect();
        let measures = self.measured(proven, name).map(|one| one.json());
        json!({ "account": name, "mailbox": mailbox, "ready": self.is_ready, "steps": steps, "measures": measures })
    }
}

impl AccountChecks {
    /// Logs in to one mailbox by the protocols of its devices.
    async fn try_account(&self, name: &str, token: Option<&AccessToken>) -> AccountResult {
        let Self { config, logins, detail, .. } = self;
        let (Some(account), Some(token)) = (config.accounts.get(name), token) else {
            return AccountResult { text: String::new(), is_ready: false, steps: Vec::new(), times: None };
        };
        let mut text = format!("account {name}, {}\n", account.mailbox);
        let (mut is_ready, mut steps, mut times) = (true, Vec::new(), None);
        for protocol in config.protocols_of(name) {
            let tried = logins.try_protocol(name, protocol, token, |_| {}).await;
            if let Some(pause) = self.measure.filter(|_| protocol == Protocol::Imap && tried.is_ok()) {
                times = Some((pause, logins.measure(name, pause).await));
            }
            is_ready &= tried.is_ok();
            if !tried.is_ok() || *detail == Detail::Everything {
                let _ = writeln!(text, "  {:<5}  {}", protocol.name(), tried.text);
                if let Some(advice) = &tried.advice {
                    let _ = writeln!(text, "         {advice}");
                }
            }
            steps.push(tried);
        }
        if self.measure.is_some() && !config.protocols_of(name).contains(&Protocol::Imap) {
            text += "  times  not measured: no listener for this account's devices speaks IMAP\n";
        }
        if is_ready && *detail == Detail::Failures {
            text.clear();
        }
        AccountResult { text, is_ready, steps, times }
    }

    /// Sends a test message, and returns whether the server has taken it.
    async fn send(&self, name: &str, to: &str) -> Result<bool, CommandError> {
        let tried = self.logins.try_message(name, to).await;
        print(format_args!("  {}  {}\n", tried.name, tried.text))?;
        if let Some(advice) = &tried.advice {
            print(format_args!("         {advice}\n"))?;
        }
        Ok(tried.is_ok())
    }
}

/// Accounts that are tried at a time. A login takes a second or two, and servers throttle too many at once.
const AT_A_TIME: usize = 8;
