//! These tests prove that secrets, keys and certificates work as editors, shells and portals write them into files.

use std::fs;

use support::exchange::*;

const MARK: &str = "\u{feff}";
const ONLINE: &[&str] = &["check", "--online", "--account", "scans"];

/// Whether the endpoint has issued a token for this configuration.
#[track_caller]
fn gets_a_token(exchange: &Exchange, configuration: &str) {
    let ran = exchange.run(ONLINE, configuration);
    assert!(ran.output.contains(": token ok: "), "{}{}", ran.output, ran.errors);
}

#[test]
fn a_secret_is_taken_from_its_line() {
    let exchange = Exchange::with(|tenant| tenant.federated_token = Some("eyJ.federated.token".to_owned()));
    for (before, behind) in [("", ""), ("", "\n"), ("", "\r\n"), ("", "\n\n"), ("", " \n"), (MARK, "\r\n"), (MARK, "")]
    {
        exchange.file("SECRET", format!("{before}{SECRET}{behind}"));
        gets_a_token(&exchange, &exchange.configuration(BY_SECRET));
        let token = exchange.file("token", format!("{before}eyJ.federated.token{behind}"));
        gets_a_token(&exchange, &exchange.configuration(&format!("grant = \"federated\"\ntoken_file = {token:?}")));
        let password = exchange.file("password", format!("{before}{SCAN_PASSWORD}{behind}"));
        let account = account("scans", SCAN, &format!("password_file = {password:?}"));
        gets_a_token(&exchange, &exchange.configured("grant = \"password\"", &account));
    }
}

/// `check` finds invisible characters in every file with a secret, and the proxy never sends them.
#[test]
fn invisible_characters_in_a_secret_are_refused() {
    let exchange = Exchange::new();
    let [key, password, bearer] = ["SECRET", "password", "bearer"].map(|name| exchange.file(name, ""));
    let account = account("scans", SCAN, &format!("password_file = {password:?}"));
    let utf_16: Vec<u8> = format!("{MARK}{SECRET}\r\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, words) in [
        (b"the id of the secret\nthe secret\n".to_vec(), "has several lines; write the secret on one line"),
        (b"tab\tand more than that".to_vec(), "holds a character that nobody sees (U+0009)"),
        (format!("{SECRET}\u{200b}\n").into_bytes(), "holds a character that nobody sees (U+200B)"),
        (utf_16, "is in UTF-16, as Windows PowerShell's > writes it; save it in UTF-8"),
        (b"p\xe4sswort of somebody".to_vec(), "is no text in UTF-8"),
        (MARK.into(), "is empty"),
    ] {
        fs::write(&key, &content).unwrap();
        fs::write(&password, &content).unwrap();
        fs::write(&bearer, &content).unwrap();
        let admin = format!("[admin]\ntoken_file = {bearer:?}\n");
        let identity = "client_secret_file = \"SECRET\"\ngrant = \"password\"";
        let ran = exchange.run(&["check"], &(admin + &exchange.configured(identity, &account)));
        assert_eq!(ran.code, 69, "{}{}", ran.output, ran.errors);
        for (key, file) in [("identity.office.client_secret_file", &key), ("account.scans.password_file", &password)] {
            assert!(ran.errors.contains(&format!("{key}: {} {words}", file.display())), "{words}: {}", ran.errors);
        }
        assert!(ran.errors.contains("admin.token_file: "), "{}", ran.errors);
    }
    assert_eq!(exchange.requests(), 0);
}

/// The file is joined from files that each begin with a byte order mark.
#[test]
fn certificates_and_keys_with_byte_order_marks() {
    let (exchange, identity) = super::grants::with_certificate();
    let marked = |path: &str| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replace("-----BEGIN", &format!("{MARK}-----BEGIN")).replace('\n', "\r\n")).unwrap();
    };
    let configuration = exchange.configuration(&identity);
    configuration.split('"').filter(|path| path.ends_with(".pem") || path.ends_with(".key")).for_each(marked);
    let chain = format!("[certificate.default]\n{}\n", identity.replace("certificate =", "chain ="));
    let ran = exchange.run(ONLINE, &(chain + &configuration));
    assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
    assert!(ran.output.contains("mailbox opened"), "{}", ran.output);
}
