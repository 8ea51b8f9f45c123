//! The answers that a setup needs: from arguments, or from a person at the terminal.

use std::io::{IsTerminal, stdin};
use std::path::Path;

use ipnet::IpNet;

use super::Arguments;
use crate::cli::ConfigFile;
use crate::cli::edit;
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::print;
use crate::config::{Profile, Version};
use crate::device::password;
use crate::failure::Kind;
use crate::inventory::{self, SeenDevice};
use crate::provision::RosterEntry;
use crate::provision::roster;
use crate::text;
use crate::transport::host;

/// The answers.
pub(super) struct Answers {
    pub(super) tenant: String,
    /// The devices; true for those that were seen with SSLv3, 3DES or RC4.
    pub(super) devices: Vec<(RosterEntry, bool)>,
    pub(super) names: Vec<String>,
    pub(super) networks: Vec<IpNet>,
    pub(super) password_length: u8,
}

impl Answers {
    /// Takes what the arguments say, and asks for the rest.
    ///
    /// # Errors
    /// Something is missing and nobody can be asked, or an answer is of no use.
    pub(super) fn collect(file: &ConfigFile, arguments: &Arguments) -> Result<Self, CommandError> {
        let terminal = Terminal { may_ask: !arguments.yes && stdin().is_terminal() };
        let seen = seen(file)?;
        let tenant = match &arguments.tenant {
            Some(tenant) => tenant.clone(),
            None => terminal.ask("Tenant (a domain, such as contoso.onmicrosoft.com)", None, "--tenant")?,
        };
        let devices = match &arguments.devices {
            Some(path) => read(path)?,
            None => ask_for_devices(&terminal, &seen)?,
        };
        if devices.is_empty() {
            return Err(Exit::Usage.because("there is no device to set up: name them in a file, with --devices FILE"));
        }
        let with_age = |entry: RosterEntry| {
            let is_ancient = entry.network.is_some() && seen.iter().any(|one| is_ancient(one) && is_of(one, &entry));
            (entry, is_ancient)
        };
        let password_length = match arguments.password_length {
            Some(length) => length,
            None if terminal.may_ask => ask_for_length(&terminal)?,
            None => password::LENGTH,
        };
        let names = if arguments.name.is_empty() && terminal.may_ask {
            print(format_args!("This computer's own names and addresses: {}\n", own_names()))?;
            let asked = terminal.ask("Name or address of this computer that devices will use", Some("its own"), "")?;
            if asked == "its own" {
                Vec::new()
            } else {
                asked.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
            }
        } else {
            arguments.name.clone()
        };
        let networks = if arguments.network.is_empty() && terminal.may_ask {
            ask_for_networks(&terminal)?
        } else {
            networks(&arguments.network)?
        };
        Ok(Self { tenant, devices: devices.into_iter().map(with_age).collect(), names, networks, password_length })
    }
}

/// Asks a person, if there is one.
struct Terminal {
    may_ask: bool,
}

impl Terminal {
    /// The answer to a question; the default for an empty line.
    fn ask(&self, question: &str, default: Option<&str>, flag: &str) -> Result<String, CommandError> {
        if !self.may_ask {
            return Err(Exit::Usage.because(format_args!("{flag} is missing, and nobody can be asked")));
        }
        loop {
            let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
            print(format_args!("{question}{shown}: "))?;
            let mut line = String::new();
            let read = stdin().read_line(&mut line);
            let count = read.map_err(|error| Exit::IoError.because(format_args!("cannot read the answer: {error}")))?;
            let answer = line.trim();
            match (answer, default) {
                ("", Some(default)) => return Ok(default.to_owned()),
                ("", None) if count == 0 => return Err(Exit::Usage.because("there was no answer")),
                ("", None) => {}
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
    }
}

/// Asks for the length of the passwords until it is one.
fn ask_for_length(terminal: &Terminal) -> Result<u8, CommandError> {
    let question = "Length of the passwords, 8 to 31 (many devices accept no more than 15)";
    loop {
        let answer = terminal.ask(question, Some(&password::LENGTH.to_string()), "--password-length")?;
        match answer.parse() {
            Ok(length) if (8..=31).contains(&length) => return Ok(length),
            Ok(_) | Err(_) => print("  a number from 8 to 31\n")?,
        }
    }
}

/// Asks for the networks of the devices until each is one; none for the default.
fn ask_for_networks(terminal: &Terminal) -> Result<Vec<IpNet>, CommandError> {
    let question = "Networks of the devices, such as 192.168.1.0/24";
    loop {
        let answer = terminal.ask(question, Some(PRIVATE_NETWORKS), "--network")?;
        if answer == PRIVATE_NETWORKS {
            return Ok(Vec::new());
        }
        let given: Vec<String> =
            answer.split([',', ' ']).filter(|network| !network.is_empty()).map(str::to_owned).collect();
        match networks(&given) {
            Ok(networks) => return Ok(networks),
            Err(error) => print(format_args!("  {error}\n"))?,
        }
    }
}

/// Reads a roster.
fn read(path: &Path) -> Result<Vec<RosterEntry>, CommandError> {
    let shown = path.display();
    let content =
        std::fs::read(path).map_err(|error| Exit::NoInput.because(format_args!("{shown} cannot be read: {error}")))?;
    let content = text::utf_8(&content).map_err(|error| Exit::Usage.because(format_args!("{shown} {error}")))?;
    roster::parse(content).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|error| format!("{shown}: {error}")).collect();
        Exit::Usage.because(lines.join("\n"))
    })
}

/// The devices that packetboat has seen. Without an inventory they are none.
fn seen(file: &ConfigFile) -> Result<Vec<SeenDevice>, CommandError> {
    let output = edit::command(file, &["devices", "--json"], &file.config)?;
    Ok(inventory::read(&output.stdout).unwrap_or_default())
}

