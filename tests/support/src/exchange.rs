//! This file runs a pretend Exchange Online in this process, and the proxy in front of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use packetboat::simulator::{Counts, Quirks, Setup, Simulator, Tenant, User};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::imap::Imap;
use crate::pop3::Pop3;
use crate::process::{PATIENCE, Process, program};
use crate::proxy::{Proxy, translating_listener};

pub const TENANT: &str = "contoso.onmicrosoft.com";
pub const APP: &str = "11111111-2222-3333-4444-555555555555";
pub const SECRET: &str = "app~secret+/=";
pub const SCAN: &str = "scan@contoso.example";
pub const SCAN_PASSWORD: &str = "Pa55word of the person";
pub const SHARED: &str = "shared@contoso.example";
/// The login and password of the device.
pub const LOGIN: &str = "scanner3";
pub const PASSWORD: &str = "k7m2xp9at";
/// `[identity.office]` with a secret in the file that [`Exchange::new`] has written.
pub const BY_SECRET: &str = "client_secret_file = \"SECRET\"";
pub const BY_PERSON: &str = "grant = \"authorization-code\"";

pub struct Exchange {
    pub simulator: Simulator,
    pub runtime: Runtime,
    directory: TempDir,
}

impl Exchange {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Starts a simulator whose tenant the function has changed. The app may open the mailbox of the one user, who has
    /// the shared one.
    pub fn with(change: impl FnOnce(&mut Tenant)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut tenant = Tenant::new(TENANT, APP);
        tenant.client_secret = Some(SECRET.to_owned());
        let mut scan = User::new(SCAN, SCAN_PASSWORD);
        scan.delegates.push(SHARED.to_owned());
        tenant.users = vec![scan];
        tenant.app_mailboxes = vec![SCAN.to_owned()];
        change(&mut tenant);
        let runtime = Runtime::new().unwrap();
        let setup = Setup { directory: directory.path().join("simulator"), tenant };
        let simulator = runtime.block_on(Simulator::start(setup)).unwrap();
        let exchange = Self { simulator, runtime, directory };
        exchange.file("SECRET", SECRET);
        exchange
    }

    pub fn quirk(&self, change: impl FnOnce(&mut Quirks)) {
        self.simulator.quirks(change);
    }

    /// Waits until the simulator's counts satisfy the condition.
    pub fn until(&self, what: &str, condition: impl FnMut(&Counts) -> bool) -> Counts {
        let waiting = async { timeout(PATIENCE, self.simulator.until(condition)).await };
        self.runtime.block_on(waiting).unwrap_or_else(|_| panic!("no {what}: {:?}", self.simulator.counts()))
    }

    /// Waits until a client is connected to the token endpoint. The kernel knows before the simulator counts a request.
    pub fn until_connected(&self) {
        self.until_connected_to(self.simulator.endpoint().port());
    }

    /// Waits until a client is connected to this port of the simulator.
    pub fn until_connected_to(&self, port: u16) {
        let remote = format!(":{port:04X} 01 ");
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| line.contains(&remote)) {
            assert!(Instant::now() < deadline, "nobody connects to port {port}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The number of token requests that were understood, or met a fault.
    pub fn requests(&self) -> u64 {
        let counts = self.simulator.counts();
        counts.tokens_issued + counts.token_refusals
    }

    /// Writes a secret to a file that only this user can read.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        mode(&path, 0o600);
        path
    }

    /// The state directory of the proxies of [`Exchange::proxy`].
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// `[identity.office]` at this simulator, with additional lines.
    pub fn identity(&self, more: &str) -> String {
        let authority = format!("https://{}", self.simulator.endpoint());
        let mut text = format!("[identity.office]\nroots = {:?}\n", self.simulator.authority());
        if !more.contains("cloud =") && !more.contains("token_endpoint =") {
            text += "cloud = \"worldwide\"\n";
        }
        for (key, default) in [("authority", authority.as_str()), ("tenant", TENANT), ("client_id", APP)] {
            let has_tenant = !more.contains("google") && !more.contains("managed-identity");
            let is_written = more.lines().any(|line| line.starts_with(&format!("{key} =")));
            if !is_written && (key != "tenant" || has_tenant) {
                text += &format!("{key} = \"{default}\"\n");
            }
        }
        let secret = format!("{:?}", self.directory.path().join("SECRET"));
        text + &more.replace("\"SECRET\"", &secret) + "\n"
    }

    /// The mail server, and listeners named `imap` and `pop3`.
    pub fn frame(&self) -> String {
        let (imap, pop3) = (self.simulator.imap().port(), self.simulator.pop3().port());
        let roots = self.simulator.authority();
        format!(
            "[upstream.exchange]\nhost = \"127.0.0.1\"\nimap_port = {imap}\npop3_port = {pop3}\nroots = {roots:?}\n"
        ) + &translating_listener("imap", "imap", "implicit", "")
            + &translating_listener("pop3", "pop3", "implicit", "")
    }

    /// The mail server with submission, and listeners named `imap`, `pop3` and `smtp`.
    pub fn submission_frame(&self) -> String {
        let port = self.simulator.smtp().port();
        self.frame()
            + &format!("[upstream.exchange.smtp]\nport = {port}\n")
            + &translating_listener("smtp", "smtp", "auto", "")
    }

    /// The configuration of one device for the user's mailbox, with additional lines for the identity.
    pub fn configuration(&self, identity: &str) -> String {
        self.configured(identity, &account("scans", SCAN, ""))
    }

    pub fn configured(&self, identity: &str, accounts: &str) -> String {
        self.frame() + &self.identity(identity) + accounts
    }

    pub fn proxy(&self, configuration: &str) -> Proxy {
        Proxy::start_with(Some(&self.state()), "debug", configuration)
    }

    /// The binary with this configuration, and with other arguments than `run`.
    pub fn command(&self, arguments: &[&str], configuration: &str) -> Command {
        let file = self.directory.path().join("packetboat.toml");
        fs::write(&file, format!("state_directory = {:?}\n{configuration}", self.state())).unwrap();
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(file).stdin(Stdio::null());
        command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0");
        command
    }

    pub fn run(&self, arguments: &[&str], configuration: &str) -> Ran {
        Ran::of(self.command(arguments, configuration).output().unwrap())
    }

    /// Plays a browser that stops at the redirect; returns the address of the redirect.
    pub fn visit(&self, url: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "60", "-o", "/dev/null", "-w", "%{redirect_url}", "--cacert"]);
        let output = curl.arg(self.simulator.authority()).arg(url).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Signs in by `packetboat login scans`, and pastes the address at which the browser has stopped.
    pub fn sign_in(&self, configuration: &str) {
        self.sign_in_to("scans", configuration);
    }

