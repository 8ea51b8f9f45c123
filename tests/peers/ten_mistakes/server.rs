//! Mistakes on the server: in the file, with ports and networks, and with a second process.

use std::net::TcpListener;
use std::process::Command;

use support::device::Device;
use support::exchange::{BY_SECRET, Exchange, LOGIN, PASSWORD, Ran};
use support::process::program;
use support::proxy::translating_listener;

use super::{Told, start, technician_is_told, works};

#[test]
fn address_that_is_not_allowed() {
    let exchange = Exchange::new();
    let proxy =
        start(&exchange, &translating_listener("far", "imap", "implicit", "allowed_networks = [\"10.0.0.0/8\"]"));
    assert!(Device::plain(proxy.address("far")).has_ended());
    let told = Told::after(&proxy, "not_allowed");
    told.log_page_and_devices_say("write in listener far: allowed_networks = [\"10.0.0.0/8\", \"127.0.0.1/32\"]");
    assert!(told.check.output.contains("10.0.0.0/8"), "{}", told.check.output);
    told.rest_is_well();
    // The line goes into the file as it is.
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    let line = "allowed_networks = [\"10.0.0.0/8\", \"127.0.0.1/32\"]";
    std::fs::write(proxy.configuration(), text.replace("allowed_networks = [\"10.0.0.0/8\"]", line)).unwrap();
    let (code, said) = proxy.reload();
    assert_eq!(code, 0, "{said}");
    proxy.imap("far").login(LOGIN, PASSWORD);
    works(&proxy);
    technician_is_told(
        "connection closed",
        &["note the device's IP address", "Is this address in `allowed_networks`?"],
    );
}

#[test]
fn typo_in_the_file() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    std::fs::write(proxy.configuration(), text.replace("mailbox = ", "mailbx = ")).unwrap();
    let words = "unknown key `mailbx`; did you mean `mailbox`?";
    let (code, reload) = proxy.reload();
    assert!(code != 0 && reload.contains(words), "{reload}");
    let told = Told::after(&proxy, "did you mean");
    told.log_says(words);
    told.page_says("/config", words);
    assert_eq!(told.check.code, 78);
    assert!(told.check.errors.contains(words), "{}", told.check.errors);
    let line = text.lines().position(|line| line.starts_with("mailbox")).unwrap() + 1;
    assert!(told.check.errors.contains(&format!("packetboat.toml:{line}: ")), "{}", told.check.errors);
    // The proxy runs on with the file of before.
    works(&proxy);
    technician_is_told("cannot connect", &["compare server and port"]);
}

#[test]
fn port_of_another_program() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let more = translating_listener("third", "imap", "implicit", "").replace("127.0.0.1:0", &address.to_string());
    let text = std::fs::read_to_string(proxy.configuration()).unwrap();
    std::fs::write(proxy.configuration(), text + &more).unwrap();
    // The confined service does not see other programs, and names the command that does. `check` sees them.
    let command = format!("the port is in use by another program (ss -ltnp 'sport = :{}')", address.port());
    let (code, reload) = proxy.reload();
    assert!(code != 0 && reload.contains(&command), "{reload}");
    let told = Told::after(&proxy, "in use by");
    told.log_says(&command);
    told.page_says("/config", &command);
    let program = format!("the port is in use by {}, process {}", own_name(), std::process::id());
    assert!(told.check.code != 0 && told.check.errors.contains(&program), "{}", told.check.errors);
    let printed = reload.split_once("another program (").unwrap().1.split_once(")\n").unwrap().0;
    let shown = Ran::of(Command::new("sh").args(["-c", printed]).output().unwrap()).output;
    assert!(shown.contains(&format!("pid={}", std::process::id())), "{printed}: {shown}");
    works(&proxy);
    technician_is_told("cannot connect", &["Is the port open from this network?"]);
}

/// After a restart nobody gets mail: the commands name the one that has the reason.
#[test]
fn typo_and_a_restart() {
    let exchange = Exchange::new();
    let text = exchange.configuration(BY_SECRET).replace("mailbox = ", "mailbx = ");
    let words = "unknown key `mailbx`; did you mean `mailbox`?";
    let restarted = exchange.run(&["run"], &text);
    assert!(restarted.code == 78 && restarted.errors.contains(words), "{}", restarted.errors);
    for command in ["health", "devices"] {
        let ran = exchange.run(&[command], &text);
        assert_eq!(ran.code, 69, "{}", ran.errors);
        assert!(ran.errors.contains("if it does not start, packetboat check says why"), "{}", ran.errors);
    }
    assert!(exchange.run(&["check"], &text).errors.contains(words));
}

/// The name of this process, as the kernel cuts it.
fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

/// The second process names the first one, which goes on; nothing of it reaches the page.
#[test]
fn second_process() {
    let exchange = Exchange::new();
    let proxy = start(&exchange, "");
    let mut command = Command::new(program());
    let second = Ran::of(command.args(["run", "--config"]).arg(proxy.configuration()).output().unwrap());
    let words = "two proxies would spend each other's refresh tokens. Stop that one";
    assert!(second.code != 0 && second.errors.contains(words), "{}", second.errors);
    assert!(second.errors.contains(&format!("process {}", proxy.process.0.id())), "{}", second.errors);
    let told = Told::now(&proxy);
    told.rest_is_well();
    assert_eq!(told.health[0].output.trim(), "alive");
    works(&proxy);
}
