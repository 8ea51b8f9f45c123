//! These tests prove that text pasted from portals is accepted where its meaning is clear; otherwise the message names
//! the line and the fix.

use packetboat::protocol::Protocol;

use super::{parse, problems, warnings};

const GUID: &str = "11111111-2222-3333-4444-555555555555";
const ID: &str = "6731de76-14a6-49ae-97bc-6eba6914391e";

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
            parse(&file(tenant, ID, "", "x@y.example")).identities["office"].token_endpoint,
            endpoint,
            "{tenant:?}"
        );
    }
    for client_id in [format!("{{{ID}}}"), format!(" {ID} "), format!("\u{200b}{ID}")] {
        assert_eq!(parse(&file(GUID, &client_id, "", "x@y.example")).identities["office"].client_id, ID);
    }
    for mailbox in [
        "smtp:x@y.example",
        "SMTP:x@y.example",
        "<x@y.example>",
        "A B <x@y.example>",
        " x@y.example ",
        "mailto:x@y.example",
    ] {
        let account = &parse(&file(GUID, ID, "", mailbox)).accounts["scans"];
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
        let identity = &parse(&file(GUID, ID, more, "x@y.example")).identities["office"];
        let found = (identity.token_endpoint.as_str(), identity.scope.as_str());
        assert_eq!(found, (endpoint.as_str(), "https://outlook.office365.com/.default"), "{more}");
    }
    let config = parse(
        "[upstream.x]\nhost = \"[::1]\"\nserver_name = \" localhost \"\n[[listener]]\nprotocol = \"imap\"\n\
         listen = [\" 127.0.0.1:1 \"]\nlogins = \"pass-through\"\n",
    );
    let x = &config.upstreams["x"];
    let x = x.endpoint(Protocol::Imap).unwrap();
    assert_eq!((x.host.as_str(), x.server_name.as_deref()), ("::1", Some("localhost")));
    let device = "[[device]]\nlogin = \" Scanner3 \"\npasswords = [\" $argon2id$x\\n\"]\n";
    let device = &parse(&(file(GUID, ID, "", "x@y.example") + device)).devices[0];
    assert_eq!((device.logins[0].as_str(), device.passwords[0].as_str()), ("scanner3", "$argon2id$x"));
}

#[test]
fn ambiguous_text_is_reported_with_line_and_fix() {
    let scopes = |scopes: &str| file(GUID, ID, &format!("scopes = [{scopes:?}]"), "x@y.example");
    let person =
        |scopes: &str| file(GUID, ID, &format!("grant = \"authorization-code\"\nscopes = [{scopes:?}]"), "x@y.example");
    let whole = "write \"https://outlook.office365.com/.default\", or leave scopes out";
    for (text, line, expected) in [
        (file("https://contoso.example/", ID, "", "x@y.example"), 2, "write tenant = \"contoso.example\""),
        (file("admin@contoso.example", ID, "", "x@y.example"), 2, "write tenant = \"contoso.example\""),
        (file("contoso.example/", ID, "", "x@y.example"), 2, "write tenant = \"contoso.example\""),
        (
            file(&format!("https://login.microsoftonline.com/{GUID}/v2.0"), ID, "", "x@y.example"),
            2,
            &format!("write tenant = \"{GUID}\""),
        ),
        (file("Contoso Ltd", ID, "", "x@y.example"), 2, "is a directory's id (a GUID) or one of its domains"),
        (file(GUID, GUID, "", "x@y.example"), 3, "is the directory's id; write the \"Application (client) ID\""),
        (file(GUID, "api://packetboat", "", "x@y.example"), 3, "neither its name nor its URI"),
        (file(GUID, "my app", "", "x@y.example"), 3, "neither its name nor its URI"),
        (file(GUID, "packetboat", "", "x@y.example"), 3, "8-4-4-4-12 hexadecimal digits"),
        // A digit short, and a digit that is none.
        (file(GUID, &ID[1..], "", "x@y.example"), 3, "8-4-4-4-12 hexadecimal digits"),
        (file(GUID, &ID.replace('d', "o"), "", "x@y.example"), 3, "8-4-4-4-12 hexadecimal digits"),
        (file(GUID, ID, "", "a@y.example;b@y.example"), 7, "is no mail address"),
        (file(GUID, ID, "", "x@m\u{fc}ller.example"), 7, "write its domain in ASCII"),
        (file(GUID, ID, "", "X500:/o=Contoso"), 7, "is no mail address"),
        (scopes("https://outlook.office365.com"), 5, whole),
        (scopes("https://outlook.office365.com/IMAP.AccessAsApp"), 5, whole),
        (scopes("IMAP.AccessAsApp"), 5, whole),
        (person("https://outlook.office.com"), 6, "write \"https://outlook.office.com/IMAP.AccessAsUser.All\""),
        (person("https://outlook.office.com/"), 6, "write \"https://outlook.office.com/IMAP.AccessAsUser.All\""),
        (file(GUID, ID, "client_secret_expires = \"21.11.2027\"", "x@y.example"), 5, "written as \"2027-11-21\""),
        (
            file(GUID, ID, "authorization_endpoint = \"http://127.evil.example/\"", "x@y.example"),
            5,
            "must begin with https://",
        ),
        (file(GUID, ID, "device_endpoint = \"http://localhost@evil.example/\"", "x@y.example"), 5, "is no URL"),
        (file(GUID, ID, "[upstream.x]\nhost = \"https://localhost/\"", "x@y.example"), 6, "a name or an address alone"),
    ] {
        let found = problems(&text);
        let told = found.iter().any(|one| one.starts_with(&format!("test.toml:{line}: ")) && one.contains(expected));
        assert!(told, "{text}\n{found:#?}");
    }
    // Another provider's scopes are taken as written.
    let own = "token_endpoint = \"https://sso.example/t\"\nscopes = [\"mail\"]";
    let found = problems(&file(GUID, ID, own, "x@y.example"));
    assert!(found.iter().all(|problem| !problem.contains("scopes")), "{found:?}");
}

/// The id of an application is a GUID at Microsoft alone, and zeros are nobody's.
#[test]
fn an_id_of_zeros_is_warned_of_and_other_issuers_have_other_ids() {
    let zeros = "00000000-0000-0000-0000-000000000000";
    let found = warnings(&file(GUID, zeros, "", "x@y.example"));
    let warning = "test.toml:3: identity.office.client_id: stands for the id that is still missing";
    assert!(found.iter().any(|one| one.starts_with(warning)), "{found:?}");
    assert!(!warnings(&file(GUID, ID, "", "x@y.example")).iter().any(|one| one.contains("client_id")));
    let elsewhere = "token_endpoint = \"https://sso.example/token\"\n[upstream.x]\nhost = \"mail.example\"";
    let text = file(GUID, "packetboat", elsewhere, "x@y.example") + "upstream = \"x\"\n";
    assert_eq!(parse(&text).identities["office"].client_id, "packetboat");
    // What stands there may be the secret.
    let found = problems(&file(GUID, "Tr0ub4dor3xyz", "", "x@y.example"));
    assert!(!found.iter().any(|one| one.contains("Tr0ub")), "{found:?}");
}
