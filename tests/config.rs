//! The configuration: documented at its defaults, proven as a whole, and refused with line, key and advice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use packetboat::config::{Config, Entry, Logins, Profile, Version};

const DOCUMENTED: &str = include_str!("../config/packetboat.toml");
const MINIMAL: &str = include_str!("../config/minimal.toml");

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems:?}")).config
}

/// The problems, as the operator sees them.
fn problems(text: &str) -> Vec<String> {
    let problems = Config::parse(text, Path::new("test.toml")).expect_err("no problem found");
    problems.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    Config::parse(text, Path::new("test.toml")).unwrap().warnings.iter().map(ToString::to_string).collect()
}

fn imap(more: &str) -> String {
    format!("[[listener]]\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:1143\"]\nlogins = \"pass-through\"\n{more}\n")
}

#[test]
fn the_documented_file_is_the_default() {
    assert_eq!(parse(DOCUMENTED), parse(""));
    assert_eq!(warnings(DOCUMENTED), [""; 0]);
}

/// An unknown key's message lists the known ones: each of them must stand in the documented file.
#[test]
fn every_key_is_documented() {
    for section in [
        "",
        "[log]",
        "[limits]",
        "[certificate.x]",
        "[upstream.x]",
        "[[listener]]",
        "[[device]]",
        "[account.x]",
        "[identity.x]",
    ] {
        let message = &problems(&format!("{section}\nqq = 1"))[0];
        let known = message.split_once("known here are ").unwrap_or_else(|| panic!("{message}")).1;
        assert!(known.contains(", ") || section == "[log]", "{message}");
        for key in known.split(", ") {
            let documented = DOCUMENTED.lines().any(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                let is = |rest: &str| line.strip_prefix(rest).is_some_and(|rest| rest.starts_with(key));
                line.starts_with(&format!("{key} =")) || is("[[") || is("[")
            });
            assert!(documented, "{section} {key} is not in config/packetboat.toml");
        }
    }
}

#[test]
fn the_minimal_file_is_useful() {
    let config = parse(MINIMAL);
    let listener = &config.listeners[0];
    assert_eq!((listener.entry, listener.tls.profile, listener.listen[0].port()), (Entry::Auto, Profile::Legacy, 993));
    assert_eq!(listener.logins, Logins::Translate);
    assert_eq!(config.upstreams[&config.accounts["scans"].upstream].host, "outlook.office365.com");
    assert_eq!(config.devices[0].account, "scans");
    assert!(listener.allowed_networks.contain("192.168.1.20".parse().unwrap()));
    assert!(listener.allowed_networks.contain("::ffff:10.1.1.1".parse().unwrap()));
    assert!(!listener.allowed_networks.contain("203.0.113.5".parse().unwrap()));
}

#[test]
fn profiles_widen_and_explicit_keys_win() {
    let tls = |more: &str| parse(&imap(more)).listeners[0].tls.clone();
    let (modern, legacy, ancient) = (tls("profile = \"modern\""), tls(""), tls("profile = \"ancient\""));
    assert_eq!([modern.minimum, legacy.minimum, ancient.minimum], [Version::Tls1_2, Version::Tls1_0, Version::Ssl3]);
    assert!(modern.suites.len() < legacy.suites.len() && legacy.suites.len() < ancient.suites.len());
    assert!(legacy.suites.iter().all(|suite| !suite.name.contains("DES") && !suite.name.contains("RC4")));
    assert!(!legacy.sslv2_hello && ancient.sslv2_hello);
    let own = tls("minimum_version = \"tls1.1\"\nmaximum_version = \"tls1.2\"\nciphers = [\"AES256-SHA\"]");
    assert_eq!((own.minimum, own.maximum, own.suites[0].name), (Version::Tls1_1, Version::Tls1_2, "AES256-SHA"));
    assert!(parse(&imap("profile = \"modern\"")).listeners[0].allowed_networks.are_public());
}

