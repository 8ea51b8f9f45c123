//! These tests prove that a release's bill of materials lists exactly the crates that cargo builds, and the linked C
//! libraries.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The output of `config/release/sbom.py`, started in this directory.
fn bill(directory: &Path) -> String {
    let mut command = Command::new("python3");
    command.arg(format!("{ROOT}/config/release/sbom.py")).current_dir(directory);
    // Both variables remove what depends on the machine rather than on the commit.
    command.envs([("CARGO", env!("CARGO")), ("SOURCE_DATE_EPOCH", "1000000000")]);
    command.envs([("TZ", "Pacific/Auckland"), ("LC_ALL", "C")]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

static BILL: LazyLock<String> = LazyLock::new(|| bill(Path::new(ROOT)));

fn read() -> (Value, BTreeMap<String, Value>) {
    let bill: Value = serde_json::from_str(&BILL).unwrap();
    let components = bill["components"].as_array().unwrap().iter();
    let components: Vec<(String, Value)> =
        components.map(|one| (one["bom-ref"].as_str().unwrap().to_owned(), one.clone())).collect();
    let count = components.len();
    let by_name: BTreeMap<String, Value> = components.into_iter().collect();
    assert_eq!(by_name.len(), count, "no bom-ref comes twice");
    (bill, by_name)
}

/// Package URLs of the crates that cargo builds for a release along such edges.
fn built(edges: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--edges", edges, "--prefix", "none", "--format", "{p}"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates = tree.lines().filter(|line| !line.starts_with("packetboat "));
    crates
        .map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next().unwrap(), words.next().unwrap());
            // cargo prints the directory of a crate of this repository.
            let kind = if line.contains(ROOT) { "generic" } else { "cargo" };
            format!("pkg:{kind}/{name}@{}", version.trim_start_matches('v').replace('+', "%2B"))
        })
        .collect()
}

#[test]
fn it_lists_what_is_built_and_nothing_else() {
    let (_, components) = read();
    let libraries = |one: &Value| one["description"].as_str().is_some_and(|text| text.starts_with("C library"));
    let crates = components.iter().filter(|(_, one)| !libraries(one)).map(|(name, _)| name.clone());
    assert_eq!(crates.collect::<BTreeSet<_>>(), built("normal,build"));
    assert!(components.len() > 100);
    // Build dependencies are not part of the program.
    let linked = built("normal,no-proc-macro");
    for (name, component) in components.iter().filter(|(name, _)| name.starts_with("pkg:cargo/")) {
        assert_eq!(component["scope"], if linked.contains(name) { "required" } else { "excluded" }, "{name}");
    }
    for name in ["criterion", "tempfile", "ring", "nix"] {
        assert!(!components.keys().any(|one| one.contains(&format!("/{name}@"))), "{name} is not built");
    }
}

#[test]
fn every_crate_has_its_licence_and_the_checksum_in_cargo_lock() {
    let lock = include_str!("../Cargo.lock");
    for (reference, component) in read().1 {
        assert!(!component["licenses"][0]["expression"].as_str().unwrap().is_empty(), "{reference}");
        if reference.starts_with("pkg:cargo/") {
            let (name, version) = (component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
            let entry = lock.split("[[package]]").find(|entry| {
                entry.contains(&format!("\nname = \"{name}\"\n"))
                    && entry.contains(&format!("\nversion = \"{version}\"\n"))
            });
            let checksum = component["hashes"][0]["content"].as_str().unwrap();
            assert!(entry.unwrap().contains(&format!("checksum = \"{checksum}\"")), "{reference}");
        }
    }
}

#[test]
fn the_c_libraries_are_in_it_as_they_are_linked() {
    let (bill, components) = read();
    let described = |one: &Value| one["description"].as_str().unwrap_or_default().to_owned();
    let mut c: Vec<&Value> = components.values().filter(|one| described(one).starts_with("C library")).collect();
    c.sort_by_key(|one| one["name"].as_str().unwrap());
    let names: Vec<&str> = c.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["aws-lc", "openssl"]);
    // The version is the second word of "OpenSSL 3.5.7+deb13u2 9 Jun 2026".
    let linked = openssl::version::version().split(' ').nth(1).unwrap();
    assert_eq!(c[1]["version"], linked);
    let number = linked.split('+').next().unwrap();
    assert_eq!(c[1]["cpe"], format!("cpe:2.3:a:openssl:openssl:{number}:*:*:*:*:*:*:*"));
    // A scanner of Debian's advisories finds the package by this name.
    let patched = linked.split_once('+').map(|(_, patches)| patches);
    let purl = c[1]["purl"].as_str().unwrap();
    assert_eq!(purl.starts_with("pkg:deb/debian/openssl@"), patched.is_some(), "{purl}");
    assert!(patched.is_none_or(|patches| purl.contains(patches)), "{purl}");
    let said = Command::new(env!("CARGO_BIN_EXE_packetboat")).arg("--version").output().unwrap();
    let until = c[1]["properties"][0]["value"].as_str().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().ends_with(&format!(", supported until {until}\n")), "{until}");
    // The names of AWS-LC's functions have the crate's version in them, and the crate contains one version of the
    // library.
    let carrier = components.values().find(|one| one["name"] == "aws-lc-sys").unwrap()["version"].as_str().unwrap();
    let program = std::fs::read(env!("CARGO_BIN_EXE_packetboat")).unwrap();
    let prefix = format!("aws_lc_{}_", carrier.replace('.', "_"));
    assert!(memchr::memmem::find(&program, prefix.as_bytes()).is_some(), "{prefix}");
    assert!(c[0]["description"].as_str().unwrap().ends_with(&format!("aws-lc-sys {carrier}")));
    // Each C library is a dependency of the crate that brings it.
    let needs = |reference: &str| {
        bill["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["ref"].as_str().unwrap().starts_with(reference))
            .unwrap()
            .to_string()
    };
    assert!(needs("pkg:cargo/aws-lc-sys@").contains("pkg:generic/aws-lc@"));
    assert!(needs("pkg:generic/openssl-src@").contains(purl));
}

#[test]
fn the_graph_is_whole() {
    let (bill, components) = read();
    let mut reached = BTreeSet::new();
    let mut next = vec![bill["metadata"]["component"]["bom-ref"].as_str().unwrap().to_owned()];
    while let Some(reference) = next.pop() {
        let edges = bill["dependencies"].as_array().unwrap().iter().find(|one| one["ref"] == reference.as_str());
        let needs = edges.unwrap_or_else(|| panic!("{reference} has no entry"))["dependsOn"].as_array().unwrap();
        let needs: Vec<String> = needs.iter().map(|one| one.as_str().unwrap().to_owned()).collect();
        next.extend(needs.into_iter().filter(|one| reached.insert(one.clone())));
    }
    assert_eq!(reached, components.into_keys().collect());
}

/// A second bill of the same commit can be compared with the one of a release.
#[test]
fn it_follows_from_the_commit_and_not_from_the_machine() {
    let elsewhere = tempfile::tempdir().unwrap();
    let text = BILL.as_str();
    assert_eq!(text, bill(elsewhere.path()));
    assert!(text.contains("\"timestamp\": \"2001-09-09T01:46:40Z\""));
    let home = std::env::var("HOME").unwrap();
    assert!(!text.contains(ROOT) && !text.contains(&home) && !text.contains("file://"), "a path of this machine");
}
