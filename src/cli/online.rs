//! `packetboat check --online` gets a token for each account and logs in with it: one line each, with advice.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::error::{CommandError, Exit};
use super::output::{diagnostics_error, print, print_error};
use crate::config::{Config, Identity, Proven};
use crate::confinement;
use crate::protocol::Protocol;
use crate::proxy::LoginChecks;
use crate::token::{AccessToken, Claims};
use crate::transport::upstream::unresolved_localhost;

pub(super) fn check(file: &Path, proven: &Proven) -> Result<(), CommandError> {
    let config = &proven.config;
    confine(file, config);
    let runtime = super::runtime()?;
    runtime.block_on(async {
        if let Some(why) = unresolved_localhost().await {
            print_error(format_args!("warning: {why}"));
        }
        let trials = LoginChecks::new(config).map_err(|diagnostics| diagnostics_error(proven, &diagnostics))?;
        if config.accounts.is_empty() {
            print("no account to try\n")?;
        }
        let mut all_well = true;
        for name in config.accounts.keys() {
            all_well &= try_account(config, &trials, name).await?;
        }
        trials.settle().await;
        if all_well { Ok(()) } else { Err(Exit::Unavailable.into()) }
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

async fn try_account(config: &Config, trials: &LoginChecks, name: &str) -> Result<bool, CommandError> {
    let Some(account) = config.accounts.get(name) else { return Ok(false) };
    print(format_args!("account {name}, {}\n", account.mailbox))?;
    let identity = config.identities.get(&account.identity);
    let token = match trials.token(name).await {
        Ok(token) => {
            print(format_args!("  token  ok: {}\n", describe(&token)))?;
            token
        }
        Err(failure) => {
            print(format_args!("  token  failed: {failure}\n"))?;
            return Ok(false);
        }
    };
    let claims = token.claims();
    let mut all_well = true;
    for protocol in config.token_protocols() {
        let endpoint = config.upstreams.get(&account.upstream).map(|upstream| upstream.endpoint(protocol));
        let place = endpoint.map(|one| format!("{} port {}", one.host, one.port)).unwrap_or_default();
        let line = match trials.login(name, protocol).await {
            Ok(facts) => format!(
                "  {:<5}  ok: {place}, {} {}, certificate verified, logged in, mailbox opened",
                protocol.name(),
                facts.version,
                facts.cipher
            ),
            Err(failure) => {
                all_well = false;
                let mut line = format!("  {:<5}  failed at {place}: {failure}", protocol.name());
                let claims = identity.zip(claims.as_ref());
                // A server that takes the token is right about it; where it does not, this may be why.
                if let Some(lack) = claims.and_then(|(identity, claims)| lack(identity, protocol, claims)) {
                    let _ = write!(line, "\n         {lack}");
                }
                line
            }
        };
        print(format_args!("{line}\n"))?;
    }
    Ok(all_well)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn identity(more: &str) -> Identity {
        let text = format!("[identity.x]\ntenant = \"contoso.example\"\nclient_id = \"1\"\n{more}");
        let config = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}")).config;
        config.identities["x"].clone()
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
