//! This file starts Postfix as a relay: TLS and passwords on both sides, and its queue in between.
//!
//! Only root can start Postfix.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use support::bench::packetboat;
use support::free_ports;
use support::postfix::installation::{Installation, Instance, Master};

/// A Postfix that relays to one server.
pub struct Postfix {
    pub master: Master,
    pub address: SocketAddr,
}

impl Postfix {
    /// Starts Postfix in this directory, which has `ca.pem`, `server.pem` and `server.key`, in front of a server with
    /// implicit TLS at this port. Returns `None` where it cannot run.
    pub fn start(directory: &Path, server: u16) -> Option<Self> {
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        let Some(installation) = Installation::find().filter(|_| is_root) else {
            println!("Postfix is not measured: root and tests/install.sh bench are needed, which unpacks it");
            return None;
        };
        // Postfix's own user reads what is below.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.join("postfix");
        fs::create_dir_all(&path).unwrap();
        let socket = path.join("judge");
        judge(&socket);
        let [port] = free_ports();
        let (main, services) = (settings(directory, &path, server), services(port));
        let instance =
            Instance { path: &path, certificate: directory, judge: &socket, main: &main, services: &services };
        let command = installation.prepare(&instance);
        let (process, [address]) = packetboat::start_beside(command, &path, "postfix", [port]);
        Some(Self { master: Master(process), address })
    }
}

/// The version of the unpacked package, as `Postfix 3.7.11`.
pub fn version() -> Option<String> {
    Installation::find()?.version()
}

/// Lets every password in, by Dovecot's protocol. It costs Postfix its own part alone.
fn judge(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A connection ends with the Postfix process that made it.
            std::thread::spawn(move || drop(judge_one(stream)));
        }
    });
}

fn judge_one(mut stream: UnixStream) -> std::io::Result<()> {
    stream.write_all(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0\nDONE\n")?;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let mut words = line.split('\t');
        if words.next() == Some("AUTH") {
            stream.write_all(format!("OK\t{}\tuser=u\n", words.next().unwrap_or_default()).as_bytes())?;
        }
    }
    Ok(())
}

fn settings(directory: &Path, path: &Path, server: u16) -> String {
    let (directory, path) = (directory.display(), path.display());
    format!(
        "# No process ends within the measure.
max_use = 1000000
max_idle = 1h
smtpd_tls_session_cache_database = btree:{path}/data/smtpd_sessions
relayhost = [127.0.0.1]:{server}
smtp_tls_wrappermode = yes
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = localhost
smtp_tls_CAfile = {directory}/ca.pem
smtp_tls_session_cache_database = btree:{path}/data/smtp_sessions
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = static:u:p
smtp_sasl_security_options =
"
    )
}

fn services(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
smtp unix - - n - - smtp
scache unix - - n - 1 scache
"
    )
}
