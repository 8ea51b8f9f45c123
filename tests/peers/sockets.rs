//! These tests prove that handed-over sockets work for one address family or both, for listeners and for the page.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};

use support::exchange::mode;
use support::free_ports;
use support::imap::Imap;
use support::process::{Lines, Process};
use support::proxy::Proxy;
use support::stacks::{Start, TLS_1_0};

/// Forms of a socket: `ListenStream=993`, `ListenStream=[::]:993` with `BindIPv6Only=ipv6-only`, and IPv4.
const BOTH: (&str, bool) = ("[::]", false);
const V6: (&str, bool) = ("[::]", true);
const V4: (&str, bool) = ("0.0.0.0", false);

fn socket((host, only_v6): (&str, bool), port: u16) -> Stdio {
    let address: SocketAddr = format!("{host}:{port}").parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(only_v6).unwrap();
    }
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(64).unwrap();
    Stdio::from(OwnedFd::from(TcpListener::from(socket)))
}

/// Starts the proxy with up to two sockets, which a shell hands over as a service manager does (sd_listen_fds(3)).
fn start(configuration: &str, sockets: &[(&str, bool)], port: u16) -> (Process, Lines, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "a-token-of-enough-length").unwrap();
    mode(&token, 0o600);
    let state = directory.path().join("state");
    let configuration = configuration.replace("TOKEN", &format!("token_file = {token:?}"));
    let text = format!("state_directory = {state:?}\n{configuration}").replace("PORT", &port.to_string());
    std::fs::write(directory.path().join("packetboat.toml"), text).unwrap();
    let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_packetboat"), "run", "--config"]);
    command.arg(directory.path().join("packetboat.toml")).env("LISTEN_FDS", sockets.len().to_string());
    let mut standard = sockets.iter().map(|one| socket(*one, port));
    command.stdin(standard.next().unwrap_or_else(Stdio::null)).stdout(standard.next().unwrap_or_else(Stdio::null));
    let (process, log) = Process::logged(&mut command);
    log.wait_for("line that it is ready, or why not", |line| line.ends_with("INFO ready") || line.contains(" ERROR "));
    (process, log, directory)
}

fn listener(name: &str, listen: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nprotocol = \"imap\"\nlisten = [{listen}]\nentry = \"implicit\"\nobserve = true\n"
    )
}

const NO_PAGE: &str = "[admin]\nlisten = []\n";

/// The proxy uses a socket that serves a listener's address, and binds the other addresses itself.
#[test]
fn a_socket_serves_its_listener() {
    for (sockets, listen, reached, unclaimed) in [
        (&[BOTH][..], "\"0.0.0.0:PORT\"", &["127.0.0.1"][..], None),
        (&[BOTH], "\"[::]:PORT\"", &["127.0.0.1", "[::1]"], None),
        (&[BOTH], "\"0.0.0.0:PORT\", \"[::]:PORT\"", &["127.0.0.1", "[::1]"], None),
        (&[V6, V4], "\"0.0.0.0:PORT\", \"[::]:PORT\"", &["127.0.0.1", "[::1]"], None),
        (&[V4, V6], "\"0.0.0.0:PORT\"", &["127.0.0.1"], Some("[::]")),
        (&[V6], "\"0.0.0.0:PORT\"", &["127.0.0.1"], Some("[::]")),
        (&[V4], "\"[::]:PORT\"", &["[::1]"], Some("0.0.0.0")),
    ] {
        let [port] = free_ports();
        let (_process, log, _directory) = start(&(NO_PAGE.to_owned() + &listener("a", listen)), sockets, port);
        for host in reached {
            let address = format!("{host}:{port}").parse().unwrap();
            let mut device = Imap::greeted(TLS_1_0.connect(address, Start::Implicit));
            device.ok("NOOP");
        }
        let words = unclaimed.map(|host| format!("{host}:{port} was handed over by the service manager, and no"));
        let is_told = |line: &str| words.as_ref().is_some_and(|words| line.contains(words.as_str()));
        assert_eq!(log.count(is_told), usize::from(words.is_some()), "{}", log.all());
        assert_eq!(
            log.count(|line| line.contains("no listener has it")),
            usize::from(words.is_some()),
            "{}",
            log.all()
        );
    }
}

