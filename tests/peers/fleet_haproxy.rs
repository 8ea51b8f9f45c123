//! These tests prove three instances behind the real HAProxy, as `config/haproxy/haproxy.cfg` sets it up: devices keep
//! their addresses and their instances, and a restart or the end of an instance refuses none of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openssl::ssl::Ssl;
use packetboat::simulator::User;
use tempfile::TempDir;

use support::device::{Device, tcp_from};
use support::exchange::{BY_SECRET, Exchange, PASSWORD, account};
use support::free_ports;
use support::pop3::Pop3;
use support::process::{Lines, Process};
use support::proxy::{Proxy, translating_listener};
use support::smtp::Smtp;
use support::stacks::{Version, context, old};
use support::strain::until;

pub(super) const INSTANCES: [&str; 3] = ["one", "two", "three"];
const DEVICES: u8 = 24;

/// HAProxy and three instances, each at an address of its own on loopback, in front of one simulator.
struct Fleet {
    instances: Vec<Proxy>,
    balancer: Balancer,
    states: TempDir,
    exchange: Exchange,
    network: Network,
}

pub(super) struct Balancer {
    pub(super) log: Lines,
    _process: Process,
}

/// A /24 network on loopback that no other test uses: 127.A.B.0.
#[derive(Clone, Copy)]
pub(super) struct Network([u8; 2]);

impl Network {
    pub(super) fn new() -> Self {
        let [port] = free_ports();
        Self(port.to_be_bytes())
    }

    pub(super) fn host(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0[0], self.0[1], last)
    }

    /// The addresses of the instances end with 11, 12 and 13.
    pub(super) fn instance(self, index: usize) -> Ipv4Addr {
        self.host(11 + u8::try_from(index).unwrap())
    }

    fn device(self, number: u8) -> Ipv4Addr {
        self.host(20 + number)
    }

    /// The port that devices use, with 10,000 added, so that the tests need no root.
    pub(super) fn balancer(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.host(9), 10_000 + port))
    }
}

fn mailbox(number: u8) -> String {
    format!("device{number}@contoso.example")
}

impl Fleet {
    fn start() -> Self {
        let exchange = Exchange::with(|tenant| {
            tenant.users.extend((0..DEVICES).map(|number| User::new(&mailbox(number), "not used")));
            tenant.app_mailboxes.extend((0..DEVICES).map(mailbox));
        });
        let (network, states) = (Network::new(), tempfile::tempdir().unwrap());
        make_certificate(states.path());
        let instance = |index| start_instance(index, &exchange, states.path(), network);
        let instances = (0..INSTANCES.len()).map(instance).collect();
        Self { instances, balancer: Balancer::start(network), states, exchange, network }
    }

    /// Starts an instance again.
    fn instance(&self, index: usize) -> Proxy {
        start_instance(index, &self.exchange, self.states.path(), self.network)
    }

    /// The instance that has served the last of a device's sessions, which was its `count`th.
    fn server_of(&self, number: u8, count: usize) -> usize {
        let source = format!("\"source\":\"{}:", self.network.device(number));
        let sessions = |proxy: &Proxy| proxy.log.count(|line| line.contains("session ended") && line.contains(&source));
        until("line of the session", || self.instances.iter().map(sessions).sum::<usize>() >= count);
        let served: Vec<usize> = (0..INSTANCES.len()).filter(|index| sessions(&self.instances[*index]) > 0).collect();
        assert_eq!(served.len(), 1, "{source} came to {served:?}");
        served[0]
    }

    /// A device's session by IMAP over TLS 1.0. The device tries once.
    fn session(&self, number: u8) -> Result<(), String> {
        let mut device = Device::over(self.tls(number)?);
        for (line, answer) in [
            (None, "* OK"),
            (Some(format!("a LOGIN device{number} {PASSWORD}\r\n")), "a OK"),
            (Some("b NOOP\r\n".to_owned()), "b OK"),
            (Some("c LOGOUT\r\n".to_owned()), "c OK"),
        ] {
            if let Some(line) = line {
                device.0.send(line.as_bytes()).map_err(|error| error.to_string())?;
            }
            loop {
                let heard = device.try_line().ok_or_else(|| format!("the end in place of {answer}"))?;
                let heard = String::from_utf8_lossy(&heard).into_owned();
                if heard.starts_with(answer) {
                    break;
                }
                if !heard.starts_with("* ") || heard.starts_with("* BYE") && !answer.starts_with('c') {
                    return Err(heard);
                }
            }
        }
        Ok(())
    }

