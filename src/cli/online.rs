//! `packetboat check --online` gets a token for each identity and logs in to each mailbox. It prints what fails, with
//! advice, and how many accounts are ready.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::error::{CommandError, Exit};
use super::output::{diagnostics_error, print, print_error};
use crate::config::{Account, Config, Identity, Proven};
use crate::confinement;
use crate::failure::Failure;
use crate::protocol::Protocol;
use crate::proxy::LoginChecks;
use crate::token::{AccessToken, Claims};
use crate::transport::upstream::unresolved_localhost;

/// The accounts that are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Those that fail.
    Failures,
    /// All of them.
    Everything,
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

/// Tries these accounts, or all where none is named.
pub(super) fn check(file: &Path, proven: &Proven, accounts: &[String]) -> Result<(), CommandError> {
    let config = &proven.config;
    confine(file, config);
    let runtime = super::runtime()?;
    let (detail, wanted): (Detail, Vec<&str>) = if accounts.is_empty() {
        (Detail::Failures, config.accounts.keys().map(String::as_str).collect())
    } else {
        let is_wanted = |name: &&str| accounts.iter().any(|one| one == name);
        (Detail::Everything, config.accounts.keys().map(String::as_str).filter(is_wanted).collect())
    };
    runtime.block_on(async {
        if let Some(why) = unresolved_localhost().await {
            print_error(format_args!("warning: {why}"));
        }
        let checks = LoginChecks::new(config).map_err(|diagnostics| diagnostics_error(proven, &diagnostics))?;
        if wanted.is_empty() {
            return print("no account to try\n");
        }
        let mut tokens: Vec<TokenCheck<'_>> = Vec::new();
        for name in &wanted {
            get_token(config, &checks, name, &mut tokens).await;
        }
        for check in &tokens {
            print(token_line(check))?;
        }
        let accounts: Vec<_> = tokens.iter().flat_map(TokenCheck::accounts_with_token).collect();
        let checks = Arc::new(AccountChecks { config: config.clone(), logins: checks, detail });
        let failed = try_accounts(&checks, &accounts).await?;
        checks.logins.settle().await;
        print(sum(wanted.len(), &failed))?;
        if failed.is_empty() { Ok(()) } else { Err(Exit::Unavailable.into()) }
    })
}

