//! The log writes one line for each event, as text or as JSON, with pseudonyms where the configuration wants them.
//!
//! In the journal a line has its priority and no time of its own, which the journal knows (sd-daemon(3)).

mod pseudonyms;
mod stderr;

use std::fmt::{self, Debug, Write as _};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt as subscriber_fmt};

use crate::cli::output::is_journal;
use crate::config::{Config, LogFormat, LogLevel};
use crate::crypto::KeyedHash;
use crate::text::Printable;
use crate::text::excerpt;
use pseudonyms::Pseudonyms;
use stderr::StandardError;

/// The running log, whose settings a reload can change.
pub(in crate::cli) struct Output {
    level: Handle<LevelFilter, Registry>,
    stderr: StandardError,
    format: Arc<LineFormat>,
}

/// The format of log lines.
struct LineFormat {
    json: AtomicBool,
    journal: bool,
    colours: bool,
    pseudonyms: RwLock<Option<Pseudonyms>>,
}

/// Starts the log.
pub(in crate::cli) fn start(config: &Config) -> Output {
    let format = Arc::new(LineFormat {
        json: AtomicBool::new(false),
        journal: is_journal(),
        colours: io::stderr().is_terminal(),
        pseudonyms: RwLock::new(None),
    });
    let (filter, level) = reload::Layer::new(LevelFilter::INFO);
    let own = StandardError::default();
    let layer = subscriber_fmt::layer().with_writer(own.clone()).event_format(Formatter(Arc::clone(&format)));
    tracing_subscriber::registry().with(filter).with(layer).init();
    std::panic::set_hook(Box::new(log_panic));
    let output = Output { level, stderr: own, format };
    output.reconfigure(config);
    output
}

impl Output {
    /// Starts the thread that writes the lines, so that no other thread ever waits for the reader.
    ///
    /// # Errors
    /// The operating system refuses the thread.
    pub(super) fn start_thread(&self) -> io::Result<()> {
        self.stderr.start_thread()
    }

    /// The number of lines that were dropped because nobody read standard error in time.
    pub(super) fn dropped(&self) -> u64 {
        self.stderr.dropped()
    }

    /// Applies the settings of a configuration.
    pub(super) fn reconfigure(&self, config: &Config) {
        let level = match config.log.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        // Reloading fails only without the subscriber, which lives as long as the process.
        let _ = self.level.reload(level);
        self.format.json.store(config.log.format == LogFormat::Json, Ordering::Relaxed);
        let mut pseudonyms = self.format.pseudonyms.write();
        let hash = pseudonyms.take().and_then(|before| before.hash);
        if config.log.pseudonyms {
            *pseudonyms = Some(Pseudonyms::new(hash.or_else(|| KeyedHash::new().ok().map(Arc::new)), config));
        }
    }

    /// Hides the names of a rejected configuration too, whose problems are logged.
    pub(super) fn hide_also(&self, config: &Config) {
        let mut pseudonyms = self.format.pseudonyms.write();
        if let Some(pseudonyms) = pseudonyms.as_mut() {
            pseudonyms.learn(config);
        }
    }
}

/// Writes the last lines before the process ends, if anybody reads them.
impl Drop for Output {
    fn drop(&mut self) {
        self.stderr.finish(LAST_LINES);
    }
}

/// Logs a panic. The standard hook would write to standard error itself, and wait for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or_default();
    tracing::error!(place, "internal error: {}", excerpt(what.as_bytes()));
}

/// One log line: its message and its fields.
#[derive(Default)]
struct LogLine {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    /// A text, which stands in quotes.
    Text(String),
    /// A value that stands without quotes.
    Shown(String),
    Number(serde_json::Number),
    Truth(bool),
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.fields.push((field.name(), Value::Shown(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.fields.push((field.name(), Value::Text(value.to_owned())));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Value::Number(value.into())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Value::Number(value.into())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Value::Truth(value)));
    }
}

impl LogLine {
    /// Replaces names of people and devices by pseudonyms.
    fn hide(&mut self, pseudonyms: &Pseudonyms) {
        let mut addresses = Vec::new();
        for (name, value) in &mut self.fields {
            let (Value::Text(text) | Value::Shown(text)) = value else { continue };
            if NAMING.contains(name) && text != "-" {
                if *name == SOURCE {
                    addresses.push(text.clone());
                    addresses.extend(text.parse::<std::net::SocketAddr>().map(|source| source.ip().to_string()));
                }
                *text = pseudonyms.of(text);
            }
        }
        pseudonyms.apply(&mut self.message, &addresses);
        let others = self.fields.iter_mut().filter(|(name, _)| !NAMING.contains(name) && !FIXED.contains(name));
        for (_, value) in others {
            if let Value::Text(text) | Value::Shown(text) = value {
                pseudonyms.apply(text, &addresses);
            }
        }
    }
}

/// The formatter that the subscriber owns.
struct Formatter(Arc<LineFormat>);

impl<S, N> FormatEvent<S, N> for Formatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = LogLine::default();
        event.record(&mut line);
        let pseudonyms = self.0.pseudonyms.read();
        if let Some(pseudonyms) = pseudonyms.as_ref() {
            line.hide(pseudonyms);
        }
        drop(pseudonyms);
        self.0.write(writer, *event.metadata().level(), line)
    }
}

impl LineFormat {
    fn write(&self, mut writer: Writer<'_>, level: Level, line: LogLine) -> fmt::Result {
        if self.journal {
            write!(writer, "<{}>", priority(level))?;
        }
        if self.json.load(Ordering::Relaxed) {
            self.as_json(&mut writer, level, line)
        } else {
            self.as_text(&mut writer, level, line)
        }
    }

