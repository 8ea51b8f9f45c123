//! Debian's package of Postfix, and what each set-up of it has in common. tests/install.sh unpacks the package, because it
//! conflicts with Exim's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::Process;

/// The user that Postfix runs as, which every Debian has.
const OWNER: &str = "mail";

/// A running Postfix. It ends with this value, and all its processes with it.
pub struct Master(pub Process);

/// The unpacked package.
pub struct Installation(PathBuf);

/// A Postfix of its own configuration.
pub struct Instance<'a> {
    /// The directory of its configuration, queue and log.
    pub path: &'a Path,
    /// The directory of its certificate: `server.pem` and `server.key`.
    pub certificate: &'a Path,
    /// The socket at which logins are judged, by Dovecot's protocol.
    pub judge: &'a Path,
    /// Lines of main.cf and of master.cf beside those that every instance has.
    pub main: &'a str,
    pub services: &'a str,
}

impl Drop for Master {
    fn drop(&mut self) {
        // The processes of a killed master would have to find out by themselves.
        let id = self.0.0.id().to_string();
        let _ = Command::new("kill").arg(&id).stderr(Stdio::null()).status();
        let _ = self.0.0.wait();
    }
}

impl Installation {
    /// `None` where tests/install.sh has not unpacked it.
    pub fn find() -> Option<Self> {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian/postfix").canonicalize().ok().map(Self)
    }

    /// The version, as `Postfix 3.7.11`.
    pub fn version(&self) -> Option<String> {
        let output = self.command("usr/sbin/postconf").args(["-d", "-h", "mail_version"]).output().ok()?;
        Some(format!("Postfix {}", String::from_utf8_lossy(&output.stdout).trim()))
    }

    /// Makes the directories of an instance, as Postfix's own installation does, and writes its configuration. Returns the
    /// command that starts it.
    pub fn prepare(&self, instance: &Instance<'_>) -> Command {
        let etc = instance.path.join("etc");
        lay_out(instance.path);
        fs::write(etc.join("main.cf"), self.settings(instance) + instance.main).unwrap();
        fs::write(etc.join("master.cf"), format!("{SERVICES}{}", instance.services)).unwrap();
        let mut command = self.command("usr/lib/postfix/sbin/master");
        command.arg("-c").arg(etc).arg("-d");
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.0.join(program));
        command.env("LD_LIBRARY_PATH", self.0.join("usr/lib/postfix"));
        command
    }

    fn settings(&self, instance: &Instance<'_>) -> String {
        let (path, package) = (instance.path.display(), self.0.display());
        let (certificate, judge) = (instance.certificate.display(), instance.judge.display());
        format!(
            "compatibility_level = 3.6
queue_directory = {path}/spool
data_directory = {path}/data
command_directory = {package}/usr/sbin
daemon_directory = {package}/usr/lib/postfix/sbin
shlib_directory = {package}/usr/lib/postfix
import_environment = LD_LIBRARY_PATH MAIL_CONFIG LANG=C
mail_owner = {OWNER}
setgid_group = staff
default_privs = nobody
myhostname = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
mydestination =
alias_maps =
local_recipient_maps =
maillog_file = {path}/log
maillog_file_prefixes = {path}
message_size_limit = 209715200
mailbox_size_limit = 0
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_tls_cert_file = {certificate}/server.pem
smtpd_tls_key_file = {certificate}/server.key
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {judge}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
"
        )
    }
}

/// The services that every instance has.
const SERVICES: &str = "cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
error unix - - n - - error
retry unix - - n - - error
";

fn lay_out(path: &Path) {
    let make = |name: &str, owner: Option<&str>, mode: u32| {
        fs::create_dir_all(path.join(name)).unwrap();
        chown(path.join(name), owner.map(user), None).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["", "etc", "spool", "spool/pid"] {
        make(name, None, 0o755);
    }
    make("data", Some(OWNER), 0o700);
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved"] {
        make(&format!("spool/{name}"), Some(OWNER), 0o700);
    }
    for name in ["maildrop", "public", "trace"] {
        make(&format!("spool/{name}"), Some(OWNER), 0o755);
    }
}

/// The number of a user.
pub fn user(name: &str) -> u32 {
    let output = Command::new("id").args(["-u", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("Debian has this user")
}
