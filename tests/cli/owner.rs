//! These tests prove that root's commands are safe in another user's state directory. They follow none of its links,
//! neither read nor write root's files, and sign nothing with root's keys.
//!
//! The tests run as root, as CI does; another user cannot lay such a trap.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{chown, lchown, symlink};
use std::process::Stdio;

use super::*;

const OWNER: u32 = 65_534;
const SECRET: &str = "4f1c0-what-root-alone-may-read";

/// Every file and directory that packetboat has in its state directory.
const NAMES: [&str; 14] = [
    "ca.pem",
    "ca.key",
    "ca.der",
    "default.pem",
    "default.key",
    "certificates.lock",
    "lock",
    "running",
    "reload",
    "store.key",
    "inventory.json",
    "known-devices",
    "tokens",
    "tokens/lock",
];

/// Every command that reads the state directory.
const COMMANDS: [&[&str]; 19] = [
    &["check"],
    &["check", "--online"],
    &["certificate", "show"],
    &["certificate", "export"],
    &["certificate", "export", "--der"],
    &["certificate", "export", "--output", "OUT"],
    &["certificate", "export", "--der", "--output", "OUT"],
    &["certificate", "renew"],
    &["devices"],
    &["devices", "--json"],
    &["health"],
    &["reload"],
    &["login", "scans"],
    &["logout", "scans"],
    &["setup"],
    &["device", "list"],
    &["device", "sheet", "scanner3"],
    &["account", "list"],
    &["init", "--yes", "--dry-run", "--replace", "--tenant", "contoso.example", "--devices", "/dev/null"],
];

struct Trap {
    bench: Bench,
    configuration: String,
}