/// Fetches the tokens of one identity, and logs in nowhere.
pub(super) fn check_identity(file: &Path, proven: &Proven, identity: &str) -> Result<(), CommandError> {
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
        if is_refused { Err(Exit::Unavailable.into()) } else { Ok(()) }
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

/// Tries accounts, several at a time, and prints each in its order. Returns those that are not ready.
async fn try_accounts<'a>(
    checks: &Arc<AccountChecks>,
    accounts: &[(&'a str, Option<Arc<AccessToken>>)],
) -> Result<Vec<&'a str>, CommandError> {
    let (mut waiting, mut running) = (accounts.iter().enumerate(), JoinSet::new());
    let mut results: BTreeMap<usize, AccountResult> = BTreeMap::new();
    let (mut next, mut failed) = (0, Vec::new());
    loop {
        while running.len() < AT_A_TIME {
            let Some((index, (name, token))) = waiting.next() else { break };
            let (checks, name, token) = (Arc::clone(checks), (*name).to_owned(), token.clone());
            running.spawn(async move { (index, checks.try_account(&name, token.as_deref()).await) });
        }
        let Some(ended) = running.join_next().await else { return Ok(failed) };
        let (index, result) = ended.map_err(|error| Exit::OsError.because(error))?;
        results.insert(index, result);
        while let (Some(result), Some((name, _))) = (results.remove(&next), accounts.get(next)) {
            print(result.text)?;
            if !result.is_ready {
                failed.push(name);
            }
            next += 1;
        }
    }
}

/// The parts that the checks of all accounts need.
struct AccountChecks {
    config: Config,
    logins: LoginChecks,
    detail: Detail,
}

/// The lines to print about an account, and whether devices can open it.
struct AccountResult {
    text: String,
    is_ready: bool,
}

impl AccountChecks {
    /// Logs in to one mailbox by the protocols of its devices.
    async fn try_account(&self, name: &str, token: Option<&AccessToken>) -> AccountResult {
        let Self { config, logins, detail } = self;
        let (Some(account), Some(token)) = (config.accounts.get(name), token) else {
            return AccountResult { text: String::new(), is_ready: false };
        };
        let claims = config.identities.get(&account.identity).zip(token.claims());
        let mut text = format!("account {name}, {}\n", account.mailbox);
        let mut is_ready = true;
        for protocol in config.protocols_of(name) {
            let endpoint = config.upstreams.get(&account.upstream).map(|upstream| upstream.endpoint(protocol));
            let server = endpoint.map(|one| format!("{} port {}", one.host, one.port)).unwrap_or_default();
            match logins.login(name, protocol).await {
                Ok(_) if *detail == Detail::Failures => {}
                Ok(facts) => {
                    let (version, cipher) = (facts.version, facts.cipher);
                    let _ = writeln!(
                        text,
                        "  {:<5}  ok: {server}, {version} {cipher}, certificate verified, logged in, mailbox opened",
                        protocol.name(),
                    );
                }
                Err(failure) => {
                    is_ready = false;
                    let _ = writeln!(text, "  {:<5}  failed at {server}: {failure}", protocol.name());
                    // A server that takes the token is right about it; where it does not, this may be why.
                    let lack = claims.as_ref().and_then(|(identity, claims)| lack(identity, protocol, claims));
                    if let Some(lack) = lack {
                        let _ = writeln!(text, "         {lack}");
                    }
                }
            }
        }
        if is_ready && *detail == Detail::Failures {
            text.clear();
        }
        AccountResult { text, is_ready }
    }
}

/// How many accounts are ready, and which are not.
fn sum(all: usize, failed: &[&str]) -> String {
    let accounts = if all == 1 { "account" } else { "accounts" };
    let ready = all.saturating_sub(failed.len());
    let which = if failed.is_empty() { String::new() } else { format!("; not ready: {}", failed.join(", ")) };
    format!("{ready} of {all} {accounts} ready{which}\n")
}

/// A token in words: audience, permissions, length and life; never the token itself.
fn describe(token: &AccessToken) -> String {
    let left = humantime::format_duration(Duration::from_secs(token.left().as_secs() + 1));
    let length = token.secret().expose().len();
    let Some(claims) = token.claims() else {
        return format!("{length} characters, expires in {left} (its content is unknown)");
    };
    let shown = |text: &str| crate::text::excerpt(text.as_bytes());
    let audience = if claims.aud.is_empty() { "nobody in particular".to_owned() } else { claims.aud.join(" and ") };
    let mut words = vec![format!("for {}", shown(&audience))];
    if !claims.roles.is_empty() {
        words.push(format!("roles {}", shown(&claims.roles.join(" "))));
    }
    if let Some(scopes) = &claims.scp {
        words.push(format!("scopes {}", shown(scopes)));
    }
    if let Some(person) = &claims.upn {
        words.push(format!("of {}", shown(person)));
    }
    words.push(format!("{length} characters, expires in {left}"));
    words.join(", ")
}

/// The permission that a token of Microsoft's lacks for this protocol, as advice.
fn lack(identity: &Identity, protocol: Protocol, claims: &Claims) -> Option<String> {
    if !identity.is_of_microsoft() {
        return None;
    }
    let is_graph = |one: &String| one.contains("graph.microsoft") || one.starts_with("00000003-");
    if !claims.aud.is_empty() && claims.aud.iter().all(is_graph) {
        return Some(
            "the token is for Microsoft Graph, which opens no mailbox by IMAP or POP: leave scopes out".to_owned(),
        );
    }
    let wanted = protocol.permission(identity.grant.actor());
    let has = claims.roles.iter().any(|role| role == wanted)
        || claims.scp.as_deref().is_some_and(|scopes| scopes.split(' ').any(|scope| scope == wanted));
    (!has).then(|| {
        format!(
            "the permission {wanted} is missing: add it to the app registration (Office 365 Exchange Online) and consent; \
             see packetboat setup"
        )
    })
}

/// Accounts that are tried at a time. A login takes a second or two, and servers throttle too many at once.
const AT_A_TIME: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn identity(more: &str) -> Identity {
        let text = format!(
            "[identity.x]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n{more}"
        );
        let config = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config;
        config.identities["x"].clone()
    }

    #[test]
    fn the_sum_names_what_fails() {
        assert_eq!(sum(12, &[]), "12 of 12 accounts ready\n");
        assert_eq!(sum(12, &["scans3", "fax"]), "10 of 12 accounts ready; not ready: scans3, fax\n");
        assert_eq!(sum(1, &[]), "1 of 1 account ready\n");
    }

    #[test]
    fn missing_permissions_of_a_token_are_named() {
        let app = identity("client_secret_file = \"/s\"");
        let claims = |roles: &[&str], scp: Option<&str>| Claims {
            aud: vec!["https://outlook.office365.com".to_owned()],
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            scp: scp.map(str::to_owned),
            ..Claims::default()
        };
        let (imap, pop3) = (Protocol::Imap, Protocol::Pop3);
        assert_eq!(lack(&app, pop3, &claims(&["IMAP.AccessAsApp", "POP.AccessAsApp"], None)), None);
        assert_eq!(lack(&app, imap, &claims(&["IMAP.AccessAsApp"], None)), None);
        let missing = lack(&app, pop3, &claims(&["IMAP.AccessAsApp"], None)).unwrap();
        assert!(missing.contains("the permission POP.AccessAsApp is missing"), "{missing}");
        let person = identity("grant = \"authorization-code\"");
        let missing = lack(&person, imap, &claims(&[], Some("Mail.Read"))).unwrap();
        assert!(missing.contains("IMAP.AccessAsUser.All"), "{missing}");
        let elsewhere = identity("client_secret_file = \"/s\"\ntoken_endpoint = \"https://sso.example/token\"");
        assert_eq!(lack(&elsewhere, imap, &claims(&[], None)), None);
        for audience in ["https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"] {
            let graph = Claims { aud: vec![audience.to_owned()], ..Claims::default() };
            assert!(lack(&app, imap, &graph).unwrap().contains("the token is for Microsoft Graph"));
        }
    }
}