    /// Signs in by `packetboat login` for another account.
    pub fn sign_in_to(&self, account: &str, configuration: &str) {
        use std::io::Write;
        let mut command = self.command(&["login", account], configuration);
        let mut login = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let said = crate::process::Lines::of(login.0.stdout.take().unwrap());
        let url = said.wait_for("address", |line| line.starts_with("https://"));
        let back = self.visit(&url);
        writeln!(login.0.stdin.take().unwrap(), "{back}").unwrap();
        assert!(login.wait().success(), "{}", said.all());
    }

    /// The files with the tokens of sign-ins.
    pub fn tokens(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.state().join("tokens")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "token")).collect()
    }
}

/// `[account.NAME]` and its device; the device's login is the account's name unless the account is the usual one.
pub fn account(name: &str, mailbox: &str, more: &str) -> String {
    static HASH: OnceLock<String> = OnceLock::new();
    let hash = HASH.get_or_init(|| packetboat::device::password::hash(PASSWORD.as_bytes()).unwrap());
    let login = if name == "scans" { LOGIN } else { name };
    format!(
        "[account.{name}]\nmailbox = \"{mailbox}\"\nupstream = \"exchange\"\n{more}\n[[device]]\nlogin = \"{login}\"\npasswords = [\"{hash}\"]\n\
         account = \"{name}\"\n"
    )
}

/// The output of a program, and how it ended.
pub struct Ran {
    pub code: i32,
    pub output: String,
    pub errors: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Self { code: output.status.code().unwrap(), output: text(&output.stdout), errors: text(&output.stderr) }
    }
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Connects by IMAP over TLS 1.0, and reads the greeting.
pub fn imap(proxy: &Proxy) -> Imap {
    proxy.imap("imap")
}

/// Connects by POP3 over TLS 1.0, and reads the greeting.
pub fn pop3(proxy: &Proxy) -> Pop3 {
    proxy.pop3("pop3")
}

/// The answer to a login, without its tag.
pub fn imap_login(proxy: &Proxy) -> String {
    crate::imap::status(&imap(proxy).command(&format!("LOGIN {LOGIN} {PASSWORD}")))
}

/// The answer to PASS.
pub fn pop3_login(proxy: &Proxy) -> String {
    let mut pop3 = pop3(proxy);
    pop3.ok(&format!("USER {LOGIN}"));
    pop3.command(&format!("PASS {PASSWORD}"))
}

/// A login by IMAP is answered so, and one by POP3.
#[track_caller]
pub fn logins_hear(proxy: &Proxy, imap: &str, pop3: &str) {
    let answer = imap_login(proxy);
    assert!(answer.starts_with(imap), "{answer}");
    let answer = pop3_login(proxy);
    assert!(answer.starts_with(pop3), "{answer}");
}

/// Puts a message there, and lets the device fetch it by IMAP and by POP3, which deletes it.
pub fn fetch_both(exchange: &Exchange, proxy: &Proxy, mailbox: &str, login: &str) {
    let message = crate::message(2000);
    assert!(exchange.simulator.deliver(mailbox, message.clone()));
    let mut device = imap(proxy);
    device.login(login, PASSWORD);
    device.ok("SELECT INBOX");
    assert!(device.fetch(1) == message, "IMAP");
    device.ok("LOGOUT");
    pop3(proxy).session(login, PASSWORD, &[&message]);
    assert_eq!(exchange.simulator.messages(mailbox), 0);
}
