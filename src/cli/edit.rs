//! Commands change the configuration file here: the new file is checked first, put in place whole, and reloaded.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::{CommandError, Exit};
use super::output::{print, print_error, problems_error};
use super::{ConfigFile, control_client, setup};
use crate::config::{Config, Environment};
use crate::provision::{ConfigurationFile, Document, Error};
use crate::state;

/// The configuration after a change.
pub(super) struct Edited {
    config: Config,
    /// The proxy that has not answered, if there is one.
    unanswered: Result<(), CommandError>,
}

impl Edited {
    /// Prints what belongs to the change. Then a proxy that has not answered is an error.
    pub(super) fn then(self, print: impl FnOnce(&Config) -> Result<(), CommandError>) -> Result<(), CommandError> {
        print(&self.config)?;
        self.unanswered
    }
}

/// Changes the configuration file, and returns the new configuration. The change sees the present one; `before_replacing`
/// sees the new one, and can still refuse it.
///
/// A file that `packetboat check` or the running proxy rejects is not left in place.
pub(super) fn edit(
    file: &ConfigFile,
    change: impl FnOnce(&mut Document, &Config) -> Result<(), CommandError>,
    before_replacing: impl FnOnce(&Config) -> Result<(), CommandError>,
) -> Result<Edited, CommandError> {
    let target = ConfigurationFile::open(&file.config).map_err(failed)?;
    let before = file.load()?;
    let mut document = Document::parse(target.text()).map_err(failed)?;
    change(&mut document, &before.config)?;
    let text = document.text();
    let parsed = Config::parse_with(&text, target.path(), &Environment::of_process());
    let mut config = parsed.map_err(|problems| problems_error(Exit::Config, &problems))?.config;
    if let Some(directory) = &file.state_directory {
        config.state_directory.clone_from(directory);
    }
    check(file, &target, &text)?;
    before_replacing(&config)?;
    target.replace(&text).map_err(failed)?;
    let unanswered = match load(file, &target, &text) {
        Ok(loaded) => print(format!("{}: changed; {loaded}\n", file.config.display())),
        // The change stands, and with it a password that only this command knows.
        Err(error) if error.is_of(Exit::NoAnswer) => Err(error),
        Err(error) => return Err(error),
    };
    Ok(Edited { config, unanswered })
}

/// The command's error of one of the file.
pub(super) fn failed(error: Error) -> CommandError {
    let exit = match &error {
        Error::Read { .. } => Exit::NoInput,
        Error::Text { .. } | Error::Syntax(_) | Error::Form { .. } | Error::Inline { .. } => Exit::Config,
        Error::Exists { .. }
        | Error::Missing { .. }
        | Error::NoAddress { .. }
        | Error::NoNetwork { .. }
        | Error::NoUpstream { .. }
        | Error::OnlyDevice { .. }
        | Error::InUse { .. } => Exit::Usage,
        Error::Busy { .. } | Error::Changed { .. } | Error::ReadOnly { .. } => Exit::Unavailable,
        Error::Write(_) => Exit::IoError,
    };
    exit.because(error)
}

/// Checks the new text with `packetboat check`, as a file of the same owner and mode beside the old one.
pub(super) fn check(file: &ConfigFile, target: &ConfigurationFile, text: &str) -> Result<(), CommandError> {
    let candidate = Candidate::write(target, text, "candidate")?;
    let output = command(file, &["check"], &candidate.path)?;
    let shown = String::from_utf8_lossy(&output.stderr);
    let shown = shown.replace(&candidate.path.display().to_string(), &file.config.display().to_string());
    if output.status.success() {
        print_error(shown.trim_end());
        return Ok(());
    }
    let exit = match output.status.code() {
        Some(code) if code == Exit::Config as i32 => Exit::Config,
        _ => Exit::Unavailable,
    };
    Err(exit.because(format_args!("{}\nnothing was changed", shown.trim_end())))
}

/// Makes a running proxy load the new text of the file, and returns the result in words. If it rejects the text, the old
/// one is put back. If it does not answer, the new text stays: the proxy may use it.
pub(super) fn load(file: &ConfigFile, target: &ConfigurationFile, text: &str) -> Result<String, CommandError> {
    let error = match reload(file) {
        Ok(words) => return Ok(words),
        Err(error) if error.is_of(Exit::NoAnswer) => {
            return Err(Exit::NoAnswer.because(format_args!("{}: changed, but {error}", file.config.display())));
        }
        Err(error) => error,
    };
    target.restore(text).map_err(failed)?;
    Err(Exit::Unavailable.because(format_args!("{error}\n{}: put back as it was", file.config.display())))
}

/// Makes a running proxy load the file again, and returns the result in words.
pub(super) fn reload(file: &ConfigFile) -> Result<String, CommandError> {
    if control_client::process(&file.state_directories()).is_none() {
        return Ok("packetboat is not running, and uses the new file when it starts".to_owned());
    }
    let output = command(file, &["reload"], &file.config)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let is_unanswered = output.status.code() == Some(Exit::NoAnswer as i32);
    let exit = if is_unanswered { Exit::NoAnswer } else { Exit::Unavailable };
    Err(exit.because(String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// Makes the service use new credentials: starts it anew where systemd runs it, because systemd hands them over at the
/// start alone; else reloads the proxy that runs.
pub(super) fn load_credentials(
    file: &ConfigFile,
    target: &ConfigurationFile,
    text: &str,
) -> Result<String, CommandError> {
    let is_packaged = file.config == Path::new(PACKAGED) && Path::new("/run/systemd/system").is_dir();
    if !is_packaged {
        return load(file, target, text);
    }
    let mut command = Command::new("systemctl");
    let status = command.args(["restart", "packetboat.service"]).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {
            Ok("packetboat restarted; connections have waited, and none was refused".to_owned())
        }
        Ok(_) => Err(Exit::Unavailable.because("packetboat does not start: journalctl -u packetboat has the reason")),
        Err(error) => Err(Exit::OsError.because(format_args!("systemctl cannot be run: {error}"))),
    }
}

/// A command as a person types it, with the options for the same configuration.
pub(super) fn with_options(file: &ConfigFile, command: &str) -> String {
    let mut text = command.to_owned();
    if file.config != Path::new(PACKAGED) {
        text.push_str(&format!(" --config {}", setup::shell_word(&file.config)));
    }
    if let Some(directory) = &file.state_directory {
        text.push_str(&format!(" --state-directory {}", setup::shell_word(directory)));
    }
    text
}

/// Runs another command of this program with the same options.
pub(super) fn command(file: &ConfigFile, arguments: &[&str], config: &Path) -> Result<Output, CommandError> {
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null());
    command.args(file.state_directory.iter().flat_map(|one| [OsStr::new("--state-directory"), one.as_os_str()]));
    command.output().map_err(|error| Exit::OsError.because(format_args!("cannot start packetboat: {error}")))
}

/// The new text in a file of its own, which is removed when this is dropped.
pub(super) struct Candidate {
    path: PathBuf,
}

impl Candidate {
    /// Writes the text with the owner and mode of the old file, under its name and this ending.
    pub(super) fn write(target: &ConfigurationFile, text: &str, ending: &str) -> Result<Self, CommandError> {
        let path = target.path().with_extension(format!("toml.{ending}"));
        let candidate = Self { path };
        let written = state::write_like(&candidate.path, text.as_bytes(), target.path());
        written.map_err(|error| Exit::IoError.because(error))?;
        Ok(candidate)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // One that stays is replaced by the next change.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The configuration of the package's unit.
pub(super) const PACKAGED: &str = "/etc/packetboat/packetboat.toml";
