//! The proxies of the bench, each configured for the same work: TLS 1.0 in, verified TLS out, sessions resumed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tree::Tree;
use support::bench::upstream::MANNERS;

/// A proxy that runs.
pub struct Proxy {
    pub name: &'static str,
    /// As it says itself.
    pub version: String,
    process: Child,
    /// An address for each of the upstream's manners.
    pub addresses: [SocketAddr; MANNERS.len()],
    /// That it needs for a connection.
    pub descriptors: usize,
}

/// What all are started with.
pub struct Setting<'a> {
    /// `ca.pem`, `server.pem` and `server.key` are in it, and what is written goes there.
    pub directory: &'a Path,
    pub upstream: [u16; MANNERS.len()],
    /// Connections at a time.
    pub connections: usize,
}

type Start = fn(&Setting<'_>) -> Option<Proxy>;

/// All of them, in the order of the table.
pub const ALL: [(&str, Start); 4] =
    [("packetboat", packetboat), ("nginx", nginx), ("haproxy", haproxy), ("stunnel", stunnel)];

impl Proxy {
    pub fn tree(&self) -> Tree {
        Tree::of(self.process.id())
    }

    fn start(
        name: &'static str,
        version: String,
        setting: &Setting<'_>,
        command: &mut Command,
        ports: [u16; MANNERS.len()],
    ) -> Self {
        let path = setting.directory.join(format!("{name}.log"));
        let log = fs::File::create(&path).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let descriptors = if name == "stunnel" { 4 } else { 2 };
        let mut proxy = Self { name, version, process, addresses, descriptors };
        let deadline = Instant::now() + Duration::from_secs(20);
        while addresses.iter().any(|address| TcpStream::connect(address).is_err()) {
            let runs = proxy.process.try_wait().unwrap().is_none();
            let said = || fs::read_to_string(&path).unwrap();
            assert!(runs && Instant::now() < deadline, "{name} does not start: {}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx ends its workers only where it is asked to.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(3);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program of this bench's own profile, as it comes, with a listener for each manner.
fn packetboat(setting: &Setting<'_>) -> Option<Proxy> {
    let Setting { directory, upstream, connections } = setting;
    let ports = free_ports();
    let path = |name: &str| directory.join(name);
    let mut text = format!(
        "state_directory = {:?}\n[limits]\nconnections = {connections}\nconnections_per_source = {connections}\n\
         [certificate.default]\nchain = {:?}\nkey = {:?}\n",
        path("state"),
        path("server.pem"),
        path("server.key")
    );
    for (number, (port, server)) in ports.iter().zip(upstream).enumerate() {
        text += &format!(
            "[upstream.u{number}]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nroots = {:?}\nimap_port = {server}\n\
             [[listener]]\nname = \"l{number}\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:{port}\"]\n\
             entry = \"implicit\"\nlogins = \"pass-through\"\nupstream = \"u{number}\"\n",
            path("ca.pem"),
        );
    }
    let file = path("packetboat.toml");
    fs::write(&file, text).unwrap();
    let program = std::env::var("PACKETBOAT").unwrap_or_else(|_| env!("CARGO_BIN_EXE_packetboat").to_owned());
    let mut command = Command::new(&program);
    command.args(["run", "--config"]).env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0").arg(file);
    Some(Proxy::start("packetboat", first_line(&program, "--version")?, setting, &mut command, ports))
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
    Some(Proxy::start("nginx", first_line("/usr/sbin/nginx", "-v")?, setting, &mut command, ports))
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
    Some(Proxy::start("haproxy", first_line("/usr/sbin/haproxy", "-v")?, setting, &mut command, ports))
}

/// It has TLS on one side of a service only, so that two of its services are chained: that is how it is done.
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
    let mut command = Command::new("/usr/bin/stunnel4");
    command.arg(file);
    let version = first_line("/usr/bin/stunnel4", "-version")?;
    Some(Proxy::start("stunnel", version.split(" on ").next()?.to_owned(), setting, &mut command, ports))
}

/// What a program says of itself; none where it is not installed.
fn first_line(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(program).arg(flag).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let line = said.lines().find(|line| line.chars().any(|letter| letter.is_ascii_digit()))?;
    Some(line.trim_start_matches("nginx version: ").split(" 20").next()?.replace('/', " "))
}

/// Files that a process may have open here.
pub fn most_descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap_or(1_000_000)
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Those of the measures; the device offers one of them.
const SUITES: &str = "ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA";
