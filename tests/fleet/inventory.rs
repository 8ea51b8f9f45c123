//! One inventory of a fleet: three instances, each with devices of its own, show all devices; and nothing waits for a
//! database that is away or hangs.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use openssl::ssl::Ssl;
use packetboat::state::{self, Access};
use serde_json::Value;
use support::accessibility::assert_accessible;
use support::browser::Browser;
use support::device::{Device, tcp_from};
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, SCAN, account};
use support::imap::Imap;
use support::postgresql::{Database, Postgresql};
use support::process::program;
use support::proxy::Proxy;
use support::stacks::{Version, context, old};
use support::translated::{DEVICE_PASSWORD, device};
use tempfile::TempDir;

use crate::until_now;

/// Instances in front of one pretend Exchange, with a device for each.
struct Fleet {
    exchange: Exchange,
    server: Postgresql,
    database: Database,
    directory: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let (exchange, server, directory) = (Exchange::new(), Postgresql::start(), tempfile::tempdir().unwrap());
        let database = server.database();
        state::write(&directory.path().join("store.key"), &[7; 32], Access::Private).unwrap();
        Self { exchange, server, database, directory }
    }

    fn instance(&self, name: &str) -> Proxy {
        let key = self.directory.path().join("store.key");
        let devices: String = ["fax2", "fax3"].map(|login| device(login, "scans", DEVICE_PASSWORD, "")).concat();
        let configuration = format!("store_key = {key:?}\n{}migrate = true\n", self.database.section(name))
            + &self.exchange.configured(BY_SECRET, &account("scans", SCAN, ""))
            + &devices;
        Proxy::start_with(Some(&self.state(name)), "info", &configuration)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A device at this address that logs in.
fn logged_in(proxy: &Proxy, address: [u8; 4], login: &str, password: &str) -> Imap {
    let context = context(|context| old(context, Version::Tls1_0, "AES128-SHA"));
    let stream = Ssl::new(&context).unwrap().connect(tcp_from(address, proxy.address("imap"))).unwrap();
    let mut imap = Imap::greeted(Device::over(stream));
    imap.login(login, password);
    imap
}

/// The instance that has seen the device at an address last, by the page of this one.
fn seen_by(status: &Value, source: &str) -> Option<String> {
    let devices = status["devices"].as_array().unwrap();
    let device = devices.iter().find(|device| device["source"] == source)?;
    Some(device["instance"].as_str().unwrap().to_owned())
}

/// The state of a configured device, and the instance that has had a sign of life of it last.
fn state_of(status: &Value, login: &str) -> (String, Option<String>) {
    let devices = status["configured"].as_array().unwrap();
    let device = devices.iter().find(|device| device["device"] == login).unwrap();
    (device["state"].as_str().unwrap().to_owned(), device["instance"].as_str().map(str::to_owned))
}

fn command(proxy: &Proxy, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(proxy.configuration());
    command.output().unwrap()
}

fn printed(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = command(proxy, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const NAMES: [&str; 3] = ["east", "north", "west"];
const SOURCES: [&str; 3] = ["127.0.0.21", "127.0.0.22", "127.0.0.23"];
const LOGINS: [&str; 3] = [LOGIN, "fax2", "fax3"];

/// The three instances, with a device logged in at each.
fn started(fleet: &Fleet) -> (Vec<Proxy>, Vec<Imap>) {
    let proxies: Vec<Proxy> = NAMES.iter().map(|name| fleet.instance(name)).collect();
    let devices = proxies.iter().enumerate().map(|(at, proxy)| {
        let password = if at == 0 { PASSWORD } else { DEVICE_PASSWORD };
        logged_in(proxy, [127, 0, 0, 21 + at as u8], LOGINS[at], password)
    });
    let devices = devices.collect();
    for proxy in &proxies {
        until_now("each page shows the devices of all instances", || {
            let status = proxy.status();
            (0..3).all(|at| {
                seen_by(&status, SOURCES[at]).as_deref() == Some(NAMES[at])
                    && state_of(&status, LOGINS[at]) == ("ok".to_owned(), Some(NAMES[at].to_owned()))
            })
        });
    }
    (proxies, devices)
}

#[test]
fn every_instance_shows_the_devices_of_all() {
    let mut fleet = Fleet::new();
    let (proxies, devices) = started(&fleet);
    let west = &proxies[2];
    let status = west.status();
    assert_eq!(status["fleet"]["instance"], "west");
    assert_eq!(status["fleet"]["instances"], serde_json::json!(NAMES));
    assert!(status["fleet"]["outage"].is_null() && status["fleet"]["problem"].is_null(), "{}", status["fleet"]);
    let table = printed(west, &["devices"]);
    assert!(table.starts_with("all 3 devices get their mail\n"), "{table}");
    for (source, name) in SOURCES.iter().zip(NAMES) {
        assert!(table.lines().any(|line| line.contains(source) && line.contains(name)), "{source} at {name}: {table}");
    }
    for (at, name) in NAMES.iter().enumerate() {
        let of_one = printed(west, &["devices", "--instance", name]);
        let shown: Vec<&&str> = SOURCES.iter().filter(|source| of_one.contains(**source)).collect();
        assert_eq!(shown, [&SOURCES[at]], "{of_one}");
        let json: Value = serde_json::from_str(&printed(west, &["devices", "--json", "--instance", name])).unwrap();
        assert_eq!(json["devices"].as_array().unwrap().len(), 1, "{json}");
        assert_eq!(json["configured"][0]["device"], LOGINS[at]);
        let csv = printed(west, &["devices", "--csv", "--instance", name]);
        let (head, row) = csv.trim_end().split_once("\r\n").unwrap();
        assert!(head.ends_with(",instance") && row.ends_with(&format!(",{name}")), "{csv}");
    }
    let unknown = command(west, &["devices", "--instance", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("known are east, north, west"));
    // A device that is connected to another instance is not silent here, and an alert does not say so.
    assert_eq!(west.metric("packetboat_device_trouble", "reason=\"never\""), 0);
    until_now("all are counted", || west.metric("packetboat_fleet_instances", "") == 3);
    page_of_a_fleet(west);

    // Somebody has a device forgotten at one instance: all of them forget it.
    let form = {
        let seen = west.status()["devices"].as_array().unwrap().clone();
        let device = seen.iter().find(|device| device["source"] == SOURCES[0]).unwrap();
        format!("source={}&protocol=IMAP&fingerprint={}", SOURCES[0], device["fingerprint"].as_str().unwrap())
    };
    assert_eq!(forget(west, &form), "409", "it is connected to another instance");
    drop(devices);
    proxies.iter().for_each(|proxy| proxy.until_open(0));
    until_now("the device is forgotten once it has left", || forget(west, &form) == "200");
    for proxy in &proxies {
        until_now("no instance shows it", || seen_by(&proxy.status(), SOURCES[0]).is_none());
    }

    // The database goes away.
    fleet.server.stop();
    proxies.iter().for_each(|proxy| proxy.logs(1, "until then this instance goes on without the database"));
    let ready = printed(west, &["health", "--ready"]);
    assert!(ready.starts_with("ready, but the fleet's database is not used since 20"), "{ready}");
    assert!(ready.contains("the database is not reached"), "{ready}");
    let from_network = west.get("/ready");
    assert!(from_network.starts_with("ready, but the fleet's database is not used since 20"), "{from_network}");
    assert!(!from_network.contains("localhost"), "strangers learn where the database is: {from_network}");
    assert!(printed(west, &["health"]).starts_with("alive, but the fleet's database is not used since 20"));
    assert_eq!(west.metric("packetboat_fleet_database_reachable", ""), 0);
    assert!(west.metric("packetboat_fleet_database_last_success_timestamp_seconds", "") > 1_700_000_000);
    let status = west.status();
    assert!(status["fleet"]["outage"]["why"].as_str().unwrap().contains("the database is not reached"), "{status}");
    let alone = command(west, &["devices"]);
    let why = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(why.contains("devices of other instances are shown as of 20"), "{why}");
    assert!(String::from_utf8_lossy(&alone.stdout).contains(SOURCES[1]), "what was read before is still shown");
    drop(logged_in(west, [127, 0, 0, 24], LOGIN, PASSWORD));

    // A new instance serves, and says that it shows its own devices alone.
    let south = fleet.instance("south");
    drop(logged_in(&south, [127, 0, 0, 25], LOGIN, PASSWORD));
    south.logs(1, "until then this instance goes on without the database");
    let alone = command(&south, &["devices"]);
    let why = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(why.contains("only the devices of instance south are shown"), "{why}");
    assert!(String::from_utf8_lossy(&alone.stdout).contains("127.0.0.25"));

    fleet.server.start_again();
    proxies
        .iter()
        .chain([&south])
        .for_each(|proxy| proxy.logs(1, "the fleet's database is back; it was away since 20"));
    assert_eq!(printed(west, &["health", "--ready"]), "ready\n");
    assert_eq!(west.metric("packetboat_fleet_database_reachable", ""), 1);
    // Seen while the database was away.
    for proxy in &proxies {
        until_now("all show what was seen meanwhile", || {
            let status = proxy.status();
            seen_by(&status, "127.0.0.24").as_deref() == Some("west")
                && seen_by(&status, "127.0.0.25").as_deref() == Some("south")
        });
    }
}

/// The page shows each device with its instance, and those of one instance alone where somebody wants that.
fn page_of_a_fleet(west: &Proxy) {
    let browser = Browser::start();
    browser.open(&format!("http://{}/", west.admin()));
    let rows = |table: &str| format!("[...document.querySelectorAll('#{table} tbody tr')].filter(row => !row.hidden)");
    let shown = |table: &str, count: usize| browser.wait_for(table, &format!("{}.length === {count}", rows(table)));
    shown("configured", 3);
    shown("devices", 3);
    let words = browser.evaluate("document.querySelector('#instances').textContent");
    assert_eq!(words, "This page is of instance west. 3 instances are registered: east, north, west.");
    assert_accessible(&browser, "a page of a fleet");
    let choose = |name: &str| {
        browser.evaluate(&format!(
            "(() => {{ const one = document.querySelector('#instance'); one.value = '{name}'; \
             one.dispatchEvent(new Event('change')); }})()"
        ));
    };
    choose("north");
    shown("configured", 1);
    shown("devices", 1);
    let row = browser.evaluate(&format!("{}[0].textContent", rows("devices")));
    assert!(row.as_str().unwrap().contains(SOURCES[1]) && row.as_str().unwrap().contains("at instance north"), "{row}");
    choose("");
    shown("devices", 3);
    assert!(browser.console().is_empty(), "{:?}", browser.console());
}

/// Has the page forget a device; returns the status code.
fn forget(proxy: &Proxy, form: &str) -> String {
    let token = proxy.status()["form_token"].as_str().unwrap().to_owned();
    let address = proxy.admin();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", &format!("X-Form-Token: {token}")]);
    curl.args(["-d", form, &format!("http://{address}/forget")]);
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}

/// A database that answers nothing, not even with a refusal, delays no login: those take far less than the time after
/// which packetboat gives an answer of the database up.
#[test]
fn no_login_waits_for_a_database_that_hangs() {
    let fleet = Fleet::new();
    let proxy = fleet.instance("west");
    logged_in(&proxy, [127, 0, 0, 21], LOGIN, PASSWORD).log_out();
    proxy.logs(1, "an instance of the fleet with the database");
    let frozen = Frozen::new(&fleet.server);
    for round in 0..20 {
        let took = proxy.time_of(|| logged_in(&proxy, [127, 0, 0, 21], LOGIN, PASSWORD).log_out());
        assert!(took < Duration::from_secs(2), "login {round} took {took:?}");
    }
    // The registration waits for its own answer, or another statement has given the connection up before.
    proxy.logs(1, "until then this instance goes on without the database");
    for round in 0..5 {
        let took = proxy.time_of(|| logged_in(&proxy, [127, 0, 0, 21], LOGIN, PASSWORD).log_out());
        assert!(took < Duration::from_secs(2), "login {round} of the outage took {took:?}");
        let asked = proxy.time_of(|| assert!(proxy.get("/ready").starts_with("ready, but the fleet's database")));
        assert!(asked < Duration::from_secs(2), "/ready took {asked:?}");
    }
    drop(frozen);
    proxy.logs(1, "the fleet's database is back");
}

/// All processes of a server, stopped by SIGSTOP until this is dropped.
struct Frozen(Vec<String>);

impl Frozen {
    fn new(server: &Postgresql) -> Self {
        let frozen = Self(server.processes());
        frozen.signal("STOP");
        frozen
    }

    fn signal(&self, name: &str) {
        // A child may have ended by itself.
        let _ = Command::new("kill").arg(format!("-{name}")).args(&self.0).status().unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal("CONT");
    }
}
