//! The renewal of an application's certificate, beside a proxy that serves devices before, during and after it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::hash::MessageDigest;
use openssl::x509::X509;
use packetboat::crypto::VerifyingKey;
use packetboat::simulator::ClientCertificate;
use rustix::process::{Pid, Signal, kill_process};

use support::certificates::Certificates;
use support::exchange::*;
use support::process::{Lines, Process, program};
use support::proxy::Proxy;

/// A simulator that knows the certificate in use, and a proxy that uses it.
struct Office {
    exchange: Exchange,
    proxy: Proxy,
    chain: PathBuf,
}

impl Office {
    fn new() -> Self {
        let made = Certificates::for_name("packetboat", 30);
        let uploaded = registration(&made.leaf);
        let exchange = Exchange::with(|tenant| {
            tenant.client_secret = None;
            tenant.certificate = Some(uploaded);
        });
        let chain = exchange.file("app.pem", made.leaf.to_pem().unwrap());
        let key = exchange.file("app.key", made.key.private_key_to_pem_pkcs8().unwrap());
        let identity = format!("# Renewed in spring.\ncertificate = {chain:?}    # uploaded\nkey = {key:?}");
        let proxy = exchange.proxy(&exchange.configuration(&identity));
        Self { exchange, proxy, chain }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.chain.with_file_name(name)
    }

    fn renew(&self, more: &[&str]) -> Command {
        let script = self.file("packetboat.ps1");
        let mut command = Command::new(program());
        command.args(["identity", "renew", "office", "--output"]).arg(script).args(more);
        command.arg("--config").arg(self.proxy.configuration()).stdin(Stdio::null());
        command
    }

    fn run(&self, more: &[&str]) -> Ran {
        Ran::of(self.renew(more).output().unwrap())
    }

    /// Does the printed steps at the pretend Microsoft: the new certificate stands beside the old one.
    fn upload(&self, name: &str) {
        let certificate = read(&self.file(name));
        let script = fs::read_to_string(self.file("packetboat.ps1")).unwrap();
        let der = openssl::base64::encode_block(&certificate.to_der().unwrap());
        let lines: String = script.split_whitespace().collect();
        assert!(lines.contains(&der), "the script has another certificate");
        self.exchange.simulator.upload_certificate(registration(&certificate));
    }

    fn configuration(&self) -> String {
        fs::read_to_string(self.proxy.configuration()).unwrap()
    }

    /// Removes the old certificate at Microsoft: the proxy fetches a token with the new one alone.
    fn remove_old(&self) {
        let old = registration(&read(&self.chain)).thumbprint;
        self.exchange.simulator.remove_certificate(&old);
        let identity = self.check_identity();
        assert_eq!(identity.code, 0, "{}{}", identity.output, identity.errors);
    }

    fn check_identity(&self) -> Ran {
        let mut command = Command::new(program());
        command.args(["check", "--online", "--identity", "office", "--config"]).arg(self.proxy.configuration());
        Ran::of(command.stdin(Stdio::null()).output().unwrap())
    }

    fn serves(&self) {
        fetch_both(&self.exchange, &self.proxy, SCAN, LOGIN);
    }
}

fn read(path: &Path) -> X509 {
    X509::from_pem(&fs::read(path).unwrap()).unwrap()
}

fn registration(certificate: &X509) -> ClientCertificate {
    let key = VerifyingKey::from_pem(&certificate.public_key().unwrap().public_key_to_pem().unwrap()).unwrap();
    ClientCertificate { key, thumbprint: URL_SAFE_NO_PAD.encode(certificate.digest(MessageDigest::sha256()).unwrap()) }
}

fn hex(certificate: &X509, digest: MessageDigest, between: &str) -> String {
    let octets: Vec<String> = certificate.digest(digest).unwrap().iter().map(|octet| format!("{octet:02X}")).collect();
    octets.join(between)
}

