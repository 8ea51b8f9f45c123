//! The proven configuration: what is in here has been checked, and only this travels.

mod cloud;
mod credential;
mod environment;
mod file;
pub mod fleet;
pub mod identity;
mod listener;
mod normalize;
mod problem;
mod profile;
mod reach;
pub mod suite;
mod upstream;
pub mod url;
mod way_in;
mod without_login;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::protocol::Protocol;
use crate::submission::SpoolUse;

pub use cloud::Cloud;
pub use credential::DIRECTORY as CREDENTIALS;
pub use environment::Environment;
pub use file::is_path;
pub use fleet::Fleet;
pub use identity::{Account, Credential, Device, Grant, Identity, Rotation, SecretFile};
pub use listener::{DefaultListener, Entry, Listener, Logins};
pub use problem::{Problem, Proven};
pub use profile::{Profile, TlsPolicy, Version};
pub use upstream::{Endpoint, Roots, Upstream};
pub use way_in::{NewListener, ProfileListener, WayIn};
pub use without_login::{Command, Lines, Way, WithoutLogin, own_domain};

/// Everything that the file decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The directory of certificates that packetboat makes, and of refresh tokens.
    pub state_directory: PathBuf,
    /// The file with the key that seals refresh tokens, where it is not packetboat's own.
    pub store_key: Option<PathBuf>,
    /// True if the process gives up rights that it does not need, once it serves.
    pub confine: bool,
    /// The log's form and depth.
    pub log: Log,
    /// Metrics, health and the page.
    pub admin: Admin,
    /// Limits of the device inventory.
    pub inventory: InventoryLimits,
    /// Limits and time-outs.
    pub limits: Limits,
    /// The database that this instance shares with others; none where it is alone.
    pub fleet: Option<Fleet>,
    /// The spool for mail that a mail server does not take at once.
    pub spool: SpoolSettings,
    /// The listeners. Never empty.
    pub listeners: Vec<Listener>,
    /// The mail servers, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// The certificates that devices see, by name.
    pub certificates: BTreeMap<String, Certificate>,
    /// The devices that may log in on translating listeners. No two share a login.
    pub devices: Vec<Device>,
    /// The mailboxes that devices open, by name.
    pub accounts: BTreeMap<String, Account>,
    /// The applications that fetch tokens, by name.
    pub identities: BTreeMap<String, Identity>,
}

/// The log goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The form of a line: text or JSON.
    pub format: LogFormat,
    /// The lowest level that is logged.
    pub level: LogLevel,
    /// Sources, logins and mailboxes are replaced by pseudonyms.
    pub pseudonyms: bool,
    /// Lines about connections in a minute, of all sources.
    pub lines_per_minute: u32,
    /// Lines about connections in a minute, of one source.
    pub lines_per_minute_of_source: u32,
}

/// The admin side: metrics, health and the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The addresses to serve on. Empty switches the admin side off.
    pub listen: Vec<SocketAddr>,
    /// The file with the bearer token. Always set where an address is not a loopback address.
    pub token_file: Option<PathBuf>,
    /// The file with the bearer token of technicians, who see devices and no mailboxes. Goes with the other one alone.
    pub technician_token_file: Option<PathBuf>,
    /// The page may change devices in the configuration file.
    pub edit: bool,
}

/// Limits of the device inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InventoryLimits {
    /// The most devices to remember.
    pub devices: usize,
    /// The time after which an unseen device is forgotten.
    pub forget_after: Duration,
    /// The shortest silence for which a configured device counts as silent.
    pub silent_after: Duration,
    /// True if packetboat looks up the devices' names in the DNS.
    pub reverse_dns: bool,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of text for people.
    Text,
    /// A JSON object in a line, for machines.
    Json,
}

/// The least severe lines that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Errors that stop the proxy.
    Error,
    /// Conditions that an operator should mend.
    Warn,
    /// A line a session.
    Info,
    /// The steps of a session.
    Debug,
    /// Everything there is.
    Trace,
}

