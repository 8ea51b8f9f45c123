//! These tests prove each command's output, the files that it writes, and its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod change;
mod check;
mod credential;
mod documented_commands;
mod edit;
mod init;
mod interpreter;
mod owner;
mod powershell;
mod reference;
mod script;
mod service;
mod setup;
mod socket_unit;
mod tenant;
mod terminal;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Name};
use support::{free_ports, network};
use tempfile::TempDir;

struct Bench {
    directory: TempDir,
}

impl Bench {
    /// A bench with a network of its own: commands try the ports of the configuration, and of the page where it names none.
    fn new() -> Self {
        network::alone();
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, text: &str) -> PathBuf {
        let file = self.path("packetboat.toml");
        fs::write(&file, format!("state_directory = {:?}\n{text}", self.path("state"))).unwrap();
        file
    }

    /// Runs `packetboat ARGUMENTS --config` with this configuration.
    fn run(&self, arguments: &[&str], configuration: &str) -> Output {
        let file = self.configure(configuration);
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0");
        command.args(arguments).arg("--config").arg(file).output().unwrap()
    }

    /// A self-signed certificate with its key.
    fn certificate(&self, name: &str, key: &PKey<Private>) {
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", name).unwrap();
        let subject = subject.build();
        let mut builder = X509::builder().unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_pubkey(key).unwrap();
        builder.set_not_before(&openssl::asn1::Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&openssl::asn1::Asn1Time::days_from_now(30).unwrap()).unwrap();
        builder.sign(key, MessageDigest::sha256()).unwrap();
        fs::write(self.path(&format!("{name}.pem")), builder.build().to_pem().unwrap()).unwrap();
        let file = self.path(&format!("{name}.key"));
        fs::write(&file, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

fn ecdsa(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn listener(more: &str) -> String {
    format!(
        "[[listener]]\nname = \"scanners\"\nprotocol = \"imap\"\nlisten = [\"127.0.0.1:0\"]\nlogins = \"pass-through\"\n{more}\n"
    )
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, message: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", err(output));
    assert!(err(output).contains(message), "{}", err(output));
}

#[test]
fn check_finds_nothing_in_a_good_configuration() {
    let bench = Bench::new();
    let output = bench.run(&["check"], &listener(""));
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("no mistakes found\n  scanners: IMAP on 127.0.0.1:"), "{}", out(&output));
    assert!(
        out(&output).contains(". SSL/TLS or STARTTLS, TLS 1.0 to 1.3, profile \"legacy\". Passes logins from private")
    );
    assert!(out(&output).contains("certificate default: made on first start, as "), "{}", out(&output));
    assert!(!bench.path("state").exists(), "check writes nothing");
}

#[test]
fn roots_of_the_system_are_found() {
    let bench = Bench::new();
    let output =
        bench.run(&["check"], &format!("{}[upstream.x]\nhost = \"localhost\"\nroots = \"system\"", listener("")));
    assert!(output.status.success(), "{}", err(&output));
}

/// SSL_CERT_FILE and the configuration are Windows files here, too.
#[test]
fn files_of_windows_are_read() {
    let bench = Bench::new();
    bench.certificate("ca", &rsa());
    let pem = bench.path("ca.pem");
    fs::write(&pem, format!("\u{feff}{}", fs::read_to_string(&pem).unwrap())).unwrap();
    let text = format!("{}[upstream.x]\nhost = \"localhost\"\nroots = \"system\"", listener(""));
    let check = |file: &Path, text: Vec<u8>| {
        let configuration = bench.path("windows.toml");
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0").env("PACKETBOAT_STATE_DIRECTORY", bench.path("state"));
        command
            .args(["check", "--config"])
            .arg(configuration)
            .env("SSL_CERT_FILE", file)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap()
    };
    let with_mark = format!("\u{feff}{text}").replace('\n', "\r\n");
    assert!(check(&pem, with_mark.clone().into()).status.success(), "{}", err(&check(&pem, with_mark.into())));
    let utf_16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fails(&check(&pem, utf_16), 78, "windows.toml: is in UTF-16, as Windows PowerShell's > writes it");
    fails(&check(&pem, b"# \xe4\n".into()), 78, "windows.toml: is no text in UTF-8; save it in UTF-8");
    fails(&check(Path::new("/no/such.pem"), text.clone().into()), 69, "SSL_CERT_FILE: cannot read /no/such.pem");
    fs::write(&pem, X509::from_pem(&fs::read(&pem).unwrap()[3..]).unwrap().to_der().unwrap()).unwrap();
    fails(&check(&pem, text.into()), 69, "ca.pem is not in PEM; convert it with: openssl x509 -inform der");
}

#[test]
fn exit_codes_are_those_of_sysexits() {
    let bench = Bench::new();
    let packetboat =
        |arguments: &[&str]| Command::new(env!("CARGO_BIN_EXE_packetboat")).args(arguments).output().unwrap();
    fails(&packetboat(&["rum"]), 64, "a similar subcommand exists: 'run'");
    fails(&packetboat(&["check", "--config", "/nonexistent"]), 66, "/nonexistent: cannot be read");
    fails(
        &bench.run(&["check"], "[log]\nlevle = 1"),
        78,
        "packetboat.toml:3: unknown key `levle`; did you mean `level`?",
    );
    fails(&bench.run(&["run"], "[log]\nlevle = 1"), 78, "packetboat.toml:3: unknown key");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let in_use = listener("").replace("127.0.0.1:0", &address.to_string());
    fails(
        &bench.run(&["check"], &in_use),
        69,
        &format!("packetboat.toml:2: listener.scanners.listen: cannot listen on {address}: the port is in use by cli-"),
    );
    fails(&bench.run(&["run"], &in_use), 69, "the port is in use");
    let far = listener("").replace("127.0.0.1:0", "192.0.2.77:1993");
    fails(&bench.run(&["check"], &far), 69, "cannot listen on 192.0.2.77:1993: this host does not have that address");
    let roots = format!("{}[upstream.x]\nhost = \"localhost\"\nroots = \"/nonexistent.pem\"", listener(""));
    fails(&bench.run(&["check"], &roots), 69, "packetboat.toml:10: upstream.x.roots: cannot read /nonexistent.pem");
}

#[test]
fn help_is_written_for_administrators() {
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat")).arg("--help").output().unwrap();
    assert!(output.status.success());
    let codes = "Exit codes:\n  0   success\n  64  wrong arguments\n";
    let variables = "Environment variables, which override the configuration file:\n";
    for words in [variables, "printers, scanners", "run", "check", "certificate", "  PACKETBOAT_CONFIG  ", codes] {
        assert!(out(&output).contains(words), "{}", out(&output));
    }
}

#[test]
fn the_made_certificate_can_be_shown_exported_and_renewed() {
    let bench = Bench::new();
    let made = format!(
        "{}[certificate.default]\nnames = [\"mail.example\", \"192.0.2.1\", \"2001:db8::1\"]\ndigest = \"sha1\"",
        listener("")
    );
    let shown = out(&bench.run(&["certificate", "show"], &made));
    assert_eq!(fs::metadata(bench.path("state/default.key")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(bench.path("state")).unwrap().mode() & 0o777, 0o700);
    assert!(
        shown.contains("subject  CN = mail.example\n")
            && shown.contains("names    mail.example 192.0.2.1 2001:db8::1\n"),
        "{shown}"
    );
    assert!(shown.contains("\nca\n") && shown.contains("SHA-256  ") && shown.contains("SHA-1    "), "{shown}");
    let leaf = X509::from_pem(&fs::read(bench.path("state/default.pem")).unwrap()).unwrap();
    assert_eq!(leaf.signature_algorithm().object().nid(), Nid::SHA1WITHRSAENCRYPTION);
    assert_eq!(leaf.public_key().unwrap().rsa().unwrap().size(), 256);

    let pem = bench.run(&["certificate", "export"], &made).stdout;
    let der = bench.run(&["certificate", "export", "--der"], &made).stdout;
    let authority = X509::from_pem(&pem).unwrap();
    assert_eq!(authority.to_der().unwrap(), der);
    assert!(leaf.verify(&authority.public_key().unwrap()).unwrap());
    let file = bench.path("ca.der");
    let output = bench.run(&["certificate", "export", "--der", "--output", file.to_str().unwrap()], &made);
    assert!(output.status.success() && fs::read(file).unwrap() == der, "{}", err(&output));

    let output = bench.run(&["certificate", "export", "--output", "/nonexistent/ca.pem"], &made);
    fails(&output, 74, "cannot write /nonexistent/ca.pem");

    // `check` says that a changed setting waits for the next renewal.
    let changed = made.replace("mail.example", "gateway.example").replace("sha1", "sha256");
    let output = bench.run(&["check"], &changed);
    assert!(
        err(&output).contains("packetboat.toml:9: certificate.default.names: it was made for mail.example"),
        "{}",
        err(&output)
    );
    assert!(
        err(&output)
            .contains("certificate.default.digest: it was made with RSA-SHA1, before this was written: packetboat certificate renew default")
    );
    assert!(bench.run(&["check"], &made).stderr.is_empty());

    let output = bench.run(&["certificate", "renew"], &made);
    assert!(
        output.status.success() && out(&output).contains("a running proxy shows it to devices within seconds"),
        "{}",
        err(&output)
    );
    let renewed = X509::from_pem(&fs::read(bench.path("state/default.pem")).unwrap()).unwrap();
    assert_ne!(renewed.to_der().unwrap(), leaf.to_der().unwrap());
    assert!(renewed.verify(&authority.public_key().unwrap()).unwrap());
    fails(
        &bench.run(&["certificate", "renew", "other"], &made),
        64,
        "there is no certificate \"other\"; known are default",
    );
    assert_eq!(
        leftovers(&bench.path("state")),
        ["ca.key", "ca.pem", "certificates.lock", "default.key", "default.pem"]
    );
}

/// The proxy never replaces a CA on its own, because devices have imported it.
#[test]
fn a_ca_without_its_key_is_not_replaced() {
    let bench = Bench::new();
    let authority = bench.run(&["certificate", "export"], &listener("")).stdout;
    fs::rename(bench.path("state/ca.key"), bench.path("safe")).unwrap();
    fails(&bench.run(&["certificate", "renew"], &listener("")), 69, "ca.key is missing, the key of the CA in");
    // A missing CA key does not matter where no certificate has to be made.
    assert!(bench.run(&["check"], &listener("")).status.success());
    fs::remove_file(bench.path("state/default.pem")).unwrap();
    fails(&bench.run(&["check"], &listener("")), 69, "ca.key is missing, the key of the CA in");
    fs::rename(bench.path("safe"), bench.path("state/ca.key")).unwrap();
    fs::set_permissions(bench.path("state/ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fails(&bench.run(&["check"], &listener("")), 69, "ca.key can be read by everybody");
    fs::set_permissions(bench.path("state/ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(bench.run(&["certificate", "renew"], &listener("")).status.success());
    assert_eq!(bench.run(&["certificate", "export"], &listener("")).stdout, authority);
}

/// `check` accepts a file for the running proxy, although that proxy holds the ports.
#[test]
fn check_works_beside_the_running_proxy() {
    let bench = Bench::new();
    let [port] = free_ports();
    let port = SocketAddr::from(([127, 0, 0, 1], port));
    let text = listener("").replace("127.0.0.1:0", &port.to_string());
    let file = bench.configure(&text);
    let mut running = Command::new(env!("CARGO_BIN_EXE_packetboat"))
        .args(["run", "--config"])
        .env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0")
        .arg(&file)
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::net::TcpStream::connect(port).is_err() {
        assert!(std::time::Instant::now() < deadline);
    }
    let output = bench.run(&["check"], &text);
    let second = bench.run(&["run"], &text);
    let elsewhere = bench.path("elsewhere");
    let third = bench.run(&["run", "--state-directory", elsewhere.to_str().unwrap()], &text);
    let id = running.id();
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(output.status.success(), "{}", err(&output));
    assert!(out(&output).contains("in use by the running packetboat: fine"), "{}", out(&output));
    fails(&second, 69, &format!("is in use by process {id} ("));
    fails(&third, 69, "the port is in use by packetboat, process ");
}

/// `check` also tests sections that no listener uses.
#[test]
fn check_looks_at_every_section() {
    let bench = Bench::new();
    let unused =
        format!("{}[certificate.other]\nchain = \"/nonexistent.pem\"\nkey = \"/nonexistent.key\"", listener(""));
    fails(
        &bench.run(&["check"], &unused),
        69,
        "packetboat.toml:9: certificate.other.chain: cannot read /nonexistent.pem",
    );
    let unused = format!(
        "{}[upstream.a]\nhost = \"localhost\"\n[upstream.b]\nhost = \"localhost\"\nroots = \"/nonexistent.pem\"",
        listener("upstream = \"a\"")
    );
    fails(&bench.run(&["check"], &unused), 69, "upstream.b.roots: cannot read /nonexistent.pem");
    let bad = format!("{}[upstream.a]\nhost = \"mail..example\"", listener(""));
    fails(&bench.run(&["check"], &bad), 69, "packetboat.toml:9: upstream.a.host: is neither a DNS name");
}

fn leftovers(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn only_nist_curves_are_taken() {
    let bench = Bench::new();
    bench.certificate("one", &rsa());
    let (chain, key) = (bench.path("one.pem"), bench.path("one.key"));
    for (curve, is_taken) in [
        (Nid::X9_62_PRIME256V1, true),
        (Nid::SECP384R1, true),
        (Nid::SECP521R1, true),
        (Nid::SECP256K1, false),
        (Nid::BRAINPOOL_P256R1, false),
    ] {
        bench.certificate("curve", &ecdsa(curve));
        let output = bench.run(
            &["check"],
            &format!(
                "{}[certificate.default]\nchain = {chain:?}\nkey = {key:?}\necdsa_chain = {:?}\necdsa_key = {:?}",
                listener(""),
                bench.path("curve.pem"),
                bench.path("curve.key")
            ),
        );
        if is_taken {
            assert!(output.status.success(), "{}", err(&output));
        } else {
            fails(&output, 69, "is on another curve than P-256, P-384 and P-521");
        }
    }
}

#[test]
fn your_own_files_are_checked_against_each_other() {
    let bench = Bench::new();
    bench.certificate("one", &rsa());
    bench.certificate("two", &rsa());
    bench.certificate("curve", &ecdsa(Nid::X9_62_PRIME256V1));
    let own = |chain: &str, key: &str, more: &str| {
        format!(
            "{}[certificate.default]\nchain = {:?}\nkey = {:?}\n{more}",
            listener(""),
            bench.path(chain),
            bench.path(key)
        )
    };
    let output = bench.run(&["check"], &own("one.pem", "one.key", ""));
    assert!(output.status.success(), "{}", err(&output));
    assert!(!bench.path("state").exists(), "nothing is made where nothing is asked for");
    fails(
        &bench.run(&["check"], &own("one.pem", "two.key", "")),
        69,
        "two.key is not the key of the first certificate in",
    );
    fails(&bench.run(&["check"], &own("one.key", "one.key", "")), 69, "one.key holds no certificate in PEM");
    fs::write(bench.path("junk.key"), "no key").unwrap();
    fs::set_permissions(bench.path("junk.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fails(&bench.run(&["check"], &own("one.pem", "junk.key", "")), 69, "junk.key holds no private key in PEM");
    fails(&bench.run(&["check"], &own("none.pem", "one.key", "")), 69, "none.pem: No such file");
    fails(
        &bench.run(&["check"], &own("curve.pem", "curve.key", "")),
        69,
        "is not an RSA certificate, which old devices need",
    );
    let beside = format!("ecdsa_chain = {:?}\necdsa_key = {:?}", bench.path("curve.pem"), bench.path("curve.key"));
    let output = bench.run(&["check"], &own("one.pem", "one.key", &beside));
    assert!(output.status.success(), "{}", err(&output));
    fs::set_permissions(bench.path("one.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fails(&bench.run(&["check"], &own("one.pem", "one.key", "")), 69, "mend it with: chmod o-rwx");
    fails(
        &bench.run(&["certificate", "export"], &own("two.pem", "two.key", "")),
        69,
        "import their CA into the device",
    );
    fails(&bench.run(&["certificate", "renew"], &own("two.pem", "two.key", "")), 69, "is your own file");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let bench = Bench::new();
    fs::write(bench.path("state"), "a file").unwrap();
    fails(&bench.run(&["check"], &listener("")), 69, "set state_directory to another one");
    fails(&bench.run(&["run"], &listener("")), 69, "set state_directory to a directory that this user may write");
}

/// Runs `packetboat ARGUMENTS` with this standard input.
fn given(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_packetboat"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_ref()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn passwords_are_made_and_hashed() {
    let made = out(&given(&["password", "--length", "15"], ""));
    let field = |name: &str| {
        let line = made.lines().find(|line| line.starts_with(name)).unwrap();
        line.trim_start_matches(name).trim().to_owned()
    };
    assert_eq!(field("password").len(), 15);
    let hash = packetboat::device::password::Hash::parse(&field("hash")).unwrap();
    assert!(hash.is_of(field("password").as_bytes()));
    let hash = out(&given(&["password", "--stdin"], "two words and more \r\nnext line\n"));
    assert_eq!(hash.lines().count(), 1);
    assert!(packetboat::device::password::Hash::parse(hash.trim()).unwrap().is_of(b"two words and more "));
    let hash = out(&given(&["password", "--stdin"], "\u{feff}k7m2xp9at\r\n"));
    assert!(
        packetboat::device::password::Hash::parse(hash.trim()).unwrap().is_of(b"k7m2xp9at"),
        "as PowerShell pipes it"
    );
    for (input, words) in [
        ("k7m2xp9at\tx\n", "holds a character that nobody sees (U+0009)"),
        ("k7m2xp9at\u{200b}\n", "holds a character that nobody sees (U+200B)"),
        ("k7m2\0xp9at\n", "holds a character that nobody sees (U+0000)"),
        ("\u{feff}\n", "there is no password"),
    ] {
        fails(&given(&["password", "--stdin"], input), 64, words);
    }
    fails(&given(&["password", "--stdin"], b"\xff\xfek\x007\0m\0"), 64, "the password is in UTF-16");
    fails(&given(&["password", "--stdin"], "\n"), 64, "there is no password");
    fails(&given(&["password", "--stdin"], "short\n"), 64, "fewer than 8");
    fails(&given(&["password", "--length", "3"], ""), 64, "3");
}

const TRANSLATED: &str = "[identity.office]\ntenant = \"contoso.example\"\nclient_id = \"11111111-2222-3333-4444-555555555555\"\n\
    [account.scans]\nmailbox = \"scans@contoso.example\"\n[account.o]\nmailbox = \"o'neill@contoso.example\"\n";

#[test]
fn setup_prints_the_steps_for_this_configuration() {
    let bench = Bench::new();
    bench.certificate("app", &rsa());
    let files = format!("certificate = {:?}\nkey = {:?}\n", bench.path("app.pem"), bench.path("app.key"));
    let application = TRANSLATED.replace("[account.scans]", &format!("{files}[account.scans]"));
    let text = out(&bench.run(&["setup"], &application));
    for step in [
        "Application permissions: IMAP.AccessAsApp and POP.AccessAsApp",
        "https://login.microsoftonline.com/contoso.example/adminconsent?client_id=11111111-2222-3333-4444-555555555555&redirect_uri=",
        "SHA-256 ",
        "Enterprise applications, the application, Overview, Object ID",
        "New-ServicePrincipal -AppId '11111111-2222-3333-4444-555555555555' -ObjectId $object",
        "Add-MailboxPermission -Identity 'scans@contoso.example' -User $object -AccessRights FullAccess",
        "Set-CASMailbox -Identity 'o''neill@contoso.example' -ImapEnabled $true -PopEnabled $true",
        "packetboat check --online",
    ] {
        assert!(text.contains(step), "{step}\n{text}");
    }
    let person = TRANSLATED
        .replace("[account.scans]", "cloud = \"gcc-high\"\ngrant = \"authorization-code\"\n[account.scans]")
        .replace("[account.o]", "user = \"boss@contoso.example\"\n[account.o]");
    let text = out(&bench.run(&["setup"], &person));
    for step in [
        "Delegated permissions: IMAP.AccessAsUser.All and POP.AccessAsUser.All",
        "https://login.microsoftonline.us/contoso.example/v2.0/adminconsent?client_id=11111111-2222-3333-4444-555555555555&scope=",
        "Connect-ExchangeOnline -ExchangeEnvironmentName O365USGovGCCHigh",
        "Add-MailboxPermission -Identity 'scans@contoso.example' -User 'boss@contoso.example'",
        "packetboat login scans",
        "packetboat login o",
    ] {
        assert!(text.contains(step), "{step}\n{text}");
    }
    assert!(!text.contains("New-ServicePrincipal"));
}

#[test]
fn a_translating_listener_needs_devices_and_their_accounts() {
    let bench = Bench::new();
    let nobody = listener("").replace("logins = \"pass-through\"\n", "");
    fails(&bench.run(&["check"], &nobody), 78, "packetboat.toml:2: listener.scanners.logins: no device could log in");
    let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
    let secret = bench.path("secret");
    let device = format!("[[device]]\nlogin = \"scanner3\"\naccount = \"scans\"\npasswords = [\"{hash}\"]\n");
    let text = TRANSLATED.replace("[account.scans]", &format!("client_secret_file = {secret:?}\n[account.scans]"));
    let text = format!("{text}{device}{nobody}");
    fails(&bench.run(&["check"], &text), 69, "identity.office.client_secret_file: cannot read");
    fs::write(&secret, "s3cret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    fails(&bench.run(&["check"], &text), 69, &format!("mend it with: chmod o-rwx {}", secret.display()));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let output = bench.run(&["check"], &text);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("account.o: no device names it"), "{}", err(&output));
    assert!(!bench.path("state").exists(), "check writes nothing");
    fails(&bench.run(&["run"], &nobody), 78, "no device could log in, because there is no [[device]]");
    let broken = text.replace(&hash, "$argon2id$v=19$nonsense");
    fails(&bench.run(&["check"], &broken), 78, "device.scanner3.passwords: holds something that is no Argon2id hash");
    fails(&bench.run(&["login", "nobody"], &text), 64, "there is no account \"nobody\"; known are o, scans");
    fails(&bench.run(&["login", "scans"], &text), 64, "account \"scans\" needs nobody to sign in");
    fails(&bench.run(&["logout", "nobody"], &text), 64, "there is no account \"nobody\"; known are o, scans");
    fails(&bench.run(&["logout", "scans"], &text), 64, "account \"scans\" has no sign-in");
}

/// `check` warns before a secret or certificate expires.
#[test]
fn check_warns_before_secrets_and_certificates_expire() {
    let bench = Bench::new();
    bench.certificate("app", &rsa());
    let files = format!("certificate = {:?}\nkey = {:?}\n", bench.path("app.pem"), bench.path("app.key"));
    let text = TRANSLATED.replace("[account.scans]", &format!("{files}[account.scans]"));
    let output = bench.run(&["check"], &(text + &listener("")));
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("identity.office.certificate: it ends in "), "{}", err(&output));
    fs::write(bench.path("secret"), "s3cret").unwrap();
    fs::set_permissions(bench.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let secret = format!("client_secret_file = {:?}\nclient_secret_expires = \"2020-01-01\"\n", bench.path("secret"));
    let text = TRANSLATED.replace("[account.scans]", &format!("{secret}[account.scans]"));
    let output = bench.run(&["check"], &(text + &listener("")));
    assert!(err(&output).contains("identity.office.client_secret_expires: it has ended: "), "{}", err(&output));
}

/// Devices are to trust the demo's CA, so the demo refuses a directory that another user may have planted.
#[test]
fn the_demo_does_not_follow_links() {
    let bench = Bench::new();
    let user = fs::metadata(bench.directory.path()).unwrap().uid();
    std::os::unix::fs::symlink(bench.path("elsewhere"), bench.path(&format!("packetboat-demo-{user}"))).unwrap();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat"))
        .args(["demo", "--once", "--listen", "127.0.0.1"])
        .env("TMPDIR", bench.directory.path())
        .output()
        .unwrap();
    fails(&output, 69, "is no directory; put it away");
    assert!(leftovers(&bench.path("elsewhere")).is_empty());
}

/// A reply at the control socket cannot fill the memory of the command that reads it.
#[test]
fn a_long_answer_about_health_is_refused() {
    let bench = Bench::new();
    let listener = std::os::unix::net::UnixListener::bind(bench.path("control")).unwrap();
    let answering = std::thread::spawn(move || {
        for length in [20, (64 << 10) + 1] {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
        }
    });
    let ask = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
        command.args(["health", "--state-directory"]).arg(bench.directory.path()).output().unwrap()
    };
    assert_eq!(ask().status.code(), Some(0));
    fails(&ask(), 69, "more than 65536 octets");
    answering.join().unwrap();
}

/// The first start makes the state directory, and a bare name is a path as well.
#[test]
fn a_state_directory_may_be_relative_and_not_there_yet() {
    let bench = Bench::new();
    let file = bench.path("packetboat.toml");
    fs::write(&file, format!("state_directory = \"kept here\"\n{}", listener(""))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.current_dir(bench.directory.path()).args(["check", "--config"]).arg(file);
    for given in [None, Some("state")] {
        given.map(|name| command.env("PACKETBOAT_STATE_DIRECTORY", name));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    }
}

/// The operator has written a secret in the place of its file, and the secret looks like a path.
#[test]
fn a_path_that_leads_nowhere_is_not_repeated_where_a_secret_belongs() {
    let bench = Bench::new();
    for secret in ["/Tr0ub4dor3xyz", "/Tr0ub/4dor="] {
        let named = format!("client_secret_file = \"{secret}\"\n[admin]\ntoken_file = \"{secret}\"\n[account.scans]");
        let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
        let device = format!("[[device]]\nlogin = \"scanner3\"\naccount = \"scans\"\npasswords = [\"{hash}\"]\n");
        let listener = listener("").replace("logins = \"pass-through\"\n", "");
        let text = TRANSLATED.replace("[account.scans]", &named) + &device + &listener;
        let output = bench.run(&["check"], &text);
        fails(&output, 69, "identity.office.client_secret_file: cannot read");
        assert!(err(&output).contains("admin.token_file"), "{}", err(&output));
        assert!(!err(&output).contains("Tr0ub"), "{}", err(&output));
    }
}

/// A service manager keeps the command's output, so that output never has a password given as an argument.
#[test]
fn values_of_arguments_are_not_repeated() {
    let bench = Bench::new();
    for (arguments, words) in [
        (&["password", "--stdin", "Tr0ub4dor"][..], "unexpected argument '...'"),
        (&["password", "--length", "Tr0ub4dor"], "invalid value '...' for '--length"),
        (&["password", "--length=Tr0ub4dor"], "invalid value '...' for '--length"),
        (&["reload", "--pid", "Tr0ub4dor"], "invalid value '...' for '--pid"),
        (&["Tr0ub4dor"], "unrecognized subcommand '...'"),
        (&["certificate", "Tr0ub4dor"], "unrecognized subcommand '...'"),
        (&["password", "--Tr0ub4dor"], "unexpected argument '...'"),
        (&["password", "-Tr0ub4dor"], "unexpected argument '...'"),
        (&["run", "--token", "Tr0ub4dor"], "unexpected argument '--token'"),
        (&["run", "--token=Tr0ub4dor"], "unexpected argument '--token'"),
        (&["demo", "--profile", "Tr0ub4dor"], "possible values: modern, legacy, ancient"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_packetboat")).args(arguments).output().unwrap();
        fails(&output, 64, words);
        assert!(!err(&output).contains("Tr0ub"), "{}", err(&output));
    }
    // The message names a misspelt option.
    fails(&bench.run(&["check", "--onlin"], ""), 64, "a similar argument exists: '--online'");
}
