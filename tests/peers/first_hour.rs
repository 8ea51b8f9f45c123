//! The first hour: from a list of devices to mail in each of them, by `packetboat init`, the script's effects, and
//! `packetboat init --finish`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use packetboat::crypto::VerifyingKey;
use packetboat::protocol::Protocol;
use packetboat::simulator::{ClientCertificate, User};

use support::exchange::{APP, Exchange, Ran, TENANT};
use support::free_ports;
use support::imap::Imap;
use support::network;
use support::pop3::Pop3;
use support::process::{Lines, Process, program};
use support::stacks::{Start, TLS_1_0};

pub(crate) const DEVICES: usize = 12;

/// An office: a simulator with twelve mailboxes, and a directory as the package makes it.
pub(crate) struct Office {
    exchange: Exchange,
    directory: tempfile::TempDir,
}

impl Office {
    /// An office with a network of its own.
    pub(crate) fn new() -> Self {
        network::alone();
        let exchange = Exchange::with(|tenant| {
            tenant.client_secret = None;
            tenant.users = (0..DEVICES).map(|number| User::new(&mailbox(number), "another")).collect();
            tenant.app_mailboxes.clear();
        });
        let directory = tempfile::tempdir().unwrap();
        let office = Self { exchange, directory };
        let (simulator, state) = (&office.exchange.simulator, office.path("state"));
        let template = format!(
            "# As the package installs it.\n\nstate_directory = {state:?}\n\n# The simulator.\n[upstream.exchange]\n\
             host = \"127.0.0.1\"\nimap_port = {}\npop3_port = {}\nroots = {:?}\n\n[admin]\nlisten = [\"127.0.0.1:0\"]\n\n\
             [log]\nformat = \"json\"\n\n[[listener]]\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\n\
             profile = \"ancient\"\nobserve = true\n",
            simulator.imap().port(),
            simulator.pop3().port(),
            simulator.authority()
        );
        fs::write(office.file(), template).unwrap();
        fs::set_permissions(office.file(), fs::Permissions::from_mode(0o640)).unwrap();
        let roster: String = (0..DEVICES).map(|number| format!("{}\n", line(number))).collect();
        fs::write(office.path("devices.csv"), format!("name,mailbox,protocol,address\n{roster}")).unwrap();
        office
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path("packetboat.toml")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(program());
        command.args(arguments).arg("--config").arg(self.file()).stdin(Stdio::null());
        Ran::of(command.output().unwrap())
    }

    pub(crate) fn init(&self, more: &[&str]) -> Ran {
        let authority = format!("https://{}", self.exchange.simulator.endpoint());
        let (roots, output) = (self.exchange.simulator.authority(), self.path("out"));
        let devices = self.path("devices.csv");
        let [roots, output, devices] = [&roots, &output, &devices].map(|path| path.to_str().unwrap());
        let mut arguments = vec!["init", "--yes", "--tenant", TENANT, "--devices", devices];
        if !more.contains(&"--output") {
            arguments.extend(["--output", output]);
        }
        arguments.extend(["--authority", &authority, "--roots", roots, "--upstream", "exchange"]);
        arguments.extend(more);
        self.run(&arguments)
    }

    /// Does at the pretend Microsoft what packetboat.ps1 does: registers the certificate that stands in it, and lets the
    /// app open the mailboxes that it names.
    pub(crate) fn run_script(&self) {
        let script = fs::read_to_string(self.path("out/packetboat.ps1")).unwrap();
        let certificate = X509::from_pem(&fs::read(self.path("app.pem")).unwrap()).unwrap();
        let der = openssl::base64::encode_block(&certificate.to_der().unwrap());
        let lines: String = script.split_whitespace().collect();
        assert!(lines.contains(&der), "the script has another certificate");
        let key = VerifyingKey::from_pem(&certificate.public_key().unwrap().public_key_to_pem().unwrap()).unwrap();
        let digest = certificate.digest(MessageDigest::sha256()).unwrap();
        let thumbprint = URL_SAFE_NO_PAD.encode(digest);
        self.exchange.simulator.upload_certificate(ClientCertificate { key, thumbprint });
        for number in 0..DEVICES {
            assert!(script.contains(&mailbox(number)), "the script lacks {}", mailbox(number));
            self.exchange.simulator.grant_mailbox(&mailbox(number));
        }
    }

