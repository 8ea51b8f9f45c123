//! These tests prove that one state directory serves one process at a time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use support::exchange::*;
use support::process::{Lines, Process};

/// The second process names the first and changes nothing; the first one goes on, and a kill releases the lock.
#[test]
fn the_second_is_refused_until_the_first_is_gone() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    let mut first = exchange.proxy(&configuration);
    let id = first.process.0.id();
    exchange.until("first token", |counts| counts.grant("refresh_token") >= 2);
    let mut device = imap(&first);
    device.login(LOGIN, PASSWORD);
    let before = files(&exchange.state());
    let asked = exchange.requests();
    let second = refused(&exchange, &configuration);
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_packetboat")).unwrap();
    let words = format!("{} is in use by process {id} ({})", exchange.state().display(), program.display());
    assert!(second.contains(&words), "{}", second);
    assert!(second.contains("give this one another state_directory"), "{}", second);
    assert_eq!(second.lines().count(), 1, "{}", second);
    assert_eq!((files(&exchange.state()), exchange.requests()), (before, asked), "nothing was made, read or spent");
    device.ok("NOOP");
    assert!(imap_login(&first).starts_with("OK"));
    first.process.0.kill().unwrap();
    first.process.wait();
    let third = exchange.proxy(&configuration);
    assert!(imap_login(&third).starts_with("OK"));
}

/// Child processes do not inherit the lock, and the lock does not keep a disk from a read-only remount.
#[test]
fn the_lock_ends_with_the_process() {
    let exchange = Exchange::new();
    let proxy = exchange.proxy(&exchange.configuration(BY_SECRET));
    let process = format!("/proc/{}", proxy.process.0.id());
    let lock = exchange.state().join("lock");
    let descriptors: Vec<u32> = fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == lock))
        .map(|entry| {
            let about = Path::new(&process).join("fdinfo").join(entry.file_name());
            let about = fs::read_to_string(about).unwrap();
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
            u32::from_str_radix(flags, 8).unwrap()
        })
        .collect();
    let [flags] = descriptors.as_slice() else { panic!("{descriptors:?}") };
    assert_eq!((flags & 0o2_000_000, flags & 0o3), (0o2_000_000, 0), "O_CLOEXEC, O_RDONLY");
}

/// Every command but another `run` works beside the proxy.
#[test]
fn other_commands_beside_it() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_PERSON);
    exchange.sign_in(&configuration);
    // All share one file, because reload finds the proxy by its state directory.
    let mut command = exchange.command(&["run"], &configuration);
    let (mut running, _) = Process::ready(&mut command);
    for arguments in [
        ["check"].as_slice(),
        &["check", "--online"],
        &["setup"],
        &["certificate", "show"],
        &["certificate", "renew"],
        &["certificate", "export"],
        &["devices"],
        &["health"],
        &["health", "--ready"],
        &["reload"],
    ] {
        let ran = exchange.run(arguments, &configuration);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.output, ran.errors);
    }
    exchange.sign_in(&configuration);
    assert!(running.0.try_wait().unwrap().is_none());
}

/// Of many starts at once on an empty directory, one succeeds, and its certificate is whole.
#[test]
fn many_at_once() {
    const MANY: usize = 8;
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let commands: Vec<_> = (0..MANY).map(|_| exchange.command(&["run"], &configuration)).collect();
    let mut all: Vec<(Process, Lines)> = commands
        .into_iter()
        .map(|mut command| {
            let (process, log) = Process::logged(&mut command);
            (process, log)
        })
        .collect();
    let end = |(process, log): &mut (Process, Lines)| {
        if process.0.try_wait().unwrap().is_some() {
            return Some(log.to_the_end());
        }
        None
    };
    let deadline = std::time::Instant::now() + support::process::PATIENCE;
    let refused = loop {
        let refused: Vec<String> = all.iter_mut().filter_map(end).collect();
        if refused.len() == MANY - 1 {
            break refused;
        }
        assert!(std::time::Instant::now() < deadline, "{refused:?}");
        thread::sleep(std::time::Duration::from_millis(10));
    };
    assert!(refused.iter().all(|said| said.contains("is in use by process ")), "{refused:?}");
    let (mut process, log) = all.into_iter().find_map(|mut one| end(&mut one).is_none().then_some(one)).unwrap();
    log.wait_for("line that it is ready", |line| line.ends_with("ready"));
    process.signal("TERM");
    assert!(process.wait().success());
    super::killed::whole_certificates(&exchange.state());
}

/// The first process makes the certificate, and makes it once.
#[test]
fn many_make_one_certificate() {
    let exchange = Exchange::new();
    let configuration = exchange.configuration(BY_SECRET);
    let commands: Vec<_> = (0..6).map(|_| exchange.command(&["certificate", "show"], &configuration)).collect();
    let shown: Vec<Ran> = thread::scope(|scope| {
        let shown: Vec<_> =
            commands.into_iter().map(|mut one| scope.spawn(move || Ran::of(one.output().unwrap()))).collect();
        shown.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // The number of days left may change meanwhile.
    let without_age =
        |ran: &Ran| ran.output.lines().map(|line| line.split(" (").next().unwrap().to_owned()).collect::<Vec<_>>();
    for one in &shown {
        assert_eq!((one.code, without_age(one)), (0, without_age(&shown[0])), "{}", one.errors);
    }
    super::killed::whole_certificates(&exchange.state());
}

/// The output of a `run` that ends with exit code 69.
pub fn refused(exchange: &Exchange, configuration: &str) -> String {
    let (mut process, log) = Process::logged(&mut exchange.command(&["run"], configuration));
    let code = process.wait().code();
    assert_eq!(code, Some(69), "{}", log.all());
    log.to_the_end()
}

/// Each file with the values that a write changes. The inventory is left out, because the first process writes it.
fn files(directory: &Path) -> BTreeMap<String, (u64, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in [directory.to_path_buf(), directory.join("tokens")].iter().flat_map(|one| fs::read_dir(one).unwrap()) {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let name = entry.path().display().to_string();
        if metadata.is_file() && !name.contains("inventory") {
            all.insert(name, (metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        }
    }
    assert!(all.len() >= 8, "{all:?}");
    all
}
