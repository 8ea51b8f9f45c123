//! Devices, proven: each has names, a password or networks that stand for it, and opens exactly one mailbox.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::account::only;
use super::limits::MOST_RECIPIENTS_PER_HOUR;
use super::{Names, Proof};
use crate::config::file::{DeviceSection, Written};
use crate::config::{Account, Device, Networks, normalize};
use crate::submission::{DeviceLists, EVERYONE, SenderPolicy, covers};

/// The accounts that devices refer to.
pub(super) struct Accounts<'a> {
    pub(super) by_name: &'a BTreeMap<String, Account>,
    /// The names of all, also of those with a mistake.
    pub(super) names: &'a Names,
}

impl Proof<'_> {
    pub(super) fn devices(&mut self, raw: Vec<Spanned<DeviceSection>>, accounts: &Accounts<'_>) -> Vec<Device> {
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
                self.overlapping(&span, &device, other);
            }
            devices.push(device);
        }
        devices
    }

    fn device(&mut self, section: Spanned<DeviceSection>, accounts: &Accounts<'_>) -> Option<Device> {
        let span = section.span();
        let mut raw = section.into_inner();
        let logins = self.logins_of(&span, &mut raw);
        let sends_without_login = raw.send_without_login.as_ref().is_some_and(|written| *written.get_ref());
        let passwords = self.passwords(&span, raw.passwords.take(), sends_without_login);
        let only = only(accounts.names);
        if raw.account.is_none() && only.is_none() {
            let message = if accounts.names.is_empty() {
                "is missing; write [account.NAME] with a mailbox, and name it here"
            } else {
                "is missing; write account = \"...\", the mailbox that this device opens"
            };
            self.problem(Some(span.clone()), "device.account", message);
        }
        let account = self.reference("device.account", raw.account.take(), accounts.names.iter(), only);
        let networks = raw.networks.take().map(|written| {
            if written.get_ref().is_empty() {
                let message = "allows nobody; name a network, or remove the key";
                self.problem(Some(written.span()), "device.networks", message);
            }
            let each = written.into_inner().into_iter();
            Networks(each.filter_map(|one| self.network("device.networks", one)).collect())
        });
        let description = raw.description.take().and_then(|written| {
            if written.get_ref().len() > LONGEST_LOGIN || written.get_ref().contains(char::is_control) {
                let message = format!("has up to {LONGEST_LOGIN} characters, and no control characters");
                self.problem(Some(written.span()), "device.description", &message);
            }
            Some(written.into_inner()).filter(|text| !text.is_empty())
        });
        let delete = raw.delete.unwrap_or(true);
        let account = account?;
        let submission = self.lists(&mut raw, &account, accounts);
        let device =
            Device { logins, passwords, account, networks, description, delete, sends_without_login, submission };
        self.without_login(&span, &raw, &device, accounts);
        (!device.logins.is_empty()).then_some(device)
    }

    /// The user names, the first one of which names the device.
    fn logins_of(&mut self, section: &Range<usize>, raw: &mut DeviceSection) -> Vec<String> {
        if raw.login.is_none() {
            self.problem(Some(section.clone()), "device.login", "is missing; write login = \"scanner3\"");
        }
        let mut logins: Vec<String> = Vec::new();
        let aliases = raw.aliases.take().map(Spanned::into_inner).unwrap_or_default();
        for written in raw.login.take().into_iter().chain(aliases) {
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
        logins
    }

    /// The hashes. A device that sends without a login may have none.
    fn passwords(
        &mut self,
        section: &Range<usize>,
        written: Written<Vec<Spanned<String>>>,
        is_optional: bool,
    ) -> Vec<String> {
        const ADVICE: &str = "run packetboat password, type the password into the device, and its hash in here";
        if written.is_none() && is_optional {
            return Vec::new();
        }
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

impl Proof<'_> {
    /// The device's own lists of senders and recipients. They have nothing that the account's lists do not allow.
    fn lists(&mut self, raw: &mut DeviceSection, account: &str, accounts: &Accounts<'_>) -> DeviceLists {
        const SENDERS: &str = "device.senders";
        const RECIPIENTS: &str = "device.recipients";
        const PER_HOUR: &str = "device.recipients_per_hour";
        let spans = [&raw.senders, &raw.recipients].map(|written| written.as_ref().map(Spanned::span));
        let [senders_span, recipients_span] = spans;
        let senders = raw.senders.take().map(|written| self.address_list(SENDERS, Some(written)));
        let is_everyone = |written: &Spanned<Vec<Spanned<String>>>| matches!(written.get_ref().as_slice(), [one] if normalize::trimmed(one.get_ref()) == EVERYONE);
        let recipients = raw.recipients.take().map(|written| match is_everyone(&written) {
            true => Vec::new(),
            false => self.address_list(RECIPIENTS, Some(written)),
        });
        // An account with a mistake of its own has a message already.
        if let Some(its) = accounts.by_name.get(account) {
            let rules = &its.submission;
            if senders.is_some() && matches!(rules.sender, SenderPolicy::Envelope | SenderPolicy::Reject) {
                let message = "has a meaning with sender = \"rewrite\" or \"pass\" of the account alone; remove it";
                self.problem(senders_span.clone(), SENDERS, message);
            }
            let own = [&rules.senders[..], std::slice::from_ref(&its.mailbox)].concat();
            if senders.iter().flatten().any(|entry| !covers(&own, entry)) {
                let message = format!(
                    "has an address that account \"{account}\" may not send as; a device's list narrows its account's: \
                     write the address into senders of [account.{account}] too, or remove it here"
                );
                self.problem(senders_span, SENDERS, &message);
            }
            let is_wider = match recipients.as_deref() {
                Some([]) => !rules.recipients.is_empty(),
                Some(entries) => {
                    !rules.recipients.is_empty() && entries.iter().any(|one| !covers(&rules.recipients, one))
                }
                None => false,
            };
            if is_wider {
                let message = format!(
                    "has an address that recipients of account \"{account}\", or of [submission], does not have; a \
                     device's list narrows the others: write the address there too, or remove it here"
                );
                self.problem(recipients_span, RECIPIENTS, &message);
            }
        }
        let range = 1..=MOST_RECIPIENTS_PER_HOUR;
        let per_hour = raw.recipients_per_hour.take();
        let recipients_per_hour = per_hour.map(|number| self.number(PER_HOUR, Some(number), range, 1));
        DeviceLists { senders, recipients, recipients_per_hour }
    }

    /// Checks a device that sends without a login: every computer at its addresses can send, and so they are few and
    /// private, and its recipients are bounded or said to be everyone.
    fn without_login(&mut self, section: &Range<usize>, raw: &DeviceSection, device: &Device, accounts: &Accounts<'_>) {
        const KEY: &str = "device.send_without_login";
        const NETWORKS: &str = "device.networks";
        let wide = raw.allow_wide_networks.as_ref();
        let allows_wide = wide.is_some_and(|written| *written.get_ref());
        if !device.sends_without_login {
            if let Some(span) = wide.map(Spanned::span) {
                let message = "has a meaning beside send_without_login = true alone; remove it";
                self.problem(Some(span), "device.allow_wide_networks", message);
            }
            return;
        }
        let span = raw.send_without_login.as_ref().map_or_else(|| section.clone(), Spanned::span);
        let Some(networks) = &device.networks else {
            let message = "needs networks beside it, which stand for the login: write networks = [\"192.168.1.20\"] \
                           with the device's own address";
            return self.problem(Some(span), KEY, message);
        };
        let private = Networks::private();
        for network in &networks.0 {
            if !private.0.iter().any(|one| one.contains(network)) {
                let message = format!(
                    "{network} has public addresses, and send_without_login lets everybody there send mail from the \
                     mailbox; name the device's own private address, as \"192.168.1.20\", or give the device a password"
                );
                self.problem(Some(span.clone()), NETWORKS, &message);
            } else if !allows_wide && is_wide(network) {
                let message = format!(
                    "every computer in {network} could send mail from the mailbox; name the device's own address, as \
                     \"192.168.1.20\", or write allow_wide_networks = true beside it if that is wanted"
                );
                self.problem(Some(span.clone()), NETWORKS, &message);
            } else if network.addr().is_loopback() {
                let message = "with a loopback address every program on this computer can send mail from the mailbox, \
                               and so can everybody behind a proxy that runs here";
                self.warn(Some(span.clone()), NETWORKS, message);
            }
        }
        let of_account = accounts.by_name.get(&device.account).map(|account| &account.submission.recipients);
        if device.submission.recipients.is_none() && of_account.is_some_and(Vec::is_empty) {
            let message = format!(
                "lets every computer at its address mail the whole world; write recipients = [\"*@example.com\"] with \
                 your own domain at the device, at [account.{}] or in [submission]; or recipients = [\"{EVERYONE}\"] at \
                 the device, if the world is wanted",
                device.account
            );
            self.problem(Some(span), KEY, &message);
        }
    }

    /// Refuses two devices without a login at one address: nobody could tell which of them sends.
    fn overlapping(&mut self, section: &Range<usize>, device: &Device, other: &Device) {
        if !device.sends_without_login || !other.sends_without_login {
            return;
        }
        let (Some(own), Some(its)) = (&device.networks, &other.networks) else { return };
        let Some(network) = own.0.iter().find(|network| its.overlap(network)) else { return };
        let name = other.logins.first().map_or("", String::as_str);
        let message = format!(
            "{network} overlaps the networks of device \"{name}\", which sends without a login, too: packetboat could \
             not tell the two apart; give each its own address"
        );
        self.problem(Some(section.clone()), "device.networks", &message);
    }
}

/// Returns whether a network has more addresses than one segment of a LAN.
fn is_wide(network: &ipnet::IpNet) -> bool {
    network.prefix_len() < if network.max_prefix_len() == 32 { 24 } else { 64 }
}

/// Beyond what any device can store (fax machines have 63).
const LONGEST_LOGIN: usize = 255;
