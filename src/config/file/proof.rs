//! The proof of a file: from the values as written to a configuration. It collects every problem, with line and key.

mod account;
mod address;
mod admin;
mod application;
mod certificate;
mod device;
mod endpoint;
mod exposure;
mod fleet;
mod identity;
mod limits;
mod listener;
mod path;
mod service;
mod spool;
mod unused;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

pub use path::is_path;

use account::Identities;
use device::Accounts;

use super::{File, LogSection, Written, line_of, nearest};
use crate::config::problem::{Position, sort_by_line};
use crate::config::{Config, Entry, Environment, Log, LogFormat, LogLevel, Logins, Problem, Proven, Roots, credential};
use crate::protocol::Protocol;

pub(super) fn prove(mut raw: File, text: &str, file: &Path, environment: &Environment) -> Result<Proven, Vec<Problem>> {
    admin::override_by(environment, text, &mut raw);
    let mut proof = Proof {
        text,
        file,
        environment,
        protocols: listener::protocols(raw.listener.as_deref()),
        problems: Vec::new(),
        warnings: Vec::new(),
        positions: BTreeMap::new(),
    };
    proof.paths(&raw);
    let identity_names = raw.identity.keys().cloned().collect();
    let identities = proof.identities(raw.identity);
    let upstreams = proof.upstreams(raw.upstream, &identities);
    let account_names = raw.account.keys().cloned().collect();
    let known = Identities { by_name: &identities, names: &identity_names };
    let mut accounts = proof.accounts(raw.account, &known, &upstreams);
    proof.bound_recipients(&mut raw.submission, &mut accounts);
    let devices = proof.devices(raw.device, &Accounts { by_name: &accounts, names: &account_names });
    let mut certificates = proof.certificates(raw.certificate);
    let listeners = proof.listeners(raw.listener, &upstreams, &certificates);
    let upstreams = upstreams.used_by(|name| {
        accounts.values().any(|account| account.upstream == name)
            || listeners.iter().any(|one| matches!(&one.logins, Logins::PassThrough(upstream) if upstream == name))
    });
    // The one that nobody has written is there for who needs it.
    let needs_default =
        listeners.iter().any(|listener| listener.entry != Entry::Plaintext && listener.certificate == DEFAULT);
    if !needs_default && !proof.positions.contains_key(&format!("certificate.{DEFAULT}")) {
        certificates.remove(DEFAULT);
    }
    let state_directory = raw.state_directory.map(Spanned::into_inner);
    let state_directory = state_directory.unwrap_or_else(|| PathBuf::from(STATE_DIRECTORY));
    let mut config = Config {
        fleet: proof.fleet(raw.fleet, raw.store_key.is_some(), &known),
        spool: proof.spool(raw.spool, &state_directory),
        state_directory,
        store_key: raw.store_key.map(Spanned::into_inner),
        confine: raw.confine.unwrap_or(true),
        log: proof.log(raw.log),
        admin: proof.admin(raw.admin, &listeners),
        inventory: proof.inventory(raw.inventory),
        limits: proof.limits(raw.limits, raw.submission),
        listeners,
        upstreams,
        certificates,
        devices,
        accounts,
        identities,
    };
    proof.servers_of_listeners(&config);
    proof.warn_of_unused(&config);
    proof.warn_of_exposure(&config);
    credential::resolve(&mut config);
    sort_by_line(&mut proof.problems);
    sort_by_line(&mut proof.warnings);
    if proof.problems.is_empty() {
        Ok(Proven { config, warnings: proof.warnings, file: file.to_path_buf(), positions: proof.positions })
    } else {
        Err(proof.problems)
    }
}

/// The sections of one kind, also those with a mistake: who refers to one of these is right, and told nothing.
type Names = BTreeSet<String>;

struct Proof<'a> {
    text: &'a str,
    file: &'a Path,
    environment: &'a Environment,
    /// The protocols of the listeners.
    protocols: Vec<Protocol>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The positions of keys that may still turn out wrong later.
    positions: BTreeMap<String, Position>,
}

