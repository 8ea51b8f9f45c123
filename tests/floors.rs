//! The floors of the house: a file imports only from lower floors, heavy crates have one door, files stay readable.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules by floor, lowest first. A module stands for everything below it, unless that is named itself.
const FLOORS: &[&[&str]] = &[
    &["crypto", "failure", "pool", "secret", "source", "text", "withdrawn"],
    &["config::suite", "state", "proto::line", "proto::sasl"],
    &["proto::refusal", "proto::opening"],
    &["config", "proto::imap", "proto::pop3"],
    &["proto"],
    &["transport::detect::hello", "transport::host", "transport::buffer"],
    &["transport::socket"],
    &["transport::detect", "transport::proxy_header"],
    &["transport::downstream::library"],
    &["transport::downstream::certificate"],
    &["transport::downstream", "transport::upstream"],
    &["transport::http"],
    &["transport", "lifecycle", "metrics", "confinement"],
    &["device", "token", "inventory"],
    &["proxy::bucket"],
    &["proxy::quota"],
    &["proxy::limits", "proxy::mailbox", "proxy::passed", "proxy::relay", "proxy::warm", "proxy::witness"],
    &["proxy::record"],
    &["proxy::door", "proxy::driver"],
    &["proxy::opened", "proxy::doorway", "proxy::refuse"],
    &["proxy::registry"],
    &["proxy::connection", "proxy::trial"],
    &["proxy"],
    &["admin"],
    &["simulator"],
    &["cli"],
    &["main"],
];

/// Crates with one door: the modules (with their parts) that may name them.
const DOORS: &[(&str, &[&str])] = &[
    ("aws_lc_rs", &["crypto"]),
    ("rustls_pki_types", &["crypto"]),
    ("hyper", &["transport::http"]),
    ("hyper_util", &["transport::http"]),
    ("http_body_util", &["transport::http"]),
    ("argon2", &["device::password"]),
    ("openssl", &["transport::downstream"]),
    ("openssl_sys", &["transport::downstream::library"]),
    ("tokio_openssl", &["transport::downstream"]),
    ("rustls", &["transport::upstream"]),
    ("webpki", &["transport::upstream"]),
    ("webpki_roots", &["transport::upstream"]),
    ("rustls_native_certs", &["transport::upstream"]),
    ("serde", &["config::file", "token::wire", "inventory::wire"]),
    ("serde_json", &["token::wire", "inventory::wire", "admin", "simulator", "cli::run::log"]),
    ("prometheus", &["metrics"]),
    ("dns_lookup", &["transport::host"]),
    ("sd_notify", &["cli::run::manager"]),
    ("listenfd", &["cli::run::manager"]),
    ("clap_mangen", &["cli::generate"]),
    ("clap_complete", &["cli::generate"]),
    ("toml", &["config::file"]),
    ("clap", &["cli"]),
    ("tracing", &["proxy", "cli", "token", "admin"]),
    ("tracing_subscriber", &["cli::run::log"]),
    ("socket2", &["transport"]),
    ("landlock", &["confinement"]),
    ("seccompiler", &["confinement"]),
    ("libc", &["confinement"]),
    ("if_addrs", &["transport::host"]),
];

/// What the pure floors never see.
const IMPURE: &[&str] = &["tokio", "std::net", "std::fs", "std::time", "tracing", "crate::config", "crate::transport"];

/// The modules that write to standard output and standard error. Whatever they write is `text::Printable`.
const PRINTERS: &[&str] = &["cli::output", "cli::run::log::stderr"];

/// How else something could be printed.
const PRINTING: &[&str] = &["println!(", "print!(", "dbg!(", "stdout()", "stderr()", ".print()", ".exit()"];

const LONGEST_FILE: usize = 450;

