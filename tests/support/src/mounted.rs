//! This file makes a small disk in a mount namespace that ends with the test.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// A tmpfs that only this thread and its children see.
pub struct Disk {
    directory: tempfile::TempDir,
}

impl Disk {
    /// Mounts a tmpfs of this many KiB.
    pub fn new(size: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = Self { directory };
        let path = disk.path();
        let mounted = unshare(CloneFlags::CLONE_NEWNS).is_ok()
            && run(&format!("mount --make-rprivate / && mount -t tmpfs -o size={size}k,mode=700 none {path:?}"));
        assert!(
            mounted,
            "a tmpfs cannot be mounted: run this as root, in a container with CAP_SYS_ADMIN, or as root of namespaces of your own \
             (unshare -U -r -m cargo test ...)"
        );
        disk
    }

    /// Replaces the state directory by a directory on this disk.
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
        self.directory.path().to_path_buf()
    }

    /// Fills all free space.
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
        // A process may be writing at this moment, so the remount is repeated.
        let command = format!("mount -o remount,{mode} {:?}", self.directory.path());
        let deadline = std::time::Instant::now() + crate::process::PATIENCE;
        while !run(&command) {
            assert!(std::time::Instant::now() < deadline, "{command}");
        }
    }
}

/// The mount ends before its directory is removed.
impl Drop for Disk {
    fn drop(&mut self) {
        run(&format!("umount -l {:?}", self.path()));
    }
}

/// Whether the shell command succeeded.
fn run(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).stderr(Stdio::null()).status().unwrap().success()
}
