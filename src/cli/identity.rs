//! `packetboat identity` renews the key and the certificate by which an application proves who it is.

mod pair;
mod swap;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use clap::Subcommand;

use super::ConfigFile;
use super::edit::{self, Candidate, failed, with_options};
use super::error::{CommandError, Exit};
use super::output::{print, print_error};
use super::retry::{End, Retry};
use super::setup;
use crate::config::{CertificateFiles, Config, Credential, Environment, Grant};
use crate::provision::{ConfigurationFile, Document};
use crate::transport::downstream::certificate;
use pair::NewPair;
use swap::Swap;

#[derive(Subcommand)]
pub(super) enum Action {
    /// Renew key and certificate of an identity, without an outage
    ///
    /// Makes a new pair beside the one in use, and waits until Microsoft takes it: upload the new certificate beside the
    /// old one, with the script that this writes or by hand. Then puts the new files into the configuration, and makes
    /// the running proxy load them. Keeps the old files. After an interruption, the same command goes on with the pair
    /// that it has made.
    Renew {
        /// Renew this identity: NAME of an [identity.NAME] in the configuration
        name: String,
        /// Wait this long for the upload
        #[arg(long, value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
        wait: Duration,
        /// Make the pair, and do not wait; prints the command to go on with
        #[arg(long, conflicts_with = "wait")]
        no_wait: bool,
        /// Write the PowerShell script that uploads the certificate to this file
        #[arg(short, long, value_name = "FILE", default_value = "packetboat.ps1")]
        output: PathBuf,
    },
}

pub(super) fn act(file: &ConfigFile, action: &Action) -> Result<(), CommandError> {
    let Action::Renew { name, wait, no_wait, output } = action;
    if let Some(swap) = Swap::interrupted(file)? {
        return swap.finish(file);
    }
    let renewal = Renewal::begin(file, name)?;
    let config = renewal.config(&renewal.text()?)?;
    print(renewal.instructions(&config, output)?)?;
    if *no_wait {
        return print(format_args!("Afterwards go on with:\n\n    {}\n", renewal.command()));
    }
    renewal.wait(*wait)?;
    renewal.swap()
}

/// A renewal that has its new pair.
struct Renewal<'a> {
    file: &'a ConfigFile,
    name: &'a str,
    old: CertificateFiles,
    new: NewPair,
}

impl<'a> Renewal<'a> {
    /// Makes the new pair, or takes the one that is there, and checks the configuration with it.
    fn begin(file: &'a ConfigFile, name: &'a str) -> Result<Self, CommandError> {
        // Locked, so that two commands do not make two pairs.
        let target = ConfigurationFile::open(&file.config).map_err(failed)?;
        let config = file.load()?.config;
        let old = files_of(&config, name)?;
        if !config.accounts.values().any(|account| account.identity == name) {
            return Err(Exit::Usage
                .because(format_args!("no [account.NAME] uses identity \"{name}\": nothing needs its certificate")));
        }
        let state_directory = file.state_directory.clone().unwrap_or(config.state_directory);
        let new = NewPair::beside(&old, &state_directory)?;
        let renewal = Self { file, name, old, new };
        edit::check(file, &target, &renewal.changed(&target)?)?;
        Ok(renewal)
    }

    /// The configuration file's text with the new pair.
    fn text(&self) -> Result<String, CommandError> {
        self.changed(&ConfigurationFile::open(&self.file.config).map_err(failed)?)
    }

    fn changed(&self, target: &ConfigurationFile) -> Result<String, CommandError> {
        let mut document = Document::parse(target.text()).map_err(failed)?;
        document.set_identity(self.name, "certificate", &self.new.chain_in_file()).map_err(failed)?;
        document.set_identity(self.name, "key", &self.new.key_in_file()).map_err(failed)?;
        Ok(document.text())
    }

    fn config(&self, text: &str) -> Result<Config, CommandError> {
        let parsed = Config::parse_with(text, &self.file.config, &Environment::of_process());
        Ok(parsed.map_err(|problems| super::output::problems_error(Exit::Config, &problems))?.config)
    }