/// For an unusable socket, the message has a line for the configuration and one for the unit. It never blames
/// packetboat itself.
#[test]
fn a_socket_for_another_address_is_reported() {
    let both = "has handed over [::]:PORT (IPv6 and IPv4) for this port: write that address here, or have its socket unit say \
                ListenStream=127.0.0.1:PORT and BindIPv6Only=ipv6-only";
    let shared = "[::]:PORT was handed over by the service manager for IPv6 and IPv4, and listener b has it: have its socket unit \
                  say BindIPv6Only=ipv6-only, and ListenStream=0.0.0.0:PORT beside ListenStream=[::]:PORT";
    let pair = |first: &str, second: &str| NO_PAGE.to_owned() + &listener("a", first) + &listener("b", second);
    for (sockets, configuration, words) in [
        (&[BOTH][..], NO_PAGE.to_owned() + &listener("a", "\"127.0.0.1:PORT\""), both),
        (
            &[V4],
            NO_PAGE.to_owned() + &listener("a", "\"127.0.0.1:PORT\""),
            "has handed over 0.0.0.0:PORT for this port",
        ),
        (&[BOTH], pair("\"0.0.0.0:PORT\"", "\"[::]:PORT\""), shared),
        (
            &[V4],
            format!("[admin]\nlisten = [\"127.0.0.1:PORT\"]\n{}", listener("a", "\"127.0.0.1:0\"")),
            "has handed over 0.0.0.0:PORT for this port",
        ),
    ] {
        let [port] = free_ports();
        let (mut process, log, _directory) = start(&configuration, sockets, port);
        assert_eq!(process.wait().code(), Some(69));
        let said = log.to_the_end();
        assert!(said.contains(&words.replace("PORT", &port.to_string())), "{words}: {said}");
        assert!(!said.contains("in use by packetboat"), "{said}");
    }
}

/// The page uses a socket as listeners do.
#[test]
fn the_page_on_a_socket_that_was_handed_over() {
    for (one, listen, host) in [
        (("127.0.0.1", false), "\"127.0.0.1:PORT\"", "127.0.0.1"),
        (BOTH, "\"0.0.0.0:PORT\"", "127.0.0.1"),
        (BOTH, "\"[::]:PORT\"", "[::1]"),
    ] {
        let [port] = free_ports();
        let more = listener("a", "\"127.0.0.1:0\"");
        let configuration = format!("[admin]\nlisten = [{listen}]\nTOKEN\n{more}");
        let (_process, log, _directory) = start(&configuration, &[one], port);
        assert_eq!(log.count(|line| line.contains("no listener has it")), 0, "{}", log.all());
        let url = format!("http://{host}:{port}/live");
        let output = Command::new("curl").args(["-sS", "--max-time", "30", "--noproxy", "*", &url]).output().unwrap();
        assert!(output.status.success() && output.stdout.starts_with(b"alive"), "{}", log.all());
        TcpStream::connect((host.trim_matches(['[', ']']), port)).unwrap();
    }
}

/// One reload gives the page's port to a listener; it is refused, and the message says why.
#[test]
fn a_port_that_packetboat_has_itself() {
    let [port, other] = free_ports();
    let page = |port: u16| format!("[admin]\nlisten = [\"127.0.0.1:{port}\"]\n");
    let proxy = Proxy::start(&(page(port) + &listener("a", "\"127.0.0.1:0\"")));
    proxy.configure(&(page(other) + &listener("a", &format!("\"127.0.0.1:{port}\""))));
    let (code, said) = proxy.reload();
    assert!(code == 69 && said.contains("packetboat itself uses the port for another purpose"), "{said}");
}
