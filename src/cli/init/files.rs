//! The files of a setup besides the configuration: the application's key and certificate, and the directory of sheets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::ConfigFile;
use crate::cli::error::{CommandError, Exit};
use crate::cli::service_user::ServiceUser;
use crate::provision::Sheet;
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

/// Writes the CA beside the sheets, in DER: devices that check certificates import it.
pub(super) fn write_authority(state_directory: &Path, directory: &Path) -> Result<(), CommandError> {
    let authority = certificate::authority_path(state_directory);
    let der = certificate::der(&authority).map_err(|error| Exit::Unavailable.because(error))?;
    state::write(&directory.join("ca.der"), &der, Access::Public).map_err(|error| Exit::IoError.because(error))
}

/// Makes the directory of the script and the sheets, for its owner alone: sheets have passwords.
pub(super) fn make_output(directory: &Path) -> Result<(), CommandError> {
    state::make_directory(directory).map_err(|error| Exit::IoError.because(error))?;
    state::check_own(directory).map_err(|error| Exit::IoError.because(error))
}

/// Sheets in the directory that are of none of these devices: of an earlier setup.
pub(super) fn old_sheets(directory: &Path, sheets: &[(String, Sheet)]) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_old = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_text = path.extension().is_some_and(|extension| extension == "txt" || extension == "html");
        is_text && !sheets.iter().any(|(name, _)| name == stem) && Sheet::is_sheet(&fs::read(path).unwrap_or_default())
    };
    let mut old: Vec<PathBuf> = entries.filter(is_old).collect();
    old.sort_unstable();
    old
}

/// A socket unit of packetboat, by which systemd opens a port.
pub(super) struct SocketUnit {
    pub(super) name: String,
    /// The port is open, and will be after the next start of the computer.
    pub(super) is_in_use: bool,
}

impl SocketUnit {
    /// The unit of a port.
    pub(super) fn of(port: u16) -> Option<Self> {
        let units = UNIT_DIRECTORIES.iter().flat_map(fs::read_dir).flatten().flatten();
        units.into_iter().find_map(|unit| {
            let name = unit.file_name().into_string().ok()?;
            let text = fs::read_to_string(unit.path()).unwrap_or_default();
            let is_of_port =
                |line: &str| line.strip_prefix("ListenStream=").is_some_and(|at| at.ends_with(&format!(":{port}")));
            let is_its = name.starts_with("packetboat") && name.ends_with(".socket") && text.lines().any(is_of_port);
            let is_in_use = is_its && is("is-active", &name) && is("is-enabled", &name);
            is_its.then_some(Self { name, is_in_use })
        })
    }
}

/// Asks systemd about a unit. One that is open but not enabled is gone after the next start of the computer.
fn is(question: &str, unit: &str) -> bool {
    let mut command = Command::new("systemctl");
    let status = command.args(["--quiet", question, unit]).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The directory that the packaged unit takes credentials from.
const CREDENTIALS: &str = "/etc/packetboat/credentials";
/// Where units are: the administrator's, those of the archive's install.sh, those of packages.
const UNIT_DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"];
