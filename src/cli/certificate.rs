//! `packetboat certificate`: show, export, renew.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use super::{Exit, answer, complain};
use crate::config::{CertificateSource, Config};
use crate::state::{self, Access};
use crate::transport::downstream::certificate::{self, Making};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Print name, validity and fingerprint of every certificate
    Show,
    /// Print the CA's certificate, for import into a device
    Export {
        /// In DER, which most printers want, rather than PEM
        #[arg(long)]
        der: bool,
        /// Write to this file instead of the screen
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make a new certificate; the CA stays, so devices that have imported it need nothing
    ///
    /// A running proxy takes it within seconds.
    Renew {
        /// The certificate's name in the configuration
        #[arg(default_value = "default")]
        name: String,
    },
}

pub(super) fn act(config: &Config, action: &Action) -> Result<(), Exit> {
    let result = match action {
        Action::Show => show(config),
        Action::Export { der, output } => export(config, *der, output.as_ref()),
        Action::Renew { name } => renew(config, name),
    };
    match result {
        Ok(text) => answer(&text),
        Err((exit, error)) => {
            complain(error);
            Err(exit)
        }
    }
}

fn show(config: &Config) -> Result<Vec<u8>, (Exit, String)> {
    let mut text = String::new();
    for (name, one) in &config.certificates {
        // Loading makes what is to be made, and proves that chain and key fit.
        certificate::load(one, &config.state_directory, name, Making::Kept)
            .map_err(|fault| (Exit::Unavailable, fault.message))?;
        let path = certificate::chain_path(one, &config.state_directory, name);
        write_description(&mut text, name, &certificate::describe(&path).map_err(unavailable)?);
    }
    let authority = certificate::authority_path(&config.state_directory);
    if authority.exists() {
        write_description(&mut text, "ca", &certificate::describe(&authority).map_err(unavailable)?);
    }
    Ok(text.into_bytes())
}

fn write_description(text: &mut String, name: &str, one: &certificate::Description) {
    let _ = writeln!(
        text,
        "{name}\n  file     {}\n  subject  {}\n  issuer   {}\n  names    {}\n  until    {} ({} days)\n  SHA-256  {}\n  SHA-1    {}",
        one.path.display(),
        one.subject,
        one.issuer,
        one.names.join(" "),
        one.not_after,
        one.days_left,
        one.sha256,
        one.sha1,
    );
}

fn export(config: &Config, der: bool, output: Option<&PathBuf>) -> Result<Vec<u8>, (Exit, String)> {
    let made = config.certificates.iter().find(|(_, one)| matches!(one.source, CertificateSource::Made { .. }));
    if let Some((name, one)) = made {
        certificate::load(one, &config.state_directory, name, Making::Kept)
            .map_err(|fault| (Exit::Unavailable, fault.message))?;
    }
    let path = certificate::authority_path(&config.state_directory);
    if made.is_none() {
        return Err(unavailable("the certificates are your own files: import their CA into the device".to_owned()));
    }
    let octets =
        if der { certificate::der(&path).map_err(unavailable)? } else { state::read(&path).map_err(unavailable)? };
    match output {
        None => Ok(octets),
        Some(file) => {
            state::write(file, &octets, Access::Public).map_err(|error| (Exit::IoError, error))?;
            Ok(format!("wrote {}\n", file.display()).into_bytes())
        }
    }
}

fn renew(config: &Config, name: &str) -> Result<Vec<u8>, (Exit, String)> {
    let Some(one) = config.certificates.get(name) else {
        let known: Vec<&str> = config.certificates.keys().map(String::as_str).collect();
        return Err((Exit::Usage, format!("there is no certificate \"{name}\"; known are {}", known.join(", "))));
    };
    certificate::renew(one, &config.state_directory, name).map_err(unavailable)?;
    let mut text = String::new();
    write_description(
        &mut text,
        name,
        &certificate::describe(&certificate::chain_path(one, &config.state_directory, name)).map_err(unavailable)?,
    );
    text.push_str("a running proxy shows it to devices within seconds\n");
    Ok(text.into_bytes())
}

fn unavailable(message: String) -> (Exit, String) {
    (Exit::Unavailable, message)
}
