//! The way in for a device that sends mail without a login: the command, or the lines of the file, that let it send from
//! its own address.
//!
//! The log and the page propose the same one.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Config, Device, Listener, Logins, Networks};
use crate::text::shell_word;

/// The ways to let devices send through one listener without a login.
pub struct WithoutLogin {
    /// The listener would let such a device in.
    may_be: bool,
    offers: Vec<Offer>,
    /// The devices that alone come from an address, each with the lines that its section lacks.
    owners: HashMap<IpAddr, Lines>,
    /// The names that an earlier one of these commands has given.
    taken: Vec<String>,
}

/// A mailbox that such a device can send from.
struct Offer {
    account: String,
    mailbox: String,
    /// The entry of `recipients` that the device needs, because its account has none.
    recipient: Option<String>,
}

/// Lines for the section of a device that has a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The device's first login.
    pub device: String,
    /// The lines, each with one key.
    pub lines: Vec<String>,
}

/// A command that makes a device without a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The mailbox that it sends from.
    pub mailbox: String,
    /// The command, as a shell takes it.
    pub text: String,
}

/// The way in for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The file has a device for this address, whose section lacks these lines.
    Lines(Lines),
    /// One of these commands, by the mailbox that the device is to send from.
    Commands(Vec<Command>),
    /// None: the device needs a login.
    Login,
}

impl WithoutLogin {
    /// The ways of a listener.
    pub fn new(config: &Config, listener: &Listener) -> Self {
        let protocol = listener.protocol;
        let may_be = protocol.submits() && listener.logins == Logins::Translate;
        if !may_be {
            return Self { may_be, offers: Vec::new(), owners: HashMap::new(), taken: Vec::new() };
        }
        let is_served = |upstream: &String| {
            config.upstreams.get(upstream).is_some_and(|upstream| upstream.endpoint(protocol).is_some())
        };
        let offers =
            config.accounts.iter().filter(|(_, account)| is_served(&account.upstream)).map(|(name, account)| {
                let recipient = account.submission.recipients.is_empty().then(|| own_domain(&account.mailbox));
                Offer { account: name.clone(), mailbox: account.mailbox.clone(), recipient }
            });
        let logins = config.devices.iter().flat_map(|device| &device.logins);
        let taken = logins.filter(|login| login.starts_with(NAME)).cloned().collect();
        Self { may_be, offers: offers.collect(), owners: owners(config), taken }
    }

    /// The way in for a device at this address.
    pub fn way(&self, source: IpAddr) -> Way {
        let source = source.to_canonical();
        if !self.may_be || !Networks::private().contain(source) {
            return Way::Login;
        }
        if let Some(lines) = self.owners.get(&source) {
            return Way::Lines(lines.clone());
        }
        let commands: Vec<Command> =
            self.offers.iter().take(MOST_OFFERS).map(|one| self.command(one, source)).collect();
        if commands.is_empty() { Way::Login } else { Way::Commands(commands) }
    }

    fn command(&self, offer: &Offer, source: IpAddr) -> Command {
        let Offer { account, mailbox, recipient } = offer;
        let plain = format!("{NAME}{}", source.to_string().replace(['.', ':'], "-"));
        let numbered = (2..).map(|number| format!("{plain}-{number}"));
        let name = std::iter::once(plain.clone()).chain(numbered).find(|name| !self.taken.contains(name));
        let mut text = format!(
            "packetboat device add {} --without-login --network {source} --account {}",
            name.unwrap_or(plain),
            shell_word(account)
        );
        if let Some(recipient) = recipient {
            text += &format!(" --recipient {}", shell_word(recipient));
        }
        Command { mailbox: mailbox.clone(), text }
    }

    /// The way in as advice, behind the address of a device that was refused.
    pub fn advice(&self, source: IpAddr) -> String {
        let shown = source.to_canonical();
        let begin = format!("{shown}: switch SMTP authentication on in the device, with a user name and password");
        match self.way(source) {
            Way::Login => format!("{begin} that packetboat knows"),
            Way::Lines(Lines { device, lines }) => format!(
                "{begin}, those of device \"{device}\", which has this address; if its menu has none, write {} into the \
                 section of that device and run packetboat reload; {RISK}",
                lines.join(", ")
            ),
            Way::Commands(commands) => {
                let others = commands.iter().skip(1).map(|one| one.mailbox.as_str()).collect::<Vec<_>>().join(", ");
                let others = if others.is_empty() { others } else { format!(" (for {others} name another account)") };
                let first = commands.first().map_or("", |one| one.text.as_str());
                format!("{begin}; if its menu has none, run {first}{others}; {RISK}")
            }
        }
    }
}

