//! These tests prove that well-known scanners find only what each profile promises.
//!
//! sslscan runs here; `make scan` runs testssl.sh, which takes a minute or two.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use super::{PROFILES, profiles};

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        let program = command.get_program().to_string_lossy();
        panic!("{program}: {error}; make test and make scan install it (Debian package {program})")
    })
}

/// sslscan's findings, in its XML: one element a line.
fn sslscan(address: SocketAddr) -> Vec<String> {
    let output = run(Command::new("sslscan").args(["--no-colour", "--xml=-", &address.to_string()]));
    assert!(output.status.success(), "{output:?}");
    let xml = String::from_utf8(output.stdout).unwrap();
    assert!(xml.contains("</ssltest>"), "{xml}");
    xml.lines().map(|line| line.trim().to_owned()).collect()
}

/// The value of an attribute.
fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    element.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

#[test]
fn sslscan_finds_what_the_profile_says_and_no_more() {
    let proxy = profiles();
    for profile in PROFILES {
        let found = sslscan(proxy.address(profile));
        let elements = |name: &str| {
            let start = format!("<{name} ");
            found.iter().filter(move |line| line.starts_with(&start)).map(String::as_str).collect::<Vec<_>>()
        };
        let enabled: Vec<String> = elements("protocol")
            .into_iter()
            .filter(|one| attribute(one, "enabled") == "1")
            .map(|one| format!("{}{}", attribute(one, "type"), attribute(one, "version")))
            .collect();
        let expected: &[&str] = match profile {
            "modern" => &["tls1.2", "tls1.3"],
            "legacy" => &["tls1.0", "tls1.1", "tls1.2", "tls1.3"],
            _ => &["ssl3", "tls1.0", "tls1.1", "tls1.2", "tls1.3"],
        };
        assert_eq!(enabled, expected, "{profile}");
        // sslscan asks with the newest version, and TLS 1.3 has no renegotiation.
        let known = u8::from(profile != "modern");
        let renegotiation = format!("<renegotiation supported=\"{known}\" secure=\"{known}\" />");
        assert_eq!(elements("renegotiation"), [renegotiation], "{profile}");
        assert!(!found.iter().any(|line| line == "<compression supported=\"1\" />"), "{profile}");
        let heartbleed = elements("heartbleed");
        assert!(!heartbleed.is_empty(), "{profile}: {found:#?}");
        assert!(heartbleed.iter().all(|one| attribute(one, "vulnerable") == "0"), "{heartbleed:?}");
        let ciphers = elements("cipher");
        assert!(ciphers.len() >= 8, "{profile}: {found:#?}");
        for cipher in ciphers {
            let (name, strength) = (attribute(cipher, "cipher"), attribute(cipher, "strength"));
            let is_old = name.contains("3DES") || name.contains("RC4");
            let never = ["NULL", "ANON", "ADH", "AECDH", "EXP", "_DES_", "MD5_EXPORT", "SEED", "IDEA", "CAMELLIA"];
            assert!(never.iter().all(|one| !name.to_uppercase().contains(one)), "{profile}: {cipher}");
            assert!(!is_old || profile == "ancient", "{profile}: {cipher}");
            assert!(["acceptable", "strong"].contains(&strength) || is_old, "{profile}: {cipher}");
            // Forward secrecy is an exchange with ephemeral keys.
            assert!(profile != "modern" || !attribute(cipher, "ecdhebits").is_empty(), "{cipher}");
            let least = if profile == "ancient" { 1024 } else { 2048 };
            let bits = attribute(cipher, "dhebits");
            assert!(bits.is_empty() || bits.parse::<u32>().unwrap() >= least, "{profile}: {cipher}");
        }
    }
}

/// testssl.sh's findings by name: the severity and the text.
fn testssl(address: SocketAddr, directory: &Path) -> BTreeMap<String, (String, String)> {
    let file = directory.join(format!("{}.json", address.port()));
    let mut command = Command::new("testssl");
    command.args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"]);
    // The options select protocols, the ServerHello, and vulnerabilities.
    command.args(["-p", "-S", "-U", "--jsonfile"]).arg(&file).arg(address.to_string()).current_dir(directory);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("testssl: {error}; make scan installs it (Debian package testssl.sh)"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let word = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    findings.iter().map(|one| (word(one, "id"), (word(one, "severity"), word(one, "finding")))).collect()
}

/// Tests of testssl.sh, and the severity in `modern`, `legacy` and `ancient`. A severity above LOW is inherent in the
/// profile.
const EXPECTED: &[(&str, [&str; 3])] = &[
    ("SSLv2", ["OK", "OK", "OK"]),
    ("SSLv3", ["OK", "OK", "HIGH"]),
    ("TLS1", ["INFO", "LOW", "LOW"]),
    ("TLS1_1", ["INFO", "LOW", "LOW"]),
    ("TLS1_2", ["OK", "OK", "OK"]),
    ("TLS1_3", ["OK", "OK", "OK"]),
    ("heartbleed", ["OK", "OK", "OK"]),
    ("CCS", ["OK", "OK", "OK"]),
    ("ROBOT", ["OK", "OK", "OK"]),
    ("secure_renego", ["OK", "OK", "OK"]),
    ("secure_client_renego", ["OK", "OK", "OK"]),
    ("CRIME_TLS", ["OK", "OK", "OK"]),
    ("POODLE_SSL", ["OK", "OK", "HIGH"]),
    ("fallback_SCSV", ["OK", "OK", "OK"]),
    ("SWEET32", ["OK", "OK", "LOW"]),
    ("FREAK", ["OK", "OK", "OK"]),
    ("DROWN", ["OK", "OK", "OK"]),
    ("LOGJAM", ["OK", "OK", "OK"]),
    // The groups are standard ones: 2048 bits in `legacy`, 1024 in `ancient`.
    ("LOGJAM-common_primes", ["OK", "INFO", "HIGH"]),
    // Old devices use CBC in TLS 1.0.
    ("BEAST", ["OK", "LOW", "LOW"]),
    // testssl.sh reports every CBC suite; OpenSSL's implementation takes constant time.
    ("LUCKY13", ["LOW", "LOW", "LOW"]),
    ("RC4", ["OK", "OK", "HIGH"]),
];

#[test]
#[ignore = "a minute or two: make scan"]
fn testssl_finds_what_the_profile_says_and_no_more() {
    let proxy = profiles();
    let directory = tempfile::tempdir().unwrap();
    // testssl.sh waits more than it works, so the three run side by side.
    let found = std::thread::scope(|scope| {
        let scans = PROFILES.map(|profile| {
            let (address, directory) = (proxy.address(profile), directory.path());
            scope.spawn(move || testssl(address, directory))
        });
        scans.map(|scan| scan.join().unwrap())
    });
    for (of, profile) in PROFILES.into_iter().enumerate() {
        for (name, expected) in EXPECTED {
            let (severity, words) = found[of].get(*name).unwrap_or_else(|| panic!("{profile}: nothing of {name}"));
            println!("{profile:8} {name:22} {severity:7} {words}");
            assert_eq!(severity, expected[of], "{profile}: {name}: {words}");
        }
    }
}
