//! Before it serves, the process gives up core dumps, being traced, starting programs, and files that it does not need.
//!
//! An attacker who takes the process over has what the process has, and nothing beside that: no program to start, no
//! file outside the directories of the configuration and of the system's resolver, no debugger's access to other
//! processes.

mod error;
mod paths;
mod syscalls;

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetStatus, Scope, make_bitflags,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, set_dumpable_behavior, setrlimit};

use crate::config::Config;
use crate::state;
pub use error::Error;
use paths::{directories, directory_of, is_wide};
pub use paths::{needed_files, wide_directories};

/// The result of confining the process. The proxy serves even where the kernel grants only a part.
#[derive(Debug)]
pub struct Confinement {
    /// The directories outside which Landlock lets no file be opened, or why Landlock does not hold.
    pub files: Result<Vec<PathBuf>, Error>,
    /// Whether seccomp holds, which refuses to start programs and to make calls that only other programs need.
    pub calls: Result<(), Error>,
}

/// Forbids core dumps, and reading this process's memory to all but root (prctl(2), PR_SET_DUMPABLE; core(5)): it holds
/// keys, tokens and passwords. Programs that it starts are not affected.
pub fn keep_memory_private() {
    // Neither call can fail here, and there would be nothing to do about a failure.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// Confines this thread and all that it starts, for as long as the process lives. Where other threads run, which would
/// stay unconfined, it does nothing.
pub fn confine_process(config: &Config, file: &Path) -> Confinement {
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Confinement { files: Err(Error::OtherThreads), calls: Err(Error::OtherThreads) };
    }
    confine_thread(config, file)
}

/// Confines this thread and those that it starts, whatever other threads run: for a command that tries what the service
/// does.
pub fn confine_thread(config: &Config, file: &Path) -> Confinement {
    let came = confine(config, file);
    if came.files.is_ok() {
        state::confined();
    }
    came
}

/// Needed files that cannot be opened, each with the reason. Call it once the confinement holds.
pub fn unreadable_files(config: &Config, file: &Path) -> Vec<String> {
    let missing = paths::missing_targets().into_iter().map(|(path, end)| {
        format!(
            "{} leads to {}, which is not there yet: restart packetboat once it is (confine = true)",
            path.display(),
            end.display()
        )
    });
    needed_files(config, file).iter().filter_map(|path| state::denial(path)).chain(missing).collect()
}

fn confine(config: &Config, file: &Path) -> Confinement {
    // Landlock first: making its rules takes calls that the filter knows nothing of, but opens files.
    let directories = directories(config, file);
    let mut writable = vec![config.state_directory.clone()];
    if config.spool.directory.exists() {
        writable.push(config.spool.directory.clone());
    }
    writable.extend(editable_directory(file).filter(|_| config.admin.edit));
    let files = confine_files(&directories, &writable);
    Confinement { files: files.map(|()| directories), calls: syscalls::confine() }
}

/// The directory in which the page changes the configuration, behind its links; `None` where other programs keep their
/// files there too.
pub fn editable_directory(file: &Path) -> Option<PathBuf> {
    let directory = directory_of(&fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf()));
    (!is_wide(&directory)).then_some(directory)
}

/// Files of the configuration that the confinement does not allow.
///
/// A directory that was replaced since the start is another one, even under the same name, and is not allowed.
pub fn disallowed_files(config: &Config, allowed: &[PathBuf]) -> Vec<PathBuf> {
    let is_outside = |path: &PathBuf| {
        let directory = directory_of(&fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
        let is_elsewhere = !allowed.iter().any(|one| directory.starts_with(one));
        let is_kept_from_us = matches!(open(path), Err(error) if error.kind() == ErrorKind::PermissionDenied)
            && fs::metadata(path).is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
        is_elsewhere || is_kept_from_us
    };
    config.files().into_iter().filter(is_outside).collect()
}

/// Opens a file for reading, without waiting if it is a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Confines files by Landlock (landlock(7)): what is not allowed here is refused from now on.
fn confine_files(readable: &[PathBuf], writable: &[PathBuf]) -> Result<(), Error> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        // Signals to other programs, from Linux 6.12 on.
        .and_then(|ruleset| ruleset.scope(Scope::Signal))
        .and_then(Ruleset::create)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for directory in readable {
        ruleset = allow(ruleset, directory, read)?;
    }
    for directory in writable {
        ruleset = allow(ruleset, directory, AccessFs::from_all(KNOWN) & !NEVER_KEPT)?;
    }
    ruleset = allow(ruleset, Path::new("/dev/null"), AccessFs::ReadFile | AccessFs::WriteFile)?;
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(Error::NoLandlock),
    }
}

