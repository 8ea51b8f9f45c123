//! These tests prove that, after a change of configuration, one issuer's tokens and secrets reach no other issuer or
//! its servers.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use packetboat::simulator::User;

use support::exchange::*;
use support::imap::status;
use support::process::{Lines, Process};
use support::proxy::Proxy;

const SIGN_IN_AGAIN: &str = "has signed in with another token endpoint, tenant or client_id, and has to sign in again";

/// Two issuers, each with a mail server. The files of both lie where a proxy of the first issuer may read them.
struct Two {
    first: Exchange,
    second: Exchange,
}

impl Two {
    fn new() -> Self {
        Self::with("")
    }

    /// Two issuers that accept this token of a federated identity.
    fn with(federated: &str) -> Self {
        let exchange = || Exchange::with(|tenant| tenant.federated_token = Some(federated.to_owned()));
        Self { first: exchange(), second: exchange() }
    }

    fn at_first(&self, identity: &str) -> String {
        self.at(&self.first, identity)
    }

    /// The same configuration at the second issuer; the identity keeps its name.
    fn at_second(&self, identity: &str) -> String {
        // The file names the secret in the same way as the first one.
        let secret = format!("client_secret_file = {:?}", self.first.file("SECRET", SECRET));
        self.at(&self.second, &identity.replace(BY_SECRET, &secret))
    }

    fn at(&self, exchange: &Exchange, identity: &str) -> String {
        let roots = exchange.simulator.authority();
        let name = format!("{}.pem", exchange.simulator.endpoint().port());
        let copy = self.first.file(&name, fs::read(&roots).unwrap());
        exchange.configuration(identity).replace(&format!("{roots:?}"), &format!("{copy:?}"))
    }

    fn has_second_heard_nothing(&self) -> bool {
        let counts = self.second.simulator.counts();
        self.second.requests() == 0 && counts.imap().accepted + counts.imap().refused == 0
    }
}

fn reload(proxy: &Proxy, configuration: &str) {
    proxy.configure(configuration);
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
}

/// Endpoint, tenant and client_id change under the same name, one after the other; a change back needs no new sign-in.
#[test]
fn a_refresh_token_goes_to_its_issuer_alone() {
    let two = Two::new();
    let own = two.at_first(BY_PERSON);
    two.first.sign_in(&own);
    let proxy = two.first.proxy(&own);
    assert!(imap_login(&proxy).starts_with("OK"));
    let before = two.first.requests();
    let secret = two.first.file("google", "of Google's application");
    let google = format!("cloud = \"google\"\n{BY_PERSON}\nclient_secret_file = {secret:?}");
    for (number, other) in [
        two.at_second(BY_PERSON),
        own.replace(&format!("client_id = \"{APP}\""), "client_id = \"99999999-2222-3333-4444-555555555555\""),
        own.replace(&format!("tenant = \"{TENANT}\""), "tenant = \"fabrikam.onmicrosoft.com\""),
        two.at_second(&google),
    ]
    .iter()
    .enumerate()
    {
        reload(&proxy, other);
        proxy.logs(number + 1, SIGN_IN_AGAIN);
        assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN]"), "{number}");
    }
    assert!(two.has_second_heard_nothing());
    assert_eq!(two.first.requests(), before, "nor is the token sent with another tenant or client_id");
    reload(&proxy, &own);
    assert!(imap_login(&proxy).starts_with("OK"), "the sign-in is still there");
    // Each issuer has a sign-in of its own from here on.
    let there = two.at_second(BY_PERSON);
    reload(&proxy, &there);
    let back = sign_in_at(&two, &there);
    assert!(back.0 && imap_login(&proxy).starts_with("OK"), "{}", back.1);
    assert_eq!(two.first.tokens().len(), 2);
    assert_eq!(two.second.simulator.counts().token_refusals, 0);
}

