//! Root runs `packetboat check --online` on a machine whose service has its secret from systemd. Root hands the secret
//! over for as long as the check takes.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use support::exchange::*;
use support::process::{PATIENCE, Process};

const USER: u32 = 4711;
const CREDENTIALS: &str = "/etc/packetboat/credentials";
const CHECK: &[&str] = &["check", "--online"];

fn shell(command: &str) {
    assert!(Command::new("sh").args(["-ec", command]).status().unwrap().success(), "run this as root: {command}");
}

/// Starts the pretend Exchange. /etc and /run are this thread's own, and only root can read the secret.
fn host() -> (Exchange, String) {
    let exchange = Exchange::new();
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: run this as root");
    let state = exchange.state();
    let directory = state.parent().unwrap().display();
    shell(&format!(
        "mount --make-rprivate /; cp -a /etc {directory}/etc; mount --bind {directory}/etc /etc; \
         mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /etc/packetboat; mkdir -m 700 {CREDENTIALS} {directory}/state; \
         mv {directory}/SECRET {CREDENTIALS}/app.secret; chmod 755 {directory} {directory}/simulator"
    ));
    chown(&state, Some(USER), Some(USER)).unwrap();
    let configuration = exchange.configuration("client_secret_file = \"credential:app.secret\"");
    (exchange, configuration)
}

/// The files that commands have left in /run.
fn left() -> Vec<PathBuf> {
    fs::read_dir("/run").unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Waits until the condition returns a value.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The first child of a process.
fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    let of_threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let all = of_threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    all.chain([children]).find_map(|children| children.split_whitespace().next()?.parse().ok())
}

#[test]
fn root_tries_the_accounts_with_the_credentials_of_the_service() {
    let (exchange, configuration) = host();
    for _ in 0..2 {
        let ran = exchange.run(CHECK, &configuration);
        assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
        assert!(ran.output.contains("identity office: token ok: "), "{}", ran.output);
        assert!(ran.output.ends_with("\n1 of 1 account ready\n"), "{}", ran.output);
        assert!(left().is_empty(), "{:?}", left());
    }
    // The exit code is that of the check.
    fs::write(format!("{CREDENTIALS}/app.secret"), "the-id-of-the-secret").unwrap();
    let ran = exchange.run(CHECK, &configuration);
    assert!(ran.code == 69 && ran.output.contains("AADSTS7000215"), "{}{}", ran.output, ran.errors);
    assert!(!(ran.output + &ran.errors).contains("the-id-of-the-secret") && left().is_empty());
}

/// A signal ends the check while it waits for the mail server. The copies of the credentials are gone then, or the next
/// check removes them.
#[test]
fn the_credentials_end_with_the_check() {
    let (exchange, configuration) = host();
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::from_secs(600));
    let begin = || {
        let before = exchange.simulator.counts().mail_connections;
        let mut command = exchange.command(CHECK, &configuration);
        let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        exchange.until("login", |counts| counts.mail_connections > before);
        process
    };
    for (signal, code) in [("TERM", Some(143)), ("HUP", Some(129)), ("KILL", None)] {
        let mut check = begin();
        let id = check.0.id();
        let child = until("a process of the service's user", || child_of(id));
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n")), "{status}");
        let outer = left().into_iter().next().unwrap();
        let inner = outer.join("credentials");
        let about = fs::metadata(&inner).unwrap();
        assert_eq!((about.uid(), about.mode() & 0o777), (USER, 0o700));
        assert_eq!(fs::read_to_string(inner.join("packetboat_app.secret")).unwrap(), SECRET);
        // Arguments and environment do not hold the secret.
        for process in [id, child] {
            for file in ["cmdline", "environ"] {
                let text = fs::read(format!("/proc/{process}/{file}")).unwrap();
                assert!(!text.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{file}");
            }
        }
        check.signal(signal);
        assert_eq!(check.wait().code(), code, "{signal}");
        if signal == "KILL" {
            assert_eq!(left(), [outer.as_path()]);
            // The child goes on without its parent.
            assert!(Command::new("kill").arg(child.to_string()).status().unwrap().success());
        } else {
            assert!(left().is_empty(), "{signal}: {:?}", left());
            assert!(!Path::new(&format!("/proc/{child}/fd")).exists(), "{signal}: the child goes on");
        }
    }
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::ZERO);
    let ran = exchange.run(CHECK, &configuration);
    assert!(ran.code == 0 && left().is_empty(), "{}{}{:?}", ran.output, ran.errors, left());
}

/// Root signs a person in. The service's user owns the sign-in, and systemd's key seals it.
#[test]
fn root_signs_a_person_in_with_the_credentials_of_the_service() {
    let (exchange, _) = host();
    let configuration = "store_key = \"credential:store.key\"\n".to_owned() + &exchange.configuration(BY_PERSON);
    let key = format!("{CREDENTIALS}/store.key");
    fs::write(&key, [7; 32]).unwrap();
    mode(Path::new(&key), 0o600);
    exchange.sign_in(&configuration);
    assert!(left().is_empty(), "{:?}", left());
    let tokens = exchange.tokens();
    assert!(tokens.len() == 1 && fs::metadata(&tokens[0]).unwrap().uid() == USER, "{tokens:?}");
    assert!(!exchange.state().join("store.key").exists(), "another key was made");
    let ran = exchange.run(CHECK, &configuration);
    assert!(ran.code == 0 && ran.output.contains(&format!("identity office, {SCAN}: token ok: ")), "{}", ran.output);
    fs::write(&key, [8; 32]).unwrap();
    let ran = exchange.run(CHECK, &configuration);
    assert!(ran.code == 69 && ran.output.contains("put the old key back"), "{}{}", ran.output, ran.errors);
}

/// A terminal sends its interrupt to both processes. The parent waits for the child.
#[test]
fn an_interrupt_leaves_nothing() {
    let (exchange, configuration) = host();
    exchange.quirk(|quirks| quirks.mail.greeting_delay = Duration::from_secs(600));
    let mut command = exchange.command(CHECK, &configuration);
    let mut check = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    exchange.until("login", |counts| counts.mail_connections > 0);
    let child = until("a process of the service's user", || child_of(check.0.id()));
    // The parent ignores the signal.
    check.signal("INT");
    assert!(Command::new("kill").args(["-INT", &child.to_string()]).status().unwrap().success());
    assert_eq!(check.wait().code(), Some(130));
    assert!(left().is_empty(), "{:?}", left());
}
