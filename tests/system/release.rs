//! This test proves that the package can be reproduced, has its bill of materials, and shows no trace of the builder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use memchr::memmem;

use crate::engine::{binary, root};

/// Builds the package in another time zone and with another umask.
fn package(kind: &str, directory: &Path, zone: &str, mask: &str) -> PathBuf {
    let script = format!("umask {mask}; exec {}/config/{kind}/build.sh {}", root().display(), directory.display());
    let built = Command::new("sh").args(["-c", &script]).env("TZ", zone).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
}

#[test]
fn each_package_can_be_made_again_and_names_nobody() {
    binary();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let [first, ..] = ["debian", "rpm", "archive"].map(|kind| {
        let first = package(kind, &path("first"), "UTC", "022");
        let second = package(kind, &path("second"), "Pacific/Auckland", "077");
        assert!(fs::read(&first).unwrap() == fs::read(second).unwrap(), "two packages of one program differ: {kind}");
        first
    });

    let unpacked = Command::new("dpkg-deb").arg("-x").args([&first, &path("unpacked")]).status();
    assert!(unpacked.unwrap().success());
    let program = fs::read(path("unpacked/usr/bin/packetboat")).unwrap();
    let home = std::env::var("HOME").unwrap();
    // The program may speak of /root; it may not name what lies there.
    for trace in [root().to_str().unwrap(), &format!("{home}/."), "openssl-build"] {
        assert!(memmem::find(&program, trace.as_bytes()).is_none(), "the program names {trace}");
    }
    // The program cannot load code at run time either.
    let symbols = Command::new("objdump").arg("-T").arg(path("unpacked/usr/bin/packetboat")).output().unwrap();
    assert!(memmem::find(&symbols.stdout, b" getaddrinfo").is_some());
    assert!(memmem::find(&symbols.stdout, b" dlopen").is_none());

    let bill = fs::read_to_string(path("unpacked/usr/share/doc/packetboat/packetboat.cdx.json")).unwrap();
    // The OpenSSL is the one that releases and the package are built from.
    let openssl = Command::new(root().join("config/release/openssl.sh")).output().unwrap();
    assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    let again = Command::new(root().join("config/release/sbom.py"))
        .env("OPENSSL_SOURCE", String::from_utf8(openssl.stdout).unwrap().trim())
        .output()
        .unwrap();
    assert_eq!(bill, String::from_utf8(again.stdout).unwrap());
}

/// The table of systems in docs/install.md is true as long as the program needs no newer C library.
#[test]
fn the_program_needs_glibc_2_34_and_no_newer() {
    let symbols = Command::new("objdump").arg("-T").arg(binary()).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let version = |word: &str| -> Option<Vec<u32>> {
        let numbers = word.trim_matches(['(', ')']).strip_prefix("GLIBC_")?;
        Some(numbers.split('.').map(|number| number.parse().unwrap()).collect())
    };
    let newest = symbols.split_whitespace().filter_map(version).max().unwrap();
    assert_eq!(newest, [2, 34]);
}
