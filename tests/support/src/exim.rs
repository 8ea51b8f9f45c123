//! Exim plays the mail server that takes submissions: TLS 1.2 and later only, with ports for STARTTLS and implicit TLS.
//! It puts every message into one Maildir.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::certificates::Certificates;
pub use crate::delivered::Delivered;
use crate::delivered::{delivered, take};
use crate::issuer::Issuer;
use crate::ports::free_ports;
use crate::process::Process;

/// The password of every user.
pub const PASSWORD: &str = "secret-7Qm2xP9a";

pub struct Exim {
    _process: Process,
    directory: TempDir,
    pub submission: u16,
    pub submissions: u16,
}

impl Exim {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts with more lines in the main section.
    pub fn start_with(more: &str) -> Self {
        Self::launch(more, |_| String::new())
    }

    /// Starts with XOAUTH2 as well, judged by the issuer.
    pub fn start_with_tokens_of(issuer: &Issuer) -> Self {
        Self::launch("", |path| {
            let judge = path.join("judge");
            issuer.judge_at(&judge);
            xoauth2(&judge)
        })
    }

    /// Starts. `authenticator` returns one more section.
    fn launch(more: &str, authenticator: impl FnOnce(&Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        Certificates::for_name("localhost", 30).write(path);
        let user = user();
        for name in ["spool", "mail", "log"] {
            fs::create_dir(path.join(name)).unwrap();
            chown(path.join(name), user.map(|(user, _)| user), user.map(|(_, group)| group)).unwrap();
        }
        if let Some((_, group)) = user {
            chown(path.join("server.key"), None, Some(group)).unwrap();
            fs::set_permissions(path.join("server.key"), fs::Permissions::from_mode(0o640)).unwrap();
        }
        let [submission, submissions] = free_ports();
        let file = path.join("exim.conf");
        let text = configuration(path, [submission, submissions], user.is_some(), more) + &authenticator(path);
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program());
        command.arg("-C").arg(&file).args(["-bdf"]);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(quiet);
        let ports = [submission, submissions].map(|port| ([127, 0, 0, 1], port).into());
        process.until_open(&ports, || log(path));
        Self { _process: process, directory, submission, submissions }
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

/// Debian's user for Exim, where the test may use it.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "Debian-exim"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().expect("tests/install.sh test installs Exim")
    };
    Some((id("-u"), id("-g")))
}

fn program() -> &'static Path {
    Path::new("/usr/sbin/exim4")
}

fn log(path: &Path) -> String {
    ["mainlog", "paniclog", "rejectlog"]
        .map(|name| fs::read_to_string(path.join("log").join(name)).unwrap_or_default())
        .concat()
}

/// The section for XOAUTH2, whose one response goes to the judge.
fn xoauth2(judge: &Path) -> String {
    format!(
        "xoauth2:
  driver = plaintext
  public_name = XOAUTH2
  server_prompts = :
  server_condition = ${{readsocket{{{}}}{{$auth1}}{{10s}}{{}}{{no}}}}
  server_set_id = ${{sg{{$auth1}}{{\\N^user=([^\\x01]*).*\\N}}{{\\$1}}}}
",
        judge.display()
    )
}

fn configuration(path: &Path, [submission, submissions]: [u16; 2], is_root: bool, more: &str) -> String {
    let directory = path.display();
    let user = if is_root { "  user = Debian-exim\n" } else { "" };
    format!(
        "spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/exim.pid
primary_hostname = localhost
local_interfaces = 127.0.0.1
daemon_smtp_ports = {submission} : {submissions}
tls_on_connect_ports = {submissions}
tls_advertise_hosts = *
tls_certificate = {directory}/server.pem
tls_privatekey = {directory}/server.key
tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.3
auth_advertise_hosts = ${{if def:tls_in_cipher {{*}}{{}}}}
received_header_text =
message_size_limit = 200M
smtp_accept_max = 0
{more}acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  deny recipients = nobody@example.test
       message = 5.1.1 no such user
  accept authenticated = *
  deny message = log in first
begin routers
all:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {directory}/mail
  maildir_format
  batch_max = 100
  return_path_add
  envelope_to_add
{user}begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if eq{{$auth3}}{{{PASSWORD}}}}}
  server_set_id = $auth2
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = Username:: : Password::
  server_condition = ${{if eq{{$auth2}}{{{PASSWORD}}}}}
  server_set_id = $auth1
"
    )
}
