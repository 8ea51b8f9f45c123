//! The proven configuration: what is in here has been checked, and only this travels.

mod cloud;
mod credential;
mod environment;
mod file;
pub mod identity;
mod listener;
mod normalize;
mod problem;
mod profile;
pub mod suite;
mod upstream;
pub mod url;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::protocol::Protocol;

pub use cloud::Cloud;
pub use environment::Environment;
pub use file::is_path;
pub use identity::{Account, Credential, Device, Grant, Identity, SecretFile};
pub use listener::DefaultListener;
pub use problem::{Problem, Proven};
pub use profile::{Profile, TlsPolicy, Version};
pub use upstream::{Endpoint, Roots, Upstream};

/// Everything that the file decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where certificates that packetboat makes, and refresh tokens, are kept.
    pub state_directory: PathBuf,
    /// The key under which refresh tokens are kept, where it is not one of packetboat's own.
    pub store_key: Option<PathBuf>,
    /// Whether the process gives up what it does not need, once it serves.
    pub confine: bool,
    /// The log's form and depth.
    pub log: Log,
    /// Metrics, health and the page.
    pub admin: Admin,
    /// What is remembered of devices that were seen.
    pub inventory: Inventory,
    /// Limits and time-outs.
    pub limits: Limits,
    /// What listens. Never empty.
    pub listeners: Vec<Listener>,
    /// The mail servers, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// What devices are shown, by name.
    pub certificates: BTreeMap<String, Certificate>,
    /// Who may log in on listeners that translate. No two have a login in common.
    pub devices: Vec<Device>,
    /// The mailboxes that devices open, by name.
    pub accounts: BTreeMap<String, Account>,
    /// The applications that fetch tokens, by name.
    pub identities: BTreeMap<String, Identity>,
}

/// The log goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least that is shown.
    pub level: LogLevel,
    /// Sources, logins and mailboxes are replaced by pseudonyms.
    pub pseudonyms: bool,
    /// Lines about connections.
    pub lines_per_minute: u32,
    /// Of them, those about one source.
    pub lines_per_minute_of_source: u32,
}

/// Where metrics, health and the page are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Empty where they are not.
    pub listen: Vec<SocketAddr>,
    /// Its content is the bearer token that is asked for. Always there where an address is not a loopback one.
    pub token_file: Option<PathBuf>,
}

/// What is remembered of devices that were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// No more than this many.
    pub devices: usize,
    /// One that was not seen for so long is forgotten.
    pub forget_after: Duration,
    /// Their names are looked up in the DNS.
    pub reverse_dns: bool,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what stops the proxy.
    Error,
    /// What an operator should mend.
    Warn,
    /// A line a session.
    Info,
    /// The steps of a session.
    Debug,
    /// Everything there is.
    Trace,
}

/// How many, how long, how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, in all.
    pub connections: usize,
    /// Connections at a time from one [`Source`](crate::source::Source).
    pub connections_per_source: usize,
    /// TLS handshakes a minute of all sources that have not logged in.
    pub handshakes_per_minute: u32,
    /// The same of one such source.
    pub handshakes_per_minute_of_source: u32,
    /// For the TLS handshake with the device.
    pub handshake_timeout: Duration,
    /// From the greeting to a successful login. What failed logins took is added to it, up to as long again.
    pub login_timeout: Duration,
    /// For the TCP connection to one address of the mail server.
    pub connect_timeout: Duration,
    /// For the TLS handshake with the mail server.
    pub upstream_handshake_timeout: Duration,
    /// From the mail server's greeting to its answer to the login.
    pub upstream_login_timeout: Duration,
    /// Without an octet either way, after login.
    pub idle_timeout: Duration,
    /// For the last octets, once one side has closed.
    pub close_timeout: Duration,
    /// For running sessions, after SIGTERM.
    pub drain_timeout: Duration,
    /// The silence before the first TCP keep-alive probe, on both sides; half as long again without an acknowledgement ends
    /// a connection, idle or busy.
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
    /// How long a login waits for one of them to end.
    pub mailbox_queue: Duration,
    /// How long a verified password is remembered, by a keyed hash.
    pub password_memory: Duration,
    /// After the first wrong password; each further one doubles it.
    pub failure_delay: Duration,
    /// What it does not grow beyond.
    pub longest_failure_delay: Duration,
    /// What becomes of running sessions whose permission a reload withdraws.
    pub revoked_sessions: Revocation,
}

/// What becomes of a running session whose permission a reload withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// It ends, behind the response that it is receiving.
    End,
    /// It goes on until it ends by itself.
    Keep,
}

/// One door for devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// As it stands in the log.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Where. Never empty.
    pub listen: Vec<SocketAddr>,
    /// How TLS comes about; see [`Listener::entry_at`].
    pub entry: Entry,
    /// Ports of this listener with TLS from the start although `entry` is [`Entry::Auto`]: the file leaves `entry` out,
    /// and the listener has other ports beside.
    pub implicit_ports: Vec<u16>,
    /// How long a device may be silent before it is greeted in clear; with [`Entry::Auto`].
    pub detect_delay: Duration,
    /// Logins are taken without TLS.
    pub allow_plaintext: bool,
    /// What TLS may be.
    pub tls: TlsPolicy,
    /// Who may come.
    pub allowed_networks: Networks,
    /// Load balancers whose PROXY protocol header is asked for, and believed.
    pub proxy_protocol: Networks,
    /// Key of [`Config::certificates`].
    pub certificate: String,
    /// What becomes of a login.
    pub logins: Logins,
}

/// What becomes of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logins {
    /// It is verified here; the server is logged in to with an access token.
    Translate,
    /// It goes to this mail server as it is; key of [`Config::upstreams`].
    PassThrough(String),
    /// Nobody is let in: only the inventory is taken.
    Observe,
}

/// How TLS comes about on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The device begins with a ClientHello.
    Implicit,
    /// The device is greeted in clear and sends STARTTLS or STLS.
    StartTls,
    /// A ClientHello at once means TLS; silence means a greeting in clear.
    Auto,
    /// No TLS at all.
    Plaintext,
}

/// The networks a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

/// What devices are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Where the RSA certificate comes from.
    pub source: CertificateSource,
    /// An ECDSA certificate beside it, for devices that can.
    pub ecdsa: Option<CertificateFiles>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// Made on first start, by a local certification authority.
    Made {
        /// DNS names and addresses; empty means this host's own.
        names: Vec<String>,
        /// The signature's digest.
        digest: Digest,
        /// How long it is valid; to the last day that 32-bit time can name, where nothing is said.
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
    /// For devices that know nothing newer.
    Sha1,
    /// For all others.
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

    /// The same, and what is said in the environment counts.
    ///
    /// # Errors
    /// All problems that were found, not just the first.
    pub fn parse_with(text: &str, file: &Path, environment: &Environment) -> Result<Proven, Vec<Problem>> {
        file::prove(text, file, environment)
    }
}

impl Config {
    /// Every file that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        credential::files(self)
    }

    /// The protocols by which devices reach mailboxes with an access token, or will once their listener no longer observes.
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
        protocols.map(|protocol| format!("{} ({})", upstream.endpoint(protocol).address(), protocol.name())).collect()
    }
}

impl Networks {
    /// Whether the address is in one of them. An IPv4 address in IPv6 form counts as what it is.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether they hold large parts of the public Internet: IPv4 networks above /8, IPv6 networks above /20.
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
    /// Those that connections to servers are made with.
    pub fn of_servers(&self) -> [Duration; 3] {
        [self.connect_timeout, self.upstream_handshake_timeout, self.keep_alive]
    }
}
