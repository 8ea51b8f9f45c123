//! The first hour by the stop-watch: from the package to twelve TLS 1.0 devices that read their mail, in four commands,
//! on a system that systemd has booted. A simulator in the same container plays Microsoft.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use packetboat::crypto::VerifyingKey;
use packetboat::protocol::Protocol;
use packetboat::simulator::{ClientCertificate, Setup, Simulator, Tenant, User};

use crate::engine::alone;
use crate::service::Machine;

const DEVICES: usize = 12;
const TENANT: &str = "contoso.onmicrosoft.com";
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
/// The directory of the simulator in the container.
const OFFICE: &str = "/root/office";

fn mailbox(number: usize) -> String {
    format!("device{number}@contoso.example")
}

fn protocol(number: usize) -> Protocol {
    if number.is_multiple_of(3) { Protocol::Pop3 } else { Protocol::Imap }
}

/// The simulator, which the test below starts in the container, in this program's own copy there.
#[test]
#[ignore = "runs in the container of the next test"]
fn play_microsoft() {
    let office = PathBuf::from(OFFICE);
    let mut tenant = Tenant::new(TENANT, CLIENT);
    tenant.public_client = false;
    tenant.users = (0..DEVICES).map(|number| User::new(&mailbox(number), "another")).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let setup = Setup { directory: office.join("simulator"), tenant };
    let simulator = runtime.block_on(Simulator::start(setup)).unwrap();
    for number in 0..DEVICES {
        let message = format!("Subject: message {number}\r\n\r\nHello, device {number}.\r\n");
        assert!(simulator.deliver(&mailbox(number), message.into_bytes()));
    }
    std::fs::copy(simulator.authority(), office.join("roots.pem")).unwrap();
    let (imap, pop3, endpoint) = (simulator.imap().port(), simulator.pop3().port(), simulator.endpoint().port());
    std::fs::write(office.join("ports"), format!("{imap} {pop3} {endpoint} ready\n")).unwrap();
    // What packetboat.ps1 does, as soon as somebody has run it.
    while !office.join("script-has-run").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    simulator.upload_certificate(certificate_at("/etc/packetboat/app.pem"));
    (0..DEVICES).for_each(|number| simulator.grant_mailbox(&mailbox(number)));
    std::fs::write(office.join("rights"), "given\n").unwrap();
    // The renewed certificate is uploaded beside the old one.
    while !office.join("script-has-run-again").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    simulator.upload_certificate(certificate_at("/etc/packetboat/app-2.pem"));
    std::fs::write(office.join("renewal"), "uploaded\n").unwrap();
    runtime.block_on(std::future::pending::<()>());
}

/// The certificate in a file, as it is uploaded.
fn certificate_at(path: &str) -> ClientCertificate {
    let certificate = X509::from_pem(&std::fs::read(path).unwrap()).unwrap();
    let key = VerifyingKey::from_pem(&certificate.public_key().unwrap().public_key_to_pem().unwrap()).unwrap();
    let thumbprint = URL_SAFE_NO_PAD.encode(certificate.digest(MessageDigest::sha256()).unwrap());
    ClientCertificate { key, thumbprint }
}

