//! These tests hold the OpenSSL that is linked in against its advisories, which tests/advisories/openssl.toml lists as
//! read.
//!
//! `make advisories` runs the tests that need the network or the date, and judges the library that releases link.
//! OpenSSL's own machine-readable list is in no package registry. Debian's changelog of its OpenSSL names each advisory
//! on the day of its fix.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, str};

use toml::{Table, Value};

fn reading() -> Table {
    include_str!("advisories/openssl.toml").parse().unwrap()
}

fn word<'a>(table: &'a Table, key: &str) -> &'a str {
    table
        .get(key)
        .and_then(Value::as_str)
        .filter(|word| !word.is_empty())
        .unwrap_or_else(|| panic!("no {key}: {table:?}"))
}

fn advisories(reading: &Table) -> Vec<&Table> {
    reading["advisory"].as_array().unwrap().iter().map(|one| one.as_table().unwrap()).collect()
}

/// Advisories that the linked OpenSSL has fixed.
fn mended(reading: &Table) -> Vec<&str> {
    let lists = reading["mended"].as_table().unwrap().values();
    lists.flat_map(|list| list.as_array().unwrap()).map(|id| id.as_str().unwrap()).collect()
}

/// All numbers of a version in their order, so that 3.6.10 is newer than 3.6.9, and 3.5.7-1~deb13u3 than
/// 3.5.7-1~deb13u2.
fn number(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The library's own spelling of a Debian package's version: 3.5.7+deb13u2 for 3.5.7-1~deb13u2.
fn with_patches(package: &str) -> String {
    let (version, _) = package.split_once('-').unwrap();
    let (_, patches) = package.rsplit_once(['-', '~']).unwrap();
    format!("{version}+{patches}")
}

/// Advisories that the OpenSSL linked with this test has not fixed.
fn open(reading: &Table) -> Vec<&str> {
    let release = word(reading, "release");
    let is_release = linked() == with_patches(release);
    let is_open = |one: &&Table| match one.get("debian") {
        Some(package) if is_release => number(package.as_str().unwrap()) > number(release),
        _ => true,
    };
    advisories(reading).into_iter().filter(is_open).map(|one| word(one, "id")).collect()
}

/// The version number out of "OpenSSL 3.5.7+deb13u2 9 Jun 2026".
fn linked() -> &'static str {
    openssl::version::version().split(' ').nth(1).unwrap()
}

#[test]
fn the_linked_openssl_is_the_one_that_was_reviewed() {
    let reading = reading();
    let (registry, release) = (word(&reading, "registry"), word(&reading, "release"));
    assert!(
        [registry, &with_patches(release)].contains(&linked()),
        "{} is linked in: read its advisories, and write tests/advisories/openssl.toml anew",
        linked()
    );
    let lock = include_str!("../vendor/openssl-src/registry/Cargo.lock");
    assert!(lock.contains(&format!("+{registry}\"\n")), "Cargo.lock has another openssl-src");
    let sums = include_str!("../config/release/openssl.sha256");
    assert!(sums.contains(&format!("  openssl_{release}.dsc\n")), "releases are built from another package");
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat")).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (version, library, until) = (env!("CARGO_PKG_VERSION"), openssl::version::version(), supported_until(linked()));
    assert_eq!(said, format!("packetboat {version}\nTLS with devices by {library}, supported until {until}\n"));
}

/// The end of a version's support, from config/release/openssl-lines.txt.
fn supported_until(version: &str) -> &'static str {
    let lines = include_str!("../config/release/openssl-lines.txt").lines().filter_map(|line| line.split_once(' '));
    let mut of_it = lines.filter(|(line, _)| version.starts_with(&format!("{line}.")));
    of_it.next().unwrap_or_else(|| panic!("no line for {version}")).1
}

