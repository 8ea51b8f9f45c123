//! This file runs a translated session through packetboat and email-oauth2-proxy, in turns, against the same simulator.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use packetboat::device::password;
use packetboat::simulator::{Setup, Simulator, Tenant, User};
use packetboat::state::{self, Access};
use tokio::runtime::Runtime;

use crate::bench::cost::{self, Cost};
use crate::bench::figures::Figures;
use crate::certificates::Certificates;
use crate::free_ports;
use crate::imap::Imap;
use crate::process::Process;
use crate::proxy::{Proxy, translating_listener};
use crate::stacks::{Stack, Start, Version};

/// CPU time of a session in milliseconds: packetboat's, email-oauth2-proxy's, and that without its key derivation.
pub fn measure() -> Option<[Figures; 3]> {
    let Some(python) = python() else {
        println!("email-oauth2-proxy is not measured: make bench-login installs it, and says where it is");
        return None;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let runtime = Runtime::new().unwrap();
    let simulator = runtime.block_on(simulator(path));
    let certificates = Certificates::for_name("localhost", 30);
    certificates.write(path);
    let packetboat = Proxy::start(&configuration(&simulator, path));
    let token_url = format!("https://127.0.0.1:{}/{TENANT}/oauth2/v2.0/token", simulator.endpoint().port());
    let task = Task {
        protocol: "IMAP",
        server: ("127.0.0.1", simulator.imap().port()),
        mailbox: MAILBOX,
        token_url: &token_url,
        client_id: CLIENT,
        client_secret: SECRET,
        roots: &simulator.authority(),
    };
    let [other, without_key] = [PROGRAM, PROGRAM_WITHOUT_KEY].map(|script| start(&python, script, path, &task));
    let ways = [
        ("packetboat", packetboat.address("imap"), Cost::of(&packetboat.process)),
        ("email-oauth2-proxy", other.1, Cost::of(&other.0)),
        ("the same without key derivation", without_key.1, Cost::of(&without_key.0)),
    ];

    println!("CPU of the proxy per session (TLS 1.2 {SUITE}: LOGIN, SELECT, FETCH of {SIZE} octets, LOGOUT), in ms");
    println!("median (quartiles) of {ROUNDS} rounds of {SESSIONS} sessions each, in turns\n");
    // The token is fetched before the first measurement.
    ways.iter().for_each(|(_, address, _)| session(*address));
    let mut figures = [(); 3].map(|()| Figures::default());
    for _ in 0..ROUNDS {
        for ((_, address, cost), figures) in ways.iter().zip(&mut figures) {
            let before = cost.cpu();
            (0..SESSIONS).for_each(|_| session(*address));
            figures.0.push((cost.cpu() - before).as_secs_f64() * 1e3 / SESSIONS as f64);
        }
    }
    let counts = simulator.counts();
    assert_eq!(counts.fetched, (ways.len() * (ROUNDS * SESSIONS + 1)) as u64);
    assert_eq!(counts.tokens_issued, ways.len() as u64, "each keeps its token");
    for ((name, _, cost), of_it) in ways.iter().zip(&figures) {
        let (now, most) = cost.memory();
        let times = of_it.median() / figures[0].median();
        println!("{name:32} {of_it:.2}, {times:.1} times packetboat's   RSS {now:.1} MiB, at most {most:.1} MiB");
    }
    println!("\nthe first session: {}", packetboat.session_line("imap"));
    println!("{}\n", cost::resumed(&packetboat));
    Some(figures)
}

fn session(address: SocketAddr) {
    let stack = Stack::Openssl { version: Version::Tls1_2, ciphers: SUITE };
    let mut device = stack.connect(address, Start::Implicit);
    let greeting = device.line();
    assert!(greeting.starts_with("* OK "), "{greeting}");
    let mut imap = Imap::over(device);
    imap.login(MAILBOX, PASSWORD);
    imap.ok("SELECT INBOX");
    assert_eq!(imap.fetch(1).len(), SIZE);
    imap.ok("LOGOUT");
    assert!(imap.device.has_ended());
}

async fn simulator(directory: &Path) -> Simulator {
    let mut tenant = Tenant::new(TENANT, CLIENT);
    tenant.public_client = false;
    tenant.client_secret = Some(SECRET.to_owned());
    tenant.users = vec![User::new(MAILBOX, "nobody knows it")];
    tenant.app_mailboxes = vec![MAILBOX.to_owned()];
    let simulator = Simulator::start(Setup { directory: directory.join("exchange"), tenant }).await.unwrap();
    let mut message = b"From: scanner@contoso.example\r\nSubject: Scan\r\n\r\n".to_vec();
    message.resize(SIZE - 2, b'x');
    message.extend_from_slice(b"\r\n");
    assert!(simulator.deliver(MAILBOX, message));
    simulator
}

fn configuration(simulator: &Simulator, directory: &Path) -> String {
    let (roots, secret) = (simulator.authority(), directory.join("client-secret"));
    state::write(&secret, SECRET.as_bytes(), Access::Private).unwrap();
    let hash = password::hash(PASSWORD.as_bytes()).unwrap();
    let (imap, pop3, endpoint) = (simulator.imap().port(), simulator.pop3().port(), simulator.endpoint().port());
    let (chain, key) = (directory.join("server.pem"), directory.join("server.key"));
    format!(
        "[certificate.default]\nchain = {chain:?}\nkey = {key:?}\n\
         [identity.office]\ntenant = \"{TENANT}\"\nclient_id = \"{CLIENT}\"\nclient_secret_file = {secret:?}\n\
         authority = \"https://127.0.0.1:{endpoint}\"\nroots = {roots:?}\n\
         [upstream.exchange]\nhost = \"127.0.0.1\"\nimap_port = {imap}\npop3_port = {pop3}\nroots = {roots:?}\n\
         [account.scans]\nmailbox = \"{MAILBOX}\"\nupstream = \"exchange\"\n\
         [[device]]\nlogin = \"{MAILBOX}\"\npasswords = [\"{hash}\"]\n{}",
        translating_listener("imap", "imap", "implicit", "")
    )
}

/// The server, the mailbox and the application of an email-oauth2-proxy.
pub struct Task<'a> {
    /// The protocol, in capitals.
    pub protocol: &'a str,
    pub server: (&'a str, u16),
    pub mailbox: &'a str,
    pub token_url: &'a str,
    pub client_id: &'a str,
    pub client_secret: &'a str,
    /// The authorities that it trusts, for the server and the token endpoint.
    pub roots: &'a Path,
}

/// The Python that has it, where `make` has installed it.
pub fn python() -> Option<PathBuf> {
    std::env::var_os("EMAILPROXY_PYTHON").map(PathBuf::from)
}

/// Starts email-oauth2-proxy without its window, by one of the scripts below. `server.pem` and `server.key` lie in the
/// directory.
pub fn start(python: &Path, script: &str, directory: &Path, task: &Task<'_>) -> (Process, SocketAddr) {
    let [port] = free_ports();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let path = directory.join(format!("emailproxy-{port}"));
    fs::create_dir(&path).unwrap();
    let &Task { protocol, server: (host, server), mailbox, token_url, client_id, client_secret, roots } = task;
    let at = directory.display();
    let text = format!(
        "[{protocol}-{port}]\nlocal_address = 127.0.0.1\nserver_address = {host}\nserver_port = {server}\n\
         local_certificate_path = {at}/server.pem\nlocal_key_path = {at}/server.key\n\
         [{mailbox}]\ntoken_url = {token_url}\noauth2_flow = client_credentials\n\
         oauth2_scope = https://outlook.office365.com/.default\nclient_id = {client_id}\n\
         client_secret = {client_secret}\n"
    );
    fs::write(path.join("config"), text).unwrap();
    let mut command = Command::new(python);
    command.args(["-c", script, "--no-gui"]);
    for (option, file) in [("--config-file", "config"), ("--cache-store", "cache"), ("--log-file", "log")] {
        command.arg(option).arg(path.join(file));
    }
    command.env("SSL_CERT_FILE", roots).stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = Process::start(&mut command);
    process.until_open(&[address], || "email-oauth2-proxy says nothing".to_owned());
    (process, address)
}

/// A script that starts email-oauth2-proxy as its own program does.
pub const PROGRAM: &str = "import emailproxy; emailproxy.App()";
/// A script that removes the cost of the key derivation. At every login email-oauth2-proxy derives its token store's
/// key from the device's password by PBKDF2. It does so once for its present count of iterations and once for its
/// oldest; here both are one.
pub const PROGRAM_WITHOUT_KEY: &str = "import emailproxy
emailproxy.Cryptographer.ITERATIONS = emailproxy.Cryptographer.LEGACY_ITERATIONS = 1
emailproxy.App()";
const TENANT: &str = "contoso.example";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const SECRET: &str = "the-bench-has-no-secrets";
const MAILBOX: &str = "scan@contoso.example";
const PASSWORD: &str = "k7m2xp9at";
/// The cipher suite that both proxies use at TLS 1.2.
const SUITE: &str = "ECDHE-RSA-AES128-GCM-SHA256";
/// The size of the message, in octets.
const SIZE: usize = 10 * 1024;
const ROUNDS: usize = 20;
const SESSIONS: usize = 10;
