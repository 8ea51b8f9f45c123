//! This test proves the package on a system booted by systemd: install, socket activation, reload under load, watchdog,
//! drain.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use crate::engine::{Engine, PATIENCE, alone, binary, package};

/// A container whose first process is systemd.
pub struct Machine {
    engine: Engine,
}

impl Machine {
    /// Boots Debian 12.
    pub fn boot() -> Self {
        Self::boot_suite("bookworm")
    }

    /// Boots this suite of Debian.
    pub fn boot_suite(suite: &str) -> Self {
        let engine = Engine::with(suite, "amd64");
        // The container is as privileged as systemd requires. It has its own cgroup tree, and mounts that it can
        // propagate. It loads no kernel module.
        let boot = "umount -R /sys/fs/cgroup; mount -o remount,rw /sys; mount --make-rshared /; exec /sbin/init";
        let arguments = "run -d --name machine --network none --cgroupns=private --stop-signal SIGRTMIN+3 --cap-add ALL \
                         --cap-drop SYS_RESOURCE --cap-drop SYS_MODULE --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                         --security-opt systempaths=unconfined --tmpfs /run --tmpfs /run/lock --tmpfs /tmp \
                         --env container=docker";
        let image = format!("debian:{suite}-slim");
        let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
        arguments.extend([&image, "sh", "-c", boot]);
        engine.ok(&arguments);
        engine.until("boot", &["exec", "machine", "systemctl", "is-system-running"], "running");
        Self { engine }
    }

    /// Boots, with the package built and copied to `/root/packetboat.deb`.
    pub fn with_package() -> Self {
        let machine = Self::boot();
        machine.bring("debian", "/root/packetboat.deb");
        machine
    }

    /// Makes a package with `config/KIND/build.sh`, and copies it to this path.
    pub fn bring(&self, kind: &str, to: &str) {
        self.bring_with(kind, binary(), to);
    }

    /// Makes a package of another program than this machine's release.
    pub fn bring_with(&self, kind: &str, program: &Path, to: &str) {
        let directory = tempfile::tempdir().unwrap();
        self.copy(&package(kind, program, directory.path()), to);
    }

    /// The installed package observes: a device that connects is in the inventory at once.
    pub fn observes(&self) {
        self.until("systemctl is-active packetboat", "active");
        for socket in ["imap", "imaps", "pop3", "pop3s"] {
            assert_eq!(self.ok(&format!("systemctl is-active packetboat-{socket}.socket")), "active");
        }
        let hello = "printf 'a LOGIN scanner3 secret\\r\\na LOGOUT\\r\\n' | openssl s_client -quiet -tls1 -cipher \
                     AES128-SHA:@SECLEVEL=0 -connect 127.0.0.1:993";
        let said = self.ok(hello);
        assert!(said.contains("* OK [CAPABILITY IMAP4rev1") && said.contains("a NO [UNAVAILABLE]"), "{said}");
        let devices = self.ok("packetboat devices");
        assert!(devices.contains("needs packetboat: TLS 1.0 only") && devices.contains("scanner3"), "{devices}");
        assert!(self.ok("packetboat health --ready").contains("ready"));
    }