#[test]
fn a_release_has_fewer_open_advisories_and_of_a_line_that_is_supported() {
    let reading = reading();
    let count = open(&reading).len();
    if linked() == word(&reading, "registry") {
        assert_eq!(count, advisories(&reading).len());
    } else {
        assert_eq!(count, 14, "{:?}", open(&reading));
    }
    assert!(supported_until(word(&reading, "release")) > word(&reading, "read_again"));
    assert_eq!(with_patches("3.5.9-1"), "3.5.9+1");
    assert!(number("3.5.9-1~deb13u1") > number("3.5.7-1~deb13u3"));
}

/// An advisory does not reach a device when a part is unused, or when the named test holds.
#[test]
fn every_advisory_says_why_it_does_not_reach_a_device() {
    let reading = reading();
    let parts = reading["unused"].as_table().unwrap();
    let tests: String = files(&root().join("tests")).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let registry = number(word(&reading, "registry"));
    let mut seen = BTreeSet::new();
    for one in advisories(&reading) {
        let id = word(one, "id");
        assert!(seen.insert(id), "{id} twice");
        assert_eq!(cves(id), BTreeSet::from([id.to_owned()]));
        assert!(number(word(one, "mended")) > registry, "{id} is mended in what is linked in");
        assert!(one.get("debian").is_none_or(|package| package.as_str().unwrap().starts_with("3.5.")), "{id}");
        word(one, "about");
        match one.get("part") {
            Some(part) => assert!(parts.contains_key(part.as_str().unwrap()), "{id}: no words for {part:?}"),
            None => assert!(!word(one, "because").is_empty() && one.contains_key("test"), "{id}"),
        }
        if one.contains_key("test") {
            let name = format!("fn {}()", word(one, "test"));
            assert!(tests.contains(&name), "{id}: no {name}");
        }
    }
    assert!(mended(&reading).iter().all(|id| !seen.contains(id)));
}

#[test]
fn unused_parts_of_openssl_are_unused() {
    let reading = reading();
    for file in files(&root().join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for (part, words) in reading["unused"].as_table().unwrap() {
            for word in words.as_array().unwrap() {
                let word = word.as_str().unwrap();
                let uses = text.lines().filter(|line| !line.trim_start().starts_with("//") && has_word(line, word));
                assert_eq!(uses.count(), 0, "{} uses {part} ({word})", file.display());
            }
        }
    }
    assert!(has_word("let x = SslMethod::dtls_server();", "dtls") && !has_word("let width = 3;", "dtls"));
}

/// Whether a name in the line begins with the word.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].chars().next_back().is_some_and(char::is_alphanumeric))
}

/// The output of a script that sees Debian 13 through apt, in an empty directory.
fn on_trixie(script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let script = format!(". {}/config/release/trixie.sh; trixie \"$PWD/apt\"; {script}", root().display());
    succeeded(Command::new("sh").args(["-ec", &script]).current_dir(directory.path()))
}

/// Debian packages version 3.5. An advisory for newer versions alone waits for the next reading.
#[test]
#[ignore = "asks Debian's archive: make advisories"]
fn every_fix_of_debian_was_reviewed() {
    let changelog = on_trixie(
        "apt-get -qq download openssl >&2 && dpkg-deb --fsys-tarfile openssl_*.deb | \
         tar -xO ./usr/share/doc/openssl/changelog.Debian.gz | gzip -dc",
    );
    assert!(changelog.starts_with("openssl (3.5."), "{changelog}");
    let reading = reading();
    let mut known: BTreeSet<String> = mended(&reading).into_iter().map(str::to_owned).collect();
    known.extend(advisories(&reading).into_iter().map(|one| word(one, "id").to_owned()));
    // Advisories older than 3.6.1 of January 2026 had been fixed before.
    let unread: Vec<String> =
        cves(&changelog).into_iter().filter(|id| id.as_str() >= "CVE-2026" && !known.contains(id)).collect();
    assert!(cves(&changelog).len() > 20);
    assert!(unread.is_empty(), "read them, and write what they are into tests/advisories/openssl.toml: {unread:?}");
    // Each package fixes the advisories that the reading attributes to it.
    for one in advisories(&reading) {
        let Some(package) = one.get("debian") else { continue };
        let head = format!("openssl ({}) ", package.as_str().unwrap());
        let (_, entry) = changelog.split_once(&head).unwrap_or_else(|| panic!("no {head}"));
        let entry = entry.split("\n -- ").next().unwrap();
        assert!(cves(entry).contains(word(one, "id")), "{head}: {one:?}");
    }
}

