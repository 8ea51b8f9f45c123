//! This test proves that `packetboat demo` works for a newcomer: the demonstration itself, and each command that it
//! prints.

use std::process::{Command, Stdio};

use support::network;
use support::process::{Lines, Process};

#[test]
fn the_demonstration_and_every_printed_command() {
    network::alone();
    let directory = tempfile::tempdir().unwrap();
    let mut demo = Process::start(
        Command::new(env!("CARGO_BIN_EXE_packetboat"))
            .args(["demo", "--listen", "127.0.0.1", "--state-directory"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let told = Lines::of(demo.0.stdout.take().unwrap());
    let log = Lines::of(demo.0.stderr.take().unwrap());
    told.wait_for("end of the introduction", |line| line.contains("Ctrl-C ends the demo"));
    let story = told.all();
    for step in [
        "TLS 1.0 AES128-SHA ==> packetboat == TLS 1.3 ==> Exchange Online",
        "LOGIN \"scanner3\" \"****\"",
        "PASS ****",
        "login by XOAUTH2 as scans@contoso.example, TLSv1.3",
        "AUTH LOGIN",
        "(the password ****)",
        "235 2.7.0 ",
        "1 OK logged in",
        "+OK logged in",
    ] {
        assert!(story.contains(step), "no {step} in:\n{story}");
    }
    assert_eq!(story.matches("Subject: Scanned page").count(), 1, "sent, and read back by IMAP:\n{story}");
    assert_eq!(story.matches("Subject: It still works").count(), 1, "by POP3:\n{story}");
    let commands: Vec<&str> = story.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(commands.len(), 2);
    let sending = story.lines().map(str::trim).find(|line| line.starts_with("printf ")).unwrap();
    let output = shell(sending, "");
    assert!(!output.contains("curl: "), "{sending}\n{output}");
    let sent = commands[1].replace("/1", "/3");
    assert!(shell(&sent, "").contains("Subject: by hand"), "{sending}");
    for command in commands {
        let output = shell(command, "");
        assert!(output.contains("Still you are reading this."), "{command}\n{output}");
    }
    let s_client = story.lines().map(str::trim).find(|line| line.starts_with("openssl s_client")).unwrap();
    let login = story.lines().find_map(|line| line.trim().strip_prefix("then: ")).unwrap();
    let output = shell(s_client, &format!("{login}\nb LOGOUT\n"));
    assert!(output.contains("a OK logged in") && output.contains("b OK LOGOUT completed."), "{output}");
    let password = login.rsplit(' ').next().unwrap();
    log.wait_for("line of a session", |line| line.contains("the device logged out"));
    assert!(!log.all().contains(password));
    demo.signal("INT");
    assert!(demo.wait().success(), "{}", log.all());
}

fn shell(command: &str, input: &str) -> String {
    use std::io::Write;
    // An operator would add -verify_return_error; the test runs the printed line as it is.
    let mut child = Process::start(
        Command::new("sh")
            .args(["-c", &format!("{command} 2>&1")])
            .env_remove("OPENSSL_CONF")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    child.0.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = Lines::of(child.0.stdout.take().unwrap());
    child.wait();
    output.to_the_end()
}