#[test]
fn four_commands_bring_mail_to_twelve_devices() {
    let _alone = alone();
    let machine = Machine::with_package();
    let [imap, pop3, endpoint] = start_simulator(&machine);
    let roster: String = (0..DEVICES).fold("name,mailbox,protocol,address\n".to_owned(), |mut text, number| {
        let _ = writeln!(text, "device{number},{},{},127.0.0.1", mailbox(number), protocol(number).key());
        text
    });
    machine.write("/root/devices.csv", &roster);

    let begun = Instant::now();
    // 1. The package. It observes at once. The upstream stands for what a real office needs no line for.
    machine.ok("dpkg -i /root/packetboat.deb");
    machine.ok("install -m 644 /root/office/roots.pem /etc/packetboat/roots.pem");
    machine.ok(&format!(
        "printf '\\n[upstream.exchange]\\nhost = \"127.0.0.1\"\\nimap_port = {imap}\\npop3_port = {pop3}\\n\
         roots = \"/etc/packetboat/roots.pem\"\\n' >> /etc/packetboat/packetboat.toml"
    ));
    // 2. The setup.
    let made = machine.ok(&format!(
        "cd /root && packetboat init --yes --tenant {TENANT} --devices devices.csv --name localhost \
         --network 127.0.0.0/8 --authority https://127.0.0.1:{endpoint} --roots /etc/packetboat/roots.pem \
         --upstream exchange"
    ));
    assert!(made.contains("for 12 devices"), "{made}");
    assert_eq!(machine.ok("stat -c '%U %a' /etc/packetboat/credentials/app.key"), "root 600");
    assert_eq!(machine.ok("stat -c '%U:%G %a' /etc/packetboat/packetboat.toml"), "root:packetboat 640");
    // The sockets of the package are enabled, and so the devices get the usual ports.
    assert!(!made.contains("is not enabled"), "{made}");
    machine.ok("grep 'port 993, SSL/TLS' /root/packetboat-setup/device1.txt");
    // The certificate of the observing service has had the host's names; now it has those that devices use.
    assert!(machine.ok("packetboat certificate show").contains("names    localhost\n"));
    // 3. The script.
    machine.ok("touch /root/office/script-has-run");
    machine.until("cat /root/office/rights", "given");
    // 4. The end.
    let finished = machine.ok(&format!("cd /root && packetboat init --finish {CLIENT} --wait 30s"));
    assert!(finished.ends_with("12 of 12 accounts ready"), "{finished}");
    for number in 0..DEVICES {
        let mail = read_mail(&machine, number);
        assert!(mail.contains(&format!("Hello, device {number}.")), "device{number}: {mail}\n{}", machine.journal());
    }
    let lasted = begun.elapsed();
    println!("from the package to mail in twelve devices: {:.1} s", lasted.as_secs_f64());
    assert!(lasted < Duration::from_secs(60), "{lasted:?}");

    // Afterwards by commands: a device more, and one less.
    let sheet = machine.ok("packetboat device add spare --mailbox device1@contoso.example --network 127.0.0.1");
    assert!(sheet.contains("configuration reloaded") && sheet.contains("user name   spare"), "{sheet}");
    assert!(machine.ok("packetboat device remove spare").contains("configuration reloaded"));
    renew_the_identity(&machine);
}

/// The key is a credential, which systemd hands over when the service starts: the renewal restarts it, and devices go on.
fn renew_the_identity(machine: &Machine) {
    let process = || machine.ok("systemctl show --property MainPID --value packetboat");
    let before = process();
    machine.ok("cd /root && packetboat identity renew office --no-wait");
    assert_eq!(machine.ok("stat -c '%U %a' /etc/packetboat/credentials/app-2.key"), "root 600");
    machine.ok("touch /root/office/script-has-run-again");
    machine.until("cat /root/office/renewal", "uploaded");
    let renewed = machine.ok("cd /root && packetboat identity renew office --wait 60s");
    assert!(renewed.contains("packetboat restarted"), "{renewed}");
    assert_ne!(process(), before);
    machine.ok("grep 'key = \"credential:app-2.key\"' /etc/packetboat/packetboat.toml");
    machine.until("packetboat health --ready", "ready");
    let mail = read_mail(machine, 0);
    assert!(mail.contains("Hello, device 0."), "{mail}\n{}", machine.journal());
}

/// Starts the simulator in the container; returns the ports of IMAP, POP3 and the token endpoint.
fn start_simulator(machine: &Machine) -> [u16; 3] {
    machine.ok(&format!("mkdir -p {OFFICE}/simulator && chmod 700 {OFFICE}/simulator"));
    machine.copy(&std::env::current_exe().unwrap(), "/root/office/program");
    machine
        .ok("systemd-run --unit office /root/office/program --ignored --exact first_hour::play_microsoft --nocapture");
    let ports = machine.until("cat /root/office/ports", "ready");
    let ports: Vec<u16> = ports.split(' ').filter_map(|port| port.parse().ok()).collect();
    ports.try_into().unwrap()
}

/// Reads the mail of a device over TLS 1.0, by what its sheet says.
fn read_mail(machine: &Machine, number: usize) -> String {
    let sheet = machine.ok(&format!("cat /root/packetboat-setup/device{number}.txt"));
    let row = |key: &str| {
        let line = sheet.lines().find_map(|line| line.trim_start().strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key} in {sheet}")).trim().to_owned()
    };
    let (user, password, way) = (row("user name"), row("password"), row(protocol(number).name()));
    let port: String = way.trim_start_matches("port ").chars().take_while(char::is_ascii_digit).collect();
    let commands = match protocol(number) {
        Protocol::Imap => {
            format!("a LOGIN {user} {password}\\r\\nb SELECT INBOX\\r\\nc FETCH 1 BODY[]\\r\\nd LOGOUT\\r\\n")
        }
        Protocol::Pop3 => format!("USER {user}\\r\\nPASS {password}\\r\\nRETR 1\\r\\nQUIT\\r\\n"),
        Protocol::Smtp => unreachable!("these devices read"),
    };
    machine.ok(&format!(
        "printf '{commands}' | openssl s_client -quiet -tls1 -cipher AES128-SHA:@SECLEVEL=0 -connect 127.0.0.1:{port}"
    ))
}
