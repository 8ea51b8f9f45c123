//! These tests prove that passwords, tokens and mail never reach a log, by searching the most verbose log of whole
//! sessions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::dovecot::{Dovecot, PASSWORD};
use support::imap::status;
use support::issuer::{CLIENT_SECRET, Issuer, SCOPE};
use support::message;
use support::pop3::Pop3;
use support::proxy::{Proxy, listener, translating_listener, upstreams};
use support::stacks::{Start, TLS_1_0};
use support::translated::{DEVICE_PASSWORD, account, account_of, device};

const TOKEN: &str = "eyJ0eXAi.very-secret-token.c2ln";
const WRONG: &str = "wrong-but-still-secret";

#[test]
fn no_secret_in_the_most_verbose_log() {
    let dovecot = Dovecot::start();
    let proxy = Proxy::start_at(
        "trace",
        &(upstreams(&dovecot)
            + &listener("imap", "imap", "implicit", "upstream = \"implicit\"")
            + &listener("pop3", "pop3", "auto", "upstream = \"starttls\"\ndetect_delay = \"20ms\"")),
    );
    let mail = message(4096);
    let user = dovecot.user_with(&[&mail]);
    let imap = || proxy.imap("imap");
    let token = openssl::base64::encode_block(format!("user={user}\x01auth=Bearer {TOKEN}\x01\x01").as_bytes());
    let plain = openssl::base64::encode_block(format!("\0{user}\0{PASSWORD}").as_bytes());
    let mut one = imap();
    assert!(status(&one.command(&format!("LOGIN {user} {WRONG}"))).starts_with("NO"));
    assert!(status(&one.command(&format!("AUTHENTICATE XOAUTH2 {token}"))).starts_with("NO"));
    assert!(status(&one.command(&format!("LOGIN {user} {WRONG} {WRONG}"))).starts_with("BAD"));
    assert!(status(&one.command(&format!("XLOGIN {user} {WRONG}"))).starts_with("BAD"));
    one.ok(&format!("AUTHENTICATE PLAIN {plain}"));
    one.ok("LOGOUT");
    imap().session(&user, PASSWORD, &[&mail]);
    let user = dovecot.user_with(&[&mail]);
    let pop3 = Pop3::over(TLS_1_0.connect(proxy.address("pop3"), Start::StartTls("pop3")));
    pop3.session(&user, PASSWORD, &[&mail]);
    let mut pop3 = Pop3::over(TLS_1_0.connect(proxy.address("pop3"), Start::StartTls("pop3")));
    pop3.ok(&format!("USER {user}"));
    assert!(pop3.command(&format!("PASS {WRONG}")).starts_with("-ERR"));
    pop3.ok("QUIT");
    proxy.log.wait_for("last line", |line| {
        line.contains("\"login\":\"user1\"") && line.contains("device logged out") && line.contains("\"received\":0")
    });
    let log = proxy.log.all();
    assert!(log.contains(&user), "the log holds the sessions");
    for secret in [PASSWORD, TOKEN, WRONG, &plain, &token, "quick brown fox", "Subject:"] {
        let base64 = openssl::base64::encode_block(secret.as_bytes());
        for form in [secret, base64.trim_end_matches('=')] {
            assert!(!log.contains(form), "{form} in {}", log.lines().find(|line| line.contains(form)).unwrap());
        }
    }
}

const PERSONS_PASSWORD: &str = "persons-Pa55word-9";
const WRONG_SECRET: &str = "app~wrong-but-secret";

