//! This file starts Postfix as a relay: TLS and passwords on both sides, and its queue in between.
//!
//! Debian's package is unpacked, because it conflicts with Exim's. Only root can start Postfix.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::bench::packetboat;
use support::free_ports;
use support::process::Process;

/// A Postfix that relays to one server.
pub struct Postfix {
    pub process: Process,
    pub address: SocketAddr,
}

impl Postfix {
    /// Starts Postfix in this directory, which has `ca.pem`, `server.pem` and `server.key`, in front of a server with
    /// implicit TLS at this port. Returns `None` where it cannot run.
    pub fn start(directory: &Path, server: u16) -> Option<Self> {
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let Some(package) = package().filter(|_| is_root) else {
            println!("Postfix is not measured: root and tests/install.sh bench are needed, which unpacks it");
            return None;
        };
        let path = directory.join("postfix");
        lay_out(&path);
        judge(&path.join("judge"));
        let [port] = free_ports();
        fs::write(path.join("etc/main.cf"), main_configuration(directory, &path, &package, server)).unwrap();
        fs::write(path.join("etc/master.cf"), services(port)).unwrap();
        let mut command = Command::new(package.join("usr/lib/postfix/sbin/master"));
        command.arg("-c").arg(path.join("etc")).arg("-d").env("LD_LIBRARY_PATH", package.join("usr/lib/postfix"));
        let (process, [address]) = packetboat::start_beside(command, &path, "postfix", [port]);
        Some(Self { process, address })
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // A killed master leaves its processes behind, so the whole of it is asked to end.
        let id = self.process.0.id().to_string();
        let _ = Command::new("kill").arg(&id).stderr(Stdio::null()).status();
        let _ = self.process.0.wait();
    }
}

/// The version of the unpacked package, as `Postfix 3.7.11`.
pub fn version() -> Option<String> {
    let package = package()?;
    let output = Command::new(package.join("usr/sbin/postconf"))
        .args(["-d", "-h", "mail_version"])
        .env("LD_LIBRARY_PATH", package.join("usr/lib/postfix"))
        .output()
        .ok()?;
    Some(format!("Postfix {}", String::from_utf8_lossy(&output.stdout).trim()))
}

/// Debian's package, as tests/install.sh unpacks it.
fn package() -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian/postfix").canonicalize().ok()
}

/// Makes the directories, as Postfix's own installation does.
fn lay_out(path: &Path) {
    let make = |name: &str, owner: Option<&str>, mode: u32| {
        fs::create_dir_all(path.join(name)).unwrap();
        chown(path.join(name), owner.map(user), None).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["", "..", "etc", "spool", "spool/pid"] {
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

fn user(name: &str) -> u32 {
    let output = Command::new("id").args(["-u", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Lets every password in, by Dovecot's protocol. It costs Postfix its own part alone.
fn judge(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A connection ends with the Postfix process that made it.
            std::thread::spawn(move || drop(judge_one(stream)));
        }
    });
}

fn judge_one(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")?;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let mut words = line.split('\t');
        if words.next() == Some("AUTH") {
            stream.write_all(format!("OK\t{}\tuser=u\n", words.next().unwrap_or_default()).as_bytes())?;
        }
    }
    Ok(())
}

/// The user that Postfix runs as, which every Debian has.
const OWNER: &str = "mail";

fn main_configuration(directory: &Path, path: &Path, package: &Path, server: u16) -> String {
    let (directory, path, package) = (directory.display(), path.display(), package.display());
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
# No process ends within the measure.
max_use = 1000000
max_idle = 1h
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
smtpd_tls_cert_file = {directory}/server.pem
smtpd_tls_key_file = {directory}/server.key
smtpd_tls_security_level = encrypt
smtpd_tls_auth_only = yes
smtpd_tls_session_cache_database = btree:{path}/data/smtpd_sessions
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {path}/judge
smtpd_relay_restrictions = permit_sasl_authenticated, reject
relayhost = [127.0.0.1]:{server}
smtp_tls_wrappermode = yes
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = localhost
smtp_tls_CAfile = {directory}/ca.pem
smtp_tls_session_cache_database = btree:{path}/data/smtp_sessions
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:u:p
smtp_sasl_security_options =
"
    )
}

fn services(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
error unix - - n - - error
retry unix - - n - - error
"
    )
}
