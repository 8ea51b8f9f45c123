//! These tests prove that every damage to a file in the state directory is reported with the file's name and its fix.
//!
//! The damages are an absent file, half of it, flipped bits, a sparse gigabyte, a directory, a pipe, and a dangling
//! link. The proxy never panics, blocks, or replaces a file without a message; and the old file, put back, works again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::exchange::*;
use support::proxy::Proxy;

/// The damages to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Missing,
    /// The file is cut to this percentage of its length.
    Cut(usize),
    /// One bit is flipped, at this percentage of the file's length.
    Flipped(usize),
    Garbage,
    Huge,
    Directory,
    Pipe,
    Link,
}

use Damage::*;

/// Damages that put something other than a file there.
const NO_FILES: [Damage; 3] = [Directory, Pipe, Link];

/// Damages to a file whose content the proxy does not depend on, such as a lock.
const OF_A_LOCK: [Damage; 6] = [Garbage, Huge, Directory, Pipe, Link, Missing];
const ALL: [Damage; 13] = [
    Cut(0),
    Cut(1),
    Cut(50),
    Cut(99),
    Flipped(1),
    Flipped(50),
    Flipped(90),
    Garbage,
    Huge,
    Directory,
    Pipe,
    Link,
    Missing,
];

/// The effects of a damage.
#[derive(Clone, Copy)]
enum Outcome {
    /// The start is refused, and the message has the file's name and this text.
    Refused(&'static str),
    /// The bit decides: the start is refused with the first text, or the log of the running proxy has the second.
    Either(&'static str, &'static str),
    /// The proxy runs and reports the file with this text; devices are told to contact the administrator.
    NoToken(&'static str),
    /// The proxy runs, devices get their mail, and the log has this text.
    Told(&'static str),
    /// The proxy runs, and nothing depends on the file.
    Runs,
    /// The proxy runs, and a renewal of the certificate fails with this text.
    NoRenewal(&'static str),
}

use Outcome::*;

#[test]
fn the_key_of_the_store() {
    try_all("store.key", |damage| match damage {
        Missing => Refused("there are refresh tokens, and"),
        Cut(_) => Refused("needs 32"),
        Flipped(_) | Garbage => NoToken("put the old key back"),
        Huge => Refused("larger than"),
        Directory | Pipe => Refused("it is no file; put it away"),
        Link => Refused("leads nowhere"),
    });
}

#[test]
fn a_token() {
    try_all("TOKEN.token", |damage| match damage {
        Missing => NoToken("has not signed in yet: packetboat login scans"),
        Cut(_) | Flipped(_) | Garbage => NoToken("move the file away and sign in again"),
        Huge => NoToken("larger than"),
        Directory | Pipe => NoToken("it is no file; put it away"),
        Link => NoToken("leads nowhere"),
    });
}

/// A lock's content is only for people; something other than a file in its place is no lock.
#[test]
fn locks() {
    for lock in ["lock", "tokens/lock"] {
        try_each(&OF_A_LOCK, lock, |damage| {
            if NO_FILES.contains(&damage) { Refused("it is no file; put it away") } else { Runs }
        });
    }
    try_each(&OF_A_LOCK, "TOKEN.lock", |damage| {
        if NO_FILES.contains(&damage) { NoToken("it is no file; put it away") } else { Runs }
    });
    try_each(&OF_A_LOCK, "certificates.lock", |damage| {
        if NO_FILES.contains(&damage) { NoRenewal("it is no file; put it away") } else { Runs }
    });
}

#[test]
fn the_certificate_of_the_authority() {
    try_all("ca.pem", |damage| match damage {
        // The CA's key and name are still known.
        Missing => Runs,
        _ => NoRenewal("put the CA back from a backup"),
    });
}

#[test]
fn the_key_of_the_authority() {
    try_all("ca.key", |damage| match damage {
        Missing => NoRenewal("put it back; or remove the CA as well"),
        _ => NoRenewal("put the CA back from a backup"),
    });
}

#[test]
fn the_certificate() {
    try_all("default.pem", |damage| match damage {
        Missing => Runs,
        // The file may still be a certificate.
        Flipped(_) => Either("the same CA makes them anew", "is not signed by the CA that is there now"),
        _ => Refused("the same CA makes them anew"),
    });
}

#[test]
fn the_key_of_the_certificate() {
    try_all("default.key", |damage| match damage {
        // The same CA has made another key.
        Missing => Runs,
        _ => Refused("the same CA makes them anew"),
    });
}

#[test]
fn the_inventory() {
    try_all("inventory.json", |damage| match damage {
        // A flipped bit may have turned one name into another.
        Missing | Flipped(_) => Runs,
        _ => Told("inventory.unreadable, and a new inventory begins"),
    });
}

/// Commands find the running proxy by these files.
#[test]
fn the_trail() {
    for trail in ["running", "reload"] {
        try_each(&OF_A_LOCK, trail, |damage| match damage {
            Directory if trail == "running" => Told("packetboat reload needs --pid"),
            _ => Runs,
        });
    }
}

/// A file, a link or a pipe stands in the directory's place.
#[test]
fn the_directory_of_tokens() {
    let exchange = signed_in();
    let configuration = exchange.configuration(BY_PERSON);
    let tokens = exchange.state().join("tokens");
    let aside = exchange.state().join("aside");
    fs::rename(&tokens, &aside).unwrap();
    for put in [
        |path: &Path| fs::write(path, "x"),
        |path: &Path| symlink("nowhere", path),
        |path: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).map_err(Into::into)
        },
    ] {
        put(&tokens).unwrap();
        let ran = exchange.run(&["run"], &configuration);
        assert!(ran.code == 69 && ran.errors.contains(&tokens.display().to_string()), "{} {}", ran.code, ran.errors);
        fs::remove_file(&tokens).unwrap();
    }
    fs::rename(&aside, &tokens).unwrap();
    assert!(imap_login(&exchange.proxy(&configuration)).starts_with("OK"));
}

/// Tries every damage to one file of a complete state directory.
fn try_all(name: &str, outcome: impl Fn(Damage) -> Outcome) {
    try_each(&ALL, name, outcome);
}

fn try_each(damages: &[Damage], name: &str, outcome: impl Fn(Damage) -> Outcome) {
    let exchange = signed_in();
    let configuration = exchange.configuration(BY_PERSON);
    let [token] = exchange.tokens().try_into().unwrap();
    let path = match name.strip_prefix("TOKEN.") {
        Some(extension) => token.with_extension(extension),
        None => exchange.state().join(name),
    };
    if name == "running" {
        // A killed process leaves this file.
        fs::write(&path, "1\n\n").unwrap();
        mode(&path, 0o600);
    }
    let kept = exchange.state().with_file_name("kept");
    copy(&exchange.state(), &kept);
    for &damage in damages {
        let what = format!("{name}: {damage:?}");
        apply(damage, &path);
        let left = content(&path);
        comes_to(&exchange, &configuration, &path, outcome(damage), &what);
        let is_remade = matches!(outcome(damage), Runs | Told(_) | Either(..)) || damage == Missing;
        assert!(is_remade || content(&path) == left, "{what}: it was replaced");
        fs::remove_dir_all(exchange.state()).unwrap();
        copy(&kept, &exchange.state());
    }
    let proxy = exchange.proxy(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"), "{name}: with the old file back");
    assert_eq!(exchange.simulator.counts().authorizations, 1, "nobody signs in again");
}

fn comes_to(exchange: &Exchange, configuration: &str, path: &Path, outcome: Outcome, what: &str) {
    let shown = path.display().to_string();
    let outcome = match outcome {
        Either(refused, told) => {
            let ran = exchange.run(&["certificate", "show"], configuration);
            if ran.code == 69 { Refused(refused) } else { Told(told) }
        }
        one => one,
    };
    if let Refused(words) = outcome {
        let said = super::twice::refused(exchange, configuration);
        assert!(said.contains(&shown) && said.contains(words), "{what}: {said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
        return;
    }
    let is_of_authority = path.file_stem().unwrap() == "ca";
    let authority = (!is_of_authority).then(|| fs::read(exchange.state().join("ca.key")).unwrap());
    let mut proxy: Proxy = exchange.proxy(configuration);
    let told = |proxy: &Proxy, words: &str| {
        let line = proxy.log.wait_for(words, |line| line.contains(words));
        assert!(line.contains("WARN") || line.contains("ERROR"), "{what}: {line}");
        line
    };
    match outcome {
        NoToken(words) => {
            assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN]"), "{what}");
            let line = told(&proxy, words);
            let is_named = line.contains(".token") || line.contains(&shown) || words.starts_with("has not");
            assert!(is_named, "{what}: {line}");
        }
        Told(words) => {
            assert!(imap_login(&proxy).starts_with("OK"), "{what}");
            let line = told(&proxy, words);
            assert!(line.contains(&shown), "{what}: {line}");
        }
        Runs | NoRenewal(_) => assert!(imap_login(&proxy).starts_with("OK"), "{what}"),
        Refused(_) | Either(..) => {}
    }
    if let NoRenewal(words) = outcome {
        let ran = exchange.run(&["certificate", "renew"], configuration);
        assert!(ran.code == 69 && ran.errors.contains(words) && ran.errors.contains(&shown), "{what}: {}", ran.errors);
    }
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success(), "{what}");
    assert!(!proxy.log.to_the_end().contains("panicked"), "{what}: {}", proxy.log.all());
    if let Some(authority) = authority {
        assert!(fs::read(exchange.state().join("ca.key")).unwrap() == authority, "{what}: another CA");
    }
}

/// A complete state directory: a sign-in, certificates, an inventory with a device, and the result of a reload.
fn signed_in() -> Exchange {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let mut proxy = exchange.proxy(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
    assert_eq!(proxy.reload().0, 0);
    proxy.process.signal("TERM");
    assert!(proxy.process.wait().success());
    exchange
}

fn apply(damage: Damage, path: &Path) {
    let mut octets = fs::read(path).unwrap();
    let at = |percent: usize| (octets.len() * percent / 100).min(octets.len().saturating_sub(1));
    match damage {
        Cut(percent) => octets.truncate(at(percent)),
        Flipped(percent) => {
            let at = at(percent);
            octets[at] ^= 0x04;
        }
        Garbage => octets = (0..777_u32).map(|number| (number * number % 251) as u8).collect(),
        Huge => return fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 30).unwrap(),
        Missing | Directory | Pipe | Link => {
            fs::remove_file(path).unwrap();
            return match damage {
                Directory => {
                    fs::create_dir(path).unwrap();
                    mode(path, 0o700);
                }
                Pipe => {
                    let kind = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, path, kind, 0o600.into(), 0).unwrap();
                }
                Link => symlink("nowhere", path).unwrap(),
                _ => {}
            };
        }
    }
    fs::write(path, octets).unwrap();
}

/// The type, content and target of a path, as far as they can be read without blocking.
fn content(path: &Path) -> (Option<fs::FileType>, Option<Vec<u8>>, Option<PathBuf>) {
    let metadata = fs::symlink_metadata(path).ok();
    let is_small = metadata.as_ref().is_some_and(|one| one.is_file() && one.len() < 1 << 20);
    let octets = is_small.then(|| fs::read(path).unwrap());
    (metadata.map(|one| one.file_type()), octets, fs::read_link(path).ok())
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status();
    assert!(copied.unwrap().success());
    assert_eq!(fs::metadata(to).unwrap().permissions().mode() & 0o777, 0o700);
}
