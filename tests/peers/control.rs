//! These tests prove that strangers who read the page delay neither the operator's commands nor the service manager's
//! watchdog.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openssl::ssl::{Ssl, SslContext, SslMethod};
use serde_json::json;

use support::connection::Socket;
use support::device::tcp_from;
use support::exchange::*;
use support::free_ports;
use support::process::{Process, copy_program};
use support::proxy::Proxy;
use support::strain::{directory_of, until};

const OBSERVE: &str =
    "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nobserve = true\n";
const NOBODY: u32 = 65534;

/// The first line of the answer; empty if the connection was ended.
fn asked(mut stream: Socket, path: &str) -> String {
    let mut answer = String::new();
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_string(&mut answer);
    answer.lines().next().unwrap_or_default().to_owned()
}

fn run(configuration: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    Ran::of(command.args(arguments).arg("--config").arg(configuration).output().unwrap())
}

/// Writes an inventory of `count` devices of 3 KB each, like that of an earlier run.
fn fill_inventory(state: &Path, count: usize) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let devices: Vec<_> = (0..count)
        .map(|number| {
            json!({
                "source": format!("10.0.{}.{}", number / 250, number % 250), "protocol": "IMAP", "listener": "imap",
                "offers": "x".repeat(2500), "logins": [format!("scanner{number}")], "sessions": 1, "failures": 0,
                "first_seen": now, "last_seen": now, "fingerprint": format!("t10i{number}"), "entry": "implicit",
                "verdict": { "kind": "needs", "text": "needs packetboat: TLS 1.0 only" },
            })
        })
        .collect();
    fs::write(state.join("inventory.json"), json!({ "devices": devices }).to_string()).unwrap();
}

/// A service manager, which receives the proxy's notifications.
struct Manager {
    directory: tempfile::TempDir,
    /// The times at which the proxy fed the watchdog.
    fed: Arc<Mutex<Vec<Instant>>>,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let fed = Arc::<Mutex<Vec<Instant>>>::default();
        let written = Arc::clone(&fed);
        std::thread::spawn(move || {
            let mut message = [0; 4096];
            while let Ok(count) = socket.recv(&mut message) {
                if String::from_utf8_lossy(&message[..count]).contains("WATCHDOG=1") {
                    written.lock().unwrap().push(Instant::now());
                }
            }
        });
        Self { directory, fed }
    }

    fn command(&self, watchdog: Duration) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command
    }

    fn count(&self) -> usize {
        self.fed.lock().unwrap().len()
    }

    fn longest_pause(&self) -> Duration {
        let fed = self.fed.lock().unwrap();
        fed.windows(2).map(|two| two[1] - two[0]).max().unwrap()
    }
}

/// Readers from every address of this computer fetch the whole inventory as fast as the network allows.
#[test]
fn readers_of_the_page_delay_neither_watchdog_nor_reload_nor_health() {
    let state = tempfile::tempdir().unwrap();
    fill_inventory(state.path(), 1000);
    let (manager, watchdog) = (Manager::new(), Duration::from_secs(16));
    let proxy = Proxy::start_by(manager.command(watchdog), Some(state.path()), "info", OBSERVE, None);
    let (address, ended, answered) = (proxy.admin(), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|readers| {
        let _until_the_end = Ending(&ended);
        for number in 0..64 {
            let (ended, answered) = (&ended, &answered);
            readers.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    read_inventory(tcp_from([127, 0, 0, 1 + number % 8], address), ended, answered);
                }
            });
        }
        until("answers to readers", || answered.load(Ordering::Relaxed) > 64);
        let begun = manager.count();
        until("watchdog", || manager.count() > begun + 2 || proxy.log.count(|line| line.contains("not fed")) > 0);
        let before = Instant::now();
        let healthy = run(&proxy.configuration(), &["health"]);
        let reloaded = proxy.reload();
        let took = before.elapsed();
        let devices = run(&proxy.configuration(), &["devices", "--csv"]);
        assert_eq!(healthy.code, 0, "{}", healthy.errors);
        assert_eq!(reloaded.0, 0, "{}", reloaded.1);
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(devices.output.lines().count(), 1001, "{}", devices.errors);
    });
    assert!(manager.longest_pause() < watchdog / 2, "{:?}", manager.longest_pause());
    let memory = proxy.process.figure("VmHWM:") / 1024;
    assert!(memory < 150, "{memory} MiB, with an inventory of 3 MiB");
}

