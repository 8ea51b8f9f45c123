//! Ports of this host and the programs that listen on them, as far as this user may see.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::OnceLock;

/// A process of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program's short name.
    pub name: String,
    /// The program's process id.
    pub id: u32,
}

/// The findings of another user, who sees more, about the ports of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortReport {
    /// The programs that listen, by port.
    pub programs: HashMap<u16, Program>,
    /// The service has the capability to open ports below 1024.
    pub opens_low_ports: bool,
}

impl PortReport {
    /// Finds out who listens on the ports of these addresses.
    pub fn of(addresses: impl Iterator<Item = SocketAddr>, opens_low_ports: bool) -> Self {
        let programs = addresses.filter_map(|address| Some((address.port(), listening_program(address)?))).collect();
        Self { programs, opens_low_ports }
    }

    /// Takes effect in this process, for as long as it lives.
    pub fn adopt(self) {
        // The first one stays; there is no second.
        let _ = REPORT.set(self);
    }
}

/// The report as text, for the environment of a process. The kernel shows no line end in a program's name.
impl fmt::Display for PortReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(self.opens_low_ports))?;
        self.programs.iter().try_for_each(|(port, Program { name, id })| write!(f, "\n{port}:{id}:{name}"))
    }
}

impl FromStr for PortReport {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('\n');
        let opens_low_ports = parts.next() == Some("1");
        let program = |part: &str| {
            let mut fields = part.splitn(3, ':');
            let (port, id) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((port, Program { name: fields.next()?.to_owned(), id }))
        };
        let programs = parts.map(program).collect::<Option<_>>().ok_or(())?;
        Ok(Self { programs, opens_low_ports })
    }
}

/// Returns whether the service can open ports below 1024 although this process cannot.
pub fn opens_low_ports() -> bool {
    REPORT.get().is_some_and(|report| report.opens_low_ports)
}

/// The program that listens on the address's port, as far as this user may see (proc_pid_fd(5), proc_net(5)), or as
/// another user has reported.
pub fn listening_program(address: SocketAddr) -> Option<Program> {
    let reported = || REPORT.get().and_then(|report| report.programs.get(&address.port()).cloned());
    visible_program(address).or_else(reported)
}

fn visible_program(address: SocketAddr) -> Option<Program> {
    let socket = format!("socket:[{}]", inode_listening_on(address)?);
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files.find(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?.trim().to_owned();
        Some(Program { name, id })
    })
}

fn inode_listening_on(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let port = format!(":{:04X}", address.port());
    tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, LISTENING, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
        local.ends_with(&port).then(|| (*inode).to_owned())
    })
}

/// Whether anybody listens on the address's port.
pub fn is_listened_on(address: SocketAddr) -> bool {
    inode_listening_on(address).is_some()
}

static REPORT: OnceLock<PortReport> = OnceLock::new();
/// The state of a listening socket.
const LISTENING: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_program_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening_program(listener.local_addr().unwrap()).unwrap();
        assert_eq!(found.id, std::process::id());
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let program = |name: &str, id| Program { name: name.to_owned(), id };
        // The name of a process is free.
        let programs = HashMap::from([(143, program("systemd", 1)), (993, program("a/b:c d", 77))]);
        for report in [PortReport { programs, opens_low_ports: true }, PortReport::default()] {
            assert_eq!(report.to_string().parse(), Ok(report));
        }
        for text in ["0\n143", "0\n143:x:systemd", "0\nx:1:systemd", "0\n"] {
            assert_eq!(text.parse::<PortReport>(), Err(()), "{text}");
        }
    }
}
