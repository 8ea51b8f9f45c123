//! These tests prove where an account's token goes: to the mail server of its identity's cloud, or to the account's own
//! server.

use packetboat::protocol::Protocol;

use super::{parse, problems, warnings};

const OFFICE: &str = "[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/s\"\n";
const GOOGLE: &str = "[identity.g]\ncloud = \"google\"\ngrant = \"authorization-code\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/s\"\n";
const SCANS: &str = "[account.scans]\nmailbox = \"scans@contoso.example\"\nidentity = \"office\"\n";
const ON_PREMISES: &str = "[upstream.onprem]\nhost = \"mail.contoso.example\"\n";

/// The host that gets the account's token.
fn host(text: &str) -> String {
    let config = parse(text);
    config.upstreams[&config.accounts["scans"].upstream].host().to_owned()
}

/// The message about the account's server.
fn refused(text: &str) -> String {
    let found = problems(text);
    let about = found.iter().find(|problem| problem.contains(": account.scans.upstream: "));
    about.unwrap_or_else(|| panic!("{text}\n{found:?}")).clone()
}

#[test]
fn the_cloud_supplies_the_server_whatever_else_the_file_has() {
    let exchange = "outlook.office365.com";
    for others in [
        "",
        ON_PREMISES,
        "[upstream.a]\nhost = \"a.example\"\n[upstream.b]\nhost = \"b.example\"\n",
        "[upstream.google]\nhost = \"imap.gmail.com\"\npop3_host = \"pop.gmail.com\"\n",
        "[upstream.evil]\nhost = \"outlook.office365.com.evil.example\"\n",
        "[upstream.half]\nhost = \"outlook.office365.com\"\npop3_host = \"pop.evil.example\"\n",
        "[upstream.named]\nhost = \"outlook.office365.com\"\nserver_name = \"evil.example\"\n",
        "[upstream.gov]\nhost = \"outlook.office365.us\"\n",
        GOOGLE,
    ] {
        let config = parse(&format!("{OFFICE}{SCANS}{others}"));
        let account = &config.accounts["scans"];
        let server = &config.upstreams[&account.upstream];
        for (protocol, endpoint) in server.each_endpoint() {
            let host = if protocol == Protocol::Smtp { "smtp.office365.com" } else { exchange };
            assert_eq!((endpoint.host.as_str(), &endpoint.server_name), (host, &None), "{others}");
        }
    }
}

#[test]
fn a_section_for_the_clouds_own_host_is_used() {
    for host in ["outlook.office365.com", "Outlook.Office365.com", "outlook.office365.com."] {
        let tuned = format!("[upstream.tuned]\nhost = \"{host}\"\nwarm_connections = 2\n{ON_PREMISES}");
        let config = parse(&format!("{OFFICE}{SCANS}{tuned}"));
        assert_eq!(config.accounts["scans"].upstream, "tuned");
        assert_eq!(config.upstreams.keys().collect::<Vec<_>>(), ["onprem", "tuned"]);
    }
    let two = "[upstream.a]\nhost = \"outlook.office365.com\"\n[upstream.b]\nhost = \"outlook.office365.com\"\n";
    let message = refused(&format!("{OFFICE}{SCANS}{two}"));
    assert!(message.contains("several mail servers are of its cloud: write upstream = \"a\" or \"b\""), "{message}");
}

#[test]
fn another_host_is_named_by_the_account_or_gets_no_token() {
    let named = format!("{OFFICE}{SCANS}upstream = \"onprem\"\n{ON_PREMISES}");
    assert_eq!(host(&named), "mail.contoso.example");
    // A section has the cloud's own name and another host, so the message asks which one is meant.
    let taken = format!("{OFFICE}{SCANS}[upstream.exchange]\nhost = \"mail.contoso.example\"\n");
    let message = refused(&taken);
    for words in ["mail.contoso.example", "outlook.office365.com", "write upstream = \"exchange\" if", "another name"] {
        assert!(message.contains(words), "{message}");
    }
    // The account names the cloud's own server, although the file has another one.
    assert_eq!(host(&format!("{OFFICE}{SCANS}upstream = \"exchange\"\n{ON_PREMISES}")), "outlook.office365.com");
    let wrong = format!("{OFFICE}{SCANS}upstream = \"google\"\n[upstream.google]\nhost = \"imap.gmail.com\"\n");
    let found = warnings(&wrong);
    let words = "is a mail server of cloud \"google\", and gets this account's token";
    assert!(found.iter().any(|warning| warning.contains(words)), "{found:?}");
}