/// Runs `packetboat login` at the second issuer, in the first one's state directory.
fn sign_in_at(two: &Two, configuration: &str) -> (bool, String) {
    let mut command = two.first.command(&["login", "scans"], configuration);
    let mut login = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let said = Lines::of(login.0.stdout.take().unwrap());
    let url = said.wait_for("address", |line| line.starts_with("https://"));
    writeln!(login.0.stdin.take().unwrap(), "{}", two.second.visit(&url)).unwrap();
    (login.wait().success(), said.all())
}

/// A sign-in belongs to the issuer with which it began, whatever the file says at its end.
#[test]
fn a_sign_in_under_way_stays_with_its_issuer() {
    let two = Two::new();
    let own = two.at_first(BY_PERSON);
    let mut command = two.first.command(&["login", "scans"], &own);
    let mut login = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let said = Lines::of(login.0.stdout.take().unwrap());
    let url = said.wait_for("address", |line| line.starts_with("https://"));
    let proxy = two.first.proxy(&two.at_second(BY_PERSON));
    writeln!(login.0.stdin.take().unwrap(), "{}", two.first.visit(&url)).unwrap();
    assert!(login.wait().success(), "{}", said.all());
    assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN]"));
    assert!(two.has_second_heard_nothing());
    reload(&proxy, &own);
    assert!(imap_login(&proxy).starts_with("OK"));
}

/// The answer to a refresh arrives after the reload. It is kept for its own issuer, which takes each token only once.
#[test]
fn a_refresh_under_way_stays_with_its_issuer() {
    let two = Two::new();
    let own = two.at_first(BY_PERSON);
    two.first.sign_in(&own);
    two.first.quirk(|quirks| {
        quirks.refresh.strict_rotation = true;
        quirks.endpoint.delay = Duration::from_secs(3);
    });
    let issued = two.first.simulator.counts().tokens_issued;
    let proxy = two.first.proxy(&own);
    two.first.until_connected();
    reload(&proxy, &two.at_second(BY_PERSON));
    proxy.logs(1, SIGN_IN_AGAIN);
    assert_eq!(two.first.simulator.counts().tokens_issued, issued, "the answer is still to come");
    two.first.until("answer", |counts| counts.tokens_issued == issued + 1);
    two.first.quirk(|quirks| quirks.endpoint.delay = Duration::ZERO);
    assert!(imap_login(&proxy).starts_with("NO [CONTACTADMIN]"));
    assert!(two.has_second_heard_nothing());
    reload(&proxy, &own);
    assert!(imap_login(&proxy).starts_with("OK"));
    assert_eq!(two.first.simulator.counts().token_refusals, 0);
}

/// Earlier versions did not record the issuer; such a token is sent to no issuer.
#[test]
fn a_sign_in_of_an_earlier_version() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let before = exchange.requests();
    let [file] = exchange.tokens().try_into().unwrap();
    let (earlier, _) = file.to_str().unwrap().rsplit_once('-').unwrap();
    fs::rename(&file, format!("{earlier}.token")).unwrap();
    let proxy = exchange.proxy(&configuration);
    let line = proxy.log.wait_for("advice", |line| line.contains("because an earlier packetboat did not note"));
    assert!(line.contains("packetboat login scans"), "{line}");
    assert_eq!(exchange.requests(), before);
    exchange.sign_in(&configuration);
    assert!(imap_login(&proxy).starts_with("OK"));
}