    fn as_text(&self, writer: &mut Writer<'_>, level: Level, line: LogLine) -> fmt::Result {
        if !self.journal {
            write!(writer, "{} ", humantime::format_rfc3339_micros(SystemTime::now()))?;
        }
        match (self.journal, self.colours) {
            (true, _) => {}
            (false, true) => write!(writer, "\x1b[{}m{level:>5}\x1b[0m ", colour(level))?,
            (false, false) => write!(writer, "{level:>5} ")?,
        }
        writer.write_str(Printable::line(line.message.replace(['\r', '\n'], " ")).as_str())?;
        for (name, value) in line.fields {
            match value {
                Value::Text(text) => write!(writer, " {name}={:?}", Printable::line(text).as_str())?,
                Value::Shown(text) => write!(writer, " {name}={}", Printable::line(text).as_str())?,
                Value::Number(number) => write!(writer, " {name}={number}")?,
                Value::Truth(truth) => write!(writer, " {name}={truth}")?,
            }
        }
        writer.write_char('\n')
    }

    fn as_json(&self, writer: &mut Writer<'_>, level: Level, line: LogLine) -> fmt::Result {
        let mut object = serde_json::Map::new();
        let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        object.insert("timestamp".to_owned(), time.into());
        object.insert("level".to_owned(), level.as_str().into());
        object.insert("message".to_owned(), Printable::lines(line.message).as_str().into());
        for (name, value) in line.fields {
            let value = match value {
                Value::Text(text) | Value::Shown(text) => Printable::lines(text).as_str().into(),
                Value::Number(number) => serde_json::Value::Number(number),
                Value::Truth(truth) => truth.into(),
            };
            object.insert(name.to_owned(), value);
        }
        writeln!(writer, "{}", serde_json::Value::Object(object))
    }
}

/// The level as a priority of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 34,
    }
}

/// The longest wait, at the end of the process, for the reader of its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Fields that name a person or a device.
const NAMING: &[&str] = &[SOURCE, "login", "mailbox", "user"];
const SOURCE: &str = "source";
/// Fields that alerts and fail2ban go by: words of our own and of the configuration.
const FIXED: &[&str] = &["reason", "listener", "protocol", "identity"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn named_fields_get_pseudonyms() {
        let text = "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n\
                    [account.a]\nmailbox = \"Scans@contoso.example\"\n[[device]]\nlogin = \"scanner3\"\n\
                    passwords = [\"$argon2id$x\"]\n";
        let config = Config::parse(text, Path::new("x")).unwrap().config;
        let pseudonyms = Pseudonyms::new(Some(Arc::new(KeyedHash::new().unwrap())), &config);
        let mut line = LogLine {
            message:
                "login failed: add 192.0.2.7 to it; device.scanner3 wants Scans@contoso.example, not device.scanner33"
                    .to_owned(),
            fields: vec![
                ("source", Value::Shown("192.0.2.7:4711".to_owned())),
                ("login", Value::Text("nobody".to_owned())),
                ("listener", Value::Text("imap-993".to_owned())),
            ],
        };
        line.hide(&pseudonyms);
        let (source, login) = (pseudonyms.of("192.0.2.7"), pseudonyms.of("nobody"));
        let (device, mailbox) = (pseudonyms.of("scanner3"), pseudonyms.of("scans@contoso.example"));
        assert_eq!(
            line.message,
            format!("login failed: add {source} to it; device.{device} wants {mailbox}, not device.scanner33")
        );
        let shown: Vec<String> = line
            .fields
            .iter()
            .map(|(_, value)| match value {
                Value::Text(text) | Value::Shown(text) => text.clone(),
                Value::Number(_) | Value::Truth(_) => String::new(),
            })
            .collect();
        assert_eq!(shown, [source, login, "imap-993".to_owned()]);
    }

    /// A stranger chooses the login, which may be a word that alerts and fail2ban wait for.
    #[test]
    fn a_pseudonym_hides_no_other_word_of_the_line() {
        let text = "[[device]]\nlogin = \"imap\"\naliases = [\"wrong_password\", \"password\", \"device\", \"logged\"]\n\
                    passwords = [\"$argon2id$x\"]\naccount = \"a\"\n[account.a]\nmailbox = \"a@b.example\"\n\
                    [identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n";
        let config = Config::parse(text, Path::new("x")).unwrap().config;
        let pseudonyms = Pseudonyms::new(Some(Arc::new(KeyedHash::new().unwrap())), &config);
        for login in
            ["wrong_password", "login failed: user name or password is wrong", "imap", "reason", "listener", "0.2"]
        {
            let message = "login failed: user name or password is wrong";
            let mut line = LogLine {
                message: message.to_owned(),
                fields: vec![
                    ("source", Value::Shown("192.0.2.7:4711".to_owned())),
                    ("listener", Value::Text("imap".to_owned())),
                    ("login", Value::Text(login.to_owned())),
                    ("reason", Value::Text("wrong_password".to_owned())),
                ],
            };
            line.hide(&pseudonyms);
            assert_eq!(line.message, message, "{login}");
            let shown = |at: usize| match &line.fields[at].1 {
                Value::Text(text) | Value::Shown(text) => text.clone(),
                Value::Number(_) | Value::Truth(_) => String::new(),
            };
            assert_eq!([shown(1), shown(3)], ["imap", "wrong_password"], "{login}");
            assert_eq!([shown(0), shown(2)], [pseudonyms.of("192.0.2.7"), pseudonyms.of(login)], "{login}");
        }
    }
}