fn allow(ruleset: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, Error> {
    // A path that does not exist cannot be allowed, and holds nothing to read.
    let Ok(opened) = PathFd::new(path) else { return Ok(ruleset) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset
        .add_rule(PathBeneath::new(opened, access))
        .map_err(|source| Error::Path { path: path.to_path_buf(), source })
}

/// Rights that the state directory never needs. It holds no programs, and nothing but files and directories is made
/// there after the socket for commands; anything else could be a trap for root's commands.
const NEVER_KEPT: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    Execute | MakeSym | MakeFifo | MakeChar | MakeBlock | MakeSock
});
/// The version of Landlock whose rights are handled, as far as the kernel has them.
const KNOWN: ABI = ABI::V6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    const OBSERVING: &str = "[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";

    fn config(state: &Path, more: &str) -> Config {
        let text = format!("state_directory = {state:?}\n{OBSERVING}{more}");
        Config::parse(&text, &state.join("packetboat.toml")).unwrap().config
    }

    /// Confines a thread of its own for real; the confinement ends with it.
    #[test]
    fn a_confined_thread_opens_no_other_file_and_starts_no_program() {
        let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = home.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::write(elsewhere.path().join("private"), "x").unwrap();
        fs::write(home.path().join("packetboat.toml"), "x").unwrap();
        let config = config(&state, "");
        let confined = std::thread::spawn(move || {
            let private = elsewhere.path().join("private");
            assert!(fs::read(&private).is_ok() && Command::new("/bin/true").status().is_ok());
            let came = confine(&config, &home.path().join("packetboat.toml"));
            assert!(came.calls.is_ok(), "{came:?}");
            assert!(came.files.is_ok(), "{came:?}");
            let refused = |result: std::io::Result<()>| result.unwrap_err().kind() == ErrorKind::PermissionDenied;
            assert!(refused(fs::read(&private).map(drop)));
            let why = state::denial(&private).unwrap();
            assert!(why.contains("is kept from packetboat by a security module"), "{why}");
            let needed = unreadable_files(&config, &home.path().join("packetboat.toml"));
            assert!(needed.is_empty(), "{needed:?}");
            assert!(refused(fs::read_dir("/root").map(drop)) || !Path::new("/root").exists());
            assert!(refused(fs::write(elsewhere.path().join("new"), "x")));
            assert!(refused(fs::write(home.path().join("packetboat.toml"), "x")), "what is read is not written");
            assert!(refused(Command::new("/bin/true").status().map(drop)));
            let raw = socket2::Socket::new(socket2::Domain::from(libc::AF_PACKET), socket2::Type::RAW, None);
            assert!(refused(raw.map(drop)));
            // The process cannot make files that lead root's commands astray.
            assert!(refused(symlink("/root", state.join("link"))));
            let pipe = rustix::fs::mkfifoat(rustix::fs::CWD, state.join("pipe"), 0o600.into());
            assert!(refused(pipe.map_err(std::io::Error::from)));
            assert!(refused(std::os::unix::net::UnixListener::bind(state.join("socket")).map(drop)));
            // The process can still do what it needs.
            fs::write(state.join("new"), "x").unwrap();
            fs::rename(state.join("new"), state.join("old")).unwrap();
            assert!(fs::read(home.path().join("packetboat.toml")).is_ok());
            assert!(fs::read("/proc/self/stat").is_ok() && fs::read_dir("/proc/self/fd").is_ok());
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_ok());
            use std::net::ToSocketAddrs;
            assert!(("localhost", 1).to_socket_addrs().is_ok());
        });
        confined.join().unwrap();
        // The other threads were not concerned.
        assert!(Command::new("/bin/true").status().is_ok());
    }

    /// The configuration's directory can be written where the page may change the file, and nowhere else.
    #[test]
    fn the_page_may_write_the_directory_of_the_configuration_alone() {
        for (edit, is_written) in [("", false), ("[admin]\nedit = true\ntoken_file = \"/t\"\n", true)] {
            let home = tempfile::tempdir().unwrap();
            let [state, own] = ["state", "own"].map(|name| home.path().join(name));
            [&state, &own].iter().for_each(|directory| fs::create_dir(directory).unwrap());
            let (file, link) = (own.join("packetboat.toml"), home.path().join("packetboat.toml"));
            fs::write(&file, "x").unwrap();
            symlink("own/packetboat.toml", &link).unwrap();
            let config = config(&state, edit);
            let confined = std::thread::spawn(move || {
                if matches!(confine(&config, &link).files, Err(Error::NoLandlock)) {
                    return;
                }
                let written = fs::write(own.join("new"), "y").and_then(|()| fs::rename(own.join("new"), &file));
                assert_eq!(written.is_ok(), is_written, "{edit}: {written:?}");
                assert!(fs::write(home.path().join("new"), "y").is_err(), "{edit}: the link's directory");
            });
            confined.join().unwrap();
        }
        assert_eq!(editable_directory(Path::new("/tmp/no-such-file")), None);
        assert_eq!(editable_directory(Path::new("/etc/no-such-file")), None);
        let own = Path::new("/etc/packetboat/packetboat.toml");
        assert_eq!(editable_directory(own), Some(PathBuf::from("/etc/packetboat")));
    }

    #[test]
    fn other_threads_are_not_forgotten() {
        let home = tempfile::tempdir().unwrap();
        // Tests run in threads.
        let came = confine_process(&config(home.path(), ""), Path::new("packetboat.toml"));
        assert!(came.files.unwrap_err().to_string().contains("threads") && came.calls.is_err());
    }

    #[test]
    fn where_files_are_named_they_may_be_read() {
        let home = tempfile::tempdir().unwrap();
        let live = home.path().join("live");
        let archive = home.path().join("archive");
        fs::create_dir_all(&live).unwrap();
        fs::create_dir_all(&archive).unwrap();
        fs::write(archive.join("chain1.pem"), "x").unwrap();
        symlink(archive.join("chain1.pem"), live.join("chain.pem")).unwrap();
        let named =
            format!("[certificate.default]\nchain = {:?}\nkey = {:?}\n", live.join("chain.pem"), live.join("key.pem"));
        let config = config(home.path(), &named);
        // A target that its link may replace tomorrow is allowed today.
        let current = home.path().join("current");
        symlink(&live, &current).unwrap();
        assert!(
            paths::directories_to(&current.join("key.pem"), paths::FileOwner::Operator)
                .contains(&home.path().to_path_buf())
        );
        let elsewhere = Path::new("/etc/packetboat/packetboat.toml");
        let allowed = directories(&config, elsewhere);
        // The files lie in the state directory here, which allows them.
        assert!(allowed.contains(&home.path().to_path_buf()) && !allowed.contains(&live));
        assert!(disallowed_files(&config, &allowed).is_empty());
        let without: Vec<PathBuf> = allowed.into_iter().filter(|one| one != home.path()).collect();
        assert_eq!(disallowed_files(&config, &without), [live.join("chain.pem"), live.join("key.pem")]);
        // The files' place decides, not the spelling of their path.
        assert_eq!(disallowed_files(&config, &[without, vec![live.clone()]].concat()), [live.join("chain.pem")]);
    }
}