#[test]
fn mistakes_are_named_with_line_key_and_advice() {
    for (text, expected) in [
        ("[log]\nlevle = \"info\"", "test.toml:2: unknown key `levle`; did you mean `level`?"),
        ("[log]\nlevel = \"inof\"", "test.toml:2: log.level: unknown value \"inof\"; did you mean \"info\"?"),
        ("[[lisener]]\nx = 1", "test.toml:1: unknown key `lisener`; did you mean `listener`?"),
        ("[limits]\nidle_timeout = 5", "test.toml:2: idle_timeout: a text stands in quotes; a duration as \"30s\""),
        (
            "[limits]\nidle_timeout = \"soon\"",
            "test.toml:2: limits.idle_timeout: \"soon\" is not a duration; write it as",
        ),
        ("[limits]\nline = 5", "test.toml:2: limits.line: 5 is not between 512 and 16384"),
        (
            "[[listener]]\nprotocol = \"imap\"\nlisten = \"0.0.0.0:993\"",
            "test.toml:3: listen: a list stands in brackets",
        ),
        (
            "[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:993\", \"0.0.0.0:993\"]",
            "test.toml:3: listener.listen: 0.0.0.0:993 is named already",
        ),
        ("[upstream.a]\nimap_port = 1", "test.toml:1: upstream.a.host: is missing"),
        ("[upstream.a]\nhost = \"mail.example:993\"", "test.toml:2: upstream.a.host: is a name or an address alone"),
        (
            "[certificate.a]\nnames = [\"\"]",
            "test.toml:2: certificate.a.names: \"\" is neither a DNS name of up to 64 characters nor an address",
        ),
        (
            "[upstream.a]\nhost = \"a\"\nroots = \"sytem\"",
            "test.toml:3: upstream.a.roots: \"sytem\" is neither \"bundled\" nor \"system\" nor the path",
        ),
        (
            "[upstream.a]\nhost = \"a\"\nimap_port = 0",
            "test.toml:3: upstream.a.imap_port: 0 is not between 1 and 65535",
        ),
        ("[certificate.a]\nchain = \"a\"", "test.toml:2: certificate.a.chain: needs certificate.a.key beside it"),
        ("[certificate.ca]\nyears = 1", "certificate.ca: a name is made of letters"),
        ("[[listener]]\nlisten = [\"0.0.0.0:1\"]", "test.toml:1: listener.protocol: is missing"),
        ("[[listener]]\nprotocol = \"imap\"", "test.toml:1: listener.listen: is missing"),
        (
            "[[listener]]\nprotocol = \"imap\"\nlisten = [\"993\"]",
            "test.toml:3: listener.listen: \"993\" is no address with a port; write \"0.0.0.0:993\"",
        ),
    ] {
        let found = problems(text);
        assert!(
            found.iter().any(|problem| problem.starts_with(expected) || problem.contains(&format!(": {expected}"))),
            "{text}\n{found:?}"
        );
    }
    for (more, expected) in [
        ("entry = \"plaintext\"", "test.toml:1: listener.entry: \"plaintext\" sends passwords and mail in clear"),
        (
            "entry = \"plaintext\"\nallow_plaintext = true",
            "test.toml:6: listener.allow_plaintext: needs allowed_networks",
        ),
        ("entry = \"implicit\"\nallow_plaintext = true", "test.toml:6: listener.allow_plaintext: contradicts"),
        ("entry = \"implicit\"\ndetect_delay = \"1s\"", "test.toml:6: listener.detect_delay: has a meaning with"),
        (
            "profile = \"anceint\"",
            "test.toml:5: listener.profile: unknown value \"anceint\"; did you mean \"ancient\"?",
        ),
        (
            "ciphers = [\"AES128-SAH\"]",
            "test.toml:5: listener.ciphers: unknown cipher suite \"AES128-SAH\"; did you mean \"AES128-SHA\"?",
        ),
        ("ciphers = [\"DES-CBC-SHA\"]", "test.toml:5: listener.ciphers: DES-CBC-SHA is not offered by packetboat"),
        (
            "maximum_version = \"tls1.0\"\nciphers = [\"AES128-GCM-SHA256\"]",
            "test.toml:1: listener.ciphers: all of them need TLS 1.2",
        ),
        (
            "maximum_version = \"tls1.2\"\nciphers = [\"ECDHE-ECDSA-AES128-SHA\"]",
            "test.toml:1: listener.ciphers: all of them need an ECDSA certificate",
        ),
        (
            "profile = \"modern\"\n[certificate.default]\ndigest = \"sha1\"",
            "test.toml:1: listener.certificate: is made with SHA-1",
        ),
        (
            "name = \"a\"\n[[listener]]\nprotocol = \"pop3\"\nlisten = [\"127.0.0.1:1143\"]",
            "test.toml:6: listener.listen: 127.0.0.1:1143 is taken by listener \"a\" already",
        ),
        ("ciphers = []", "test.toml:5: listener.ciphers: names no cipher suite"),
        (
            "minimum_version = \"tls1.2\"\nmaximum_version = \"tls1.0\"",
            "test.toml:6: listener.maximum_version: tls1.0 is below the minimum",
        ),
        (
            "allowed_networks = [\"192.168.1.77/24\"]",
            "test.toml:5: listener.allowed_networks: \"192.168.1.77/24\" is an address and a network; write \"192.168.1.0/24\" for the network, \"192.168.1.77/32\"",
        ),
        (
            "allowed_networks = [\"192.168.1.77\"]",
            "test.toml:5: listener.allowed_networks: \"192.168.1.77\" lacks its length; write \"192.168.1.77/32\"",
        ),
        (
            "allowed_networks = [\"::ffff:192.168.1.0/120\"]",
            "test.toml:5: listener.allowed_networks: \"::ffff:192.168.1.0/120\" is IPv4 in the form of IPv6",
        ),
        (
            "minimum_version = \"tls1\"",
            "test.toml:5: listener.minimum_version: unknown value \"tls1\"; did you mean \"tls1.0\"?",
        ),
        ("entry = \"STARTTLS\"", "test.toml:5: listener.entry: unknown value \"STARTTLS\"; did you mean \"starttls\"?"),
        ("allowed_networks = []", "test.toml:5: listener.allowed_networks: allows nobody"),
        (
            "allowed_networks = [\"10.0.0.0/33\"]",
            "test.toml:5: listener.allowed_networks: \"10.0.0.0/33\" is no network; write it as",
        ),
        (
            "certificate = \"own\"",
            "test.toml:5: listener.certificate: \"own\" is not in this file; known are \"default\"",
        ),
        ("upstream = \"own\"", "test.toml:5: listener.upstream: \"own\" is not in this file; known are \"exchange\""),
    ] {
        let found = problems(&imap(more));
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{more}\n{found:?}");
    }
    let two = format!("{}{}[upstream.a]\nhost = \"a\"\n[upstream.b]\nhost = \"b\"", imap(""), imap(""));
    let found = problems(&two);
    assert!(
        found.iter().any(|problem| problem.contains("several mail servers, write upstream = \"a\" or \"b\"")),
        "{found:?}"
    );
    assert!(problems(&(imap("") + &imap(""))).iter().any(|problem| problem.contains("\"imap-1143\" is used twice")));
}

#[test]
fn what_is_allowed_but_should_be_known() {
    assert!(
        warnings(&imap("allowed_networks = [\"0.0.0.0/0\"]"))[0]
            .contains("opens weak TLS, or none, to the whole world")
    );
    assert!(
        warnings(&imap("allowed_networks = [\"2000::/3\"]"))[0].contains("opens weak TLS, or none, to the whole world")
    );
    assert!(warnings(&imap("allowed_networks = [\"fc00::/7\", \"10.0.0.0/8\"]")).is_empty());
    assert!(warnings(&imap("profile = \"modern\"\nallowed_networks = [\"0.0.0.0/0\"]")).is_empty());
    let unused = warnings(&format!("{}[certificate.defalt]\nyears = 1", imap("")));
    assert_eq!(unused, ["test.toml:6: certificate.defalt: no listener names it"]);
    assert!(warnings("[limits]\nidle_timeout = \"10m\"")[0].contains("IDLE are cut off"));
    assert!(warnings("[upstream.x]\nhost = \"imap-legacy.office365.com\"")[0].contains("Microsoft removes"));
}
