//! A roster lists the devices to set up, a line each: `name,mailbox,protocol,address`. A device that reads and sends has
//! one line, with `imap+smtp` or `pop3+smtp`. A fifth field, `without-login`, is for one that sends and has no user name.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Networks;
use crate::protocol::Protocol;

/// One device to set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterEntry {
    /// The user name that the device will send.
    pub name: String,
    /// The mailbox that it opens.
    pub mailbox: String,
    /// The protocols that it speaks: one that reads mail, SMTP, or both.
    pub protocols: Vec<Protocol>,
    /// The address or network that it comes from; none leaves that to its listener.
    pub network: Option<IpNet>,
    /// The device sends mail without a login, from its network alone.
    pub sends_without_login: bool,
}

/// Why a line of a roster is no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterError {
    /// The line, counted from 1.
    pub line: usize,
    /// The fault of the line.
    pub fault: RosterFault,
}

/// The fault of a line of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterFault {
    /// The line has another number of fields than three to five.
    Fields(usize),
    /// The name is empty, or has characters that no device should have to type.
    Name(String),
    /// The second field is no mail address.
    Mailbox(String),
    /// The third field is no protocol.
    Protocol(String),
    /// The fourth field is neither an address nor a network.
    Address(String),
    /// The fifth field is not the word for a device without a login.
    Login(String),
    /// A device without a login reads mail, which needs one.
    ReadsWithoutLogin,
    /// A device without a login has no private address of its own.
    AddressWithoutLogin,
    /// An earlier line has the same name.
    Twice(String),
}

/// Reads a roster. Empty lines, comments (`#`) and a heading are left out.
///
/// # Errors
/// All lines that are no device.
pub fn parse(text: &str) -> Result<Vec<RosterEntry>, Vec<RosterError>> {
    let (mut entries, mut errors): (Vec<RosterEntry>, Vec<RosterError>) = (Vec::new(), Vec::new());
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        let first = line.split([',', ';']).next().unwrap_or_default().trim().trim_matches('"');
        let is_heading = entries.is_empty() && errors.is_empty() && first.eq_ignore_ascii_case("name");
        if line.is_empty() || line.starts_with('#') || is_heading {
            continue;
        }
        let parsed = entry(line).and_then(|entry| {
            let is_known = entries.iter().any(|one| one.name.eq_ignore_ascii_case(&entry.name));
            if is_known { Err(RosterFault::Twice(entry.name)) } else { Ok(entry) }
        });
        match parsed {
            Ok(entry) => entries.push(entry),
            Err(fault) => errors.push(RosterError { line: number + 1, fault }),
        }
    }
    if errors.is_empty() { Ok(entries) } else { Err(errors) }
}

fn entry(line: &str) -> Result<RosterEntry, RosterFault> {
    // A spreadsheet in a language with a decimal comma separates by semicolons.
    let separator = if line.contains(',') { ',' } else { ';' };
    let fields: Vec<&str> = line.split(separator).map(|field| field.trim().trim_matches('"')).collect();
    let (name, mailbox, protocol, address, login) = match fields.as_slice() {
        [name, mailbox, protocol] => (*name, *mailbox, *protocol, "", ""),
        [name, mailbox, protocol, address] => (*name, *mailbox, *protocol, *address, ""),
        [name, mailbox, protocol, address, login] => (*name, *mailbox, *protocol, *address, *login),
        other => return Err(RosterFault::Fields(other.len())),
    };
    let is_plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.' | '@');
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(RosterFault::Name(name.to_owned()));
    }
    if !is_address(mailbox) {
        return Err(RosterFault::Mailbox(mailbox.to_owned()));
    }
    let protocols = protocols(protocol).ok_or_else(|| RosterFault::Protocol(protocol.to_owned()))?;
    let network = if address.is_empty() {
        None
    } else {
        Some(network(address).ok_or_else(|| RosterFault::Address(address.to_owned()))?)
    };
    let sends_without_login = login.eq_ignore_ascii_case(WITHOUT_LOGIN);
    if !sends_without_login && !login.is_empty() {
        return Err(RosterFault::Login(login.to_owned()));
    }
    if sends_without_login && protocols != [Protocol::SUBMISSION] {
        return Err(RosterFault::ReadsWithoutLogin);
    }
    let is_private = |network: &IpNet| Networks::private().0.iter().any(|one| one.contains(network));
    if sends_without_login && !network.as_ref().is_some_and(is_private) {
        return Err(RosterFault::AddressWithoutLogin);
    }
    Ok(RosterEntry { name: name.to_owned(), mailbox: mailbox.to_owned(), protocols, network, sends_without_login })
}

