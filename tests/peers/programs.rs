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
        let mut arguments: Vec<&str> = more.split_whitespace().collect();
        let url = format!("{scheme}://{}/{path}", proxy.address(listener));
        arguments.push(&url);
        let output = curl(&proxy, [&user, PASSWORD], &arguments);
        assert!(output.starts_with(&mail), "{scheme}: {} octets", output.len());
    }
}

/// The output of curl at TLS 1.0.
pub(crate) fn curl(proxy: &Proxy, [user, password]: [&str; 2], arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "50", "--tlsv1.0", "--tls-max", "1.0"])
        .args(["--ciphers", "DEFAULT@SECLEVEL=0", "--cacert"])
        .arg(proxy.authority())
        .args(["--user", &format!("{user}:{password}")])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
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
mails = [
    by_imap(plain_imap),
    by_imap(imaplib.IMAP4_SSL(host, int(imap), ssl_context=context)),
]
if pop3 != "-":
    plain_pop3 = poplib.POP3(host, int(pop3))
    plain_pop3.stls(context)
    mails += [by_pop3(poplib.POP3_SSL(host, int(pop3), context=context)), by_pop3(plain_pop3)]
print(" ".join(hashlib.sha256(mail).hexdigest() for mail in mails))
"#;

#[test]
fn python_reads_mail() {
    let (dovecot, proxy) = house();
    let mail = message(100_000);
    let user = dovecot.user_with(&[&mail]);
    let ports = ["imap", "pop3"].map(|name| proxy.address(name).port().to_string());
    assert_eq!(python(&proxy, ports, [&user, PASSWORD]), vec![digest(&mail); 4]);
}

/// The digests of the first message, as Python has it at TLS 1.0 from these ports: by STARTTLS and by implicit TLS each.
/// The port of POP3 is `-` where that is left out.
pub(crate) fn python(proxy: &Proxy, ports: [String; 2], [user, password]: [&str; 2]) -> Vec<String> {
    let output = Command::new("python3")
        .args(["-c", PYTHON])
        .arg(proxy.authority())
        .arg("127.0.0.1")
        .args(ports)
        .args([user, password])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

/// The SHA-256 of a message in hexadecimal digits.
pub(crate) fn digest(message: &[u8]) -> String {
    openssl::sha::sha256(message).iter().map(|octet| format!("{octet:02x}")).collect()
}
