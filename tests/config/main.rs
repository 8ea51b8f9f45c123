//! These tests prove that the configuration documents its defaults, is checked as a whole, and is refused with line,
//! key and advice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod documented;
mod endpoints;
mod exposure;
mod pasted;
mod planted;
mod servers;
mod slips;
mod without_login;

use std::path::Path;

use packetboat::config::{Config, Entry, Environment, LogFormat, LogLevel, Logins, Profile, Version};
use packetboat::protocol::ByProtocol;

const DOCUMENTED: &str = include_str!("../../config/packetboat.toml");
const MINIMAL: &str = include_str!("../../config/minimal.toml");

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems:?}")).config
}

/// The error messages for this text, in the operator's form.
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
        "[admin]",
        "[inventory]",
        "[limits]",
        "[submission]",
        "[fleet]",
        "[certificate.x]",
        "[upstream.x]",
        "[upstream.x.imap]",
        "[upstream.x.pop3]",
        "[upstream.x.smtp]",
        "[[listener]]",
        "[[device]]",
        "[account.x]",
        "[identity.x]",
    ] {
        let message = &problems(&format!("{section}\nqq = 1"))[0];
        let known = message.split_once("known here are ").unwrap_or_else(|| panic!("{message}")).1;
        assert!(known.contains(", "), "{message}");
        for key in known.split(", ") {
            let documented = DOCUMENTED.lines().any(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                let is = |rest: &str| line.strip_prefix(rest).is_some_and(|rest| rest.starts_with(key));
                line.starts_with(&format!("{key} =")) || is("[[") || is("[") || is("[upstream.exchange.")
            });
            assert!(documented, "{section} {key} is not in config/packetboat.toml");
        }
    }
}

#[test]
fn the_minimal_file_is_useful() {
    let config = parse(MINIMAL);
    let listener = &config.listeners[0];
    assert_eq!(
        (listener.entry, listener.tls.profile, listener.listen[0].port()),
        (Entry::Implicit, Profile::Legacy, 993)
    );
    assert_eq!(listener.logins, Logins::Translate);
    assert_eq!(config.upstreams[&config.accounts["scans"].upstream].host(), "outlook.office365.com");
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
    assert!(!modern.sslv2_hello && legacy.sslv2_hello && ancient.sslv2_hello);
    let own = tls("minimum_version = \"tls1.1\"\nmaximum_version = \"tls1.2\"\nciphers = [\"AES256-SHA\"]");
    assert_eq!((own.minimum, own.maximum, own.suites[0].name), (Version::Tls1_1, Version::Tls1_2, "AES256-SHA"));
    assert!(parse(&imap("profile = \"modern\"")).listeners[0].allowed_networks.are_public());
}

