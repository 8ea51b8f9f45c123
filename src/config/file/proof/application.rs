//! The application of an identity, proven: its directory, its id, its endpoints, and what it asks for.

use std::ops::Range;

use toml::Spanned;

use super::Proof;
use super::identity::{GrantKind, Issuer, Provider};
use crate::config::file::{IdentitySection, Written};
use crate::config::{Cloud, normalize, url};
use crate::protocol::{Actor, Protocol};

impl Proof<'_> {
    /// The tenant; empty where nothing uses one.
    pub(super) fn directory(
        &mut self,
        name: &str,
        section: &Range<usize>,
        provider: Provider,
        raw: &mut IdentitySection,
    ) -> String {
        let Provider { cloud, kind } = provider;
        let key = format!("identity.{name}.tenant");
        // The tenant is part of the default of each of these endpoints.
        let is_used = raw.token_endpoint.is_none()
            || (kind == GrantKind::AuthorizationCode && raw.authorization_endpoint.is_none())
            || (kind == GrantKind::DeviceCode && raw.device_endpoint.is_none());
        let has_meaning = cloud.is_microsoft() && kind != GrantKind::ManagedIdentity;
        if let Some(written) = raw.tenant.take() {
            return self.tenant(&key, has_meaning, kind, written);
        }
        if has_meaning && is_used {
            self.problem(
                Some(section.clone()),
                &key,
                "is missing; write the directory's id or domain, as tenant = \"contoso.onmicrosoft.com\"",
            );
        }
        String::new()
    }

    fn tenant(&mut self, key: &str, has_meaning: bool, kind: GrantKind, written: Spanned<String>) -> String {
        let span = written.span();
        self.note(key, &span);
        if !has_meaning {
            self.problem(Some(span.clone()), key, "has no meaning here; remove it");
        }
        let tenant = normalize::id(written.get_ref()).to_owned();
        let shared = ["common", "organizations", "consumers"].contains(&tenant.as_str());
        let is_one = |text: &str| {
            !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.'))
        };
        if !is_one(&tenant) {
            // Part of an address that looks like a domain or an id is not a secret, and may be repeated.
            let is_known = |meant: &&str| is_one(meant) && (meant.contains('.') || normalize::is_guid(meant));
            let message = match tenant_within(&tenant).filter(is_known) {
                Some(meant) => format!("is no directory; write tenant = \"{meant}\""),
                None => "is a directory's id (a GUID) or one of its domains, and nothing else".to_owned(),
            };
            self.problem(Some(span), key, &message);
        } else if shared && matches!(kind, GrantKind::ClientCredentials | GrantKind::Federated) {
            let message = "is nobody's directory; an application needs its own one's id or domain";
            self.problem(Some(span), key, message);
        }
        tenant
    }

    pub(super) fn client_id(&mut self, issuer: &Issuer<'_>, written: Written<String>) -> String {
        let key = format!("identity.{}.client_id", issuer.name);
        let Some(written) = written else {
            if issuer.kind != GrantKind::ManagedIdentity {
                self.problem(
                    Some(issuer.section.clone()),
                    &key,
                    "is missing; it is the \"Application (client) ID\" of the app registration",
                );
            }
            return String::new();
        };
        self.note(&key, &written.span());
        let id = normalize::id(written.get_ref());
        let is_name = id.is_empty() || id.contains(|c: char| c.is_whitespace() || "{}<>\"'".contains(c));
        let is_guid = normalize::is_guid(id);
        if is_name || id.contains("://") {
            let message = "is the \"Application (client) ID\" of the app registration, without spaces; neither its \
                           name nor its URI";
            self.problem(Some(written.span()), &key, message);
        } else if issuer.is_microsoft && !is_guid {
            // Not quoted: it may be the secret.
            let message = "is not the \"Application (client) ID\" of an app registration, which has 8-4-4-4-12 \
                           hexadecimal digits; copy it from the app registration's Overview";
            self.problem(Some(written.span()), &key, message);
        } else if is_guid && id.eq_ignore_ascii_case(issuer.tenant) {
            let message = "is the directory's id; write the \"Application (client) ID\" of the app registration";
            self.problem(Some(written.span()), &key, message);
        } else if is_guid && id.bytes().all(|octet| matches!(octet, b'0' | b'-')) {
            let message = "stands for the id that is still missing, the \"Application (client) ID\" of the app \
                           registration: packetboat init --finish CLIENT_ID writes it here";
            self.warn(Some(written.span()), &key, message);
        }
        id.to_owned()
    }

    pub(super) fn url(&mut self, key: &str, written: Spanned<String>) -> String {
        self.note(key, &written.span());
        let url = normalize::trimmed(written.get_ref());
        if let Err(why) = url::may_carry_secrets(url) {
            self.problem(Some(written.span()), key, &why.to_string());
        }
        url.to_owned()
    }

    /// Joined by spaces; with managed-identity the resource.
    pub(super) fn scope(
        &mut self,
        name: &str,
        is_of_microsoft: bool,
        provider: Provider,
        raw: &mut IdentitySection,
    ) -> String {
        let Provider { cloud, kind } = provider;
        let is_machine = kind == GrantKind::ManagedIdentity;
        if let Some(written) = raw.resource.take() {
            let key = format!("identity.{name}.resource");
            let resource = normalize::trimmed(written.get_ref());
            if !is_machine {
                let message = "goes with grant = \"managed-identity\" alone; write scopes";
                self.problem(Some(written.span()), &key, message);
            } else if resource.ends_with("/.default") {
                self.problem(Some(written.span()), &key, "is a resource, and not a scope: leave /.default off");
            } else {
                return resource.to_owned();
            }
        }
        if let Some(written) = raw.scopes.take() {
            let key = format!("identity.{name}.scopes");
            self.note(&key, &written.span());
            let scopes: Vec<&str> = written.get_ref().iter().map(|scope| normalize::trimmed(scope)).collect();
            let bad = |scope: &&str| scope.is_empty() || scope.contains(char::is_whitespace);
            if is_machine {
                self.problem(Some(written.span()), &key, "is called resource with grant = \"managed-identity\"");
            } else if scopes.is_empty() || scopes.iter().any(bad) {
                self.problem(Some(written.span()), &key, "is a list of scopes, each without spaces");
            } else if cloud.is_microsoft() && scopes.iter().any(|scope| scope.contains("//graph.microsoft.")) {
                let message = "a token for Microsoft Graph opens no mailbox by IMAP or POP; leave scopes out";
                self.problem(Some(written.span()), &key, message);
            } else if let Some(message) = refused_by_entra(is_of_microsoft, provider, &scopes) {
                self.problem(Some(written.span()), &key, &message);
            }
            return scopes.join(" ");
        }
        match kind {
            GrantKind::ManagedIdentity => cloud.resource().to_owned(),
            GrantKind::ClientCredentials | GrantKind::Federated => cloud.application_scope(),
            GrantKind::AuthorizationCode | GrantKind::DeviceCode | GrantKind::Password => {
                cloud.delegated_scope(&self.protocols)
            }
        }
    }
}