/// Reads `imap`, `pop3` or `smtp`, or one of the first two with `+smtp`.
fn protocols(text: &str) -> Option<Vec<Protocol>> {
    let known = |word: &str| Protocol::ALL.into_iter().find(|one| one.key().eq_ignore_ascii_case(word.trim()));
    let protocols = text.split('+').map(known).collect::<Option<Vec<Protocol>>>()?;
    let reading = protocols.iter().filter(|one| Protocol::MAILBOX.contains(one)).count();
    (reading <= 1 && protocols.len() - reading <= 1).then_some(protocols)
}

/// Returns whether a text has the form of a mail address (RFC 5321 section 4.1.2, Dot-string): it stands in commands that
/// are printed.
pub fn is_address(text: &str) -> bool {
    let is_of_user = |one: char| one.is_ascii_alphanumeric() || ".!#%&'*+/=?^_{|}~-".contains(one);
    let is_of_domain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '.' | '-');
    text.split_once('@').is_some_and(|(user, domain)| {
        let is_whole = !user.is_empty() && domain.contains('.');
        is_whole && user.chars().all(is_of_user) && domain.chars().all(is_of_domain)
    })
}

/// Reads a network, or an address as a network of its own.
pub fn network(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().ok().map(IpNet::from);
    address.or_else(|| text.parse::<IpNet>().ok().map(|network| network.trunc()))
}

impl fmt::Display for RosterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

impl fmt::Display for RosterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields(count) => write!(
                f,
                "has {count} fields; write name,mailbox,protocol,address, such as \
                 scanner1,scans@contoso.com,imap,192.168.1.21 (the address may be left out)"
            ),
            Self::Name(name) => write!(
                f,
                "\"{name}\" is no name that every device can type: use letters, digits, and the characters - _ . @"
            ),
            Self::Mailbox(text) => write!(f, "\"{text}\" is no mail address, such as scans@contoso.com"),
            Self::Protocol(text) => {
                let known: Vec<&str> = Protocol::ALL.iter().map(|protocol| protocol.key()).collect();
                write!(f, "\"{text}\" is no protocol; write {}, or imap+smtp for both", known.join(" or "))
            }
            Self::Address(text) => write!(
                f,
                "\"{text}\" is neither an address, such as 192.168.1.20, nor a network, such as 192.168.1.0/24"
            ),
            Self::Login(text) => write!(
                f,
                "\"{text}\" is not {WITHOUT_LOGIN}, which the fifth field says of a device that sends without a user \
                 name; leave the field out for any other"
            ),
            Self::ReadsWithoutLogin => write!(
                f,
                "{WITHOUT_LOGIN} is for a device that only sends: write smtp as its protocol; reading mail needs a login"
            ),
            Self::AddressWithoutLogin => write!(
                f,
                "{WITHOUT_LOGIN} needs the device's own private address in the fourth field, such as 192.168.1.20: \
                 every computer at that address can send mail from the mailbox then"
            ),
            Self::Twice(name) => write!(f, "an earlier line has the name \"{name}\"; each device needs its own"),
        }
    }
}

impl std::error::Error for RosterFault {}