#[test]
fn mistakes_are_named_with_line_key_and_advice() {
    for (text, expected) in [
        ("[log]\nlevle = \"info\"", "test.toml:2: unknown key `levle`; did you mean `level`?"),
        ("[log]\nlevel = \"inof\"", "test.toml:2: log.level: unknown value; did you mean \"info\"?"),
        ("[[lisener]]\nx = 1", "test.toml:1: unknown key `lisener`; did you mean `listener`?"),
        ("[limits]\nidle_timeout = 5", "test.toml:2: idle_timeout: a text stands in quotes; a duration as \"30s\""),
        ("[limits]\nidle_timeout = \"soon\"", "test.toml:2: limits.idle_timeout: is not a duration; write it as"),
        ("[limits]\nline = 5", "test.toml:2: limits.line: is not between 512 and 16384"),
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
            "[account.a]\nmailbox = \"a@b.example\"\nsender = \"rewritten\"",
            "test.toml:3: account.a.sender: unknown value; did you mean \"rewrite\"?",
        ),
        (
            "[account.a]\nmailbox = \"a@b.example\"\nsenders = [\"b.example\"]",
            "test.toml:3: account.a.senders: has an address, such as \"scans@example.com\", or a domain",
        ),
        (
            "[account.a]\nmailbox = \"a@b.example\"\nsender = \"reject\"\nsenders = [\"c@b.example\"]",
            "test.toml:4: account.a.senders: has a meaning with sender = \"rewrite\" or \"pass\" alone",
        ),
        (
            "[account.a]\nmailbox = \"a@b.example\"\ndeliver = \"mailbx\"",
            "test.toml:3: account.a.deliver: unknown value; did you mean \"mailbox\"?",
        ),
        (
            "[account.a]\nmailbox = \"a@b.example\"\nrecipients = []",
            "test.toml:3: account.a.recipients: is empty; name an address or a domain",
        ),
        (
            "[account.a]\nmailbox = \"a@b.example\"\nbare_line_ends = \"refuse\"\nlf_end_of_data = true",
            "test.toml:4: account.a.lf_end_of_data: contradicts bare_line_ends = \"refuse\"",
        ),
        (
            "[[listener]]\nprotocol = \"pop3\"\nlisten = [\"0.0.0.0:1110\"]\nmax_message_size = 100000",
            "test.toml:4: listener.max_message_size: has a meaning with protocol = \"smtp\" alone; remove it",
        ),
        (
            "[[listener]]\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:1143\"]\nspool = \"fallback\"",
            "test.toml:4: listener.spool: has a meaning with protocol = \"smtp\" alone; remove it",
        ),
        (
            "[[listener]]\nprotocol = \"smtp\"\nlisten = [\"0.0.0.0:1587\"]\nspool = \"fall-back\"",
            "test.toml:4: listener.spool: unknown value; did you mean \"fallback\"?",
        ),
        (
            "[upstream.x]\nhost = \"a.example\"\n[[listener]]\nprotocol = \"smtp\"\nlisten = [\"0.0.0.0:1587\"]\nlogins = \"pass-through\"\nupstream = \"x\"\nspool = \"fallback\"",
            "test.toml:8: listener.spool: packetboat has no account to send a kept message with",
        ),
        ("[spool]\nreport_to = \"*@contoso.com\"", "test.toml:2: spool.report_to: is no address"),
        (
            "[spool]\nmax_age = \"15d\"",
            "test.toml:2: spool.max_age: must be more than nothing and no more than 14 days",
        ),
        ("[spool]\npatience = \"0s\"", "test.toml:2: spool.patience: must be more than nothing"),
        ("[fleet]\ndatabase = \"postgresql://pb@db/x\"", "test.toml:1: fleet: needs store_key at the top of this file"),
        ("store_key = \"/k\"\n[fleet]\ninstance = \"a\"", "test.toml:2: fleet.database: is missing"),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb:secret@db/x\"",
            "test.toml:3: fleet.database: holds a password, which everybody who reads this file would see",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@a,b,c,d,e,f/x\"",
            "test.toml:3: fleet.database: names more than 5 hosts",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x?sslmode=disable\"",
            "test.toml:3: fleet.database: has a parameter that packetboat does not take",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\ninstance = \"a b\"",
            "test.toml:4: fleet.instance: is no name of an instance",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\nclient_certificate = \"/c\"",
            "test.toml:4: fleet.client_certificate: needs client_key beside it",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\nclient_key = \"/c\"",
            "test.toml:4: fleet.client_key: needs client_certificate beside it",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\npassword_file = \"secret\"",
            "test.toml:4: fleet.password_file: is no path",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\npassword_identity = \"a\"",
            "test.toml:4: fleet.password_identity: names what is not in this file",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@/x?host=/run/pg\"\npassword_identity = \"i\"\n\
             [identity.i]\ngrant = \"managed-identity\"",
            "test.toml:4: fleet.password_identity: needs a host in database",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\npassword_file = \"/p\"\n\
             password_identity = \"i\"\n[identity.i]\ngrant = \"managed-identity\"",
            "test.toml:5: fleet.password_identity: stands beside password_file; keep one of them",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\npassword_identity = \"i\"\n\
             [identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
             grant = \"authorization-code\"",
            "test.toml:4: fleet.password_identity: names an identity that a person signs in for",
        ),
        (
            "store_key = \"/k\"\n[fleet]\ndatabase = \"postgresql://pb@db/x\"\nroots = \"mozilla\"",
            "test.toml:4: fleet.roots: is neither \"bundled\" nor \"system\" nor the path",
        ),
        ("[spool]\ndirectory = \"spool\"", "test.toml:2: spool.directory: is no path"),
        (
            "[[listener]]\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:1143\"]\nauth_equals = true",
            "test.toml:4: listener.auth_equals: has a meaning with protocol = \"smtp\" alone; remove it",
        ),
        (
            "[submission]\nconnections_per_mailbox = 0",
            "test.toml:2: submission.connections_per_mailbox: is not between 1 and 1000",
        ),
        (
            "[certificate.a]\nnames = [\"\"]",
            "test.toml:2: certificate.a.names: one is neither a DNS name of up to 64 characters nor an address",
        ),
        (
            "[upstream.a]\nhost = \"a\"\nroots = \"sytem\"",
            "test.toml:3: upstream.a.roots: is neither \"bundled\" nor \"system\" nor the path",
        ),
        ("[upstream.a]\nhost = \"a\"\nimap_port = 0", "test.toml:3: upstream.a.imap_port: is not between 1 and 65535"),
        ("[certificate.a]\nchain = \"a\"", "test.toml:2: certificate.a.chain: needs certificate.a.key beside it"),
        ("[certificate.ca]\nyears = 1", "certificate.ca: a name is made of letters"),
        ("[[listener]]\nlisten = [\"0.0.0.0:1\"]", "test.toml:1: listener.protocol: is missing"),
        ("[[listener]]\nprotocol = \"imap\"", "test.toml:1: listener.listen: is missing"),
        (
            "[[listener]]\nprotocol = \"imap\"\nlisten = [\"993\"]",
            "test.toml:3: listener.listen: is no address with a port; write \"0.0.0.0:993\"",
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
        ("profile = \"anceint\"", "test.toml:5: listener.profile: unknown value; did you mean \"ancient\"?"),
        (
            "ciphers = [\"AES128-SAH\"]",
            "test.toml:5: listener.ciphers: unknown cipher suite; did you mean \"AES128-SHA\"?",
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
            "test.toml:5: listener.allowed_networks: is an address and a network; write \"192.168.1.0/24\" for the network, \"192.168.1.77/32\"",
        ),
        (
            "allowed_networks = [\"::ffff:192.168.1.0/120\"]",
            "test.toml:5: listener.allowed_networks: is IPv4 in the form of IPv6",
        ),
        (
            "minimum_version = \"tls1\"",
            "test.toml:5: listener.minimum_version: unknown value; did you mean \"tls1.0\"?",
        ),
        ("entry = \"STARTTLS\"", "test.toml:5: listener.entry: unknown value; did you mean \"starttls\"?"),
        ("allowed_networks = []", "test.toml:5: listener.allowed_networks: allows nobody"),
        ("allowed_networks = [\"10.0.0.0/33\"]", "test.toml:5: listener.allowed_networks: is no network; write it as"),
        (
            "certificate = \"own\"",
            "test.toml:5: listener.certificate: names what is not in this file; known are \"default\"",
        ),
        (
            "upstream = \"own\"",
            "test.toml:5: listener.upstream: names what is not in this file; known are \"exchange\"",
        ),
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
    assert!(problems(&(imap("") + &imap(""))).iter().any(|problem| problem.contains("listener.name: is used twice")));
}

