//! A plan is the configuration that `packetboat init` writes: what was answered, and nothing that is not needed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::roster::RosterEntry;
use crate::config::{Profile, ProfileListener, own_domain};
use crate::protocol::{Protocol, Security};

/// The answers, and what follows from them.
pub struct Plan {
    /// The directory of Microsoft Entra: a domain or a GUID.
    pub tenant: String,
    /// The application's id; zeros until it is registered.
    pub client_id: String,
    /// The application's certificate, as the file shall name it.
    pub chain: String,
    /// The certificate's key, as the file shall name it.
    pub key: String,
    /// More lines for the identity, each a key and a text.
    pub identity_keys: Vec<(&'static str, String)>,
    /// The upstream of the accounts, where it is not Exchange Online.
    pub upstream: Option<String>,
    /// The names and addresses in the certificate that devices see; none leaves that to packetboat.
    pub names: Vec<String>,
    /// The networks of the devices; none leaves the default, private networks.
    pub networks: Vec<IpNet>,
    /// The devices.
    pub devices: Vec<PlannedDevice>,
    /// The ports that the listeners take, by the registered port that each stands for.
    pub ports: BTreeMap<u16, u16>,
    /// Sections of the file before that stay.
    pub kept: String,
    /// True if the lines of the file before end with CR and LF.
    pub has_crlf: bool,
}

/// A device of a plan.
pub struct PlannedDevice {
    /// The device.
    pub entry: RosterEntry,
    /// Its password; none for a device that sends without a login.
    pub password: Option<NewPassword>,
    /// True if it was seen with SSLv3, 3DES or RC4, and so needs the profile "ancient".
    pub is_ancient: bool,
}

/// A password that was made for a device.
pub struct NewPassword {
    /// The password, which stands on the device's sheet and not in the configuration.
    pub text: Zeroizing<String>,
    /// Its hash.
    pub hash: String,
}

impl Plan {
    /// The configuration.
    pub fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        if !self.kept.trim().is_empty() {
            let _ = write!(text, "\n{}\n", self.kept.trim());
        }
        self.write_identity(&mut text);
        let accounts = self.write_accounts(&mut text);
        self.write_devices(&mut text, &accounts);
        if !self.names.is_empty() {
            text += "\n# The names and addresses of this computer that devices use.\n[certificate.default]\n";
            let _ = writeln!(text, "names = {}", list(&self.names));
        }
        self.write_listeners(&mut text);
        if self.has_crlf { text.replace('\n', "\r\n") } else { text }
    }

