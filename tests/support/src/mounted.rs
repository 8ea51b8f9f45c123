//! This file makes small disks in a mount namespace that ends with the test.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

/// A file system (ext4) that only this thread and its children see, and that can be frozen: then each write, rename or
/// removal waits, without an error, for the end of the freeze.
pub struct Freezable {
    directory: tempfile::TempDir,
}

/// A freeze, which ends with this value or with the test. Declare it behind the processes that use the disk: a process
/// that waits for a frozen disk cannot even be killed.
pub struct Freeze<'a> {
    command: Child,
    _of: PhantomData<&'a Freezable>,
}

impl Freezable {
    /// Makes a file system of this many MiB. Returns none where the kernel has no loop devices, as in many containers.
    pub fn new(size: u32) -> Option<Self> {
        if !run("losetup -f >/dev/null") {
            eprintln!("no loop device: not tried");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let disk = Self { directory };
        let (image, path) = (disk.directory.path().join("image"), disk.path());
        fs::create_dir(&path).unwrap();
        let mounted = unshare(CloneFlags::CLONE_NEWNS).is_ok()
            && run(&format!(
                "truncate -s {size}M {image:?} && mkfs.ext4 -q -F {image:?} && mount --make-rprivate / && \
                 mount -o loop {image:?} {path:?} && chmod 700 {path:?}"
            ));
        assert!(mounted, "a file system cannot be mounted from a file: run this as root, with e2fsprogs");
        Some(disk)
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Freezes the file system. The command that has frozen it ends the freeze when its input ends, so that none outlives
    /// a test that is killed.
    pub fn freeze(&self) -> Freeze<'_> {
        let path = self.path();
        let script = format!("fsfreeze -f {path:?} && echo frozen && read -r _; fsfreeze -u {path:?}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut command = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(command.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let freeze = Freeze { command, _of: PhantomData };
        assert_eq!(said, "frozen\n", "the file system cannot be frozen: run this as root");
        freeze
    }
}

impl Drop for Freeze<'_> {
    fn drop(&mut self) {
        drop(self.command.stdin.take());
        let _ = self.command.wait();
    }
}

impl Drop for Freezable {
    fn drop(&mut self) {
        run(&format!("umount -l {:?}", self.path()));
    }
}

/// Whether the shell command succeeded.
fn run(command: &str) -> bool {
    Command::new("sh").args(["-c", command]).stderr(Stdio::null()).status().unwrap().success()
}
