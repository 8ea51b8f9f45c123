//! This file counts the system calls of a session and of a NOOP, with strace(1) beside each proxy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use support::bench::device::Kind;
use support::bench::figures::Figures;
use support::imap::Imap;
use support::process::{PATIENCE, Process};

use crate::measure::{CROWD, NOOPS, Row, SESSIONS, crowd, noops, one_logged_in, reading};
use crate::proxies::Proxy;
use crate::tree::Tree;

/// System calls of a session with a full handshake, and of a NOOP, by a crowd of devices. None where strace is missing.
pub fn measure(directory: &Path, proxies: &[&Proxy], kind: &Kind) -> Vec<Row> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        println!("system calls are not counted: tests/install.sh bench installs strace");
        return Vec::new();
    }
    let output = directory.join("system-calls");
    let session = |proxy: &&Proxy| {
        let work = || crowd(reading, kind, proxy.addresses[0], None);
        // The first sessions of a proxy have calls of their own.
        work();
        Some(Figures(vec![counted(&output, &proxy.tree(), work) as f64 / (CROWD * SESSIONS) as f64]))
    };
    let noop = |proxy: &&Proxy| {
        let mut devices: Vec<Imap> = (0..CROWD).map(|_| one_logged_in(kind, proxy, 0)).collect();
        let calls = counted(&output, &proxy.tree(), || noops(&mut devices));
        Some(Figures(vec![calls as f64 / (CROWD * NOOPS) as f64]))
    };
    let name = |what: &str| format!("system calls of a {what}, {CROWD} devices at a time");
    let sessions = proxies.iter().map(session).collect();
    let all_noops = proxies.iter().map(noop).collect();
    vec![
        Row { name: name("session, full handshake"), unit: "calls", figures: sessions },
        Row { name: name("NOOP"), unit: "calls", figures: all_noops },
    ]
}

/// The system calls of a process tree while this work is done.
fn counted(output: &Path, tree: &Tree, work: impl FnOnce()) -> u64 {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-q", "-o"]).arg(output).stderr(Stdio::null());
    for id in tree.ids() {
        command.arg("-p").arg(id.to_string());
    }
    let mut strace = Process::start(&mut command);
    let deadline = Instant::now() + PATIENCE;
    while !tree.ids().all(is_traced) {
        assert!(
            Instant::now() < deadline && strace.0.try_wait().unwrap().is_none(),
            "strace does not attach: is this root?"
        );
        std::thread::yield_now();
    }
    work();
    // It detaches, and writes its table.
    kill_process(Pid::from_child(&strace.0), Signal::INT).unwrap();
    strace.wait();
    let table = fs::read_to_string(output).unwrap();
    let total = table.lines().find(|line| line.ends_with(" total")).unwrap_or_else(|| panic!("no total in {table}"));
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// Whether each thread of a process has a tracer (proc_pid_status(5)).
fn is_traced(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
    threads.into_iter().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
    })
}