#[test]
fn risky_settings_draw_warnings() {
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

const IDENTITY: &str =
    "[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n";
const SECRET: &str = "client_secret_file = \"/etc/packetboat/secret\"\n";
const ACCOUNT: &str = "[account.scans]\nmailbox = \"scans@contoso.example\"\n";
const DEVICE: &str = "[[device]]\nlogin = \"scanner3\"\npasswords = [\"$argon2id$x\"]\n";

fn translated(identity: &str, account: &str, device: &str) -> String {
    format!("{IDENTITY}{identity}\n{ACCOUNT}{account}\n{DEVICE}{device}\n")
}

#[test]
fn clouds_decide_endpoints_scopes_and_servers() {
    for (cloud, token_endpoint, scope, host) in [
        (
            "worldwide",
            "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
            "https://outlook.office365.com/.default",
            "outlook.office365.com",
        ),
        (
            "gcc-high",
            "https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token",
            "https://outlook.office365.us/.default",
            "outlook.office365.us",
        ),
        (
            "dod",
            "https://login.microsoftonline.us/contoso.example/oauth2/v2.0/token",
            "https://outlook-dod.office365.us/.default",
            "outlook-dod.office365.us",
        ),
        (
            "china",
            "https://login.partner.microsoftonline.cn/contoso.example/oauth2/v2.0/token",
            "https://partner.outlook.cn/.default",
            "partner.outlook.cn",
        ),
    ] {
        let config = parse(&translated(&format!("cloud = \"{cloud}\"\n{SECRET}"), "", ""));
        let identity = &config.identities["office"];
        assert_eq!((identity.token_endpoint.as_str(), identity.scope.as_str()), (token_endpoint, scope));
        assert_eq!(config.upstreams[&config.accounts["scans"].upstream].host(), host);
    }
    let google = format!("cloud = \"google\"\ngrant = \"authorization-code\"\n{SECRET}");
    let config = parse(&translated(&google, "", "").replace("tenant = \"contoso.example\"\n", ""));
    let identity = &config.identities["office"];
    assert_eq!(identity.token_endpoint, "https://oauth2.googleapis.com/token");
    assert_eq!(identity.scope, "https://mail.google.com/");
    let upstream = &config.upstreams[&config.accounts["scans"].upstream];
    let hosts = upstream.endpoints.map(|_, endpoint| endpoint.as_ref().map_or("", |one| one.host.as_str()));
    assert_eq!(hosts, ByProtocol { imap: "imap.gmail.com", pop3: "pop.gmail.com", smtp: "smtp.gmail.com" });
    let config = parse(&translated(
        &format!(
            "{SECRET}cloud = \"worldwide\"\nauthority = \"https://login.example/\"\nscopes = [\"a/.default\", \"b/.default\"]\ndevice_endpoint = \"https://d.example/x\""
        ),
        "",
        "",
    ));
    let identity = &config.identities["office"];
    assert_eq!(identity.token_endpoint, "https://login.example/contoso.example/oauth2/v2.0/token");
    assert_eq!(
        (identity.scope.as_str(), identity.device_endpoint.as_str()),
        ("a/.default b/.default", "https://d.example/x")
    );
}

#[test]
fn mistakes_in_identities_accounts_and_devices_are_named() {
    for (identity, account, device, expected) in [
        ("", "", "", "test.toml:1: identity.office: has nothing to prove itself with"),
        ("certificate = \"/c.pem\"", "", "", "test.toml:4: identity.office.certificate: needs its key beside it"),
        (
            "client_secret_file = \"/s\"\ncertificate = \"/c\"\nkey = \"/k\"",
            "",
            "",
            "test.toml:1: identity.office: has both a secret and a certificate",
        ),
        (
            "grant = \"device\"",
            "",
            "",
            "test.toml:4: identity.office.grant: unknown value; did you mean \"device-code\"?",
        ),
        ("grant = \"federated\"", "", "", "test.toml:1: identity.office.token_file: is missing"),
        (
            "grant = \"device-code\"\ntoken_file = \"/x\"",
            "",
            "",
            "test.toml:5: identity.office.token_file: does not go with this grant",
        ),
        (SECRET, "user = \"boss@contoso.example\"", "", "test.toml:8: account.scans.user: nobody signs in with"),
        ("grant = \"password\"", "", "", "test.toml:5: account.scans.password_file: is missing"),
        (
            "client_secret_file = \"/s\"\nclient_secret_expires = \"soon\"",
            "",
            "",
            "test.toml:5: identity.office.client_secret_expires: is a day",
        ),
        (
            "client_secret_file = \"/s\"\nscopes = [\"https://graph.microsoft.com/.default\"]",
            "",
            "",
            "test.toml:5: identity.office.scopes: a token for Microsoft Graph opens no mailbox",
        ),
        (
            "client_secret_file = \"/s\"\ntoken_endpoint = \"http://login.example/token\"",
            "",
            "",
            "test.toml:5: identity.office.token_endpoint: must begin with https://",
        ),
        (
            "client_secret_file = \"/s\"\ncloud = \"google\"",
            "",
            "",
            "test.toml:1: identity.office.grant: Google gives mail to people alone",
        ),
        (SECRET, "mailbox2 = \"x\"", "", "test.toml:8: unknown key `mailbox2`; did you mean `mailbox`?"),
        (
            SECRET,
            "upstream = \"none\"",
            "",
            "test.toml:8: account.scans.upstream: names what is not in this file; known are \"exchange\"",
        ),
        (
            SECRET,
            "",
            "account = \"fax\"",
            "test.toml:12: device.account: names what is not in this file; known are \"scans\"",
        ),
        (SECRET, "", "networks = [\"10.0.0.1.2\"]", "test.toml:12: device.networks: is no network"),
        (SECRET, "", "networks = []", "test.toml:12: device.networks: allows nobody"),
        (
            SECRET,
            "",
            "[[device]]\nlogin = \"other\"\naliases = [\"SCANNER3\"]\npasswords = [\"$argon2id$y\"]",
            "test.toml:12: device.login: its login, or one of its aliases, is another device's already",
        ),
        (
            SECRET,
            "",
            "[[device]]\nlogin = \"x\"",
            "test.toml:12: device.passwords: is missing, and without one anybody could log in",
        ),
        (SECRET, "", "[[device]]\nlogin = \"x\"\npasswords = []", "test.toml:12: device.passwords: is missing"),
    ] {
        let text = translated(identity, account, device);
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{text}\n{expected}\n{found:#?}");
    }
    // No message repeats a password in clear.
    let found = problems(&translated(SECRET, "", "").replace("$argon2id$x", "hunter2hunter2"));
    assert!(
        found[0].contains("must be hashes that begin with $argon2id$") && !found[0].contains("hunter2"),
        "{found:?}"
    );
    let common = translated(SECRET, "", "").replace("contoso.example\"\nclient", "common\"\nclient");
    assert!(problems(&common)[0].contains("tenant: is nobody's directory"));
    let both = format!(
        "{}[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:1\"]\nupstream = \"exchange\"",
        translated(SECRET, "", "")
    );
    assert!(problems(&both)[0].contains("has a meaning with logins = \"pass-through\" alone"));
}

#[test]
fn discouraged_and_unused_settings_draw_warnings() {
    let warned = |text: &str, words: &str| {
        let found = warnings(text);
        assert!(found.iter().any(|warning| warning.contains(words)), "{words}\n{found:?}");
    };
    warned(&translated("grant = \"device-code\"", "", ""), "Block device code flow");
    warned(&translated("grant = \"password\"", "password_file = \"/p\"", ""), "use \"client-credentials\"");
    warned(
        &format!("{}[account.other]\nmailbox = \"o@contoso.example\"", translated(SECRET, "", "account = \"scans\"")),
        "account.other: no device names it",
    );
    assert_eq!(warnings(&translated(SECRET, "", "")), [""; 0]);
}

#[test]
fn admin_addresses_beyond_this_computer_need_a_token() {
    let config = parse("");
    assert_eq!(config.admin.listen, ["127.0.0.1:9143".parse().unwrap()]);
    assert!(parse("[admin]\nlisten = []").admin.listen.is_empty());
    let found = problems("[admin]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:9143\"]");
    assert!(
        found[0]
            .starts_with("test.toml:2: admin.listen: 0.0.0.0:9143 can be reached from elsewhere, and needs token_file"),
        "{found:?}"
    );
    let open = parse("[admin]\nlisten = [\"[::]:9143\"]\ntoken_file = \"/etc/packetboat/token\"");
    assert_eq!(open.admin.token_file.unwrap(), Path::new("/etc/packetboat/token"));
    assert_eq!(open.admin.technician_token_file, None);
    let found = problems("[admin]\ntechnician_token_file = \"/etc/packetboat/technician\"");
    assert!(found[0].starts_with("test.toml:2: admin.technician_token_file: needs token_file beside it"), "{found:?}");
    let both = parse("[admin]\ntoken_file = \"/etc/packetboat/a\"\ntechnician_token_file = \"/etc/packetboat/b\"");
    assert_eq!(both.admin.technician_token_file.unwrap(), Path::new("/etc/packetboat/b"));
    let found = problems("[admin]\nedit = true");
    assert!(found[0].starts_with("test.toml:2: admin.edit: needs token_file beside it"), "{found:?}");
    assert!(!parse("[admin]\nedit = false").admin.edit);
    assert!(parse("[admin]\nedit = true\ntoken_file = \"/etc/packetboat/token\"").admin.edit);
    let taken = format!("[admin]\nlisten = [\"127.0.0.1:1143\"]\n{}", imap(""));
    assert!(problems(&taken)[0].contains("127.0.0.1:1143 is taken by listener \"imap-1143\" already"));
    assert!(problems("[inventory]\nforget_after = \"5000d\"")[0].contains("no more than 3650 days"));
    assert_eq!(parse("[inventory]\nforget_after = \"30d\"").inventory.forget_after.as_secs(), 30 * 86_400);
    assert!(problems("[inventory]\nsilent_after = \"0s\"")[0].contains("must be more than nothing"));
    assert_eq!(parse("").inventory.silent_after.as_secs(), 2 * 3600);
    assert_eq!(parse("[inventory]\nsilent_after = \"3d\"").inventory.silent_after.as_secs(), 3 * 86_400);
}

#[test]
fn observing_listeners_need_no_accounts() {
    let observe = "[[listener]]\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:1143\"]\nobserve = true\n";
    assert_eq!(parse(observe).listeners[0].logins, Logins::Observe);
    assert_eq!(warnings(observe), [""; 0]);
    for more in ["logins = \"translate\"", "upstream = \"exchange\""] {
        let found = problems(&format!("{observe}{more}"));
        assert!(found[0].contains("has no meaning beside observe = true, which lets nobody in"), "{found:?}");
    }
    let balanced = parse(&imap("proxy_protocol = [\"10.0.0.5/32\"]"));
    assert!(balanced.listeners[0].proxy_protocol.contain("10.0.0.5".parse().unwrap()));
    assert!(problems(&imap("proxy_protocol = [\"10.0.0.5/8\"]"))[0].contains("\"10.0.0.5/32\" for the address"));
}

/// Environment variables override keys in a container, and a mistake there is reported as one of the environment.
#[test]
fn the_environment_overrides_the_file() {
    let parse_with = |variables: &[(&'static str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Config::parse_with("[log]\nlevel = \"info\"", Path::new("test.toml"), &Environment(variables))
    };
    let config = parse_with(&[
        ("PACKETBOAT_STATE_DIRECTORY", "/state"),
        ("PACKETBOAT_LOG_FORMAT", "json"),
        ("PACKETBOAT_LOG_LEVEL", "debug"),
        ("PACKETBOAT_ADMIN_LISTEN", "0.0.0.0:9000, [::]:9000"),
        ("PACKETBOAT_ADMIN_TOKEN_FILE", "/run/secrets/token"),
        ("PACKETBOAT_ADMIN_TECHNICIAN_TOKEN_FILE", "/run/secrets/technician"),
    ]);
    let config = config.unwrap().config;
    assert_eq!(config.state_directory, Path::new("/state"));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Debug));
    assert_eq!(config.admin.listen.len(), 2);
    assert_eq!(config.admin.technician_token_file.as_deref(), Some(Path::new("/run/secrets/technician")));
    for (variable, value, expected) in [
        ("PACKETBOAT_LOG_LEVEL", "loud", "environment variable PACKETBOAT_LOG_LEVEL: log.level: unknown value;"),
        (
            "PACKETBOAT_ADMIN_LISTEN",
            "9143",
            "environment variable PACKETBOAT_ADMIN_LISTEN: admin.listen: is no address",
        ),
        (
            "PACKETBOAT_ADMIN_LISTEN",
            "0.0.0.0:1",
            "environment variable PACKETBOAT_ADMIN_LISTEN: admin.listen: 0.0.0.0:1 can be reached",
        ),
    ] {
        let found = parse_with(&[(variable, value)]).unwrap_err();
        assert!(found[0].to_string().starts_with(expected), "{found:?}");
    }
}

#[test]
fn warm_connections_are_few_and_have_tls_from_the_start() {
    let upstream = |more: &str| format!("[upstream.x]\nhost = \"mail.example.com\"\n{more}\n{}", imap(""));
    let config = parse(&upstream("warm_connections = 4\nwarm_time = \"20s\""));
    let x = &config.upstreams["x"];
    assert_eq!((x.warm_connections, x.warm_time.as_secs()), (4, 20));
    assert_eq!(parse(&upstream("")).upstreams["x"].warm_connections, 0);
    let found = problems(&upstream("warm_connections = 4\nsecurity = \"starttls\""));
    assert_eq!(found, ["test.toml:3: upstream.x.warm_connections: needs security = \"implicit\""]);
    assert!(problems(&upstream("warm_time = \"1ms\""))[0].contains("a second or more"));
    assert!(problems(&upstream("warm_connections = 33"))[0].contains("is not between 0 and 32"));
}
