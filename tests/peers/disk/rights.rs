//! These tests prove that the advice about a wrong owner or mode can be followed as printed.
//!
//! They need root, because only root can give a file away.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::exchange::{Ran, mode};
use support::mounted::Disk;
use support::process::{Process, copy_program};
use support::proxy::listener;

const NOBODY: u32 = 65_534;

/// A configuration in a directory that everybody may enter, with the program beside it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "run this as root");
        let place = Self(tempfile::tempdir().unwrap());
        mode(place.0.path(), 0o755);
        copy_program(&place.path("packetboat"));
        let head = format!("state_directory = {:?}\n[admin]\nlisten = []\n", place.path("state"));
        fs::write(place.path("packetboat.toml"), head + &listener("imap", "imap", "implicit", "")).unwrap();
        place
    }

    /// A place whose state directory belongs to user nobody.
    fn with_state() -> Self {
        let place = Self::new();
        fs::create_dir(place.path("state")).unwrap();
        chown(place.path("state"), Some(NOBODY), Some(NOBODY)).unwrap();
        mode(&place.path("state"), 0o700);
        place
    }

    /// Runs `check` as this user, with this file as the page's token.
    fn check(&self, token: &Path, user: u32) -> Ran {
        let file = fs::read_to_string(self.path("packetboat.toml")).unwrap();
        let head = file.split("listen = []\n").next().unwrap();
        let listener = listener("imap", "imap", "implicit", "");
        let text = format!("{head}listen = []\ntoken_file = {token:?}\n{listener}");
        fs::write(self.path("packetboat.toml"), text).unwrap();
        Ran::of(self.command("check", user).output().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, name: &str, user: u32) -> Command {
        let mut command = Command::new(self.path("packetboat"));
        command.args([name, "--config"]).arg(self.path("packetboat.toml")).uid(user).gid(user).current_dir("/");
        command
    }

    /// The output of `run` until it is ready or ends.
    fn starts(&self) -> Result<String, String> {
        let (mut process, log) = Process::logged(&mut self.command("run", NOBODY));
        let is_last = |line: &str| line.ends_with("INFO ready") || line.contains(" ERROR ");
        if log.wait_for("line that it is ready, or why not", is_last).contains(" ERROR ") {
            process.wait();
            return Err(log.to_the_end());
        }
        Ok(log.all())
    }
}

/// Follows the printed advice, as root.
fn follow(said: &str) {
    let line = said.lines().find(|line| line.contains("as root with: ")).unwrap_or_else(|| panic!("{said}"));
    let command = line.split("as root with: ").nth(1).unwrap();
    let command = command.split(", or ").next().unwrap().split("; packetboat ").next().unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
}

/// Root may own the state directory after a mkdir or a manual run. One command repairs all of it.
#[test]
fn a_state_directory_of_root() {
    let place = Place::new();
    let state = place.path("state");
    // The parent of the state directory belongs to root.
    let said = place.starts().unwrap_err();
    assert!(said.contains(": Permission denied (os error 13); make it as root with: install -d -m 700"), "{said}");
    follow(&said);
    place.starts().unwrap();
    for (directory, files) in [(0o700, 0o600), (0o755, 0o600), (0o755, 0o644)] {
        fs::remove_dir_all(&state).unwrap();
        for fill in [false, true] {
            fs::create_dir_all(&state).unwrap();
            if fill {
                let ran = Ran::of(place.command("certificate", 0).arg("renew").output().unwrap());
                assert_eq!(ran.code, 0, "{}", ran.errors);
                fs::write(state.join("lock"), "").unwrap();
                fs::read_dir(&state).unwrap().for_each(|entry| mode(&entry.unwrap().path(), files));
                let files = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
                files.for_each(|file| chown(file, Some(0), Some(0)).unwrap());
                mode(&state.join("default.key"), 0o600);
                mode(&state.join("ca.key"), 0o600);
            }
            chown(&state, Some(0), Some(0)).unwrap();
            mode(&state, directory);
            let said = place.starts().unwrap_err();
            let words =
                format!("{} belongs to root (mode {directory:03o}), and this is user {NOBODY}", state.display());
            assert!(said.contains(&words), "{directory:o} {fill}: {said}");
            follow(&said);
            mode(&state, 0o700);
            let said = place.starts();
            assert!(said.as_ref().is_ok_and(|said| !said.contains("belongs to")), "{said:?}");
        }
    }
}