    /// Runs a shell command; returns its exit code and output.
    pub fn shell(&self, command: &str) -> (i32, String) {
        let output = self.engine.docker(&["exec", "machine", "sh", "-c", &format!("{{ {command}; }} 2>&1")]);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub fn ok(&self, command: &str) -> String {
        let (code, said) = self.shell(command);
        assert_eq!(code, 0, "{command}: {said}\n{}", self.journal());
        said
    }

    pub fn until(&self, command: &str, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let (_, said) = self.shell(command);
            if said.contains(words) {
                return said;
            }
            assert!(begun.elapsed() < PATIENCE, "{command}: no {words} in {said}\n{}", self.journal());
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    pub fn journal(&self) -> String {
        self.shell("journalctl -u packetboat --no-pager | tail -60").1
    }

    pub fn copy(&self, file: &Path, to: &str) {
        self.engine.ok(&["cp", file.to_str().unwrap(), &format!("machine:{to}")]);
    }

    pub fn write(&self, path: &str, content: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        self.engine.ok(&["cp", file.path().to_str().unwrap(), &format!("machine:{path}")]);
    }

    /// Starts devices that go on until the guard ends; returns once all are in.
    fn load(&self, kind: &str, count: u32) -> Load<'_> {
        let stop = format!("/root/stop-{kind}-{}", self.ok("date +%s%N"));
        let (count, port) = (count.to_string(), "993");
        let mut command = self.engine.command("/usr/bin/docker");
        command.args([
            "exec",
            "machine",
            "python3",
            "/root/load.py",
            kind,
            port,
            "scanner3",
            "k7m2xp9at",
            &count,
            &stop,
        ]);
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // ls would name the file also where it is missing.
        self.until(&format!("test -e {stop}.ready && echo all are in"), "all are in");
        Load { machine: self, running: Some(running), stop }
    }
}

struct Load<'a> {
    machine: &'a Machine,
    running: Option<std::process::Child>,
    stop: String,
}

impl Load<'_> {
    /// Ends the load, checks that no device has failed, and returns the number of sessions.
    fn end(mut self) -> u64 {
        self.machine.ok(&format!("touch {}", self.stop));
        let output = self.running.take().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains(" faults=0 "),
            "{said}{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            self.machine.journal()
        );
        println!("{} {}", self.stop, said.trim());
        said.split(['=', ' ']).nth(1).unwrap().parse().unwrap()
    }
}

#[test]
fn the_package_on_a_booted_system() {
    let _alone = alone();
    let machine = Machine::with_package();
    machine.write("/root/load.py", include_str!("load.py"));

    machine.ok("dpkg -i /root/packetboat.deb");
    machine.observes();
    // Many hosts have a mail server at these ports.
    for socket in ["smtp", "smtps", "smtp-25"] {
        machine.ok(&format!("! systemctl --quiet is-enabled packetboat-{socket}.socket"));
        machine.ok(&format!("! systemctl --quiet is-active packetboat-{socket}.socket"));
    }
    for page in ["packetboat.1", "packetboat-reload.1"] {
        machine.ok(&format!("zcat /usr/share/man/man1/{page}.gz | grep -q packetboat"));
    }

    machine.ok("systemd-analyze verify --man=no /lib/systemd/system/packetboat.service /lib/systemd/system/packetboat-*.socket");
    // The exposure score is low, and systemd, not the process, has bound the ports.
    let exposure = machine.ok("systemd-analyze security --no-pager --threshold=15 packetboat.service | tail -1");
    println!("{exposure}");
    let status = machine.ok("cat /proc/$(systemctl show -P MainPID packetboat)/status");
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{status}");
    }
    let journal = machine.ok("journalctl -u packetboat -o json --no-pager");
    assert!(journal.contains("\"PRIORITY\":\"6\"") && !journal.contains("<6>"), "levels are the journal's own");
    for one in ["confined by Landlock", "confined by seccomp"] {
        assert!(journal.contains(one) && !journal.contains(&format!("not {one}")), "{one}: {journal}");
    }

    serve_for_real(&machine);
    restart_and_upgrade(&machine);
    watchdog(&machine);
    drain(&machine);
    machine.ok("dpkg --purge packetboat");
    assert_eq!(machine.shell("ls /var/lib/packetboat /etc/packetboat/credentials").0, 2, "purged");
}

