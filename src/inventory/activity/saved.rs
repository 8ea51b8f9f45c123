//! The file of device records and of mailboxes' recipients in the state directory, as JSON with a version.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::mailboxes::SavedMailbox;
use super::record::{Record, Rules};
use super::{Activities, Report};
use crate::lifecycle::unix_time;
use crate::state;

/// The file.
#[derive(Deserialize, Serialize)]
struct Saved {
    version: u64,
    /// The time of writing, in seconds since 1970.
    saved: u64,
    devices: Vec<Record>,
    /// The recipients of each mailbox. Earlier versions counted none, and leave them out.
    #[serde(default)]
    mailboxes: Vec<SavedMailbox>,
}

/// The version alone. A later version may have changed all else.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// The error of a file of records that cannot be loaded.
#[derive(Debug)]
pub enum RecordsError {
    /// The file cannot be read.
    File(state::Error),
    /// The file holds no records. The words of the error of the JSON would repeat what stands there.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line of the damage.
        line: usize,
        /// The column of the damage.
        column: usize,
    },
    /// A later version of packetboat has written the file.
    Later(PathBuf),
}

impl From<state::Error> for RecordsError {
    fn from(error: state::Error) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for RecordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "{error}"),
            Self::Damaged { path, line, column } => {
                write!(f, "{}: is no list of device records (line {line}, column {column})", path.display())
            }
            Self::Later(path) => write!(f, "{}: a later version of packetboat has written it", path.display()),
        }
    }
}

impl std::error::Error for RecordsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(error) => Some(error),
            Self::Damaged { .. } | Self::Later(_) => None,
        }
    }
}

impl Activities {
    /// Notes a login that an earlier version has recorded in the inventory.
    pub fn seed(&self, login: &str, source: IpAddr, logged_in: u64) {
        if let Some(entry) = self.find(login) {
            entry.record.lock().seed(source, logged_in);
        }
    }

    /// The path of the file.
    pub fn path(state_directory: &Path) -> PathBuf {
        state_directory.join("device-activity.json")
    }

    /// Loads the file of an earlier run; returns whether there was one. Call it after [`Self::configure`].
    ///
    /// # Errors
    /// The file cannot be read, or is damaged; the error names it.
    pub fn load(&self, path: &Path) -> Result<bool, RecordsError> {
        let Some(Saved { devices: records, mailboxes, .. }) = load(path)? else { return Ok(false) };
        self.mailboxes.load(mailboxes);
        let (count, configured) = (records.len(), self.table.read().devices.len());
        let entries: Vec<_> =
            records.into_iter().filter_map(|record| Some((self.find(record.login())?, record))).collect();
        let is_same = (count, entries.len()) == (configured, configured);
        for (entry, record) in entries {
            *entry.record.lock() = record;
        }
        self.changed.store(!is_same, Ordering::Relaxed);
        Ok(true)
    }

    /// Returns whether anything has changed since the last save.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// The records to save, as JSON; from here on nothing has changed.
    pub fn to_save(&self) -> Vec<u8> {
        self.changed.store(false, Ordering::Relaxed);
        let (devices, _) = self.snapshot();
        let (now, records) = (unix_time(), devices.iter().map(|(_, entry)| entry.record.lock().clone()).collect());
        let saved = Saved { version: VERSION, saved: now, devices: records, mailboxes: self.mailboxes.saved(now) };
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// Notes that the records are to be saved again, because saving failed.
    pub fn mark_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }
}

/// Loads the records of an earlier run, of devices and of mailboxes. None if there is no file.
///
/// # Errors
/// The file cannot be read, or is damaged; the error names it.
fn load(path: &Path) -> Result<Option<Saved>, RecordsError> {
    if !state::is_there(path) {
        return Ok(None);
    }
    let mut saved = read(path)?;
    let now = unix_time();
    saved.devices.iter_mut().for_each(|record| record.correct_clock(now));
    Ok(Some(saved))
}

/// Reads the records of an earlier run as reports, as of the time at which they were written.
///
/// # Errors
/// The file cannot be read, or is damaged; the error names it.
pub fn read_saved(path: &Path) -> Result<Vec<Report>, RecordsError> {
    let Saved { saved, devices, .. } = read(path)?;
    // A device that was silent then stays so; others may have been, and nobody has looked.
    let rules = Rules { started: saved, silent_after: 0 };
    let mut reports: Vec<Report> = devices.iter().map(|record| record.report(saved, 0, rules)).collect();
    reports.sort_by(|one, other| (one.state, &one.device).cmp(&(other.state, &other.device)));
    Ok(reports)
}

fn read(path: &Path) -> Result<Saved, RecordsError> {
    let text = state::read_up_to(path, LARGEST)?;
    let damaged = |error: serde_json::Error| {
        let (path, line, column) = (path.to_owned(), error.line(), error.column());
        RecordsError::Damaged { path, line, column }
    };
    let version: Version = serde_json::from_slice(&text).map_err(damaged)?;
    if version.version > VERSION {
        return Err(RecordsError::Later(path.to_owned()));
    }
    serde_json::from_slice(&text).map_err(damaged)
}

const VERSION: u64 = 1;
/// The largest file that is read, in octets.
const LARGEST: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests;
