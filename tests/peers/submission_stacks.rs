//! These tests prove that each old TLS stack submits mail through each entry by each form of login, and that msmtp,
//! mutt and Jakarta Mail do.

use std::process::{Command, Stdio};

use support::exim::{Delivered, Exim, PASSWORD};
use support::message;
use support::proxy::{AUTO_FAST, AUTO_SLOW, Proxy, detect_delay, entry, listener};
use support::smtp::{Login, Smtp};
use support::stacks::{Stack, Start, Version};

const USER: &str = "scanner";
const SENDER: &str = "scanner@example.test";
const RECIPIENT: &str = "office@example.test";

fn proxy(exim: &Exim, profile: &str) -> Proxy {
    let (roots, port) = (exim.roots(), exim.submission);
    let mut text = format!(
        "[upstream.exim]\nroots = {roots:?}\n[upstream.exim.smtp]\nhost = \"127.0.0.1\"\n\
         server_name = \"localhost\"\nport = {port}\nsecurity = \"starttls\"\n"
    );
    for name in ["implicit", "starttls", AUTO_SLOW, AUTO_FAST] {
        let more = format!("upstream = \"exim\"\nprofile = \"{profile}\"\n{}", detect_delay(name));
        text += &listener(name, "smtp", entry(name), &more);
    }
    Proxy::start(&text)
}

fn delivered(content: &[u8]) -> Delivered {
    Delivered { sender: SENDER.to_owned(), recipients: RECIPIENT.to_owned(), content: content.to_vec() }
}

/// Runs a stack through every entry and form of login. The whole transaction comes in one write, with QUIT behind the
/// dot, and the device reads all replies.
fn every_entry(stack: Stack, profile: &str, tls_version: &str) {
    let exim = Exim::start();
    let proxy = proxy(&exim, profile);
    let content = message(1024);
    let transaction = [
        format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n").as_bytes(),
        &packetboat::simulator::client::stuffed(&content),
        b"QUIT\r\n",
    ]
    .concat();
    let mut count = 0;
    for login in Login::ALL {
        for (entry, is_starttls) in [("implicit", false), ("starttls", true), (AUTO_SLOW, false), (AUTO_FAST, true)] {
            let start = if is_starttls { Start::StartTls("smtp") } else { Start::Implicit };
            let mut device = Smtp::over(stack.connect(proxy.address(entry), start));
            if !is_starttls {
                assert!(device.reply().starts_with("220 "));
            }
            device.say("EHLO printer_3", "250 ");
            device.log_in(login, USER, PASSWORD);
            device.send(&transaction);
            for expected in ["250 ", "250 ", "354 ", "250 ", "221 "] {
                let answer = device.reply();
                assert!(answer.starts_with(expected), "{login:?} at {entry}: {answer}");
            }
            count += 1;
        }
    }
    let all = exim.delivered(count);
    assert!(all.len() == count && all.iter().all(|one| *one == delivered(&content)), "{stack:?}");
    let line = proxy.session_of("listener", AUTO_SLOW).to_string();
    assert!(line.contains(tls_version) && line.contains("the device logged out"), "{line}");
    assert!(!proxy.log.all().contains(PASSWORD));
}

#[test]
fn openssl_at_tls_1_0() {
    every_entry(Stack::Openssl { version: Version::Tls1_0, ciphers: "AES128-SHA" }, "legacy", "TLSv1 AES128-SHA");
}

#[test]
fn openssl_at_tls_1_1() {
    every_entry(Stack::Openssl { version: Version::Tls1_1, ciphers: "AES128-SHA" }, "legacy", "TLSv1.1 AES128-SHA");
}

#[test]
fn openssl_at_sslv3_with_rc4() {
    every_entry(Stack::Openssl { version: Version::Ssl3, ciphers: "RC4-SHA" }, "ancient", "SSLv3 RC4-SHA");
}

#[test]
fn s_client_at_tls_1_0() {
    every_entry(Stack::SClient("-tls1"), "legacy", "TLSv1 ");
}

#[test]
fn s_client_at_tls_1_1() {
    every_entry(Stack::SClient("-tls1_1"), "legacy", "TLSv1.1 ");
}

#[test]
fn gnutls_at_tls_1_0() {
    every_entry(Stack::Gnutls, "legacy", "TLSv1 ");
}

#[test]
fn mbedtls_at_tls_1_0() {
    every_entry(Stack::Mbedtls, "legacy", "TLSv1 ");
}

#[test]
fn java_with_a_client_hello_in_sslv2_format() {
    let exim = Exim::start();
    let proxy = proxy(&exim, "legacy");
    for (entry, start) in [(AUTO_SLOW, Start::Implicit), ("starttls", Start::StartTls("smtp"))] {
        let mut device = Smtp::over(Stack::JavaSslv2Hello.connect(proxy.address(entry), start));
        if start == Start::Implicit {
            assert!(device.reply().starts_with("220 "));
        }
        device.say("HELO", "250 packetboat");
        device.log_in(Login::Plain, USER, PASSWORD);
    }
}

