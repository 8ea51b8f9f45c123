//! The CA and the certificates that packetboat makes are the same at all instances of a fleet.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use packetboat::state::{self, Access};
use support::postgresql::{Database, Postgresql};
use support::process::program;
use support::proxy::Proxy;
use tempfile::TempDir;

use crate::configured;

/// Instances with a state directory each, and one key of the store.
struct Instances {
    directory: TempDir,
    section: String,
}

impl Instances {
    fn of(database: &Database) -> Self {
        let directory = tempfile::tempdir().unwrap();
        state::write(&directory.path().join("store.key"), &[7; 32], Access::Private).unwrap();
        Self { directory, section: database.section("INSTANCE") + "migrate = true\n" }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, file: &str) -> String {
        fs::read_to_string(self.state(name).join(file)).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
    }

    fn configuration(&self, name: &str) -> String {
        let key = self.directory.path().join("store.key");
        configured(&key, &self.section.replace("INSTANCE", name))
            + "[certificate.default]\nnames = [\"mail.example\"]\n"
    }

    fn start(&self, name: &str) -> Proxy {
        Proxy::start_with(Some(&self.state(name)), "info", &self.configuration(name))
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Output {
        let file = self.directory.path().join(format!("{name}.toml"));
        fs::write(&file, self.configuration(name)).unwrap();
        let mut command = Command::new(program());
        command.arg("certificate").args(arguments).arg("--config").arg(file);
        command.arg("--state-directory").arg(self.state(name)).output().unwrap()
    }

    fn succeeds(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.run(name, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.run(name, arguments);
        assert_eq!(output.status.code(), Some(69), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

const FILES: [&str; 4] = ["ca.pem", "ca.key", "default.pem", "default.key"];

#[test]
fn three_instances_that_start_at_once_make_one_authority() {
    let server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    let names = ["east", "north", "west"];
    let proxies: Vec<Proxy> = std::thread::scope(|scope| {
        let starting = names.map(|name| scope.spawn(|| instances.start(name)));
        starting.map(|one| one.join().unwrap()).into_iter().collect()
    });
    for file in FILES {
        let contents: BTreeSet<String> = names.iter().map(|name| instances.file(name, file)).collect();
        assert_eq!(contents.len(), 1, "{file} differs");
    }
    assert_eq!(
        proxies.iter().filter(|proxy| proxy.log.all().contains("the CA: the fleet keeps that of this")).count(),
        1
    );
    // Devices see it from the first connection on.
    let shown: BTreeSet<Vec<u8>> = proxies.iter().map(certificate_of).collect();
    assert_eq!(shown.len(), 1);
    // The database has no key in clear.
    let kept = server.sql(&database.name, "select string_agg(encode(sealed, 'escape'), ' ') from packetboat.kept");
    assert!(!kept.is_empty() && !kept.contains("PRIVATE KEY") && !kept.contains("CERTIFICATE"));
    // A new one with an empty directory has it as well.
    let south = instances.start("south");
    assert_eq!(instances.file("south", "ca.key"), instances.file("west", "ca.key"));
    assert_eq!(certificate_of(&south), shown.into_iter().next().unwrap());
}

/// The certificate that a device sees.
fn certificate_of(proxy: &Proxy) -> Vec<u8> {
    let stream = proxy.tls("observing");
    stream.ssl().peer_certificate().unwrap().to_der().unwrap()
}

#[test]
fn an_instance_that_was_alone_takes_the_fleets_authority_and_keeps_its_own_beside() {
    let server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    drop(instances.start("west"));
    let alone = Instances { section: String::new(), directory: tempfile::tempdir().unwrap() };
    state::write(&alone.directory.path().join("store.key"), &[7; 32], Access::Private).unwrap();
    drop(alone.start("east"));
    let before = alone.file("east", "ca.pem");
    let joined = Instances { section: instances.section.clone(), directory: alone.directory };
    let proxy = joined.start("east");
    assert_eq!(joined.file("east", "ca.pem"), instances.file("west", "ca.pem"));
    assert_eq!(joined.file("east", "ca.before.pem"), before);
    assert!(proxy.log.all().contains("the CA: taken from the fleet; the one before is kept as"));
}

#[test]
fn push_and_pull_say_what_they_do() {
    let mut server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    let west = instances.start("west");
    drop(west);
    server.sql(&database.name, "delete from packetboat.kept");
    let missing = instances.fails("west", &["pull"]);
    assert!(missing.contains("does not keep the ca yet") && missing.contains("certificate push"), "{missing}");
    let pushed = instances.succeeds("west", &["push"]);
    assert_eq!(
        pushed,
        "the CA: the fleet keeps that of this instance\ncertificate default: the fleet keeps that of this instance\n"
    );
    assert!(instances.succeeds("west", &["push"]).contains("have the same"));
    assert!(instances.succeeds("east", &["pull"]).contains("the CA: taken from the fleet"));
    assert_eq!(instances.file("east", "default.key"), instances.file("west", "default.key"));
    // A renewed certificate goes the same way, under the same CA.
    let renewed = instances.succeeds("west", &["renew"]);
    assert!(renewed.ends_with("certificate default: the fleet keeps that of this instance\n"), "{renewed}");
    assert!(instances.succeeds("west", &["push"]).contains("certificate default: this instance and the fleet have"));
    let pulled = instances.succeeds("east", &["pull"]);
    assert!(pulled.contains("default.before.pem"), "{pulled}");
    assert_eq!(instances.file("east", "default.pem"), instances.file("west", "default.pem"));
    // Another key of the store opens nothing, and says so.
    fs::remove_file(instances.directory.path().join("store.key")).unwrap();
    state::write(&instances.directory.path().join("store.key"), &[8; 32], Access::Private).unwrap();
    let other = instances.fails("west", &["pull"]);
    assert!(other.contains("give all instances the same store_key"), "{other}");
    let serves = instances.start("west");
    serves.logs(1, "give all instances the same store_key");
    drop(serves);
    server.stop();
    let before = instances.file("west", "default.pem");
    let renewed = instances.run("west", &["renew"]);
    let warning = String::from_utf8(renewed.stderr).unwrap();
    assert!(renewed.status.success() && warning.contains("do not show the renewed certificate yet"), "{warning}");
    assert_ne!(instances.file("west", "default.pem"), before);
    let away = instances.fails("west", &["push"]);
    assert!(away.contains("the database is not reached"), "{away}");
    // A start without the database serves with what is there, or makes its own.
    let north = instances.start("north");
    north.logs(1, "the certificates of the fleet are not taken");
    assert!(!certificate_of(&north).is_empty());
    server.start_again();
    fs::remove_file(instances.directory.path().join("store.key")).unwrap();
    state::write(&instances.directory.path().join("store.key"), &[7; 32], Access::Private).unwrap();
    north.logs(1, "the CA: taken from the fleet");
    north.logs(1, "certificate default: taken from the fleet");
    let expected = instances.file("east", "default.pem");
    let expected = openssl::x509::X509::from_pem(expected.as_bytes()).unwrap().to_der().unwrap();
    crate::until_now("devices see the fleet's certificate without a restart", || certificate_of(&north) == expected);
}

#[test]
fn own_files_have_no_part_in_it() {
    let server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    let own = tempfile::tempdir().unwrap();
    support::certificates::Certificates::for_name("mail.example", 30).write(own.path());
    let (chain, key) = (own.path().join("server.pem"), own.path().join("server.key"));
    let before = [&chain, &key].map(|path| fs::read(path).unwrap());
    let configuration = instances
        .configuration("west")
        .replace("names = [\"mail.example\"]\n", &format!("chain = {chain:?}\nkey = {key:?}\n"));
    let proxy = Proxy::start_with(Some(&instances.state("west")), "info", &configuration);
    proxy.logs(1, "an instance of the fleet");
    assert_eq!([&chain, &key].map(|path| fs::read(path).unwrap()), before);
    assert_eq!(server.sql(&database.name, "select count(*) from packetboat.kept"), "0");
    assert!(!instances.state("west").join("ca.pem").exists());
}

/// An instance renews its certificate while the database is away: its next start puts it there, and does not go back to
/// the earlier one.
#[test]
fn a_certificate_that_was_renewed_alone_comes_to_the_fleet() {
    let mut server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    drop(instances.start("west"));
    let before = instances.file("west", "default.pem");
    server.stop();
    assert!(instances.run("west", &["renew"]).status.success());
    let renewed = instances.file("west", "default.pem");
    assert_ne!(renewed, before);
    server.start_again();
    instances.start("west").logs(1, "certificate default: the fleet keeps that of this instance");
    assert_eq!(instances.file("west", "default.pem"), renewed);
    drop(instances.start("east"));
    assert_eq!(instances.file("east", "default.pem"), renewed);
}

/// Somebody who may write to the database puts back an earlier CA with its certificate. No instance goes back to it, and
/// the database gets the present one again. One of a later generation does not open.
#[test]
fn an_earlier_authority_never_comes_back() {
    let server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    drop(instances.start("west"));
    drop(instances.start("east"));
    server.sql(&database.name, "create table public.before as select * from packetboat.kept");
    let old = instances.file("west", "ca.pem");
    for file in FILES {
        fs::remove_file(instances.state("west").join(file)).unwrap();
    }
    let pushed = instances.succeeds("west", &["push", "--replace"]);
    assert!(pushed.contains("the CA: the fleet keeps that of this instance"), "{pushed}");
    let new = instances.file("west", "ca.pem");
    assert_ne!(new, old);
    assert!(instances.succeeds("east", &["pull"]).contains("the CA: taken from the fleet"));
    let put_back = "delete from packetboat.kept; insert into packetboat.kept select * from public.before";
    server.sql(&database.name, put_back);
    let refused = instances.fails("east", &["pull"]);
    assert!(refused.contains("an earlier ca than this instance") && refused.contains("push --replace"), "{refused}");
    assert_eq!(instances.file("east", "ca.pem"), new);
    instances.start("east").logs(1, "the CA: the fleet keeps that of this instance");
    assert_eq!([instances.file("east", "ca.pem"), instances.file("west", "ca.pem")], [new.clone(), new.clone()]);
    drop(instances.start("south"));
    assert_eq!(instances.file("south", "ca.pem"), new);
    // The same with a number that is higher.
    server.sql(&database.name, &format!("{put_back}; update packetboat.kept set generation = 99"));
    let east = instances.start("east");
    east.logs(1, "does not open, or is damaged");
    assert_eq!(instances.file("east", "ca.pem"), new);
    drop(east);
    let pushed = instances.succeeds("east", &["push", "--replace"]);
    assert!(pushed.contains("the CA: the fleet keeps that of this instance"), "{pushed}");
    assert!(instances.succeeds("west", &["pull"]).contains("the CA: this instance and the fleet have the same"));
}

/// A database that neither shows nor takes a value ends no instance's start by trying for ever.
#[test]
fn rows_that_nobody_sees_are_no_reason_to_go_on() {
    let server = Postgresql::start();
    let database = server.database();
    let instances = Instances::of(&database);
    drop(instances.start("west"));
    server.sql(
        &database.name,
        "alter table packetboat.kept enable row level security; alter table packetboat.kept force row level security; \
         create policy taking on packetboat.kept for insert with check (true)",
    );
    let east = instances.start("east");
    east.logs(1, "neither shows the ca nor takes it");
    assert!(!certificate_of(&east).is_empty());
}