impl Trap {
    /// A trap, or `None` where the test does not run as root.
    fn new() -> Option<Self> {
        let bench = Bench::new();
        if fs::metadata(bench.directory.path()).unwrap().uid() != 0 {
            eprintln!("not root: not tried");
            return None;
        }
        // The owner can enter its own directory.
        fs::set_permissions(bench.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(bench.path("root")).unwrap();
        fs::set_permissions(bench.path("root"), fs::Permissions::from_mode(0o700)).unwrap();
        let configuration = format!(
            "{}[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\ngrant = \"device-code\"\n\
             token_endpoint = \"http://127.0.0.1:1/\"\ndevice_endpoint = \"http://127.0.0.1:1/\"\n\
             [account.scans]\nmailbox = \"scans@contoso.example\"\nupstream = \"x\"\n[upstream.x]\nhost = \"localhost\"\n\
             [[device]]\nlogin = \"scanner3\"\naccount = \"scans\"\npasswords = [\"{}\"]\n",
            listener(""),
            edit::HASH
        );
        let trap = Self { bench, configuration };
        trap.make_state();
        Some(trap)
    }

    fn make_state(&self) {
        let state = self.bench.path("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&state, Some(OWNER), Some(OWNER)).unwrap();
    }

    fn roots(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.bench.path("root").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Lays a link as the owner.
    fn lay(&self, name: &str, target: &Path) {
        let link = self.bench.path("state").join(name);
        if let Some(directory) = link.parent().filter(|directory| !directory.exists()) {
            fs::create_dir(directory).unwrap();
            lchown(directory, Some(OWNER), Some(OWNER)).unwrap();
        }
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        lchown(&link, Some(OWNER), Some(OWNER)).unwrap();
    }

    /// Starts the service as root, ends it once it is ready, and returns its output.
    fn serve(&self) -> String {
        let file = self.bench.configure(&self.configuration.replace("logins = \"pass-through\"", "observe = true"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0").args(["run", "--config"]).arg(file);
        let mut service = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(service.stderr.take().unwrap()).lines().map_while(Result::ok) {
            if line.contains("INFO ready") {
                assert!(Command::new("kill").arg(service.id().to_string()).status().unwrap().success());
            }
            said += &(line + "\n");
        }
        service.wait().unwrap();
        said
    }

    /// Runs a command as root; returns its output, and the content of the file that the command wrote.
    fn run(&self, command: &[&str]) -> String {
        let out = self.bench.path("exported");
        let command: Vec<&str> =
            command.iter().map(|one| if *one == "OUT" { out.to_str().unwrap() } else { one }).collect();
        let output = self.bench.run(&command, &self.configuration);
        let written = fs::read(&out).unwrap_or_default();
        let _ = fs::remove_file(&out);
        String::from_utf8_lossy(&[output.stdout, output.stderr, written].concat()).into_owned()
    }
}

/// A warning names the owner, because links laid later concern the running service.
#[test]
fn root_is_warned_in_another_users_directory() {
    let Some(trap) = Trap::new() else { return };
    let said = trap.serve();
    assert!(said.contains("belongs to user 65534") && said.contains("run packetboat as that user"), "{said}");
    let state = trap.bench.path("state");
    for name in fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()).chain([state.clone()]) {
        chown(name, Some(0), Some(0)).unwrap();
    }
    let said = trap.serve();
    assert!(said.contains("ready") && !said.contains("belongs to user"), "{said}");
}

#[test]
fn root_follows_no_link_of_another_user_to_its_files() {
    let Some(trap) = Trap::new() else { return };
    let secret = trap.roots("secret", SECRET.as_bytes());
    let both = NAMES.iter().flat_map(|name| [(name, true), (name, false)]);
    // Only certificates depend on files that exist already.
    for (name, is_made) in both.filter(|(name, is_made)| *is_made || name.contains('.')) {
        if is_made {
            // `certificate renew` leaves the files that a service leaves.
            trap.run(&["certificate", "renew"]);
            assert!(trap.bench.path("state/default.pem").exists());
        }
        trap.lay(name, &secret);
        for command in COMMANDS {
            let said = trap.run(command);
            assert!(!said.contains(SECRET), "{name}, {command:?}: {said}");
            assert_eq!(fs::read(&secret).unwrap(), SECRET.as_bytes(), "{name}, {command:?}");
            let about = fs::metadata(&secret).unwrap();
            assert_eq!((about.uid(), about.mode() & 0o777), (0, 0o600), "{name}, {command:?}");
        }
        fs::remove_dir_all(trap.bench.path("state")).unwrap();
        trap.make_state();
    }
    // Root starts the service itself in this directory.
    let mut is_served = false;
    for name in NAMES {
        trap.run(&["certificate", "renew"]);
        trap.lay(name, &secret);
        let said = trap.serve();
        assert!(!said.contains(SECRET) && (said.contains("INFO ready") || said.contains("ERROR")), "{name}: {said}");
        is_served |= said.contains("INFO ready");
        assert_eq!(fs::read(&secret).unwrap(), SECRET.as_bytes(), "{name}");
        let about = fs::metadata(&secret).unwrap();
        assert_eq!((about.uid(), about.mode() & 0o777), (0, 0o600), "{name}");
        fs::remove_dir_all(trap.bench.path("state")).unwrap();
        trap.make_state();
    }
    assert!(is_served);
    // A directory of root's replaces one of the service's.
    trap.lay("tokens", &trap.bench.path("root"));
    for command in COMMANDS {
        trap.run(command);
    }
    let there: Vec<_> =
        fs::read_dir(trap.bench.path("root")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["secret"]);
}

#[test]
fn root_signs_nothing_with_a_ca_behind_another_users_links() {
    let Some(trap) = Trap::new() else { return };
    let key = rsa();
    trap.bench.certificate("roots-own-ca", &key);
    let pem = fs::read(trap.bench.path("roots-own-ca.pem")).unwrap();
    let (chain, key_file) =
        (trap.roots("ca.pem", &pem), trap.roots("ca.key", &key.private_key_to_pem_pkcs8().unwrap()));
    // The certificate exists in the first round, and not in the second.
    for is_made in [true, false] {
        if is_made {
            trap.run(&["certificate", "show"]);
            assert!(trap.bench.path("state/default.pem").exists());
        }
        trap.lay("ca.pem", &chain);
        trap.lay("ca.key", &key_file);
        for command in COMMANDS {
            let said = trap.run(command);
            assert!(!said.contains("roots-own-ca"), "{command:?}: {said}");
            assert!(!said.as_bytes().windows(64).any(|part| part == &pem[100..164]), "{command:?}: {said}");
            let signed = fs::read(trap.bench.path("state/default.pem")).ok();
            let is_signed = |pem: Vec<u8>| X509::from_pem(&pem).unwrap().verify(&key).unwrap();
            assert!(!signed.is_some_and(is_signed), "{command:?}");
        }
        for name in ["ca.pem", "ca.key", "default.pem", "default.key"] {
            let _ = fs::remove_file(trap.bench.path("state").join(name));
        }
    }
}

/// Root's own export goes to a file of root's.
#[test]
fn root_exports_the_services_ca_to_a_file_of_its_own() {
    let Some(trap) = Trap::new() else { return };
    let file = trap.bench.path("root/exported.pem");
    let output = trap.bench.run(&["certificate", "export", "-o", file.to_str().unwrap()], &trap.configuration);
    assert!(output.status.success() && out(&output).contains("wrote "), "{}", err(&output));
    let exported = fs::read(&file).unwrap();
    assert_eq!(fs::read(trap.bench.path("state/ca.pem")).unwrap(), exported);
    assert_eq!(
        (fs::metadata(&file).unwrap().uid(), fs::metadata(trap.bench.path("state/ca.key")).unwrap().uid()),
        (0, OWNER)
    );
    assert!(X509::from_pem(&exported).is_ok());
    let output = trap.bench.run(&["certificate", "export", "--der"], &trap.configuration);
    assert!(X509::from_der(&output.stdout).is_ok(), "{}", err(&output));
}