/// Limits of connections, times and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, in all.
    pub connections: usize,
    /// Connections at a time from one [`Source`](crate::source::Source).
    pub connections_per_source: usize,
    /// TLS handshakes a minute of all sources that have not logged in.
    pub handshakes_per_minute: u32,
    /// TLS handshakes a minute of one such source.
    pub handshakes_per_minute_of_source: u32,
    /// The time for the TLS handshake with the device.
    pub handshake_timeout: Duration,
    /// The time from the greeting to a successful login. Failed logins extend it, up to as long again.
    pub login_timeout: Duration,
    /// The time for the TCP connection to one address of the mail server.
    pub connect_timeout: Duration,
    /// The time for the TLS handshake with the mail server.
    pub upstream_handshake_timeout: Duration,
    /// The time from the mail server's greeting to its answer to the login.
    pub upstream_login_timeout: Duration,
    /// The time after login without an octet in either direction.
    pub idle_timeout: Duration,
    /// The time for the last octets, once one side has closed.
    pub close_timeout: Duration,
    /// The time for open sessions to end after SIGTERM.
    pub drain_timeout: Duration,
    /// The silence before the first TCP keep-alive probe, on both sides; half as long again without an acknowledgement
    /// ends a connection, idle or busy.
    pub keep_alive: Duration,
    /// A command line before login, in octets.
    pub line: usize,
    /// A line of a SASL exchange, in octets.
    pub sasl_line: usize,
    /// The literals of one command before login, in octets.
    pub literal: usize,
    /// Commands that make no sense before the connection is closed.
    pub bad_commands: u32,
    /// Sessions at a time in one mailbox.
    pub sessions_per_mailbox: usize,
    /// The time that a login waits for a session of its mailbox to end.
    pub mailbox_queue: Duration,
    /// Parked connections at a time, over all mail servers.
    pub parked: usize,
    /// The time for which a verified password is remembered, as a keyed hash.
    pub password_memory: Duration,
    /// The delay after the first wrong password; each further one doubles it.
    pub failure_delay: Duration,
    /// The longest delay after wrong passwords.
    pub longest_failure_delay: Duration,
    /// The treatment of open sessions whose permission a reload withdraws.
    pub revoked_sessions: Revocation,
    /// The limits of submission.
    pub submission: SubmissionLimits,
}

/// Limits on devices that send mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmissionLimits {
    /// The silence after which a device without a message under way is closed.
    pub command_timeout: Duration,
    /// The silence of a device in the middle of a message.
    pub content_timeout: Duration,
    /// The time that a device may take over a message, at any speed. The server's own time does not count.
    pub message_timeout: Duration,
    /// The octets a second that prolong it: a device that takes longer must send as many, on average.
    pub message_rate: u32,
    /// The time for the mail server's reply to a command.
    pub reply_timeout: Duration,
    /// The time for the mail server's answer to a whole message.
    pub answer_timeout: Duration,
    /// The silence between two messages after which packetboat leaves the mail server. The device stays.
    pub idle_server_timeout: Duration,
    /// The time for which a device sends nothing after errors for which the mail server throttles the whole mailbox.
    pub hold_back: Duration,
    /// Connections at a time that send from one mailbox.
    pub connections_per_mailbox: usize,
    /// Messages a minute from one mailbox, after a minute's worth at once.
    pub messages_per_minute: u32,
    /// Recipients in an hour from one device, unless its section has a number of its own.
    pub recipients_per_hour_of_device: u32,
    /// Recipients in 24 hours from one mailbox.
    pub recipients_per_day: u32,
    /// A device hears a temporary refusal before that number is exceeded. Otherwise the recipients are only counted.
    pub refuse_over_recipients_per_day: bool,
}

/// The spool: where it is, how much it keeps, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The directory of its files.
    pub directory: PathBuf,
    /// The octets of all messages together.
    pub max_size: u64,
    /// The most messages.
    pub max_messages: usize,
    /// The percentage of both that the messages of one mailbox may have.
    pub mailbox_share: u8,
    /// The percentage of both that the messages of one device may have.
    pub device_share: u8,
    /// The time for which a message is tried, while packetboat runs.
    pub max_age: Duration,
    /// The time for the mail server's answer to a whole message, before the device is told that it is kept.
    pub patience: Duration,
    /// The address that gets reports, in the place of the mailbox itself.
    pub report_to: Option<String>,
}

