//! The steps of an account's check: a token, then a login by each protocol of its devices, each in words. `packetboat
//! check --online` prints them, and the page shows them as they happen.

use std::time::Duration;

use super::login_check::LoginChecks;
use crate::config::Identity;
use crate::failure::{Failure, Kind};
use crate::protocol::{Actor, Protocol};
use crate::submission::Delivery;
use crate::token::{AccessToken, Claims};
use crate::transport::Facts;

/// A step that runs, or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriedStep {
    /// The step, as `token of identity office` or `IMAP`.
    pub name: String,
    /// Whether it runs, or how it has ended.
    pub state: StepState,
    /// The result in words; for a step that runs, what it does.
    pub text: String,
    /// The advice about a failure, where there is one.
    pub advice: Option<String>,
}

/// The state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// It runs.
    Running,
    /// It has succeeded.
    Ok,
    /// It has failed.
    Failed,
}

impl TriedStep {
    /// Returns whether the step has succeeded.
    pub fn is_ok(&self) -> bool {
        self.state == StepState::Ok
    }

    fn running(name: &str, text: String) -> Self {
        Self { name: name.to_owned(), state: StepState::Running, text, advice: None }
    }

    fn ended(name: &str, state: StepState, text: String) -> Self {
        Self { name: name.to_owned(), state, text, advice: None }
    }
}

impl LoginChecks {
    /// Tries an account: its token, then each protocol of its devices. Reports each step when it begins, when it comes
    /// on, and when it ends. Returns whether devices can open the mailbox.
    pub async fn try_account(&self, account: &str, mut report: impl FnMut(TriedStep)) -> bool {
        let identity = self.config().accounts.get(account).map(|known| known.identity.as_str()).unwrap_or_default();
        let name = format!("token of identity {identity}");
        report(TriedStep::running(&name, "getting an access token".to_owned()));
        self.end_pause(account);
        let token = match self.token(account).await {
            Ok(token) => token,
            Err(failure) => {
                report(TriedStep::ended(&name, StepState::Failed, format!("failed: {failure}")));
                return false;
            }
        };
        report(TriedStep::ended(&name, StepState::Ok, format!("ok: {}", describe(&token))));
        let mut is_ready = true;
        for protocol in self.config().protocols_of(account) {
            let server = self.server_name(account, protocol);
            report(TriedStep::running(protocol.name(), format!("connecting to {server}")));
            let tried = self.try_protocol(account, protocol, &token, |facts| {
                let tls = facts.map(|facts| format!(", {}, certificate verified", tls(&facts))).unwrap_or_default();
                report(TriedStep::running(protocol.name(), format!("connected to {server}{tls}; logging in")));
            });
            let tried = tried.await;
            is_ready &= tried.is_ok();
            report(tried);
        }
        is_ready
    }

    /// Logs in to an account's mailbox by one protocol, with this token.
    pub async fn try_protocol(
        &self,
        account: &str,
        protocol: Protocol,
        token: &AccessToken,
        connected: impl FnOnce(Option<Facts>),
    ) -> TriedStep {
        let server = self.server_name(account, protocol);
        let name = protocol.name();
        let mut step = match self.login(account, protocol, connected).await {
            Ok(facts) => {
                let done = if protocol.submits() { "sender accepted" } else { "mailbox opened" };
                let text = format!("ok: {server}, {}, certificate verified, logged in, {done}", tls(&facts));
                TriedStep::ended(name, StepState::Ok, text)
            }
            Err(failure) => {
                let text = format!("failed at {server}: {failure}");
                TriedStep { advice: self.advice(account, &failure), ..TriedStep::ended(name, StepState::Failed, text) }
            }
        };
        if !step.is_ok() && step.advice.is_none() {
            // A server that takes the token is right about it; where it does not, this may be why.
            let identity = self.identity_of(account);
            step.advice = identity.zip(token.claims()).and_then(|(identity, claims)| lack(identity, protocol, &claims));
        }
        step
    }

