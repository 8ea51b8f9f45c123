//! `packetboat fleet migrate` and `packetboat fleet status`, and the running proxy as an instance.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use packetboat::fleet::SCHEMA;
use packetboat::state::{self, Access};
use serde_json::Value;
use support::postgresql::Postgresql;
use support::process::program;
use support::proxy::Proxy;
use tempfile::TempDir;

use crate::{configured, until};

/// A configuration file with a fleet, and a store key.
struct Configured {
    directory: TempDir,
}

impl Configured {
    fn new(section: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("store.key");
        state::write(&key, &[7; 32], Access::Private).unwrap();
        fs::write(directory.path().join("packetboat.toml"), configured(&key, section)).unwrap();
        Self { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("packetboat.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let state = self.directory.path().join("state");
        let mut command = Command::new(program());
        command.arg("fleet").args(arguments).arg("--config").arg(self.file()).arg("--state-directory").arg(state);
        command.output().unwrap()
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.succeeds(&["status", "--json"])).unwrap()
    }
}

#[test]
fn migrate_and_status_say_what_is_there() {
    let server = Postgresql::start();
    let database = server.database();
    let configured = Configured::new(&database.section("west"));
    let missing = configured.fails(&["status"], 69);
    assert!(missing.contains("run packetboat fleet migrate once"), "{missing}");
    let made = configured.succeeds(&["migrate"]);
    assert!(made.starts_with(&format!("created the tables, version {SCHEMA}, in fleet0 at localhost:")), "{made}");
    assert_eq!(configured.succeeds(&["migrate"]), format!("the tables have version {SCHEMA} already\n"));
    let status = configured.succeeds(&["status"]);
    for words in ["PostgreSQL", &format!("tables      version {SCHEMA}\n"), "instances   0 registered\n", "agree"] {
        assert!(status.contains(words), "{words}: {status}");
    }
    let status = configured.status();
    assert_eq!(
        (status["schema"].as_i64(), status["schema_needed"].as_i64()),
        (Some(SCHEMA.into()), Some(SCHEMA.into()))
    );
    assert!(status["round_trip_seconds"].as_f64().unwrap() < 3.0 && status["is_standby"] == false, "{status}");
}

#[test]
fn commands_name_what_is_wrong() {
    let server = Postgresql::start();
    let section = server.database().section("west");
    let wrong = tempfile::tempdir().unwrap();
    let password = wrong.path().join("password");
    state::write(&password, b"wrong", Access::Private).unwrap();
    let right = server.password_file().display().to_string();
    let refused = Configured::new(&section.replace(&right, password.to_str().unwrap())).fails(&["status"], 69);
    assert!(refused.contains("the database refuses the login of user packetboat"), "{refused}");
    let alone = Configured::new("").fails(&["status"], 64);
    assert!(alone.contains("no section [fleet]"), "{alone}");
}

/// The proxy is confined, and reaches the database over TLS all the same: after the confinement it reads the password,
/// and dials.
#[tokio::test(flavor = "multi_thread")]
async fn the_running_proxy_is_an_instance_until_it_ends() {
    let mut server = Postgresql::start();
    let database = server.database();
    let configured = Configured::new(&(database.section("west") + "migrate = true\n"));
    let mut proxy = Proxy::start(&configured.text());
    proxy.logs(1, &format!("the fleet's tables have version {SCHEMA} now"));
    proxy.logs(1, "an instance of the fleet with the database fleet0 at localhost:");
    let registered = || {
        let instances = configured.status()["instances"].clone();
        instances.as_array().unwrap().iter().filter(|one| one["name"] == "west").count()
    };
    until("the instance is registered", async || registered() == 1).await;
    assert!(configured.succeeds(&["status"]).contains("packetboat 0."));
    // An outage is told once, and so is its end.
    server.stop();
    proxy.logs(1, "the database is not reached");
    server.start_again();
    proxy.logs(1, "the fleet's database is back");
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    assert_eq!(registered(), 0);
}

/// A database that is away keeps no instance from starting.
#[test]
fn a_start_without_the_database_serves() {
    let mut server = Postgresql::start();
    let section = server.database().section("west");
    server.stop();
    let proxy = Proxy::start(&Configured::new(&section).text());
    proxy.logs(1, "the database is not reached");
    proxy.imap("observing");
}