/// The devices with a login, by the one address that each alone comes from, and the lines that let it do without.
fn owners(config: &Config) -> HashMap<IpAddr, Lines> {
    let mut owners: HashMap<IpAddr, Option<Lines>> = HashMap::new();
    for device in &config.devices {
        let networks = device.networks.iter().flat_map(|networks| &networks.0);
        for network in networks.filter(|network| network.prefix_len() == network.max_prefix_len()) {
            let lines = lines(config, device);
            owners.entry(network.addr().to_canonical()).and_modify(|one| *one = None).or_insert(lines);
        }
    }
    owners.into_iter().filter_map(|(address, lines)| Some((address, lines?))).collect()
}

/// The lines that let a device send without its login. None where its networks are too many for that.
fn lines(config: &Config, device: &Device) -> Option<Lines> {
    let networks = device.networks.as_ref()?;
    let is_alone = matches!(networks.0.as_slice(), [_]);
    let account = config.accounts.get(&device.account).filter(|_| is_alone && !device.sends_without_login)?;
    let mut lines = vec!["send_without_login = true".to_owned()];
    if device.submission.recipients.is_none() && account.submission.recipients.is_empty() {
        lines.push(format!("recipients = [\"{}\"]", own_domain(&account.mailbox)));
    }
    Some(Lines { device: device.logins.first()?.clone(), lines })
}

/// The domain of a mailbox, as an entry of `recipients`.
pub fn own_domain(mailbox: &str) -> String {
    format!("*@{}", mailbox.rsplit('@').next().unwrap_or_default())
}

/// The beginning of the name of a device that such a command makes.
const NAME: &str = "sender-";
/// The number of mailboxes that are offered.
const MOST_OFFERS: usize = 4;
/// The price of a device without a login.
const RISK: &str = "every computer at that address can send then";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

    fn ways(more: &str) -> WithoutLogin {
        let text = format!(
            "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
             client_secret_file = \"/x\"\n[account.scans]\nmailbox = \"scans@contoso.example\"\n[[device]]\n\
             login = \"x\"\naccount = \"scans\"\npasswords = [\"{HASH}\"]\n{more}\n\
             [[listener]]\nprotocol = \"smtp\"\nlisten = [\"192.0.2.1:9000\"]\n"
        );
        let parsed = Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        WithoutLogin::new(&parsed.config, parsed.config.listeners.first().unwrap())
    }

    fn command(ways: &WithoutLogin, source: &str) -> String {
        match ways.way(source.parse().unwrap()) {
            Way::Commands(commands) => commands.iter().map(|one| one.text.as_str()).collect::<Vec<_>>().join("\n"),
            other => panic!("{other:?}"),
        }
    }

    const COMMAND: &str = "packetboat device add sender-192-168-1-33 --without-login --network 192.168.1.33 --account scans \
                           --recipient '*@contoso.example'";

    #[test]
    fn a_command_names_address_account_and_the_mailbox_s_own_domain() {
        assert_eq!(command(&ways(""), "192.168.1.33"), COMMAND);
        assert_eq!(command(&ways(""), "::ffff:192.168.1.33"), COMMAND);
        assert!(command(&ways(""), "fd00::1").contains(" sender-fd00--1 --without-login --network fd00::1 "));
        let bounded = ways("[submission]\nrecipients = [\"a@contoso.example\"]");
        assert_eq!(command(&bounded, "192.168.1.33"), COMMAND.replace(" --recipient '*@contoso.example'", ""));
        let taken = "[[device]]\nlogin = \"sender-192-168-1-33\"\npasswords = [\"$argon2id$x\"]\naccount = \"scans\"";
        assert_eq!(command(&ways(taken), "192.168.1.33"), COMMAND.replace("1-33", "1-33-2"));
        let two = ways("[account.\"old fax\"]\nmailbox = \"fax@contoso.example\"");
        let both = command(&two, "192.168.1.33");
        assert!(both.contains("--account 'old fax' ") && both.lines().count() == 2, "{both}");
    }

    #[test]
    fn a_device_of_that_address_gets_lines() {
        let ways = ways("networks = [\"192.168.1.33\"]");
        let lines = ["send_without_login = true", "recipients = [\"*@contoso.example\"]"].map(str::to_owned).to_vec();
        assert_eq!(ways.way("192.168.1.33".parse().unwrap()), Way::Lines(Lines { device: "x".to_owned(), lines }));
        assert!(matches!(ways.way("192.168.1.34".parse().unwrap()), Way::Commands(_)));
    }

    #[test]
    fn a_public_address_needs_a_login() {
        for source in ["192.0.2.7", "2001:db8::1"] {
            assert_eq!(ways("").way(source.parse().unwrap()), Way::Login);
            assert!(!ways("").advice(source.parse().unwrap()).contains("--without-login"));
        }
    }

    /// The page keeps a failure's first 500 characters.
    #[test]
    fn the_advice_is_short_enough_to_be_kept() {
        let names = ["a", "b", "c"].map(|one| format!("[account.{one}]\nmailbox = \"{one}@contoso.example\"\n"));
        let advice = ways(&names.concat()).advice("192.168.100.133".parse().unwrap());
        assert!(advice.len() < 440 && advice.contains("(for b@contoso.example, "), "{} {advice}", advice.len());
    }
}
