//! These tests prove that devices submit mail through packetboat: curl, swaks and Python at TLS 1.0, to Exim.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::exim::{Delivered, Exim, PASSWORD};
use support::message;
use support::proxy::{Proxy, listener};

const USER: &str = "scanner";
const SENDER: &str = "scanner@example.test";
const RECIPIENT: &str = "office@example.test";
/// OpenSSL's words for a device of 2005.
const OLD: &str = "AES128-SHA:@SECLEVEL=0";

/// Listeners of every entry, in front of Exim with STARTTLS and with implicit TLS.
fn proxy(exim: &Exim) -> Proxy {
    let (roots, submission, submissions) = (exim.roots(), exim.submission, exim.submissions);
    let mut text = String::new();
    for (name, port) in [("starttls", submission), ("implicit", submissions)] {
        text += &format!(
            "[upstream.{name}]\nroots = {roots:?}\n[upstream.{name}.smtp]\nhost = \"127.0.0.1\"\n\
             server_name = \"localhost\"\nport = {port}\nsecurity = \"{name}\"\n"
        );
    }
    for (entry, upstream) in [("implicit", "starttls"), ("starttls", "implicit"), ("auto", "starttls")] {
        text += &listener(entry, "smtp", entry, &format!("upstream = \"{upstream}\""));
    }
    let clear = "upstream = \"starttls\"\nallow_plaintext = true\nallowed_networks = [\"127.0.0.1\"]";
    text += &listener("plaintext", "smtp", "plaintext", clear);
    Proxy::start(&text)
}

fn checked(output: Output) -> String {
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn curl(proxy: &Proxy, entry: &str, file: &Path) -> Output {
    let address = proxy.address(entry);
    let scheme = if entry == "implicit" { "smtps" } else { "smtp" };
    let mut command = Command::new("curl");
    command.args(["-sSv", "--insecure", &format!("{scheme}://{address}/printer_3")]);
    command.args(["--tlsv1.0", "--tls-max", "1.0", "--ciphers", OLD]);
    if entry != "plaintext" {
        command.arg("--ssl-reqd");
    }
    command.args(["--user", &format!("{USER}:{PASSWORD}"), "--mail-from", SENDER, "--mail-rcpt", RECIPIENT]);
    command.args(["--login-options", "AUTH=PLAIN", "--upload-file"]).arg(file).output().unwrap()
}

fn delivered(content: &[u8]) -> Delivered {
    Delivered { sender: SENDER.to_owned(), recipients: RECIPIENT.to_owned(), content: content.to_vec() }
}

#[test]
fn a_message_comes_through_every_entry_octet_for_octet() {
    let exim = Exim::start();
    let proxy = proxy(&exim);
    let directory = tempfile::tempdir().unwrap();
    let (small, big) = (message(1024), message(35 * 1024 * 1024));
    let mut count = 0;
    for (content, entries) in [(&small, &["implicit", "starttls", "auto", "plaintext"][..]), (&big, &["implicit"])] {
        let file = directory.path().join("message");
        fs::write(&file, content).unwrap();
        for entry in entries {
            checked(curl(&proxy, entry, &file));
            count += 1;
            let all = exim.delivered(count);
            assert!(*all.last().unwrap() == delivered(content), "{entry}: {} octets differ", content.len());
        }
    }
    let line = proxy.session_of("listener", "implicit").to_string();
    assert!(line.contains("\"device_tls\":\"TLSv1 AES128-SHA\"") && line.contains("the device logged out"), "{line}");
    let sent = proxy.log.wait_for("line of the message", |line| line.contains("message sent: the mail server said"));
    assert!(sent.contains("\"recipients\":1") && sent.contains("250 OK id="), "{sent}");
}

#[test]
fn swaks_logs_in_in_every_form() {
    let exim = Exim::start();
    let proxy = proxy(&exim);
    for (number, mechanism) in ["PLAIN", "LOGIN"].into_iter().enumerate() {
        let mut command = Command::new("swaks");
        command.args(["--server", &proxy.address("starttls").to_string(), "--tls"]);
        command.args(["--tls-protocol", "tlsv1", "--tls-cipher", OLD, "--auth", mechanism]);
        command.args(["--auth-user", USER, "--auth-password", PASSWORD, "--helo", "MFP_3"]);
        command.args(["--from", SENDER, "--to", &format!("{RECIPIENT},second@example.test")]);
        let said = checked(command.output().unwrap());
        assert!(said.contains("250-packetboat") && said.contains("235 2.7.0 logged in"), "{said}");
        let all = exim.delivered(number + 1);
        let recipients = &all.last().unwrap().recipients;
        assert!(recipients.contains(RECIPIENT) && recipients.contains("second@example.test"), "{recipients}");
    }
    let mut command = Command::new("swaks");
    command.args(["--server", &proxy.address("starttls").to_string(), "--tls", "--auth", "PLAIN", "--tls-cipher", OLD]);
    command.args(["--auth-user", USER, "--auth-password", "wrong", "--from", SENDER, "--to", RECIPIENT]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("535 5.7.8 user name or password is wrong"), "{said}");
}

/// smtplib sends several messages on one connection, one of them refused.
#[test]
fn python_sends_several_messages_on_one_connection() {
    let exim = Exim::start();
    let proxy = proxy(&exim);
    let address = proxy.address("auto");
    let script = format!(
        "import smtplib, ssl\n\
         context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n\
         context.check_hostname = False\ncontext.verify_mode = ssl.CERT_NONE\n\
         context.set_ciphers({OLD:?})\n\
         context.minimum_version = ssl.TLSVersion.TLSv1\ncontext.maximum_version = ssl.TLSVersion.TLSv1\n\
         smtp = smtplib.SMTP('127.0.0.1', {port})\nsmtp.starttls(context=context)\nprint(smtp.sock.version())\n\
         smtp.login({USER:?}, {PASSWORD:?})\n\
         for number in range(3):\n    smtp.sendmail({SENDER:?}, [{RECIPIENT:?}], b'Subject: %d\\r\\n\\r\\n.\\r\\n' % number)\n\
         try:\n    smtp.sendmail({SENDER:?}, ['nobody@example.test'], b'\\r\\n')\n\
         except smtplib.SMTPRecipientsRefused as refused:\n    print(refused)\n\
         smtp.sendmail({SENDER:?}, [{RECIPIENT:?}], b'Subject: 3\\r\\n\\r\\n')\nprint(smtp.quit())\n",
        port = address.port()
    );
    let mut python = Command::new("python3");
    python.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let said = checked(python.wait_with_output().unwrap());
    assert!(
        said.contains("TLSv1\n") && said.contains("550, b'5.1.1 no such user'") && said.contains("(221, "),
        "{said}"
    );
    let all = exim.delivered(4);
    // Exim delivers them at the same time, in any order.
    let mut all: Vec<String> = all.iter().map(|one| String::from_utf8_lossy(&one.content).into_owned()).collect();
    all.sort();
    for (number, one) in all.iter().enumerate() {
        assert!(one.starts_with(&format!("Subject: {number}\r\n\r\n")), "{one}");
        assert_eq!(one.ends_with("\r\n.\r\n"), number < 3, "{one}");
    }
    proxy.log.wait_for("line of the refusal", |line| line.contains("\"reason\":\"recipient_refused\""));
}
