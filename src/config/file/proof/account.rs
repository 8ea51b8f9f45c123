//! Accounts, proven: each opens one mailbox, with an identity, at a mail server.

use std::collections::BTreeMap;

use toml::Spanned;

use super::upstream::{NoServer, Upstreams};
use super::{Names, Proof};
use crate::config::file::{AccountSection, SubmissionSection, Written};
use crate::config::{Account, Cloud, Grant, Identity, Problem, normalize};
use crate::submission::{self, BareLineEnds, Delivery, SenderPolicy, SubmissionRules, covers};

/// The identities that accounts refer to.
pub(super) struct Identities<'a> {
    pub(super) by_name: &'a BTreeMap<String, Identity>,
    /// The names of all, also of those with a mistake.
    pub(super) names: &'a Names,
}

impl Proof<'_> {
    pub(super) fn accounts(
        &mut self,
        raw: BTreeMap<String, Spanned<AccountSection>>,
        identities: &Identities<'_>,
        upstreams: &Upstreams,
    ) -> BTreeMap<String, Account> {
        let mut accounts = BTreeMap::new();
        for (name, section) in raw {
            if let Some(account) = self.account(&name, section, identities, upstreams) {
                accounts.insert(name, account);
            }
        }
        accounts
    }

    fn account(
        &mut self,
        name: &str,
        raw: Spanned<AccountSection>,
        identities: &Identities<'_>,
        upstreams: &Upstreams,
    ) -> Option<Account> {
        let key = |key: &str| format!("account.{name}.{key}");
        let section = raw.span();
        self.note(&format!("account.{name}"), &section);
        let mut raw = raw.into_inner();
        let submission = self.submission_rules(&key, &mut raw);
        let Some(mailbox) = raw.mailbox else {
            self.problem(Some(section), &key("mailbox"), "is missing; write mailbox = \"scans@example.com\"");
            return None;
        };
        let mailbox = self.address(&key("mailbox"), mailbox);
        let only_identity = only(identities.names);
        if raw.identity.is_none() && only_identity.is_none() {
            let message = if identities.names.is_empty() {
                "is missing; write [identity.NAME] with tenant and client_id, and name it here"
            } else {
                "is missing; there are several identities"
            };
            self.problem(Some(section.clone()), &key("identity"), message);
        }
        let identity = self.reference(&key("identity"), raw.identity, identities.names.iter(), only_identity)?;
        let its = identities.by_name.get(&identity)?;
        let grant = &its.grant;
        let upstream = self.server(&key("upstream"), raw.upstream, its, upstreams);
        let upstream = upstream.map_err(|why| self.problem(Some(section.clone()), &key("upstream"), &why.to_string()));
        let upstream = upstream.ok().flatten()?;
        let user_span = raw.user.as_ref().map(Spanned::span);
        let user = raw.user.map_or_else(|| mailbox.clone(), |written| self.address(&key("user"), written));
        if let Some(span) = user_span.filter(|_| !grant.is_of_a_person()) {
            self.problem(Some(span), &key("user"), "nobody signs in with this identity's grant; remove it");
        }
        if !its.cloud.is_microsoft() && !user.eq_ignore_ascii_case(&mailbox) {
            self.problem(
                Some(section.clone()),
                &key("user"),
                "Google opens a mailbox to its own user alone; remove it",
            );
        }
        match (&raw.password_file, matches!(grant, Grant::Password(_))) {
            (None, true) => {
                self.problem(Some(section), &key("password_file"), "is missing; the identity's grant is \"password\"");
            }
            (Some(written), false) => {
                self.problem(Some(written.span()), &key("password_file"), "goes with grant = \"password\" alone");
            }
            _ => {}
        }
        if let Some(written) = &raw.password_file {
            self.note(&key("password_file"), &written.span());
        }
        Some(Account {
            mailbox,
            identity,
            upstream,
            user,
            password_file: raw.password_file.map(Spanned::into_inner),
            probe: raw.probe.unwrap_or(true),
            submission,
        })
    }

    /// The rules for mail that devices send from the account.
    fn submission_rules(&mut self, key: &dyn Fn(&str) -> String, raw: &mut AccountSection) -> SubmissionRules {
        let senders_span = raw.senders.as_ref().map(Spanned::span);
        let sender = self.choice(&key("sender"), raw.sender.take(), &SenderPolicy::ALL).unwrap_or_default();
        let senders = self.address_list(&key("senders"), raw.senders.take());
        if matches!(sender, SenderPolicy::Envelope | SenderPolicy::Reject) {
            let message = "has a meaning with sender = \"rewrite\" or \"pass\" alone; remove it";
            senders_span.into_iter().for_each(|span| self.problem(Some(span), &key("senders"), message));
        }
        if let Some(written) = &raw.recipients {
            self.note(&key("recipients"), &written.span());
        }
        let recipients = self.address_list(&key("recipients"), raw.recipients.take());
        let bare_line_ends = self.choice(&key("bare_line_ends"), raw.bare_line_ends.take(), &BareLineEnds::ALL);
        let bare_line_ends = bare_line_ends.unwrap_or_default();
        let span = raw.lf_end_of_data.as_ref().map(Spanned::span);
        let lf_end_of_data = raw.lf_end_of_data.take().is_some_and(Spanned::into_inner);
        if lf_end_of_data && bare_line_ends == BareLineEnds::Refuse {
            let message =
                "contradicts bare_line_ends = \"refuse\", which refuses every LF alone; remove one of the two";
            self.problem(span, &key("lf_end_of_data"), message);
        }
        let deliver = self.choice(&key("deliver"), raw.deliver.take(), &Delivery::ALL).unwrap_or_default();
        SubmissionRules { sender, senders, recipients, deliver, bare_line_ends, lf_end_of_data }
    }

    /// Bounds the recipients of every account by the list in `[submission]`. An account without a list has that one; a
    /// list of its own narrows it.
    pub(super) fn bound_recipients(&mut self, raw: &mut SubmissionSection, accounts: &mut BTreeMap<String, Account>) {
        let bound = self.address_list("submission.recipients", raw.recipients.take());
        if bound.is_empty() {
            return;
        }
        for (name, account) in accounts {
            let recipients = &mut account.submission.recipients;
            if recipients.is_empty() {
                recipients.clone_from(&bound);
            } else if recipients.iter().any(|entry| !covers(&bound, entry)) {
                let key = format!("account.{name}.recipients");
                let message = "has an address that recipients of [submission] does not have; an account's list narrows \
                               that one: write the address there too, or remove it here";
                let line = self.positions.get(&key).map(|position| position.line);
                let (file, message) = (self.file.to_path_buf(), message.to_owned());
                self.problems.push(Problem { file, line, key, message });
            }
        }
    }

    /// A list of addresses and domains.
    pub(super) fn address_list(&mut self, key: &str, written: Written<Vec<Spanned<String>>>) -> Vec<String> {
        let Some(written) = written else { return Vec::new() };
        if written.get_ref().is_empty() {
            self.problem(Some(written.span()), key, "is empty; name an address or a domain, or remove the key");
        }
        let mut entries = Vec::new();
        for one in written.into_inner() {
            let entry = normalize::trimmed(one.get_ref()).to_owned();
            if !submission::is_entry(&entry) {
                let message = "has an address, such as \"scans@example.com\", or a domain, such as \"*@example.com\"";
                self.problem(Some(one.span()), key, message);
            }
            entries.push(entry);
        }
        entries
    }

    /// The mail server that the account's token goes to: the one that the account names, or that of the identity's
    /// cloud.
    ///
    /// # Errors
    /// The account names none, and the cloud has none or several.
    fn server(
        &mut self,
        key: &str,
        written: Written<String>,
        identity: &Identity,
        upstreams: &Upstreams,
    ) -> Result<Option<String>, NoServer> {
        let Some(written) = written else {
            return upstreams.of_cloud(identity).map(|name| Some(name.to_owned()));
        };
        let span = written.span();
        let upstream = self.reference(key, Some(written), upstreams.by_name.keys(), None);
        let Some(upstream) = upstream else { return Ok(None) };
        let server = upstreams.by_name.get(&upstream);
        let cloud = Cloud::ALL.iter().find(|(_, cloud)| server.is_some_and(|server| cloud.runs(server)));
        if let Some((other, _)) = cloud.filter(|(_, cloud)| *cloud != identity.cloud) {
            let message = format!(
                "is a mail server of cloud \"{other}\", and gets this account's token, which is for {}: remove the \
                 key, or write cloud = \"{other}\" at the identity",
                identity.cloud.resource()
            );
            self.warn(Some(span), key, &message);
        }
        Ok(Some(upstream))
    }

    fn address(&mut self, key: &str, written: Spanned<String>) -> String {
        self.note(key, &written.span());
        let address = normalize::address(written.get_ref());
        if address.split_once('@').is_some_and(|(_, domain)| !domain.is_ascii()) {
            let message = "write its domain in ASCII, as it stands in the admin center (xn--...)";
            self.problem(Some(written.span()), key, message);
        }
        let well_formed = address.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && domain.contains('.')
                && !domain.contains(['@', '\\', '/', ',', ';', '<', '>', ':', '"'])
        });
        if !well_formed || address.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = "is no mail address; write it as \"scans@example.com\"";
            self.problem(Some(written.span()), key, message);
        }
        address.to_owned()
    }
}

/// The only name there is.
pub(super) fn only(names: &Names) -> Option<&str> {
    names.first().filter(|_| names.len() == 1).map(String::as_str)
}