/// A run as root in the service's directory has left files of root there; one command repairs all of them.
#[test]
fn files_of_root_in_the_state_directory() {
    let place = Place::with_state();
    let state = place.path("state");
    place.starts().unwrap();
    for files in [&["lock", "default.key"][..], &["default.key"], &["certificates.lock", "default.pem"]] {
        files.iter().for_each(|file| chown(state.join(file), Some(0), Some(0)).unwrap());
        let said = place.starts().unwrap_or_else(|said| said);
        let more =
            if files.len() > 1 { format!(", as do {} more files there", files.len() - 1) } else { String::new() };
        let words = format!(" belongs to root (mode {})", if files[0] == "default.pem" { "644" } else { "600" });
        assert!(said.contains(&words) && said.contains(&more), "{files:?}: {said}");
        assert!(said.contains(&format!("as root with: chown -R {NOBODY}:{NOBODY} {}", state.display())), "{said}");
        follow(&said);
        assert!(place.starts().is_ok_and(|said| !said.contains("belongs to")));
    }
}

/// A secret may come from Kubernetes, Docker Swarm or a bind mount; the message does not advise to change modes there.
#[test]
fn a_secret_on_a_read_only_mount() {
    let disk = Disk::new(512);
    mode(&disk.path(), 0o755);
    let secret = disk.path().join("token");
    let place = Place::with_state();
    let put = |is_linked: bool, right: u32, owner: u32| {
        disk.make_read_only(false);
        let _ = fs::remove_file(&secret);
        let (there, link) = (disk.path().join("..2026"), disk.path().join("..data"));
        fs::create_dir_all(&there).unwrap();
        let _ = fs::remove_file(&link);
        let file = if is_linked { there.join("token") } else { secret.clone() };
        fs::write(&file, "a-token-of-enough-length").unwrap();
        if is_linked {
            symlink("..2026", &link).unwrap();
            symlink("..data/token", &secret).unwrap();
        }
        mode(&file, right);
        chown(&file, Some(owner), Some(owner)).unwrap();
        disk.make_read_only(!is_linked);
    };
    let as_nobody = format!("defaultMode: 0440, and fsGroup: {NOBODY} for the pod (Kubernetes)");
    for (right, owner, user, words) in [
        (0o444, 0, 0, "can be read by everybody (mode 444)"),
        (0o644, 0, NOBODY, "can be read by everybody (mode 644)"),
        (0o460, 0, 0, "can be changed by a group (mode 460)"),
        (0o400, 0, NOBODY, "belongs to root (mode 400), and this is user 65534"),
        (0o440, 1000, 0, ""),
        (0o440, NOBODY, NOBODY, ""),
    ] {
        for is_linked in [false, true] {
            put(is_linked, right, owner);
            // Root judges as the user that the state directory belongs to.
            chown(place.path("state"), Some(user), Some(user)).unwrap();
            let ran = place.check(&secret, user);
            if words.is_empty() {
                assert_eq!(ran.code, 0, "{right:o} {owner} {user}: {}", ran.errors);
                continue;
            }
            let kubernetes = if user == 0 { "defaultMode: 0400 (Kubernetes)" } else { as_nobody.as_str() };
            let swarm = format!("mode: 0400 and uid: \"{user}\" (a secret of Docker Swarm)");
            for words in [words, "it is mounted read-only: mend it where the mount is described", kubernetes, &swarm] {
                assert!(ran.errors.contains(words), "{words}: {}", ran.errors);
            }
            assert!(!ran.errors.contains("mend it with: ") && !ran.errors.contains("as root with: "), "{}", ran.errors);
        }
    }
}

/// On an ordinary disk, a foreign file or directory is reported with its owner and the fix.
#[test]
fn a_secret_of_somebody_else() {
    let place = Place::with_state();
    let closed = place.path("closed");
    fs::create_dir(&closed).unwrap();
    for path in [place.path("token"), closed.join("token")] {
        fs::write(&path, "a-token-of-enough-length").unwrap();
        mode(&path, 0o600);
    }
    let ran = place.check(&place.path("token"), NOBODY);
    assert!(ran.errors.contains("belongs to root (mode 600), and this is user 65534"), "{}", ran.errors);
    follow(&ran.errors);
    assert_eq!(place.check(&place.path("token"), NOBODY).code, 0);
    mode(&closed, 0o700);
    let ran = place.check(&closed.join("token"), NOBODY);
    let words = format!("{} belongs to root (mode 700), which user {NOBODY} may not enter", closed.display());
    assert!(ran.errors.contains(&words), "{}", ran.errors);
    // The directory first, and then the file in it.
    for _ in 0..2 {
        follow(&place.check(&closed.join("token"), NOBODY).errors);
    }
    assert_eq!(place.check(&closed.join("token"), NOBODY).code, 0);
    let (directory, file) = (fs::metadata(&closed).unwrap(), fs::metadata(closed.join("token")).unwrap());
    assert_eq!((directory.uid(), directory.mode() & 0o777, file.uid(), file.mode() & 0o777), (0, 0o710, 0, 0o640));
}
