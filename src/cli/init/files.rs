//! The files of a setup besides the configuration: the application's key and certificate, and the directory of sheets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::ConfigFile;
use crate::cli::error::{CommandError, Exit};
use crate::cli::service_user::ServiceUser;
use crate::state::{self, Access};
use crate::transport::downstream::certificate;

/// The application's key and certificate.
pub(super) struct Pair {
    /// The file of the certificate.
    pub(super) chain: PathBuf,
    /// The key as the configuration names it: a path, or a credential of systemd.
    pub(super) key_in_file: String,
}

impl Pair {
    /// Makes the pair where it belongs, unless it is there. With the package's unit, systemd hands the key over; without
    /// it, the key is a file of the service's user.
    pub(super) fn of(file: &ConfigFile, is_dry_run: bool) -> Result<Self, CommandError> {
        let config = std::path::absolute(&file.config).map_err(|error| Exit::OsError.because(error))?;
        let directory = config.parent().unwrap_or(Path::new("/"));
        let credentials = directory.join("credentials");
        let is_handed_over = credentials == Path::new(CREDENTIALS) && credentials.is_dir();
        let (chain, key) =
            (directory.join("app.pem"), if is_handed_over { &credentials } else { directory }.join("app.key"));
        let key_in_file = if is_handed_over { "credential:app.key".to_owned() } else { key.display().to_string() };
        let pair = Self { chain, key_in_file };
        let is_there = [&pair.chain, &key].map(|path| state::is_there(path));
        match is_there {
            [true, true] => return Ok(pair),
            [false, false] => {}
            [true, false] | [false, true] => {
                let (there, missing) = if is_there[0] { (&pair.chain, &key) } else { (&key, &pair.chain) };
                return Err(Exit::Unavailable.because(format_args!(
                    "{} is there, and {} is missing: put it back, or move the first one away for a new pair",
                    there.display(),
                    missing.display()
                )));
            }
        }
        if is_dry_run {
            return Ok(pair);
        }
        let made = certificate::make_application_pair().map_err(|error| Exit::OsError.because(error))?;
        let failed = |error: state::Error| Exit::IoError.because(error);
        let owner = file.state_directories().iter().find_map(|directory| ServiceUser::of(directory));
        match owner.filter(|_| !is_handed_over) {
            Some(owner) => state::write_for(&key, &made.key, (owner.user, owner.group)),
            None => state::write(&key, &made.key, Access::Private),
        }
        .map_err(failed)?;
        state::write(&pair.chain, &made.chain, Access::Public).map_err(failed)?;
        Ok(pair)
    }
}

/// Makes the directory of the script and the sheets, for its owner alone: sheets have passwords.
pub(super) fn make_output(directory: &Path) -> Result<(), CommandError> {
    state::make_directory(directory).map_err(|error| Exit::IoError.because(error))?;
    state::check_own(directory).map_err(|error| Exit::IoError.because(error))
}

/// Returns whether systemd has a socket of packetboat open at a port, and so hands the port over.
pub(super) fn has_socket_unit(port: u16) -> bool {
    let units = UNIT_DIRECTORIES.iter().flat_map(fs::read_dir).flatten().flatten();
    units.into_iter().any(|unit| {
        let name = unit.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("packetboat") && name.ends_with(".socket"))
        else {
            return false;
        };
        let text = fs::read_to_string(unit.path()).unwrap_or_default();
        let is_of_port =
            |line: &str| line.strip_prefix("ListenStream=").is_some_and(|at| at.ends_with(&format!(":{port}")));
        text.lines().any(is_of_port) && is_active(name)
    })
}

fn is_active(unit: &str) -> bool {
    let mut command = Command::new("systemctl");
    let status = command.args(["--quiet", "is-active", unit]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The directory that the packaged unit takes credentials from.
const CREDENTIALS: &str = "/etc/packetboat/credentials";
const UNIT_DIRECTORIES: [&str; 3] = ["/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"];
