//! The end of a setup: the application's id goes into the configuration, the service starts, and every account is tried
//! until all work.

use std::process::Output;

use super::Arguments;
use crate::cli::ConfigFile;
use crate::cli::edit::{self, failed};
use crate::cli::error::{CommandError, Exit};
use crate::cli::output::print;
use crate::cli::retry::{End, Retry};
use crate::provision::{ConfigurationFile, Document, Kind};

/// Takes the id, starts or reloads the service, and tries the accounts for as long as `--wait` and
/// `--wait-refused` say.
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
    let result = try_until_ready(file, arguments, &identity)?;
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
fn try_until_ready(file: &ConfigFile, arguments: &Arguments, identity: &str) -> Result<String, CommandError> {
    let while_refused = arguments.wait_refused;
    let retry = Retry {
        wait: arguments.wait,
        while_refused,
        refused_hint: &format!(
            " for {}, because packetboat.ps1 may still be running, and Entra needs minutes to know what is new",
            humantime::format_duration(while_refused)
        ),
        hint: ", and you can run the command again, also with another id",
    };
    let attempt = || edit::command(file, &["check", "--online", "--tell-refusal"], &file.config);
    let shown = |output: &Output| {
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        format!("{stdout}{stderr}").trim_end().to_owned()
    };
    let wrong = format!(
        "if the client id is wrong, run it with the right one; if the tenant is wrong, correct tenant in \
         [identity.{identity}] of {} first",
        file.config.display()
    );
    let because = |reason: std::fmt::Arguments<'_>| Err(Exit::Unavailable.because(reason));
    match retry.run(attempt, shown)? {
        End::Success(output) => {
            let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            Ok(text.lines().last().unwrap_or_default().to_owned())
        }
        End::TimeIsUp => because(format_args!(
            "not all accounts work yet, for the reasons above. Rights in Exchange Online take effect after minutes, \
             sometimes hours: run the same command again. If the client id is wrong, run it with the right one"
        )),
        End::Refused => because(format_args!(
            "the token endpoint refuses, for the reason above. If packetboat.ps1 is still running, or has ended minutes \
             ago, run the same command again; {wrong}"
        )),
        End::Final => because(format_args!(
            "waiting does not change the reason above. Mend it and run the same command again; {wrong}"
        )),
    }
}
