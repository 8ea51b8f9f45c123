//! This file configures each proxy of the bench for the same work: TLS 1.0 in, verified TLS out, sessions resumed.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::tree::Tree;
use support::bench::packetboat;
use support::bench::upstream::MANNERS;
use support::process::Process;
use support::{free_ports, proxy};

/// A proxy that runs.
pub struct Proxy {
    pub name: &'static str,
    /// The version that the program itself prints.
    pub version: String,
    process: Process,
    /// A second program that the first one needs.
    beside: Option<Process>,
    /// An address for each of the upstream's manners.
    pub addresses: [SocketAddr; MANNERS.len()],
    /// File descriptors that the proxy needs for a connection.
    pub descriptors: usize,
}

/// Settings that all proxies start with.
pub struct Setting<'a> {
    /// A directory that has `ca.pem`, `server.pem` and `server.key`, and takes the files that the proxies write.
    pub directory: &'a Path,
    pub upstream: [u16; MANNERS.len()],
    /// Concurrent connections.
    pub connections: usize,
}

/// Starts a proxy; `None` where its program is not installed.
pub type Start = fn(&Setting<'_>) -> Option<Proxy>;

/// All proxies, in the order of the table.
pub const ALL: [(&str, Start); 4] = [("packetboat", own), ("nginx", nginx), ("haproxy", haproxy), ("stunnel", stunnel)];

impl Proxy {
    pub fn tree(&self) -> Tree {
        let tree = Tree::of(self.process.0.id());
        match &self.beside {
            Some(beside) => tree.with(Tree::of(beside.0.id())),
            None => tree,
        }
    }

    /// A program with one address, perhaps behind another one.
    pub fn of(name: &'static str, process: Process, address: SocketAddr, beside: Option<Process>) -> Self {
        Self { name, version: String::new(), process, beside, addresses: [address; MANNERS.len()], descriptors: 2 }
    }

    fn start(
        name: &'static str,
        version: String,
        setting: &Setting<'_>,
        command: Command,
        ports: [u16; MANNERS.len()],
    ) -> Self {
        let (process, addresses) = packetboat::start_beside(command, setting.directory, name, ports);
        let descriptors = if name == "stunnel" { 4 } else { 2 };
        Self { name, version, process, beside: None, addresses, descriptors }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // A killed nginx leaves its workers behind, so nginx is asked to end.
        let _ = Command::new("kill").arg(self.process.0.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The program under test: this bench's own profile, or another one of the same commands.
pub fn program() -> String {
    std::env::var("PACKETBOAT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_packetboat").to_owned())
}

/// The program of this bench's own profile, as it comes, with a listener for each manner.
fn own(setting: &Setting<'_>) -> Option<Proxy> {
    let Setting { directory, upstream, connections } = setting;
    let ports = free_ports();
    // Another one may run beside it.
    let mut text = packetboat::beginning(directory, &format!("state-{}", ports[0]));
    text += &format!(
        "[limits]\nconnections = {connections}\nconnections_per_source = {connections}\n\
         handshakes_per_minute = 1000000\nhandshakes_per_minute_of_source = 1000000\n"
    );
    for (number, ((port, server), manner)) in ports.iter().zip(upstream).zip(MANNERS).enumerate() {
        let name = format!("u{number}");
        text += &match manner.protocol {
            "smtp" => submission(&name, *server, directory),
            _ => proxy::upstream(&name, [*server; 2], directory, ""),
        };
        let listener = proxy::listener(&name, manner.protocol, "implicit", &format!("upstream = \"{name}\""));
        text += &packetboat::at(*port, &listener);
    }
    let file = directory.join("packetboat.toml");
    fs::write(&file, text).unwrap();
    let program = program();
    let mut command = Command::new(&program);
    command.args(["run", "--config"]).env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0").arg(file);
    Some(Proxy::start("packetboat", first_line(&program, "--version")?, setting, command, ports))
}

/// `[upstream.NAME]` for submission alone, with TLS from the start.
pub fn submission(name: &str, port: u16, directory: &Path) -> String {
    let roots = directory.join("ca.pem");
    format!(
        "[upstream.{name}]\nroots = {roots:?}\n[upstream.{name}.smtp]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\n\
         port = {port}\nsecurity = \"implicit\"\n"
    )
}

fn nginx(setting: &Setting<'_>) -> Option<Proxy> {
    let Setting { directory, upstream, connections } = setting;
    let ports = free_ports();
    let at = directory.display();
    let mut servers = String::new();
    for ((port, server), manner) in ports.iter().zip(upstream).zip(MANNERS) {
        servers += &format!(
            "server {{ listen 127.0.0.1:{port} ssl backlog=4096; proxy_pass 127.0.0.1:{server}; proxy_ssl_protocols TLSv{}; }}\n",
            manner.tls
        );
    }
    let text = format!(
        "daemon off; user root; pid {at}/nginx.pid; error_log stderr crit; worker_processes 2;\n\
         load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         events {{ worker_connections {}; }}\n\
         stream {{\n tcp_nodelay on; proxy_timeout 1h;\n\
         ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key; ssl_protocols TLSv1;\n\
         ssl_ciphers {SUITES}@SECLEVEL=0; ssl_prefer_server_ciphers on;\n\
         ssl_session_cache shared:devices:20m; ssl_session_timeout 1h;\n\
         proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {at}/ca.pem; proxy_ssl_name localhost;\n\
         proxy_ssl_server_name on; proxy_ssl_session_reuse on;\n{servers}}}\n",
        2 * connections + 100
    );
    let file = directory.join("nginx.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(file);
    Some(Proxy::start("nginx", first_line("/usr/sbin/nginx", "-v")?, setting, command, ports))
}

fn haproxy(setting: &Setting<'_>) -> Option<Proxy> {
    let Setting { directory, upstream, connections } = setting;
    let ports = free_ports();
    let at = directory.display();
    let (chain, key) =
        (fs::read(directory.join("server.pem")).unwrap(), fs::read(directory.join("server.key")).unwrap());
    fs::write(directory.join("haproxy.pem"), [chain, key].concat()).unwrap();
    let mut text = format!(
        "global\n maxconn {connections}\n nbthread 2\n tune.ssl.cachesize 100000\n ssl-default-bind-options ssl-min-ver TLSv1.0 ssl-max-ver TLSv1.0\n\
         defaults\n mode tcp\n timeout connect 10s\n timeout client 1h\n timeout server 1h\n"
    );
    for (number, ((port, server), manner)) in ports.iter().zip(upstream).zip(MANNERS).enumerate() {
        text += &format!(
            "listen l{number}\n bind 127.0.0.1:{port} ssl crt {at}/haproxy.pem ciphers {SUITES}@SECLEVEL=0\n\
             \x20server s 127.0.0.1:{server} ssl verify required ca-file {at}/ca.pem sni str(localhost) verifyhost localhost \
             ssl-min-ver TLSv{tls} ssl-max-ver TLSv{tls}\n",
            tls = manner.tls
        );
    }
    let file = directory.join("haproxy.cfg");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(file);
    Some(Proxy::start("haproxy", first_line("/usr/sbin/haproxy", "-v")?, setting, command, ports))
}

/// Starts stunnel. One service of stunnel has TLS on one side only, so two services are chained, as is usual.
fn stunnel(setting: &Setting<'_>) -> Option<Proxy> {
    let Setting { directory, upstream, .. } = setting;
    let (ports, between) = (free_ports(), free_ports::<{ MANNERS.len() }>());
    let at = directory.display();
    let mut text = String::from(
        "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n",
    );
    for (number, (((port, between), server), manner)) in
        ports.iter().zip(between).zip(upstream).zip(MANNERS).enumerate()
    {
        text += &format!(
            "[device{number}]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{between}\ncert = {at}/server.pem\nkey = {at}/server.key\n\
             sslVersionMin = TLSv1\nsslVersionMax = TLSv1\nciphers = {SUITES}@SECLEVEL=0\nsecurityLevel = 0\noptions = CIPHER_SERVER_PREFERENCE\n\
             sessionCacheSize = 20000\nTIMEOUTidle = 3600\n\
             [server{number}]\nclient = yes\naccept = 127.0.0.1:{between}\nconnect = 127.0.0.1:{server}\nCAfile = {at}/ca.pem\n\
             verifyChain = yes\ncheckHost = localhost\nsni = localhost\nsslVersionMin = TLSv{tls}\nsslVersionMax = TLSv{tls}\nTIMEOUTidle = 3600\n",
            tls = manner.tls
        );
    }
    let file = directory.join("stunnel.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(STUNNEL);
    command.arg(file);
    let version = first_line(STUNNEL, "-version")?;
    Some(Proxy::start("stunnel", version.split(" on ").next()?.to_owned(), setting, command, ports))
}

/// stunnel for the devices' side alone: TLS 1.0 at the first port, and no TLS to the second.
pub fn stunnel_in_front(directory: &Path, path: &Path, [port, behind]: [u16; 2]) -> Option<(Process, SocketAddr)> {
    let at = directory.display();
    let text = format!(
        "foreground = yes\npid =\nsyslog = no\ndebug = err\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n\
         [device]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{behind}\ncert = {at}/server.pem\nkey = {at}/server.key\n\
         sslVersionMin = TLSv1\nsslVersionMax = TLSv1\nciphers = {SUITES}@SECLEVEL=0\nsecurityLevel = 0\n\
         options = CIPHER_SERVER_PREFERENCE\nsessionCacheSize = 20000\nTIMEOUTidle = 3600\n"
    );
    first_line(STUNNEL, "-version")?;
    let file = path.join("stunnel-in-front.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(STUNNEL);
    command.arg(file);
    let (process, [address]) = packetboat::start_beside(command, path, "stunnel-in-front", [port]);
    Some((process, address))
}

/// The first line of a program's output, its version; `None` where the program is not installed.
pub fn first_line(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().find(|line| line.chars().any(|letter| letter.is_ascii_digit()))?;
    Some(line.trim_start_matches("nginx version: ").split(" 20").next()?.replace('/', " "))
}

/// The largest number of files that a process may open on this machine.
pub fn most_descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap_or(1_000_000)
}

const STUNNEL: &str = "/usr/bin/stunnel4";
/// Cipher suites of the measures; the device offers one of them.
const SUITES: &str = "ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA";