/// The directory in what was pasted for it: the address of an endpoint, of the domain's web page, or of a person.
fn tenant_within(pasted: &str) -> Option<&str> {
    if let Some((_, domain)) = pasted.rsplit_once('@') {
        return Some(domain);
    }
    let bare = pasted.trim_end_matches(['/', '.']);
    let Some(host) = url::host(bare) else { return Some(bare) };
    let is_endpoint = Cloud::ALL.iter().any(|(_, cloud)| url::is_one_of(host, cloud.token_hosts()));
    if is_endpoint { bare.split('/').nth(3) } else { Some(host) }
}

/// Scopes that Entra refuses for this grant, and what to write. Without Entra behind it only what names its resource
/// counts.
fn refused_by_entra(is_of_microsoft: bool, provider: Provider, scopes: &[&str]) -> Option<String> {
    let Provider { cloud, kind } = provider;
    let is_its = |scope: &str| {
        let hosts = Cloud::ALL.iter().filter(|(_, cloud)| cloud.is_microsoft()).map(|(_, cloud)| cloud.mail_hosts());
        is_of_microsoft || url::host(scope).is_some_and(|host| hosts.flatten().any(|known| *known == host))
    };
    if matches!(kind, GrantKind::ClientCredentials | GrantKind::Federated) {
        scopes.iter().find(|scope| !scope.ends_with("/.default") && is_its(scope))?;
        let whole = cloud.application_scope();
        return Some(format!(
            "one is no scope of an application, which asks for all that it was granted: write \"{whole}\", or leave \
             scopes out"
        ));
    }
    let is_bare = |scope: &str| scope.trim_end_matches('/').matches('/').count() == 2 && scope.contains("://");
    let bare = scopes.iter().find(|scope| is_bare(scope) && is_its(scope))?;
    let hosts = Cloud::ALL.iter().flat_map(|(_, cloud)| cloud.mail_hosts());
    let host = hosts.copied().find(|known| url::host(bare) == Some(known)).unwrap_or("outlook.office365.com");
    let [first, ..] = Protocol::ALL;
    let permission = first.permission(Actor::Person);
    Some(format!("one lacks the permission behind it: write \"https://{host}/{permission}\", or leave scopes out"))
}
