//! These tests prove the RPM and the archive on a system booted by systemd: install, upgrade, remove.
//!
//! The system is Debian, because no other can be fetched where the tests run. The RPM's dependencies are compared with
//! what other systems have.

use std::path::Path;

use crate::engine::{alone, binary, package};
use crate::service::Machine;

/// The same owners and modes as the Debian package has.
fn is_private(machine: &Machine) {
    let modes = "stat -c '%U:%G %a' /etc/packetboat/packetboat.toml /etc/packetboat/credentials /var/lib/packetboat";
    assert_eq!(machine.ok(modes), "root:packetboat 640\nroot:root 700\npacketboat:packetboat 700");
    let user = machine.ok("getent passwd packetboat");
    assert!(user.ends_with(":/var/lib/packetboat:/usr/sbin/nologin"), "{user}");
    assert_eq!(machine.ok("stat -c %U /proc/$(systemctl show -P MainPID packetboat)"), "packetboat");
}

/// The upgrade keeps a disabled unit disabled and an edited configuration; open sockets stay open, and the new program runs.
fn upgrade(machine: &Machine, command: &str) {
    machine.ok("systemctl disable --now packetboat-pop3.socket");
    let text = machine.ok("cat /etc/packetboat/packetboat.toml");
    let sections: Vec<&str> =
        text.split("\n[[listener]]").filter(|section| !section.contains("name = \"pop3\"\n")).collect();
    assert_eq!(sections.len(), 4, "the head and three listeners: {text}");
    machine.write("/root/edited", &format!("{}\n# edited\n", sections.join("\n[[listener]]")));
    machine.ok("cat /root/edited >/etc/packetboat/packetboat.toml");
    machine.ok("install -m 600 /dev/null /etc/packetboat/credentials/app.key");
    machine.ok("packetboat check && packetboat reload");
    let opened = "systemctl show -P ActiveEnterTimestampMonotonic packetboat-imaps.socket";
    let process = "systemctl show -P MainPID packetboat";
    let (before, old) = (machine.ok(opened), machine.ok(process));
    machine.ok(command);
    machine.until("packetboat health", "alive");
    assert_eq!(machine.ok(opened), before, "the socket stayed open");
    assert_ne!(machine.ok(process), old, "another process serves");
    assert_eq!(machine.shell("systemctl is-enabled packetboat-pop3.socket").1, "disabled");
    assert_eq!(machine.shell("systemctl is-active packetboat-pop3.socket").1, "inactive");
    assert!(machine.ok("cat /etc/packetboat/packetboat.toml").ends_with("# edited"));
    is_private(machine);
}

/// No unit, no process, no open port and no program are left; the state is.
fn is_removed(machine: &Machine) {
    assert_eq!(machine.shell("systemctl is-active packetboat packetboat-imap.socket").1, "inactive\ninactive");
    assert_eq!(machine.shell("systemctl list-unit-files 'packetboat*' --no-legend").1, "");
    assert_eq!(machine.ok("systemctl list-units --all --failed 'packetboat*' --no-legend"), "");
    assert_ne!(machine.shell("command -v packetboat").0, 0);
    assert_eq!(machine.shell("pgrep -x packetboat").0, 1);
    assert_eq!(machine.ok("find /etc/systemd/system -name 'packetboat*'"), "");
    machine.ok("test -d /var/lib/packetboat && test -d /etc/packetboat/credentials");
}

#[test]
fn the_rpm_on_a_booted_system() {
    let _alone = alone();
    let machine = Machine::boot();
    rpm(&machine);
}