#[test]
fn imports_go_down_only() {
    let violations: Vec<String> = sources().iter().flat_map(|(file, text)| upward(&module_of(file), text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn heavy_crates_have_one_door() {
    let violations: Vec<String> =
        sources().iter().flat_map(|(file, text)| outside_doors(&module_of(file), text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn proto_is_pure() {
    let violations: Vec<String> =
        sources().iter().flat_map(|(file, text)| impurities(&module_of(file), text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn unsafe_code_lives_in_one_file() {
    let files: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| code(text).any(|line| line.contains("unsafe {") || line.contains("unsafe fn")))
        .map(|(file, _)| module_of(file))
        .collect();
    assert_eq!(files, ["transport::downstream::library"]);
}

#[test]
fn one_module_prints() {
    let violations: Vec<String> = sources().iter().flat_map(|(file, text)| printing(&module_of(file), text)).collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn files_say_their_idea_and_stay_readable() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not begin with its idea", file.display());
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", file.display());
    }
}

#[test]
fn every_module_stands_on_a_floor() {
    for (file, _) in sources() {
        let module = module_of(&file);
        assert!(module == "lib" || floor_of(&module).is_some(), "{module} is on no floor");
    }
}

/// The checks themselves: each finds what it is there for.
#[test]
fn a_broken_floor_is_found() {
    assert_eq!(upward("proto::imap", "use crate::proxy::relay::Flow;").len(), 1);
    assert_eq!(upward("proto::imap", "use super::pop3::Pop3;").len(), 1);
    assert_eq!(upward("proto::imap", "    let x = crate::transport::tune();").len(), 1);
    assert_eq!(upward("transport::upstream", "use super::downstream::Tls;").len(), 1);
    assert_eq!(upward("state", "use crate::config::suite;").len(), 1);
    assert_eq!(upward("proxy::relay", "use crate::{cli::main};").len(), 1);
    assert!(
        upward("proto::imap", "use super::line::Line;\nuse crate::failure::Kind;\nmod frame;\nuse frame::Frame;")
            .is_empty()
    );
    assert!(upward("proto::imap::frame", "use crate::proto::Step;\n// use crate::proxy::relay;").is_empty());
    assert_eq!(outside_doors("proxy", "use openssl::ssl::Ssl;").len(), 1);
    assert_eq!(outside_doors("transport::downstream", "let x = rustls::version();").len(), 1);
    assert!(outside_doors("transport::downstream::certificate", "use openssl::x509::X509;").is_empty());
    assert_eq!(impurities("proto::imap::frame", "use std::time::Instant;").len(), 1);
    assert!(impurities("proxy", "use std::time::Instant;").is_empty());
    assert_eq!(printing("cli::check", "    eprintln!(\"{peer}\");").len(), 1);
    assert_eq!(printing("cli::login", "    let _ = std::io::stdout().write_all(peer);").len(), 1);
    assert!(printing("cli::output", "    stdout().lock()").is_empty());
    assert!(printing("cli::run::log", "colours: io::stderr().is_terminal(),").is_empty());
}

/// Lines that print past the modules that are there for it. Whether there is a terminal may be asked everywhere.
fn printing(module: &str, text: &str) -> Vec<String> {
    if PRINTERS.contains(&module) {
        return Vec::new();
    }
    code(text)
        .map(|line| line.replace("stdout().is_terminal()", "").replace("stderr().is_terminal()", ""))
        .filter(|line| PRINTING.iter().any(|way| line.contains(way)))
        .map(|line| format!("{module} prints: {}", line.trim()))
        .collect()
}

/// Imports of modules that are not below. A parent and its own parts may know each other.
fn upward(module: &str, text: &str) -> Vec<String> {
    let Some(own) = floor_of(module) else { return Vec::new() };
    let mut found = Vec::new();
    for line in code(text) {
        for target in references(module, line).into_iter().map(existing) {
            let Some(floor) = floor_of(&target) else { continue };
            let family = is_part(module, &target) || is_part(&target, module) || same_room(module, &target);
            if floor >= own && !family {
                found.push(format!("{module} (floor {own}) imports {target} (floor {floor}): {}", line.trim()));
            }
        }
    }
    found
}

fn outside_doors(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code(text) {
        for (name, doors) in DOORS {
            let door = doors.iter().any(|door| module == *door || is_part(door, module));
            if !door && names(line, name) {
                found.push(format!("{module} names {name}, which belongs to {}: {}", doors.join(", "), line.trim()));
            }
        }
    }
    found
}

fn impurities(module: &str, text: &str) -> Vec<String> {
    if module != "proto" && !is_part("proto", module) {
        return Vec::new();
    }
    code(text)
        .filter(|line| IMPURE.iter().any(|word| names(line, word)))
        .map(|line| format!("{module} is pure: {}", line.trim()))
        .collect()
}

/// Whether a line uses a crate or path: the word, then `::`.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        line[at + path.len()..].starts_with("::")
            && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// The modules that a line refers to by `crate::` or `super::`.
fn references(module: &str, line: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        targets.push(path(&line[at + "crate::".len()..]));
    }
    if let Some(at) = line.find("super::") {
        let rest = &line[at..];
        let ups = rest.split("::").take_while(|part| *part == "super").count();
        let parents: Vec<&str> = module.split("::").collect();
        let base = parents[..parents.len().saturating_sub(ups)].join("::");
        let rest = path(&rest["super::".len() * ups..]);
        targets.push([base, rest].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::"));
    }
    targets
}

/// The module that a path leads to: a function or constant at its end is left off.
fn existing(mut target: String) -> String {
    while !root().join(target.replace("::", "/")).with_extension("rs").exists() {
        let Some((parent, _)) = target.rsplit_once("::") else { break };
        target.truncate(parent.len());
    }
    target
}

/// The lower-case words of a path, up to a type, a function or a brace.
fn path(text: &str) -> String {
    let text = text.trim_start_matches('{');
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let words: Vec<&str> = text[..end].split("::").take_while(|word| word.starts_with(char::is_lowercase)).collect();
    words.join("::")
}

/// The floor of the longest named module that this one is, or is a part of.
fn floor_of(module: &str) -> Option<usize> {
    let mut best: Option<(usize, usize)> = None;
    for (floor, modules) in FLOORS.iter().enumerate() {
        for named in *modules {
            if (module == *named || is_part(named, module)) && best.is_none_or(|(length, _)| named.len() > length) {
                best = Some((named.len(), floor));
            }
        }
    }
    best.map(|(_, floor)| floor)
}

fn is_part(parent: &str, module: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.starts_with("::"))
}

/// Both stand for the same named module: parts of one parent, which may order themselves.
fn same_room(one: &str, other: &str) -> bool {
    let room = |module: &str| {
        FLOORS
            .iter()
            .flat_map(|floor| floor.iter())
            .filter(|named| module == **named || is_part(named, module))
            .max_by_key(|named| named.len())
            .copied()
    };
    room(one) == room(other)
}

/// Lines without comments, up to the tests of the file.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

fn module_of(file: &Path) -> String {
    let relative = file.strip_prefix(root()).unwrap().with_extension("");
    relative.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("::")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(files.len() > 20);
    files
}
