//! Root's `check` runs as the service's user: what that user can read, the ports that it gets, and the credentials
//! that systemd hands over. The tests run as root, as in CI. /etc, /run and the network are each test's own.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use nix::sched::{CloneFlags, unshare};
use support::process::copy_program;

use super::*;

const USER: u32 = 4711;
const GROUP: u32 = 4712;
const CREDENTIALS: &str = "/etc/packetboat/credentials";
const SECRET: &str = "4f1c0-what-root-alone-may-read";

/// Runs a command as root.
pub(crate) fn shell(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A computer on which packetboat is installed. This thread, and what it starts, is on it.
pub(crate) struct Host {
    pub(crate) bench: Bench,
}

impl Host {
    /// Returns none if the test does not run as root.
    pub(crate) fn new() -> Option<Self> {
        let bench = Bench::new();
        if fs::metadata(bench.directory.path()).unwrap().uid() != 0 {
            eprintln!("not root: not tried");
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: run this as root");
        fs::set_permissions(bench.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let etc = bench.path("etc");
        shell(&format!(
            "mount --make-rprivate /; cp -a /etc {etc}; mount --bind {etc} /etc; mount -t tmpfs -o mode=755 tmpfs /run; \
             mkdir -p /etc/packetboat; mkdir -m 700 {CREDENTIALS}; \
             echo packetboat:x:{USER}:{GROUP}::/:/usr/sbin/nologin >>/etc/passwd; \
             echo packetboat:x:{GROUP}: >>/etc/group; echo keys:x:4713:packetboat >>/etc/group; \
             mkdir -m 700 {state}; chown packetboat:packetboat {state}",
            etc = etc.display(),
            state = bench.path("state").display()
        ));
        Some(Self { bench })
    }

    /// Writes a file that root alone can read.
    fn roots(&self, path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(path, Some(0), Some(0)).unwrap();
    }

    /// A configuration: an application with this secret, its account and a device, and a listener on this port.
    fn text(&self, secret: &str, port: u16) -> String {
        let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
        let file = format!("client_secret_file = {secret:?}\n[account.scans]");
        let account = TRANSLATED.split("[account.o]").next().unwrap().replace("[account.scans]", &file);
        format!(
            "[[listener]]\nname = \"imap\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:{port}\"]\n{account}\
             [[device]]\nlogin = \"scanner3\"\npasswords = [\"{hash}\"]\n"
        )
    }

    /// Applies the commands that a message prints.
    fn follow(&self, said: &str) -> String {
        let command = said.split("as root with: ").nth(1).unwrap_or_else(|| panic!("{said}")).lines().next().unwrap();
        shell(command);
        command.to_owned()
    }

    /// A copy of the program where every user can start it.
    fn program(&self) -> PathBuf {
        let copy = self.bench.path("packetboat");
        if !copy.exists() {
            copy_program(&copy);
        }
        copy
    }

    fn output(&self, command: &mut Command) -> Output {
        command.output().unwrap()
    }

    /// Starts the service as its own user.
    fn serve(&self, file: &Path) -> Child {
        let mut command = Command::new(self.program());
        command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0").args(["run", "--config"]).arg(file);
        command.uid(USER).gid(GROUP).stderr(Stdio::piped());
        let mut service = command.spawn().unwrap();
        let mut lines = BufReader::new(service.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("INFO ready")));
        // The service needs a reader of its log.
        std::thread::spawn(move || lines.count());
        service
    }

    /// The files that commands have left in /run.
    fn left(&self) -> Vec<PathBuf> {
        fs::read_dir("/run").unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn root_checks_the_credentials_as_the_service_gets_them() {
    let Some(host) = Host::new() else { return };
    let text = host.text("credential:app.secret", 0);
    let said = err(&host.bench.run(&["check"], &text));
    let by_systemd = format!(
        "systemd-run --pty --collect --uid=packetboat -p LoadCredential=packetboat:{CREDENTIALS} packetboat check --config"
    );
    assert!(said.contains("app.secret is not in /etc/packetboat/credentials") && said.contains(&by_systemd), "{said}");
    host.roots(&Path::new(CREDENTIALS).join("app.secret"), SECRET);
    let output = host.bench.run(&["check"], &text);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).is_empty() && host.left().is_empty(), "{}{:?}", err(&output), host.left());
    // A path in the credentials directory is a mistake: the service's user cannot read it.
    let path = format!("{CREDENTIALS}/app.secret");
    let output = host.bench.run(&["check"], &host.text(&path, 0));
    fails(
        &output,
        69,
        "/etc/packetboat/credentials belongs to root (mode 700), and systemd hands its files over: run this",
    );
    assert!(host.left().is_empty(), "{:?}", host.left());
    // The service's user alone cannot read the credentials.
    let mut command = Command::new(host.program());
    command.args(["check", "--config"]).arg(host.bench.configure(&text)).uid(USER).gid(GROUP);
    fails(&host.output(&mut command), 69, "run this as root, and name the file as \"credential:NAME\"");
}

/// The service's user may write the configuration and lay links. Root reads no other file for it.
#[test]
fn root_hands_over_nothing_but_the_credentials() {
    let Some(host) = Host::new() else { return };
    let (root, trap) = (host.bench.path("root"), Path::new(CREDENTIALS).join("app.secret"));
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    host.roots(&root.join("app.secret"), SECRET);
    let refused = |host: &Host, name: &str, why: &str| {
        let output = host.bench.run(&["check"], &host.text(name, 0));
        assert_ne!(output.status.code(), Some(0), "{name}");
        let said = out(&output) + &err(&output);
        assert!(said.contains(why) && !said.contains(SECRET), "{name}: {said}");
        assert!(host.left().is_empty(), "{name}: {:?}", host.left());
    };
    let elsewhere = format!("credential:../../..{}/app.secret", root.display());
    let absolute = format!("credential:{}/app.secret", root.display());
    for name in [elsewhere.as_str(), &absolute] {
        refused(&host, name, "Permission denied");
    }
    // The credential is a link, which systemd does not follow either, or no file.
    symlink(root.join("app.secret"), &trap).unwrap();
    refused(
        &host,
        "credential:app.secret",
        "cannot be handed over to user packetboat: /etc/packetboat/credentials/app.secret: it is a link",
    );
    fs::remove_file(&trap).unwrap();
    shell(&format!("mkfifo {}", trap.display()));
    refused(&host, "credential:app.secret", "it is no file");
    fs::remove_file(&trap).unwrap();
    // Another user can change the directory, or the one above it.
    host.roots(&trap, SECRET);
    for (directory, owner, mode) in
        [(CREDENTIALS, USER, 0o700), (CREDENTIALS, 0, 0o770), ("/etc/packetboat", USER, 0o755)]
    {
        chown(directory, Some(owner), Some(GROUP)).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        let why = format!("{directory} can be changed by others than root (owner {owner}, mode {mode:03o})");
        refused(&host, "credential:app.secret", &why);
        chown(directory, Some(0), Some(0)).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::rename(CREDENTIALS, "/etc/packetboat/real").unwrap();
    symlink(&root, CREDENTIALS).unwrap();
    lchown(CREDENTIALS, Some(USER), Some(GROUP)).unwrap();
    refused(&host, "credential:app.secret", "/etc/packetboat/credentials is no directory, or a link to one");
}

#[test]
fn what_killed_commands_have_left_is_removed_and_no_link_is_followed() {
    let Some(host) = Host::new() else { return };
    host.roots(&Path::new(CREDENTIALS).join("app.secret"), SECRET);
    host.roots(&host.bench.path("kept"), SECRET);
    let left = Path::new("/run/packetboat-credentials-0123456789abcdef");
    fs::create_dir_all(left.join("credentials")).unwrap();
    symlink(host.bench.path("kept"), left.join("credentials/link")).unwrap();
    symlink(host.bench.directory.path(), left.join("credentials/directory")).unwrap();
    // A link is no directory that packetboat has made.
    symlink(host.bench.directory.path(), "/run/packetboat-credentials-link").unwrap();
    assert!(host.bench.run(&["check"], &host.text("credential:app.secret", 0)).status.success());
    assert_eq!(host.left(), [Path::new("/run/packetboat-credentials-link")]);
    assert_eq!(fs::read_to_string(host.bench.path("kept")).unwrap(), SECRET);
}

/// Root's check reports what the service's user cannot read. The printed commands let that user's group read it.
#[test]
fn root_checks_what_the_services_user_can_read() {
    let Some(host) = Host::new() else { return };
    let secret = host.bench.path("app.secret");
    let text = host.text(secret.to_str().unwrap(), 0);
    host.roots(&secret, SECRET);
    let output = host.bench.run(&["check"], &text);
    fails(&output, 69, "app.secret: Permission denied");
    let shown = secret.display();
    assert_eq!(host.follow(&err(&output)), format!("chown root:packetboat {shown}; chmod 640 {shown}"));
    let about = fs::metadata(&secret).unwrap();
    assert_eq!((about.uid(), about.gid(), about.mode() & 0o777), (0, GROUP, 0o640));
    let output = host.bench.run(&["check"], &text);
    assert!(output.status.success(), "{}", err(&output));
    // The user may read the file as a member of another group.
    chown(&secret, Some(0), Some(4713)).unwrap();
    let output = host.bench.run(&["check"], &text);
    assert!(output.status.success(), "{}", err(&output));
    // An editor has left the configuration to root alone.
    let file = host.bench.configure(&text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let check =
        || Command::new(env!("CARGO_BIN_EXE_packetboat")).args(["check", "--config"]).arg(&file).output().unwrap();
    let output = check();
    fails(&output, 66, "packetboat.toml: the service's user packetboat cannot read it: ");
    let shown = file.display();
    assert_eq!(host.follow(&err(&output)), format!("chown root:packetboat {shown}; chmod 640 {shown}"));
    assert!(check().status.success());
}

#[test]
fn a_reload_names_the_user_that_cannot_read_the_file() {
    let Some(host) = Host::new() else { return };
    let secret = host.bench.path("app.secret");
    host.roots(&secret, SECRET);
    chown(&secret, Some(0), Some(GROUP)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let file = host.bench.configure(&host.text(secret.to_str().unwrap(), 0));
    let mut service = host.serve(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let id = service.id().to_string();
    let reload = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(["reload", "--pid", &id, "--config"]).arg(&file).output().unwrap()
    };
    let output = reload();
    fails(&output, 78, "packetboat.toml: the service's user packetboat cannot read it: ");
    assert!(err(&output).contains("still runs with the previous configuration"), "{}", err(&output));
    host.follow(&err(&output));
    let output = reload();
    assert!(output.status.success() && out(&output).contains("configuration reloaded"), "{}", err(&output));
    service.kill().unwrap();
    service.wait().unwrap();
}

/// The service gets a port below 1024 from systemd alone. Root sees which program has it.
#[test]
fn root_checks_the_ports_that_the_service_gets() {
    let Some(host) = Host::new() else { return };
    host.roots(&Path::new(CREDENTIALS).join("app.secret"), SECRET);
    let check = |port| host.bench.run(&["check"], &host.text("credential:app.secret", port));
    for (port, way_out) in [(993, "systemctl enable --now packetboat-imaps.socket"), (994, "a socket unit")] {
        let words = format!("cannot listen on 127.0.0.1:{port}: ports below 1024 need systemd to open them ({way_out}");
        fails(&check(port), 69, &words);
    }
    let output = check(1993);
    assert!(output.status.success(), "{}", err(&output));
    // systemd or another program has the port, which only root can see.
    for (name, code) in [("systemd", 0), ("dovecot", 69)] {
        let program = host.bench.path(name);
        symlink("/usr/bin/python3", &program).unwrap();
        let script = "import socket; s = socket.create_server((\"127.0.0.1\", 993)); print(1, flush=True); input()";
        let mut command = Command::new(&program);
        let mut held = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        held.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let output = check(993);
        let (id, said) = (held.id(), out(&output) + &err(&output));
        held.kill().unwrap();
        held.wait().unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let words = match name {
            "systemd" => "IMAP on 127.0.0.1:993 (opened by systemd: fine)".to_owned(),
            _ => format!("cannot listen on 127.0.0.1:993: the port is in use by {name}, process {id}"),
        };
        assert!(said.contains(&words), "{words}: {said}");
    }
}

/// In a container root may lack the capability to change users. Then it writes nothing in the service's directory.
#[test]
fn root_without_the_right_to_change_users_says_so() {
    let Some(host) = Host::new() else { return };
    let secret = host.bench.path("app.secret");
    host.roots(&secret, SECRET);
    let file = host.bench.configure(&host.text(secret.to_str().unwrap(), 0));
    let run = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-setuid,-setgid", env!("CARGO_BIN_EXE_packetboat")]);
        command.args(arguments).arg("--config").arg(&file).output().unwrap()
    };
    let output = run(&["check"]);
    assert!(output.status.success(), "{}", err(&output));
    let warning = "warning: checked as root, because it may not go on as user packetboat: Operation not permitted";
    assert!(err(&output).starts_with(warning), "{}", err(&output));
    for arguments in [&["check", "--online"][..], &["login", "scans"], &["reload"], &["certificate", "renew"]] {
        fails(&run(arguments), 71, "cannot go on as user 4711");
    }
    assert!(leftovers(&host.bench.path("state")).is_empty());
}