/// Installs, upgrades and removes the RPM. RPM knows nothing of Debian's packages, hence `--nodeps`; on Debian 12 it wants
/// to be forced.
pub fn rpm(machine: &Machine) {
    machine.bring("rpm", "/root/packetboat.rpm");
    let query = |options: &str| machine.ok(&format!("rpm -qp {options} /root/packetboat.rpm"));
    let needs = query("--requires");
    for need in ["libc.so.6(GLIBC_2.34)(64bit)", "systemd >= 250", "/usr/sbin/useradd"] {
        assert!(needs.lines().any(|line| line == need), "{need}: {needs}");
    }
    assert!(!needs.contains("GLIBC_2.35") && !needs.contains("libssl"), "{needs}");
    assert_eq!(query("--configfiles"), "/etc/packetboat/packetboat.toml");
    let flags = query("--qf '[%{FILENAMES} %{FILEFLAGS:fflags}\\n]'");
    assert!(flags.contains("/etc/packetboat/packetboat.toml cn"), "noreplace: {flags}");

    let is_forced = machine.shell("rpm --help | grep -q -e --force-debian").0 == 0;
    let force = if is_forced { "--force-debian" } else { "" };
    machine.ok(&format!("rpm --install {force} --nodeps /root/packetboat.rpm"));
    machine.observes();
    is_private(machine);
    assert_eq!(machine.ok("rpm --verify --nodeps packetboat"), "", "modes, owners and contents are the package's");
    upgrade(machine, &format!("rpm --upgrade --replacepkgs {force} --nodeps /root/packetboat.rpm"));
    machine.ok(&format!("rpm --erase {force} packetboat"));
    is_removed(machine);
    assert!(machine.ok("cat /etc/packetboat/packetboat.toml.rpmsave").ends_with("# edited"));
}

#[test]
fn the_archive_on_a_booted_system() {
    let _alone = alone();
    let machine = Machine::boot();
    archive(&machine, binary());
    archive_beside_the_package(&machine);
}

/// Installs, upgrades and removes the archive by its script.
pub fn archive(machine: &Machine, program: &Path) {
    machine.bring_with("archive", program, "/root/packetboat.tar.gz");
    machine.ok("cd /root && tar xzf packetboat.tar.gz && mv packetboat-*-linux-* archive");
    let (code, said) = machine.shell("chmod 755 /root; setpriv --reuid=65534 --clear-groups /root/archive/install.sh");
    assert!(code == 77 && said.contains("only root can install"), "{code} {said}");
    // An older systemd, as on a system of 2021.
    machine.ok("mkdir -p /root/old && printf '#!/bin/sh\\necho \"systemd 249 (249.11)\"\\n' >/root/old/systemctl");
    let (code, said) = machine.shell("chmod 755 /root/old/systemctl; PATH=/root/old:$PATH /root/archive/install.sh");
    assert!(code == 69 && said.contains("need systemd 250 or later, and this system has 249"), "{code} {said}");
    // A program that does not start, as with an older C library.
    machine.ok("cd /root && mv archive/local/bin/packetboat . && ln -s /bin/false archive/local/bin/packetboat");
    let (code, said) = machine.shell("/root/archive/install.sh");
    assert!(code == 69 && said.contains("the program does not run on this system"), "{code} {said}");
    machine.ok("mv /root/packetboat /root/archive/local/bin/packetboat");
    assert_ne!(machine.shell("ls -d /usr/local/bin/packetboat /etc/packetboat | grep .").0, 0, "nothing was installed");

    machine.ok("/root/archive/install.sh");
    machine.observes();
    is_private(machine);
    assert_eq!(machine.ok("command -v packetboat"), "/usr/local/bin/packetboat");
    machine.ok("systemd-analyze verify --man=no /usr/local/lib/systemd/system/packetboat*");
    assert!(machine.ok("cat /usr/local/lib/systemd/system/packetboat.service").contains("ExecPaths=/usr/local/bin/"));
    upgrade(machine, "/root/archive/install.sh");
    machine.ok("/root/archive/install.sh --uninstall");
    is_removed(machine);
    machine.ok("/root/archive/install.sh --uninstall");
    assert_eq!(machine.ok("find /usr/local -name '*packetboat*'"), "");
    machine.ok("/root/archive/install.sh");
    machine.until("packetboat health", "alive");
    machine.ok("/root/archive/install.sh --purge");
    assert_eq!(machine.shell("ls -d /var/lib/packetboat /etc/packetboat").0, 2, "purged");
}

