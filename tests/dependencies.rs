//! These tests prove licences, bans, features and sources of every crate that is linked in. They ask cargo, and need no
//! network once cargo has the crates.
//!
//! `make deny` checks advisories, because their database is in no package registry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const LICENCES: &[&str] = &["MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "Unicode-3.0", "CDLA-Permissive-2.0"];

/// Every TLS crate, by name: OpenSSL towards devices, rustls on AWS-LC towards servers. Another one is a second library
/// to watch, or bypasses the module that owns TLS; deny.toml lists the known ones by name.
const TLS: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "crypto-common",
    "openssl",
    "openssl-macros",
    "openssl-probe",
    "openssl-src",
    "openssl-sys",
    "rustls",
    "rustls-native-certs",
    "rustls-pki-types",
    "rustls-webpki",
    "tokio-openssl",
    "webpki-roots",
];

/// Parts of the names of TLS crates. A crate that has one of them must be in the list above.
const LOOKS_LIKE_TLS: &[&str] =
    &["ssl", "tls", "crypt", "pki", "aws-lc", "s2n", "boring", "graviola", "schannel", "security-framework", "reqwest"];

/// Crates that link C code in; config/release/sbom.py names their libraries in the bill of materials.
const NATIVE: &[&str] = &["aws-lc-rs", "aws-lc-sys", "openssl-sys"];

/// The features of every crate in Cargo.toml and of the libraries beneath TLS, as cargo unites them. A reviewer looks
/// at a feature here before an update or another crate brings it in.
const FEATURES: &[(&str, &str)] = &[
    ("arc-swap", ""),
    ("argon2", "alloc password-hash"),
    // rustls asks for prebuilt-nasm, which concerns Windows only.
    ("aws-lc-rs", "aws-lc-sys prebuilt-nasm"),
    ("aws-lc-sys", "prebuilt-nasm"),
    // base64 works without simd-unsafe, because a login is short.
    ("base64", "alloc std"),
    ("clap", "color derive env error-context help std suggestions usage wrap_help"),
    ("clap_complete", "default"),
    ("clap_mangen", "default"),
    ("dns-lookup", ""),
    ("form_urlencoded", "alloc default std"),
    ("http-body-util", "default"),
    ("httpdate", ""),
    ("humantime", ""),
    // hyper has no http2.
    ("hyper", "client default http1 server"),
    // hyper-util has no client, which would bring a connection pool and a connector.
    ("hyper-util", "tokio"),
    ("if-addrs", ""),
    ("ipnet", "default std"),
    ("landlock", ""),
    ("libc", "default std"),
    ("listenfd", ""),
    ("memchr", "alloc default std"),
    ("openssl", "default vendored"),
    // no-dso keeps OpenSSL from loading code out of files. openssl-sys asks for legacy, which has RC4.
    ("openssl-src", "default legacy no-dso ssl3 weak-crypto"),
    ("openssl-sys", "openssl-src vendored"),
    // parking_lot has neither deadlock_detection nor nightly.
    ("parking_lot", "default"),
    // prometheus has neither protobuf nor push nor process.
    ("prometheus", ""),
    // clap's wrap_help asks for alloc and termios.
    ("rustix", "alloc default event fs net param process std system termios thread"),
    // rustls has neither ring nor logging nor prefer-post-quantum.
    ("rustls", "aws-lc-rs aws_lc_rs std tls12"),
    ("rustls-native-certs", ""),
    ("rustls-pki-types", "alloc default std"),
    ("rustls-webpki", "alloc aws-lc-rs std"),
    // seccompiler has no json, because the filter is written in Rust.
    ("seccompiler", ""),
    ("sd-notify", ""),
    ("serde", "default derive serde_derive std"),
    ("serde_json", "default std"),
    ("socket2", "all"),
    ("strsim", ""),
    // tokio has neither fs nor process nor io-std.
    (
        "tokio",
        "bytes default io-util libc macros mio net rt rt-multi-thread signal signal-hook-registry socket2 sync time tokio-macros",
    ),
    ("tokio-openssl", ""),
    // tokio-postgres has no runtime: packetboat dials, and does TLS.
    ("tokio-postgres", ""),
    // toml has no display, because toml_edit writes what commands change.
    ("toml", "parse serde std"),
    ("toml_edit", "display parse"),
    // tracing has neither attributes nor log.
    ("tracing", "std"),
    // tracing-subscriber has no env-filter, which brings regular expressions.
    (
        "tracing-subscriber",
        "alloc ansi fmt json nu-ansi-term registry serde serde_json sharded-slab std thread_local tracing-serde",
    ),
    ("webpki-roots", ""),
    ("zeroize", "alloc default"),
];

