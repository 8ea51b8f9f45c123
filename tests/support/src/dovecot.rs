//! Dovecot plays the mail server: TLS 1.2 and later only, IMAP and POP3, with ports for implicit TLS and STARTTLS.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::free_ports;
use crate::issuer::{ISSUER, Issuer, SCOPE};
use crate::process::{PATIENCE, Process};

pub const PASSWORD: &str = "secret-7Qm2xP9a";
/// A password that ends in a space, as POP3 allows.
pub const PASSWORD_WITH_SPACES: &str = "two words ";

/// The domain of users with tokens.
const DOMAIN: &str = "@contoso.example";

pub struct Dovecot {
    process: Process,
    directory: TempDir,
    pub imap: u16,
    pub imaps: u16,
    pub pop3: u16,
    pub pop3s: u16,
    users: AtomicUsize,
    /// The domain appended to every user's name.
    domain: &'static str,
}

impl Dovecot {
    pub fn start() -> Self {
        Self::start_with_mechanisms("plain login xoauth2")
    }

    pub fn start_with_mechanisms(mechanisms: &str) -> Self {
        Self::launch(mechanisms, "", "", free_ports, |path| {
            fs::write(path.join("users"), users()).unwrap();
            format!("driver = passwd-file\n  args = {}/users", path.display())
        })
    }

    /// Starts Dovecot without basic authentication: it takes only XOAUTH2 with tokens of this issuer, and validates
    /// them itself. Users are addresses; a token opens the mailbox that its claim `upn` names, and no other.
    pub fn start_with_tokens_of(issuer: &Issuer) -> Self {
        Self::launch("xoauth2", DOMAIN, "", free_ports, Self::tokens_of(issuer))
    }

    /// Starts Dovecot as the judge of another server's logins: tokens of this issuer, and the password of everybody.
    pub fn start_as_judge(issuer: &Issuer) -> Self {
        Self::launch("plain login xoauth2", DOMAIN, JUDGE, free_ports, Self::tokens_of(issuer))
    }

    /// The socket on which the judge answers.
    pub fn judge(&self) -> PathBuf {
        self.directory.path().join("run/judge")
    }

    fn tokens_of(issuer: &Issuer) -> impl FnOnce(&Path) -> String {
        |path| {
            issuer.publish(&path.join("keys"));
            let directory = path.display();
            let oauth2 = format!(
                "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={directory}/keys/\n\
                 issuers = {ISSUER}\nscope = {SCOPE}\nusername_attribute = upn\nusername_format = %Lu\n"
            );
            fs::write(path.join("oauth2.conf"), oauth2).unwrap();
            format!("driver = oauth2\n  mechanisms = xoauth2\n  args = {directory}/oauth2.conf")
        }
    }

    /// Starts Dovecot. `passdb` writes the files that it needs, and returns its own section.
    fn launch(
        mechanisms: &str,
        domain: &'static str,
        more: &str,
        ports: fn() -> [u16; 4],
        passdb: impl FnOnce(&Path) -> String,
    ) -> Self {
        let certificates = Certificates::for_name("localhost", 30);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        certificates.write(path);
        fs::create_dir(path.join("mail")).unwrap();
        own(&path.join("mail"));
        let passdb = passdb(path);
        // Another process may have taken a port that was free a moment ago; Dovecot ends at once then.
        for _ in 0..5 {
            let ports = ports();
            let text = configuration(path, mechanisms, &passdb, ports) + more;
            fs::write(path.join("dovecot.conf"), text).unwrap();
            if let Some(process) = serve(path, ports) {
                let [imap, imaps, pop3, pop3s] = ports;
                return Self { process, directory, imap, imaps, pop3, pop3s, users: AtomicUsize::new(0), domain };
            }
        }
        panic!("dovecot does not start: {}", log(path));
    }

    /// The CA that clients have to trust.
    pub fn roots(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Makes a user of the test's own, with these messages in the inbox.
    pub fn user_with(&self, messages: &[&[u8]]) -> String {
        let user = format!("user{}{}", self.users.fetch_add(1, Ordering::Relaxed), self.domain);
        self.deliver(&user, messages);
        user
    }

    pub fn deliver(&self, user: &str, messages: &[&[u8]]) {
        let maildir = self.directory.path().join("mail").join(user);
        for folder in ["", "cur", "new", "tmp"] {
            let folder = maildir.join(folder);
            fs::create_dir_all(&folder).unwrap();
            own(&folder);
        }
        for (number, message) in messages.iter().enumerate() {
            let file = maildir.join("new").join(format!("{}.M{number}P1.test", 1_700_000_000 + number));
            fs::write(&file, message).unwrap();
            own(&file);
        }
    }

    /// The number of messages left in the user's inbox.
    pub fn messages_of(&self, user: &str) -> usize {
        let maildir = self.directory.path().join("mail").join(user);
        ["cur", "new"].iter().map(|folder| fs::read_dir(maildir.join(folder)).unwrap().count()).sum()
    }

    pub fn log(&self) -> String {
        log(self.directory.path())
    }

    /// Stops the server, for tests of an outage.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        self.process.wait();
    }
}

