//! A credential is a copy of the time at which the service started: after a change a reload says that it must start anew.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A service that was started with this directory of credentials. It is killed when this is dropped.
pub(crate) struct Service(pub(crate) Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn packetboat(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.args(arguments).arg("--config").arg(bench.path("packetboat.toml")).stdin(Stdio::null());
    command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0");
    command
}

/// Starts the service as systemd does, and waits until it is ready.
pub(crate) fn start(bench: &Bench) -> Service {
    let mut command = packetboat(bench, &["run"]);
    command.env("CREDENTIALS_DIRECTORY", bench.path("handed-over")).stdout(Stdio::null()).stderr(Stdio::null());
    let service = Service(command.spawn().unwrap());
    let begun = Instant::now();
    while !packetboat(bench, &["health"]).output().unwrap().status.success() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the service does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    service
}

/// The pair is renewed in place: the certificate by its path, the key as a credential.
#[test]
fn a_renewed_pair_needs_a_restart_and_the_message_says_so() {
    let bench = Bench::new();
    let hand_over = || fs::copy(bench.path("app.key"), bench.path("handed-over/packetboat_app.key")).unwrap();
    bench.certificate("app", &rsa());
    fs::create_dir(bench.path("handed-over")).unwrap();
    hand_over();
    bench.configure(&format!(
        "{}[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
         certificate = {:?}\nkey = \"credential:app.key\"\n[account.scans]\nmailbox = \"scans@contoso.example\"\n\
         [[device]]\nlogin = \"scanner3\"\npasswords = [\"{}\"]\n",
        listener("").replace("logins = \"pass-through\"\n", ""),
        bench.path("app.pem"),
        edit::HASH
    ));
    let service = start(&bench);
    let reload = || packetboat(&bench, &["reload", "--pid", &service.0.id().to_string()]).output().unwrap();
    assert!(reload().status.success(), "{}", err(&reload()));
    bench.certificate("app", &rsa());
    let refused = reload();
    assert_ne!(refused.status.code(), Some(0));
    let words = "packetboat_app.key is not the key of the first certificate in ";
    assert!(err(&refused).contains(words), "{}", err(&refused));
    let advice = "credentials are handed over when the service starts: if the pair has been changed since, run systemctl \
                  restart packetboat";
    assert!(err(&refused).contains(advice), "{}", err(&refused));
    drop(service);
    // A restart hands the credential over; these lines do the same.
    hand_over();
    let service = start(&bench);
    let reloaded = packetboat(&bench, &["reload", "--pid", &service.0.id().to_string()]).output().unwrap();
    assert!(reloaded.status.success(), "{}", err(&reloaded));
}
