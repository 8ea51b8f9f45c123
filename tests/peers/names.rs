//! These tests prove that the confined proxy resolves names wherever /etc/resolv.conf leads: /mnt/wsl in WSL, /tmp in
//! OpenWrt.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};
use openssl::ssl::SslVersion;

use support::certificates::Certificates;
use support::exchange::Ran;
use support::imap::status;
use support::issuer::Issuer;
use support::network::Network;
use support::process::{PATIENCE, Process};
use support::proxy::{Proxy, listener, translating_listener};
use support::server;
use support::translated::{DEVICE_PASSWORD, account, device};

const HOST: &str = "mail.contoso.example";

/// A host whose /etc is a copy, with a name server that knows [`HOST`].
struct Host {
    _network: Network,
    _etc: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let network = Network::new();
        let etc = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let copy = etc.path().join("etc");
        run(&format!(
            "mount --make-rprivate / && mount -t tmpfs none /mnt && mount -t tmpfs none /media && cp -a /etc {copy:?} && mount --bind {copy:?} /etc"
        ));
        let dns = UdpSocket::bind("127.0.0.2:53").unwrap();
        std::thread::spawn(move || name_server(&dns));
        Self { _network: network, _etc: etc }
    }

    /// Makes /etc/resolv.conf lead to this file, through another link, and name the name server.
    fn resolves_by(&self, file: &str) {
        let file = Path::new(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "nameserver 127.0.0.2\noptions timeout:1 attempts:1\n").unwrap();
        let between = Path::new("/mnt/between");
        for (link, target) in [(between, file), (Path::new("/etc/resolv.conf"), between)] {
            let _ = fs::remove_file(link);
            symlink(target, link).unwrap();
        }
    }
}

/// Answers for [`HOST`] with 127.0.0.1, and with no IPv6 address (RFC 1035 section 4.1).
fn name_server(socket: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut query) {
        let labels = query[12..length].iter().position(|&octet| octet == 0).unwrap();
        let (name, kind) = (&query[12..12 + labels], query[12 + labels + 2]);
        let is_known = name.ends_with(b"\x07contoso\x07example") && kind == 1;
        let mut answer = query[..12 + labels + 5].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_known), 0, 0, 0, 0]);
        if is_known {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
        }
        let _ = socket.send_to(&answer, peer);
    }
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "run this as root, in a container with CAP_SYS_ADMIN: {command}");
}

/// A mail server of that name, as `[upstream.x]`, which lives as long as the directory.
fn upstream(directory: &Path) -> String {
    let certificates = Certificates::for_name(HOST, 30);
    certificates.write(directory);
    let port = server::tls(&certificates, SslVersion::TLS1_3, server::agree);
    let roots = directory.join("ca.pem");
    format!("[upstream.x]\nhost = \"{HOST}\"\nimap_port = {port}\nroots = {roots:?}\n")
}

fn login(proxy: &Proxy) -> String {
    let mut imap = proxy.imap("imap");
    status(&imap.command("LOGIN somebody secret")).to_owned()
}

#[test]
fn names_resolve_wherever_resolv_conf_leads() {
    let host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    let configuration = upstream(directory.path()) + &listener("imap", "imap", "implicit", "");
    let directly = "/tmp/packetboat-resolv.conf";
    for file in ["/mnt/wsl/resolv.conf", "/tmp/packetboat-resolv/resolv.conf.d/resolv.conf.auto", directly] {
        host.resolves_by(file);
        let proxy = Proxy::start(&configuration);
        let answer = login(&proxy);
        assert!(answer.starts_with("OK "), "{file}: {answer}");
        assert!(!proxy.log.all().contains("confine = true"), "{}", proxy.log.all());
    }
    let _ = fs::remove_dir_all("/tmp/packetboat-resolv");
    let _ = fs::remove_file(directly);
}

