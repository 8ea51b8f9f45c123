//! This test proves that strangers from up to 400 addresses, who exhaust each limit, neither refuse nor delay twelve
//! known devices.
//!
//! They come from 1, 6, 40 and 400 addresses. A visit may take one second longer than at rest.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext};
use rustix::process::{Resource, getrlimit};

use crate::crowd::{self, milliseconds, say_hello_and_reset, tcp_from_address};
use support::certificates::Certificates;
use support::device::Device;
use support::exchange::{BY_SECRET, Exchange, PASSWORD};
use support::imap::{Imap, status};
use support::proxy::{Proxy, listener, translating_listener, upstream};
use support::server;
use support::stacks::{self, Version, old};
use support::translated::device;

/// Known devices, each with an address of its own; the proxy verifies their passwords anew at each visit.
const DEVICES: u8 = 12;
/// The time that a visit may take beyond one at rest.
const PATIENCE: Duration = Duration::from_secs(1);

/// LimitNOFILE of the packaged unit.
const PACKAGED: u64 = 65536;

struct Plant {
    proxy: Proxy,
    tls: SslContext,
    _exchange: Exchange,
    _directory: tempfile::TempDir,
}

impl Plant {
    /// Starts the proxy with default limits, and as many open files as the package gives.
    fn new() -> Self {
        let exchange = Exchange::new();
        let (certificates, directory) = Certificates::for_name("localhost", 30).in_directory();
        let devices: String =
            (0..DEVICES).map(|number| device(&format!("mfp{number}"), "scans", PASSWORD, "")).collect();
        let port = server::threads(&certificates, |stream| server::judge(stream, PASSWORD, || {}));
        let clear = "allow_plaintext = true\nallowed_networks = [\"127.0.0.0/8\"]\n";
        let text = format!(
            "[limits]\npassword_memory = \"1s\"\nsessions_per_mailbox = 16\n{}{devices}{}{}{}",
            exchange.configuration(BY_SECRET),
            upstream("x", [port; 2], directory.path(), ""),
            translating_listener("clear", "imap", "starttls", clear),
            listener("passed", "imap", "starttls", &format!("{clear}upstream = \"x\"")),
        );
        let mut command = Command::new("prlimit");
        // The limit is that of config/systemd, or the most that this machine allows.
        let files = getrlimit(Resource::Nofile).maximum.map_or(PACKAGED, |most| most.min(PACKAGED));
        command.args([&format!("--nofile={files}:{files}"), env!("CARGO_BIN_EXE_packetboat")]);
        let proxy = Proxy::start_by(command, Some(&exchange.state()), "info", &text, None);
        let tls = stacks::context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
        Self { proxy, tls, _exchange: exchange, _directory: directory }
    }

    /// Logs a device in over TLS 1.0, and out; returns the duration, beside what other programs take.
    fn visit(&self, number: u8) -> Duration {
        self.proxy.time_of(|| {
            let tcp = tcp_from_address(Ipv4Addr::new(127, 0, 1, number + 1), self.proxy.address("imap"));
            let stream = Ssl::new(&self.tls).unwrap().connect(tcp).expect("handshake of a known device");
            let mut imap = Imap::greeted(Device::over(stream));
            let answer = status(&imap.command(&format!("LOGIN mfp{number} {PASSWORD}")));
            assert!(answer.starts_with("OK "), "a known device hears {answer}");
            imap.ok("LOGOUT");
        })
    }

    /// The same visit with a login that is passed through.
    fn passed_visit(&self) -> Duration {
        self.proxy.time_of(|| {
            let tcp = tcp_from_address(Ipv4Addr::new(127, 0, 1, 99), self.proxy.address("passed"));
            let mut imap = Imap::greeted(Device::over(tcp));
            let answer = status(&imap.command(&format!("LOGIN scanner {PASSWORD}")));
            assert!(answer.starts_with("OK "), "a known device hears {answer}");
            imap.ok("LOGOUT");
        })
    }

    /// The longest visit of all devices, one after the other.
    fn visits(&self) -> Duration {
        let translated = (0..DEVICES).map(|number| self.visit(number)).max().unwrap();
        translated.max(self.passed_visit())
    }

