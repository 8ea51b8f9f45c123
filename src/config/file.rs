//! The TOML as it is written, and the way from there to what is proven. Unknown keys are refused.

mod proof;
mod syntax;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::{Environment, Problem, Proven};
pub use proof::is_path;

/// Reads a file's text and proves it.
pub(super) fn prove(text: &str, file: &Path, environment: &Environment) -> Result<Proven, Vec<Problem>> {
    match toml::from_str::<File>(text) {
        Ok(raw) => proof::prove(raw, text, file, environment),
        Err(error) => Err(vec![Problem {
            file: file.to_path_buf(),
            line: error.span().map(|span| line_of(text, &span)),
            key: String::new(),
            message: syntax::explain(error.message(), text, error.span()),
        }]),
    }
}

/// A value, and where it stands.
type Written<T> = Option<Spanned<T>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_directory: Written<PathBuf>,
    store_key: Written<PathBuf>,
    confine: Option<bool>,
    #[serde(default)]
    log: LogSection,
    #[serde(default)]
    admin: AdminSection,
    #[serde(default)]
    inventory: InventorySection,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    submission: SubmissionSection,
    #[serde(default)]
    spool: SpoolSection,
    fleet: Option<Spanned<FleetSection>>,
    #[serde(default)]
    certificate: BTreeMap<String, Spanned<CertificateSection>>,
    listener: Option<Vec<Spanned<ListenerSection>>>,
    upstream: Option<BTreeMap<String, Spanned<UpstreamSection>>>,
    #[serde(default)]
    device: Vec<Spanned<DeviceSection>>,
    #[serde(default)]
    account: BTreeMap<String, Spanned<AccountSection>>,
    #[serde(default)]
    identity: BTreeMap<String, Spanned<IdentitySection>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    format: Written<String>,
    level: Written<String>,
    pseudonyms: Option<bool>,
    lines_per_minute: Written<i64>,
    lines_per_minute_of_source: Written<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdminSection {
    listen: Written<Vec<Spanned<String>>>,
    token_file: Written<PathBuf>,
    technician_token_file: Written<PathBuf>,
    edit: Written<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct InventorySection {
    devices: Written<i64>,
    forget_after: Written<String>,
    silent_after: Written<String>,
    reverse_dns: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    connections: Written<i64>,
    connections_per_source: Written<i64>,
    handshakes_per_minute: Written<i64>,
    handshakes_per_minute_of_source: Written<i64>,
    handshake_timeout: Written<String>,
    login_timeout: Written<String>,
    connect_timeout: Written<String>,
    upstream_handshake_timeout: Written<String>,
    upstream_login_timeout: Written<String>,
    idle_timeout: Written<String>,
    close_timeout: Written<String>,
    drain_timeout: Written<String>,
    keep_alive: Written<String>,
    line: Written<i64>,
    sasl_line: Written<i64>,
    literal: Written<i64>,
    bad_commands: Written<i64>,
    sessions_per_mailbox: Written<i64>,
    mailbox_queue: Written<String>,
    parked: Written<i64>,
    password_memory: Written<String>,
    failure_delay: Written<String>,
    longest_failure_delay: Written<String>,
    revoked_sessions: Written<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmissionSection {
    command_timeout: Written<String>,
    content_timeout: Written<String>,
    message_timeout: Written<String>,
    message_rate: Written<i64>,
    reply_timeout: Written<String>,
    answer_timeout: Written<String>,
    idle_server_timeout: Written<String>,
    hold_back: Written<String>,
    connections_per_mailbox: Written<i64>,
    messages_per_minute: Written<i64>,
    recipients_per_hour_of_device: Written<i64>,
    recipients_per_day: Written<i64>,
    refuse_over_recipients_per_day: Written<bool>,
    recipients: Written<Vec<Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpoolSection {
    directory: Written<PathBuf>,
    max_size: Written<i64>,
    max_messages: Written<i64>,
    mailbox_share: Written<i64>,
    device_share: Written<i64>,
    max_age: Written<String>,
    patience: Written<String>,
    report_to: Written<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FleetSection {
    database: Written<String>,
    password_file: Written<PathBuf>,
    password_identity: Written<String>,
    client_certificate: Written<PathBuf>,
    client_key: Written<PathBuf>,
    roots: Written<String>,
    instance: Written<String>,
    migrate: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerSection {
    name: Option<String>,
    protocol: Written<String>,
    listen: Written<Vec<Spanned<String>>>,
    entry: Written<String>,
    detect_delay: Written<String>,
    allow_plaintext: Written<bool>,
    profile: Written<String>,
    minimum_version: Written<String>,
    maximum_version: Written<String>,
    ciphers: Written<Vec<Spanned<String>>>,
    sslv2_hello: Option<bool>,
    empty_fragments: Option<bool>,
    encrypt_then_mac: Option<bool>,
    allowed_networks: Written<Vec<Spanned<String>>>,
    certificate: Written<String>,
    logins: Written<String>,
    upstream: Written<String>,
    observe: Option<bool>,
    max_message_size: Written<i64>,
    auth_equals: Written<bool>,
    spool: Written<String>,
    proxy_protocol: Written<Vec<Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamSection {
    host: Written<String>,
    pop3_host: Written<String>,
    server_name: Written<String>,
    imap_port: Written<i64>,
    pop3_port: Written<i64>,
    security: Written<String>,
    imap: Option<EndpointSection>,
    pop3: Option<EndpointSection>,
    smtp: Option<EndpointSection>,
    roots: Written<String>,
    warm_connections: Written<i64>,
    warm_time: Written<String>,
    park: Written<String>,
    park_age: Written<String>,
}

/// The section of one protocol below an upstream, as `[upstream.NAME.imap]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointSection {
    host: Written<String>,
    port: Written<i64>,
    security: Written<String>,
    server_name: Written<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateSection {
    names: Written<Vec<String>>,
    digest: Written<String>,
    years: Written<i64>,
    chain: Written<PathBuf>,
    key: Written<PathBuf>,
    ecdsa_chain: Written<PathBuf>,
    ecdsa_key: Written<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceSection {
    login: Written<String>,
    aliases: Written<Vec<Spanned<String>>>,
    passwords: Written<Vec<Spanned<String>>>,
    account: Written<String>,
    networks: Written<Vec<Spanned<String>>>,
    description: Written<String>,
    delete: Option<bool>,
    send_without_login: Written<bool>,
    allow_wide_networks: Written<bool>,
    senders: Written<Vec<Spanned<String>>>,
    recipients: Written<Vec<Spanned<String>>>,
    recipients_per_hour: Written<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountSection {
    mailbox: Written<String>,
    identity: Written<String>,
    upstream: Written<String>,
    user: Written<String>,
    password_file: Written<PathBuf>,
    probe: Option<bool>,
    sender: Written<String>,
    senders: Written<Vec<Spanned<String>>>,
    recipients: Written<Vec<Spanned<String>>>,
    bare_line_ends: Written<String>,
    deliver: Written<String>,
    lf_end_of_data: Written<bool>,
}

/// A day, as a text or as TOML's own date.
#[derive(Deserialize)]
#[serde(untagged)]
enum Day {
    Text(String),
    Date(toml::value::Datetime),
}

impl Day {
    fn text(&self) -> String {
        match self {
            Day::Text(text) => text.trim().to_owned(),
            Day::Date(date) => date.date.map(|day| day.to_string()).unwrap_or_default(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentitySection {
    cloud: Written<String>,
    tenant: Written<String>,
    client_id: Written<String>,
    grant: Written<String>,
    client_secret_file: Written<PathBuf>,
    client_secret_expires: Written<Day>,
    certificate: Written<PathBuf>,
    key: Written<PathBuf>,
    token_file: Written<PathBuf>,
    authority: Written<String>,
    scopes: Written<Vec<String>>,
    resource: Written<String>,
    token_endpoint: Written<String>,
    authorization_endpoint: Written<String>,
    device_endpoint: Written<String>,
    roots: Written<String>,
    rotation: Written<String>,
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().get(..span.start).unwrap_or(text.as_bytes());
    // Counting must be fast, because it happens for each key of hundreds of devices.
    memchr::memchr_iter(b'\n', before).count() + 1
}

/// The candidate that the word was probably meant to be.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    candidates
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        // The first of equals wins: "tls1" is "tls1.0" rather than "tls1.3".
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}