/// A version in Debian's index that no mirror serves cannot be used yet.
#[test]
#[ignore = "asks Debian's archive: make advisories"]
fn there_is_no_newer_package_of_debian_to_take() {
    let release = number(word(&reading(), "release"));
    let index = on_trixie("apt-cache showsrc openssl");
    let versions = index.lines().filter_map(|line| line.strip_prefix("Version: "));
    let newer: Vec<&str> = versions.filter(|version| number(version) > release).collect();
    for version in newer {
        let fetched = on_trixie(&format!(
            "if apt-get -qq source --download-only 'openssl={version}' >&2; then echo yes; else echo no; fi"
        ));
        assert_eq!(fetched, "no\n", "take {version}: config/release/openssl.sha256");
        println!("{version} stands in Debian's index, but the mirror does not have it");
    }
}

#[test]
#[ignore = "asks crates.io: make advisories"]
fn there_is_no_newer_openssl_of_this_line() {
    let output = Command::new(env!("CARGO"))
        .args(["update", "--dry-run", "-p", "openssl-src", "--manifest-path", "vendor/openssl-src/registry/Cargo.toml"])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let update = said.lines().find(|line| line.contains("Updating openssl-src"));
    assert_eq!(update, None, "take it: cargo update -p openssl-src, in vendor/openssl-src/registry");
}

#[test]
#[ignore = "looks at the date: make advisories"]
fn the_line_that_is_linked_in_is_supported_and_read_about() {
    let reading = reading();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let day = day(now);
    is_still_good(word(&reading, "read_again"), linked(), &day).unwrap_or_else(|why| panic!("{why}"));
    println!("{} is supported until {}; open: {:?}", linked(), supported_until(linked()), open(&reading));
}

fn is_still_good(read_again: &str, version: &str, today: &str) -> Result<(), String> {
    if today > read_again {
        return Err("the advisories are to be read again: tests/advisories/openssl.toml".to_owned());
    }
    if today > supported_until(version) {
        return Err(format!("OpenSSL {version} is of a line that ended on {}", supported_until(version)));
    }
    Ok(())
}

#[test]
fn a_reading_ends() {
    assert_eq!(is_still_good("2030-05-01", "3.5.7+deb13u2", "2030-04-08"), Ok(()));
    assert!(is_still_good("2030-05-01", "3.5.7+deb13u2", "2030-04-09").unwrap_err().contains("ended on 2030-04-08"));
    assert!(is_still_good("2027-01-31", "3.5.7+deb13u2", "2027-02-01").unwrap_err().contains("read again"));
    assert!(is_still_good("2027-01-31", "3.6.3", "2026-11-27").unwrap_err().contains("ended on 2026-11-26"));
    assert_eq!((day(0), day(1_795_564_800)), ("1970-01-01".to_owned(), "2026-11-25".to_owned()));
}

/// A date such as 2026-11-25, which sorts by time.
fn day(seconds: u64) -> String {
    // httpdate's form is "Sun, 06 Nov 1994 08:49:37 GMT".
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let words: Vec<&str> = date.split(' ').collect();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == words[2]).unwrap() + 1;
    format!("{}-{month:02}-{}", words[3], words[1])
}

/// Every CVE that a text names.
fn cves(text: &str) -> BTreeSet<String> {
    text.match_indices("CVE-")
        .map(|(at, _)| {
            let end = text[at + 4..].find(|c: char| !c.is_ascii_digit() && c != '-');
            text[at..end.map_or(text.len(), |end| at + 4 + end)].trim_end_matches('-').to_owned()
        })
        .collect()
}

fn succeeded(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file in a folder and below.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
