//! A file that is written piece by piece under a temporary name, and gets its own name once it is whole on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::directory_of;
use super::error::{Error, Operation};
use super::write::{give_to_owner_of, temporary_beside};

/// A file that nobody but its owner may read. Dropping it before [`finish`](Self::finish) removes it.
pub struct NewFile {
    file: File,
    path: PathBuf,
    temporary: PathBuf,
}

impl NewFile {
    /// Creates the temporary file beside a path. The lock on it tells [`sweep`](super::sweep) that it is in use.
    ///
    /// # Errors
    /// Not allowed or no space.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let temporary = temporary_beside(path)?;
        let created = || {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
            Ok(file)
        };
        let file = created().map_err(|error: io::Error| Error::io(Operation::Write, path, error))?;
        let new = Self { file, path: path.to_path_buf(), temporary };
        give_to_owner_of(directory_of(path), &new.file).map_err(|error| new.error(error))?;
        Ok(new)
    }

    /// Writes further octets.
    ///
    /// # Errors
    /// No space.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), Error> {
        self.file.write_all(octets).map_err(|error| self.error(error))
    }

    /// Gives the file its name, in the same directory. File and directory are on disk then.
    ///
    /// # Errors
    /// No space, or the disk fails; then there is no such file.
    pub fn finish(self, path: &Path) -> Result<(), Error> {
        self.finish_if(path, || true)
    }

    /// The same, unless nobody wants the file any more once its content is on disk: then it is removed. A disk may take
    /// any time for the content.
    ///
    /// # Errors
    /// No space, or the disk fails; then there is no such file.
    pub fn finish_if(self, path: &Path, is_wanted: impl FnOnce() -> bool) -> Result<(), Error> {
        let placed = || {
            self.file.sync_all()?;
            if !is_wanted() {
                return Ok(());
            }
            let directory = File::open(directory_of(path))?;
            fs::rename(&self.temporary, path)?;
            let synced = directory.sync_all();
            if synced.is_err() {
                // The caller takes the file for not written, and so must everybody after a restart.
                let _ = fs::remove_file(path);
            }
            synced
        };
        placed().map_err(|error| self.error(error))
    }

    fn error(&self, error: io::Error) -> Error {
        Error::io(Operation::Write, &self.path, error)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After the rename nothing has this name any more.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Renames a file within its directory. The new name is on disk then.
///
/// # Errors
/// Not allowed, or the disk fails.
pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    let renamed = || {
        let directory = File::open(directory_of(to))?;
        fs::rename(from, to)?;
        directory.sync_all()
    };
    renamed().map_err(|error| Error::io(Operation::Write, from, error))
}

/// Removes a file. That it is gone is on disk then. A file that is missing is gone already.
///
/// # Errors
/// Not allowed, or the disk fails.
pub fn remove(path: &Path) -> Result<(), Error> {
    let removed = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        File::open(directory_of(path))?.sync_all()
    };
    removed().map_err(|error| Error::io(Operation::Write, path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one.message");
        let count = || fs::read_dir(directory.path()).unwrap().count();
        let mut file = NewFile::create(&path).unwrap();
        file.write(b"half").unwrap();
        // A sweep leaves what is being written.
        crate::state::sweep(directory.path());
        assert!(!path.exists() && count() == 1);
        drop(file);
        assert_eq!(count(), 0);
        let mut file = NewFile::create(&path).unwrap();
        file.write(b"wh").unwrap();
        file.write(b"ole").unwrap();
        file.finish(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), count()), (&b"whole"[..], 1));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let other = directory.path().join("two.message");
        rename(&path, &other).unwrap();
        remove(&other).unwrap();
        remove(&other).unwrap();
        assert_eq!(count(), 0);
    }
}
