//! packetboat under callgrind, which counts its instructions. They do not depend on the load of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files of a run, and the process.
pub struct Callgrind {
    output: PathBuf,
    process: u32,
}

impl Callgrind {
    /// The command that runs this program so. One worker makes the count independent of the choice among workers.
    pub fn command(program: &Path, directory: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", "valgrind", "--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", output(directory).display())).arg(program);
        command
    }

    /// The run of such a command that has become this process.
    pub fn of(process: u32, directory: &Path) -> Self {
        Self { output: output(directory), process }
    }

    /// Starts the count anew.
    pub fn zero(&self) {
        self.control("--zero");
    }

    /// The instructions since then. Each call writes the next file: `callgrind.out.1`, ...
    pub fn dump(&self) -> (usize, u64) {
        self.control("--dump");
        let number = (1..).find(|number| !self.file(number + 1).exists()).unwrap();
        let text = fs::read_to_string(self.file(number)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
        (number, line.unwrap().trim().parse().unwrap())
    }

    /// The functions of a dump with their shares, as callgrind_annotate prints them.
    pub fn annotated(&self, dump: usize, how: &str) -> String {
        let mut command = Command::new("callgrind_annotate");
        let output = command.args([how, "--threshold=100"]).arg(self.file(dump)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The file of a dump.
    pub fn file(&self, number: usize) -> PathBuf {
        let mut name = self.output.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn control(&self, what: &str) {
        let id = self.process.to_string();
        let done = Command::new("callgrind_control").args([what, &id]).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        assert!(done.status.success(), "callgrind_control: {}", String::from_utf8_lossy(&said));
    }
}

fn output(directory: &Path) -> PathBuf {
    directory.join("callgrind.out")
}
