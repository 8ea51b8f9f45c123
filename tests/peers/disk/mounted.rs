//! A small disk of its own, in a mount namespace that ends with the test.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::process::{Lines, Process};

/// A tmpfs. Others reach it by the process that holds its namespace.
pub struct Disk {
    holder: Process,
    said: Lines,
    directory: tempfile::TempDir,
    number: std::cell::Cell<usize>,
}

impl Disk {
    /// Of so many KiB.
    pub fn new(size: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        // Who is not root is root in a namespace of users.
        command.args(if rustix::process::geteuid().is_root() { ["-m"].as_slice() } else { &["-U", "-r", "-m"] });
        command.args(["sh", "-c", "while read -r line; do eval \"$line\" && echo done || echo failed; done"]);
        let mut holder = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let said = Lines::of(holder.0.stdout.take().unwrap());
        let complaints = Lines::of(holder.0.stderr.take().unwrap());
        let disk = Self { holder, said, directory, number: 0.into() };
        let mounted = disk.have(&format!("mount -t tmpfs -o size={size}k,mode=700 none {:?}", disk.directory.path()));
        assert!(
            mounted,
            "a tmpfs cannot be mounted ({}): run this as root, in a container with CAP_SYS_ADMIN, or where users may make \
             namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)",
            complaints.all()
        );
        disk
    }

    /// A directory there that packetboat can keep its state in, in place of this one.
    pub fn put_in_place_of(&self, state: &Path) {
        let there = self.path().join("state");
        let moved = fs::create_dir(&there);
        moved.unwrap();
        fs::set_permissions(&there, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        if state.exists() {
            let copied = Command::new("cp").args(["-a", &format!("{}/.", state.display())]).arg(&there).status();
            assert!(copied.unwrap().success());
            fs::remove_dir_all(state).unwrap();
        }
        std::os::unix::fs::symlink(there, state).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.0.id()));
        root.join(self.directory.path().strip_prefix("/").unwrap())
    }

    /// Takes up all that is free.
    pub fn fill(&self) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.path().join("ballast")).unwrap();
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub fn make_room(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }

    pub fn make_read_only(&self, is_read_only: bool) {
        let mode = if is_read_only { "ro" } else { "rw" };
        // Somebody may be writing just now.
        let command = format!("mount -o remount,{mode} {:?}", self.directory.path());
        let deadline = std::time::Instant::now() + crate::support::process::PATIENCE;
        while !self.have(&command) {
            assert!(std::time::Instant::now() < deadline, "{command}");
        }
    }

    /// Whether the shell did it.
    fn have(&self, command: &str) -> bool {
        let Some(mut input) = self.holder.0.stdin.as_ref() else { return false };
        // Its end is seen below.
        let _ = writeln!(input, "{command}");
        self.number.set(self.number.get() + 1);
        let number = self.number.get();
        let deadline = std::time::Instant::now() + crate::support::process::PATIENCE;
        loop {
            if let Some(line) = self.said.all().lines().nth(number - 1) {
                return line == "done";
            }
            let has_ended = fs::read_to_string(format!("/proc/{}/stat", self.holder.0.id()))
                .map_or(true, |stat| stat.contains(") Z "));
            if has_ended || std::time::Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
