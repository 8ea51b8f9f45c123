//! The directories that packetboat reads are found at start by following every link: those of the configuration, of
//! name resolution, of certification authorities and of the time zone, wherever a distribution or WSL keeps them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::config::Config;
use crate::state;

/// The directories that may be read: of the configuration, of each file that it names, and of the system's files for
/// name resolution and certification authorities. Directories rather than files, because files are replaced.
pub(super) fn directories(config: &Config, file: &Path) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    let mut authorities: Vec<PathBuf> = AUTHORITIES.iter().map(PathBuf::from).collect();
    authorities.extend(std::env::var_os("SSL_CERT_DIR").iter().flat_map(std::env::split_paths));
    directories.extend(authorities.iter().cloned());
    directories.extend(std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from));
    directories.extend(system_files().iter().flat_map(|path| directories_to(path, FileOwner::System)));
    directories.extend(operator_files(config, file).iter().flat_map(|path| directories_to(path, FileOwner::Operator)));
    // Certification authorities that are links to wherever somebody has put them.
    for entry in authorities.iter().flat_map(fs::read_dir).flatten().flatten() {
        directories.extend(fs::canonicalize(entry.path()).ok().map(|path| FileOwner::System.directory_of(&path)));
    }
    directories.extend([config.state_directory.clone(), config.spool.directory.clone()]);
    directories.retain(|directory| directory.exists());
    directories.sort();
    // One inside of another is allowed by that.
    directories.dedup_by(|inner, outer| inner.starts_with(outer));
    directories
}

/// Files that are opened while packetboat serves, under their names, which may be links.
pub fn needed_files(config: &Config, file: &Path) -> Vec<PathBuf> {
    [operator_files(config, file), system_files()].concat()
}

fn operator_files(config: &Config, file: &Path) -> Vec<PathBuf> {
    let mut files = config.files();
    files.push(file.to_path_buf());
    files
}

fn system_files() -> Vec<PathBuf> {
    let names = state::NAME_RESOLUTION.iter().chain(BUNDLES).chain(&[TIME_ZONE]);
    names.map(PathBuf::from).chain(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from)).collect()
}

/// The person who chose a file's place, which decides how much around it may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileOwner {
    /// The operator has chosen the directory, and may swap a directory by a link to it.
    Operator,
    /// No operator has chosen to open the other files directly in `/var` or `/tmp`.
    System,
}

impl FileOwner {
    /// The directory of a file; or the file alone, where its directory would be too much.
    fn directory_of(self, path: &Path) -> PathBuf {
        let directory = directory_of(path);
        if self == Self::System && is_wide(&directory) { path.to_path_buf() } else { directory }
    }
}

/// The directory of a file, and of each link to a file on the way to it; for the operator's files, that of each link to
/// a directory too. A link may lead elsewhere tomorrow: those of Let's Encrypt's clients do, and those of operators who
/// put a new release beside the old one.
///
/// A link that leads nowhere yet is followed as far as its path exists: the program that writes resolv.conf may start
/// later.
pub(super) fn directories_to(path: &Path, owner: FileOwner) -> Vec<PathBuf> {
    follow_links(path, owner).0
}

/// The directories on the way to a file, and the path at which its links end.
fn follow_links(path: &Path, owner: FileOwner) -> (Vec<PathBuf>, PathBuf) {
    let mut at = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut directories = vec![owner.directory_of(&at)];
    // The kernel follows 40 links at most (path_resolution(7)).
    for _ in 0..40 {
        let Some(link) = at.ancestors().filter(|one| one.is_symlink()).last().map(Path::to_path_buf) else { break };
        let Ok(target) = fs::read_link(&link) else { break };
        let directory = directory_of(&link);
        if link == at {
            directories.push(owner.directory_of(&link));
        } else if owner == FileOwner::Operator && !is_wide(&directory) {
            directories.push(directory);
        }
        let rest = at.strip_prefix(&link).unwrap_or(Path::new("")).to_path_buf();
        at = without_dots(&link.parent().unwrap_or(Path::new("/")).join(target).join(rest));
        directories.extend(existing_ancestor(&owner.directory_of(&at)));
    }
    directories.extend(fs::canonicalize(path).ok().map(|path| owner.directory_of(&path)));
    (directories, at)
}

