//! `packetboat init` sets up devices that send without a login, as the list of devices says.

use std::process::Stdio;

use super::*;

/// Runs `packetboat init` with this list of devices.
fn init(bench: &Bench, list: &str, more: &[&str]) -> Output {
    fs::write(bench.path("devices.csv"), list).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.args(["init", "--yes", "--tenant", "contoso.example", "--output"]).arg(bench.path("out")).arg("--devices");
    command.arg(bench.path("devices.csv")).arg("--config").arg(bench.path("packetboat.toml")).args(more);
    command.arg("--state-directory").arg(bench.path("state")).stdin(Stdio::null()).output().unwrap()
}

const LIST: &str = "name,mailbox,protocol,address,login\nups1,alerts@contoso.example,smtp,192.168.1.40,without-login\n\
                    scanner3,scans@contoso.example,imap+smtp,192.168.1.41,\n";

/// The device has no password, neither in the file nor on its sheet; the command says what that means.
#[test]
fn a_device_without_a_login_is_set_up() {
    let bench = Bench::new();
    bench.configure("");
    let output = init(&bench, LIST, &[]);
    assert!(output.status.success(), "{}{}", out(&output), err(&output));
    let risk = "device \"ups1\" sends without a login: every computer at 192.168.1.40 can send mail from \
                alerts@contoso.example then\n";
    assert!(out(&output).contains(risk), "{}", out(&output));
    let text = fs::read_to_string(bench.path("packetboat.toml")).unwrap();
    let section = "[[device]]\nlogin = \"ups1\"\naccount = \"alerts\"\nsend_without_login = true\n\
                   recipients = [\"*@contoso.example\"]\nnetworks = [\"192.168.1.40/32\"]\n";
    assert!(text.contains(section), "{text}");
    assert_eq!(text.matches("passwords = ").count(), 1, "{text}");
    let sheet = fs::read_to_string(bench.path("out/ups1.txt")).unwrap();
    for words in ["user name   none: switch SMTP authentication off", "password    none", "SMTP        port "] {
        assert!(sheet.contains(words), "{words}: {sheet}");
    }
    let other = fs::read_to_string(bench.path("out/scanner3.txt")).unwrap();
    assert!(other.contains("user name   scanner3\n"), "{other}");
}

/// Nothing is written for a device whose address would let the world in.
#[test]
fn a_device_without_a_login_needs_a_private_address() {
    let bench = Bench::new();
    bench.configure("");
    let before = fs::read_to_string(bench.path("packetboat.toml")).unwrap();
    for address in ["", "198.51.100.7", "0.0.0.0/0"] {
        let output = init(&bench, &LIST.replace("192.168.1.40", address), &[]);
        fails(&output, 64, "line 2: without-login needs the device's own private address in the fourth field");
    }
    let output = init(&bench, &LIST.replace("192.168.1.40", "10.0.0.0/8"), &[]);
    fails(&output, 78, "every computer in 10.0.0.0/8 could send mail from the mailbox");
    assert_eq!(fs::read_to_string(bench.path("packetboat.toml")).unwrap(), before);
}