/// Serves against the demonstration's Exchange Online, with a secret that only systemd can read, and reloads under
/// load.
fn serve_for_real(machine: &Machine) {
    machine.ok("systemd-run --unit demo packetboat demo --state-directory /var/lib/demo");
    let demo = machine.until("cat /var/lib/demo/packetboat.toml", "[[listener]]");
    machine.until("ls /var/lib/demo", "ca.pem");
    machine.ok("install -m 600 /var/lib/demo/client-secret /etc/packetboat/credentials/secret");
    // The service cannot read the demonstration's directory.
    machine.ok("install -m 644 /var/lib/demo/exchange/ca.pem /etc/packetboat/exchange.pem || install -m 644 $(grep -m1 ^roots /var/lib/demo/packetboat.toml | cut -d'\"' -f2) /etc/packetboat/exchange.pem");
    let upstream: String = demo
        .split("\n[")
        .filter(|section| {
            section.starts_with("identity.") || section.starts_with("upstream.") || section.starts_with("account.")
        })
        .map(|section| format!("[{section}\n"))
        .collect();
    let upstream: Vec<String> = upstream
        .lines()
        .map(|line| match line.split(" =").next() {
            Some("client_secret_file") => "client_secret_file = \"credential:secret\"".to_owned(),
            Some("roots") => "roots = \"/etc/packetboat/exchange.pem\"".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let hash = machine.ok("printf k7m2xp9at | packetboat password --stdin | grep -o '\\$argon2id[^\" ]*' | head -1");
    let configuration = |more: &str| {
        format!(
            "{}\n[limits]\ndrain_timeout = \"3s\"\nsessions_per_mailbox = 16\nconnections_per_source = 200\n{more}\n\
             [[device]]\nlogin = \"scanner3\"\npasswords = [\"{hash}\"]\n\
             [[listener]]\nname = \"imaps\"\nprotocol = \"imap\"\nlisten = [\"0.0.0.0:993\", \"[::]:993\"]\nentry = \"implicit\"\n",
            upstream.join("\n")
        )
    };
    machine.write("/etc/packetboat/packetboat.toml", &configuration(""));
    machine.ok("systemctl restart packetboat");
    machine.until("packetboat health --ready", "ready");
    let journal = machine.journal();
    assert!(
        journal.contains("0.0.0.0:143 was handed over by the service manager, and no listener has it"),
        "{journal}"
    );

    check_as_root(machine, &configuration(""));

    // The service closes connections to a socket that no listener serves.
    machine.ok(
        "python3 -c 'import socket; s = socket.create_connection((\"127.0.0.1\", 143), 10); assert s.recv(1) == b\"\"'",
    );

    let sessions = machine.load("sessions", 15);
    for number in 0..10 {
        let more = format!("idle_timeout = \"{}m\"", 40 + number);
        machine.write("/etc/packetboat/packetboat.toml", &configuration(&more));
        machine.ok("systemctl reload packetboat");
    }
    machine.ok("packetboat certificate renew");
    machine.until("journalctl -u packetboat --no-pager", "certificates reloaded; open sessions are unaffected");
    // A refused configuration names its reason in the journal, fails by its exit code, and changes nothing.
    machine.write("/etc/packetboat/packetboat.toml", &configuration("idle_timeot = \"1m\""));
    assert_ne!(machine.shell("systemctl reload packetboat").0, 0);
    machine.until("journalctl -u packetboat --no-pager", "unknown key `idle_timeot`; did you mean `idle_timeout`?");
    machine.write("/etc/packetboat/packetboat.toml", &configuration(""));
    machine.ok("systemctl reload packetboat; systemctl is-active packetboat");
    assert!(sessions.end() > 100);
}

/// Root's check has the credentials, the groups and the ports of the service, as systemd has them.
fn check_as_root(machine: &Machine, configuration: &str) {
    let said = machine.ok("packetboat check --online");
    for words in ["on 0.0.0.0:993, [::]:993 (opened by systemd: fine).", "identity office: token ok: ", " ready"] {
        assert!(said.contains(words) && !said.contains("not ready"), "{words}: {said}");
    }
    assert_eq!(machine.ok("ls /run | grep -c packetboat-credentials || true"), "0");
    // Docker gives the low ports of its networks to everybody.
    machine.ok("sysctl -w net.ipv4.ip_unprivileged_port_start=1024");
    machine.ok("install -m 640 -g mail /etc/packetboat/credentials/secret /etc/packetboat/secret");
    let file = "\"/etc/packetboat/secret\"";
    let text = configuration.replace(":993\"", ":994\"").replace("\"credential:secret\"", file);
    machine.write("/etc/packetboat/other.toml", &text);
    let check = "packetboat check --config /etc/packetboat/other.toml";
    let (code, said) = machine.shell(check);
    assert_eq!(code, 69, "{said}");
    for words in ["994: ports below 1024 need systemd to open them", "chown root:packetboat /etc/packetboat/secret; "] {
        assert!(said.contains(words), "{words}: {said}");
    }
    machine.ok("mkdir -p /etc/systemd/system/packetboat.service.d");
    let rights = "[Service]\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n\
                  SupplementaryGroups=mail\n";
    machine.write("/etc/systemd/system/packetboat.service.d/rights.conf", rights);
    machine.ok("systemctl daemon-reload");
    machine.ok(check);
    machine.ok("rm /etc/systemd/system/packetboat.service.d/rights.conf; systemctl daemon-reload");
    // As an editor leaves the file; the commands that are printed mend it.
    machine.ok("chmod 600 /etc/packetboat/packetboat.toml");
    let (code, said) = machine.shell("packetboat reload");
    let command = said.lines().find_map(|line| Some(line.split_once("mend it as root with: ")?.1));
    assert!(code == 78 && said.contains("the service's user packetboat cannot read it"), "{code} {said}");
    machine.ok(command.unwrap());
    assert!(machine.ok("packetboat reload").contains("configuration reloaded"));
}

/// A new process and a new package take the sockets over; devices that connect meanwhile wait, and none is refused.
fn restart_and_upgrade(machine: &Machine) {
    let newcomers = machine.load("newcomers", 4);
    machine.ok("systemctl restart packetboat");
    machine.ok("dpkg -i /root/packetboat.deb");
    machine.until("packetboat health", "alive");
    assert!(newcomers.end() > 10);
}

/// systemd kills and restarts a stuck process, and devices reconnect by themselves.
fn watchdog(machine: &Machine) {
    machine.ok("mkdir -p /etc/systemd/system/packetboat.service.d");
    machine
        .write("/etc/systemd/system/packetboat.service.d/quick.conf", "[Service]\nWatchdogSec=4s\nRestartSec=100ms\n");
    machine.ok("systemctl daemon-reload; systemctl restart packetboat");
    machine.until("packetboat health", "alive");
    let before = machine.ok("systemctl show -P MainPID packetboat");
    // A process that feeds the watchdog for longer than its period stays.
    machine.ok("sleep 9");
    assert_eq!(machine.ok("systemctl show -P MainPID packetboat"), before);
    machine.ok(&format!("kill -STOP {before}"));
    machine.until("systemctl show -P NRestarts packetboat", "1");
    machine.until("packetboat health", "alive");
    assert_ne!(machine.ok("systemctl show -P MainPID packetboat"), before);
    machine.until("journalctl -u packetboat --no-pager", "Watchdog timeout");
    machine.load("sessions", 2).end();
}

/// A stopping service lets sessions go on for a while, and says goodbye to those that are left.
fn drain(machine: &Machine) {
    let script = "(printf 'a LOGIN scanner3 k7m2xp9at\\r\\n'; sleep 1; touch /root/in; sleep 30) | openssl s_client -quiet -tls1 \
                  -cipher AES128-SHA:@SECLEVEL=0 -connect 127.0.0.1:993 > /root/heard 2>&1 & \
                  while ! grep -q 'a OK' /root/heard; do sleep 0.1; done";
    machine.ok(script);
    machine.ok("systemctl stop packetboat");
    assert!(machine.ok("cat /root/heard").contains("* BYE proxy is going down"));
    assert_eq!(machine.ok("systemctl show -P Result packetboat"), "success");
}
