//! These tests prove that mail programs work as devices: curl, and Python's imaplib and poplib, at TLS 1.0.

use std::process::Command;

use support::dovecot::{Dovecot, PASSWORD};
use support::message;
use support::proxy::{Proxy, listener, upstreams};

fn house() -> (Dovecot, Proxy) {
    let dovecot = Dovecot::start();
    let mut configuration = upstreams(&dovecot);
    for protocol in ["imap", "pop3"] {
        configuration += &listener(protocol, protocol, "auto", "upstream = \"implicit\"\ndetect_delay = \"1500ms\"");
    }
    let proxy = Proxy::start(&configuration);
    (dovecot, proxy)
}

#[test]
fn curl_reads_mail() {
    let (dovecot, proxy) = house();
    let mail = message(100_000);
    let user = dovecot.user_with(&[&mail]);
    for (scheme, listener, path, more) in [
        ("imaps", "imap", "INBOX;MAILINDEX=1", ""),
        ("imap", "imap", "INBOX;MAILINDEX=1", "--ssl-reqd"),
        ("pop3s", "pop3", "1", ""),
        ("pop3", "pop3", "1", "--ssl-reqd"),
    ] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "50", "--tlsv1.0", "--tls-max", "1.0"])
            .args(["--ciphers", "DEFAULT@SECLEVEL=0", "--cacert"])
            .arg(proxy.authority())
            .args(more.split_whitespace())
            .args(["--user", &format!("{user}:{PASSWORD}")])
            .arg(format!("{scheme}://{}/{path}", proxy.address(listener)))
            .output()
            .unwrap();
        assert!(output.status.success(), "{scheme}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.starts_with(&mail), "{scheme}: {} octets", output.stdout.len());
    }
}

const PYTHON: &str = r#"
import hashlib, imaplib, poplib, ssl, sys
ca, host, imap, pop3, user, password = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.set_ciphers("DEFAULT:@SECLEVEL=0")
context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1

def by_imap(box):
    box.login(user, password)
    box.select("INBOX")
    _, data = box.fetch("1", "(BODY.PEEK[])")
    box.logout()
    return data[0][1]

def by_pop3(box):
    box.user(user)
    box.pass_(password)
    assert "TOP" in box.capa()
    lines = box.retr(1)[1]
    box.quit()
    return b"".join(line + b"\r\n" for line in lines)

plain_imap = imaplib.IMAP4(host, int(imap))
plain_imap.starttls(context)
plain_pop3 = poplib.POP3(host, int(pop3))
plain_pop3.stls(context)
mails = [
    by_imap(imaplib.IMAP4_SSL(host, int(imap), ssl_context=context)),
    by_imap(plain_imap),
    by_pop3(poplib.POP3_SSL(host, int(pop3), context=context)),
    by_pop3(plain_pop3),
]
print(" ".join(hashlib.sha256(mail).hexdigest() for mail in mails))
"#;

#[test]
fn python_reads_mail() {
    let (dovecot, proxy) = house();
    let mail = message(100_000);
    let user = dovecot.user_with(&[&mail]);
    let output = Command::new("python3")
        .args(["-c", PYTHON])
        .arg(proxy.authority())
        .arg("127.0.0.1")
        .args(["imap", "pop3"].map(|name| proxy.address(name).port().to_string()))
        .args([&user, PASSWORD])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let digest: String = openssl::sha::sha256(&mail).iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), vec![digest; 4].join(" "));
}
