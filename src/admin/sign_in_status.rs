//! The sign-ins of persons, for the page: who has signed in, and until when that lasts.

use serde_json::{Value, json};

use crate::token::TokenStatus;

/// Each sign-in once, whatever the number of accounts that are opened with it.
pub(super) fn sign_ins(statuses: &[TokenStatus]) -> Vec<Value> {
    let mut logins: Vec<&str> = statuses.iter().filter_map(|one| one.login.as_deref()).collect();
    logins.sort_unstable();
    logins.dedup();
    let of = |login: &str| -> Vec<&TokenStatus> {
        statuses.iter().filter(|one| one.login.as_deref() == Some(login)).collect()
    };
    logins.into_iter().filter_map(|login| sign_in(login, &of(login))).collect()
}

fn sign_in(login: &str, own: &[&TokenStatus]) -> Option<Value> {
    let first = own.first()?;
    let trouble = own.iter().find_map(|one| one.trouble.as_ref());
    let state = match (trouble, first.sign_in_until) {
        (Some(_), _) => "trouble",
        (None, Some(_)) => "ok",
        (None, None) => "none",
    };
    Some(json!({
        "account": login,
        "accounts": own.iter().map(|one| one.account.as_str()).collect::<Vec<_>>(),
        "identity": first.identity,
        "user": first.user,
        "grant": first.grant,
        "state": state,
        "until": first.sign_in_until,
        "advice": trouble.map(ToString::to_string).unwrap_or_default(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Kind};

    fn status(account: &str, login: Option<&str>, until: Option<u64>) -> TokenStatus {
        TokenStatus {
            account: account.to_owned(),
            mailbox: String::new(),
            identity: "office".to_owned(),
            grant: "authorization-code",
            user: login.map(|_| "anna@contoso.example".to_owned()),
            login: login.map(str::to_owned),
            until: None,
            trouble: None,
            paused: None,
            unkept: None,
            store: None,
            store_trouble: None,
            sign_in_until: until,
        }
    }

    #[test]
    fn a_sign_in_of_two_accounts_is_one() {
        let statuses = [status("a", Some("a"), Some(900)), status("b", Some("a"), Some(900)), status("c", None, None)];
        let shown = sign_ins(&statuses);
        assert_eq!(shown.len(), 1);
        assert_eq!((&shown[0]["state"], &shown[0]["until"]), (&"ok".into(), &900.into()));
        assert_eq!(shown[0]["accounts"], json!(["a", "b"]));
    }

    #[test]
    fn trouble_is_said() {
        let missing = status("d", Some("d"), None);
        assert_eq!(sign_ins(std::slice::from_ref(&missing))[0]["state"], "none");
        let ended = TokenStatus { trouble: Some(Failure::new(Kind::TokenRefused, "it has ended")), ..missing };
        let shown = sign_ins(&[ended]);
        assert_eq!(shown[0]["state"], "trouble");
        assert!(shown[0]["advice"].as_str().unwrap().contains("it has ended"));
    }
}
