//! These tests prove every grant, from the identity in the configuration to the mail on the device.

use std::process::{Command, Stdio};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use packetboat::crypto::{VerifyingKey, sha256};
use packetboat::simulator::ClientCertificate;

use support::certificates::Certificates;
use support::exchange::*;
use support::process::{Lines, Process};

#[test]
fn client_credentials_with_a_secret() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.grant("client_credentials"), counts.tokens_issued), (1, 1), "one token for both");
    assert_eq!(
        (counts.imap().accepted, counts.pop3().accepted, counts.imap().refused + counts.pop3().refused),
        (1, 1, 0)
    );
    assert!(exchange.simulator.events().iter().any(|event| event.contains(&format!("token of app {APP}"))));
}

/// A certificate with its key, and the tenant's record of the uploaded certificate.
fn certificate() -> (Certificates, ClientCertificate) {
    let made = Certificates::for_name("packetboat", 300);
    let key = VerifyingKey::from_pem(&made.key.public_key_to_pem().unwrap()).unwrap();
    let thumbprint = BASE64URL.encode(sha256(&made.leaf.to_der().unwrap()));
    (made, ClientCertificate { key, thumbprint })
}

pub fn with_certificate() -> (Exchange, String) {
    let (made, uploaded) = certificate();
    let exchange = Exchange::with(|tenant| {
        tenant.client_secret = None;
        tenant.certificate = Some(uploaded);
    });
    let chain = exchange.file("app.pem", made.leaf.to_pem().unwrap());
    let key = exchange.file("app.key", made.key.private_key_to_pem_pkcs8().unwrap());
    (exchange, format!("certificate = {chain:?}\nkey = {key:?}"))
}

#[test]
fn client_credentials_with_a_certificate() {
    let (exchange, identity) = with_certificate();
    let proxy = exchange.proxy(&exchange.configuration(&identity));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    assert_eq!(exchange.simulator.counts().grant("client_credentials"), 1);
}

/// An assertion contains the time. The log says whose clock is wrong, in which direction, and by how much.
#[test]
fn a_clock_that_is_off_by_an_hour_is_named() {
    for (offset, direction) in [(3600, "behind"), (-3600, "ahead of")] {
        let (exchange, identity) = with_certificate();
        exchange.quirk(|quirks| quirks.endpoint.clock_offset = offset);
        let proxy = exchange.proxy(&exchange.configuration(&identity));
        let line = proxy.log.wait_for("clock", |line| line.contains("this computer's clock is"));
        assert!(line.contains(direction) && line.contains("\"reason\":\"token_refused\""), "{line}");
        // A second may pass in between.
        assert!(line.contains(" 1h ") || line.contains(" 59m 59s ") || line.contains(" 1h 1s "), "{line}");
        logins_hear(&proxy, "NO [CONTACTADMIN] ", "-ERR [SYS/PERM] ");
        assert_eq!(exchange.requests(), 1, "nobody asks again so soon");
    }
}

/// Without an assertion a wrong clock is only a warning.
#[test]
fn with_a_secret_the_clock_is_mentioned() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.clock_offset = 3600);
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    assert!(imap_login(&proxy).starts_with("OK "));
    let line = proxy.log.wait_for("clock", |line| line.contains("this computer's clock is"));
    assert!(line.contains("\"level\":\"WARN\"") && line.contains("behind"), "{line}");
}

#[test]
fn federated_with_a_token_in_a_file() {
    let exchange = Exchange::with(|tenant| tenant.federated_token = Some("eyJ.federated.token".to_owned()));
    let token = exchange.file("token", "eyJ.federated.token\n");
    let proxy = exchange.proxy(&exchange.configuration(&format!("grant = \"federated\"\ntoken_file = {token:?}")));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    assert_eq!(exchange.simulator.counts().grant("client_credentials"), 1);
}

#[test]
fn managed_identity() {
    let exchange = Exchange::with(|tenant| tenant.federated_token = Some("of.the.machine".to_owned()));
    let imds = exchange.simulator.imds();
    let identity = format!(
        "grant = \"managed-identity\"\ntoken_endpoint = \"http://{imds}/metadata/identity/oauth2/token\"\nclient_id = \"{APP}\""
    );
    let proxy = exchange.proxy(&exchange.configuration(&identity));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.metadata_requests, counts.tokens_issued), (1, 0));
}

#[test]
fn password_of_a_person() {
    let exchange = Exchange::new();
    let password = exchange.file("password", format!("{SCAN_PASSWORD}\n"));
    let account = account("scans", SCAN, &format!("password_file = {password:?}"));
    let proxy = exchange.proxy(&exchange.configured("grant = \"password\"", &account));
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.grant("password"), counts.tokens_issued), (1, 1));
}

/// The proxy runs already, reports the missing sign-in, and notices the sign-in by itself.
#[test]
fn authorization_code_pasted_from_another_computer() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    let proxy = exchange.proxy(&configuration);
    let line = proxy.log.wait_for("advice", |line| line.contains("packetboat login scans"));
    assert!(line.contains("has not signed in yet"), "{line}");
    assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN] "));
    assert_eq!(exchange.requests(), 0, "there is nothing to ask with");
    exchange.sign_in(&configuration);
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    proxy.log.wait_for("recovery", |line| line.contains("access token again"));
    let counts = exchange.simulator.counts();
    // One refresh tested the sign-in, the other is the proxy's.
    assert_eq!((counts.authorizations, counts.grant("authorization_code"), counts.grant("refresh_token")), (1, 1, 2));
    assert!(exchange.simulator.events().iter().any(|event| event.contains(&format!("token of {SCAN}"))));
}

