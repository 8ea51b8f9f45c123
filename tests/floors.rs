//! The floors of the house: a file imports only from lower floors, siblings never form a cycle, each heavy crate has
//! one owner, names are the field's own words, errors are types, and files stay readable.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Top-level modules by floor, lowest first. A module stands for everything below it; `src/lib.rs` says what each does.
const FLOORS: &[&[&str]] = &[
    &[
        "crypto",
        "diagnostic",
        "failure",
        "mode",
        "pool",
        "protocol",
        "secret",
        "source",
        "submission",
        "text",
        "withdrawal",
    ],
    &["config", "proto", "state"],
    &["confinement", "lifecycle", "transport"],
    &["fleet"],
    &["device", "inventory", "metrics", "spool", "token"],
    &["provision", "proxy"],
    &["admin", "simulator"],
    &["cli"],
    &["main"],
];

/// Modules that never import each other, in either direction, although they share a room.
const APART: &[(&str, &str)] =
    &[("proto::imap", "proto::pop3"), ("proto::imap", "proto::smtp"), ("proto::pop3", "proto::smtp")];

/// Heavy crates, and the modules (with their parts) that may name each.
const OWNERS: &[(&str, &[&str])] = &[
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
    ("serde", &["config::file", "token::json", "inventory", "spool::envelope", "spool::record"]),
    (
        "serde_json",
        &[
            "token::json",
            "inventory::device_json",
            "inventory::activity::saved",
            "spool::record",
            "admin",
            "simulator",
            "cli::run::log",
            "cli::fleet",
            "cli::init",
            "cli::online",
            "cli::spool",
        ],
    ),
    ("prometheus", &["metrics"]),
    ("tokio_postgres", &["fleet::postgres"]),
    ("dns_lookup", &["transport::host"]),
    ("sd_notify", &["cli::run::systemd"]),
    ("listenfd", &["cli::run::systemd"]),
    ("clap_mangen", &["cli::generate"]),
    ("clap_complete", &["cli::generate"]),
    ("toml", &["config::file"]),
    ("toml_edit", &["provision"]),
    ("clap", &["cli"]),
    ("tracing", &["fleet", "proxy", "cli", "token", "admin", "spool"]),
    ("tracing_subscriber", &["cli::run::log"]),
    ("socket2", &["transport"]),
    ("landlock", &["confinement"]),
    ("seccompiler", &["confinement"]),
    ("libc", &["confinement"]),
    ("if_addrs", &["transport::host"]),
];

/// Paths that `src/proto` never names.
const IMPURE: &[&str] = &["tokio", "std::net", "std::fs", "std::time", "tracing", "crate::config", "crate::transport"];

/// Modules that write to standard output and standard error. All their output is `text::Printable`.
const PRINTERS: &[&str] = &["cli::output", "cli::run::log::stderr"];

/// Other functions and macros that print.
const PRINTING: &[&str] = &["println!(", "print!(", "dbg!(", "stdout()", "stderr()", ".print()", ".exit()"];

/// Words that are metaphors, or that name two things: no module, type or function has one in its name.
const RETIRED_WORDS: &[&str] = &[
    "asked",
    "common",
    "decoys",
    "desk",
    "door",
    "doorway",
    "drawer",
    "guest",
    "heard",
    "helper",
    "here",
    "introduction",
    "lane",
    "making",
    "manager",
    "met",
    "misses",
    "obstacle",
    "outside",
    "place",
    "places",
    "said",
    "say",
    "seat",
    "serving",
    "shared",
    "sight",
    "slot",
    "story",
    "tell",
    "told",
    "trail",
    "trial",
    "turn",
    "types",
    "upkeep",
    "util",
    "verdict",
    "wire",
    "witness",
];

const LONGEST_FILE: usize = 400;

#[test]
fn imports_go_down_only() {
    assert_none(House::read().upward());
}

#[test]
fn siblings_form_no_cycle() {
    assert_none(House::read().cycles());
}

#[test]
fn rooms_apart_do_not_know_each_other() {
    assert_none(House::read().across());
}

#[test]
fn heavy_crates_have_one_owner() {
    assert_none(sources().iter().flat_map(|(file, text)| outside_owners(&module_of(file), text)).collect());
}

#[test]
fn proto_is_pure() {
    assert_none(sources().iter().flat_map(|(file, text)| impurities(&module_of(file), text)).collect());
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
    assert_none(sources().iter().flat_map(|(file, text)| printing(&module_of(file), text)).collect());
}

