//! The TOML as it is written, and the way from there to what is proven. Unknown keys are refused.

mod proof;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::{Problem, Proven};

/// Reads a file's text and proves it.
pub(super) fn prove(text: &str, file: &Path) -> Result<Proven, Vec<Problem>> {
    match toml::from_str::<File>(text) {
        Ok(raw) => proof::prove(raw, text, file),
        Err(error) => Err(vec![Problem {
            file: file.to_path_buf(),
            line: error.span().map(|span| line_of(text, &span)),
            key: String::new(),
            message: explain(error.message()),
        }]),
    }
}

/// A value, and where it stands.
type Written<T> = Option<Spanned<T>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_directory: Option<PathBuf>,
    #[serde(default)]
    log: LogSection,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    certificate: BTreeMap<String, Spanned<CertificateSection>>,
    listener: Option<Vec<Spanned<ListenerSection>>>,
    upstream: Option<BTreeMap<String, Spanned<UpstreamSection>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogSection {
    format: Written<String>,
    level: Written<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    connections: Written<i64>,
    connections_per_source: Written<i64>,
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
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerSection {
    name: Option<String>,
    protocol: Written<String>,
    listen: Written<Vec<Spanned<SocketAddr>>>,
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
    allowed_networks: Written<Vec<IpNet>>,
    certificate: Written<String>,
    upstream: Written<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamSection {
    host: Written<String>,
    server_name: Written<String>,
    imap_port: Written<i64>,
    pop3_port: Written<i64>,
    security: Written<String>,
    roots: Written<String>,
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

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|&octet| octet == b'\n').count() + 1
}

/// Serde's words for an unknown key list all known ones; a person needs the nearest.
fn explain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(unknown)) => {
            let known: Vec<_> = quoted.collect();
            match nearest(unknown, known.iter().copied()) {
                Some(near) => format!("unknown key `{unknown}`; did you mean `{near}`?"),
                None => format!("unknown key `{unknown}`; known here are {}", known.join(", ")),
            }
        }
        _ => message.trim_end().replace('\n', "; "),
    }
}

/// The candidate that the word was probably meant to be.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
