//! `packetboat reload`: has the running proxy take its configuration anew, and waits for what comes of it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::run::change::{self, Outcome};
use super::{ConfigFile, Exit, answer, complain};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The process that runs; found by its state directory, if left out
    #[arg(long, value_name = "NUMBER")]
    pid: Option<i32>,
}

/// Reads the file itself first: what is wrong with it needs nobody else.
pub(super) fn reload(file: &ConfigFile, arguments: &Arguments) -> Result<(), Exit> {
    let proven = file.load()?;
    for warning in &proven.warnings {
        complain(format_args!("warning: {warning}"));
    }
    let state_directory = &proven.config.state_directory;
    let found = arguments.pid.or_else(|| change::process_id(state_directory).and_then(|id| i32::try_from(id).ok()));
    let Some(pid) = found.and_then(Pid::from_raw) else {
        complain(format_args!(
            "no packetboat runs with {}; start it, or name the process with --pid",
            state_directory.display()
        ));
        return Err(Exit::Unavailable);
    };
    let before = Outcome::read(state_directory).map(|(_, stamp)| stamp);
    kill_process(pid, Signal::HUP).map_err(|error| {
        complain(format_args!("process {}: {error}", pid.as_raw_nonzero()));
        Exit::Unavailable
    })?;
    match wait(state_directory, before) {
        Some(Outcome { refused: None }) => answer(b"taken; sessions go on\n"),
        Some(Outcome { refused: Some(why) }) => {
            complain(format_args!("{why}\nrefused: the old configuration runs on"));
            Err(Exit::Unavailable)
        }
        None => {
            complain("no answer in time; the log says what became of it");
            Err(Exit::Unavailable)
        }
    }
}

fn wait(state_directory: &Path, before: Option<(u64, i64, i64)>) -> Option<Outcome> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        match Outcome::read(state_directory) {
            Some((outcome, stamp)) if Some(stamp) != before => return Some(outcome),
            Some(_) | None => std::thread::sleep(PAUSE),
        }
    }
    None
}

const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