/// Crates that come in two versions, each with its reason.
const TWICE: &[&str] = &[
    // postgres-protocol has not moved to version 0.23 yet.
    "base64", // openssl-macros, which runs at build time only, has not moved to version 3 yet.
    "syn",
];

struct Package {
    name: String,
    version: String,
    licence: String,
    features: String,
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The crates of the binary and of its build, without those of the tests. Depth 1 means the crates in Cargo.toml.
fn packages(depth: &str) -> Vec<Package> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "no-dev",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}|{f}",
        "--depth",
        depth,
    ]);
    // cargo marks a repeated subtree with (*).
    let lines: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let package = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let mut words = fields[0].split(' ').map(str::to_owned);
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        Package { name, version, licence: fields[1].to_owned(), features: fields[2].replace(',', " ") }
    };
    lines.into_iter().map(package).collect()
}

/// All crates, at any depth.
fn everything() -> Vec<Package> {
    let packages = packages("99");
    assert!(packages.len() > 50);
    packages
}

#[test]
fn every_licence_is_one_we_may_ship() {
    for Package { name, licence, .. } in everything() {
        assert!(is_allowed(&licence), "{name} has the licence {licence}");
    }
}

#[test]
fn two_tls_libraries_and_no_third() {
    let looks_like = |name: &String| name == "ring" || LOOKS_LIKE_TLS.iter().any(|part| name.contains(part));
    let found: BTreeSet<String> = everything().into_iter().map(|one| one.name).filter(looks_like).collect();
    assert_eq!(found, TLS.iter().map(|&name| name.to_owned()).collect());
}

