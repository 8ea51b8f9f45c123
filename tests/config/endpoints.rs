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
    assert_eq!((one.endpoint(Protocol::Imap), one.endpoint(Protocol::Pop3)), (Some(&imap), Some(&pop3)));
}

#[test]
fn submission_has_an_endpoint_where_it_is_written_or_known() {
    let smtp = |text: &str| upstream(text).endpoint(Protocol::Smtp).cloned();
    assert_eq!(smtp("host = \"a.example\""), None);
    let exchange = endpoint("smtp.office365.com", 587, Security::StartTls, None);
    assert_eq!(smtp("host = \"outlook.office365.com\""), Some(exchange.clone()));
    assert_eq!(smtp("host = \"outlook.office365.com\"\nsecurity = \"implicit\""), Some(exchange));
    let own = endpoint("a.example", 587, Security::StartTls, None);
    assert_eq!(smtp("host = \"a.example\"\nsmtp = {}"), Some(own));
    let other = endpoint("b.example", 465, Security::Implicit, None);
    assert_eq!(smtp("host = \"a.example\"\nsmtp = { host = \"b.example\", security = \"implicit\" }"), Some(other));
    let alone = parse(
        "[upstream.x.smtp]\nhost = \"a.example\"\n[[listener]]\nprotocol = \"smtp\"\nlisten = [\"127.0.0.1:587\"]\n\
         logins = \"pass-through\"\n",
    );
    let upstream = &alone.upstreams["x"];
    assert!(upstream.endpoint(Protocol::Imap).is_none() && upstream.endpoint(Protocol::Smtp).is_some());
    assert_eq!(upstream.host(), "a.example");
}

#[test]
fn a_listener_needs_a_server_of_its_protocol() {
    let listener = |protocol: &str| {
        format!("[[listener]]\nprotocol = \"{protocol}\"\nlisten = [\"127.0.0.1:1\"]\nlogins = \"pass-through\"\n")
    };
    let found = problems(&format!("[upstream.x]\nhost = \"a.example\"\n{}", listener("smtp")));
    assert_eq!(
        found,
        ["test.toml:3: listener.smtp-1: listener smtp-1 is for SMTP, and [upstream.x] has no server for it; write \
          [upstream.x.smtp] with host = \"...\""]
    );
    let found = problems(&format!("[upstream.x.smtp]\nhost = \"a.example\"\n{}", listener("imap")));
    assert!(found[0].contains("listener imap-1 is for IMAP, and [upstream.x] has no server for it"), "{found:?}");
    parse(&format!("[upstream.x]\nhost = \"a.example\"\nsmtp = {{}}\n{}", listener("smtp")));
}

#[test]
fn an_account_without_submission_is_told() {
    let one = |name: &str, host: &str| {
        format!(
            "[upstream.{name}]\nhost = \"{host}\"\n[account.{name}]\nmailbox = \"x@y.example\"\nupstream = \"{name}\"\n"
        )
    };
    let rest = "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
                client_secret_file = \"/x\"\n[[listener]]\nprotocol = \"smtp\"\nlisten = [\"127.0.0.1:1\"]\n";
    let found = problems(&format!("{}{rest}", one("a", "a.example")));
    assert!(found[0].starts_with("test.toml:3: account.a: listener smtp-1 is for SMTP, and [upstream.a]"), "{found:?}");
    let told = warnings(&format!("{}{}{rest}", one("a", "a.example"), one("b", "outlook.office365.com")));
    assert!(told.iter().any(|one| one.starts_with("test.toml:3: account.a: listener smtp-1")), "{told:?}");
}

/// Exchange Online may know such an address, and IMAP takes it; a message cannot have it as its sender.
#[test]
fn a_mailbox_that_cannot_be_a_sender_is_told() {
    let is_told = |mailbox: &str, protocol: &str| {
        let text = format!(
            "[account.a]\nmailbox = '{mailbox}'\n[identity.i]\ntenant = \"t.example\"\n\
             client_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/x\"\n[[listener]]\n\
             protocol = \"{protocol}\"\nlisten = [\"127.0.0.1:1\"]\n"
        );
        let begin = "test.toml:2: account.a.mailbox: no device can send from it at listener smtp-1: ";
        warnings(&text).iter().any(|one| one.starts_with(begin))
    };
    for mailbox in ["sc\u{e4}n@y.example", "a,b@y.example", "a(b@y.example", "a@y.example.", "a@y..example"] {
        assert!(is_told(mailbox, "smtp") && !is_told(mailbox, "imap"), "{mailbox}");
    }
    for mailbox in ["scan@y.example", "SCAN.2+a_b-c@y.example", "a&b/c@sub.y.example"] {
        assert!(!is_told(mailbox, "smtp"), "{mailbox}");
    }
}

#[test]
fn the_scope_of_submission_is_asked_for_where_a_listener_has_it() {
    let scope = |protocol: &str| {
        let text = format!(
            "[identity.i]\ntenant = \"t.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
             grant = \"device-code\"\n[[listener]]\nprotocol = \"{protocol}\"\nlisten = [\"127.0.0.1:1\"]\n"
        );
        parse(&text).identities["i"].scope.clone()
    };
    let office = "https://outlook.office.com";
    let mailbox = format!("{office}/IMAP.AccessAsUser.All {office}/POP.AccessAsUser.All");
    assert_eq!(scope("imap"), format!("{mailbox} offline_access"));
    assert_eq!(scope("smtp"), format!("{mailbox} {office}/SMTP.Send offline_access"));
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
