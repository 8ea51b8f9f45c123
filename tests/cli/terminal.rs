//! These tests prove that a terminal gets plain text, and never an escape sequence from a file, an endpoint or another
//! program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use openssl::x509::X509Name;

use super::*;

/// An escape sequence for each attack: set the clipboard (OSC 52), hide text (CSI 8 m), the same in C1, reverse text,
/// overwrite.
const EVIL: &str = "\x1b]52;c;ZWNobwo=\x07\x1b[8m\u{9b}8m\u{202e}\u{200b}\r";
/// The same octets as TOML and JSON escape them.
const WRITTEN: &str = "\\u001b]52;c;ZWNobwo=\\u0007\\u001b[8m\\u009b8m\\u202e\\u200b\\r";

/// Standard output and standard error, checked for plain text.
#[track_caller]
fn is_text(output: &Output) -> String {
    let said = [output.stdout.clone(), output.stderr.clone()].concat();
    let said = String::from_utf8(said).unwrap().replace("\r\n", "\n");
    let obeyed = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
    assert!(!said.contains(obeyed), "{said:?}");
    said
}

/// Starts a web server that answers every request with this body.
fn answering(status: u16, body: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                let lower = line.to_ascii_lowercase();
                length = lower.strip_prefix("content-length:").map_or(length, |length| length.trim().parse().unwrap());
                line.clear();
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn device_code(uri: &str, code: &str) -> Output {
    let bench = Bench::new();
    let body =
        format!("{{\"device_code\":\"d\",\"user_code\":\"{code}\",\"verification_uri\":\"{uri}\",\"expires_in\":1}}");
    let endpoint = answering(200, &body);
    let configuration = format!(
        "[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\ngrant = \"device-code\"\n\
         token_endpoint = \"http://{endpoint}/token\"\ndevice_endpoint = \"http://{endpoint}/code\"\n\
         [account.scans]\nmailbox = \"scans@contoso.example\"\nupstream = \"x\"\n[upstream.x]\nhost = \"localhost\"\n"
    );
    bench.run(&["login", "scans"], &configuration)
}

#[test]
fn a_person_is_sent_to_an_https_address_only() {
    let output = device_code("https://contoso.example/device", "ABCD-1234");
    let said = is_text(&output);
    assert!(said.contains("Open https://contoso.example/device in a browser") && said.contains("ABCD-1234"), "{said}");
    for uri in [&format!("https://contoso.example/{WRITTEN}"), "http://contoso.example/device", "javascript:alert(1)"] {
        let output = device_code(uri, "ABCD-1234");
        fails(&output, 69, "127.0.0.1 answers with an address to open that is none by https");
        assert!(!is_text(&output).contains("Open "));
    }
    for code in [WRITTEN, "", "AB\\nCD"] {
        let output = device_code("https://contoso.example/device", code);
        fails(&output, 69, "127.0.0.1 answers with a code to type that holds characters which nobody can type");
        is_text(&output);
    }
}

#[test]
fn an_impostor_of_the_proxy_prints_plain_text() {
    for status in [200, 503] {
        let bench = Bench::new();
        let address = answering(status, EVIL);
        let file = bench.configure(&format!("[admin]\nlisten = [\"{address}\"]\n{}", listener("")));
        for command in ["health", "devices"] {
            let mut packetboat = Command::new(env!("CARGO_BIN_EXE_packetboat"));
            is_text(&packetboat.args([command, "--config"]).arg(&file).output().unwrap());
        }
    }
}

#[test]
fn names_in_the_configuration_are_text() {
    let bench = Bench::new();
    let evil = listener("").replace("scanners", WRITTEN);
    let account = format!("[account.\"{WRITTEN}\"]\nmailbox = \"scans{WRITTEN}@contoso.example\"\nupstream = \"x\"");
    let identity = "[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = \"/s\"";
    let more = format!("{identity}\n{account}\n[upstream.x]\nhost = \"localhost\"\n");
    for (command, configuration) in [
        (&["check"][..], evil.clone()),
        (&["check"], format!("{evil}{more}")),
        (&["check"], format!("{evil}[upstream.x]\nhost = \"{WRITTEN}\"\n")),
        (&["check"], format!("{evil}\"{WRITTEN}\" = 1\n")),
        (&["check"], format!("{evil}[log]\nlevel = \"{WRITTEN}\"\n")),
        (&["setup"], format!("{evil}{more}")),
        (&["login", "nobody"], format!("{evil}{more}")),
        // This `run` ends at once, and its log says why.
        (&["run"], evil.replace("127.0.0.1:0", "203.0.113.1:1")),
    ] {
        let said = is_text(&bench.run(command, &configuration));
        assert!(!said.is_empty(), "{command:?}");
    }
    is_text(&bench.run(&["check", EVIL], &evil));
    is_text(&bench.run(&["login", EVIL], &more));
}

#[test]
fn names_in_a_certificate_are_text() {
    let bench = Bench::new();
    let key = rsa();
    let mut subject = X509Name::builder().unwrap();
    subject.append_entry_by_text("CN", &format!("x{EVIL}")).unwrap();
    let subject = subject.build();
    let mut builder = openssl::x509::X509::builder().unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(&subject).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&openssl::asn1::Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&openssl::asn1::Asn1Time::days_from_now(30).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    bench.certificate("own", &key);
    fs::write(bench.path("own.pem"), builder.build().to_pem().unwrap()).unwrap();
    let files =
        format!("[certificate.default]\nchain = {:?}\nkey = {:?}\n", bench.path("own.pem"), bench.path("own.key"));
    let said = is_text(&bench.run(&["certificate", "show"], &format!("{}{files}", listener(""))));
    assert!(said.contains("CN = x?]52;c;"), "{said}");
}

/// An earlier version, or an attacker in the process, has left this inventory.
#[test]
fn names_in_the_inventory_are_text() {
    let bench = Bench::new();
    let device = format!(
        "{{\"devices\":[{{\"source\":\"192.0.2.1\",\"name\":\"x{WRITTEN}\",\"protocol\":\"IMAP\",\"listener\":\"x{WRITTEN}\",\"entry\":null,\
         \"tls\":null,\"cipher\":\"x{WRITTEN}\",\"offers\":null,\"fingerprint\":null,\"logins\":[\"x{WRITTEN}\"],\"known_as\":null,\
         \"mailbox\":\"x{WRITTEN}\",\"sessions\":1,\"open\":0,\"failures\":1,\"failure\":\"x{WRITTEN}\",\"failed\":1,\
         \"logged_in\":null,\"first_seen\":1,\"last_seen\":1,\"attention\":true,\
         \"verdict\":{{\"kind\":\"unknown\",\"text\":\"x{WRITTEN}\"}}}}]}}"
    );
    fs::create_dir(bench.path("state")).unwrap();
    for text in [device.as_str(), EVIL] {
        fs::write(bench.path("state/inventory.json"), text).unwrap();
        for form in [&["devices"][..], &["devices", "--csv"], &["devices", "--json"]] {
            is_text(&bench.run(form, &listener("")));
        }
    }
}
