//! Finds OpenSSL's source tree, copies it, and changes one line of it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The origin of the tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The crate on crates.io.
    Registry,
    /// An unpacked tree.
    Directory(PathBuf),
    /// A tarball.
    Tarball(PathBuf),
}

impl Source {
    /// The tree that the environment names; an empty name means none.
    pub(crate) fn named(name: Option<&OsStr>) -> Result<Self, String> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Self::Registry) };
        let path = PathBuf::from(name);
        // cargo runs build scripts in another directory than its own.
        if !path.is_absolute() {
            return Err(format!("OPENSSL_SOURCE={} is not an absolute path", path.display()));
        }
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self::Directory(path)),
            Ok(_) => Ok(Self::Tarball(path)),
            Err(error) => Err(format!("OPENSSL_SOURCE={}: {error}", path.display())),
        }
    }

    /// The files whose change makes cargo build again.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry => None,
            Self::Directory(path) | Self::Tarball(path) => Some(path),
        }
    }

    /// Copies the tree to a new directory.
    pub(crate) fn unpack(&self, to: &Path) -> Result<(), String> {
        fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
        match self {
            Self::Registry => copy(&registry()?, to),
            Self::Directory(path) => copy(path, to),
            Self::Tarball(path) => {
                let mut tar = Command::new("tar");
                tar.args(["-x", "--strip-components=1", "--no-same-owner", "-f"]).arg(path).arg("-C").arg(to);
                run(&mut tar)
            }
        }
    }
}

/// The tree from crates.io: cargo downloads the crate, checks it against the Cargo.lock in ../registry, and prints its
/// path.
fn registry() -> Result<PathBuf, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("registry/Cargo.toml");
    cargo.args(["metadata", "--locked", "--format-version", "1", "--manifest-path"]).arg(&manifest);
    println!("running {cargo:?}");
    let output = cargo.output().map_err(|error| format!("{cargo:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{cargo:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata = String::from_utf8_lossy(&output.stdout);
    // The only manifest path in a directory of that name.
    let path = metadata
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split_once("/Cargo.toml\"").map(|(path, _)| Path::new(path)))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("openssl-src-300.")));
    path.map(|path| path.join("openssl")).ok_or_else(|| format!("{cargo:?} names no openssl-src"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    run(Command::new("cp").arg("-R").arg(from.join(".")).arg(to))
}

/// Rejects a tree of another line than 3.x, and changes the number of pipelines.
pub(crate) fn prepare(tree: &Path) -> Result<(), String> {
    let version = read(&tree.join("VERSION.dat"))?;
    if !version.lines().any(|line| line == "MAJOR=3") {
        return Err(
            "OPENSSL_SOURCE is not of OpenSSL 3.x: 4.0 has neither SSLv3 nor the SSLv2-format ClientHello".into()
        );
    }
    let header = tree.join("include/openssl/ssl.h.in");
    let text =
        replaced(&read(&header)?, PIPELINES, ONE_PIPELINE).map_err(|error| format!("{}: {error}", header.display()))?;
    // A new file, because the old one may be read-only.
    fs::remove_file(&header)
        .and_then(|()| fs::write(&header, text))
        .map_err(|error| format!("{}: {error}", header.display()))
}

/// Replaces a line that must be there exactly once.
pub(crate) fn replaced(text: &str, line: &str, by: &str) -> Result<String, String> {
    let found = text.lines().filter(|one| one.trim_end() == line).count();
    if found != 1 {
        return Err(format!("the line \"{line}\" is there {found} times and not once: read what has become of it"));
    }
    Ok(text
        .lines()
        .map(|one| if one.trim_end() == line { by } else { one })
        .fold(String::new(), |text, one| text + one + "\n"))
}

/// Runs a command, and returns how it failed.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    println!("running {command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// OpenSSL's line: each of a connection's two record layers reserves 4 kB for 32 records at a time. It uses one,
/// without a call of `SSL_CTX_set_max_pipelines`.
const PIPELINES: &str = "#define SSL_MAX_PIPELINES 32";
/// packetboat's line, which halves the memory of an idle connection. `SSL_CTX_set_max_pipelines` then accepts 1 at
/// most.
const ONE_PIPELINE: &str = "#define SSL_MAX_PIPELINES 1";
