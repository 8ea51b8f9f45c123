//! Postfix plays the mail server that takes submissions: TLS 1.2 and later only, with ports for STARTTLS and implicit
//! TLS. Dovecot judges its logins, and a script puts each message into a directory.
//!
//! Debian's package is unpacked, because it conflicts with Exim's. Only root can start Postfix.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::delivered::{Delivered, delivered, take};
use crate::dovecot::Dovecot;
use crate::ports::free_ports;
use crate::process::{Process, executable};

pub struct Postfix {
    process: Process,
    directory: TempDir,
    pub submission: u16,
    pub submissions: u16,
}

impl Postfix {
    /// Starts in front of this Dovecot.
    pub fn start(judge: &Dovecot) -> Self {
        assert!(rustix::process::geteuid().is_root(), "Postfix needs root");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        Certificates::for_name("localhost", 30).write(path);
        lay_out(path);
        let [submission, submissions] = free_ports();
        fs::write(path.join("etc/main.cf"), main_configuration(path, &judge.judge())).unwrap();
        fs::write(path.join("etc/master.cf"), services(path, [submission, submissions])).unwrap();
        let mut command = Command::new(package().join("usr/lib/postfix/sbin/master"));
        command.arg("-c").arg(path.join("etc")).arg("-d").env("LD_LIBRARY_PATH", libraries());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The master ends its process group with itself.
        command.process_group(0);
        let mut process = Process::start(&mut command);
        let ports = [submission, submissions].map(|port| ([127, 0, 0, 1], port).into());
        process.until_open(&ports, || log(path));
        Self { process, directory, submission, submissions }
    }

    /// The CA that clients have to trust.
    pub fn roots(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The messages that are delivered, once there are so many.
    pub fn delivered(&self, count: usize) -> Vec<Delivered> {
        delivered(&self.directory.path().join("mail"), count, || self.log())
    }

    /// The one message that is delivered, once it is there; it is forgotten.
    pub fn take(&self) -> Delivered {
        take(&self.directory.path().join("mail"), || self.log())
    }

    pub fn log(&self) -> String {
        log(self.directory.path())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // A killed master leaves its processes to find out by themselves.
        let id = self.process.0.id().to_string();
        let _ = Command::new("kill").arg(&id).stderr(Stdio::null()).status();
        let _ = self.process.0.wait();
    }
}

/// Debian's package, as tests/install.sh unpacks it.
fn package() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debian/postfix");
    package.canonicalize().expect("tests/install.sh test unpacks Postfix below target/")
}

fn libraries() -> PathBuf {
    package().join("usr/lib/postfix")
}

fn log(path: &Path) -> String {
    fs::read_to_string(path.join("log")).unwrap_or_default()
}

/// Makes the directories, as Postfix's own installation does, and the script that takes deliveries.
fn lay_out(path: &Path) {
    let make = |name: &str, owner: Option<&str>, mode: u32| {
        fs::create_dir_all(path.join(name)).unwrap();
        chown(path.join(name), owner.map(user), None).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["etc", "spool", "spool/pid"] {
        make(name, None, 0o755);
    }
    make("data", Some(OWNER), 0o700);
    for name in ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved"] {
        make(&format!("spool/{name}"), Some(OWNER), 0o700);
    }
    for name in ["maildrop", "public", "trace"] {
        make(&format!("spool/{name}"), Some(OWNER), 0o755);
    }
    for name in ["mail", "mail/tmp", "mail/new"] {
        make(name, Some("nobody"), 0o755);
    }
    let mail = path.join("mail").display().to_string();
    let script = format!(
        "#!/bin/sh\nset -eu\nfile=$(mktemp -p {mail}/tmp)\n{{ echo \"Return-path: <$1>\"; shift; \
         echo \"Envelope-to: $*\"; cat; }} >\"$file\"\nmv \"$file\" {mail}/new/\n"
    );
    executable(&path.join("store"), &script);
}

fn user(name: &str) -> u32 {
    let output = Command::new("id").args(["-u", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("tests/install.sh test makes the user")
}

/// The user that Postfix runs as. The package of Exim has made it, and its own is not installed.
const OWNER: &str = "Debian-exim";

fn main_configuration(path: &Path, judge: &Path) -> String {
    let (directory, package, judge) = (path.display(), package().display().to_string(), judge.display());
    format!(
        "compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
command_directory = {package}/usr/sbin
daemon_directory = {package}/usr/lib/postfix/sbin
shlib_directory = {package}/usr/lib/postfix
import_environment = LD_LIBRARY_PATH MAIL_CONFIG LANG=C
mail_owner = {OWNER}
setgid_group = mail
default_privs = nobody
myhostname = localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks =
mydestination =
alias_maps =
local_recipient_maps =
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
message_size_limit = 209715200
mailbox_size_limit = 0
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
local_header_rewrite_clients =
header_checks = regexp:{{{{/^Received: .*Postfix/ IGNORE}}}}
default_transport = store
store_destination_recipient_limit = 100
smtpd_tls_cert_file = {directory}/server.pem
smtpd_tls_key_file = {directory}/server.key
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {judge}
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{nobody@example.test=REJECT}}, permit
"
    )
}

fn services(path: &Path, [submission, submissions]: [u16; 2]) -> String {
    let store = path.join("store");
    let store = store.display();
    format!(
        "127.0.0.1:{submission} inet n - n - - smtpd
127.0.0.1:{submissions} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
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
store unix - n n - - pipe
  user=nobody null_sender= argv={store} ${{sender}} ${{recipient}}
"
    )
}