/// Sessions use every kind of grant; some work, and the proxy, the endpoint or the server refuses others.
#[test]
fn no_secret_of_translated_logins_in_the_most_verbose_log() {
    let issuer = Issuer::start();
    let dovecot = Dovecot::start_with_tokens_of(&issuer);
    let mail = message(4096);
    let mut configuration = upstreams(&dovecot);
    for protocol in ["imap", "pop3"] {
        configuration += &translating_listener(protocol, protocol, "implicit", "");
    }
    let logins = ["by-secret", "by-certificate", "by-password", "by-device-code", "by-wrong-secret", "not-its-own"];
    for login in logins {
        configuration += &device(login, login, DEVICE_PASSWORD, "");
    }
    let mailboxes: Vec<String> = logins.iter().map(|_| dovecot.user_with(&[&mail])).collect();
    configuration += &account("by-secret", &mailboxes[0], "implicit", &issuer);
    let wrong_secret = issuer.file("wrong", WRONG_SECRET.as_bytes());
    let password = issuer.file("password", PERSONS_PASSWORD.as_bytes());
    // Dovecot demands the same scope of applications and persons.
    let scopes = format!("scopes = [\"{SCOPE}\", \"offline_access\"]");
    for (number, grant) in [
        (1, issuer.application_certificate()),
        (2, format!("grant = \"password\"\n{scopes}")),
        (3, format!("grant = \"device-code\"\n{scopes}")),
        (4, format!("client_secret_file = {wrong_secret:?}")),
    ] {
        configuration += &account_of(logins[number], &mailboxes[number], "starttls", logins[number]);
        if number == 2 {
            configuration += &format!("password_file = {password:?}\n");
        }
        configuration += &issuer.identity_by(logins[number], &mailboxes[number], &grant);
    }
    // The server refuses this token for this mailbox.
    configuration += &account_of("not-its-own", &mailboxes[5], "implicit", "by-secret");
    let proxy = Proxy::start_at("trace", &configuration);

    let sign_in = Command::new(env!("CARGO_BIN_EXE_packetboat"))
        .args(["login", "by-device-code", "--config"])
        .arg(proxy.configuration())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[sign_in.stdout, sign_in.stderr].concat()).into_owned();
    assert!(sign_in.status.success(), "{said}");

    let imap = || proxy.imap("imap");
    let pop3 = || proxy.pop3("pop3");
    for login in &logins[..4] {
        let mut one = imap();
        assert!(status(&one.command(&format!("LOGIN {login} {WRONG}"))).starts_with("NO"));
        assert!(status(&one.command(&format!("LOGIN {login} {DEVICE_PASSWORD} {WRONG}"))).starts_with("BAD"));
        let plain = openssl::base64::encode_block(format!("\0{login}\0{DEVICE_PASSWORD}").as_bytes());
        one.ok(&format!("AUTHENTICATE PLAIN {plain}"));
        one.ok("LOGOUT");
        pop3().session(login, DEVICE_PASSWORD, &[&mail]);
    }
    for login in &logins[4..] {
        assert!(status(&imap().command(&format!("LOGIN {login} {DEVICE_PASSWORD}"))).starts_with("NO"), "{login}");
        let mut one = pop3();
        one.ok(&format!("USER {login}"));
        assert!(one.command(&format!("PASS {DEVICE_PASSWORD}")).starts_with("-ERR"), "{login}");
        one.ok("QUIT");
    }
    for (login, listener) in logins.iter().flat_map(|login| [(login, "imap"), (login, "pop3")]) {
        proxy.log.wait_for("line of each session", |line| {
            let is_of = |key: &str, value: &str| line.contains(&format!("\"{key}\":\"{value}\""));
            line.contains("session ended") && is_of("login", login) && is_of("listener", listener)
        });
    }

    let mut secrets = issuer.secrets();
    for used in [CLIENT_SECRET, PERSONS_PASSWORD, WRONG_SECRET, "0.AXrefresh-"] {
        assert!(secrets.iter().any(|secret| secret.starts_with(used)), "{used} was not used");
    }
    assert!(secrets.iter().filter(|secret| secret.starts_with("eyJ")).count() >= 5, "tokens and an assertion");
    // The parts of a token count as well: its claims and its signature.
    let parts: Vec<String> = secrets.iter().flat_map(|one| one.split('.').skip(1)).map(str::to_owned).collect();
    secrets.extend(parts.into_iter().filter(|part| part.len() > 8));
    secrets.extend([DEVICE_PASSWORD, WRONG, "$argon2id$", "quick brown fox", "Subject:"].map(str::to_owned));
    let log = proxy.log.all();
    assert!(logins.iter().all(|login| log.contains(login)), "the log holds the sessions");
    let shown = shown_by(&proxy);
    assert!(logins.iter().all(|login| shown.contains(login)), "the inventory holds the devices");
    for text in log.lines().chain(said.lines()).chain(shown.lines()) {
        assert!(!secrets.iter().any(|secret| holds(text, secret)), "{text}");
    }
    let files = files_below(&proxy.state_directory());
    assert!(files.iter().any(|file| file.parent() != Some(&proxy.state_directory())), "the sign-in is kept: {files:?}");
    for file in files {
        let content = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&content);
        assert!(!secrets.iter().any(|secret| holds(&text, secret)), "{file:?}: {text}");
    }
}

/// Everything that the proxy shows: metrics, the page with its data, and the inventory in each form. The system's view
/// is included, such as root's of its environment.
pub fn shown_by(proxy: &Proxy) -> String {
    let mut shown = String::new();
    for path in ["/", "/page.js", "/metrics", "/status.json", "/inventory.json", "/inventory.csv", "/live", "/ready"] {
        let said = proxy.get(path);
        assert!(!said.is_empty(), "{path}");
        shown += &said;
    }
    let process = PathBuf::from(format!("/proc/{}", proxy.process.0.id()));
    for name in ["cmdline", "comm", "environ", "status", "stat", "maps", "limits", "mountinfo"] {
        let octets = std::fs::read(process.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        shown += &String::from_utf8_lossy(&octets);
        shown.push('\n');
    }
    let devices = Command::new(env!("CARGO_BIN_EXE_packetboat"))
        .args(["devices", "--config"])
        .arg(proxy.configuration())
        .output()
        .unwrap();
    assert!(devices.status.success(), "{}", String::from_utf8_lossy(&devices.stderr));
    shown + &String::from_utf8_lossy(&devices.stdout)
}

pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    // Sockets are skipped, because they have no content.
    let files = entries.filter(|path| path.is_dir() || path.is_file());
    files.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Whether the text contains the secret: as it is, as a form's field, as a list of octets, or anywhere inside base64.
pub fn holds(text: &str, secret: &str) -> bool {
    let field: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let octets = format!("{:?}", secret.as_bytes());
    let base64 = (0..3).map(|before| {
        let shifted = [&vec![0; before], secret.as_bytes()].concat();
        let encoded = openssl::base64::encode_block(&shifted);
        // The outer letters depend on the neighbouring octets.
        encoded[(before * 8).div_ceil(6)..shifted.len() * 8 / 6].to_owned()
    });
    let mut forms = base64.chain([secret.to_owned(), field, octets.trim_matches(['[', ']']).to_owned()]);
    forms.any(|form| text.contains(&form))
}

#[test]
fn the_search_finds_what_it_is_for() {
    let around =
        |before: &str| openssl::base64::encode_block(format!("{before}{DEVICE_PASSWORD}, and more").as_bytes());
    for text in [&around(""), &around("a"), &around("ab"), &around("abc"), &format!("<{DEVICE_PASSWORD}>")] {
        assert!(holds(text, DEVICE_PASSWORD) && !holds(text, WRONG), "{text}");
    }
    assert!(holds("client_secret=app%7ESecret.8Zr4%2B%2F%3D&x=", CLIENT_SECRET));
    assert!(holds(&format!("{:?}", DEVICE_PASSWORD.as_bytes()), DEVICE_PASSWORD));
}