/// A directory, or the nearest one above it that exists, unless that is too wide.
fn existing_ancestor(directory: &Path) -> Option<PathBuf> {
    let known = directory.ancestors().find(|one| one.exists())?;
    (known == directory || !is_wide(known)).then(|| known.to_path_buf())
}

/// Returns whether a directory is `/` or lies directly in it, by whatever link: other programs keep files below.
pub(super) fn is_wide(directory: &Path) -> bool {
    let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_path_buf());
    real.is_dir() && real.components().count() <= 2
}

/// Links of the system whose target does not exist yet and will not be allowed: each with its target.
pub(super) fn missing_targets() -> Vec<(PathBuf, PathBuf)> {
    let ends = system_files().into_iter().map(|path| (follow_links(&path, FileOwner::System).1, path));
    let later = ends.filter(|(end, path)| {
        end != path && !end.exists() && existing_ancestor(&FileOwner::System.directory_of(end)).is_none()
    });
    later.map(|(end, path)| (path, end)).collect()
}

/// Wide directories that are allowed because one of the operator's files lies directly in them.
pub fn wide_directories(allowed: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    allowed.iter().filter(|one| is_wide(one) && !SYSTEM.iter().any(|known| Path::new(known) == one.as_path()))
}

/// The path without `..`. Links before each `..` have been followed already.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// The directory of a file; or the file itself, where its directory is `/`.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match path.parent() {
        Some(parent) if parent != Path::new("/") => parent.to_path_buf(),
        Some(_) | None => path,
    }
}

/// Directories of the system: name resolution (whose files are replaced) and its plug-ins, certification authorities,
/// the number of processors, and the process itself.
const SYSTEM: &[&str] = &[
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/local/share/ca-certificates",
    // Wherever /etc/resolv.conf leads, now or later; and secrets of containers.
    "/run",
    "/var/run/secrets",
    "/var/lib/sss",
    "/var/lib/ca-certificates",
    "/nix/store",
    "/gnu/store",
    "/dev/urandom",
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
];

/// Directories of links to certification authorities.
const AUTHORITIES: &[&str] = &["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The distributions' bundles of certification authorities; `roots = "system"` reads one of them.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
];

const TIME_ZONE: &str = "/etc/localtime";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for directory in ["etc", "run", "mnt/wsl"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("mnt/wsl/resolv.conf"), "x").unwrap();
        symlink("../run/./resolv", at("etc/resolv.conf")).unwrap();
        symlink(at("mnt/wsl/resolv.conf"), at("run/resolv")).unwrap();
        let found = directories_to(&at("etc/resolv.conf"), FileOwner::System);
        for directory in ["etc", "run", "mnt/wsl"] {
            assert!(found.contains(&at(directory)), "{directory}: {found:?}");
        }
        // The program that writes the file may start later, and make the directory too.
        symlink(at("mnt/later/than/this"), at("etc/hosts")).unwrap();
        assert!(directories_to(&at("etc/hosts"), FileOwner::System).contains(&at("mnt")));
        // The links form a circle.
        symlink(at("etc/b"), at("etc/a")).unwrap();
        symlink(at("etc/a"), at("etc/b")).unwrap();
        assert!(directories_to(&at("etc/a"), FileOwner::System).contains(&at("etc")));
    }

    #[test]
    fn no_link_opens_a_wide_directory() {
        let home = tempfile::tempdir().unwrap();
        let (link, up) = (home.path().join("link"), home.path().join("up"));
        symlink("/tmp", &up).unwrap();
        for target in ["/no-such-directory-here/file", "/tmp/no-such-directory/file", "/tmp/no-such-file", "/var/run/x"]
        {
            symlink(target, &link).unwrap();
            let found = directories_to(&link, FileOwner::System);
            let too_much: Vec<_> = found.iter().filter(|one| is_wide(one) && *one != Path::new("/run")).collect();
            assert!(too_much.is_empty(), "{target}: {too_much:?}");
            fs::remove_file(&link).unwrap();
        }
        // The link has another name.
        assert!(!directories_to(&up.join("file"), FileOwner::System).iter().any(|one| is_wide(one)));
        // The operator's link to a directory, but not from a directory that is everybody's.
        assert!(directories_to(&up.join("mine/file"), FileOwner::Operator).contains(&home.path().to_path_buf()));
        assert!(!directories_to(Path::new("/var/run/mine/file"), FileOwner::Operator).contains(&PathBuf::from("/var")));
    }
}
