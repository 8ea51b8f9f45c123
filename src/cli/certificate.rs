//! `packetboat certificate` shows, exports and renews the certificates that devices see.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Subcommand;

use super::ConfigFile;
#[cfg(feature = "fleet")]
use super::as_service::{WithoutRights, run_as_service};
use super::error::{CommandError, Exit, unavailable};
use super::exchange::Exchange;
#[cfg(not(feature = "fleet"))]
use super::fleet::NOT_BUILT;
#[cfg(feature = "fleet")]
use super::fleet_certificates;
#[cfg(feature = "fleet")]
use super::output::print_error;
use super::output::{print, print_der};
use super::service_user::{ServiceUser, as_owner, become_owner};
use crate::config::{CertificateSource, Config};
use crate::mode::Mode;
use crate::state::{self, Access};
use crate::transport::downstream::certificate;

#[derive(Subcommand)]
pub(super) enum Action {
    /// Show name, validity and fingerprint of every certificate
    Show,
    /// Export the CA's certificate, for import into a device
    Export {
        /// Write DER, which most printers want, instead of PEM
        #[arg(long)]
        der: bool,
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Renew a certificate; the CA stays the same, so devices need not import it again
    ///
    /// A running proxy uses the new certificate within seconds. In a fleet the new certificate goes into the database,
    /// and the other instances take it within 10 minutes.
    Renew {
        /// Renew this certificate: NAME of a [certificate.NAME] in the configuration
        #[arg(default_value = "default")]
        name: String,
    },
    /// Put this instance's CA and certificates into the fleet's database, so that all instances show the same
    ///
    /// They are sealed with store_key. Certificates from your own files have no part in it.
    Push {
        /// Replace what the fleet has; devices have to import another CA again
        #[arg(long)]
        replace: bool,
    },
    /// Take the CA and the certificates of the fleet from its database
    ///
    /// The CA of before stays beside the new one, as ca.before.pem. A running proxy uses the new files within seconds.
    Pull,
    /// Take what the fleet has, and put what it does not have: what a start does
    #[command(hide = true)]
    Settle,
}

/// Does what was asked. Where the state directory belongs to another user, root does it as that user.
pub(super) fn act(file: &ConfigFile, config: &Config, action: &Action) -> Result<(), CommandError> {
    if let (Action::Export { der, output: Some(output) }, Some(owner)) =
        (action, ServiceUser::of(&config.state_directory))
    {
        // The file is root's, and the CA is the owner's.
        return write_file(output, &export_as(&owner, file, *der)?);
    }
    if let Some(exchange) = exchange(action) {
        return exchange_with_fleet(config, exchange);
    }
    // The operator's own keys may be root's alone; then root reads what it shows, and makes nothing.
    let has_own_files = config.certificates.values().any(|one| !matches!(one.source, CertificateSource::Made { .. }));
    if matches!(action, Action::Show) && has_own_files && ServiceUser::of(&config.state_directory).is_some() {
        return print(show(config, Mode::DryRun)?);
    }
    if matches!(action, Action::Renew { .. }) && go_on_as_service(config)? {
        return Ok(());
    }
    become_owner(&config.state_directory)?;
    match action {
        Action::Show => print(show(config, Mode::Apply)?),
        Action::Export { der, output: None } => match authority(config, *der)? {
            octets if *der => print_der(&octets),
            octets => print(String::from_utf8_lossy(&octets)),
        },
        Action::Export { der, output: Some(output) } => write_file(output, &authority(config, *der)?),
        Action::Renew { name } => {
            print(renew(config, name)?)?;
            push_renewed(config, name)
        }
        Action::Push { .. } | Action::Pull | Action::Settle => Ok(()),
    }
}

/// The exchange with the fleet that an action is; none for others.
fn exchange(action: &Action) -> Option<Exchange> {
    match action {
        Action::Push { replace } => Some(Exchange::Push { replace: *replace }),
        Action::Pull => Some(Exchange::Pull),
        Action::Settle => Some(Exchange::Settle),
        Action::Show | Action::Export { .. } | Action::Renew { .. } => None,
    }
}

/// Exchanges certificates as the service's user, whose are the password of the database and the store's key.
#[cfg(feature = "fleet")]
fn exchange_with_fleet(config: &Config, exchange: Exchange) -> Result<(), CommandError> {
    if run_as_service(config, WithoutRights::Fail)? {
        return Ok(());
    }
    fleet_certificates::exchange(config, exchange)
}

#[cfg(not(feature = "fleet"))]
fn exchange_with_fleet(_: &Config, _: Exchange) -> Result<(), CommandError> {
    Err(Exit::Usage.because(NOT_BUILT))
}

/// Runs the command as the service's user, where the database of a fleet will be needed. Returns whether it did.
#[cfg(feature = "fleet")]
fn go_on_as_service(config: &Config) -> Result<bool, CommandError> {
    Ok(config.fleet.is_some() && run_as_service(config, WithoutRights::Fail)?)
}

#[cfg(not(feature = "fleet"))]
fn go_on_as_service(_: &Config) -> Result<bool, CommandError> {
    Ok(false)
}

/// Puts a renewed certificate into the fleet's database, so that all instances show it.
#[cfg(feature = "fleet")]
fn push_renewed(config: &Config, name: &str) -> Result<(), CommandError> {
    if config.fleet.is_none() {
        return Ok(());
    }
    if let Err(error) = fleet_certificates::push_renewed(config, name) {
        print_error(format_args!(
            "warning: the other instances do not show the renewed certificate yet: {error}. The running packetboat of this \
             instance puts it into the fleet's database within 10 minutes after the cause has gone"
        ));
    }
    Ok(())
}

#[cfg(not(feature = "fleet"))]
fn push_renewed(_: &Config, _: &str) -> Result<(), CommandError> {
    Ok(())
}

fn show(config: &Config, mode: Mode) -> Result<String, CommandError> {
    let mut text = String::new();
    for (name, one) in &config.certificates {
        // Loading makes what is to be made, and proves that chain and key fit.
        certificate::load(one, &config.state_directory, name, mode).map_err(unavailable)?;
        let path = certificate::chain_path(one, &config.state_directory, name);
        if !path.exists() {
            let _ = writeln!(text, "{name}\n  file     {}, which is made on first start", path.display());
            continue;
        }
        write_description(&mut text, name, &certificate::describe(&path).map_err(unavailable)?);
    }
    let authority = certificate::authority_path(&config.state_directory);
    if authority.exists() {
        write_description(&mut text, "ca", &certificate::describe(&authority).map_err(unavailable)?);
    }
    Ok(text)
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

/// The CA's certificate in DER or PEM. The CA is made first where it is to be made.
fn authority(config: &Config, der: bool) -> Result<Vec<u8>, CommandError> {
    let made = config.certificates.iter().find(|(_, one)| matches!(one.source, CertificateSource::Made { .. }));
    let Some((name, one)) = made else {
        return Err(unavailable("the certificates are your own files: import their CA into the device"));
    };
    certificate::load(one, &config.state_directory, name, Mode::Apply).map_err(unavailable)?;
    let path = certificate::authority_path(&config.state_directory);
    let octets = if der { certificate::der(&path) } else { certificate::pem(&path).map(String::into_bytes) };
    octets.map_err(unavailable)
}

/// Exports the CA's certificate as the owner of the state directory; its output is used only if it is a certificate.
fn export_as(owner: &ServiceUser, file: &ConfigFile, der: bool) -> Result<Vec<u8>, CommandError> {
    let mut command = as_owner(owner);
    command.args(["certificate", "export", "--config"]).arg(&file.config);
    command.args(file.state_directory.iter().flat_map(|one| [OsStr::new("--state-directory"), one.as_os_str()]));
    command.args(der.then_some("--der"));
    let exported = command.stderr(Stdio::inherit()).output();
    let exported = exported
        .map_err(|error| Exit::OsError.because(format_args!("cannot go on as user {}: {error}", owner.user)))?;
    if !exported.status.success() {
        return Err(unavailable("the CA cannot be exported"));
    }
    if certificate::is_one(&exported.stdout) {
        Ok(exported.stdout)
    } else {
        Err(unavailable("the CA is no certificate"))
    }
}

fn write_file(file: &Path, octets: &[u8]) -> Result<(), CommandError> {
    state::write(file, octets, Access::Public).map_err(|error| Exit::IoError.because(error))?;
    print(format_args!("wrote {}\n", file.display()))
}

fn renew(config: &Config, name: &str) -> Result<String, CommandError> {
    let Some(one) = config.certificates.get(name) else {
        let known: Vec<&str> = config.certificates.keys().map(String::as_str).collect();
        let why = format_args!("there is no certificate \"{name}\"; known are {}", known.join(", "));
        return Err(Exit::Usage.because(why));
    };
    certificate::renew(one, &config.state_directory, name).map_err(unavailable)?;
    let mut text = String::new();
    write_description(
        &mut text,
        name,
        &certificate::describe(&certificate::chain_path(one, &config.state_directory, name)).map_err(unavailable)?,
    );
    text.push_str("a running proxy shows it to devices within seconds\n");
    Ok(text)
}
