//! This file gives a test a network of its own, and plays a second host on it: network namespaces, which end with the test.

use std::fs::File;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

use crate::process::Process;

/// This thread's side of the network, where the proxy is.
pub const HERE: &str = "10.77.0.1";
/// The other host.
pub const THERE: &str = "10.77.0.2";

/// A second pair of addresses: whoever connects to the latter comes from the former.
pub const HERE_TOO: &str = "10.77.0.3";
pub const THERE_TOO: &str = "10.77.0.4";

/// Gives this thread and what it starts a network of its own with loopback alone, on which all ports are free.
///
/// A test needs it that listens at a port of its own choice, or has `packetboat init` or `packetboat check` try one: another
/// test may do the same at that moment.
pub fn alone() {
    let is_alone = unshare(CloneFlags::CLONE_NEWNET).is_ok();
    assert!(
        is_alone,
        "a network namespace cannot be made: run this as root, in a container with CAP_SYS_ADMIN, or as root of namespaces \
         of your own (unshare -U -r cargo test)"
    );
    over_here("link set lo up");
}

/// A direction between the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From this thread's host to the other one.
    There,
    /// From the other host to this one.
    Back,
}

/// The network of this thread and its children, which are one host; [`Network::there`] runs on the other.
pub struct Network {
    other: Process,
}

impl Network {
    pub fn new() -> Self {
        alone();
        let mut command = Command::new("unshare");
        // The process ends when its standard input does, and prints a line once its namespace exists.
        command.args(["--net", "sh", "-c", "echo; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut other = Process::start(&mut command);
        let mut said = other.0.stdout.take().unwrap();
        std::io::Read::read_exact(&mut said, &mut [0]).unwrap();
        let network = Self { other };
        let id = network.other.0.id();
        for command in [
            format!("link add here type veth peer name there netns {id}"),
            format!("address add {HERE}/24 dev here"),
            "link set here up".to_owned(),
            format!("address add {HERE_TOO}/32 dev here"),
            format!("route add {THERE_TOO}/32 dev here src {HERE_TOO}"),
        ] {
            over_here(&command);
        }
        network.over_there("link set lo up");
        network.over_there("link set there up");
        network.over_there(&format!("address add {THERE_TOO}/32 dev there"));
        network.remember();
        network
    }

    /// Runs this on the other host, in a thread that is there, as are the threads that it starts.
    pub fn there<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.other.0.id())).unwrap();
        let moved = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            what()
        };
        std::thread::scope(|scope| scope.spawn(moved).join().unwrap())
    }

    /// Drops all packets to the other host without an answer, as when a NAT has forgotten a flow.
    pub fn forget(&self) {
        self.over_there(&format!("address del {THERE}/24 dev there"));
    }

    /// Delivers packets to the other host again.
    pub fn remember(&self) {
        self.over_there(&format!("address add {THERE}/24 dev there"));
    }

    /// Loses all packets of [`HERE`] and [`THERE`] in this direction: they leave, and no host takes them. Those of the
    /// second pair of addresses arrive.
    pub fn lose(&self, way: Way) {
        // The frames go to an Ethernet address that nobody has.
        let to_nobody = |address: &str, device: &str| {
            format!("neighbour replace {address} lladdr 02:00:00:00:00:77 dev {device} nud permanent")
        };
        match way {
            Way::There => over_here(&to_nobody(THERE, "here")),
            Way::Back => self.over_there(&to_nobody(HERE, "there")),
        }
    }

    /// Delivers them again.
    pub fn deliver(&self, way: Way) {
        match way {
            Way::There => over_here(&format!("neighbour delete {THERE} dev here")),
            Way::Back => self.over_there(&format!("neighbour delete {HERE} dev there")),
        }
    }

    fn over_there(&self, command: &str) {
        let id = self.other.0.id().to_string();
        run(Command::new("nsenter").args(["--target", &id, "--net", "ip"]).args(command.split(' ')));
    }
}

/// Runs ip(8) on this thread's host.
pub fn over_here(command: &str) {
    run(Command::new("ip").args(command.split(' ')));
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {status:?}");
}
