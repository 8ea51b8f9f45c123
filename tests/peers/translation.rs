//! These tests prove that logins are translated: devices use TLS 1.0 and passwords, and Dovecot takes only XOAUTH2.
//!
//! Dovecot validates each token itself.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use support::dovecot::{Dovecot, PASSWORD};
use support::imap::{Imap, Part, status};
use support::issuer::{CLIENT_SECRET, Issuer, forged_token};
use support::message;
use support::pop3::Pop3;
use support::proxy::{Proxy, translating_listener, upstreams};
use support::stacks::{Stack, Start, TLS_1_0, Version};
use support::translated::{DEVICE_PASSWORD, account, account_of, device, proxy};

/// A TLS 1.2 stack with a suite that Dovecot accepts.
const TLS_1_2: Stack = Stack::Openssl { version: Version::Tls1_2, ciphers: "ECDHE-RSA-AES128-GCM-SHA256" };
const REFUSED_BY_IMAP: &str = "NO [AUTHENTICATIONFAILED] user name or password is wrong";
const REFUSED_BY_POP3: &str = "-ERR [AUTH] user name or password is wrong";

fn base64(text: impl AsRef<[u8]>) -> String {
    openssl::base64::encode_block(text.as_ref())
}

fn xoauth2(user: &str, token: &str) -> String {
    base64(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

fn big() -> &'static [u8] {
    static BIG: OnceLock<Vec<u8>> = OnceLock::new();
    BIG.get_or_init(|| message(25 * 1024 * 1024))
}

/// A way to log in: its name, the device's command, and its response to each challenge.
type Way = (&'static str, fn(&str, &str) -> (String, Vec<String>));

const IMAP_WAYS: &[Way] = &[
    ("login", |user, password| (format!("LOGIN {user} {password}"), vec![])),
    ("plain", |user, password| ("AUTHENTICATE PLAIN".to_owned(), vec![base64(format!("\0{user}\0{password}"))])),
    ("plain-at-once", |user, password| {
        (format!("AUTHENTICATE PLAIN {}", base64(format!("\0{user}\0{password}"))), vec![])
    }),
    ("sasl-login", |user, password| ("AUTHENTICATE LOGIN".to_owned(), vec![base64(user), base64(password)])),
];

const POP3_WAYS: &[Way] = &[
    ("user", |user, password| (format!("USER {user}"), vec![format!("PASS {password}")])),
    ("plain", |user, password| ("AUTH PLAIN".to_owned(), vec![base64(format!("\0{user}\0{password}"))])),
    ("plain-at-once", |user, password| (format!("AUTH PLAIN {}", base64(format!("\0{user}\0{password}"))), vec![])),
    ("sasl-login", |user, password| ("AUTH LOGIN".to_owned(), vec![base64(user), base64(password)])),
];

/// Logs in by this way; returns the last line of the answer, without a tag.
fn log_in_by(imap: &mut Imap, way: &Way, user: &str, password: &str) -> String {
    let (command, answers) = way.1(user, password);
    imap.device.send(format!("t {command}\r\n"));
    for answer in answers {
        let line = imap.device.line();
        assert!(line.starts_with("+ "), "{command}: {line}");
        imap.device.send(format!("{answer}\r\n"));
    }
    status(&imap.answer("t"))
}

fn log_in_by_pop3(pop3: &mut Pop3, way: &Way, user: &str, password: &str) -> String {
    let (command, answers) = way.1(user, password);
    let mut answer = pop3.command(&command);
    for response in answers {
        assert!(answer.starts_with('+'), "{command}: {answer}");
        answer = pop3.command(&response);
    }
    answer
}

/// Runs these ways, by each entry, to both kinds of upstream: log in, list, fetch 1 KB and 25 MB, delete, log out.
fn every_way(stack: Stack, protocol: &'static str, ways: &[Way]) {
    let issuer = Issuer::start();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let mut configuration = upstreams(&dovecot);
    let mut cases = Vec::new();
    for entry in ["implicit", "starttls"] {
        configuration += &translating_listener(entry, protocol, entry, "");
        for upstream in ["implicit", "starttls"] {
            for way in ways {
                let name = format!("{entry}-{upstream}-{}", way.0);
                let mailbox = dovecot.user_with(&[]);
                configuration += &device(&name, &name, DEVICE_PASSWORD, "");
                configuration += &account(&name, &mailbox, upstream, &issuer);
                cases.push((entry, way, name, mailbox));
            }
        }
    }
    let proxy = Proxy::start(&configuration);
    let small = message(1024);
    let messages: &[&[u8]] = &[&small, big()];
    for (entry, way, name, mailbox) in &cases {
        dovecot.deliver(mailbox, messages);
        let start = if *entry == "starttls" { Start::StartTls(protocol) } else { Start::Implicit };
        let device = stack.connect(proxy.address(entry), start);
        match (protocol, start) {
            ("imap", _) => {
                let mut imap = if start == Start::Implicit { Imap::greeted(device) } else { Imap::over(device) };
                let answer = log_in_by(&mut imap, way, name, DEVICE_PASSWORD);
                assert!(answer.starts_with("OK [CAPABILITY IMAP4rev1 "), "{name}: {answer}");
                imap.rest_of_session(name, messages);
            }
            _ => {
                let mut pop3 = if start == Start::Implicit { Pop3::greeted(device) } else { Pop3::over(device) };
                assert_eq!(log_in_by_pop3(&mut pop3, way, name, DEVICE_PASSWORD), "+OK logged in", "{name}");
                pop3.rest_of_session(name, messages);
            }
        }
        assert_eq!(dovecot.messages_of(mailbox), 0, "{name}: not deleted");
        let line = proxy.session_of("login", name);
        assert_eq!((line["reason"].as_str(), line["mailbox"].as_str()), (Some("logged_out"), Some(mailbox.as_str())));
        assert!(line["device_tls"].as_str().unwrap().starts_with("TLSv1 "), "{line}");
        let upstream_tls = line["upstream_tls"].as_str().unwrap();
        assert!(upstream_tls.starts_with("TLSv1.2 ") || upstream_tls.starts_with("TLSv1.3 "), "{line}");
    }
    // Each identity has fetched one token at the start, and no login needed another.
    let mut asked: Vec<String> = issuer.requests().iter().map(|request| request["client_id"].clone()).collect();
    asked.sort();
    let mut expected: Vec<String> = cases.iter().map(|(.., mailbox)| mailbox.clone()).collect();
    expected.sort();
    assert_eq!(asked, expected);
    let is_whole = |request: &std::collections::BTreeMap<String, String>| {
        request["grant_type"] == "client_credentials" && request["client_secret"] == CLIENT_SECRET
    };
    assert!(issuer.requests().iter().all(is_whole));
}

#[test]
fn every_way_into_imap() {
    every_way(TLS_1_0, "imap", IMAP_WAYS);
}

#[test]
fn every_way_into_pop3() {
    every_way(TLS_1_0, "pop3", POP3_WAYS);
}

#[test]
fn other_stacks_at_tls_1_0() {
    every_way(Stack::Gnutls, "imap", &IMAP_WAYS[..1]);
    every_way(Stack::Gnutls, "pop3", &POP3_WAYS[..1]);
    every_way(Stack::Mbedtls, "imap", &IMAP_WAYS[2..3]);
    every_way(Stack::Mbedtls, "pop3", &POP3_WAYS[..1]);
}

/// The other tests rest on this: Dovecot takes no passwords, and only valid tokens for their own mailbox.
#[test]
fn the_server_has_basic_auth_off_and_validates_tokens() {
    let issuer = Issuer::start();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let (user, other) = (dovecot.user_with(&[]), dovecot.user_with(&[]));
    let imap = || TLS_1_2.connect(([127, 0, 0, 1], dovecot.imaps).into(), Start::Implicit);
    let pop3 = || TLS_1_2.connect(([127, 0, 0, 1], dovecot.pop3s).into(), Start::Implicit);
    for way in IMAP_WAYS {
        for password in [PASSWORD, &issuer.token(&user)] {
            let mut imap = Imap::greeted(imap());
            let answer = imap.command(&way.1(&user, password).0);
            assert!(status(&answer).starts_with("NO "), "{}: {answer:?}", way.0);
        }
    }
    for way in POP3_WAYS {
        let mut pop3 = Pop3::greeted(pop3());
        let (command, answers) = way.1(&user, PASSWORD);
        let mut answer = pop3.command(&command);
        if way.0 == "user" && answer.starts_with("+OK") {
            answer = pop3.command(&answers[0]);
        }
        assert!(answer.starts_with("-ERR"), "{}: {answer}", way.0);
    }
    let tokens = [
        (forged_token(&user), false),
        (issuer.token(&other), false),
        (issuer.token_with(&user, "exp", 1_700_000_000), false),
        (issuer.token_with(&user, "iss", "https://login.fabrikam.example/v2.0"), false),
        (issuer.token_with(&user, "scope", "https://graph.microsoft.com/.default"), false),
        (issuer.token(&user), true),
    ];
    for (number, (token, is_good)) in tokens.iter().enumerate() {
        let mut imap = Imap::greeted(imap());
        imap.device.send(format!("t AUTHENTICATE XOAUTH2 {}\r\n", xoauth2(&user, token)));
        let mut line = imap.device.line();
        if line.starts_with("+ ") {
            imap.device.send("\r\n");
            line = imap.device.line();
        }
        assert_eq!(line.starts_with("t OK "), *is_good, "token {number}: {line}\n{}", dovecot.log());
        assert_eq!(line.starts_with("t NO "), !is_good, "token {number}: {line}");
    }
}

/// Two devices that have different passwords and mailboxes, and a third that may not come from here.
struct Setup {
    dovecot: Dovecot,
    issuer: Issuer,
    proxy: Proxy,
    mailboxes: [String; 2],
}

const OTHER_PASSWORD: &str = "other-3v8kd-device";

impl Setup {
    fn new() -> Self {
        let issuer = Issuer::start();
        let dovecot = Dovecot::start_with_tokens_of(&issuer);
        let mailboxes = [dovecot.user_with(&[]), dovecot.user_with(&[])];
        let devices = [
            // The delays have tests of their own.
            "[limits]\nfailure_delay = \"1ms\"\nlongest_failure_delay = \"10ms\"\n",
            &device("Scanner3", "one", DEVICE_PASSWORD, "aliases = [\"Scan@contoso.example\", \"old name\"]"),
            &device("printer", "two", OTHER_PASSWORD, ""),
            &device("far", "two", OTHER_PASSWORD, "networks = [\"192.0.2.0/24\"]"),
            &account("one", &mailboxes[0], "implicit", &issuer),
            &account("two", &mailboxes[1], "starttls", &issuer),
        ];
        let proxy = proxy(&dovecot, &devices.concat());
        Self { dovecot, issuer, proxy, mailboxes }
    }
}

/// A message whose subject is the mailbox's address, so that a device can tell which mailbox is open.
fn marked(mailbox: &str) -> Vec<u8> {
    format!("Subject: {mailbox}\r\n\r\nhello\r\n").into_bytes()
}

#[test]
fn a_device_has_many_names_and_one_mailbox() {
    let setup = Setup::new();
    let [own, other] = &setup.mailboxes;
    for mailbox in [own, other] {
        setup.dovecot.deliver(mailbox, &[&marked(mailbox)]);
    }
    let local = own.split('@').next().unwrap();
    for login in [
        "scanner3".to_owned(),
        "SCANNER3".to_owned(),
        "scan@CONTOSO.example".to_owned(),
        "old name".to_owned(),
        format!("scan@contoso.example\\{local}"),
        format!("Scan@contoso.example/{own}"),
        format!("CONTOSO\\scanner3\\{}", local.to_uppercase()),
    ] {
        let mut imap = setup.proxy.imap("imap");
        let quoted = login.replace('\\', "\\\\");
        imap.ok(&format!("LOGIN \"{quoted}\" {DEVICE_PASSWORD}"));
        imap.ok("SELECT INBOX");
        assert!(imap.fetch(1) == marked(own), "{login}");
        imap.ok("LOGOUT");
        let mut pop3 = setup.proxy.pop3("pop3");
        pop3.login(&login, DEVICE_PASSWORD);
        assert!(pop3.multi("RETR 1") == marked(own), "{login}");
        pop3.ok("QUIT");
    }
    let mut pop3 = setup.proxy.pop3("pop3");
    pop3.login("printer", OTHER_PASSWORD);
    assert!(pop3.multi("RETR 1") == marked(other));
    pop3.ok("QUIT");
}

/// Each refused device gets the same answer, and may try again; the log has the reason.
#[test]
fn refused_devices_all_get_the_same_answer() {
    let setup = Setup::new();
    let local = setup.mailboxes[1].split('@').next().unwrap();
    let others_mailbox = format!("scan@contoso.example\\{local}");
    let cases = [
        ("unknown", DEVICE_PASSWORD, "no [[device]] has this login"),
        ("scanner3", "wrong", "the password is not one of device \\\"scanner3\\\""),
        ("scanner3", OTHER_PASSWORD, "the password is not one of device \\\"scanner3\\\""),
        ("printer", DEVICE_PASSWORD, "the password is not one of device \\\"printer\\\""),
        ("far", OTHER_PASSWORD, "127.0.0.1 is not in the networks of device \\\"far\\\""),
        (others_mailbox.as_str(), DEVICE_PASSWORD, "no [[device]] has this login"),
        // The mailbox's address is not a login.
        (setup.mailboxes[0].as_str(), DEVICE_PASSWORD, "no [[device]] has this login"),
    ];
    let (mut imap, mut pop3) = (setup.proxy.imap("imap"), setup.proxy.pop3("pop3"));
    for (login, password, why) in cases {
        let quoted = login.replace('\\', "\\\\");
        assert_eq!(status(&imap.command(&format!("LOGIN \"{quoted}\" {password}"))), REFUSED_BY_IMAP, "{login}");
        for way in &IMAP_WAYS[1..] {
            assert_eq!(log_in_by(&mut imap, way, login, password), REFUSED_BY_IMAP, "{login} by {}", way.0);
        }
        for way in POP3_WAYS {
            assert_eq!(log_in_by_pop3(&mut pop3, way, login, password), REFUSED_BY_POP3, "{login} by {}", way.0);
        }
        let login = login.replace('\\', "\\\\");
        for listener in ["imap", "pop3"] {
            setup.proxy.log.wait_for(why, |line| {
                line.contains("login failed")
                    && line.contains(why)
                    && line.contains(&format!("\"listener\":\"{listener}\""))
                    && line.contains(&login)
            });
        }
    }
    // The right logins follow on the same connections.
    imap.ok(&format!("LOGIN scanner3 {DEVICE_PASSWORD}"));
    imap.ok("SELECT INBOX");
    imap.ok("LOGOUT");
    pop3.login("printer", OTHER_PASSWORD);
    pop3.ok("QUIT");
}

/// A device may act as itself, or as its mailbox, which means the same as a plain login (RFC 4616 §2).
#[test]
fn nobody_acts_as_somebody_else() {
    let setup = Setup::new();
    let [own, other] = &setup.mailboxes;
    for (acts_as, is_allowed) in
        [(other.as_str(), false), ("printer", false), ("root", false), ("scanner3", true), (own, true), ("", true)]
    {
        let plain = base64(format!("{acts_as}\0scanner3\0{DEVICE_PASSWORD}"));
        let answer = status(&setup.proxy.imap("imap").command(&format!("AUTHENTICATE PLAIN {plain}")));
        assert_eq!(answer.starts_with("OK "), is_allowed, "{acts_as}: {answer}");
        assert!(is_allowed || answer == REFUSED_BY_IMAP, "{acts_as}: {answer}");
        let mut pop3 = setup.proxy.pop3("pop3");
        let answer = pop3.command(&format!("AUTH PLAIN {plain}"));
        assert_eq!(answer, if is_allowed { "+OK logged in" } else { REFUSED_BY_POP3 }, "{acts_as}");
        if is_allowed {
            pop3.ok("QUIT");
        }
    }
    setup.proxy.log.wait_for("reason", |line| line.contains("wants to act as somebody else"));
}

/// Tokens stay between the proxy and the server: a device neither sees XOAUTH2 offered nor gets in by it.
#[test]
fn tokens_are_not_for_devices() {
    let setup = Setup::new();
    let own = &setup.mailboxes[0];
    let mut imap = setup.proxy.imap("imap");
    let before = imap.ok("CAPABILITY");
    let mut pop3 = setup.proxy.pop3("pop3");
    let sasl = String::from_utf8(pop3.multi("CAPA")).unwrap();
    assert!(sasl.contains("SASL PLAIN LOGIN\r\n"), "{sasl}");
    for (user, secret) in [(own.as_str(), setup.issuer.token(own)), ("scanner3", DEVICE_PASSWORD.to_owned())] {
        let response = xoauth2(user, &secret);
        let answer = status(&imap.command(&format!("AUTHENTICATE XOAUTH2 {response}")));
        assert_eq!(answer, "NO mechanism not supported");
        let answer = pop3.command(&format!("AUTH XOAUTH2 {response}"));
        assert_eq!(answer, "-ERR mechanism not supported");
    }
    let login = imap.ok(&format!("LOGIN scanner3 {DEVICE_PASSWORD}"));
    let after = imap.ok("CAPABILITY");
    pop3.login("scanner3", DEVICE_PASSWORD);
    let mut heard = String::from_utf8(pop3.multi("CAPA")).unwrap();
    assert!(heard.contains("UIDL\r\n"), "{heard}");
    pop3.ok("QUIT");
    for part in [before, login, after].into_iter().flatten() {
        if let Part::Line(line) = part {
            heard += &line;
        }
    }
    assert!(heard.contains("AUTH=PLAIN") && !heard.to_uppercase().contains("XOAUTH2"), "{heard}");
}

/// The endpoint issues tokens that the server rejects; the person at the device cannot fix that.
#[test]
fn a_token_that_the_server_refuses() {
    let issuer = Issuer::start();
    issuer.forge();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let mailbox = dovecot.user_with(&[]);
    let devices = device("scanner3", "one", DEVICE_PASSWORD, "") + &account("one", &mailbox, "implicit", &issuer);
    let proxy = proxy(&dovecot, &devices);
    let mut imap = proxy.imap("imap");
    let answer = imap.command(&format!("LOGIN scanner3 {DEVICE_PASSWORD}"));
    assert!(status(&answer).starts_with("NO [AUTHORIZATIONFAILED] "), "{answer:?}");
    imap.ok("NOOP");
    let mut pop3 = proxy.pop3("pop3");
    pop3.ok("USER scanner3");
    let answer = pop3.command(&format!("PASS {DEVICE_PASSWORD}"));
    assert!(answer.starts_with("-ERR ") && !answer.contains("wrong"), "{answer}");
    pop3.ok("NOOP");
    for listener in ["imap", "pop3"] {
        proxy.log.wait_for("advice", |line| {
            line.contains("login failed")
                && line.contains(&format!("\"listener\":\"{listener}\""))
                && line.contains(&mailbox)
                // The tokens are not of Microsoft's cloud, so the advice is not about it either.
                && line.contains("does it take tokens of this token endpoint?")
        });
    }
    // A young token is not to blame, so no other one is fetched.
    assert_eq!(issuer.requests().len(), 1);
}

/// One identity's token opens the mailboxes that the server allows, and no others; here two accounts share the
/// identity.
#[test]
fn a_mailbox_that_the_token_is_not_for() {
    let issuer = Issuer::start();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let (own, other) = (dovecot.user_with(&[]), dovecot.user_with(&[]));
    let devices = [
        device("one", "one", DEVICE_PASSWORD, ""),
        device("two", "two", DEVICE_PASSWORD, ""),
        account("one", &own, "implicit", &issuer),
        account_of("two", &other, "implicit", "one"),
    ];
    let proxy = proxy(&dovecot, &devices.concat());
    let mut imap = proxy.imap("imap");
    let answer = imap.command(&format!("LOGIN two {DEVICE_PASSWORD}"));
    assert!(status(&answer).starts_with("NO [AUTHORIZATIONFAILED] "), "{answer:?}");
    imap.ok(&format!("LOGIN one {DEVICE_PASSWORD}"));
    imap.ok("SELECT INBOX");
}

#[test]
fn without_devices_it_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("packetboat.toml");
    let text = translating_listener("imap", "imap", "implicit", "");
    std::fs::write(&file, format!("state_directory = {:?}\n{text}", directory.path().join("state"))).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat"))
        .args(["run", "--config"])
        .env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("no device could log in, because there is no [[device]]"), "{said}");
    assert!(!said.contains("ready"), "{said}");
}