    /// The rows of a device's sheet: server's port, user name, password.
    fn sheet(&self, number: usize) -> (u16, String, String) {
        let path = self.path(&format!("out/device{number}.txt"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(path).unwrap();
        let row = |key: &str| {
            let line = text.lines().find_map(|line| line.trim_start().strip_prefix(key));
            line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_owned()
        };
        let port = row(protocol(number).name());
        let port = port.split([' ', ',']).nth(1).unwrap().parse().unwrap();
        (port, row("user name"), row("password"))
    }
}

fn mailbox(number: usize) -> String {
    format!("device{number}@contoso.example")
}

fn protocol(number: usize) -> Protocol {
    if number.is_multiple_of(3) { Protocol::Pop3 } else { Protocol::Imap }
}

fn line(number: usize) -> String {
    format!("device{number},{},{},127.0.0.1", mailbox(number), protocol(number).key())
}

/// Reads the one message of a mailbox as a device does: over TLS 1.0, by what the sheet says.
fn read_mail(office: &Office, number: usize) {
    let message = support::message(1000 + number);
    assert!(office.exchange.simulator.deliver(&mailbox(number), message.clone()));
    let (port, login, password) = office.sheet(number);
    let device = TLS_1_0.connect(([127, 0, 0, 1], port).into(), Start::Implicit);
    match protocol(number) {
        Protocol::Imap => {
            let mut imap = Imap::greeted(device);
            imap.login(&login, &password);
            imap.ok("SELECT INBOX");
            assert!(imap.fetch(1) == message, "device{number}");
        }
        Protocol::Pop3 => Pop3::greeted(device).session(&login, &password, &[&message]),
        Protocol::Smtp => unreachable!("no device of this test submits mail"),
    }
}

/// Puts the listeners on free ports of loopback: the test may not take the registered ones.
pub(crate) fn move_listeners(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let ports: [u16; 4] = free_ports();
    let mut free = ports.into_iter();
    let lines = text.lines().map(|line| {
        if line.starts_with("listen = [\"0.0.0.0:") {
            format!("listen = [\"127.0.0.1:{}\"]", free.next().unwrap())
        } else {
            line.to_owned()
        }
    });
    let text: Vec<String> = lines.collect();
    fs::write(file, text.join("\n") + "\n").unwrap();
}

#[test]
fn twelve_devices_get_their_mail_after_four_commands() {
    let office = Office::new();
    let made = office.init(&["--name", "localhost"]);
    assert_eq!(made.code, 0, "{}{}", made.output, made.errors);
    assert!(made.output.contains("packetboat init --finish"), "{}", made.output);
    let text = fs::read_to_string(office.file()).unwrap();
    assert!(!text.contains("observe") && !text.contains("ancient"), "{text}");
    assert!(text.contains("# The simulator.\n[upstream.exchange]") && !text.contains("As the package"), "{text}");
    let before = fs::read_to_string(office.path("packetboat.toml.bak")).unwrap();
    assert!(before.starts_with("# As the package installs it."));
    let key = fs::metadata(office.path("app.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(office.run(&["check"]).code, 0);
    let exported = office.path("exported.der");
    let export = office.run(&["certificate", "export", "--der", "-o", exported.to_str().unwrap()]);
    assert_eq!(export.code, 0, "{}", export.errors);
    assert_eq!(fs::read(office.path("out/ca.der")).unwrap(), fs::read(exported).unwrap());

    // The sheets name the ports of the file, and the test cannot have those: it moves them, and has the sheets made anew.
    move_listeners(&office.file());
    let mut command = Command::new(program());
    command.args(["run", "--config"]).arg(office.file()).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process::start(&mut command);
    let log = Lines::of(process.0.stderr.take().unwrap());
    log.wait_for("line that it is ready", |line| line.contains("\"message\":\"ready\""));

    // Before the script has run, no account works, and nothing is promised.
    let early = office.run(&["init", "--finish", APP, "--wait", "0s"]);
    assert_eq!(early.code, 69, "{}", early.output);
    assert!(early.errors.contains("run the same command again"), "{}", early.errors);
    office.run_script();
    let finished = office.run(&["init", "--finish", APP, "--wait", "0s"]);
    assert_eq!(finished.code, 0, "{}{}", finished.output, finished.errors);
    assert!(fs::read_to_string(office.file()).unwrap().contains(&format!("client_id = \"{APP}\"")));
    for number in 0..DEVICES {
        let sheet = office.run(&["device", "sheet", &format!("device{number}"), "--protocol", protocol(number).key()]);
        let old = fs::read_to_string(office.path(&format!("out/device{number}.txt"))).unwrap();
        let port = |text: &str| text.lines().find(|line| line.contains("port ")).unwrap().to_owned();
        let moved = old.replace(&port(&old), &port(&sheet.output));
        fs::write(office.path(&format!("out/device{number}.txt")), moved).unwrap();
        read_mail(&office, number);
    }
}

/// A wrong tenant ends the setup at once, a wrong client id after the time that a new one may need. This test follows the
/// advice of both.
#[test]
fn a_refusal_that_waiting_cannot_change_ends_the_setup() {
    let office = Office::new();
    assert_eq!(office.init(&["--name", "localhost"]).code, 0);
    move_listeners(&office.file());
    office.run_script();
    let with_tenant = |from: &str, to: &str| {
        let text = fs::read_to_string(office.file()).unwrap();
        let (from, to) = (format!("tenant = \"{from}\""), format!("tenant = \"{to}\""));
        assert_eq!(text.matches(&from).count(), 1, "{text}");
        fs::write(office.file(), text.replace(&from, &to)).unwrap();
    };
    with_tenant(TENANT, "nobody.example");
    let begun = Instant::now();
    let ended = office.run(&["init", "--finish", APP]);
    assert_eq!(ended.code, 69, "{}", ended.output);
    assert!(ended.errors.contains("AADSTS90002") && !ended.errors.contains("trying again"), "{}", ended.errors);
    let advice = ended.errors.lines().last().unwrap();
    let [again, tenant] = ["run the same command again", "correct tenant in [identity.office]"];
    assert!(advice.contains("waiting does not change") && advice.contains(again), "{advice}");
    assert!(advice.contains(tenant) && advice.contains(office.file().to_str().unwrap()), "{advice}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());

    with_tenant("nobody.example", TENANT);
    let other = "22222222-2222-4222-8222-222222222222";
    let ended = office.run(&["init", "--finish", other, "--wait-refused", "1s"]);
    assert_eq!(ended.code, 69, "{}", ended.output);
    assert!(ended.errors.contains("AADSTS700016"), "{}", ended.errors);
    assert!(ended.errors.contains("trying again every 30 seconds for 1s, because packetboat.ps1"), "{}", ended.errors);
    assert!(ended.errors.contains("if the client id is wrong, run it with the right one"), "{}", ended.errors);
    let finished = office.run(&["init", "--finish", APP]);
    assert_eq!(finished.code, 0, "{}{}", finished.output, finished.errors);
}

/// A device that reads and sends has one line, one login and one sheet.
#[test]
fn devices_that_send_are_set_up_too() {
    let office = Office::new();
    let submission = format!("\n[upstream.exchange.smtp]\nport = {}\n", office.exchange.simulator.smtp().port());
    let template = fs::read_to_string(office.file()).unwrap();
    fs::write(office.file(), template + &submission).unwrap();
    let (both, sends) = (mailbox(0), mailbox(1));
    fs::write(office.path("devices.csv"), format!("mfp,{both},pop3+smtp\nplc,{sends},smtp\n")).unwrap();
    let made = office.init(&["--name", "localhost"]);
    assert_eq!(made.code, 0, "{}{}", made.output, made.errors);
    let text = fs::read_to_string(office.file()).unwrap();
    assert_eq!(text.matches("[[device]]").count(), 2, "{text}");
    assert_eq!(text.matches("protocol = \"smtp\"").count(), 2, "{text}");
    assert!(text.matches("protocol = \"pop3\"").count() == 2 && !text.contains("protocol = \"imap\""), "{text}");
    assert_eq!(office.run(&["check"]).code, 0);
    let sheet = |name: &str| fs::read_to_string(office.path(&format!("out/{name}.txt"))).unwrap();
    let sender = |mailbox: &str| format!("sender      {mailbox} (the device's own address, or From)");
    let of_both = sheet("mfp");
    assert!(of_both.contains("POP3  ") && of_both.contains("SMTP  ") && of_both.contains(&sender(&both)), "{of_both}");
    let of_sender = sheet("plc");
    assert!(
        !of_sender.contains("POP3") && of_sender.contains("SMTP  ") && of_sender.contains(&sender(&sends)),
        "{of_sender}"
    );
    let script = fs::read_to_string(office.path("out/packetboat.ps1")).unwrap();
    assert!(script.contains("Sends               = $true"), "{script}");
}

#[test]
fn nothing_is_written_where_something_is_missing_or_wrong() {
    let office = Office::new();
    let before = fs::read(office.file()).unwrap();
    let dry = office.init(&["--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.errors);
    assert!(dry.output.contains("[[device]]\nlogin = \"device11\""), "{}", dry.output);
    assert!(office.run(&["init", "--yes"]).errors.contains("--tenant is missing"));
    assert!(office.run(&["init", "--yes", "--tenant", TENANT]).errors.contains("--devices is missing"));
    assert!(office.run(&["init", "--tenant", TENANT]).errors.contains("--devices is missing"), "nobody can be asked");
    fs::write(office.path("devices.csv"), format!("{}\nfax,nobody,imap\n", line(1))).unwrap();
    let wrong = office.init(&[]);
    assert_eq!(wrong.code, 64);
    assert!(wrong.errors.contains("devices.csv: line 2: \"nobody\" is no mail address"), "{}", wrong.errors);
    assert_eq!(fs::read(office.file()).unwrap(), before);
    let there: Vec<String> = fs::read_dir(office.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "state")
        .collect();
    assert_eq!(there.len(), 2, "{there:?}");
}

/// The steps that can fail come before the configuration: no device is left with a password that nobody has seen.
#[test]
fn sheets_that_cannot_be_written_cost_nothing() {
    let office = Office::new();
    let before = fs::read(office.file()).unwrap();
    fs::create_dir(office.path("open")).unwrap();
    fs::set_permissions(office.path("open"), fs::Permissions::from_mode(0o755)).unwrap();
    for output in ["/proc/nope/x", office.path("open").to_str().unwrap()] {
        let ran = office.init(&["--output", output]);
        assert_ne!(ran.code, 0, "{output}");
        assert_eq!(fs::read(office.file()).unwrap(), before, "{output}: {}", ran.errors);
    }
    fs::write(office.path("devices.csv"), "far,far@contoso.example,imap,8.8.8.8\n").unwrap();
    let far = office.init(&[]);
    assert!(far.code == 64 && far.errors.contains("--network"), "{}", far.errors);
    assert_eq!(fs::read(office.file()).unwrap(), before);
    assert_eq!(office.init(&["--network", "8.8.8.0/24"]).code, 0);
}

#[test]
fn a_configuration_in_use_is_replaced_only_when_asked() {
    let office = Office::new();
    assert_eq!(office.init(&["--json"]).code, 0);
    let key = fs::read(office.path("app.key")).unwrap();
    let again = office.init(&[]);
    assert_eq!(again.code, 64);
    assert!(again.errors.contains("packetboat device add") && again.errors.contains("--replace"), "{}", again.errors);
    let first = fs::read(office.path("packetboat.toml.bak")).unwrap();
    let replaced = office.init(&["--replace", "--json"]);
    assert_eq!(replaced.code, 0, "{}", replaced.errors);
    let value: serde_json::Value = serde_json::from_str(&replaced.output).unwrap();
    assert_eq!(value["devices"], DEVICES);
    assert!(value["backup"].as_str().unwrap().ends_with("packetboat.toml.bak.1"));
    assert_eq!(fs::read(office.path("packetboat.toml.bak")).unwrap(), first, "the file of the package stays");
    assert_eq!(
        fs::read(office.path("app.key")).unwrap(),
        key,
        "the key stays: its certificate may be uploaded already"
    );
}