    /// Starts a siege from these addresses, and returns the longest visit of the devices meanwhile.
    fn besieged(&self, what: Siege, addresses: &[Ipv4Addr]) -> Duration {
        let is_over = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let to = match what {
            Siege::Silence | Siege::Hellos => self.proxy.address("imap"),
            Siege::Passwords => self.proxy.address("clear"),
            Siege::Passed => self.proxy.address("passed"),
            Siege::Page => self.proxy.admin(),
        };
        std::thread::scope(|scope| {
            let crowd: Vec<TcpStream> = match what {
                Siege::Hellos => {
                    for _ in 0..4 {
                        scope.spawn(|| {
                            while !is_over.load(Ordering::Relaxed) {
                                let number = next.fetch_add(1, Ordering::Relaxed);
                                say_hello_and_reset(addresses[number % addresses.len()], to);
                            }
                        });
                    }
                    // The siege first runs until a source has spent more than its limit per minute.
                    while next.load(Ordering::Relaxed) < 1000 {
                        std::thread::yield_now();
                    }
                    Vec::new()
                }
                Siege::Silence => all_from(addresses, 60, 2400, to, ""),
                Siege::Page => all_from(addresses, 100, 400, to, ""),
                Siege::Passwords | Siege::Passed => all_from(addresses, 50, 600, to, &guesses()),
            };
            let longest = self.visits();
            is_over.store(true, Ordering::Relaxed);
            drop(crowd);
            longest
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Siege {
    /// Connections without a single octet.
    Silence,
    /// A ClientHello on each connection, one connection after the other.
    Hellos,
    /// Wrong passwords for known and unknown logins.
    Passwords,
    /// Wrong passwords on a pass-through listener.
    Passed,
    /// Connections to the admin page.
    Page,
}

/// Opens `each` connections from each address, at most `most` in all, and sends `says` on each.
fn all_from(addresses: &[Ipv4Addr], each: usize, most: usize, to: SocketAddr, says: &str) -> Vec<TcpStream> {
    let each = each.min(most.div_ceil(addresses.len()));
    let sources = addresses.iter().flat_map(|address| std::iter::repeat_n(*address, each));
    let connected = |source| {
        let mut stream = tcp_from_address(source, to);
        stream.set_nonblocking(true).unwrap();
        // The proxy may have closed a refused connection already.
        let _ = stream.write(says.as_bytes());
        stream
    };
    sources.map(connected).collect()
}

/// Pipelined logins; the proxy tries each once it has refused the one before.
fn guesses() -> String {
    (0..50).map(|number| format!("a LOGIN mfp{} wrong\r\nb LOGIN guess{number} wrong\r\n", number % 12)).collect()
}

#[test]
fn strangers_cost_a_known_device_nothing() {
    let _alone = crowd::alone();
    crowd::size();
    let plant = Plant::new();
    plant.visits();
    let rest = plant.visits();
    println!("at rest: the longest of {} visits {:.0} ms", DEVICES + 1, milliseconds(rest));
    let mut late = Vec::new();
    for (place, count) in [1_usize, 6, 40, 400].into_iter().enumerate() {
        let network = u8::try_from(place + 10).unwrap();
        let address = |number: usize| {
            Ipv4Addr::new(127, network, u8::try_from(number / 250).unwrap(), u8::try_from(number % 250 + 1).unwrap())
        };
        let addresses: Vec<Ipv4Addr> = (0..count).map(address).collect();
        for what in [Siege::Silence, Siege::Hellos, Siege::Passwords, Siege::Passed, Siege::Page] {
            let longest = plant.besieged(what, &addresses);
            println!("{what:?} from {count} addresses: the longest visit {:.0} ms", milliseconds(longest));
            if longest > rest + PATIENCE {
                late.push((what, count, longest));
            }
        }
    }
    // The metrics show that each limit was reached.
    let metrics = plant.proxy.get("/metrics");
    for reason in
        ["too_many_connections", "too_many_from_source", "too_many_handshakes", "wrong_password", "login_refused"]
    {
        let label = format!("reason=\"{reason}\"");
        let was_refused = metrics.lines().any(|line| line.contains(&label) && !line.ends_with(" 0"));
        assert!(was_refused, "nobody was refused: {reason}");
    }
    assert!(late.is_empty(), "at rest {rest:?}, and {late:?}");
}
