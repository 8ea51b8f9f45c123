//! This file starts imapproxy, which keeps connections to the server after LOGOUT as packetboat's parking does, but for
//! passwords. It has no TLS for devices, so stunnel stands in front of it; its own TLS to the server begins by STARTTLS.
//!
//! Debian's package is unpacked, because its service is not wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::bench::packetboat;
use support::free_ports;

use crate::proxies::{self, Proxy};

/// The time for which imapproxy keeps a connection by default.
pub const EXPIRATION: Duration = Duration::from_secs(300);

/// Starts both programs in this directory, which has `ca.pem`, `server.pem` and `server.key`, in front of a server with
/// STARTTLS at this host and port. Returns `None` where they cannot run.
pub fn start(directory: &Path, (host, server): (&str, u16), expiration: Duration) -> Option<Proxy> {
    let Some(program) = program() else {
        println!("imapproxy is not measured: tests/install.sh bench unpacks it");
        return None;
    };
    let path = directory.join(format!("imapproxy-{server}-{}", expiration.as_secs()));
    fs::create_dir_all(&path).unwrap();
    let [port, behind] = free_ports();
    let at = path.display();
    let authority = directory.join("ca.pem");
    let text = format!(
        "server_hostname {host}\nserver_port {server}\nlisten_address 127.0.0.1\nlisten_port {behind}\n\
         connect_retries 10\nconnect_delay 1\ncache_size 3072\ncache_expiration_time {}\n\
         proc_username nobody\nproc_groupname nogroup\nstat_filename {at}/stat\nprotocol_log_filename {at}/log\n\
         syslog_facility LOG_MAIL\nsend_tcp_keepalives no\nenable_select_cache no\nforeground_mode yes\nforce_tls yes\n\
         tls_ca_file {}\ntls_verify_server yes\nenable_admin_commands no\n",
        expiration.as_secs(),
        authority.display()
    );
    let file = path.join("imapproxy.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-f").arg(file);
    let (process, _) = packetboat::start_beside(command, &path, "imapproxy", [behind]);
    let (front, address) = proxies::stunnel_in_front(directory, &path, [port, behind])?;
    Some(Proxy::of("imapproxy", process, address, Some(front)))
}

/// The version of the unpacked package, as `imapproxy 1.2.8`.
pub fn version() -> Option<String> {
    let package = program()?.ancestors().nth(3)?.to_path_buf();
    let names = fs::read_dir(package).ok()?.map_while(Result::ok).map(|entry| entry.file_name());
    let name = names.filter_map(|name| name.into_string().ok()).find(|name| name.ends_with(".deb"))?;
    Some(format!("imapproxy {}", name.split(['_', '~']).nth(1)?))
}

/// Debian's program, as tests/install.sh unpacks it.
fn program() -> Option<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian/imapproxy");
    package.join("usr/sbin/imapproxyd").canonicalize().ok()
}
