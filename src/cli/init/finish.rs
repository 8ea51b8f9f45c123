//! The end of a setup: the application's id goes into the configuration, the service starts, and every account is tried
//! until all work.

use std::time::{Duration, Instant};

use super::Arguments;
use crate::cli::ConfigFile;
use crate::cli::edit::{self, failed};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::{print, print_error};
use crate::provision::{ConfigurationFile, Document, Kind};

/// Takes the id, starts or reloads the service, and tries the accounts for as long as `--wait` says.
pub(super) fn finish(file: &ConfigFile, client_id: &str, arguments: &Arguments) -> Result<(), CommandError> {
    let target = ConfigurationFile::open(&file.config).map_err(failed)?;
    let mut document = Document::parse(target.text()).map_err(failed)?;
    let [identity] = <[String; 1]>::try_from(document.names(Kind::Identity)).map_err(|names| {
        Exit::Usage.because(format_args!(
            "the configuration has {} identities, and init finishes one: write client_id into [identity.NAME], then \
             packetboat reload",
            names.len()
        ))
    })?;
    document.set_identity(&identity, "client_id", client_id).map_err(failed)?;
    let text = document.text();
    if text != target.text() {
        edit::check(file, &target, &text)?;
        target.replace(&text).map_err(failed)?;
    }
    let loaded = edit::load_credentials(file, &target, &text)?;
    if !arguments.json {
        print(format!("{loaded}\n"))?;
    }
    // Other commands may change the file meanwhile.
    drop(target);
    let result = try_until_ready(file, arguments.wait)?;
    // The proxy tries again what has failed meanwhile.
    edit::reload(file)?;
    if !arguments.json {
        return print(format!("{result}\n"));
    }
    let value = serde_json::json!({
        "configuration": file.config, "client_id": client_id, "loaded": loaded, "result": result,
    });
    print(format!("{value}\n"))
}

/// Tries the accounts until all work, and returns the line that says so. Failures are printed when they change.
fn try_until_ready(file: &ConfigFile, wait: Duration) -> Result<String, CommandError> {
    let (begun, mut last) = (Instant::now(), String::new());
    loop {
        let output = edit::command(file, &["check", "--online"], &file.config)?;
        if output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            return Ok(text.lines().last().unwrap_or_default().to_owned());
        }
        let shown = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8_lossy(&shown).trim_end().to_owned();
        if begun.elapsed() >= wait {
            print_error(shown);
            return Err(Exit::Unavailable.because(
                "not all accounts work yet, for the reasons above. Rights in Exchange Online take effect after minutes, \
                 sometimes hours: run the same command again. If the client id is wrong, run it with the right one",
            ));
        }
        if shown != last {
            print_error(&shown);
            print_error(format_args!(
                "trying again every {} seconds; Ctrl-C stops that, and you can run the command again, also with another id",
                PAUSE.as_secs()
            ));
            last = shown;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The time between two tries: Exchange Online takes minutes to let an application in.
const PAUSE: Duration = Duration::from_secs(30);