/// The package and the archive would run in each other's place.
fn archive_beside_the_package(machine: &Machine) {
    machine.bring("debian", "/root/packetboat.deb");
    machine.ok("dpkg -i /root/packetboat.deb");
    let (code, said) = machine.shell("/root/archive/install.sh");
    assert!(code == 69 && said.contains("remove the package first"), "{code} {said}");
}

/// One list makes all packages: each has the files of the Debian package, and a few of its own.
#[test]
fn each_package_has_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let list = |program: &str, arguments: &[&str], package: &Path| -> Vec<String> {
        let output = std::process::Command::new(program).args(arguments).arg(package).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut names: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|name| !name.ends_with('/'))
            .map(|name| name.rsplit('/').next().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let made = |kind: &str| package(kind, binary(), directory.path());
    let debian = list("dpkg-deb", &["-c"], &made("debian"));
    assert!(debian.len() > 30, "{debian:?}");
    let rpm = list("rpm", &["-qpl"], &made("rpm"));
    let archive = list("tar", &["-tzf"], &made("archive"));
    let lacks = |package: &[String], exempt: &[&str]| -> Vec<String> {
        debian.iter().filter(|name| !package.contains(name) && !exempt.contains(&name.as_str())).cloned().collect()
    };
    // The changelog is compressed in the Debian package alone.
    assert!(lacks(&rpm, &["changelog.gz", "copyright"]).is_empty(), "{:?}", lacks(&rpm, &[]));
    let renamed = ["changelog.gz", "copyright", "packetboat.conf"];
    assert!(lacks(&archive, &renamed).is_empty(), "{:?}", lacks(&archive, &[]));
}

/// Debian 13: each package on a system that it has not been built on.
#[test]
#[ignore = "minutes: make test-packages"]
fn each_package_on_debian_13() {
    let _alone = alone();
    let machine = Machine::boot_suite("trixie");
    assert!(machine.ok("cat /etc/os-release").contains("VERSION_ID=\"13\""));
    machine.bring("debian", "/root/packetboat.deb");
    machine.ok("dpkg -i /root/packetboat.deb");
    machine.observes();
    is_private(&machine);
    machine.ok("systemd-analyze verify --man=no /lib/systemd/system/packetboat.service");
    upgrade(&machine, "dpkg -i /root/packetboat.deb");
    machine.ok("dpkg --remove packetboat");
    machine.ok("dpkg --purge packetboat && systemctl daemon-reload");
    rpm(&machine);
    machine.ok("rm -rf /etc/packetboat /var/lib/packetboat");
    archive(&machine, binary());
    archive_beside_the_package(&machine);
}

/// rpmlint finds no other error than those that have a reason.
#[test]
#[ignore = "needs rpmlint: make test-packages"]
fn rpmlint_finds_nothing_new() {
    let directory = tempfile::tempdir().unwrap();
    let made = package("rpm", binary(), directory.path());
    let output = std::process::Command::new("rpmlint").arg(made).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("1 packages and 0 specfiles checked"), "{said}");
    let reasons = [
        "E: non-standard-dir-perm /etc/packetboat/credentials 700",
        // Hashes of passwords.
        "E: non-readable /etc/packetboat/packetboat.toml 640",
        // Who builds the package signs it.
        "E: no-signature",
        // CHANGELOG.md is among the documents.
        "E: no-changelogname-tag",
    ];
    let errors: Vec<&str> = said.lines().filter(|line| line.contains(": E: ")).collect();
    let new: Vec<&&str> = errors.iter().filter(|line| !reasons.iter().any(|reason| line.ends_with(reason))).collect();
    assert!(errors.len() <= reasons.len() && new.is_empty(), "{errors:#?}");
}