    fn write_identity(&self, text: &mut String) {
        text.push_str(
            "\n# The application that opens the mailboxes. packetboat init --finish CLIENT_ID fills in its id.\n\
             [identity.office]\n",
        );
        let keys = [("tenant", &self.tenant), ("client_id", &self.client_id)];
        let keys = keys.into_iter().chain([("certificate", &self.chain), ("key", &self.key)]);
        for (key, value) in keys.chain(self.identity_keys.iter().map(|(key, value)| (*key, value))) {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
    }

    /// Writes an account for each mailbox, and returns their names.
    fn write_accounts(&self, text: &mut String) -> BTreeMap<String, String> {
        let mut accounts: BTreeMap<String, String> = BTreeMap::new();
        text.push_str("\n# The mailboxes.\n");
        for device in &self.devices {
            let mailbox = device.entry.mailbox.to_lowercase();
            if accounts.contains_key(&mailbox) {
                continue;
            }
            let taken: Vec<String> = accounts.values().cloned().collect();
            let name = account_name(&taken, &mailbox);
            let _ = writeln!(text, "[account.{name}]\nmailbox = {}", quoted(&device.entry.mailbox));
            if let Some(upstream) = &self.upstream {
                let _ = writeln!(text, "upstream = {}", quoted(upstream));
            }
            text.push('\n');
            accounts.insert(mailbox, name);
        }
        accounts
    }

    fn write_devices(&self, text: &mut String, accounts: &BTreeMap<String, String>) {
        text.push_str("# The devices: user name, hash of the password, mailbox, and where each comes from.\n");
        for device in &self.devices {
            let entry = &device.entry;
            let _ = writeln!(text, "[[device]]\nlogin = {}", quoted(&entry.name));
            if self.may_use_mailbox_as_login(device) {
                let _ = writeln!(text, "aliases = {}", list(std::slice::from_ref(&entry.mailbox)));
            }
            let account = accounts.get(&entry.mailbox.to_lowercase()).map_or("", String::as_str);
            let _ = writeln!(text, "account = {}", quoted(account));
            match &device.password {
                Some(password) => {
                    let _ = writeln!(text, "passwords = {}", list(std::slice::from_ref(&password.hash)));
                }
                None => {
                    let recipient = own_domain(&entry.mailbox);
                    let _ = writeln!(text, "send_without_login = true\nrecipients = {}", list(&[recipient]));
                }
            }
            if let Some(network) = entry.network {
                let _ = writeln!(text, "networks = {}", list(&[network.to_string()]));
            }
            text.push('\n');
        }
    }

    /// Returns whether the device alone opens its mailbox, and no other device has the address as its name.
    fn may_use_mailbox_as_login(&self, device: &PlannedDevice) -> bool {
        let mailbox = &device.entry.mailbox;
        if device.password.is_none() {
            return false;
        }
        let others = self.devices.iter().filter(|other| other.entry.name != device.entry.name);
        let is_shared = others.into_iter().any(|other| {
            other.entry.mailbox.eq_ignore_ascii_case(mailbox) || other.entry.name.eq_ignore_ascii_case(mailbox)
        });
        !is_shared && !device.entry.name.eq_ignore_ascii_case(mailbox)
    }

    fn write_listeners(&self, text: &mut String) {
        for protocol in Protocol::ALL {
            let devices = || self.devices.iter().filter(move |device| device.entry.protocols.contains(&protocol));
            if devices().any(|device| !device.is_ancient) {
                let ports = [Security::Implicit, Security::StartTls].map(|security| protocol.port(security));
                let _ = writeln!(
                    text,
                    "# {} on port {} (SSL/TLS) and {} (STARTTLS as well).",
                    protocol.name(),
                    self.port(ports[0]),
                    self.port(ports[1])
                );
                for port in ports {
                    self.write_listener(text, protocol, port);
                }
            }
            let ancient: Vec<IpNet> =
                devices().filter(|device| device.is_ancient).filter_map(|device| device.entry.network).collect();
            if !ancient.is_empty() {
                text.push_str(
                    "# For devices that know no more than SSLv3, 3DES or RC4, and for their addresses alone.\n",
                );
                self.write_ancient(text, protocol, &ancient);
            }
        }
    }

    fn write_listener(&self, text: &mut String, protocol: Protocol, registered: u16) {
        let port = self.port(registered);
        let _ = writeln!(
            text,
            "[[listener]]\nname = \"{}-{port}\"\nprotocol = \"{}\"\nlisten = {}",
            protocol.key(),
            protocol.key(),
            every_address(port)
        );
        if registered == protocol.port(Security::Implicit) {
            text.push_str("entry = \"implicit\"\n");
        }
        write_networks(text, &self.networks);
    }

    /// Writes the listener for devices whose TLS only the profile "ancient" accepts: the same one as log and page propose.
    fn write_ancient(&self, text: &mut String, protocol: Protocol, networks: &[IpNet]) {
        let keys = ancient(protocol);
        let lines = keys.lines(&keys.name()).join("\n");
        let _ = writeln!(text, "{lines}\nlisten = {}", every_address(self.port(keys.port())));
        write_networks(text, networks);
    }

    fn port(&self, registered: u16) -> u16 {
        self.ports.get(&registered).copied().unwrap_or(registered)
    }

    /// The ports that the plan's listeners have by their registration, and the devices that need each.
    pub fn registered_ports(devices: &[PlannedDevice]) -> Vec<u16> {
        let mut ports = Vec::new();
        for protocol in Protocol::ALL {
            let of_protocol = || devices.iter().filter(move |device| device.entry.protocols.contains(&protocol));
            if of_protocol().any(|device| !device.is_ancient) {
                ports.extend([Security::Implicit, Security::StartTls].map(|security| protocol.port(security)));
            }
            if of_protocol().any(|device| device.is_ancient) {
                ports.push(ancient(protocol).port());
            }
        }
        ports
    }
}

/// A name for a new account: the part before the `@`, with a number behind it if it is taken.
pub fn account_name(taken: &[String], address: &str) -> String {
    let user = address.split('@').next().unwrap_or_default();
    let plain: String =
        user.chars().map(|one| if one.is_ascii_alphanumeric() { one.to_ascii_lowercase() } else { '-' }).collect();
    let plain = match plain.trim_matches('-') {
        "" => "mailbox",
        other => other,
    };
    let numbered = (2..).map(|number| format!("{plain}-{number}"));
    let mut names = std::iter::once(plain.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

fn ancient(protocol: Protocol) -> ProfileListener {
    ProfileListener::new(protocol, Profile::Ancient)
}

/// The addresses of a listener at this port, as the file writes them.
fn every_address(port: u16) -> String {
    let addresses = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))];
    list(&addresses.map(|address| address.to_string()))
}

