//! A scope is the purpose of a token: one resource, and the permissions there.

use super::refusal::Refusal;
use crate::protocol::{Actor, Protocol};

/// The purpose of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    /// The resource, as `https://outlook.office365.com`.
    pub(super) resource: String,
    /// Permissions, as `IMAP.AccessAsUser.All`.
    pub(super) names: Vec<String>,
    /// True if a refresh token is wanted.
    pub(super) offline: bool,
}

impl Scope {
    /// The scope of a user's token: permissions of one resource, and `offline_access`.
    pub(super) fn delegated(text: &str) -> Result<Self, Refusal> {
        let mut scope = Self { resource: String::new(), names: Vec::new(), offline: false };
        for word in text.split_whitespace() {
            if word == "offline_access" {
                scope.offline = true;
                continue;
            }
            if ["openid", "profile", "email"].contains(&word) {
                continue;
            }
            let Some((resource, name)) = word.rsplit_once('/').filter(|_| word.starts_with("https://")) else {
                return Err(Refusal::scope(&format!("The scope {word} is not valid.")));
            };
            if !scope.resource.is_empty() && scope.resource != resource {
                return Err(Refusal::scope("The scope is not valid: it names more than one resource."));
            }
            resource.clone_into(&mut scope.resource);
            if is_exchange(resource) && !DELEGATED.contains(&name) {
                return Err(Refusal::scope(&format!("The scope {word} is not valid.")));
            }
            scope.names.push(name.to_owned());
        }
        if scope.names.is_empty() {
            return Err(Refusal::scope("No scope of a resource is named."));
        }
        Ok(scope)
    }

    /// The scope of the app's own token: a resource and `.default`.
    pub(super) fn app_only(text: &str) -> Result<Self, Refusal> {
        match text.strip_suffix("/.default") {
            Some(resource) if resource.starts_with("https://") && !text.contains(' ') => Ok(Self::of_app(resource)),
            _ => Err(Refusal::scope(&format!(
                "The scope {text} is not valid: client credential flows must have one with /.default behind it."
            ))),
        }
    }

    /// The scope of everything that the app may do at a resource.
    pub(super) fn of_app(resource: &str) -> Self {
        let resource = resource.trim_end_matches('/').to_owned();
        Self { resource, names: vec![".default".to_owned()], offline: false }
    }

    /// Returns whether Exchange takes the token for a protocol.
    pub(super) fn allows(&self, protocol: Protocol) -> bool {
        let name = protocol.permission(Actor::Person);
        is_exchange(&self.resource) && self.names.iter().any(|own| own == name || own == ".default")
    }

    /// The scope's text in the answer.
    pub(super) fn text(&self) -> String {
        let names: Vec<_> = self.names.iter().map(|name| format!("{}/{name}", self.resource)).collect();
        names.join(" ")
    }
}

fn is_exchange(resource: &str) -> bool {
    EXCHANGE.contains(&resource)
}

const EXCHANGE: [&str; 2] = ["https://outlook.office.com", "https://outlook.office365.com"];
const DELEGATED: [&str; 4] = ["IMAP.AccessAsUser.All", "POP.AccessAsUser.All", "SMTP.Send", ".default"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delegated_scopes_are_of_one_resource() {
        let scope = Scope::delegated("https://outlook.office.com/IMAP.AccessAsUser.All offline_access").unwrap();
        assert!(scope.offline && scope.allows(Protocol::Imap) && !scope.allows(Protocol::Pop3));
        let graph = Scope::delegated("https://graph.microsoft.com/Mail.Read").unwrap();
        assert!(!graph.allows(Protocol::Imap));
        for bad in [
            "",
            "offline_access",
            "IMAP.AccessAsUser.All",
            "https://outlook.office.com/IMAP",
            "https://outlook.office.com/POP.AccessAsUser.All https://graph.microsoft.com/Mail.Read",
        ] {
            assert_eq!(Scope::delegated(bad).unwrap_err().code, 70_011, "{bad}");
        }
    }

    #[test]
    fn app_only_scopes_end_in_default() {
        assert!(Scope::app_only("https://outlook.office365.com/.default").unwrap().allows(Protocol::Pop3));
        for bad in ["", ".default", "https://outlook.office365.com/IMAP.AccessAsApp", "a https://b/.default"] {
            assert_eq!(Scope::app_only(bad).unwrap_err().code, 70_011, "{bad}");
        }
    }
}
