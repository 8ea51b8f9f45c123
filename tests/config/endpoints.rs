//! These tests prove that short keys and sections of an upstream mean the same, and that a contradiction is reported
//! with its line.

use packetboat::config::{Endpoint, Upstream};
use packetboat::protocol::{Protocol, Security};

use super::{imap, parse, problems, warnings};

fn upstream(text: &str) -> Upstream {
    parse(&file(text)).upstreams["x"].clone()
}

fn file(text: &str) -> String {
    format!("[upstream.x]\n{text}\n{}", imap(""))
}

fn endpoint(host: &str, port: u16, security: Security, server_name: Option<&str>) -> Endpoint {
    Endpoint { host: host.to_owned(), port, security, server_name: server_name.map(str::to_owned) }
}

#[test]
fn short_keys_and_sections_mean_the_same() {
    let short = "host = \"a.example\"\npop3_host = \"b.example\"\nimap_port = 1993\npop3_port = 1995";
    let sections = "[upstream.x.imap]\nhost = \"a.example\"\nport = 1993\n\
                    [upstream.x.pop3]\nhost = \"b.example\"\nport = 1995";
    let mixed = "host = \"a.example\"\nimap = { port = 1993 }\npop3 = { host = \"b.example\", port = 1995 }";
    let twice = format!("{short}\n{sections}");
    assert_eq!(upstream(short), upstream(sections));
    assert_eq!(upstream(short), upstream(mixed));
    assert_eq!(upstream(short), upstream(&twice));
    let all = "host = \"a.example\"\nsecurity = \"starttls\"\nserver_name = \"c.example\"";
    let each = "security = \"starttls\"\nserver_name = \"c.example\"";
    let each = format!("host = \"a.example\"\n[upstream.x.imap]\n{each}\n[upstream.x.pop3]\n{each}");
    assert_eq!(upstream(all), upstream(&each));
}

#[test]
fn each_protocol_has_an_endpoint_of_its_own() {
    let one = upstream(
        "host = \"a.example\"\nserver_name = \"c.example\"\n\
         [upstream.x.pop3]\nhost = \"b.example\"\nsecurity = \"starttls\"\nserver_name = \"d.example\"",
    );
    let imap = endpoint("a.example", 993, Security::Implicit, Some("c.example"));
    let pop3 = endpoint("b.example", 110, Security::StartTls, Some("d.example"));
    assert_eq!((one.endpoint(Protocol::Imap), one.endpoint(Protocol::Pop3)), (&imap, &pop3));
}

#[test]
fn a_contradiction_is_named_with_both_keys() {
    let found = problems(&file("host = \"a\"\nimap_port = 1\n[upstream.x.imap]\nport = 2"));
    let expected =
        "test.toml:5: upstream.x.imap.port: is 2, but upstream.x.imap_port (line 3) is 1; remove one of the two";
    assert_eq!(found, [expected]);
    let found = problems(&file("host = \"a\"\npop3_host = \"b\"\n[upstream.x.pop3]\nhost = \"c\""));
    assert!(found[0].starts_with("test.toml:5: upstream.x.pop3.host: is c, but upstream.x.pop3_host (line 3) is b"));
    assert_eq!(found.len(), 1);
}

#[test]
fn a_host_that_is_missing_is_told_where_it_belongs() {
    let found = problems(&file("[upstream.x.imap]\nhost = \"a\""));
    assert!(found[0].contains("upstream.x.pop3.host: is missing; write it, or host = "), "{found:?}");
    assert!(problems(&file("[upstream.x.imap]\nport = 1"))[0].contains("upstream.x.host: is missing"));
    assert!(problems(&file("host = \"a\"\n[upstream.x.imap]\nhost = \"a:1\""))[0].contains("a port goes into port"));
    assert!(problems(&file("host = \"a\"\n[upstream.x.imap]\nprot = 1"))[0].contains("did you mean `port`"));
    assert!(problems(&file("host = \"a\"\n[upstream.x.pop3]\nport = 0"))[0].contains("upstream.x.pop3.port: is not b"));
}

#[test]
fn a_default_that_no_protocol_takes_is_told() {
    let sections = "[upstream.x.imap]\nhost = \"b\"\n[upstream.x.pop3]\nhost = \"c\"";
    let told = warnings(&file(&format!("host = \"a\"\n{sections}")));
    assert!(told[0].starts_with("test.toml:2: upstream.x.host: has no effect"), "{told:?}");
    assert!(!warnings(&file("host = \"a\"\npop3_host = \"b\"")).iter().any(|one| one.contains("no effect")));
}

#[test]
fn warm_connections_are_for_endpoints_with_implicit_tls() {
    let warm = "host = \"a\"\nwarm_connections = 2\npop3 = { security = \"starttls\" }";
    assert_eq!(upstream(warm).warm_connections, 2);
}
