//! The status of accounts and identities: who has an access token, and what keeps the others from one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::certificate_facts::Expiry;
use crate::config::{Config, Listener, Logins};
use crate::inventory::Activities;
use crate::metrics::ExpiryKind;
use crate::submission::Delivery;
use crate::token::TokenStatus;

/// The number of accounts that have a token, and of those that have a problem. An unused account has neither.
pub(super) fn counts(statuses: &[TokenStatus]) -> (u64, u64) {
    let well = statuses.iter().filter(|one| one.is_well()).count();
    let troubled = statuses.iter().filter(|one| one.trouble.is_some()).count();
    (well as u64, troubled as u64)
}

/// Returns whether there are accounts, none has a token, and one at least could not get any: nobody gets mail.
pub(super) fn has_no_token(statuses: &[TokenStatus]) -> bool {
    statuses.iter().all(|one| one.until.is_none()) && statuses.iter().any(|one| one.trouble.is_some())
}

/// The accounts whose token is not fetched for some time after failures: name and seconds, one a line.
pub(super) fn pauses(statuses: &[TokenStatus]) -> String {
    let paused = statuses.iter().filter_map(|one| Some((&one.account, one.paused?)));
    paused.map(|(name, left)| format!("{name} {}\n", left.as_secs() + 1)).collect()
}

/// The accounts whose devices may send, each with its mailbox; and the recipients that the mail server takes in a day.
pub(super) fn senders(config: &Config) -> (BTreeMap<String, String>, u32) {
    let sends = |listener: &Listener| listener.protocol.submits() && listener.logins == Logins::Translate;
    let accounts = config.accounts.iter().filter(|_| config.listeners.iter().any(sends));
    let senders = accounts.map(|(name, account)| (name.clone(), account.mailbox.clone())).collect();
    (senders, config.limits.submission.recipients_per_day)
}

/// The accounts, for the page. Those that may send have their recipients of the last 24 hours.
pub(super) fn accounts(statuses: &[TokenStatus], config: &Config, activities: &Activities) -> Vec<Value> {
    let (senders, bound) = senders(config);
    let status = |status: &TokenStatus| {
        let mut account = account(status);
        if let (Value::Object(fields), true) = (&mut account, senders.contains_key(&status.account)) {
            fields.insert("recipients_day".to_owned(), activities.recipients_of(&status.mailbox).into());
            fields.insert("recipients_bound".to_owned(), bound.into());
            fields.insert("trial".to_owned(), delivers_to_mailbox(config, &status.account).into());
        }
        account
    };
    statuses.iter().map(status).collect()
}

/// Returns whether the mail of an account's devices goes to its mailbox alone.
pub(super) fn delivers_to_mailbox(config: &Config, account: &str) -> bool {
    config.accounts.get(account).is_some_and(|account| account.submission.deliver == Delivery::Mailbox)
}

fn account(status: &TokenStatus) -> Value {
    let state = match (&status.trouble, status.until) {
        (Some(_), _) => "trouble",
        (None, Some(_)) => "ok",
        (None, None) => "none",
    };
    json!({
        "name": status.account,
        "mailbox": status.mailbox,
        "identity": status.identity,
        "grant": status.grant,
        "user": status.user,
        "state": state,
        "token_until": status.until,
        "advice": status.trouble.as_ref().map(ToString::to_string).unwrap_or_default(),
    })
}

