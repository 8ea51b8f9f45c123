//! Licences, bans and sources of everything that is linked in, from cargo itself: no network needed.
//!
//! Advisories are not checked here, because their database is not in any package registry: `cargo deny check` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

const LICENCES: &[&str] =
    &["MIT", "Apache-2.0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Unicode-3.0", "CDLA-Permissive-2.0"];

/// A second TLS or crypto library beside OpenSSL (devices) and aws-lc-rs (servers).
const BANNED: &[&str] = &["native-tls", "boring", "boring-sys", "wolfssl", "ring", "mbedtls", "schannel", "reqwest"];

/// Two versions of the same crate, each with its reason.
const TWICE: &[&str] = &[
    // Build time only: openssl-macros has not moved to version 3 yet.
    "syn",
];

struct Package {
    name: String,
    version: String,
    licence: String,
}

/// What is built into the binary or builds it; not what only tests need.
fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", "no-dev", "--prefix", "none", "--format", "{p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    // A repeated subtree ends in (*).
    let lines: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let package = |line: &str| {
        let (package, licence) = line.split_once('|').unwrap();
        let mut words = package.split(' ');
        let (name, version) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        Package { name, version, licence: licence.to_owned() }
    };
    let packages: Vec<Package> = lines.into_iter().map(package).collect();
    assert!(packages.len() > 50);
    packages
}

#[test]
fn every_licence_is_one_we_may_ship() {
    for Package { name, licence, .. } in packages() {
        assert!(is_allowed(&licence), "{name} has the licence {licence}");
    }
}

#[test]
fn no_second_tls_library_and_no_crate_twice() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Package { name, version, .. } in packages() {
        assert!(!BANNED.contains(&name.as_str()), "{name} is banned");
        versions.entry(name).or_default().insert(version);
    }
    for (name, versions) in versions {
        assert!(versions.len() == 1 || TWICE.contains(&name.as_str()), "{name} comes in {versions:?}");
    }
}

#[test]
fn everything_comes_from_the_registry() {
    let lock = include_str!("../Cargo.lock");
    let sources: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    assert_eq!(sources.len() + 1, lock.matches("[[package]]").count(), "only packetboat itself has no source");
    assert!(sources.iter().all(|source| source.starts_with("\"registry+")));
}

/// OpenSSL 4.0 has neither SSLv3 nor the SSLv2-format ClientHello.
#[test]
fn openssl_is_of_the_last_line_that_knows_the_old_protocols() {
    let openssl = packages().into_iter().find(|one| one.name == "openssl-src").unwrap();
    assert!(openssl.version.starts_with("v300."), "{}", openssl.version);
}

/// SPDX: `AND` binds more tightly than `OR`; `/` is an old `OR`; brackets hold alternatives.
fn is_allowed(licence: &str) -> bool {
    let licence = licence.replace('/', " OR ");
    let mut depth = 0;
    let mut parts = vec![String::new()];
    let mut ors = Vec::new();
    for word in licence.replace('(', "( ").replace(')', " )").split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth -= 1,
            "AND" if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            "OR" if depth == 0 => {
                ors.push(std::mem::replace(&mut parts, vec![String::new()]));
                continue;
            }
            _ => {}
        }
        let part = parts.last_mut().unwrap();
        part.push_str(word);
        part.push(' ');
    }
    ors.push(parts);
    ors.iter().any(|parts| {
        parts.iter().all(|part| {
            let part = part.trim();
            match part.strip_prefix("( ").and_then(|part| part.strip_suffix(" )")) {
                Some(inner) => is_allowed(inner),
                None => LICENCES.contains(&part),
            }
        })
    })
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    assert!(is_allowed("MIT OR GPL-3.0") && is_allowed("Unlicense/MIT") && is_allowed("ISC AND (GPL-2.0 OR MIT)"));
    assert!(!is_allowed("GPL-3.0") && !is_allowed("MIT AND GPL-3.0") && !is_allowed("ISC AND (GPL-2.0 OR AGPL-3.0)"));
    assert!(!is_allowed("none"));
}
