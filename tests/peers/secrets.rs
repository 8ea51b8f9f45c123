//! Passwords, tokens and mail never reach a log: the most verbose log of whole sessions is searched for them.

use crate::support::dovecot::{Dovecot, PASSWORD};
use crate::support::imap::{Imap, status};
use crate::support::message;
use crate::support::pop3::Pop3;
use crate::support::proxy::{Proxy, listener, upstreams};
use crate::support::stacks::{Stack, Start, Version};

const TLS_1_0: Stack = Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" };
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
    let imap = || Imap::greeted(TLS_1_0.connect(proxy.address("imap"), Start::Implicit));
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
