//! These tests compare the defaults in the documents with the code, and find a figure that changes in one place alone.

use std::time::Duration;

use super::{ACCOUNT, DOCUMENTED, IDENTITY, SECRET, parse, problems};

const README: &str = include_str!("../../README.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const REFERENCE: &str = include_str!("../../docs/reference.md");
const INSTALL: &str = include_str!("../../docs/install.md");

/// The text without line ends.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A duration in the form "30 s".
fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

#[test]
fn figures_of_defaults_are_those_of_the_code() {
    let config = parse("");
    let (limits, log) = (config.limits, config.log);
    let exchange = &config.upstreams["exchange"];
    let hours = limits.password_memory.as_secs() / 3600;
    assert_eq!(hours, 1, "docs/reference.md says an hour");
    let expected = [
        (
            REFERENCE,
            format!("{} connections by default, {} from one source", limits.connections, limits.connections_per_source),
        ),
        (REFERENCE, format!("A command before login has {} octets", limits.line)),
        (REFERENCE, format!("no more than {} sessions at a time in one mailbox", limits.sessions_per_mailbox)),
        (REFERENCE, "remembers a verified password for an hour after its last use".to_owned()),
        (
            README,
            format!(
                "{} lines a minute about one source, {} in all",
                log.lines_per_minute_of_source, log.lines_per_minute
            ),
        ),
        (REFERENCE, format!("packetboat replaces them every {}", seconds(exchange.warm_time))),
        (REFERENCE, format!("The default is {}.", exchange.warm_connections)),
        (README, format!("at `admin.listen`, {} by default", config.admin.listen[0])),
        (OPERATIONS, format!("bursts of {} lines, then 5 lines a second", log.lines_per_minute_of_source)),
        (OPERATIONS, format!("bursts of {} lines, then 50 lines a second (", log.lines_per_minute)),
        (OPERATIONS, format!("`limits.drain_timeout` ({})", seconds(limits.drain_timeout))),
        (INSTALL, format!("{}", config.admin.listen[0])),
    ];
    let wrong: Vec<&String> = expected
        .iter()
        .filter(|(document, words)| !plain(document).contains(words.as_str()))
        .map(|(_, words)| words)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((log.lines_per_minute_of_source / 60, log.lines_per_minute / 60), (5, 50), "as operations.md says");
}

/// A range in a comment is the range outside of which the parser refuses a value.
#[test]
fn ranges_are_those_of_the_code() {
    for (section, key) in [
        ("limits", "line"),
        ("limits", "sasl_line"),
        ("limits", "literal"),
        ("limits", "sessions_per_mailbox"),
        ("submission", "connections_per_mailbox"),
        ("submission", "messages_per_minute"),
        ("submission", "recipients_per_hour_of_device"),
        ("spool", "max_size"),
        ("spool", "max_messages"),
        ("spool", "mailbox_share"),
        ("spool", "device_share"),
        ("upstream.x", "warm_connections"),
        ("[listener]", "max_message_size"),
    ] {
        let found = problems(&format!(
            "[{section}]\n{key} = -1\n{}",
            match section {
                "limits" | "submission" | "spool" => "",
                "[listener]" => "protocol = \"smtp\"\nlisten = [\"0.0.0.0:1587\"]",
                _ => "host = \"a.example\"",
            }
        ));
        let range = found[0].split_once("is not between ").unwrap_or_else(|| panic!("{found:?}")).1;
        let range = range.replace(" and ", " to ");
        assert!(plain(&DOCUMENTED.replace("\n#", "\n")).contains(&format!("({range}")), "{key}: {range}");
    }
    let found = problems("[inventory]\nforget_after = \"9999d\"");
    assert!(found[0].contains("3650 days") && DOCUMENTED.contains("(up to 3650d)"), "{found:?}");
}

/// The example's ports have the meaning that the text beside them states.
#[test]
fn the_readmes_examples_are_good() {
    let examples: Vec<&str> = README.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        // The example is indented, because it stands in a list.
        let example =
            example.lines().map(|line| line.strip_prefix("   ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        let config = parse(&example);
        for listener in &config.listeners {
            for address in &listener.listen {
                let is_implicit = listener.entry_at(address.port()) == packetboat::config::Entry::Implicit;
                assert_eq!(is_implicit, [993, 995].contains(&address.port()), "{example}");
            }
        }
    }
}

#[test]
fn the_examples_of_operations_are_good() {
    let examples: Vec<&str> =
        OPERATIONS.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [technicians, parking] = examples[..] else { panic!("{examples:?}") };
    assert!(parse(technicians).admin.technician_token_file.is_some());
    let exchange = &parse(parking).upstreams["exchange"];
    assert!(!exchange.park.is_zero() && exchange.park < exchange.park_age);
}

#[test]
fn the_examples_of_sending_are_good() {
    let page = include_str!("../../docs/send.md");
    let examples: Vec<&str> = page.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let (listeners, lists): (Vec<&str>, Vec<&str>) = examples.iter().partition(|one| one.contains("[[listener]]"));
    let ports: Vec<Vec<u16>> = listeners
        .iter()
        .map(|example| parse(example).listeners.iter().map(|listener| listener.listen[0].port()).collect())
        .collect();
    assert_eq!(ports, [vec![587, 465], vec![587], vec![587]]);
    // The others are parts of a file: a device has its password there, and its account.
    let [narrowed, without_login] = lists[..] else { panic!("{lists:?}") };
    let narrowed = narrowed.replace("login = \"fax1\"", "login = \"fax1\"\npasswords = [\"$argon2id$x\"]");
    let config = parse(&format!("{IDENTITY}{SECRET}{narrowed}"));
    assert_eq!(config.devices[0].submission.recipients.as_deref(), Some(&["archive@contoso.com".to_owned()][..]));
    let config = parse(&format!("{IDENTITY}{SECRET}{ACCOUNT}{without_login}"));
    assert!(config.devices[0].sends_without_login);
    let config = parse("");
    assert!(page.contains(&format!(
        "`submission.connections_per_mailbox` ({})",
        config.limits.submission.connections_per_mailbox
    )));
}

#[test]
fn the_examples_of_a_fleet_are_good() {
    let page = include_str!("../../docs/fleet.md");
    let examples: Vec<&str> = page.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [listening, database, azure, standby] = examples[..] else { panic!("{examples:?}") };
    let device = "[[device]]\nlogin = \"scanner3\"\npasswords = [\"$argon2id$x\"]\n";
    let config = parse(&format!("{IDENTITY}{SECRET}{ACCOUNT}{device}{listening}"));
    let instances_of_three = config.limits.sessions_per_mailbox;
    assert!(config.listeners[0].proxy_protocol.contain("10.0.0.10".parse().unwrap()));
    let config = parse(&format!("{database}{IDENTITY}{SECRET}"));
    assert!(config.fleet.is_some_and(|fleet| fleet.tls) && config.store_key.is_some());
    let config = parse(&format!("store_key = \"credential:store.key\"\n{standby}{IDENTITY}{SECRET}"));
    assert!(config.fleet.is_some_and(|fleet| fleet.tls && fleet.database.servers.len() == 2));
    let config = parse(&format!("store_key = \"/k\"\n{azure}{IDENTITY}{SECRET}"));
    let password = config.fleet.and_then(|fleet| fleet.password_identity).unwrap();
    assert_eq!(password.identity.scope, "https://ossrdbms-aad.database.windows.net/.default");

    // The table of quotas begins with the defaults, and no row exceeds what Exchange Online takes.
    let config = parse("");
    let table = page.split("\n| instances at a time |").nth(1).unwrap().split("\n\n").next().unwrap();
    let number = |cell: &str| cell.trim().split([' ', ',']).next().unwrap().parse().unwrap();
    let rows: Vec<Vec<usize>> =
        table.lines().skip(2).map(|row| row.trim_matches('|').split('|').map(number).collect()).collect();
    let submission = config.limits.submission;
    let alone = [1, config.limits.sessions_per_mailbox, submission.connections_per_mailbox, 30];
    assert!(rows.len() == 4 && rows[0] == alone, "{rows:?}");
    for row in &rows {
        assert!(row[0] * row[1] <= 16 && row[0] * row[3] <= 30, "{row:?}");
    }
    assert_eq!(rows[2][1], instances_of_three);
}

/// `packetboat reload` prints what is wrong, and systemctl does not: it comes first wherever a file was changed.
#[test]
fn packetboat_reload_is_named_before_systemctl() {
    for (name, document) in [
        ("README.md", README),
        ("docs/install.md", INSTALL),
        ("config/packetboat.toml", DOCUMENTED),
        ("config/debian/packetboat.toml", include_str!("../../config/debian/packetboat.toml")),
    ] {
        let text = plain(document);
        let at = |words: &str| text.find(words);
        let own = at("packetboat reload").unwrap_or_else(|| panic!("{name}"));
        for other in ["systemctl reload packetboat", "systemctl restart packetboat"] {
            assert!(at(other).is_none_or(|other| own < other), "{name}: {other}");
        }
    }
}
