//! These tests prove what `packetboat check` lists of a good configuration, and how it exits where several things are
//! wrong.

use super::*;

/// The configuration of one account with these devices.
fn devices(bench: &Bench, networks: &[&str]) -> String {
    let secret = bench.path("secret");
    fs::write(&secret, "s3cret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
    let each = networks.iter().enumerate().map(|(number, networks)| {
        format!("[[device]]\nlogin = \"print{number}\"\naccount = \"scans\"\npasswords = [\"{hash}\"]\n{networks}\n")
    });
    let account = "client_secret_file = \"SECRET\"\n[account.scans]".replace("\"SECRET\"", &format!("{secret:?}"));
    let rest = TRANSLATED.split("[account.o]").next().unwrap().replace("[account.scans]", &account);
    rest + &each.collect::<String>()
}

fn serving(name: &str, protocol: &str, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nlisten = [\"127.0.0.1:0\"]\n{more}\n")
}

#[track_caller]
fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    text.lines().find(|line| line.trim_start().starts_with(begin)).unwrap_or_else(|| panic!("no {begin} in {text}"))
}

#[test]
fn each_listener_is_listed_with_its_networks_and_devices() {
    let bench = Bench::new();
    let text = serving("imap", "imap", "")
        + &serving("few", "pop3", "allowed_networks = [\"192.168.1.0/24\", \"fd00::7\"]")
        + &serving("old", "imap", "profile = \"ancient\"\nallowed_networks = [\"192.168.1.33\"]")
        + &serving("seen", "pop3", "observe = true")
        + &serving("strict", "imap", "profile = \"modern\"\nentry = \"starttls\"")
        + &devices(&bench, &["", "networks = [\"192.168.1.21\"]", "networks = [\"10.1.1.1\", \"10.1.1.2\"]"]);
    let output = bench.run(&["check"], &text);
    assert!(output.status.success(), "{}", err(&output));
    let said = out(&output);
    for (begin, end) in [
        (
            "imap: IMAP on 127.0.0.1:",
            ". SSL/TLS or STARTTLS, TLS 1.0 to 1.3, profile \"legacy\". Serves 3 devices from private networks.",
        ),
        (
            "few: POP3 on 127.0.0.1:",
            ". SSL/TLS or STLS, TLS 1.0 to 1.3, profile \"legacy\". Serves 2 devices from 192.168.1.0/24, fd00::7/128.",
        ),
        (
            "old: ",
            "SSLv3 to TLS 1.3, profile \"ancient\". Serves 1 device from 192.168.1.33/32; ancient: accepts SSLv3, 3DES, RC4.",
        ),
        ("seen: ", "Observes private networks: nobody is let in."),
        ("strict: ", ". STARTTLS, TLS 1.2 to 1.3, profile \"modern\". Serves 3 devices from every network."),
    ] {
        let line = line(&said, begin);
        assert!(line.ends_with(end), "{line}");
    }
    let warnings: Vec<String> = err(&output).lines().map(str::to_owned).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("listener.seen: observes: nobody is let in"), "{warnings:?}");
}

/// The check runs beside a proxy with the same file.
#[test]
fn ports_of_the_running_proxy_are_no_mistake() {
    use std::io::{BufRead, BufReader};
    let bench = Bench::new();
    let [port] = free_ports();
    let text =
        serving("imap", "imap", "logins = \"pass-through\"").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let file = bench.configure(&text);
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0").args(["run", "--config"]).arg(file);
    let mut service = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(service.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("INFO ready")));
    let output = bench.run(&["check"], &text);
    service.kill().unwrap();
    service.wait().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    let words = format!("imap: IMAP on 127.0.0.1:{port} (in use by the running packetboat: fine). SSL/TLS");
    assert!(out(&output).contains(&words), "{}", out(&output));
}

/// The exit code is that of the mistake in the file; the check prints both mistakes.
#[test]
fn a_mistake_in_the_file_wins_over_a_missing_key() {
    let bench = Bench::new();
    let text = serving("imap", "imap", "") + &devices(&bench, &[""]);
    fs::remove_file(bench.path("secret")).unwrap();
    fails(&bench.run(&["check"], &text), 69, "identity.office.client_secret_file: cannot read");
    let hash = text.split("passwords = [\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let broken = text.replace(&hash, "$argon2id$v=19$nonsense");
    for command in ["check", "run"] {
        let output = bench.run(&[command], &broken);
        fails(&output, 78, "device.print0.passwords: holds something that is no Argon2id hash");
        assert!(err(&output).contains("identity.office.client_secret_file: cannot read"), "{}", err(&output));
    }
}

/// An account whose mail goes to the mailbox alone stands at the end, for as long as its devices send.
#[test]
fn a_trial_is_in_the_summary() {
    let bench = Bench::new();
    let trial = "  account scans is on trial: mail of its 1 device goes to scans@contoso.example alone, whatever recipients \
                 they give; remove deliver = \"mailbox\" from the account when the trial is over\n";
    for (protocol, deliver, is_told) in
        [("smtp", "mailbox", true), ("smtp", "recipients", false), ("imap", "mailbox", false)]
    {
        let account = format!("mailbox = \"scans@contoso.example\"\ndeliver = \"{deliver}\"");
        let text = devices(&bench, &[""]).replace("mailbox = \"scans@contoso.example\"", &account);
        let output = bench.run(&["check"], &(text + &serving("mail", protocol, "")));
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(out(&output).contains(trial), is_told, "{protocol} {deliver}: {}", out(&output));
    }
}
