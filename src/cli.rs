//! The command line: what can be asked for, one file each, and the exit codes of sysexits.h.

mod account;
mod as_service;
mod certificate;
mod check;
mod control_client;
mod demo;
mod device;
mod device_table;
mod devices;
mod edit;
mod error;
mod exchange;
mod fleet;
#[cfg(feature = "fleet")]
mod fleet_certificates;
mod generate;
mod handover;
mod health;
mod identity;
mod init;
mod login;
mod logout;
mod online;
mod output;
mod password;
mod reload;
mod retry;
mod run;
mod run_files;
mod service_user;
mod setup;
mod spool;

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Parser, Subcommand};

use crate::config::{Config, Environment, Problem, Proven};
use crate::confinement;
use crate::state;
use crate::text;
use crate::transport::downstream;
use as_service::{WithoutRights, run_as_service};
use error::{CommandError, Exit};
use output::print_error;
use service_user::is_service_user;

/// Let old printers, scanners and other devices read and send mail at Exchange Online
///
/// In the device's settings, enter this computer in place of the mail server. The device speaks TLS 1.0 or later and
/// logs in with a short password of its own. packetboat speaks TLS 1.2 or 1.3 with Exchange Online and logs in with an
/// access token (OAuth 2). If the mail server accepts passwords, packetboat passes the device's own login on to it.
#[derive(Parser)]
#[command(name = "packetboat", version, long_version = long_version(), after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the proxy, and run until a signal stops it
    Run {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Reload configuration and certificates; sessions stay open unless the new configuration forbids them
    ///
    /// Waits for the result, and prints the number of sessions that ended and the reasons. A file with a mistake
    /// changes nothing; this command prints each mistake with file, line and key. Exits with 78 if the file has a
    /// mistake, with 69 if the proxy rejects it for another reason, and with 75 if the proxy does not answer within 30
    /// seconds.
    ///
    /// A session ends if the new file removes its device, password, network or listener, or forbids its TLS version. It
    /// also ends if the file changes its mailbox, mail server or identity. limits.revoked_sessions = "keep" keeps all
    /// these sessions open. A new secret of the identity ends no session.
    Reload {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: reload::Arguments,
    },
    /// Query the running proxy's health
    ///
    /// Exits with 0 if the proxy is healthy; prints the reason and exits with 69 if it is not. Uses the socket in the
    /// state directory, which root and the service's user may open; uses the address in admin.listen if there is no
    /// socket.
    Health {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: health::HealthArguments,
    },
    /// Show whether every device gets its mail, and list what has connected
    ///
    /// The first line is the answer. A row for each [[device]] follows, problems first, and then all devices that have
    /// connected, with their TLS and whether they need packetboat.
    ///
    /// Uses the same socket as packetboat health, and never sends the token of admin.token_file. Shows the list that
    /// the proxy saved last if no proxy is running.
    Devices {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: devices::DevicesArguments,
    },
    /// Check the configuration for mistakes; start nothing
    ///
    /// Reads the whole file, loads every certificate and key, and tries to open every address that a listener names.
    /// Prints one line for each mistake: file, line number, key, and the correction. If root runs it, checks as the
    /// service's user: the owner of the state directory, with the files of /etc/packetboat/credentials.
    Check {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: check::Arguments,
    },
    /// Generate a password for a device, and the hash for the configuration
    Password {
        #[command(flatten)]
        arguments: password::Arguments,
    },
    /// Set packetboat up: write the configuration, the script for Microsoft, and a sheet for each device
    ///
    /// Asks for what the arguments leave out. Makes the application's key and certificate, a password for each device,
    /// and listeners on the ports that are free. Keeps the file before as FILE.bak. Afterwards run packetboat.ps1 at
    /// Microsoft, and then packetboat init --finish CLIENT_ID.
    Init {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: init::Arguments,
    },
    /// Add, remove and list the devices of the configuration, and print what to type into each
    ///
    /// Changes the configuration file and keeps its comments and order. Checks the new file first, and makes the running
    /// proxy load it. If the proxy rejects it, the old file is put back.
    Device {
        #[command(flatten)]
        file: ConfigFile,
        #[command(subcommand)]
        action: device::Action,
    },
    /// Add, remove and list the mailboxes that devices open
    ///
    /// Changes the configuration file in the same way as packetboat device.
    Account {
        #[command(flatten)]
        file: ConfigFile,
        #[command(subcommand)]
        action: account::Action,
    },
    /// Renew the key and the certificate by which an application signs in at Microsoft, without an outage
    Identity {
        #[command(flatten)]
        file: ConfigFile,
        #[command(subcommand)]
        action: identity::Action,
    },
    /// Sign in at Microsoft or Google, once, for an account with the grant authorization-code or device-code
    ///
    /// Prints an address to open in a browser, on this computer or any other.
    Login {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: login::Arguments,
    },
    /// Sign the person of an account out: packetboat forgets the refresh token, in a fleet at all instances
    ///
    /// For an account with the grant authorization-code or device-code. The present access tokens last until they end.
    Logout {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: logout::Arguments,
    },
    /// Demonstrate a login on this computer: an old device, the proxy, and a pretend Exchange Online
    ///
    /// Keeps running afterwards, so that curl, openssl or a real device on the LAN can connect. Needs no configuration
    /// and no network.
    Demo {
        #[command(flatten)]
        arguments: demo::Arguments,
    },
    /// Print the steps at Microsoft or Google for this configuration, or write them as a PowerShell script
    ///
    /// Prints portal, PowerShell and consent, with the names and ids of the configuration. Contacts nobody.
    Setup {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        arguments: setup::Arguments,
    },
    /// List, show, remove and retry the messages that a mail server has not taken yet
    ///
    /// Asks the running proxy at the socket in the state directory, which root and the service's user may open. Messages
    /// come here from listeners with spool = "fallback".
    Spool {
        #[command(flatten)]
        file: ConfigFile,
        #[command(subcommand)]
        action: spool::Action,
    },
    /// Create the tables that the instances of a fleet share, show the instances, and move sign-ins
    ///
    /// For several instances with one PostgreSQL database: the section [fleet] of the configuration.
    Fleet {
        #[command(flatten)]
        file: ConfigFile,
        #[command(subcommand)]
        action: fleet::Action,
    },
    /// Show, export or renew the certificates that devices see, or exchange them within a fleet
    Certificate {
        #[command(flatten)]
        file: ConfigFile,
        #[command(subcommand)]
        action: certificate::Action,
    },
    /// Generate man pages and shell completions, for packages
    #[command(hide = true)]
    Generate {
        #[command(subcommand)]
        what: generate::Artifact,
    },
}