    /// Writes the script for the steps at Microsoft, and returns the steps in words.
    fn instructions(&self, config: &Config, output: &Path) -> Result<String, CommandError> {
        let (name, chain, key) = (self.name, self.new.files.chain.display(), self.new.files.key.display());
        let one = certificate::describe(&self.new.files.chain).map_err(|error| Exit::Unavailable.because(error))?;
        let (sha1, until) = (one.sha1.replace(':', ""), &one.not_after);
        let made = if self.new.is_made { "made a new pair" } else { "goes on with the new pair that is there" };
        let mut text = format!(
            "identity {name}: {made}; the old one stays in use\n  certificate  {chain}\n  key          {key}\n  until        \
             {until}\n  SHA-1        {sha1}\n  SHA-256      {}\n\nUpload the new certificate at Microsoft, and leave the \
             old one there:\n",
            one.sha256
        );
        let by_hand = format!(
            "App registrations, the application, Certificates & secrets, Certificates, Upload certificate. The file is on \
             this computer: where your browser runs, save what `cat {chain}` prints as app.pem, and upload that. Never \
             upload the key."
        );
        match setup::write_script(config, output) {
            Ok(()) => text.push_str(&format!(
                "  with the script: copy {} to a computer with PowerShell 7, and run it there as an administrator of the \
                 tenant\n  or by hand: {by_hand}\n\n",
                output.display()
            )),
            Err(error) => {
                print_error(format_args!("warning: there is no script for the upload: {error}"));
                text.push_str(&format!("  by hand: {by_hand}\n\n"));
            }
        }
        Ok(text)
    }

    /// Tries the new pair at the token endpoint until that takes it. The running proxy has no part in it.
    fn wait(&self, wait: Duration) -> Result<(), CommandError> {
        let attempt = || {
            // Of the present file, which other commands may have changed.
            let target = ConfigurationFile::open(&self.file.config).map_err(failed)?;
            let text = self.changed(&target)?;
            let candidate = Candidate::write(&target, &text, "renewal")?;
            drop(target);
            let arguments = ["check", "--online", "--identity", self.name, "--tell-refusal"];
            edit::command(self.file, &arguments, candidate.path())
        };
        // The output describes the listeners, too: the last line is about the token.
        let shown = |output: &Output| {
            let last =
                |text: &[u8]| String::from_utf8_lossy(text).trim_end().lines().last().unwrap_or_default().to_owned();
            let line = last(&output.stdout);
            if line.is_empty() { last(&output.stderr) } else { line }
        };
        // A person may need the whole time for the upload, and Entra refuses until then.
        let retry = Retry { wait, while_refused: wait, refused_hint: "", hint: "" };
        match retry.run(attempt, shown)? {
            End::Success(_) => Ok(()),
            End::TimeIsUp | End::Refused => Err(Exit::Unavailable.because(format_args!(
                "the new certificate does not work yet, and the old one stays in use. After the upload go on with:\n\n    \
                 {}",
                self.command()
            ))),
            End::Final => Err(Exit::Unavailable.because(format_args!(
                "waiting does not change the reason above, and the old certificate stays in use. Mend it and go on \
                 with:\n\n    {}",
                self.command()
            ))),
        }
    }

    /// Puts the new pair into the configuration, and makes the proxy load it.
    fn swap(&self) -> Result<(), CommandError> {
        let target = ConfigurationFile::open(&self.file.config).map_err(failed)?;
        let present = self.config(target.text())?;
        if files_of(&present, self.name)? != self.old {
            return Err(Exit::Unavailable.because(format_args!(
                "[identity.{}] has been changed meanwhile: nothing was changed. Run the same command again",
                self.name
            )));
        }
        let text = self.changed(&target)?;
        edit::check(self.file, &target, &text)?;
        let swap = Swap::new(&target, self.name, &self.old);
        swap.begin(&target)?;
        target.replace(&text).map_err(failed)?;
        swap.load(self.file, &target, &text)
    }

    /// The command that goes on.
    fn command(&self) -> String {
        let name = setup::shell_word(Path::new(self.name));
        with_options(self.file, &format!("packetboat identity renew {name}"))
    }
}

/// The certificate and the key of an identity.
fn files_of(config: &Config, name: &str) -> Result<CertificateFiles, CommandError> {
    let Some(identity) = config.identities.get(name) else {
        let known: Vec<&str> = config.identities.keys().map(String::as_str).collect();
        let why = format_args!("there is no identity \"{name}\"; known are {}", known.join(", "));
        return Err(Exit::Usage.because(why));
    };
    match &identity.grant {
        Grant::ClientCredentials(Credential::Certificate(files)) => Ok(files.clone()),
        _ => Err(Exit::Usage.because(format_args!(
            "[identity.{name}] has no certificate to renew: docs/entra.md, \"What ends, and when\", says how its secret \
             or sign-in is renewed"
        ))),
    }
}