#[test]
fn names_are_the_words_of_the_field() {
    assert_none(sources().iter().flat_map(|(file, text)| retired(&module_of(file), text)).collect());
}

#[test]
fn errors_are_types() {
    assert_none(sources().iter().flat_map(|(file, text)| textual_errors(&module_of(file), text)).collect());
}

#[test]
fn files_state_their_idea_and_stay_readable() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{} does not begin with its idea", file.display());
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", file.display());
    }
}

/// The map in `src/lib.rs` names every module, on its floor.
#[test]
fn the_map_shows_every_module_on_its_floor() {
    let map = fs::read_to_string(root().join("lib.rs")).unwrap();
    for (floor, modules) in FLOORS.iter().enumerate() {
        for module in modules.iter().filter(|module| **module != "main") {
            let row = format!("//! | {floor} | [`{module}`] |");
            assert!(map.contains(&row), "src/lib.rs has no row {row:?}");
        }
    }
    for (file, _) in sources() {
        let module = module_of(&file);
        assert!(module == "lib" || floor_of(&module).is_some(), "{module} is on no floor");
    }
}

/// Each check finds a planted violation.
#[test]
fn a_broken_rule_is_found() {
    let house = |files: &[(&str, &str)]| House::of(files.iter().map(|(name, text)| ((*name).into(), (*text).into())));
    let proxy = ("proxy::relay", "");
    assert_eq!(house(&[("proto::imap", "use crate::proxy::relay::Flow;"), proxy]).upward().len(), 1);
    assert_eq!(house(&[("proto", "let x = crate::proxy::relay::new();"), proxy]).upward().len(), 1);
    assert_eq!(house(&[("state", "use crate::{config::{A, suite}, x};"), ("config::suite", "")]).upward().len(), 1);
    assert_eq!(house(&[("proxy", "use crate::state::A;\n// use crate::cli::B;"), ("cli", "")]).upward().len(), 0);
    let one = ("proxy", "mod one;\nmod two;\npub use one::One;");
    let cycle = |two: &str| house(&[one, ("proxy::one", "use super::two::Two;"), ("proxy::two", two)]).cycles().len();
    assert_eq!(cycle("use super::one::One;"), 2);
    assert_eq!(cycle("let one = super::One::new();"), 2, "a name that the parent hands on is found too");
    assert_eq!(cycle("use super::other::One;"), 0);
    assert_eq!(house(&[("proto::imap", "use super::pop3::Pop3;"), ("proto::pop3", "")]).across().len(), 1);

    assert_eq!(outside_owners("proxy", "use openssl::ssl::Ssl;").len(), 1);
    assert_eq!(outside_owners("transport::downstream", "let x = rustls::version();").len(), 1);
    assert!(outside_owners("transport::downstream::certificate", "use openssl::x509::X509;").is_empty());
    assert_eq!(impurities("proto::imap::frame", "use std::time::Instant;").len(), 1);
    assert!(impurities("proxy", "use std::time::Instant;").is_empty());
    assert_eq!(printing("cli::check", "    eprintln!(\"{peer}\");").len(), 1);
    assert_eq!(printing("cli::login", "    let _ = std::io::stdout().write_all(peer);").len(), 1);
    assert!(printing("cli::output", "    stdout().lock()").is_empty());
    assert!(printing("cli::run::log", "colours: io::stderr().is_terminal(),").is_empty());
    assert_eq!(retired("proxy::door", "pub(super) struct OpenDoor {\n    async fn tell_all(&self)").len(), 3);
    assert!(retired("proxy::listen", "struct Doorbell;\nlet door = 1;\nfn indoors()").is_empty());
    assert_eq!(textual_errors("state", "fn read(path: &Path) -> Result<Vec<(u8, u8)>, String> {").len(), 1);
    assert_eq!(textual_errors("state", "    pub files: Result<Vec<PathBuf>, String>,").len(), 1);
    assert!(textual_errors("state", ") -> Result<BTreeMap<String, String>, Error> {").is_empty());
    assert!(textual_errors("state", "fn read(text: &str) -> Result<String, Error> {").is_empty());
    assert!(textual_errors("state", "fn read(text: &str) -> io::Result<String> {").is_empty());
}