/// Ends the readers, also where the test has failed.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends pipelined requests on one connection, and reads every answer until the connection ends.
fn read_inventory(mut stream: Socket, ended: &AtomicBool, answered: &AtomicUsize) {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    if stream.write_all("GET /inventory.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(400).as_bytes()).is_err() {
        return;
    }
    let mut octets = vec![0; 1 << 16];
    while !ended.load(Ordering::Relaxed) {
        match stream.read(&mut octets) {
            Ok(0) => return,
            Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

/// Silent connections take only the places of their own source, and only for a moment.
#[test]
fn one_source_of_readers_blinds_no_other() {
    let proxy = Proxy::start(OBSERVE);
    let begun = Instant::now();
    let mut silent: Vec<Socket> = (0..70).map(|_| tcp_from([127, 0, 0, 1], proxy.admin())).collect();
    let healthy = run(&proxy.configuration(), &["health"]);
    assert_eq!(healthy.code, 0, "{}", healthy.errors);
    assert_eq!(run(&proxy.configuration(), &["health", "--ready"]).code, 0);
    assert!(asked(tcp_from([127, 0, 0, 2], proxy.admin()), "/metrics").ends_with("200 OK"), "Prometheus");
    // 127.0.0.2 has been answered before, so it is served although strangers hold all places for strangers.
    silent.extend((0..200).map(|number| tcp_from([127, 0, 1, 1 + number % 100], proxy.admin())));
    assert!(asked(tcp_from([127, 0, 0, 2], proxy.admin()), "/metrics").ends_with("200 OK"));
    assert_eq!(asked(tcp_from([127, 0, 0, 3], proxy.admin()), "/live"), "", "who was never answered");
    assert_eq!(run(&proxy.configuration(), &["health"]).code, 0);
    for stream in &mut silent {
        assert!(!matches!(stream.read(&mut [0]), Ok(1)));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(asked(tcp_from([127, 0, 0, 1], proxy.admin()), "/live").ends_with("200 OK"));
}

/// An impostor on the page's port, once the proxy has gone. It answers with a terminal's commands, and records the
/// requests.
fn impostor(address: SocketAddr) -> Arc<Mutex<String>> {
    let listening = TcpListener::bind(address).unwrap();
    let heard = Arc::<Mutex<String>>::default();
    let written = Arc::clone(&heard);
    std::thread::spawn(move || {
        for mut stream in listening.incoming().flatten() {
            let mut octets = [0; 4096];
            let count = stream.read(&mut octets).unwrap_or_default();
            written.lock().unwrap().push_str(&String::from_utf8_lossy(&octets[..count]));
            let said = "alive \x1b]52;c;ZWNobw==\x07\n";
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
        }
    });
    heard
}

#[test]
fn the_admin_token_goes_to_nobody_who_has_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "a-token-of-enough-length\n").unwrap();
    mode(&token, 0o600);
    for signal in ["TERM", "KILL"] {
        let port = SocketAddr::from(([127, 0, 0, 1], free_ports::<1>()[0]));
        let mut proxy = Proxy::start(&format!("[admin]\nlisten = [\"{port}\"]\ntoken_file = {token:?}\n{OBSERVE}"));
        let ran = run(&proxy.configuration(), &["devices"]);
        assert_eq!((ran.code, ran.output.as_str()), (0, "no device has connected yet\n"), "{}", ran.errors);
        proxy.process.signal(signal);
        proxy.process.wait();
        let left = ["running", "control"].map(|name| proxy.state.join(name).exists());
        let heard = impostor(port);
        for arguments in
            [["devices"].as_slice(), &["health"], &["health", "--ready"], &["devices", "--json"], &["reload"]]
        {
            let ran = run(&proxy.configuration(), arguments);
            assert!(!format!("{}{}", ran.output, ran.errors).contains('\x1b'), "{arguments:?}: {}", ran.errors);
            assert!(!ran.output.contains("alive"), "{arguments:?}: {}", ran.output);
        }
        let heard = heard.lock().unwrap().clone();
        assert!(!heard.contains("a-token"), "{heard}");
        assert_eq!(left, [signal == "KILL"; 2], "{signal}");
        // The next proxy reports what the last one has left.
        let again = Proxy::start_with(Some(&proxy.state), "info", OBSERVE);
        assert_eq!(run(&again.configuration(), &["health"]).output, "alive\n");
        assert_eq!(again.reload().0, 0);
    }
}

/// The proxy refuses a state directory that every user may change, and ignores a file that another user has put there.
#[test]
fn another_user_in_the_state_directory() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let state = exchange.state();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let ran = run(&proxy.configuration(), &["check"]);
    let advice = format!("every user (mode 777); mend it with: chmod 700 {}", state.display());
    assert!(ran.code == 69 && ran.errors.contains(&advice), "{}", ran.errors);
    let second = exchange.run(&["run"], &exchange.configuration(BY_SECRET));
    assert!(second.code == 69 && second.errors.contains(&advice), "{}", second.errors);

    let port = SocketAddr::from(([127, 0, 0, 1], free_ports::<1>()[0]));
    let heard = impostor(port);
    fs::remove_file(state.join("control")).unwrap();
    let socket = UnixListener::bind(state.join("control")).unwrap();
    socket.set_nonblocking(true).unwrap();
    fs::write(state.join("running"), format!("{}\n{port}\n", proxy.process.0.id())).unwrap();
    for name in ["control", "running"] {
        chown(state.join(name), Some(NOBODY), None).unwrap();
    }
    for arguments in [["devices"].as_slice(), &["health"]] {
        let ran = run(&proxy.configuration(), arguments);
        assert!(!format!("{}{}", ran.output, ran.errors).contains('\x1b'), "{}", ran.errors);
    }
    assert!(socket.accept().is_err(), "asked at another user's socket");
    assert!(!heard.lock().unwrap().to_lowercase().contains("authorization"));
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Root and the service's user reach the socket, and no other user does, even where there is no page.
#[test]
fn the_socket_is_the_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (state, user) = (directory.path().join("state"), 64_901);
    directory_of(user, &state);
    let file = directory.path().join("packetboat.toml");
    fs::write(&file, format!("state_directory = {state:?}\n[admin]\nlisten = []\n{OBSERVE}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let as_user = |user: u32, name: &str| {
        let (mut command, user) = (Command::new("setpriv"), user.to_string());
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        // The capability lets the user run the binary, wherever it is built.
        command.args(["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]);
        command.args([env!("CARGO_BIN_EXE_packetboat"), name, "--config"]).arg(&file);
        command
    };
    let _running = Process::ready(&mut as_user(user, "run"));
    let socket = fs::symlink_metadata(state.join("control")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid()), (0o600, user));
    // The directory is open to everybody, as after a mistake.
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    for (asking, code) in [(0, 0), (user, 0), (64_902, 69)] {
        let ran = Ran::of(as_user(asking, "health").output().unwrap());
        assert_eq!(ran.code, code, "user {asking}: {}{}", ran.output, ran.errors);
    }
    // The file's mode does not open the socket either.
    fs::set_permissions(state.join("control"), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(Ran::of(as_user(64_902, "health").output().unwrap()).code, 69);
}

/// A user who may ask nothing hears that, and not that the proxy does not run: in a closed directory, at a closed socket,
/// and where not even the configuration can be read.
#[test]
fn a_user_without_rights_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (state, user) = (directory.path().join("state"), 64_903);
    directory_of(user, &state);
    let binary = directory.path().join("packetboat");
    copy_program(&binary);
    let file = directory.path().join("packetboat.toml");
    // Nobody serves a page there.
    let vacant = SocketAddr::from(([127, 0, 0, 1], free_ports::<1>()[0]));
    let as_user = |user: u32, name: &str| {
        let (mut command, user) = (Command::new("setpriv"), user.to_string());
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(&binary);
        command.args([name, "--config"]).arg(&file);
        command
    };
    let write = |listen: &str| {
        let text = format!("state_directory = {state:?}\n[admin]\nlisten = [{listen}]\n{OBSERVE}");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    };
    write("");
    let _running = Process::ready(&mut as_user(user, "run"));
    let told = |name: &str, expected: &str| {
        let ran = Ran::of(as_user(64_904, name).output().unwrap());
        assert_eq!(ran.code, 69, "{name}");
        assert!(ran.errors.contains(expected) && !ran.errors.contains("not running"), "{name}: {}", ran.errors);
        assert!(ran.errors.contains("run this as root (sudo)"), "{name}: {}", ran.errors);
    };
    let closed = format!("this user has no right to ask packetboat in {}", state.display());
    for listen in ["".to_owned(), format!("\"{vacant}\"")] {
        write(&listen);
        for mode in [0o700, 0o755] {
            fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
            for name in ["health", "devices"] {
                told(name, &closed);
                told(name, &format!("or as {user}"));
                // The advice is followed.
                for right in [0, user] {
                    assert_eq!(Ran::of(as_user(right, name).output().unwrap()).code, 0, "user {right}, {name}");
                }
            }
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    told("health", "this user has no right to read");
}

/// Where the state directory cannot be written, commands ask the page, without their token.
#[test]
fn without_a_state_directory_the_page_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (token, file) = (directory.path().join("token"), directory.path().join("packetboat.toml"));
    fs::write(&token, "a-token-of-enough-length\n").unwrap();
    mode(&token, 0o600);
    let port = SocketAddr::from(([127, 0, 0, 1], free_ports::<1>()[0]));
    let plain =
        OBSERVE.to_owned() + "entry = \"plaintext\"\nallow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]\n";
    let text =
        format!("state_directory = \"/proc/none\"\n[admin]\nlisten = [\"{port}\"]\ntoken_file = {token:?}\n{plain}");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let _running = Process::ready(command.args(["run", "--config"]).arg(&file));
    let ran = run(&file, &["health"]);
    assert_eq!((ran.code, ran.output.as_str()), (0, "alive\n"), "{}", ran.errors);
    let ran = run(&file, &["devices"]);
    assert!(ran.code == 69 && ran.errors.contains("the admin token, which no command sends"), "{}", ran.errors);
}

/// Strangers' open connections, from any number of addresses, push no device with a login out of the inventory.
#[test]
fn strangers_push_no_device_out_of_the_inventory() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&(exchange.configuration(BY_SECRET) + "[inventory]\ndevices = 100\n"));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let context = SslContext::builder(SslMethod::tls_client()).unwrap().build();
    let shake =
        |number: u8| Ssl::new(&context).unwrap().connect(tcp_from([127, 1, 0, 1 + number], proxy.address("imap")));
    let _strangers: Vec<_> = (0..140).map(|number| shake(number).unwrap()).collect();
    let seen = proxy.get("/inventory.csv");
    assert!(seen.lines().count() <= 101 && seen.contains(LOGIN), "{seen}");
}