#[derive(clap::Args, Clone)]
struct ConfigFile {
    /// Read this configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "PACKETBOAT_CONFIG",
        default_value = "/etc/packetboat/packetboat.toml",
        global = true
    )]
    config: PathBuf,
    /// Use this directory for certificates, refresh tokens and inventory, instead of the configuration's
    /// state_directory
    #[arg(long, value_name = "DIRECTORY", global = true)]
    state_directory: Option<PathBuf>,
}

/// Adds the linked OpenSSL version and the end of its support, for vulnerability tracking.
fn long_version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        format!(
            "{}\nTLS with devices by {}, {}",
            env!("CARGO_PKG_VERSION"),
            downstream::library_version(),
            downstream::library_support()
        )
    })
}

const AFTER_HELP: &str = "\
Environment variables, which override the configuration file:
  PACKETBOAT_CONFIG            the configuration file's path
  PACKETBOAT_STATE_DIRECTORY   state_directory
  PACKETBOAT_LOG_FORMAT        log.format
  PACKETBOAT_LOG_LEVEL         log.level
  PACKETBOAT_ADMIN_LISTEN      admin.listen
  PACKETBOAT_ADMIN_TOKEN_FILE  admin.token_file
  PACKETBOAT_ADMIN_TECHNICIAN_TOKEN_FILE
                               admin.technician_token_file