/// All modules with their code, and each module's imports.
struct House {
    /// For each module, the names that it hands on: a name, and the path that it was imported from.
    imported: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    edges: BTreeSet<(String, String)>,
}

impl House {
    fn read() -> Self {
        let files = sources().into_iter().map(|(file, text)| (module_of(&file), text));
        Self::of(files.filter(|(module, _)| !module.split("::").any(|part| part == "tests")))
    }

    fn of(files: impl Iterator<Item = (String, String)>) -> Self {
        let files: BTreeMap<String, String> =
            files.map(|(module, text)| (module, code(&text).collect::<Vec<_>>().join("\n"))).collect();
        let mut house = Self {
            imported: files.keys().map(|name| (name.clone(), BTreeMap::new())).collect(),
            edges: BTreeSet::new(),
        };
        for (module, text) in &files {
            let paths = uses(text).into_iter().filter_map(|path| house.absolute(module, path));
            let imported = paths.filter_map(|path| Some((path.last()?.clone(), path))).collect();
            house.imported.insert(module.clone(), imported);
        }
        for (module, text) in &files {
            for path in uses(text).into_iter().chain(inline(text)) {
                let target = house.absolute(module, path).and_then(|path| house.module_at(&path, 0));
                if let Some(target) = target.filter(|target| target != module) {
                    house.edges.insert((module.clone(), target));
                }
            }
        }
        house
    }

    /// A path from the crate's root; none for a path into another crate.
    fn absolute(&self, module: &str, mut path: Vec<String>) -> Option<Vec<String>> {
        let mut base: Vec<String> = module.split("::").map(str::to_owned).collect();
        match path.first()?.as_str() {
            "crate" => return Some(path.split_off(1)),
            "self" => drop(path.remove(0)),
            "super" => {
                while path.first().is_some_and(|part| part == "super") {
                    path.remove(0);
                    base.pop();
                }
            }
            part if self.imported.contains_key(&format!("{module}::{part}")) => {}
            _ => return None,
        }
        base.extend(path);
        Some(base)
    }

    /// The module in which the item at a path stands, also where a parent hands it on.
    fn module_at(&self, path: &[String], depth: usize) -> Option<String> {
        let length = (1..=path.len()).rev().find(|length| self.imported.contains_key(&path[..*length].join("::")))?;
        let module = path[..length].join("::");
        let from = path.get(length).and_then(|name| self.imported[&module].get(name));
        match from {
            Some(from) if depth < 8 && from[..] != path[..=length] => {
                let whole = [from.as_slice(), &path[length + 1..]].concat();
                self.module_at(&whole, depth + 1).or(Some(module))
            }
            _ => Some(module),
        }
    }

    /// Imports of modules that are not below.
    fn upward(&self) -> Vec<String> {
        let is_upward = |from: &str, to: &str| floor_of(from) <= floor_of(to) && top(from) != top(to);
        let edges = self.edges.iter().filter(|(from, to)| floor_of(from).is_some() && is_upward(from, to));
        edges.map(|(from, to)| format!("{from} imports {to}, which is not on a lower floor")).collect()
    }

    /// Imports that are part of a cycle of siblings, in the whole house and in each room.
    fn cycles(&self) -> Vec<String> {
        let mut rooms: BTreeMap<String, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
        for (from, to) in &self.edges {
            if let Some((room, from, to)) = siblings(from, to) {
                rooms.entry(room).or_default().entry(from).or_default().insert(to);
            }
        }
        let mut found = Vec::new();
        for (room, graph) in &rooms {
            for (from, targets) in graph {
                let back = targets.iter().filter(|to| reaches(graph, to, from));
                found.extend(back.map(|to| format!("{room}: {from} imports {to}, and {to} leads back to {from}")));
            }
        }
        found
    }

    fn across(&self) -> Vec<String> {
        let is = |module: &str, room: &str| module == room || is_part(room, module);
        let is_apart = |from: &str, to: &str| {
            APART.iter().any(|(one, two)| (is(from, one) && is(to, two)) || (is(from, two) && is(to, one)))
        };
        let edges = self.edges.iter().filter(|(from, to)| is_apart(from, to));
        edges.map(|(from, to)| format!("{from} imports {to}")).collect()
    }
}

/// The room that two modules share, and the part of it that each stands in; none for a parent and its part.
fn siblings<'a>(one: &'a str, two: &'a str) -> Option<(String, &'a str, &'a str)> {
    let same = one.split("::").zip(two.split("::")).take_while(|(one, two)| one == two).count();
    let room = one.split("::").take(same).collect::<Vec<_>>().join("::");
    Some((room, one.split("::").nth(same)?, two.split("::").nth(same)?))
}

