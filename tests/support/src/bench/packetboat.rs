//! Benches start packetboat here, with its log in a file, as the proxies beside it have theirs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::Process;

/// The configuration's first lines, for a state directory of this name; `server.pem` and `server.key` lie beside it.
pub fn beginning(directory: &Path, state: &str) -> String {
    let path = |name: &str| directory.join(name);
    let (chain, key) = (path("server.pem"), path("server.key"));
    format!("state_directory = {:?}\n[certificate.default]\nchain = {chain:?}\nkey = {key:?}\n", path(state))
}

/// A listener's section with this port in place of a free one.
pub fn at(port: u16, listener: &str) -> String {
    listener.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
}

/// Starts the program by this command, which may be a tool's, and waits until it listens at these ports.
pub fn start<const N: usize>(
    mut command: Command,
    directory: &Path,
    name: &str,
    configuration: &str,
    ports: [u16; N],
) -> (Process, [SocketAddr; N]) {
    let file = directory.join(format!("{name}.toml"));
    fs::write(&file, configuration).unwrap();
    command.args(["run", "--config"]).arg(file).env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0");
    start_beside(command, directory, name, ports)
}

/// Starts any other program in the same way, by a command that is complete.
pub fn start_beside<const N: usize>(
    mut command: Command,
    directory: &Path,
    name: &str,
    ports: [u16; N],
) -> (Process, [SocketAddr; N]) {
    let log = directory.join(format!("{name}.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut process = Process::start(&mut command);
    let addresses = ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    process.until_open(&addresses, || fs::read_to_string(&log).unwrap());
    (process, addresses)
}
