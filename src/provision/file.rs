//! The configuration file while it is changed: locked against other changes, replaced whole, with the old one kept beside.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Error;
use crate::state;
use crate::text;

/// A configuration file that no other command changes for as long as this lives.
pub struct ConfigurationFile {
    path: PathBuf,
    text: String,
    _lock: File,
}

impl ConfigurationFile {
    /// Locks and reads a file. Waits for a command that is changing it.
    ///
    /// # Errors
    /// The file cannot be read, or is no text.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // A link stays: the file that it leads to is replaced.
        let path = fs::canonicalize(path).map_err(|error| Error::read(path, error))?;
        if let Some(directory) = path.parent() {
            state::sweep(directory);
        }
        let (mut lock, mut content) = (locked(&path).map_err(|error| Error::read(&path, error))?, Vec::new());
        lock.read_to_end(&mut content).map_err(|error| Error::read(&path, error))?;
        // With its byte order mark, if it has one: what does not change keeps its octets.
        text::utf_8(&content).map_err(|source| Error::Text { path: path.clone(), source })?;
        let text = String::from_utf8_lossy(&content).into_owned();
        Ok(Self { path, text, _lock: lock })
    }

    /// The file's path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text that the file has had.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the file by another text, with the same owner and mode, and keeps the old text in [`Self::backup`].
    ///
    /// # Errors
    /// Not allowed or no space; the file is as it was.
    pub fn replace(&self, text: &str) -> Result<(), Error> {
        state::write_like(&self.backup(), self.text.as_bytes(), &self.path)?;
        state::write_like(&self.path, text.as_bytes(), &self.path)?;
        Ok(())
    }

    /// Puts the old text back.
    ///
    /// # Errors
    /// Not allowed or no space.
    pub fn restore(&self) -> Result<(), Error> {
        Ok(state::write_like(&self.path, self.text.as_bytes(), &self.path)?)
    }

    /// The path of the file before the last change: the same with `.bak` at its end.
    pub fn backup(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".bak");
        PathBuf::from(name)
    }
}

/// Opens and locks the file. A change replaces it: whoever has waited for one locks the file that came of it.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = File::open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let (ours, present) = (file.metadata()?, fs::metadata(path)?);
        if (ours.dev(), ours.ino()) == (present.dev(), present.ino()) {
            return Ok(file);
        }
    }
}