    fn tls(&self, number: u8) -> Result<support::connection::TlsStream, String> {
        let stream = tcp_from(self.network.device(number), self.network.balancer(993));
        let context = context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
        Ssl::new(&context).unwrap().connect(stream).map_err(|error| format!("{error:?}"))
    }

    fn all_have_sessions(&self) {
        let failed: BTreeMap<u8, String> =
            (0..DEVICES).filter_map(|number| Some((number, self.session(number).err()?))).collect();
        assert!(failed.is_empty(), "{failed:?}\n{}", self.balancer.log.all());
    }
}

/// Starts an instance, with the state directory that it had before.
fn start_instance(index: usize, exchange: &Exchange, states: &Path, network: Network) -> Proxy {
    let at = network.instance(index);
    let listener = |name: &str, protocol: &str, entry: &str, port: u16| {
        let more = format!("proxy_protocol = [\"127.0.0.1\"]\nallowed_networks = [\"{}/25\"]\n", network.host(0));
        translating_listener(name, protocol, entry, &more).replace("127.0.0.1:0", &format!("{at}:{port}"))
    };
    let chain = states.join("chain.pem");
    let key = states.join("key.pem");
    let frame = exchange.submission_frame();
    let upstream = frame.split("[[listener]]").next().unwrap();
    let smtp = frame.split("[upstream.exchange.smtp]\n").nth(1).unwrap().split("[[listener]]").next().unwrap();
    let mut text = format!(
        "[admin]\nlisten = [\"{at}:9143\"]\n[certificate.default]\nchain = {chain:?}\nkey = {key:?}\n\
         {upstream}[upstream.exchange.smtp]\n{smtp}{}",
        exchange.identity(BY_SECRET)
    );
    text += &listener("imaps", "imap", "implicit", 1993);
    text += &listener("pop3", "pop3", "auto", 1110);
    text += &listener("smtp", "smtp", "auto", 1587);
    for number in 0..DEVICES {
        text += &account(&format!("device{number}"), &mailbox(number), "");
    }
    Proxy::start_with(Some(&states.join(INSTANCES[index])), "info", &text)
}

impl Balancer {
    /// Starts HAProxy with the file of the repository: with these addresses in place of its names and ports.
    pub(super) fn start(network: Network) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/haproxy/haproxy.cfg");
        let mut text = fs::read_to_string(file).unwrap();
        for (index, name) in ["packetboat-1", "packetboat-2", "packetboat-3"].iter().enumerate() {
            assert!(text.contains(name));
            text = text.replace(name, &network.instance(index).to_string());
        }
        let binds: Vec<u16> =
            text.lines().filter_map(|line| line.trim().strip_prefix("bind :")?.parse().ok()).collect();
        assert_eq!(binds.len(), 6, "{text}");
        for port in binds {
            text = text.replace(&format!("bind :{port}\n"), &format!("bind {}\n", network.balancer(port)));
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        let mut process = Process::start(command.arg("-db").arg("-f").arg(&file).stdout(Stdio::piped()));
        let log = Lines::of(process.0.stdout.take().unwrap());
        process.until_open(&[network.balancer(993), network.balancer(110), network.balancer(587)], || log.all());
        Self { log, _process: process }
    }

    /// Waits until HAProxy's last word about each of these instances is this one.
    pub(super) fn until_checked(&self, state: &str, instances: &[&str]) {
        for instance in instances {
            until(&format!("{instance} is {state}: {}", self.log.all()), || {
                let of = format!("Server ready/{instance} is ");
                let log = self.log.all();
                log.lines().rev().find_map(|line| line.split_once(&of)).is_some_and(|(_, word)| word.starts_with(state))
            });
        }
    }
}