#[test]
fn c_code_comes_with_two_crates() {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let host = String::from_utf8(rustc.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // cargo metadata runs without `--offline`, because it also reads optional crates that are never built.
    let metadata = cargo(&["metadata", "--locked", "--format-version", "1", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let built: BTreeSet<String> = everything().into_iter().map(|one| one.name).collect();
    let links = metadata["packages"].as_array().unwrap().iter().filter(|package| !package["links"].is_null());
    let names: BTreeSet<&str> = links.filter_map(|package| package["name"].as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(|&name| built.contains(name)).collect();
    assert_eq!(names, NATIVE);
}

/// OpenSSL loads neither a module nor an engine, because it is built without that code.
#[test]
fn no_code_is_loaded_at_run_time() {
    let symbols = Command::new("objdump").args(["-T", env!("CARGO_BIN_EXE_packetboat")]).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    assert!(symbols.contains(" getaddrinfo") && !symbols.contains(" dlopen"), "{symbols}");
}

#[test]
fn a_crate_has_the_features_that_it_needs_and_no_others() {
    let everything = everything();
    for &(name, features) in FEATURES {
        // Of two versions the newer one is packetboat's own.
        let package = everything.iter().rfind(|one| one.name == name).unwrap_or_else(|| panic!("{name} is not built"));
        assert_eq!(package.features, features, "of {name}");
    }
    for Package { name, features, .. } in packages("1") {
        let listed = name == "packetboat" || FEATURES.iter().any(|&(one, _)| one == name);
        assert!(listed, "FEATURES lacks {name}: {features}");
    }
}

#[test]
fn no_crate_comes_twice() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Package { name, version, .. } in everything() {
        versions.entry(name).or_default().insert(version);
    }
    for (name, versions) in versions {
        assert!(versions.len() == 1 || TWICE.contains(&name.as_str()), "{name} comes in {versions:?}");
    }
}

/// deny.toml gives cargo-deny the same list.
#[test]
fn cargo_deny_holds_the_same_licences_and_versions() {
    let deny: Value = toml::from_str(include_str!("../deny.toml")).unwrap();
    assert_eq!(deny["licenses"]["allow"], Value::from(LICENCES));
    let skipped = deny["bans"]["skip"].as_array().unwrap().iter().map(|one| one["crate"].as_str().unwrap());
    assert_eq!(skipped.map(|one| one.split(':').next().unwrap()).collect::<Vec<_>>(), TWICE);
    for severity in ["multiple-versions", "wildcards"] {
        assert_eq!(deny["bans"][severity], "deny");
    }
    assert_eq!(deny["advisories"]["ignore"], Value::Array(Vec::new()), "an exception stands here too, with its reason");
}

#[test]
fn everything_comes_from_the_registry() {
    let lock = include_str!("../Cargo.lock");
    let sources: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let own = lock.split("[[package]]").skip(1).filter(|entry| !entry.contains("\nsource = "));
    let own: Vec<&str> = own.filter_map(|entry| entry.lines().find_map(|line| line.strip_prefix("name = "))).collect();
    assert_eq!(
        own,
        ["\"openssl-src\"", "\"packetboat\"", "\"packetboat-test-support\""],
        "the builder of OpenSSL, packetboat itself, and what its tests have in common"
    );
    assert!(sources.iter().all(|source| source.starts_with("\"registry+")));
}

/// The fuzzers try what is released: their lock file has the crates of packetboat, in the versions of its own.
#[test]
fn fuzzers_are_built_with_the_same_versions() {
    let packages = |lock: &str| -> Vec<(String, Value)> {
        let lock: Value = toml::from_str(lock).unwrap();
        let packages = lock["package"].as_array().unwrap();
        packages.iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone())).collect()
    };
    let (released, fuzzed) = (packages(include_str!("../Cargo.lock")), packages(include_str!("fuzz/Cargo.lock")));
    let versions = |name: &str| -> Vec<&Value> {
        released.iter().filter(|(known, _)| known == name).map(|(_, one)| &one["version"]).collect()
    };
    for (name, one) in &fuzzed {
        let known = versions(name);
        let update = format!("cd tests/fuzz && cargo update -p {name} --precise VERSION");
        assert!(
            known.is_empty() || known.contains(&&one["version"]),
            "{name} {}, not {known:?}: {update}",
            one["version"]
        );
    }
    let manifest: Value = toml::from_str(include_str!("../Cargo.toml")).unwrap();
    let (_, own) = fuzzed.iter().find(|(name, _)| name == "packetboat").unwrap();
    let locked = own["dependencies"].as_array().unwrap();
    for (name, _) in manifest["dependencies"].as_object().unwrap() {
        assert!(
            // A crate that comes twice has its version behind the name.
            locked.iter().any(|one| one.as_str().and_then(|one| one.split(' ').next()) == Some(name)),
            "{name}: cd tests/fuzz && cargo metadata --offline"
        );
    }
}

/// OpenSSL 4.0 has neither SSLv3 nor the SSLv2-format ClientHello.
#[test]
fn openssl_is_of_the_last_line_that_knows_the_old_protocols() {
    let openssl = everything().into_iter().find(|one| one.name == "openssl-src").unwrap();
    assert!(openssl.version.starts_with("v300.99."), "{}: that of vendor/openssl-src", openssl.version);
    let library = openssl::version::version();
    assert!(library.starts_with("OpenSSL 3."), "{library}");
}

/// Whether we may ship under this SPDX expression. `AND` binds more tightly than `OR`, `/` is an old `OR`, and brackets
/// hold alternatives.
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