Exit codes:
  0   success
  64  wrong arguments
  66  the configuration file cannot be read
  69  an address, a certificate, an account or the running proxy does not work
  71  the operating system refuses a request
  74  a file cannot be written
  75  the running proxy has not answered a reload in time; it may use the new configuration or not
  78  the configuration has a mistake";

/// Reads the arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    confinement::keep_memory_private();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            return output::print_usage(error).map_or_else(|error| error.code(), |()| ExitCode::SUCCESS);
        }
    };
    let result = match arguments.command {
        Command::Run { file } => run::run(&file),
        Command::Reload { file, arguments } => reload::reload(&file, &arguments),
        Command::Health { file, arguments } => health::health(&file, &arguments),
        Command::Devices { file, arguments } => devices::devices(&file, &arguments),
        Command::Generate { what } => generate::generate(&what),
        Command::Check { file, arguments } => file.load().and_then(|proven| {
            if run_as_service(&proven.config, arguments.without_rights())? {
                return Ok(());
            }
            check::check(&file, &proven, &arguments)
        }),
        Command::Init { file, arguments } => init::init(&file, &arguments),
        Command::Device { file, action } => device::act(&file, action),
        Command::Account { file, action } => account::act(&file, action),
        Command::Identity { file, action } => identity::act(&file, &action),
        Command::Demo { arguments } => demo::demo(&arguments),
        Command::Password { arguments } => password::make(&arguments),
        Command::Login { file, arguments } => file.load().and_then(|proven| {
            if run_as_service(&proven.config, WithoutRights::Fail)? {
                return Ok(());
            }
            login::login(&proven, &arguments)
        }),
        Command::Logout { file, arguments } => file.load().and_then(|proven| {
            if run_as_service(&proven.config, WithoutRights::Fail)? {
                return Ok(());
            }
            logout::logout(&proven, &arguments)
        }),
        Command::Setup { file, arguments } => file.load().and_then(|proven| setup::setup(&proven.config, &arguments)),
        Command::Spool { file, action } => spool::act(&file, &action),
        Command::Fleet { file, action } => fleet::act(&file, &action),
        Command::Certificate { file, action } => {
            file.load().and_then(|proven| certificate::act(&file, &proven.config, &action))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(error.to_string());
            error.code()
        }
    }
}

impl ConfigFile {
    /// The proven configuration.
    fn load(&self) -> Result<Proven, CommandError> {
        self.read().map_err(|problems| {
            let exit = if std::fs::read(&self.config).is_ok() { Exit::Config } else { Exit::NoInput };
            output::problems_error(exit, &problems)
        })
    }

    /// Reads the configuration; the caller reports the problems.
    fn read(&self) -> Result<Proven, Vec<Problem>> {
        self.read_for(&self.state_directories())
    }

    /// The same for a service with one of these state directories.
    fn read_for(&self, state_directories: &[PathBuf]) -> Result<Proven, Vec<Problem>> {
        let unreadable = |error: std::io::Error| Problem {
            file: self.config.clone(),
            line: None,
            key: String::new(),
            message: match error.kind() {
                ErrorKind::PermissionDenied if is_service_user(state_directories) => {
                    let why = state::missing_rights(&self.config).or_else(|| state::denial_of(&self.config, &error));
                    let user = state::user_name(rustix::process::geteuid().as_raw());
                    format!("the service's user {user} cannot read it: {}", why.unwrap_or_else(|| error.to_string()))
                }
                ErrorKind::PermissionDenied => "may not be read by this user: run this as root (sudo)".to_owned(),
                _ => format!("cannot be read: {error}; name the file with --config"),
            },
        };
        let content = std::fs::read(&self.config).map_err(|error| vec![unreadable(error)])?;
        let text = text::utf_8(&content).map_err(|why| {
            vec![Problem { file: self.config.clone(), line: None, key: String::new(), message: why.to_string() }]
        })?;
        let mut proven = Config::parse_with(text, &self.config, &Environment::of_process())?;
        if let Some(directory) = &self.state_directory {
            proven.config.set_state_directory(directory);
        }
        Ok(proven)
    }
}

/// The event loop of a command, on the command's own thread: a thread more could not be confined.
fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Exit::OsError.because(format_args!("cannot start: {error}")))
}