    /// Sends a message from an account's mailbox, as its devices do.
    pub async fn try_message(&self, account: &str, recipient: &str) -> TriedStep {
        let server = self.server_name(account, Protocol::SUBMISSION);
        let known = self.config().accounts.get(account);
        let mailbox = known.map(|known| known.mailbox.as_str()).unwrap_or_default();
        let is_trial = known.is_some_and(|known| known.submission.deliver == Delivery::Mailbox);
        match self.send(account, recipient).await {
            Ok(answer) => {
                let whither = if is_trial {
                    format!("{mailbox} alone, in place of {recipient} (deliver = \"mailbox\" of the account)")
                } else {
                    recipient.to_owned()
                };
                let text = format!("ok: sent a message from {mailbox} to {whither}; {server} said \"{answer}\"");
                TriedStep::ended("message", StepState::Ok, text)
            }
            Err(failure) => {
                let text = format!("failed at {server}, from {mailbox} to {recipient}: {failure}");
                let advice = self.advice(account, &failure);
                TriedStep { advice, ..TriedStep::ended("message", StepState::Failed, text) }
            }
        }
    }

    /// The command against a refusal whose cause is plain.
    fn advice(&self, account: &str, failure: &Failure) -> Option<String> {
        let mailbox = &self.config().accounts.get(account)?.mailbox;
        (failure.kind == Kind::SmtpAuthDisabled).then(|| {
            format!(
                "as an Exchange administrator: Set-CASMailbox -Identity '{}' -SmtpClientAuthenticationDisabled $false",
                mailbox.replace('\'', "''")
            )
        })
    }

    fn identity_of(&self, account: &str) -> Option<&Identity> {
        let config = self.config();
        config.accounts.get(account).and_then(|known| config.identities.get(&known.identity))
    }

    fn server_name(&self, account: &str, protocol: Protocol) -> String {
        let config = self.config();
        let upstream = config.accounts.get(account).and_then(|account| config.upstreams.get(&account.upstream));
        let endpoint = upstream.and_then(|upstream| upstream.endpoint(protocol));
        endpoint.map(|one| format!("{} port {}", one.host, one.port)).unwrap_or_default()
    }
}

fn tls(facts: &Facts) -> String {
    format!("{} {}", facts.version, facts.cipher)
}

/// How many accounts are ready, and which are not.
pub fn readiness(all: usize, failed: &[&str]) -> String {
    let accounts = if all == 1 { "account" } else { "accounts" };
    let ready = all.saturating_sub(failed.len());
    let which = if failed.is_empty() { String::new() } else { format!("; not ready: {}", failed.join(", ")) };
    format!("{ready} of {all} {accounts} ready{which}")
}

/// A token in words: audience, permissions, length and life; never the token itself.
pub fn describe(token: &AccessToken) -> String {
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
    if protocol.submits() && identity.grant.actor() == Actor::Application {
        // RBAC for Applications needs no permission in the token.
        return (!has).then(|| {
            format!(
                "the application needs the role \"Application {wanted}\" in Exchange Online for this mailbox, or the \
                 permission {wanted} with consent and FullAccess; see packetboat setup"
            )
        });
    }
    (!has).then(|| {
        format!(
            "the permission {wanted} is missing: add it to the app registration (Office 365 Exchange Online) and consent; \
             see packetboat setup"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
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
        assert_eq!(readiness(12, &[]), "12 of 12 accounts ready");
        assert_eq!(readiness(12, &["scans3", "fax"]), "10 of 12 accounts ready; not ready: scans3, fax");
        assert_eq!(readiness(1, &[]), "1 of 1 account ready");
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
        // RBAC for Applications needs no permission in the token, and so the role comes first.
        let role = lack(&app, Protocol::Smtp, &claims(&["IMAP.AccessAsApp"], None)).unwrap();
        assert!(role.contains("the role \"Application SMTP.SendAsApp\" in Exchange Online"), "{role}");
        assert!(!role.contains("is missing"), "{role}");
        let missing = lack(&person, Protocol::Smtp, &claims(&[], Some("IMAP.AccessAsUser.All"))).unwrap();
        assert!(missing.contains("the permission SMTP.Send is missing"), "{missing}");
        let elsewhere = identity("client_secret_file = \"/s\"\ntoken_endpoint = \"https://sso.example/token\"");
        assert_eq!(lack(&elsewhere, imap, &claims(&[], None)), None);
        for audience in ["https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"] {
            let graph = Claims { aud: vec![audience.to_owned()], ..Claims::default() };
            assert!(lack(&app, imap, &graph).unwrap().contains("the token is for Microsoft Graph"));
        }
    }
}
