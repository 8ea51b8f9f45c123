//! A sheet says what to type into one device: server, port, encryption, user name and password; as text, or as a page to
//! print.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Config, Device, Entry, Listener, Logins};
use crate::protocol::Protocol;

/// The settings that somebody types into one device.
pub struct Sheet {
    login: String,
    description: Option<String>,
    mailbox: String,
    password: Option<String>,
    servers: Vec<String>,
    connections: Vec<Connection>,
    /// The device's own address, or the networks that it may come from.
    networks: Option<String>,
    /// The device sends without a login.
    sends_without_login: bool,
    /// The device has no password.
    has_no_password: bool,
    authority: Option<Fingerprints>,
}

/// One way in: a port, and how TLS starts there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Connection {
    protocol: Protocol,
    port: u16,
    encryption: &'static str,
}

/// The names of this computer in the certificate that devices see, and the authority that they import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Names and addresses, best first.
    pub names: Vec<String>,
    /// The fingerprints of the CA's certificate, where packetboat has made it.
    pub authority: Option<Fingerprints>,
}

/// The fingerprints of a certificate, in hexadecimal with colons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprints {
    /// By SHA-256.
    pub sha256: String,
    /// By SHA-1, as old devices show it.
    pub sha1: String,
}

impl Sheet {
    /// The key of the row with the mailbox.
    pub const MAILBOX: &str = "mailbox";
    /// The key of the row with the sender of a device that sends: the mailbox.
    pub const SENDER: &str = "sender";

    /// The sheet of a device. `protocols` leaves out the ports of the others; none of them means all.
    pub fn new(config: &Config, device: &Device, server: &ServerIdentity, protocols: &[Protocol]) -> Self {
        let listeners = config.listeners.iter().filter(|listener| listener.logins == Logins::Translate);
        let listeners = listeners.filter(|listener| protocols.is_empty() || protocols.contains(&listener.protocol));
        let mut connections: Vec<Connection> =
            listeners.filter(|listener| listener.lets_in(device)).flat_map(connections_of).collect();
        connections.sort_by_key(|one| (one.protocol.key(), one.encryption != IMPLICIT, one.port));
        connections.dedup();
        Self {
            login: device.logins.first().cloned().unwrap_or_default(),
            description: device.description.clone(),
            mailbox: config.accounts.get(&device.account).map(|account| account.mailbox.clone()).unwrap_or_default(),
            password: None,
            servers: server.names.iter().filter(|name| is_for_devices(name)).cloned().collect(),
            connections,
            networks: device.networks.as_ref().map(|networks| shown(&networks.0)),
            sends_without_login: device.sends_without_login,
            has_no_password: device.passwords.is_empty(),
            authority: server.authority.clone(),
        }
    }

    /// The same sheet with the password, which is known once: when it is made.
    #[must_use]
    pub fn with_password(self, password: &str) -> Self {
        Self { password: Some(password.to_owned()), ..self }
    }

    /// Returns whether any listener lets the device in.
    pub fn has_connection(&self) -> bool {
        !self.connections.is_empty()
    }

    /// The sheet as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title());
        for (key, value) in self.rows() {
            let _ = writeln!(text, "  {key:<12}{value}");
        }
        text
    }

    /// The sheet as a page to print, complete in itself.
    pub fn html(&self) -> String {
        let mut rows = String::new();
        for (key, value) in self.rows() {
            let _ = writeln!(rows, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(&key), escaped(&value));
        }
        format!(
            "{PAGE}{0}</title>\n<style>\n{STYLE}</style>\n\
             <h1>{TITLE}{0}</h1>\n<table>\n{rows}</table>\n</html>\n",
            escaped(self.title().trim_start_matches(TITLE))
        )
    }

    /// Returns whether a file holds a sheet, as text or as a page.
    pub fn is_sheet(content: &[u8]) -> bool {
        content.starts_with(TITLE.as_bytes()) || content.starts_with(PAGE.as_bytes())
    }

    fn title(&self) -> String {
        match &self.description {
            Some(description) => format!("{TITLE}{} ({description})", self.login),
            None => format!("{TITLE}{}", self.login),
        }
    }

    /// The rows, each with its key and its value.
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
        row("server", self.servers.join("  or  "));
        for one in &self.connections {
            row(one.protocol.name(), format!("port {}, {}", one.port, one.encryption));
        }
        if self.connections.is_empty() {
            row("port", "none: no listener lets this device in; packetboat check says why".to_owned());
        }
        if let Some(networks) = &self.networks {
            let elsewhere = if self.has_no_password { "it cannot send" } else { "the login fails" };
            row("IP address", format!("{networks}; from any other {elsewhere}"));
        }
        if self.has_no_password {
            row("user name", "none: switch SMTP authentication off in the device".to_owned());
            row("password", "none".to_owned());
        } else {
            let optional = match self.sends_without_login {
                true => " (may stay empty for sending)",
                false => "",
            };
            row("user name", format!("{}{optional}", self.login));
            let kept = "as it was given; packetboat keeps only its hash";
            row("password", self.password.clone().unwrap_or_else(|| kept.to_owned()));
        }
        row(Self::MAILBOX, self.mailbox.clone());
        if self.connections.iter().any(|one| one.protocol.submits()) {
            row(Self::SENDER, format!("{} (the device's own address, or From)", self.mailbox));
        }
        if let Some(authority) = &self.authority {
            row("certificate", "import ca.der (from the administrator), or switch verification off".to_owned());
            row("CA SHA-256", authority.sha256.clone());
            row("CA SHA-1", authority.sha1.clone());
        }
        rows
    }
}

fn connections_of(listener: &Listener) -> Vec<Connection> {
    let ports = listener.listen.iter().map(SocketAddr::port);
    let connection = |port| Connection {
        protocol: listener.protocol,
        port,
        encryption: match (listener.entry_at(port), listener.allow_plaintext) {
            (Entry::Implicit, _) => IMPLICIT,
            (Entry::StartTls, false) => "STARTTLS",
            (Entry::Auto, false) => "STARTTLS or SSL/TLS",
            (Entry::StartTls, true) => "STARTTLS, or none",
            (Entry::Auto, true) => "STARTTLS, SSL/TLS, or none",
            (Entry::Plaintext, _) => "none",
        },
    };
    ports.map(connection).collect()
}

/// Networks in words; one of a single address as that address.
fn shown(networks: &[IpNet]) -> String {
    let shown = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    };
    networks.iter().map(shown).collect::<Vec<_>>().join("  or  ")
}

/// Returns whether a device on the network can use a name of the certificate.
fn is_for_devices(name: &str) -> bool {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_link_local(),
        Ok(IpAddr::V6(address)) => !address.is_loopback() && !address.is_unicast_link_local(),
        Err(_) => name != "localhost",
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

/// The beginning of a sheet as text, and as a page.
const TITLE: &str = "Mail settings of ";
const PAGE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Mail settings of ";
const IMPLICIT: &str = "SSL/TLS";
const STYLE: &str = "\
body { font: 14pt/1.4 sans-serif; margin: 2cm; color: #000; background: #fff }
table { border-collapse: collapse }
th, td { text-align: left; vertical-align: top; padding: 0.25em 1em 0.25em 0; border-bottom: 1px solid #999 }
td { font-family: monospace; overflow-wrap: anywhere }
";