/// Writes the networks of a listener, and ends its section.
fn write_networks(text: &mut String, networks: &[IpNet]) {
    if !networks.is_empty() {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "allowed_networks = {}", list(&networks));
    }
    text.push('\n');
}

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn list(texts: &[String]) -> String {
    toml_edit::Value::Array(texts.iter().map(String::as_str).collect()).to_string()
}

const HEAD: &str = "\
# packetboat's configuration, written by packetboat init. Every key with its default:
# /usr/share/doc/packetboat/packetboat.toml. Afterwards: packetboat device add|remove|password|sheet|list, and
# packetboat account add|remove|list. They change this file and keep its comments; so may you, with packetboat check.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Entry, WayIn};
    use crate::provision::roster;
    use std::path::Path;

    const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

    /// The configuration for these devices; those whose name begins with `old` have ancient TLS.
    fn config(devices: &str) -> Config {
        let planned = |entry: RosterEntry| {
            let text = Zeroizing::new(String::new());
            let password = (!entry.sends_without_login).then(|| NewPassword { text, hash: HASH.to_owned() });
            PlannedDevice { is_ancient: entry.name.starts_with("old"), entry, password }
        };
        let plan = Plan {
            tenant: "contoso.example".to_owned(),
            client_id: "11111111-2222-3333-4444-555555555555".to_owned(),
            chain: "/c".to_owned(),
            key: "/k".to_owned(),
            identity_keys: Vec::new(),
            upstream: None,
            names: Vec::new(),
            networks: Vec::new(),
            devices: roster::parse(devices).unwrap().into_iter().map(planned).collect(),
            ports: BTreeMap::new(),
            kept: String::new(),
            has_crlf: false,
        };
        let text = plan.text();
        Config::parse(&text, Path::new("x")).unwrap_or_else(|problems| panic!("{problems:?}\n{text}")).config
    }

    /// The listener for ancient devices is the one that log and page would propose, and they find it.
    #[test]
    fn ancient_devices_have_the_listener_of_the_log() {
        for (protocol, entry) in [
            ("imap", Entry::Implicit),
            ("pop3", Entry::Implicit),
            ("smtp", Entry::Auto),
            ("imap+smtp", Entry::Implicit),
        ] {
            let line = |name: &str, host: u8| format!("{name},a@b.example,{protocol},192.168.1.{host}\n");
            let config = config(&(line("new", 1) + &line("old", 2)));
            let ancient: Vec<_> = config.listeners.iter().filter(|one| one.tls.profile == Profile::Ancient).collect();
            assert_eq!(ancient.len(), protocol.split('+').count(), "{protocol}");
            assert_eq!(ancient[0].entry, entry, "{protocol}");
            for listener in config.listeners.iter().filter(|one| one.tls.profile != Profile::Ancient) {
                let way = WayIn::new(&config, listener, Profile::Ancient);
                assert!(matches!(way, Some(WayIn::Present(_))), "{}", listener.name);
            }
        }
    }

    #[test]
    fn a_device_without_a_login_is_known_by_its_address() {
        let config = config("ups,a@b.example,smtp,192.168.1.40,without-login\nfax,a@b.example,smtp,192.168.1.41\n");
        let [ups, fax] = &config.devices[..] else { panic!("{:?}", config.devices) };
        assert!(ups.sends_without_login && ups.passwords.is_empty());
        assert_eq!(ups.submission.recipients.as_deref(), Some(&["*@b.example".to_owned()][..]));
        assert!(!fax.sends_without_login && fax.passwords == [HASH] && fax.submission.recipients.is_none());
    }
}
