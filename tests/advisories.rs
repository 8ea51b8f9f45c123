//! The OpenSSL that is linked in, and what is known against it: tests/advisories/openssl.toml is what somebody has read.
//!
//! What needs the network or the date is `make advisories`: no machine-readable list of OpenSSL's own is in a package
//! registry, but Debian's changelog of its OpenSSL names each advisory on the day that it is mended.

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

/// Mended in what is linked in.
fn mended(reading: &Table) -> Vec<&str> {
    let lists = reading["mended"].as_table().unwrap().values();
    lists.flat_map(|list| list.as_array().unwrap()).map(|id| id.as_str().unwrap()).collect()
}

/// As 3.6.10 is newer than 3.6.9.
fn number(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn the_openssl_that_is_linked_in_is_the_one_that_was_read_about() {
    let reading = reading();
    let version = word(&reading, "version");
    let linked = openssl::version::version();
    assert!(
        linked.starts_with(&format!("OpenSSL {version} ")),
        "{linked} is linked in: read its advisories, and write tests/advisories/openssl.toml anew"
    );
    let lock = include_str!("../Cargo.lock");
    assert!(lock.contains(&format!("+{version}\"\n")), "Cargo.lock has another openssl-src");
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat")).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("packetboat {}\nTLS with devices by {linked}\n", env!("CARGO_PKG_VERSION")));
}

/// Because a part is not used, or for a reason that a test holds.
#[test]
fn every_advisory_says_why_it_does_not_reach_a_device() {
    let reading = reading();
    let parts = reading["unused"].as_table().unwrap();
    let tests: String = files(&root().join("tests")).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let linked = number(word(&reading, "version"));
    let mut seen = BTreeSet::new();
    for one in advisories(&reading) {
        let id = word(one, "id");
        assert!(seen.insert(id), "{id} twice");
        assert_eq!(cves(id), BTreeSet::from([id.to_owned()]));
        assert!(number(word(one, "mended")) > linked, "{id} is mended in what is linked in");
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
fn what_is_said_to_be_unused_is_unused() {
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

/// The word at the beginning of a name, in whatever case it is written.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].chars().next_back().is_some_and(char::is_alphanumeric))
}

/// Debian has packages for 3.0; an advisory about the newer lines alone is read when there is something to read again.
#[test]
#[ignore = "asks Debian's archive: make advisories"]
fn debian_has_mended_nothing_that_was_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let script = "apt-get -qq download openssl >&2 && dpkg-deb --fsys-tarfile openssl_*.deb | \
                  tar -xO ./usr/share/doc/openssl/changelog.Debian.gz | gzip -dc";
    let changelog = succeeded(Command::new("sh").args(["-ec", script]).current_dir(directory.path()));
    assert!(changelog.starts_with("openssl ("), "{changelog}");
    let reading = reading();
    let mut known: BTreeSet<String> = mended(&reading).into_iter().map(str::to_owned).collect();
    known.extend(advisories(&reading).into_iter().map(|one| word(one, "id").to_owned()));
    // What is older was mended before 3.6.1 of January 2026.
    let unread: Vec<String> =
        cves(&changelog).into_iter().filter(|id| id.as_str() >= "CVE-2026" && !known.contains(id)).collect();
    assert!(cves(&changelog).len() > 20);
    assert!(unread.is_empty(), "read them, and write what they are into tests/advisories/openssl.toml: {unread:?}");
}

#[test]
#[ignore = "asks crates.io: make advisories"]
fn there_is_no_newer_openssl_of_this_line() {
    let output = Command::new(env!("CARGO"))
        .args(["update", "--dry-run", "-p", "openssl-src"])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let update = said.lines().find(|line| line.contains("Updating openssl-src"));
    assert_eq!(update, None, "take it: cargo update -p openssl-src");
}

#[test]
#[ignore = "looks at the date: make advisories"]
fn the_reading_is_not_too_old() {
    let reading = reading();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    is_still_good(&reading, &day(now)).unwrap_or_else(|why| panic!("{why}: tests/advisories/openssl.toml"));
}

fn is_still_good(reading: &Table, today: &str) -> Result<(), String> {
    if today > word(reading, "read_again") {
        return Err("the advisories are to be read again".to_owned());
    }
    if today <= word(reading, "supported_until") {
        return Ok(());
    }
    let continued = reading.get("continued").and_then(Value::as_table).ok_or("OpenSSL's line has ended")?;
    word(continued, "because");
    if today > word(continued, "until") {
        Err("OpenSSL's line has ended, and so has the delay".to_owned())
    } else {
        Ok(())
    }
}

#[test]
fn a_reading_ends() {
    let reading: Table = "read_again = \"2030-05-01\"\nsupported_until = \"2030-03-01\"\n\
        [continued]\nuntil = \"2030-04-01\"\nbecause = \"it is so\""
        .parse()
        .unwrap();
    assert_eq!(is_still_good(&reading, "2030-03-01"), Ok(()));
    assert_eq!(is_still_good(&reading, "2030-04-01"), Ok(()));
    assert!(is_still_good(&reading, "2030-04-02").unwrap_err().contains("so has the delay"));
    assert!(is_still_good(&reading, "2030-05-02").unwrap_err().contains("read again"));
    let mut alone = reading;
    alone.remove("continued");
    assert!(is_still_good(&alone, "2030-03-02").unwrap_err().contains("has ended"));
    assert_eq!((day(0), day(1_795_564_800)), ("1970-01-01".to_owned(), "2026-11-25".to_owned()));
}

/// As 2026-11-25, which sorts as time goes.
fn day(seconds: u64) -> String {
    // Sun, 06 Nov 1994 08:49:37 GMT.
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

/// Every file of Rust beneath it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
