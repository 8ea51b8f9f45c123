//! Accounts and devices, proven: each login opens exactly one mailbox.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::upstream::{NoServer, Upstreams};
use super::{Names, Proof};
use crate::config::file::{AccountSection, DeviceSection, Written};
use crate::config::{Account, Cloud, Device, Grant, Identity, Networks, normalize};
use crate::submission::{self, BareLineEnds, Delivery, SenderPolicy, SubmissionRules};

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

    /// A list of addresses and domains.
    fn address_list(&mut self, key: &str, written: Written<Vec<Spanned<String>>>) -> Vec<String> {
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

    pub(super) fn devices(&mut self, raw: Vec<Spanned<DeviceSection>>, accounts: &Names) -> Vec<Device> {
        let mut devices: Vec<Device> = Vec::new();
        for section in raw {
            let span = section.span();
            let Some(device) = self.device(section, accounts) else { continue };
            if let Some(login) = device.logins.first() {
                self.note(&format!("device.{login}"), &span);
            }
            for other in &devices {
                if let Some(login) = device.logins.iter().find(|login| other.logins.contains(login)) {
                    let name = other.logins.first().unwrap_or(login);
                    let message = format!(
                        "its login, or one of its aliases, is another device's already: device \"{name}\" has \"{login}\""
                    );
                    self.problem(Some(span.clone()), "device.login", &message);
                }
            }
            devices.push(device);
        }
        devices
    }

    fn device(&mut self, section: Spanned<DeviceSection>, accounts: &Names) -> Option<Device> {
        let span = section.span();
        let raw = section.into_inner();
        if raw.login.is_none() {
            self.problem(Some(span.clone()), "device.login", "is missing; write login = \"scanner3\"");
        }
        let mut logins: Vec<String> = Vec::new();
        let aliases = raw.aliases.map(Spanned::into_inner).unwrap_or_default();
        for written in raw.login.into_iter().chain(aliases) {
            let login = normalize::trimmed(written.get_ref()).to_lowercase();
            if login.is_empty() || login.len() > LONGEST_LOGIN || login.contains(char::is_control) {
                let message = format!("has 1 to {LONGEST_LOGIN} characters, and no control characters");
                self.problem(Some(written.span()), "device.login", &message);
            }
            if !login.is_ascii() {
                let message = "has characters beyond ASCII, which devices send in one encoding or another, or not at \
                               all: prefer letters and digits";
                self.warn(Some(written.span()), "device.login", message);
            }
            if !logins.contains(&login) {
                logins.push(login);
            }
        }
        let passwords = self.passwords(&span, raw.passwords);
        let only = only(accounts);
        if raw.account.is_none() && only.is_none() {
            let message = if accounts.is_empty() {
                "is missing; write [account.NAME] with a mailbox, and name it here"
            } else {
                "is missing; write account = \"...\", the mailbox that this device opens"
            };
            self.problem(Some(span.clone()), "device.account", message);
        }
        let account = self.reference("device.account", raw.account, accounts.iter(), only)?;
        let networks = raw.networks.map(|written| {
            if written.get_ref().is_empty() {
                let message = "allows nobody; name a network, or remove the key";
                self.problem(Some(written.span()), "device.networks", message);
            }
            let each = written.into_inner().into_iter();
            Networks(each.filter_map(|one| self.network("device.networks", one)).collect())
        });
        let description = raw.description.and_then(|written| {
            if written.get_ref().len() > LONGEST_LOGIN || written.get_ref().contains(char::is_control) {
                let message = format!("has up to {LONGEST_LOGIN} characters, and no control characters");
                self.problem(Some(written.span()), "device.description", &message);
            }
            Some(written.into_inner()).filter(|text| !text.is_empty())
        });
        let delete = raw.delete.unwrap_or(true);
        (!logins.is_empty()).then_some(Device { logins, passwords, account, networks, description, delete })
    }

    fn passwords(&mut self, section: &Range<usize>, written: Written<Vec<Spanned<String>>>) -> Vec<String> {
        const ADVICE: &str = "run packetboat password, type the password into the device, and its hash in here";
        let Some(written) = written.filter(|written| !written.get_ref().is_empty()) else {
            let message = format!("is missing, and without one anybody could log in; {ADVICE}");
            self.problem(Some(section.clone()), "device.passwords", &message);
            return Vec::new();
        };
        let mut hashes = Vec::new();
        for one in written.into_inner() {
            let hash = normalize::trimmed(one.get_ref()).to_owned();
            if !hash.starts_with("$argon2id$") {
                // The message does not quote the value, which is probably the password itself.
                let message = format!("must be hashes that begin with $argon2id$; {ADVICE}");
                self.problem(Some(one.span()), "device.passwords", &message);
            }
            hashes.push(hash);
        }
        hashes
    }
}

/// The only name there is.
fn only(names: &Names) -> Option<&str> {
    names.first().filter(|_| names.len() == 1).map(String::as_str)
}

/// Beyond what any device can store (fax machines have 63).
const LONGEST_LOGIN: usize = 255;