/// Asks for name and mailbox of each device that was seen. An empty mailbox leaves a device out.
fn ask_for_devices(terminal: &Terminal, seen: &[SeenDevice]) -> Result<Vec<RosterEntry>, CommandError> {
    if !terminal.may_ask {
        return Err(Exit::Usage.because(
            "--devices is missing: name a file with a line name,mailbox,protocol,address for each device (packetboat \
             devices lists those that it has seen)",
        ));
    }
    let mut entries: Vec<RosterEntry> = Vec::new();
    for device in seen {
        let (source, protocol) = (device.source, device.protocol);
        if entries.iter().any(|entry| entry.network == Some(IpNet::from(source)) && entry.protocols.contains(&protocol))
        {
            continue;
        }
        let login = device.logins.first().map_or_else(String::new, |login| format!(", user name {login}"));
        print(format_args!("\n{source}, {}{login}: {}\n", protocol.name(), device.assessment.text))?;
        if let Some(entry) = ask_for_device(terminal, device, &entries)? {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Asks for name and mailbox of one device until both are of use; none if the device is left out.
fn ask_for_device(
    terminal: &Terminal,
    device: &SeenDevice,
    others: &[RosterEntry],
) -> Result<Option<RosterEntry>, CommandError> {
    loop {
        let mailbox = terminal.ask("  Mailbox (- leaves the device out)", Some("-"), "--devices")?;
        if mailbox == "-" {
            return Ok(None);
        }
        let is_taken = |name: &str| others.iter().any(|other| other.name.eq_ignore_ascii_case(name));
        let known = device.logins.first().filter(|login| !login.contains('@') && !is_taken(login)).cloned();
        let proposed = known.unwrap_or_else(|| format!("device{}", others.len() + 1));
        let name = terminal.ask("  Name (the device's user name)", Some(&proposed), "--devices")?;
        let without_login = match device.reason {
            Some(Kind::MailWithoutLogin) if has_no_login(terminal)? => ",without-login",
            _ => "",
        };
        let line = format!("{name},{mailbox},{},{}{without_login}", device.protocol.key(), device.source);
        match roster::parse(&line) {
            Ok(_) if is_taken(&name) => print(format_args!("  another device has the name \"{name}\"\n"))?,
            Ok(parsed) => return Ok(parsed.into_iter().next()),
            Err(errors) => errors.iter().try_for_each(|error| print(format_args!("  {}\n", error.fault)))?,
        }
    }
}

/// Asks whether a device that has tried to send without a login is to do so.
fn has_no_login(terminal: &Terminal) -> Result<bool, CommandError> {
    let question = "  It sends without a login. Let it: every computer at its address can send from the mailbox then; or \
                    has its menu a user name (yes: let it, no: it gets a password)";
    let answer = terminal.ask(question, Some("no"), "--devices")?;
    Ok(answer.eq_ignore_ascii_case("yes") || answer.eq_ignore_ascii_case("y"))
}

/// This computer's names, as the certificate has them without `names`.
fn own_names() -> String {
    let addresses = host::addresses().into_iter().filter(|address| !address.is_loopback());
    let names = host::name().into_iter().chain(addresses.map(|address| address.to_string()));
    names.collect::<Vec<_>>().join(" ")
}

fn is_of(device: &SeenDevice, entry: &RosterEntry) -> bool {
    entry.protocols.contains(&device.protocol) && entry.network.is_some_and(|network| network.contains(&device.source))
}

/// Returns whether a device was seen with what only the profile "ancient" accepts.
fn is_ancient(device: &SeenDevice) -> bool {
    let has_old_cipher =
        device.cipher.as_deref().is_some_and(|cipher| OLD_CIPHERS.iter().any(|old| cipher.contains(old)));
    // A device that was refused has agreed on nothing; its offer says what it needs.
    let needs_it = device.profile.as_deref() == Some(Profile::Ancient.name());
    needs_it || device.version == Some(Version::Ssl3) || has_old_cipher
}

fn networks(given: &[String]) -> Result<Vec<IpNet>, CommandError> {
    let read = |text: &String| {
        roster::network(text).ok_or_else(|| {
            Exit::Usage.because(format_args!(
                "\"{text}\" is neither an address, such as 192.168.1.20, nor a network, such as 192.168.1.0/24"
            ))
        })
    };
    given.iter().map(read).collect()
}

/// The answer for listeners without `allowed_networks`.
const PRIVATE_NETWORKS: &str = "all private networks";
/// Parts of the names of suites that only the profile "ancient" has.
const OLD_CIPHERS: [&str; 2] = ["RC4", "DES-CBC3"];

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that was refused for its TLS has agreed on no suite, and is ancient all the same.
    #[test]
    fn ancient_devices_are_known_by_what_they_have_or_need() {
        let seen = |keys: &str| {
            let json = format!(
                "{{\"devices\":[{{\"source\":\"192.168.1.33\",\"protocol\":\"SMTP\",\"listener\":\"smtp\",\"logins\":[],\
                 \"sessions\":1,\"failures\":0,\"first_seen\":1,\"last_seen\":1,\
                 \"verdict\":{{\"kind\":\"needs\",\"text\":\"x\"}}{keys}}}]}}"
            );
            inventory::read(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}")).remove(0)
        };
        for (keys, is) in [
            ("", false),
            (",\"cipher\":\"AES128-SHA\"", false),
            (",\"cipher\":\"DES-CBC3-SHA\"", true),
            (",\"profile\":\"ancient\"", true),
            (",\"profile\":\"legacy\"", false),
        ] {
            assert_eq!(is_ancient(&seen(keys)), is, "{keys}");
        }
    }
}
