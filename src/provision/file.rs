//! The configuration file while it is changed: locked against other commands, and replaced whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

use super::Error;
use super::error::PATIENCE;
use crate::state;
use crate::text;

/// A configuration file that no other command changes for as long as this lives.
pub struct ConfigurationFile {
    path: PathBuf,
    text: String,
    _lock: File,
}

impl ConfigurationFile {
    /// Locks and reads a file. Waits for a command that is changing it, but not for ever.
    ///
    /// # Errors
    /// The file is read-only, cannot be read, or is no text; or another command does not end.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // A link stays: the file that it leads to is replaced.
        let path = fs::canonicalize(path).map_err(|error| Error::read(path, error))?;
        Self::may_change(&path)?;
        let lock = lock(&path)?;
        let text = read(&path)?;
        Ok(Self { path, text, _lock: lock })
    }

    /// Reads a file without locking it, to look at it.
    ///
    /// # Errors
    /// The file cannot be read, or is no text.
    pub fn peek(path: &Path) -> Result<String, Error> {
        read(path)
    }

    /// Looks whether a file may be changed. Root could change one that is read-only, and does not.
    ///
    /// # Errors
    /// The file is read-only, or cannot be looked at.
    pub fn may_change(path: &Path) -> Result<(), Error> {
        let metadata = fs::metadata(path).map_err(|error| Error::read(path, error))?;
        if metadata.permissions().readonly() { Err(Error::ReadOnly { path: path.to_path_buf() }) } else { Ok(()) }
    }

    /// The file's path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text that the file has had.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the file by another text, with the same owner and mode.
    ///
    /// # Errors
    /// Somebody has changed the file meanwhile, or it cannot be written; the file is as it was.
    pub fn replace(&self, text: &str) -> Result<(), Error> {
        state::sweep_beside(&self.path);
        if read(&self.path)? != self.text {
            return Err(Error::Changed { path: self.path.clone() });
        }
        Ok(state::write_like(&self.path, text.as_bytes(), &self.path)?)
    }

    /// Puts the old text back in place of this one.
    ///
    /// # Errors
    /// Somebody has changed the file meanwhile, or it cannot be written.
    pub fn restore(&self, instead_of: &str) -> Result<(), Error> {
        if read(&self.path)? != instead_of {
            return Err(Error::Changed { path: self.path.clone() });
        }
        Ok(state::write_like(&self.path, self.text.as_bytes(), &self.path)?)
    }

    /// Keeps the old text in a file of its own, and returns the path: the file's with `.bak` at its end, and a number
    /// if there is one already.
    ///
    /// # Errors
    /// Not allowed or no space.
    pub fn back_up(&self) -> Result<PathBuf, Error> {
        let name = |end: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let numbered = (1..).map(|number| name(&format!(".bak.{number}")));
        let mut free = std::iter::once(name(".bak")).chain(numbered).filter(|path| !state::is_there(path));
        let path = free.next().unwrap_or_else(|| name(".bak"));
        state::write_like(&path, self.text.as_bytes(), &self.path)?;
        Ok(path)
    }
}

/// The reason why this user cannot change a file, if so: a change makes a new file beside it, and renames that.
pub fn why_not_writable(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(metadata) = fs::metadata(&path)
        && !geteuid().is_root()
        && metadata.uid() != geteuid().as_raw()
    {
        // A change keeps the owner, which only root can give to a file.
        return Some(format!("{} belongs to another user than this process's", path.display()));
    }
    let error = access(directory, Access::WRITE_OK | Access::EXEC_OK).err()?;
    let why = io::Error::from(error);
    Some(format!("{} cannot be written by this process ({why}), and a change replaces the file", directory.display()))
}

fn read(path: &Path) -> Result<String, Error> {
    let content = fs::read(path).map_err(|error| Error::read(path, error))?;
    // With its byte order mark, if it has one: what does not change keeps its octets.
    text::utf_8(&content).map_err(|source| Error::Text { path: path.to_path_buf(), source })?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Locks a file of its own beside the configuration: whoever may only read the configuration can hold nobody up.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.to_path_buf().into_os_string();
    name.push(".lock");
    let begun = Instant::now();
    loop {
        if let Some(lock) = state::try_lock(Path::new(&name))? {
            return Ok(lock);
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::Busy { path: path.to_path_buf() });
        }
        thread::sleep(PAUSE);
    }
}

const PAUSE: Duration = Duration::from_millis(50);