/// One certificate for all instances, as a device that checks certificates needs it.
pub(super) fn make_certificate(directory: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mail.example.test", "-days", "30"]);
    command.args(["-keyout", "key.pem", "-out", "chain.pem"]).current_dir(directory);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An instance sees each device's own address: it refuses those outside `allowed_networks`, and HAProxy brings a device
/// to the same instance each time. The other protocols pass as well.
#[test]
fn devices_keep_their_addresses_and_their_instances() {
    let fleet = Fleet::start();
    fleet.all_have_sessions();
    let first: Vec<usize> = (0..DEVICES).map(|number| fleet.server_of(number, 1)).collect();
    for (index, name) in INSTANCES.into_iter().enumerate() {
        assert!(first.contains(&index), "{} serves no device: {first:?}", name);
    }
    fleet.all_have_sessions();
    let second: Vec<usize> = (0..DEVICES).map(|number| fleet.server_of(number, 2)).collect();
    assert_eq!(first, second);
    // 127.A.B.200 is outside of allowed_networks, 127.A.B.0/25.
    let stranger = tcp_from(fleet.network.host(200), fleet.network.balancer(110));
    assert!(Device::over(stranger).has_ended());
    let refusal = format!("{}/32", fleet.network.host(200));
    until("refusal", || fleet.instances.iter().any(|proxy| proxy.log.all().contains(&refusal)));
    // POP3 and SMTP in clear.
    let from = |port| Device::over(tcp_from(fleet.network.device(3), fleet.network.balancer(port)));
    assert!(Pop3::greeted(from(110)).command("CAPA").starts_with("+OK"));
    let mut smtp = Smtp::greeted(from(587));
    smtp.say("NOOP", "250 ");
}

/// Each instance is restarted in turn, by SIGTERM, while devices come without a pause. Each tries once.
#[test]
fn a_rolling_restart_refuses_no_device() {
    let mut fleet = Fleet::start();
    let (ended, sessions) = (AtomicBool::new(false), AtomicUsize::new(0));
    for (index, name) in INSTANCES.into_iter().enumerate() {
        let mut stopping = fleet.instances.remove(index);
        let before = sessions.load(Ordering::SeqCst);
        let fleet_now = &fleet;
        let next = std::thread::scope(|scope| {
            ended.store(false, Ordering::SeqCst);
            let devices: Vec<_> = (0..4_u8)
                .map(|part| {
                    let (ended, sessions) = (&ended, &sessions);
                    scope.spawn(move || {
                        let mut failed = Vec::new();
                        for number in (0..DEVICES).filter(|number| number % 4 == part).cycle() {
                            if ended.load(Ordering::SeqCst) {
                                return failed;
                            }
                            failed.extend(fleet_now.session(number).err().map(|error| (number, error)));
                            sessions.fetch_add(1, Ordering::SeqCst);
                        }
                        failed
                    })
                })
                .collect();
            let more = |count: usize| {
                let now = sessions.load(Ordering::SeqCst);
                until("sessions", || sessions.load(Ordering::SeqCst) >= now + count);
            };
            more(20);
            stopping.process.signal("TERM");
            assert!(stopping.process.wait().success());
            fleet_now.balancer.until_checked("DOWN", &[name]);
            more(20);
            let next = fleet_now.instance(index);
            fleet_now.balancer.until_checked("UP", &[name]);
            more(20);
            ended.store(true, Ordering::SeqCst);
            let failed: Vec<_> = devices.into_iter().flat_map(|device| device.join().unwrap()).collect();
            assert!(failed.is_empty(), "{}: {failed:?}\n{}", name, fleet_now.balancer.log.all());
            next
        });
        assert!(sessions.load(Ordering::SeqCst) - before >= 60);
        fleet.instances.insert(index, next);
    }
}

/// After kill -9 each device of that instance reaches another one at its first try, and all others stay where they are.
#[test]
fn the_end_of_an_instance_moves_its_devices_only() {
    let mut fleet = Fleet::start();
    fleet.all_have_sessions();
    let before: Vec<usize> = (0..DEVICES).map(|number| fleet.server_of(number, 1)).collect();
    let mut killed = fleet.instances.remove(1);
    killed.process.0.kill().unwrap();
    killed.process.wait();
    // HAProxy does not know yet.
    fleet.all_have_sessions();
    fleet.balancer.until_checked("DOWN", &["two"]);
    fleet.all_have_sessions();
    // The index of the third instance is 1 now.
    for (number, before) in (0..DEVICES).zip(before) {
        let source = format!("\"source\":\"{}:", fleet.network.device(number));
        let sessions = |index: usize| {
            let log = &fleet.instances[index].log;
            log.count(|line| line.contains("session ended") && line.contains(&source))
        };
        let expected = match before {
            0 => vec![[3, 0]],
            2 => vec![[0, 3]],
            // Before HAProxy's check has failed, another instance may have stood in than after it.
            _ => vec![[2, 0], [0, 2], [1, 1]],
        };
        until(&format!("device {number}, first at {before}"), || expected.contains(&[sessions(0), sessions(1)]));
    }
}