impl std::error::Error for RosterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// The word of a device that sends mail without a login.
const WITHOUT_LOGIN: &str = "without-login";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_people_write_them() {
        let text = "\u{feff}Name,Mailbox,Protocol,Address\r\n# printers\r\n\r\n\
                    scanner1,scans@contoso.com,imap,192.168.1.21\r\n\
                    \"fax1\" ; fax@contoso.com ; POP3 ; 192.168.2.0/24\r\nplc,plc@contoso.com,pop3\r\n";
        let entries = parse(text).unwrap();
        let shown: Vec<String> = entries
            .iter()
            .map(|one| {
                let network = one.network.map(|network| network.to_string()).unwrap_or_default();
                format!("{} {} {} {network}", one.name, one.mailbox, keys(one))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "scanner1 scans@contoso.com imap 192.168.1.21/32",
                "fax1 fax@contoso.com pop3 192.168.2.0/24",
                "plc plc@contoso.com pop3 "
            ]
        );
    }

    fn keys(entry: &RosterEntry) -> String {
        entry.protocols.iter().map(|protocol| protocol.key()).collect::<Vec<_>>().join("+")
    }

    #[test]
    fn a_device_may_read_and_send() {
        let text = "a,a@b.example,smtp\nb,b@b.example,IMAP+smtp\nc,c@b.example,smtp+pop3\n";
        let read: Vec<String> = parse(text).unwrap().iter().map(keys).collect();
        assert_eq!(read, ["smtp", "imap+smtp", "smtp+pop3"]);
        for protocols in ["imap+pop3", "smtp+smtp", "imap+smtp+pop3", "imap+", "+"] {
            let errors = parse(&format!("a,a@b.example,{protocols}\n")).unwrap_err();
            assert_eq!(errors[0].fault, RosterFault::Protocol(protocols.to_owned()), "{protocols}");
        }
    }

    #[test]
    fn every_bad_line_is_named() {
        let text = "a,a@b.example,imap\nb\nc d,a@b.example,imap\ne,nobody,imap\nf,a@b.example,nntp\n\
                    g,a@b.example,imap,192.168.1\nA,a@b.example,imap\n";
        let errors: Vec<String> = parse(text).unwrap_err().iter().map(ToString::to_string).collect();
        for (error, words) in errors.iter().zip([
            "line 2: has 1 fields",
            "line 3: \"c d\" is no name",
            "line 4: \"nobody\" is no mail address",
            "line 5: \"nntp\" is no protocol; write imap or pop3 or smtp, or imap+smtp for both",
            "line 6: \"192.168.1\" is neither",
            "line 7: an earlier line has the name \"A\"",
        ]) {
            assert!(error.starts_with(words), "{error}");
        }
        assert_eq!(errors.len(), 6);
    }

    #[test]
    fn a_device_that_only_sends_may_have_no_login() {
        let entries =
            parse("ups,a@b.example,smtp,192.168.1.40,Without-Login\nfax,a@b.example,smtp,10.1.2.3,\n").unwrap();
        assert_eq!(entries.iter().map(|one| one.sends_without_login).collect::<Vec<_>>(), [true, false]);
        for (line, words) in [
            ("a,a@b.example,smtp,192.168.1.40,no-login", "\"no-login\" is not without-login"),
            ("a,a@b.example,imap,192.168.1.40,without-login", "write smtp as its protocol"),
            ("a,a@b.example,imap+smtp,192.168.1.40,without-login", "reading mail needs a login"),
            ("a,a@b.example,smtp,,without-login", "needs the device's own private address"),
            ("a,a@b.example,smtp,198.51.100.7,without-login", "every computer at that address"),
            ("a,a@b.example,smtp,0.0.0.0/0,without-login", "needs the device's own private address"),
            ("a,a@b.example,smtp,192.168.1.40,without-login,x", "has 6 fields"),
        ] {
            let errors = parse(line).unwrap_err();
            assert!(errors[0].to_string().contains(words), "{line}: {}", errors[0]);
        }
    }
}
