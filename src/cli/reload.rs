//! `packetboat reload` makes the running proxy read its configuration again, and waits for the result.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::{CommandError, Exit};
use super::output::{print, print_error};
use super::run_files::ReloadOutcome;
use super::service_user::become_owner;
use super::{ConfigFile, control_client};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Signal this process; by default the one that uses the state directory
    #[arg(long, value_name = "NUMBER")]
    pid: Option<i32>,
}

/// Signals the proxy and prints the result. The proxy reads the file itself, even one with a mistake, so that its log,
/// its metrics and the page report the mistake too.
pub(super) fn reload(file: &ConfigFile, arguments: &Arguments) -> Result<(), CommandError> {
    let directories = file.state_directories();
    if let Some(directory) = directories.iter().find(|directory| directory.exists()) {
        become_owner(directory)?;
    }
    let read = file.read();
    for warning in read.iter().flat_map(|proven| &proven.warnings) {
        print_error(format_args!("warning: {warning}"));
    }
    let found = arguments.pid.or_else(|| i32::try_from(control_client::process(&directories)?).ok());
    let Some(pid) = found.and_then(Pid::from_raw) else {
        read.err().into_iter().flatten().for_each(print_error);
        if let Some(why) = control_client::unwritable(&directories) {
            return Err(why);
        }
        let names: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
        let names = if names.is_empty() { "this state directory".to_owned() } else { names.join(" or ") };
        let why = format_args!("no packetboat runs with {names}; start it, or name the process with --pid");
        return Err(Exit::Unavailable.because(why));
    };
    let before: Vec<u64> = directories.iter().map(|directory| ReloadOutcome::last_begun(directory)).collect();
    kill_process(pid, Signal::HUP)
        .map_err(|error| Exit::Unavailable.because(format_args!("process {}: {error}", pid.as_raw_nonzero())))?;
    match wait(&directories, &before) {
        Some(ReloadOutcome { refused: None, revoked, .. }) => {
            print(format!("configuration reloaded; {}\n", session_changes(revoked.as_deref())))
        }
        Some(ReloadOutcome { refused: Some(why), .. }) => {
            let exit = if read.is_err() { Exit::Config } else { Exit::Unavailable };
            Err(exit.because(format_args!("{why}\nrejected: packetboat still runs with the previous configuration")))
        }
        None => Err(Exit::NoAnswer.because(format_args!(
            "packetboat has not answered for {} seconds, and may use the new configuration or not: its log has the \
             result (journalctl -u packetboat); packetboat reload asks again",
            PATIENCE.as_secs()
        ))),
    }
}

/// The effect of a reload on sessions, in words.
pub(super) fn session_changes(revoked: Option<&str>) -> String {
    revoked.map_or_else(
        || "open sessions are unaffected".to_owned(),
        |revoked| format!("{revoked}; all other sessions stay open"),
    )
}

/// Waits for the result of a reload that has begun since.
fn wait(directories: &[PathBuf], before: &[u64]) -> Option<ReloadOutcome> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let outcome =
            directories.iter().zip(before).find_map(|(directory, number)| ReloadOutcome::after(directory, *number));
        if outcome.is_some() {
            return outcome;
        }
        std::thread::sleep(PAUSE);
    }
    None
}

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