/// The identities, each once, with the first end of its credentials, and each error once.
pub(super) fn identities(statuses: &[TokenStatus], expiries: &[Expiry]) -> Vec<Value> {
    let mut names: Vec<&str> = statuses.iter().map(|one| one.identity.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut identities: Vec<Value> = names.into_iter().map(|name| identity(name, statuses, expiries)).collect();
    identities.sort_by_key(|one| one["state"] != "trouble");
    identities
}

fn identity(name: &str, statuses: &[TokenStatus], expiries: &[Expiry]) -> Value {
    let own: Vec<&TokenStatus> = statuses.iter().filter(|one| one.identity == name).collect();
    let mut errors: Vec<(String, Vec<&str>)> = Vec::new();
    for status in &own {
        let Some(trouble) = &status.trouble else { continue };
        let text = trouble.to_string();
        match errors.iter_mut().find(|(known, _)| without_id(known) == without_id(&text)) {
            Some((_, accounts)) => accounts.push(&status.account),
            None => errors.push((text, vec![&status.account])),
        }
    }
    let with_token = own.iter().filter(|one| one.until.is_some()).count();
    let state = match (errors.is_empty(), with_token) {
        (false, _) => "trouble",
        (true, 0) => "none",
        (true, _) => "ok",
    };
    let is_its = |expiry: &&Expiry| match expiry.kind {
        ExpiryKind::IdentityCertificate | ExpiryKind::ClientSecret => expiry.name == name,
        ExpiryKind::RefreshToken => own.iter().any(|one| one.account == expiry.name),
        ExpiryKind::Certificate => false,
    };
    let first = expiries.iter().filter(is_its).min_by_key(|expiry| expiry.until);
    let errors: Vec<Value> =
        errors.into_iter().map(|(text, accounts)| json!({ "text": text, "accounts": accounts })).collect();
    json!({
        "name": name,
        "grant": own.first().map(|one| one.grant),
        "state": state,
        "until": first.map(|expiry| expiry.until),
        "accounts": own.len(),
        "with_token": with_token,
        "errors": errors,
    })
}

/// An error without the id of the one answer of the token endpoint that it is from.
fn without_id(text: &str) -> &str {
    text.split(" (correlation id ").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Kind};

    fn status(account: &str, identity: &str, until: Option<u64>, trouble: Option<&str>) -> TokenStatus {
        TokenStatus {
            account: account.to_owned(),
            mailbox: format!("{account}@contoso.example"),
            identity: identity.to_owned(),
            grant: "client-credentials",
            user: None,
            login: None,
            until,
            trouble: trouble.map(|text| Failure::new(Kind::TokenRefused, text)),
            paused: None,
            unkept: None,
            store: None,
            store_trouble: None,
            sign_in_until: None,
        }
    }

    #[test]
    fn an_identity_stands_once_with_each_error_once() {
        let mut statuses: Vec<TokenStatus> = (0..12)
            .map(|n| status(&format!("a{n}"), "office", None, Some(&format!("secret ended (correlation id {n}{n})"))))
            .collect();
        assert!(has_no_token(&statuses));
        statuses.push(status("b", "branch", Some(5), None));
        assert!(!has_no_token(&statuses));
        let expiry = |kind, name: &str, until| Expiry { kind, name: name.to_owned(), until, advice: String::new() };
        let expiries = [
            expiry(ExpiryKind::IdentityCertificate, "branch", 900),
            expiry(ExpiryKind::ClientSecret, "branch", 800),
            expiry(ExpiryKind::Certificate, "office", 1),
        ];
        let identities = identities(&statuses, &expiries);
        assert_eq!(identities.len(), 2);
        let (office, branch) = (&identities[0], &identities[1]);
        assert_eq!(
            (&office["name"], &office["state"], &office["until"]),
            (&"office".into(), &"trouble".into(), &Value::Null)
        );
        assert_eq!(office["errors"].as_array().unwrap().len(), 1);
        assert_eq!(office["errors"][0]["accounts"].as_array().unwrap().len(), 12);
        assert_eq!((&branch["state"], &branch["until"], &branch["with_token"]), (&"ok".into(), &800.into(), &1.into()));
    }

    /// An account that nobody uses has no token, and no problem.
    #[test]
    fn unused_accounts_are_no_problem() {
        assert!(!has_no_token(&[]));
        assert!(!has_no_token(&[status("a", "office", None, None)]));
        assert!(!has_no_token(&[status("a", "office", Some(1), Some("cannot be renewed"))]));
    }
}