/// The files hold a client secret, a federated token and a person's password.
#[test]
fn a_secret_in_a_file_goes_to_no_other_endpoint_by_a_reload() {
    let two = Two::with("eyJ.federated.token");
    let [token, other_token] = ["token", "other-token"].map(|name| two.first.file(name, "eyJ.federated.token"));
    let [password, other_password] = ["password", "other-password"].map(|name| two.first.file(name, SCAN_PASSWORD));
    let other_secret = two.first.file("OTHER", SECRET);
    let with_password = |text: String| {
        let line = format!("mailbox = \"{SCAN}\"\npassword_file = {password:?}");
        text.replace(&format!("mailbox = \"{SCAN}\""), &line)
    };
    let federated = format!("grant = \"federated\"\ntoken_file = {token:?}");
    let same = |text: String| text;
    type Change<'a> = &'a dyn Fn(String) -> String;
    let cases: [(&str, &str, Change<'_>, Change<'_>); 3] = [
        ("identity.office.client_secret_file", BY_SECRET, &same, &|text| text.replace("/SECRET\"", "/OTHER\"")),
        ("identity.office.token_file", &federated, &same, &|text| {
            text.replace(&format!("{token:?}"), &format!("{other_token:?}"))
        }),
        ("account.scans.password_file", "grant = \"password\"", &with_password, &|text| {
            text.replace(&format!("{password:?}"), &format!("{other_password:?}"))
        }),
    ];
    assert!(other_secret.exists());
    for (number, (key, identity, complete, with_another_file)) in (1..).zip(cases) {
        let (own, there) = (complete(two.at_first(identity)), complete(two.at_second(identity)));
        let proxy = two.first.proxy(&own);
        assert!(imap_login(&proxy).starts_with("OK"), "{key}");
        let heard = two.second.requests();
        // The secret stays under the same name, under another path, and under another name.
        let directory = token.parent().unwrap();
        let around = directory.join("..").join(directory.file_name().unwrap());
        let by = |directory: &Path| format!("_file = \"{}/", directory.display());
        assert!(there.contains(&by(directory)));
        for text in [
            there.clone(),
            there.replace(&by(directory), &by(&around)),
            there
                .replace("identity.office", "identity.next")
                .replace("[account.scans]", "[account.scans]\nidentity = \"next\""),
        ] {
            proxy.configure(&text);
            let (code, said) = proxy.reload();
            let key = if text.contains("identity.next") { key.replace("office", "next") } else { key.to_owned() };
            assert!(code == 69 && said.contains(&format!(" {key}: ")), "{said}");
            assert!(said.contains("is a secret for the token endpoint at https://127.0.0.1:"), "{said}");
        }
        assert!(imap_login(&proxy).starts_with("OK"), "the old configuration runs on");
        assert_eq!(two.second.requests(), heard, "{key}");
        reload(&proxy, &with_another_file(there.clone()));
        // The second mail server accepts only the second issuer's tokens, so no earlier token is left.
        assert!(imap_login(&proxy).starts_with("OK"), "{}", proxy.log.all());
        let counts = two.second.simulator.counts();
        assert_eq!((counts.imap().accepted, counts.imap().refused), (number, 0), "{key}");
        // A file that was not named for a while still belongs to its receiver.
        proxy.configure(&there);
        let (code, said) = proxy.reload();
        assert!(code == 69 && said.contains(&format!(" {key}: ")), "{said}");
    }
}

/// The account names another user. The running session ends; the next login fails, because that user has not signed in.
#[test]
fn a_token_belongs_to_one_user() {
    let other = "other@contoso.example";
    let exchange = Exchange::with(|tenant| {
        let mut other = User::new(other, "another");
        other.delegates.push(SCAN.to_owned());
        tenant.users.push(other);
    });
    let own = exchange.configuration(BY_PERSON);
    exchange.sign_in(&own);
    let proxy = exchange.proxy(&own);
    let mut session = imap(&proxy);
    session.login(LOGIN, PASSWORD);
    reload(&proxy, &exchange.configured(BY_PERSON, &account("scans", SCAN, &format!("user = \"{other}\""))));
    assert!(session.device.line().starts_with("* BYE "));
    let answer = status(&imap(&proxy).command(&format!("LOGIN {LOGIN} {PASSWORD}")));
    assert!(answer.starts_with("NO [CONTACTADMIN]"), "{answer}");
    proxy.logs(1, &format!("{other} has not signed in yet"));
}