#[test]
fn authorization_code_by_a_browser_on_this_computer() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    let mut command = exchange.command(&["login", "scans"], &configuration);
    let mut login = Process::start(command.stdout(Stdio::piped()));
    let said = Lines::of(login.0.stdout.take().unwrap());
    let url = said.wait_for("address", |line| line.starts_with("https://"));
    let mut curl = Command::new("curl");
    curl.args(["-s", "-L", "--max-time", "60", "--noproxy", "*", "--cacert"]).arg(exchange.simulator.authority());
    let page = curl.arg(&url).output().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).starts_with("Signed in."), "{page:?}");
    assert!(login.wait().success());
    said.wait_for("last word", |line| line.starts_with(&format!("{SCAN} is signed in")));
    fetch_both(&exchange, &exchange.proxy(&configuration), SCAN, LOGIN);
}

/// The pasted address must belong to this very sign-in, and the person may decline.
#[test]
fn sign_ins_that_come_to_nothing() {
    use std::io::Write;
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.endpoint.authorize_error = Some("access_denied".to_owned()));
    let configuration = exchange.configuration(BY_PERSON);
    let mut command = exchange.command(&["login", "scans"], &configuration);
    let mut login = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let said = Lines::of(login.0.stdout.take().unwrap());
    let complained = Lines::of(login.0.stderr.take().unwrap());
    let url = said.wait_for("address", |line| line.starts_with("https://"));
    let back = exchange.visit(&url);
    let mut input = login.0.stdin.take().unwrap();
    writeln!(input, "4711").unwrap();
    complained.wait_for("advice", |line| line.contains("paste the whole address"));
    writeln!(input, "http://localhost:1/?code=stolen&state=another").unwrap();
    complained.wait_for("advice", |line| line.contains("of another sign-in"));
    writeln!(input, "{back}").unwrap();
    assert_eq!(login.wait().code(), Some(69));
    let line = complained.wait_for("refusal", |line| line.contains("the sign-in was refused: access_denied"));
    assert!(line.contains("AADSTS65004"), "{line}");
    assert_eq!((exchange.tokens().len(), exchange.requests()), (0, 0));
    let ran = exchange.run(&["login", "scan"], &configuration);
    assert!(ran.code == 64 && ran.errors.contains("known are scans"), "{}", ran.errors);
    let ran = exchange.run(&["login", "scans"], &exchange.configuration(BY_SECRET));
    assert!(ran.code == 64 && ran.errors.contains("needs nobody to sign in"), "{}", ran.errors);
}

#[test]
fn device_code() {
    let exchange = Exchange::new();
    exchange.quirk(|quirks| quirks.device_code.interval = 1);
    let configuration = exchange.configuration("grant = \"device-code\"");
    let mut command = exchange.command(&["login", "scans"], &configuration);
    let mut login = Process::start(command.stdout(Stdio::piped()));
    let said = Lines::of(login.0.stdout.take().unwrap());
    let line = said.wait_for("code", |line| line.contains("type the code"));
    assert!(line.contains("/devicelogin in a browser") && line.contains(SCAN), "{line}");
    exchange.until("poll", |counts| counts.token_refusals == 1);
    assert_eq!(exchange.simulator.approve_device_code(), 1);
    assert!(login.wait().success());
    fetch_both(&exchange, &exchange.proxy(&configuration), SCAN, LOGIN);
    let counts = exchange.simulator.counts();
    assert_eq!((counts.device_codes, counts.polls, counts.grant("refresh_token")), (1, 2, 2));
}

/// Google's applications have a secret although a person signs in. The simulator speaks Microsoft's dialect of scopes.
#[test]
fn google() {
    let exchange = Exchange::with(|tenant| tenant.public_client = false);
    let base = format!("https://{}/{TENANT}/oauth2/v2.0", exchange.simulator.endpoint());
    let identity = format!(
        "cloud = \"google\"\ngrant = \"authorization-code\"\ntoken_endpoint = \"{base}/token\"\n\
         authorization_endpoint = \"{base}/authorize\"\nscopes = [\"https://outlook.office.com/IMAP.AccessAsUser.All\", \
         \"https://outlook.office.com/POP.AccessAsUser.All\", \"offline_access\"]\n{BY_SECRET}"
    );
    let configuration = exchange.configuration(&identity);
    exchange.sign_in(&configuration);
    let proxy = exchange.proxy(&configuration);
    fetch_both(&exchange, &proxy, SCAN, LOGIN);
    assert_eq!(exchange.simulator.counts().token_refusals, 0);
    // Only Exchange limits tokens in POP3.
    exchange.quirk(|quirks| {
        quirks.endpoint.token_length = Some(5000);
        quirks.mail.pop3_token_limit = None;
    });
    drop(proxy);
    assert!(pop3_login(&exchange.proxy(&configuration)).starts_with("+OK"));
}

/// A delegate signs in, and the device opens the shared mailbox, also with the old form of the login.
#[test]
fn a_shared_mailbox_by_a_delegate() {
    let exchange = Exchange::new();
    let account = account("scans", SHARED, &format!("user = \"{SCAN}\""));
    let configuration = exchange.configured(BY_PERSON, &account);
    exchange.sign_in(&configuration);
    let proxy = exchange.proxy(&configuration);
    fetch_both(&exchange, &proxy, SHARED, LOGIN);
    fetch_both(&exchange, &proxy, SHARED, &format!("{LOGIN}/shared"));
    let events = exchange.simulator.events().join("\n");
    assert!(events.contains(&format!("login by XOAUTH2 as {SHARED}")) && events.contains(&format!("token of {SCAN}")));
}