/// The treatment of an open session whose permission a reload withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The session ends, behind the response that it is receiving.
    End,
    /// The session goes on until it ends by itself.
    Keep,
}

/// The networks a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

/// A certificate that devices see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The source of the RSA certificate.
    pub source: CertificateSource,
    /// An ECDSA certificate beside it, for devices that can.
    pub ecdsa: Option<CertificateFiles>,
}

/// The source of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made on first start, by a local certification authority.
    Made {
        /// DNS names and addresses; empty means this host's own.
        names: Vec<String>,
        /// The signature's digest.
        digest: Digest,
        /// The years of validity. Without them the certificate ends with 32-bit time, on 2038-01-18.
        years: Option<u32>,
    },
    /// The operator's.
    Files(CertificateFiles),
}

/// A chain and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Leaf first.
    pub chain: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
}

/// A signature's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-1, for devices that know nothing newer.
    Sha1,
    /// SHA-256, for all other devices.
    Sha256,
}

impl Config {
    /// Reads and proves a file's text.
    ///
    /// # Errors
    /// All problems that were found, not just the first.
    pub fn parse(text: &str, file: &Path) -> Result<Proven, Vec<Problem>> {
        file::prove(text, file, &Environment::default())
    }

    /// Reads and proves a file's text. Variables of the environment override its keys.
    ///
    /// # Errors
    /// All problems that were found, not just the first.
    pub fn parse_with(text: &str, file: &Path, environment: &Environment) -> Result<Proven, Vec<Problem>> {
        file::prove(text, file, environment)
    }
}

impl Config {
    /// Every file that the configuration names.
    pub fn files(&self) -> Vec<PathBuf> {
        credential::files(self)
    }

    /// The names of the credentials that the configuration takes from [`CREDENTIALS`].
    pub fn credentials(&self) -> Vec<String> {
        credential::names(self)
    }

    /// Takes another state directory than the file's. The spool goes with it, unless the file gives it a directory.
    pub fn set_state_directory(&mut self, directory: &Path) {
        if let Ok(inside) = self.spool.directory.strip_prefix(&self.state_directory) {
            self.spool.directory = directory.join(inside);
        }
        self.state_directory = directory.to_path_buf();
    }

    /// Returns whether a listener keeps messages in the spool.
    pub fn uses_spool(&self) -> bool {
        self.listeners.iter().any(|listener| listener.spool == SpoolUse::Fallback)
    }

    /// The protocols by which devices reach mailboxes with an access token, or will once their listener no longer
    /// observes.
    pub fn token_protocols(&self) -> Vec<Protocol> {
        let has_tokens = |protocol: &Protocol| {
            self.listeners.iter().any(|one| one.protocol == *protocol && !matches!(one.logins, Logins::PassThrough(_)))
        };
        Protocol::ALL.into_iter().filter(has_tokens).collect()
    }

    /// The servers that see an account's token: `outlook.office365.com:993 (IMAP)`, for each of these protocols.
    pub fn servers_of(&self, account: &Account) -> Vec<String> {
        let Some(upstream) = self.upstreams.get(&account.upstream) else { return Vec::new() };
        let protocols = self.token_protocols().into_iter();
        let server = |protocol: Protocol| {
            upstream.endpoint(protocol).map(|endpoint| format!("{} ({})", endpoint.address(), protocol.name()))
        };
        protocols.filter_map(server).collect()
    }
}

impl Networks {
    /// Returns whether the address is in one of the networks. An IPv4 address in IPv6 form counts as IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns whether a network holds much of the public Internet: IPv4 above /8, IPv6 above /20.
    pub fn are_public(&self) -> bool {
        self.0.iter().any(|network| match network {
            IpNet::V4(network) => network.prefix_len() < 8,
            IpNet::V6(network) => {
                network.prefix_len() < 20
                    && !network.addr().is_unique_local()
                    && !network.addr().is_unicast_link_local()
            }
        })
    }
}

impl Limits {
    /// The limits of connections to servers.
    pub fn of_servers(&self) -> [Duration; 3] {
        [self.connect_timeout, self.upstream_handshake_timeout, self.keep_alive]
    }
}
