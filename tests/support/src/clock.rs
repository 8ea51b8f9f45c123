//! This file starts packetboat by a wall clock that the test sets. Debian's libfaketime stands between the program and
//! its C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use packetboat::state;

use crate::process::program;

/// A wall clock that the test can set.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock with the right time. It is a file in this state directory, where a confined process may read it.
    pub fn new(state: &Path) -> Self {
        state::make_directory(state).unwrap();
        let clock = Self { file: state.join("clock") };
        clock.set(0);
        clock
    }

    /// Sets the clock `ahead` seconds before the right time.
    pub fn set(&self, ahead: i64) {
        // A rename replaces the file, because libfaketime reads it at each look at the clock.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ahead:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// packetboat by this clock.
    pub fn program(&self) -> Command {
        let library = ["x86_64", "aarch64", "arm"]
            .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"))
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("libfaketime is missing: apt-get install faketime");
        let mut command = Command::new(program());
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        // libfaketime reads the file at every look, and leaves the monotonic clock alone.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}
