//! Postfix plays the mail server that takes submissions: TLS 1.2 and later only, with ports for STARTTLS and implicit
//! TLS. Dovecot judges its logins, and a script puts each message into a directory.
//!
//! Only root can start Postfix.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::delivered::{Delivered, delivered, take};
use crate::dovecot::Dovecot;
use crate::ports::free_ports;
use crate::process::{Process, executable};

pub mod installation;

use installation::{Installation, Instance, Master, user};

pub struct Postfix {
    _master: Master,
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
        Certificates::for_name("localhost", 30).write(path);
        let installation = Installation::find().expect("tests/install.sh test unpacks Postfix below target/");
        let ports @ [submission, submissions] = free_ports();
        let services = services(&store(path), ports);
        let instance = Instance { path, certificate: path, judge: &judge.judge(), main: SETTINGS, services: &services };
        let mut command = installation.prepare(&instance);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The master ends its process group with itself.
        command.process_group(0);
        let mut process = Process::start(&mut command);
        process.until_open(&ports.map(|port| ([127, 0, 0, 1], port).into()), || log(path));
        Self { _master: Master(process), directory, submission, submissions }
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

fn log(path: &Path) -> String {
    fs::read_to_string(path.join("log")).unwrap_or_default()
}

/// Makes the directory that messages are delivered into, and the script that takes them. Returns the script.
fn store(path: &Path) -> PathBuf {
    for name in ["mail", "mail/tmp", "mail/new"] {
        fs::create_dir_all(path.join(name)).unwrap();
        chown(path.join(name), Some(user("nobody")), None).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mail = path.join("mail").display().to_string();
    let script = format!(
        "#!/bin/sh\nset -eu\nfile=$(mktemp -p {mail}/tmp)\n{{ echo \"Return-path: <$1>\"; shift; \
         echo \"Envelope-to: $*\"; cat; }} >\"$file\"\nmv \"$file\" {mail}/new/\n"
    );
    let store = path.join("store");
    executable(&store, &script);
    store
}

const SETTINGS: &str = "local_header_rewrite_clients =
header_checks = regexp:{{/^Received: .*Postfix/ IGNORE}}
default_transport = store
store_destination_recipient_limit = 100
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_recipient_restrictions = check_recipient_access inline:{nobody@example.test=REJECT}, permit
";

fn services(store: &Path, [submission, submissions]: [u16; 2]) -> String {
    let store = store.display();
    format!(
        "127.0.0.1:{submission} inet n - n - - smtpd
127.0.0.1:{submissions} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
store unix - n n - - pipe
  user=nobody null_sender= argv={store} ${{sender}} ${{recipient}}
"
    )
}