fn reaches(graph: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(one) = next.pop() {
        if one == to {
            return true;
        }
        if seen.insert(one) {
            next.extend(graph.get(one).into_iter().flatten());
        }
    }
    false
}

/// The paths of all `use` declarations, one for each name.
fn uses(text: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (at, _) in text.match_indices("use ") {
        let is_word = text[..at].chars().next_back().is_none_or(|c| c.is_whitespace());
        if let (true, Some(end)) = (is_word, text[at..].find(';')) {
            expand(&[], &text[at + 4..at + end], &mut paths);
        }
    }
    paths
}

fn expand(before: &[String], tree: &str, paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let own = tree.split(['{', ' ']).next().unwrap_or_default();
    let path: Vec<String> =
        before.iter().cloned().chain(own.split("::").filter(|part| !part.is_empty()).map(str::to_owned)).collect();
    let Some(open) = tree.find('{') else { return paths.extend((!path.is_empty()).then_some(path)) };
    let (mut depth, mut start) = (0, open + 1);
    for (at, c) in tree.char_indices().skip(open + 1) {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                let part = &tree[start..at];
                start = at + 1;
                if !part.trim().is_empty() {
                    expand(&path, part, paths);
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
}

/// Paths by `crate::` and `super::` in the middle of code.
fn inline(text: &str) -> Vec<Vec<String>> {
    let starts = text.match_indices("crate::").chain(text.match_indices("super::"));
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    starts
        .filter(|(at, _)| !text[..*at].ends_with(is_path))
        .map(|(at, _)| text[at..].split(|c| !is_path(c)).next().unwrap_or_default())
        .map(|path| path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect())
        .collect()
}

/// Names of modules, types, traits and functions that have a retired word in them.
fn retired(module: &str, text: &str) -> Vec<String> {
    let is_retired = |name: &str| words(name).iter().any(|word| RETIRED_WORDS.contains(&word.as_str()));
    let own = module.rsplit("::").next().filter(|name| is_retired(name)).map(|_| format!("module {module}"));
    let names = code(text).filter_map(|line| {
        let mut rest = line.split_whitespace().skip_while(|word| {
            word.starts_with("pub") || ["super)", "crate)", "const", "async", "unsafe", "in"].contains(word)
        });
        let kind = rest.next().filter(|kind| ["fn", "struct", "enum", "trait", "type"].contains(kind))?;
        let name = rest.next()?.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
        is_retired(name).then(|| format!("{module}: {kind} {name}"))
    });
    own.into_iter().chain(names).collect()
}

/// The words of a name in snake_case or CamelCase, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_new = true;
    for c in name.chars() {
        if c == '_' {
            is_new = true;
            continue;
        }
        if is_new || c.is_uppercase() {
            words.push(String::new());
        }
        is_new = false;
        words.last_mut().unwrap().extend(c.to_lowercase());
    }
    words
}

/// Lines that print outside [`PRINTERS`]. Every module may ask whether a terminal is there.
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

/// Lines with a result whose error is a text.
fn textual_errors(module: &str, text: &str) -> Vec<String> {
    let is_text = |result: &str| {
        let (mut depth, mut error) = (0_usize, None);
        for (at, c) in result.char_indices() {
            match c {
                '<' | '(' | '[' => depth += 1,
                '>' if depth == 0 => return error.is_some_and(|error: usize| result[error..at].trim() == "String"),
                '>' | ')' | ']' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => error = Some(at + 1),
                _ => {}
            }
        }
        false
    };
    let found = |line: &&str| line.match_indices("Result<").any(|(at, word)| is_text(&line[at + word.len()..]));
    code(text).filter(found).map(|line| format!("{module} has a text for an error: {}", line.trim())).collect()
}

fn outside_owners(module: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code(text) {
        for (name, owners) in OWNERS {
            let is_owner = owners.iter().any(|owner| module == *owner || is_part(owner, module));
            if !is_owner && names(line, name) {
                found.push(format!("{module} names {name}, which belongs to {}: {}", owners.join(", "), line.trim()));
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

/// The floor of a module.
fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&top(module)))
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn is_part(parent: &str, module: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.starts_with("::"))
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
