//! These tests prove that both sides soon learn when a NAT or firewall has forgotten a connection in the middle of
//! traffic.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::SslVersion;

use support::certificates::Certificates;
use support::imap::{Imap, status};
use support::issuer::Issuer;
use support::network::{HERE, Network, THERE};
use support::proxy::{Proxy, translating_listener};
use support::server;
use support::stacks::{Start, TLS_1_0};
use support::translated::{DEVICE_PASSWORD, account, device};

/// A time far below the kernel's own (tcp_retries2: a quarter of an hour), and far above `keep_alive` with its probes.
const BOUND: Duration = Duration::from_secs(30);

/// Starts a proxy with one session per mailbox, and a mail server at this address. A message to the sender makes the
/// server send.
fn proxy(issuer: &Issuer, address: &str, start: impl FnOnce(Server) -> u16) -> (Proxy, Sender<()>) {
    let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
    let (speak, told) = channel();
    let told = Arc::new(Mutex::new(told));
    let port = start(Box::new(move || {
        server::tls_at("0.0.0.0:0", &certificates, SslVersion::TLS1_3, move |mut stream| {
            let told = Arc::clone(&told);
            std::thread::spawn(move || {
                let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n");
                loop {
                    let line = server::hear(&mut stream);
                    let Some((tag, _)) = line.split_once(' ') else { return };
                    if line.contains("IDLE") {
                        let _ = stream.write_all(b"+ idling\r\n");
                        told.lock().unwrap().recv().unwrap();
                        let _ = stream.write_all(b"* 1 EXISTS\r\n");
                    } else {
                        let _ = stream.write_all(format!("{tag} OK done\r\n").as_bytes());
                    }
                }
            });
        })
    }));
    let configuration = format!(
        "[limits]\nkeep_alive = \"1h\"\nsessions_per_mailbox = 1\nmailbox_queue = \"5s\"\n\
         [upstream.x]\nhost = \"{address}\"\nserver_name = \"localhost\"\nimap_port = {port}\nroots = {:?}\n{}{}{}",
        directory.path().join("ca.pem"),
        translating_listener("imap", "imap", "implicit", "").replace("127.0.0.1", HERE),
        device("scanner", "scans", DEVICE_PASSWORD, ""),
        account("scans", "scan@contoso.example", "x", issuer),
    );
    // A reload's setting applies to later connections, on both sides.
    let proxy = Proxy::start(&configuration);
    proxy.configure(&configuration.replace("\"1h\"", "\"4s\""));
    assert_eq!(proxy.reload().0, 0);
    (proxy, speak)
}

type Server = Box<dyn FnOnce() -> u16 + Send>;

fn connect(address: SocketAddr) -> Imap {
    Imap::greeted(TLS_1_0.connect(address, Start::Implicit))
}

#[test]
fn a_forgotten_flow_to_the_server_ends_the_session_and_gives_its_place_back() {
    let network = Network::new();
    let issuer = Issuer::start();
    let (proxy, _speak) = proxy(&issuer, THERE, |server| network.there(server));
    let mut imap = connect(proxy.address("imap"));
    imap.login("scanner", DEVICE_PASSWORD);
    imap.ok("NOOP");
    network.forget();
    let since = Instant::now();
    imap.device.send("x NOOP\r\n");
    let said = imap.device.line();
    assert!(said.starts_with("* BYE "), "{said}");
    assert!(imap.device.has_ended() && since.elapsed() < BOUND, "{:?}", since.elapsed());
    let line = proxy.session_line("imap");
    assert_eq!(line["reason"], "upstream_lost", "{line}");
    network.remember();
    connect(proxy.address("imap")).login("scanner", DEVICE_PASSWORD);
}

#[test]
fn a_forgotten_flow_to_the_device_ends_the_session_and_gives_its_place_back() {
    let network = Network::new();
    let issuer = Issuer::start();
    let (proxy, speak) = proxy(&issuer, "127.0.0.1", |server| server());
    let address = proxy.address("imap");
    let mut imap = network.there(|| connect(address));
    imap.login("scanner", DEVICE_PASSWORD);
    imap.device.send("x IDLE\r\n");
    assert_eq!(imap.device.line(), "+ idling");
    // The mailbox's one session is taken.
    let refused = connect(address).command(&format!("LOGIN scanner {DEVICE_PASSWORD}"));
    assert!(status(&refused).starts_with("NO "), "{refused:?}");
    network.forget();
    let since = Instant::now();
    speak.send(()).unwrap();
    proxy.log.wait_for("session line", |line| line.contains("session ended") && line.contains("\"device_lost\""));
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
    connect(address).login("scanner", DEVICE_PASSWORD);
}
