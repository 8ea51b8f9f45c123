//! These tests prove that text pasted from portals is accepted where its meaning is clear; otherwise the message names
//! the line and the fix.

use packetboat::protocol::Protocol;

use super::{parse, problems};

const GUID: &str = "11111111-2222-3333-4444-555555555555";

fn file(tenant: &str, client_id: &str, more: &str, mailbox: &str) -> String {
    format!(
        "[identity.office]\ntenant = '{tenant}'\nclient_id = '{client_id}'\nclient_secret_file = \"/s\"\n{more}\n\
         [account.scans]\nmailbox = '{mailbox}'\n"
    )
}

#[test]
fn unambiguous_text_is_accepted() {
    let endpoint = format!("https://login.microsoftonline.com/{GUID}/oauth2/v2.0/token");
    for tenant in [GUID, &format!("{{{GUID}}}"), &format!(" {GUID}\u{a0}"), &format!("\u{feff}{GUID}\t")] {
        assert_eq!(
            parse(&file(tenant, "1", "", "x@y.example")).identities["office"].token_endpoint,
            endpoint,
            "{tenant:?}"
        );
    }
    for client_id in ["{aaaa}", " aaaa ", "\u{200b}aaaa"] {
        assert_eq!(parse(&file(GUID, client_id, "", "x@y.example")).identities["office"].client_id, "aaaa");
    }
    for mailbox in [
        "smtp:x@y.example",
        "SMTP:x@y.example",
        "<x@y.example>",
        "A B <x@y.example>",
        " x@y.example ",
        "mailto:x@y.example",
    ] {
        let account = &parse(&file(GUID, "1", "", mailbox)).accounts["scans"];
        assert_eq!([&account.mailbox, &account.user], ["x@y.example", "x@y.example"], "{mailbox}");
    }
    for more in [
        "authority = \"https://login.microsoftonline.com/\"",
        &format!("authority = \" https://login.microsoftonline.com/{GUID} \""),
        &format!("authority = \"https://login.microsoftonline.com/{GUID}/v2.0\""),
        &format!("token_endpoint = \" {endpoint}\""),
        "scopes = [\" https://outlook.office365.com/.default \"]",
        "client_secret_expires = 2027-11-21",
        "client_secret_expires = \" 2027-11-21\"",
    ] {
        let identity = &parse(&file(GUID, "1", more, "x@y.example")).identities["office"];
        let found = (identity.token_endpoint.as_str(), identity.scope.as_str());
        assert_eq!(found, (endpoint.as_str(), "https://outlook.office365.com/.default"), "{more}");
    }
    let config = parse(
        "[upstream.x]\nhost = \"[::1]\"\nserver_name = \" localhost \"\n[[listener]]\nprotocol = \"imap\"\n\
         listen = [\" 127.0.0.1:1 \"]\nlogins = \"pass-through\"\n",
    );
    let x = &config.upstreams["x"];
    let x = x.endpoint(Protocol::Imap);
    assert_eq!((x.host.as_str(), x.server_name.as_deref()), ("::1", Some("localhost")));
    let device = "[[device]]\nlogin = \" Scanner3 \"\npasswords = [\" $argon2id$x\\n\"]\n";
    let device = &parse(&(file(GUID, "1", "", "x@y.example") + device)).devices[0];
    assert_eq!((device.logins[0].as_str(), device.passwords[0].as_str()), ("scanner3", "$argon2id$x"));
}

#[test]
fn ambiguous_text_is_reported_with_line_and_fix() {
    let scopes = |scopes: &str| file(GUID, "1", &format!("scopes = [{scopes:?}]"), "x@y.example");
    let person = |scopes: &str| {
        file(GUID, "1", &format!("grant = \"authorization-code\"\nscopes = [{scopes:?}]"), "x@y.example")
    };
    let whole = "write \"https://outlook.office365.com/.default\", or leave scopes out";
    for (text, line, expected) in [
        (file("https://contoso.example/", "1", "", "x@y.example"), 2, "write tenant = \"contoso.example\""),
        (file("admin@contoso.example", "1", "", "x@y.example"), 2, "write tenant = \"contoso.example\""),
        (file("contoso.example/", "1", "", "x@y.example"), 2, "write tenant = \"contoso.example\""),
        (
            file(&format!("https://login.microsoftonline.com/{GUID}/v2.0"), "1", "", "x@y.example"),
            2,
            &format!("write tenant = \"{GUID}\""),
        ),
        (file("Contoso Ltd", "1", "", "x@y.example"), 2, "is a directory's id (a GUID) or one of its domains"),
        (file(GUID, GUID, "", "x@y.example"), 1, "is the directory's id; write the \"Application (client) ID\""),
        (file(GUID, "api://packetboat", "", "x@y.example"), 3, "neither its name nor its URI"),
        (file(GUID, "my app", "", "x@y.example"), 3, "neither its name nor its URI"),
        (file(GUID, "1", "", "a@y.example;b@y.example"), 7, "is no mail address"),
        (file(GUID, "1", "", "x@m\u{fc}ller.example"), 7, "write its domain in ASCII"),
        (file(GUID, "1", "", "X500:/o=Contoso"), 7, "is no mail address"),
        (scopes("https://outlook.office365.com"), 5, whole),
        (scopes("https://outlook.office365.com/IMAP.AccessAsApp"), 5, whole),
        (scopes("IMAP.AccessAsApp"), 5, whole),
        (person("https://outlook.office.com"), 6, "write \"https://outlook.office.com/IMAP.AccessAsUser.All\""),
        (person("https://outlook.office.com/"), 6, "write \"https://outlook.office.com/IMAP.AccessAsUser.All\""),
        (file(GUID, "1", "client_secret_expires = \"21.11.2027\"", "x@y.example"), 5, "written as \"2027-11-21\""),
        (
            file(GUID, "1", "authorization_endpoint = \"http://127.evil.example/\"", "x@y.example"),
            5,
            "must begin with https://",
        ),
        (file(GUID, "1", "device_endpoint = \"http://localhost@evil.example/\"", "x@y.example"), 5, "is no URL"),
        (
            file(GUID, "1", "[upstream.x]\nhost = \"https://localhost/\"", "x@y.example"),
            6,
            "a name or an address alone",
        ),
    ] {
        let found = problems(&text);
        let told = found.iter().any(|one| one.starts_with(&format!("test.toml:{line}: ")) && one.contains(expected));
        assert!(told, "{text}\n{found:#?}");
    }
    // Another provider's scopes are taken as written.
    let own = "token_endpoint = \"https://sso.example/t\"\nscopes = [\"mail\"]";
    let found = problems(&file(GUID, "1", own, "x@y.example"));
    assert!(found.iter().all(|problem| !problem.contains("scopes")), "{found:?}");
}
