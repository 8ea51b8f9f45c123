//! This test proves that a password in the wrong place of the configuration is repeated nowhere.
//!
//! It reaches neither the log, the page and its data, nor the output of `check` and `reload`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use support::process::PATIENCE;
use support::proxy::{Proxy, listener, translating_listener};

const SECRET: &str = "Tr0ub4dor&3xyz";
const NUMBER: &str = "9876543210";

#[test]
fn values_of_a_refused_configuration_are_told_nowhere() {
    let good = listener("imap", "imap", "implicit", "");
    let proxy = Proxy::start(&good);
    let file = proxy.state.join("client-secret");
    fs::write(&file, "of the application").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let device = format!(
        "{}[identity.o]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = {file:?}\n\
         [account.scans]\nmailbox = \"scans@contoso.example\"\n[[device]]\nlogin = \"scanner3\"\n",
        translating_listener("scanners", "imap", "implicit", "")
    );
    for more in [
        format!("{device}passwords = '{SECRET}'\n"),
        format!("{device}passwords = '$argon2id$v=19$m=19456,t=2,p=1${SECRET}'\n"),
        format!("{device}passwords = ['$argon2id$v=19$m=19456,t=2,p=1${SECRET}']\n"),
        format!("{device}passwords = [{NUMBER}]\n"),
        format!("{device}passwords = ['{SECRET}'\n"),
        format!("{device}password = '{SECRET}'\n"),
        device.replace(file.to_str().unwrap(), SECRET),
        format!("{device}[upstream.x]\nhost = '{SECRET}'\n"),
        format!("{device}[upstream.x]\nhost = 'localhost'\nserver_name = '{SECRET}'\n"),
        format!("{device}[upstream.x]\nhost = 'localhost'\nroots = '{SECRET}'\n"),
        format!("[limits]\nline = {NUMBER}\n"),
    ] {
        let configuration = format!("{good}{more}");
        proxy.configure(&configuration);
        let (code, reload) = proxy.reload();
        assert_ne!(code, 0, "{configuration}\n{reload}");
        // The page shows the problem now or in a moment.
        let first = serde_json::to_string(reload.lines().find(|line| !line.starts_with("warning: ")).unwrap()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !proxy.get("/status.json").contains(first.trim_matches('"')) {
            assert!(Instant::now() < deadline, "{first}\n{}", proxy.get("/status.json"));
        }
        let mut check = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        let check = check.args(["check", "--config"]).arg(proxy.configuration()).output().unwrap();
        let check = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
        for (place, said) in
            [("reload", reload), ("check", check), ("page", proxy.get("/")), ("status", proxy.get("/status.json"))]
        {
            for part in ["Tr0ub", "tr0ub", "4dor", "98765"] {
                assert!(!said.contains(part), "{place}\n{configuration}\n{said}");
            }
        }
    }
    let log = proxy.log.all();
    assert!(
        log.contains("rejected; still running with the previous version")
            && !log.contains("Tr0ub")
            && !log.contains("98765"),
        "{log}"
    );
}