#[test]
fn each_cloud_has_its_own_server() {
    let both =
        format!("{OFFICE}{GOOGLE}{SCANS}[account.g]\nmailbox = \"g@x.example\"\nidentity = \"g\"\n{ON_PREMISES}");
    let config = parse(&both);
    let host = |account: &str| config.upstreams[&config.accounts[account].upstream].host();
    assert_eq!([host("scans"), host("g")], ["outlook.office365.com", "imap.gmail.com"]);
    assert_eq!(config.upstreams.len(), 3);
}

/// A token of a custom endpoint goes only to the server that the account names.
#[test]
fn an_endpoint_of_ones_own_leaves_the_server_to_the_account() {
    for own in [
        "token_endpoint = \"https://sso.example/token\"\n",
        "authority = \"https://sso.example\"\n",
        "authority = \"https://login.microsoftonline.us\"\n",
        "token_endpoint = \"https://login.microsoftonline.com.evil.example/token\"\n",
    ] {
        let message = refused(&format!("{OFFICE}{own}{SCANS}"));
        assert!(message.contains("tokens do not come from https://login.microsoftonline.com"), "{message}");
        let message = refused(&format!("{OFFICE}{own}{SCANS}{ON_PREMISES}"));
        assert!(message.contains("write upstream = \"onprem\"; or cloud = "), "{message}");
        assert_eq!(host(&format!("{OFFICE}{own}{SCANS}upstream = \"onprem\"\n{ON_PREMISES}")), "mail.contoso.example");
        let said = format!("{OFFICE}{own}cloud = \"worldwide\"\n{SCANS}{ON_PREMISES}");
        assert_eq!(host(&said), "outlook.office365.com");
    }
    let older = format!("{OFFICE}authority = \"https://login.windows.net/\"\n{SCANS}{ON_PREMISES}");
    assert_eq!(host(&older), "outlook.office365.com");
    let machine = "[identity.office]\ngrant = \"managed-identity\"\n";
    assert_eq!(host(&format!("{machine}{SCANS}{ON_PREMISES}")), "outlook.office365.com");
}

/// A pass-through listener takes the only section in the file, whatever servers the clouds supply.
#[test]
fn listeners_without_a_server_take_the_only_one_that_is_written() {
    let listener = super::imap("");
    let passes_to = |text: &str| format!("{:?}", parse(text).listeners[0].logins);
    assert_eq!(passes_to(&format!("{listener}{OFFICE}{SCANS}{ON_PREMISES}")), "PassThrough(\"onprem\")");
    assert_eq!(passes_to(&format!("{listener}{OFFICE}{SCANS}")), "PassThrough(\"exchange\")");
    let translating = listener.replace("logins = \"pass-through\"", "upstream = \"onprem\"");
    assert!(problems(&format!("{translating}{OFFICE}{SCANS}{ON_PREMISES}"))[0].contains("pass-through\" alone"));
}

#[test]
fn a_mistake_is_reported_once() {
    let text = format!("{OFFICE}{SCANS}mailbox2 = 1\n[[device]]\nlogin = \"x\"\npasswords = [\"$argon2id$x\"]\n");
    let no_mailbox = text.replace("mailbox = \"scans@contoso.example\"\n", "").replace("mailbox2 = 1\n", "");
    assert_eq!(problems(&no_mailbox).len(), 1, "{:?}", problems(&no_mailbox));
    let no_secret = text.replace("client_secret_file = \"/s\"\n", "").replace("mailbox2 = 1\n", "");
    assert_eq!(problems(&no_secret).len(), 1, "{:?}", problems(&no_secret));
}

/// The message names the endpoint outside the cloud, and leaves the cloud's own host unmentioned.
#[test]
fn an_endpoint_outside_the_cloud_is_named() {
    for (section, foreign) in [
        ("[upstream.exchange.pop3]\nhost = \"pop.example\"\n", "pop.example"),
        ("[upstream.exchange.imap]\nserver_name = \"imap.example\"\n", "imap.example"),
    ] {
        let others = format!("[upstream.exchange]\nhost = \"outlook.office365.com\"\n{section}");
        let told = refused(&format!("{OFFICE}{SCANS}{others}"));
        assert!(told.contains(&format!("[upstream.exchange] is {foreign}, and not the server")), "{told}");
    }
}
