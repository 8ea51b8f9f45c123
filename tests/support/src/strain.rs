//! This file puts a process under strain: a log reader that stops, no new threads, and a file system that hangs.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::minor;

use crate::process::{Lines, PATIENCE, Process, program};

/// A reader of a pipe, which SIGSTOP keeps from reading.
pub fn reader() -> (Process, Stdio, Lines) {
    let mut reader = Process::start(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()));
    let lines = Lines::of(reader.0.stdout.take().unwrap());
    let input = reader.0.stdin.take().unwrap();
    (reader, input.into(), lines)
}

pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the binary as another user that can still read its files, because RLIMIT_NPROC does not bind root.
pub fn as_another_user(user: u32, threads: usize) -> Command {
    let mut command = Command::new("prlimit");
    let user = user.to_string();
    command.args([&format!("--nproc={threads}"), "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.args(["--inh-caps", "+dac_override,+dac_read_search", "--ambient-caps", "+dac_override,+dac_read_search"]);
    command.arg(program());
    command
}

/// Sets the limit of threads for a process's user, soft and hard (RLIMIT_NPROC). The call runs as that user, who needs
/// no privilege for it (prlimit(2)), and ends no existing thread.
pub fn allow_threads(process: &Process, user: u32, threads: RangeInclusive<usize>) {
    let (user, id) = (user.to_string(), process.0.id().to_string());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", "--pid", &id]);
    let status = command.arg(format!("--nproc={}:{}", threads.start(), threads.end())).status();
    assert!(status.unwrap().success(), "{command:?}");
}

/// A file system in user space that hangs while its program is stopped, like a network file system without its server.
pub struct Hanging {
    directory: tempfile::TempDir,
    program: Process,
    /// A file that holds the number of requests.
    waiting: PathBuf,
}

impl Hanging {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name| directory.path().join(name);
        fs::create_dir(at("behind")).unwrap();
        fs::create_dir(at("mounted")).unwrap();
        fs::create_dir(at("control")).unwrap();
        fs::write(at("behind/there"), "").unwrap();
        let mut command = Command::new("bindfs");
        // The kernel caches nothing, so that each access asks the file system.
        command.args(["-f", "-o", "entry_timeout=0,attr_timeout=0,negative_timeout=0"]);
        let program = Process::start(command.arg(at("behind")).arg(at("mounted")));
        until("mount by FUSE (/dev/fuse, root)", || at("mounted/there").exists());
        let control = Command::new("mount").args(["-t", "fusectl", "none"]).arg(at("control")).status().unwrap();
        assert!(control.success(), "the control files of FUSE");
        let connection = minor(fs::metadata(at("mounted")).unwrap().dev());
        let waiting = at("control").join(connection.to_string()).join("waiting");
        Self { directory, program, waiting }
    }

    /// Hangs the file system from here on. It stops between two requests, because a process whose request is half
    /// served cannot be killed.
    pub fn hang(&self) {
        until("moment without a request", || {
            self.program.signal("STOP");
            let is_between = self.requests() == 0;
            if !is_between {
                self.go_on();
            }
            is_between
        });
    }

    pub fn go_on(&self) {
        self.program.signal("CONT");
    }

    /// The number of requests that wait or are being answered.
    pub fn requests(&self) -> usize {
        fs::read_to_string(&self.waiting).unwrap().trim().parse().unwrap()
    }

    /// The directory as the proxy sees it.
    pub fn mounted(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// The same directory without the file system, which never hangs.
    pub fn behind(&self) -> PathBuf {
        self.directory.path().join("behind")
    }

    /// A file that only its owner can read.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.behind().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.mounted().join(name)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.go_on();
        let control = self.directory.path().join("control");
        let _ = Command::new("umount").arg("-l").arg(self.mounted()).arg(control).status();
    }
}

/// Makes a directory for this user alone.
pub fn directory_of(user: u32, path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
}