impl Dovecot {
    /// Starts Dovecot for many devices. Its login processes serve many each, and its ports stay free during an outage,
    /// because the kernel gives none of them to other connections.
    pub fn start_for_a_crowd(issuer: &Issuer) -> Self {
        Self::launch("xoauth2", DOMAIN, CROWD, lasting_ports, Self::tokens_of(issuer))
    }

    /// Puts one more message of this name into the inbox, at once and whole, as a server does.
    pub fn post(&self, user: &str, name: &str, message: &[u8]) {
        let maildir = self.directory.path().join("mail").join(user);
        let file = maildir.join("tmp").join(name);
        fs::write(&file, message).unwrap();
        own(&file);
        fs::rename(file, maildir.join("new").join(name)).unwrap();
    }

    /// The names of the messages that are left, without their flags.
    pub fn names_of(&self, user: &str) -> Vec<String> {
        let maildir = self.directory.path().join("mail").join(user);
        let names = ["cur", "new"].into_iter().flat_map(|folder| fs::read_dir(maildir.join(folder)).unwrap());
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        names.map(|entry| name(entry).split([':', ',']).next().unwrap().to_owned()).collect()
    }

    /// Starts the stopped server again at the same ports.
    pub fn start_again(&mut self) {
        let ports = [self.imap, self.imaps, self.pop3, self.pop3s];
        let deadline = Instant::now() + PATIENCE;
        self.process = loop {
            // The earlier server may hold its ports for a moment.
            match serve(self.directory.path(), ports) {
                Some(process) => break process,
                None => assert!(Instant::now() < deadline, "dovecot does not start again: {}", self.log()),
            }
        };
    }
}

/// Starts Dovecot and waits until every port answers; `None` if it ends before.
fn serve(path: &Path, ports: [u16; 4]) -> Option<Process> {
    let mut process = Process::start(
        Command::new("dovecot")
            .args(["-F", "-c"])
            .arg(path.join("dovecot.conf"))
            .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    let deadline = Instant::now() + PATIENCE;
    for port in ports {
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if process.0.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "dovecot does not answer: {}", log(path));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    Some(process)
}

/// Free ports below the kernel's range for outgoing connections (ip_local_port_range).
fn lasting_ports() -> [u16; 4] {
    let mut candidate = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    [(); 4].map(|()| {
        loop {
            candidate += 1;
            if TcpListener::bind(("127.0.0.1", candidate)).is_ok() {
                return candidate;
            }
        }
    })
}

fn users() -> String {
    let mut users = String::new();
    for number in 0..200 {
        users += &format!("user{number}:{{PLAIN}}{PASSWORD}\n");
    }
    users + &format!("spaces:{{PLAIN}}{PASSWORD_WITH_SPACES}\numlaut:{{PLAIN}}p\u{e4}ss\\w\"rd\n")
}

/// The user that owns mail: another one than root, which Dovecot refuses.
fn mail_user() -> (u32, u32) {
    if is_root() { (65_534, 65_534) } else { (id("-u"), id("-g")) }
}

fn own(path: &Path) {
    if is_root() {
        let (user, group) = mail_user();
        chown(path, Some(user), Some(group)).unwrap();
    }
}

fn is_root() -> bool {
    id("-u") == 0
}

fn id(flag: &str) -> u32 {
    let output = Command::new("id").arg(flag).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn log(path: &Path) -> String {
    fs::read_to_string(path.join("dovecot.log")).unwrap_or_default()
}

fn configuration(path: &Path, mechanisms: &str, passdb: &str, [imap, imaps, pop3, pop3s]: [u16; 4]) -> String {
    let (user, group) = mail_user();
    let directory = path.display();
    let accounts = if is_root() {
        String::new()
    } else {
        let name = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let name = name.trim().to_owned();
        format!("default_internal_user = {name}\ndefault_login_user = {name}\n")
    };
    format!(
        "base_dir = {directory}/run
log_path = {directory}/dovecot.log
{accounts}protocols = imap pop3
listen = 127.0.0.1
ssl = required
ssl_min_protocol = TLSv1.2
ssl_cert = <{directory}/server.pem
ssl_key = <{directory}/server.key
auth_mechanisms = {mechanisms}
disable_plaintext_auth = yes
auth_failure_delay = 0
mail_location = maildir:{directory}/mail/%u
mail_max_userip_connections = 1000
maildir_copy_with_hardlinks = yes
first_valid_uid = 1
passdb {{
  {passdb}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={directory}/mail/%u
}}
service imap-login {{
  chroot =
  process_limit = 500
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  # No growing delay for wrong passwords.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"
    )
}

const JUDGE: &str = "
passdb {
  driver = static
  mechanisms = plain login
  args = password=secret-7Qm2xP9a
}
service auth {
  unix_listener judge {
    mode = 0666
  }
}
";

const CROWD: &str = "
service imap-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 2000
}
service pop3-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 2000
}
service imap {
  process_limit = 2000
}
service pop3 {
  process_limit = 2000
}
service auth {
  client_limit = 10000
}
service anvil {
  client_limit = 10000
}
";