#[test]
fn devices_are_served_before_during_and_after() {
    let office = Office::new();
    office.serves();
    let mut open = imap(&office.proxy);
    open.login(LOGIN, PASSWORD);
    let before = office.configuration();

    let mut waiting = Process::start(office.renew(&["--wait", "2m"]).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let said = Lines::of(waiting.0.stdout.take().unwrap());
    let errors = Lines::of(waiting.0.stderr.take().unwrap());
    errors.wait_for("that the new certificate is refused", |line| line.contains("trying again every"));
    assert!(errors.all().contains("AADSTS700027"), "{}", errors.all());
    let new = read(&office.file("app-2.pem"));
    for shown in [hex(&new, MessageDigest::sha1(), ""), hex(&new, MessageDigest::sha256(), ":")] {
        assert!(said.all().contains(&shown), "{}", said.all());
    }
    assert_eq!(fs::metadata(office.file("app-2.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(office.configuration(), before);
    office.serves();

    office.upload("app-2.pem");
    assert!(waiting.wait().success(), "{}", errors.all());
    let said = said.to_the_end();
    assert!(said.contains("configuration reloaded"), "{said}");
    let after = before.replace("app.pem\"", "app-2.pem\"").replace("app.key\"", "app-2.key\"");
    assert_eq!(office.configuration(), after);
    let (chain, key) = (office.file("app.pem"), office.file("app.key"));
    let deletable = format!("may be deleted: {} and {}", chain.display(), key.display());
    assert!(said.contains(&deletable), "{said}");
    assert!(said.contains(&format!("SHA-1 {}", hex(&read(&chain), MessageDigest::sha1(), ""))), "{said}");
    open.ok("NOOP");

    // The advice is followed.
    office.remove_old();
    fs::remove_file(chain).unwrap();
    fs::remove_file(key).unwrap();
    office.serves();
    let tokens = office.exchange.simulator.counts().grant("client_credentials");
    let (code, reloaded) = office.proxy.reload();
    assert_eq!(code, 0, "{reloaded}");
    office.serves();
    assert!(tokens >= 3, "the proxy, the try and the check have fetched one each: {tokens}");
}

#[test]
fn a_refused_upload_leaves_all_as_it_was_and_the_printed_command_goes_on() {
    let office = Office::new();
    let before = office.configuration();
    let first = office.run(&["--no-wait"]);
    assert_eq!(first.code, 0, "{}", first.errors);
    assert!(first.output.contains("made a new pair"), "{}", first.output);
    let key = fs::read(office.file("app-2.key")).unwrap();

    // Somebody else's certificate was uploaded.
    let other = Certificates::for_name("packetboat", 30);
    office.exchange.simulator.upload_certificate(registration(&other.leaf));
    let refused = office.run(&["--wait", "0s"]);
    assert_eq!(refused.code, 69, "{}", refused.output);
    assert!(refused.errors.contains("AADSTS700027"), "{}", refused.errors);
    assert!(refused.output.contains("goes on with the new pair that is there"), "{}", refused.output);
    assert_eq!(office.configuration(), before);
    assert_eq!(fs::read(office.file("app-2.key")).unwrap(), key);
    assert!(!office.file("app-3.key").exists());
    office.serves();

    office.upload("app-2.pem");
    // The warning of the 30 days before the end has the same command.
    let checked = office.check_identity();
    assert!(checked.errors.contains("renew it with packetboat identity renew office,"), "{}", checked.errors);
    let printed = refused.errors.lines().rev().find_map(|line| line.trim().strip_prefix("packetboat ")).unwrap();
    let mut command = Command::new(program());
    command.args(printed.split(' ')).current_dir(office.file("").as_path()).stdin(Stdio::null());
    let finished = Ran::of(command.output().unwrap());
    assert_eq!(finished.code, 0, "{}{}", finished.output, finished.errors);
    assert!(office.configuration().contains("app-2.pem\"    # uploaded"), "{}", office.configuration());
    office.remove_old();
    office.serves();
}

/// A command that is killed when the file is changed and the proxy has not loaded it leaves a note.
#[test]
fn a_kill_before_the_reload_is_made_good() {
    let office = Office::new();
    assert_eq!(office.run(&["--no-wait"]).code, 0);
    office.upload("app-2.pem");
    let note = office.proxy.configuration().with_extension("toml.swap");
    let (chain, key) = (office.file("app.pem"), office.file("app.key"));
    fs::write(&note, format!("office\n{}\n{}\n", chain.display(), key.display())).unwrap();
    // Killed before the file was changed: the renewal goes on with the same pair.
    let still = office.run(&["--no-wait"]);
    assert!(still.output.contains("goes on with the new pair"), "{}{}", still.output, still.errors);
    assert!(!note.exists());

    // Killed after it.
    let text = office.configuration().replace("app.pem\"", "app-2.pem\"").replace("app.key\"", "app-2.key\"");
    fs::write(office.proxy.configuration(), text).unwrap();
    fs::write(&note, format!("office\n{}\n{}\n", chain.display(), key.display())).unwrap();
    let again = office.run(&[]);
    assert_eq!(again.code, 0, "{}{}", again.output, again.errors);
    assert!(again.output.contains("goes on where an earlier command was interrupted"), "{}", again.output);
    assert!(again.output.contains("configuration reloaded") && again.output.contains("may be deleted"));
    assert!(!note.exists() && !office.file("app-3.pem").exists());
    office.remove_old();
    office.serves();
}

/// Killed anywhere, the command leaves a file that works, and the next one ends what it has begun.
#[test]
fn nothing_is_lost_at_a_kill() {
    let office = Office::new();
    assert_eq!(office.run(&["--no-wait"]).code, 0);
    office.upload("app-2.pem");
    let live = [fs::read(office.file("app.pem")).unwrap(), fs::read(office.file("app.key")).unwrap()];
    for step in 1..=12 {
        let mut command = office.renew(&["--wait", "0s"]);
        let mut killed = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        // The kill comes at another point of the work each time.
        std::thread::sleep(std::time::Duration::from_millis(40 * step));
        let _ = killed.0.kill();
        let _ = killed.0.wait();
        let identity = office.check_identity();
        assert_eq!(identity.code, 0, "after {step}: {}{}", identity.output, identity.errors);
        let kept = [fs::read(office.file("app.pem")).unwrap(), fs::read(office.file("app.key")).unwrap()];
        assert!(kept == live, "after {step}");
        office.serves();
        if office.configuration().contains("app-2.pem") {
            break;
        }
    }
    let note = office.proxy.configuration().with_extension("toml.swap");
    if note.exists() || !office.configuration().contains("app-2.pem") {
        let finished = office.run(&["--wait", "0s"]);
        assert_eq!(finished.code, 0, "{}{}", finished.output, finished.errors);
    }
    assert!(!note.exists() && !office.file("app-3.key").exists());
    office.remove_old();
    office.serves();
}

/// A proxy that does not answer may use the new pair or not: the file keeps it, and the same command goes on.
#[test]
fn a_proxy_that_does_not_answer_keeps_the_change() {
    let office = Office::new();
    assert_eq!(office.run(&["--no-wait"]).code, 0);
    office.upload("app-2.pem");
    let process = Pid::from_raw(office.proxy.process.0.id().try_into().unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let unanswered = office.run(&["--wait", "0s"]);
    kill_process(process, Signal::CONT).unwrap();
    assert_eq!(unanswered.code, 75, "{}{}", unanswered.output, unanswered.errors);
    assert!(unanswered.errors.contains("changed, but packetboat has not answered"), "{}", unanswered.errors);
    assert!(office.configuration().contains("app-2.pem"), "{}", office.configuration());
    let again = office.run(&["--wait", "0s"]);
    assert_eq!(again.code, 0, "{}{}", again.output, again.errors);
    assert!(again.output.contains("goes on where an earlier command was interrupted"), "{}", again.output);
    assert!(again.output.contains("configuration reloaded"), "{}", again.output);
    office.remove_old();
    office.serves();
}

/// The message names no file as deletable that another identity still uses.
#[test]
fn files_of_another_identity_are_kept() {
    let office = Office::new();
    let text = office.configuration().replace("[account.scans]\n", "[account.scans]\nidentity = \"office\"\n");
    let section = text.split("[identity.office]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    fs::write(office.proxy.configuration(), format!("{text}\n[identity.branch]{section}\n")).unwrap();
    let made = office.run(&["--no-wait"]);
    assert_eq!(made.code, 0, "{}{}", made.output, made.errors);
    office.upload("app-2.pem");
    let renewed = office.run(&["--wait", "0s"]);
    assert_eq!(renewed.code, 0, "{}{}", renewed.output, renewed.errors);
    let keep = format!("Keep {} and {}", office.file("app.pem").display(), office.file("app.key").display());
    assert!(renewed.output.contains(&keep), "{}", renewed.output);
    for words in ["may be deleted", "At Microsoft remove"] {
        assert!(!renewed.output.contains(words), "{}", renewed.output);
    }
    office.serves();
}

#[test]
fn what_has_no_certificate_is_not_renewed() {
    let office = Office::new();
    let unknown = Command::new(program())
        .args(["identity", "renew", "nobody", "--config"])
        .arg(office.proxy.configuration())
        .stdin(Stdio::null())
        .output();
    let unknown = Ran::of(unknown.unwrap());
    assert_eq!(unknown.code, 64);
    assert!(unknown.errors.contains("there is no identity \"nobody\"; known are office"), "{}", unknown.errors);
    let exchange = Exchange::new();
    let secret = exchange.run(&["identity", "renew", "office"], &exchange.configuration(BY_SECRET));
    assert_eq!(secret.code, 64);
    assert!(secret.errors.contains("has no certificate to renew"), "{}", secret.errors);
}
