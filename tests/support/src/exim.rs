//! Exim plays the mail server that takes submissions: TLS 1.2 and later only, with ports for STARTTLS and implicit TLS.
//! It puts every message into one Maildir.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::ports::free_ports;
use crate::process::{PATIENCE, Process};

/// The password of every user.
pub const PASSWORD: &str = "secret-7Qm2xP9a";

pub struct Exim {
    _process: Process,
    directory: TempDir,
    pub submission: u16,
    pub submissions: u16,
}

/// A message as Exim has delivered it.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The sender of the envelope.
    pub sender: String,
    /// The recipients of the envelope.
    pub recipients: String,
    /// Header and body, with CRLF.
    pub content: Vec<u8>,
}

impl Exim {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts with more lines in the main section.
    pub fn start_with(more: &str) -> Self {
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
        fs::write(&file, configuration(path, [submission, submissions], user.is_some(), more)).unwrap();
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
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut files: Vec<PathBuf> = fs::read_dir(self.directory.path().join("mail/new"))
                .map(|files| files.map(|file| file.unwrap().path()).collect())
                .unwrap_or_default();
            if files.len() >= count {
                files.sort_by_key(|file| fs::metadata(file).unwrap().modified().unwrap());
                return files.iter().map(|file| read(&fs::read(file).unwrap())).collect();
            }
            assert!(Instant::now() < deadline, "{} of {count} messages: {}", files.len(), self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        log(self.directory.path())
    }
}

fn read(file: &[u8]) -> Delivered {
    let mut lines = file.split(|octet| *octet == b'\n').peekable();
    let mut field = |name: &str| {
        let mut line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        while let Some(more) = lines.next_if(|line| line.starts_with(b" ")) {
            line += std::str::from_utf8(more).unwrap();
        }
        line.strip_prefix(name).unwrap_or_else(|| panic!("{name} in {line}")).trim().to_owned()
    };
    let (sender, recipients) = (field("Return-path:"), field("Envelope-to:"));
    let content = lines.collect::<Vec<_>>().join(&b"\r\n"[..]);
    Delivered { sender: sender.trim_matches(['<', '>']).to_owned(), recipients, content }
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