/// A link on the way to a system file makes no neighbour of that file readable.
#[test]
fn a_resolv_conf_by_way_of_var_run_opens_nothing_else_in_var() {
    let _host = Host::new();
    let run = tempfile::tempdir_in("/run").unwrap();
    fs::write(run.path().join("resolv.conf"), "nameserver 127.0.0.2\n").unwrap();
    fs::remove_file("/etc/resolv.conf").unwrap();
    symlink(Path::new("/var").join(run.path().strip_prefix("/").unwrap()).join("resolv.conf"), "/etc/resolv.conf")
        .unwrap();
    assert!(Path::new("/var/run").is_symlink() && Path::new("/etc/resolv.conf").exists());
    let directory = tempfile::tempdir().unwrap();
    let text = upstream(directory.path()) + &listener("imap", "imap", "implicit", "");
    let proxy = Proxy::start(&text);
    assert!(login(&proxy).starts_with("OK "));
    let foreign = tempfile::tempdir_in("/var/tmp").unwrap();
    let (chain, key) = (foreign.path().join("chain.pem"), foreign.path().join("key.pem"));
    proxy.configure(&format!("[certificate.default]\nchain = {chain:?}\nkey = {key:?}\n{text}"));
    let (code, said) = proxy.reload();
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&format!("{} is in a directory that packetboat may not open", chain.display())), "{said}");
}

/// The program that writes the file starts later, in a directory that every user can write.
#[test]
fn a_resolv_conf_that_is_awaited_in_a_wide_directory_needs_a_restart_and_the_start_says_so() {
    let _host = Host::new();
    fs::remove_file("/etc/resolv.conf").unwrap();
    symlink("/mnt/later/resolv.conf", "/etc/resolv.conf").unwrap();
    let proxy = Proxy::start(&listener("imap", "imap", "implicit", ""));
    let line = "/etc/resolv.conf leads to /mnt/later/resolv.conf, which is not there yet: restart packetboat";
    proxy.log.wait_for("warning", |said| said.contains(line));
    fs::create_dir("/mnt/c").unwrap();
    proxy.configure(
        &("[certificate.default]\nchain = \"/mnt/c/chain.pem\"\nkey = \"/mnt/c/key.pem\"\n".to_owned()
            + &listener("imap", "imap", "implicit", "")),
    );
    assert!(proxy.reload().1.contains("/mnt/c/chain.pem is in a directory that packetboat may not open"));
}

/// The resolver itself reports only a failure.
#[test]
fn a_resolver_that_is_kept_from_its_file_names_the_file_and_the_key() {
    let host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    host.resolves_by("/mnt/wsl/resolv.conf");
    let proxy = Proxy::start(&(upstream(directory.path()) + &listener("imap", "imap", "implicit", "")));
    host.resolves_by("/media/later/resolv.conf");
    let answer = login(&proxy);
    assert!(answer.starts_with("NO [UNAVAILABLE]"), "{answer}");
    let line = proxy.log.wait_for("line about the login", |line| line.contains("login failed"));
    for word in ["/etc/resolv.conf, which leads to /media/later/resolv.conf,", "confine = true", "restart packetboat"] {
        assert!(line.contains(word), "{word}: {line}");
    }
}

/// `check` is denied and allowed the same files as the service.
#[test]
fn check_online_is_confined_as_the_service_is() {
    let host = Host::new();
    host.resolves_by("/mnt/wsl/resolv.conf");
    let directory = tempfile::tempdir().unwrap();
    let issuer = Issuer::start();
    let text = |upstream: &str| {
        format!(
            "state_directory = {:?}\n{upstream}{}{}{}",
            directory.path().join("state"),
            translating_listener("imap", "imap", "implicit", ""),
            device("scanner", "scans", DEVICE_PASSWORD, ""),
            account("scans", "scan@contoso.example", "x", &issuer),
        )
    };
    let file = directory.path().join("packetboat.toml");
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(["check", "--online", "--account", "scans", "--config"]).arg(&file).stdin(Stdio::null());
        command
    };
    fs::write(&file, text(&upstream(directory.path()))).unwrap();
    let checked = Ran::of(check().output().unwrap());
    assert!(checked.code == 0 && checked.output.contains("IMAP   ok"), "{}{}", checked.output, checked.errors);
    assert!(!checked.errors.contains("confine"), "{}", checked.errors);
    // The check may run as root, whose files the service's user could not use.
    assert!(!directory.path().join("state").exists());
    // The mail server sends nothing, so that the test has time to look.
    let silent = server::plain(std::mem::forget);
    fs::write(&file, text(&format!("[upstream.x]\nhost = \"127.0.0.1\"\nimap_port = {silent}\n"))).unwrap();
    let process = Process::start(check().stdout(Stdio::null()).stderr(Stdio::null()));
    let deadline = Instant::now() + PATIENCE;
    let task = format!("/proc/{}/task", process.0.id());
    let confined = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
    };
    while fs::read_dir(&task).unwrap().map_while(Result::ok).filter_map(|one| confined(one).then_some(())).count() < 2 {
        assert!(Instant::now() < deadline, "not confined");
    }
}