impl Proof<'_> {
    fn log(&mut self, raw: LogSection) -> Log {
        const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
        const LEVELS: &[(&str, LogLevel)] = &[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        Log {
            format: self.choice("log.format", raw.format, FORMATS).unwrap_or(LogFormat::Text),
            level: self.choice("log.level", raw.level, LEVELS).unwrap_or(LogLevel::Info),
            pseudonyms: raw.pseudonyms.unwrap_or(false),
            lines_per_minute: self.rate("log.lines_per_minute", raw.lines_per_minute, 3000),
            lines_per_minute_of_source: self.rate(
                "log.lines_per_minute_of_source",
                raw.lines_per_minute_of_source,
                300,
            ),
        }
    }

    /// A number of events in a minute.
    fn rate(&mut self, key: &str, written: Written<i64>, default: u32) -> u32 {
        self.number(key, written, 1..=1_000_000, default)
    }

    fn roots(&mut self, key: &str, written: Written<String>) -> Roots {
        let Some(written) = written else { return Roots::Bundled };
        self.note(key, &written.span());
        match written.get_ref().as_str() {
            "bundled" => Roots::Bundled,
            "system" => Roots::System,
            file if is_path(Path::new(file)) => Roots::File(PathBuf::from(file)),
            _ => {
                let message = "is neither \"bundled\" nor \"system\" nor the path of a PEM file";
                self.problem(Some(written.span()), key, message);
                Roots::Bundled
            }
        }
    }

    /// A name that stands elsewhere in the file.
    fn reference<'n>(
        &mut self,
        key: &str,
        written: Written<String>,
        known: impl Iterator<Item = &'n String> + Clone,
        default: Option<&str>,
    ) -> Option<String> {
        let Some(written) = written else { return default.map(str::to_owned) };
        let span = written.span();
        let name = written.into_inner();
        if known.clone().any(|one| *one == name) {
            return Some(name);
        }
        let known: Vec<_> = known.map(|one| format!("\"{one}\"")).collect();
        self.problem(Some(span), key, &format!("names what is not in this file; known are {}", known.join(", ")));
        None
    }

    fn choice<T: Copy>(&mut self, key: &str, written: Written<String>, choices: &[(&str, T)]) -> Option<T> {
        let written = written?;
        let span = written.span();
        let word = written.into_inner();
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let message = match nearest(&word, choices.iter().map(|(name, _)| *name)) {
            Some(near) => format!("unknown value; did you mean \"{near}\"?"),
            None => format!("unknown value; it is one of {}", names.join(", ")),
        };
        self.problem(Some(span), key, &message);
        None
    }

    fn number<T: TryFrom<i64> + Copy>(
        &mut self,
        key: &str,
        written: Written<i64>,
        range: std::ops::RangeInclusive<i64>,
        default: T,
    ) -> T {
        let Some(written) = written else { return default };
        match T::try_from(*written.get_ref()) {
            Ok(value) if range.contains(written.get_ref()) => value,
            _ => {
                let message = format!("is not between {} and {}", range.start(), range.end());
                self.problem(Some(written.span()), key, &message);
                default
            }
        }
    }

    fn duration(&mut self, key: &str, written: Written<String>, default_seconds: u64) -> Duration {
        self.duration_millis(key, written, default_seconds * 1000)
    }

    fn duration_millis(&mut self, key: &str, written: Written<String>, default_millis: u64) -> Duration {
        self.duration_up_to(LONGEST, key, written, Duration::from_millis(default_millis))
    }

    fn duration_up_to(
        &mut self,
        longest: Duration,
        key: &str,
        written: Written<String>,
        default: Duration,
    ) -> Duration {
        let Some(written) = written else { return default };
        // A number that is too large is a duration, too.
        let parsed = match humantime::parse_duration(written.get_ref()) {
            Err(humantime::DurationError::NumberOverflow) => Ok(Duration::MAX),
            other => other,
        };
        match parsed {
            Ok(duration) if duration.is_zero() || duration > longest => {
                let days = longest.as_secs() / LONGEST.as_secs();
                let longest = if days == 1 { "a day".to_owned() } else { format!("{days} days") };
                let message = format!("must be more than nothing and no more than {longest}");
                self.problem(Some(written.span()), key, &message);
                default
            }
            Ok(duration) => duration,
            Err(_) => {
                let message = "is not a duration; write it as \"30s\", \"500ms\" or \"35m\"";
                self.problem(Some(written.span()), key, message);
                default
            }
        }
    }

    fn problem(&mut self, span: Option<Range<usize>>, key: &str, message: &str) {
        let problem = self.at(span, key, message);
        self.problems.push(problem);
    }

    fn warn(&mut self, span: Option<Range<usize>>, key: &str, message: &str) {
        let problem = self.at(span, key, message);
        self.warnings.push(problem);
    }

    fn note(&mut self, key: &str, span: &Range<usize>) {
        self.note_as(key, key, span);
    }

    /// Remembers where the value of a key stands, and under which key the file writes it.
    fn note_as(&mut self, key: &str, written: &str, span: &Range<usize>) {
        let position = Position { line: line_of(self.text, span), key: written.to_owned() };
        self.positions.insert(key.to_owned(), position);
    }

    fn at(&self, span: Option<Range<usize>>, key: &str, message: &str) -> Problem {
        if let Some(variable) = span.as_ref().and_then(|span| admin::variable_at(span, self.environment, self.text)) {
            let file = PathBuf::from(format!("environment variable {variable}"));
            return Problem { file, line: None, key: key.to_owned(), message: message.to_owned() };
        }
        Problem {
            file: self.file.to_path_buf(),
            line: span.map(|span| line_of(self.text, &span)),
            key: key.to_owned(),
            message: message.to_owned(),
        }
    }
}

const STATE_DIRECTORY: &str = "/var/lib/packetboat";
const DEFAULT: &str = "default";
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
