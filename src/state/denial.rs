//! Files that confinement or a security module keeps from this process although their permissions let it. The error
//! alone, "Permission denied", would send an operator to chmod, which mends nothing.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, OFlags, access};

/// Files that the C library reads to resolve a name (resolver(5), hosts(5), nsswitch.conf(5), host.conf(5),
/// gai.conf(5)).
pub const NAME_RESOLUTION: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

static CONFINED: AtomicBool = AtomicBool::new(false);

/// Notes that Landlock holds from here on, by `confine = true`.
pub fn confined() {
    CONFINED.store(true, Ordering::Relaxed);
}

/// Returns what keeps this process from a file although its permissions let it, and what to do; none if nothing does.
pub fn denial(path: &Path) -> Option<String> {
    // The open must not block on a pipe.
    let opened = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    opened.err().and_then(|error| denial_of(path, &error))
}

/// Returns the same for an attempt that has failed.
pub fn denial_of(path: &Path, error: &io::Error) -> Option<String> {
    // Landlock has a say when a file is opened, and none in access(2).
    if error.kind() != ErrorKind::PermissionDenied || access(path, Access::READ_OK).is_err() {
        return None;
    }
    let target = std::fs::canonicalize(path).ok().filter(|target| target != path);
    let leads = target.map(|target| format!(", which leads to {},", target.display())).unwrap_or_default();
    let shown = path.display();
    Some(if CONFINED.load(Ordering::Relaxed) {
        format!(
            "{shown}{leads} lies outside of what packetboat may open since its start (confine = true): restart \
             packetboat, or set confine = false"
        )
    } else {
        format!("{shown}{leads} is kept from packetboat by a security module of the system (AppArmor, SELinux)")
    })
}

/// Returns the denial of the first file of name resolution that has one.
pub fn name_resolution_denial() -> Option<String> {
    NAME_RESOLUTION.iter().find_map(|path| denial(Path::new(path)))
}