#[test]
fn msmtp_sends_in_every_form() {
    let exim = Exim::start();
    let proxy = proxy(&exim, "legacy");
    let content = b"Subject: page\r\n\r\n.\r\nhello\r\n";
    let forms = [("starttls", "plain"), ("starttls", "login"), ("implicit", "plain"), ("implicit", "login")];
    for (count, (entry, mechanism)) in forms.into_iter().enumerate() {
        let starttls = if entry == "starttls" { "on" } else { "off" };
        let mut command = Command::new("msmtp");
        command.args(["--file=/dev/null", "--host=127.0.0.1", "--tls=on", "--tls-certcheck=off", "--timeout=60"]);
        command.arg(format!("--port={}", proxy.address(entry).port())).arg(format!("--tls-starttls={starttls}"));
        command.arg("--tls-priorities=NORMAL:-VERS-ALL:+VERS-TLS1.0:+RSA:+AES-128-CBC:+SHA1:%NO_EXTENSIONS");
        command.arg(format!("--auth={mechanism}")).arg(format!("--user={USER}"));
        command.arg(format!("--passwordeval=echo {PASSWORD}")).arg(format!("--from={SENDER}")).arg(RECIPIENT);
        let mut msmtp = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let text = String::from_utf8_lossy(content).replace("\r\n", "\n");
        std::io::Write::write_all(&mut msmtp.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = msmtp.wait_with_output().unwrap();
        assert!(output.status.success(), "{entry} {mechanism}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(exim.delivered(count + 1).last().unwrap().content.ends_with(content), "{entry} {mechanism}");
    }
}

#[test]
fn jakarta_mail_sends_at_tls_1_0() {
    let exim = Exim::start();
    let proxy = proxy(&exim, "legacy");
    let security = tempfile::tempdir().unwrap();
    let policy = security.path().join("java.security");
    std::fs::write(&policy, "jdk.tls.disabledAlgorithms=\njdk.certpath.disabledAlgorithms=\n").unwrap();
    for (count, mechanism) in ["PLAIN", "LOGIN"].into_iter().enumerate() {
        let mut command = Command::new("java");
        command.arg(format!("-Djava.security.properties={}", policy.display()));
        command.args(["-cp", "/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/devices/Submit.java"));
        command.arg(proxy.address("starttls").port().to_string());
        let output = command.args([mechanism, USER, PASSWORD, SENDER, RECIPIENT, "TLSv1"]).output().unwrap();
        assert!(output.status.success(), "{mechanism}: {}", String::from_utf8_lossy(&output.stderr));
        let all = exim.delivered(count + 1);
        let text = String::from_utf8_lossy(&all.last().unwrap().content).into_owned();
        assert!(
            text.contains(&format!("Subject: scan {mechanism}\r\n")) && text.ends_with(".\r\n..\r\nhello\r\n"),
            "{text}"
        );
    }
}

/// mutt checks the certificate, and logs in by the mechanism that it is told.
#[test]
fn mutt_sends_in_every_form() {
    let exim = Exim::start();
    let proxy = proxy(&exim, "legacy");
    let home = tempfile::tempdir().unwrap();
    let forms = [("starttls", "plain"), ("starttls", "login"), ("implicit", "plain"), ("implicit", "login")];
    for (entry, mechanism) in forms {
        let scheme = if entry == "implicit" { "smtps" } else { "smtp" };
        let file = home.path().join("muttrc");
        let text = format!(
            "set smtp_url = \"{scheme}://{USER}@{}/\"\nset smtp_pass = \"{PASSWORD}\"\n\
             set smtp_authenticators = \"{mechanism}\"\nset ssl_starttls = yes\nset ssl_force_tls = yes\n\
             set ssl_use_tlsv1 = yes\nset ssl_ciphers = \"NORMAL:-VERS-ALL:+VERS-TLS1.0:+RSA:+AES-128-CBC:+SHA1\"\n\
             set certificate_file = {:?}\nset user_agent = yes\nset from = {SENDER}\n\
             set hostname = scanner.example.test\nset copy = no\n",
            proxy.address(entry),
            proxy.authority()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new("mutt");
        command.args(["-n", "-F"]).arg(&file).args(["-s", "page", "--", RECIPIENT]);
        command.env("HOME", home.path()).env("LC_ALL", "C.UTF-8").env("TERM", "dumb");
        let mut mutt = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut mutt.stdin.take().unwrap(), b"one\n.\n..two\n\nlast\n").unwrap();
        let output = mutt.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{entry} {mechanism}: {said}");
        let one = exim.take();
        let text = String::from_utf8_lossy(&one.content).into_owned();
        assert_eq!((one.sender.as_str(), one.recipients.as_str()), (SENDER, RECIPIENT), "{entry} {mechanism}");
        assert!(text.contains("\r\nSubject: page\r\n") && text.contains("\r\nUser-Agent: Mutt/"), "{text}");
        assert!(text.ends_with("\r\n\r\none\r\n.\r\n..two\r\n\r\nlast\r\n"), "{text}");
        let line = proxy.session_of("listener", entry).to_string();
        assert!(line.contains("\"device_tls\":\"TLSv1 ") && line.contains("the device logged out"), "{line}");
    }
}
