//! These tests prove that mail programs and TLS stacks do the same on a parked connection as on one of their own, and that
//! Dovecot sees no login of theirs.
//!
//! Each reads a mailbox without parking first. Then a device does, one after the other and beside another one that holds
//! the mailbox's parked connection.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use support::dovecot::Dovecot;
use support::issuer::Issuer;
use support::proxy::{AUTO_FAST, AUTO_SLOW, detect_delay, entry, translating_listener, upstream};
use support::stacks::{Stack, Start, Version};
use support::translated;

use super::*;
use crate::matrix::ENTRIES;
use crate::programs::{curl, digest, python};

struct House {
    dovecot: Dovecot,
    proxy: Proxy,
    mailboxes: [String; 2],
    posted: AtomicUsize,
    _issuer: Issuer,
}

/// The mailbox whose server does not park, and the other one.
const DIALLED: usize = 0;
const PARKED: usize = 1;
/// The devices, and their mailboxes.
const DEVICES: [(&str, usize); 3] = [("dialled", DIALLED), ("first", PARKED), ("second", PARKED)];

impl House {
    fn new() -> Self {
        let issuer = Issuer::start();
        let dovecot = Dovecot::start_with_tokens_of(&issuer);
        let mailboxes = [(); 2].map(|()| dovecot.user_with(&[]));
        let (ports, roots) = ([dovecot.imaps, dovecot.pop3s], dovecot.roots());
        let directory = roots.parent().unwrap();
        let mut text =
            upstream("dialled", ports, directory, "") + &upstream("parked", ports, directory, "park = \"5m\"");
        for &(name, _) in ENTRIES {
            let more = format!("profile = \"ancient\"\n{}", detect_delay(name));
            text += &translating_listener(name, "imap", entry(name), &more);
        }
        for (name, mailbox) in ["dialled", "parked"].into_iter().zip(&mailboxes) {
            text += &translated::account(name, mailbox, name, &issuer);
        }
        for (login, mailbox) in DEVICES {
            text += &translated::device(login, ["dialled", "parked"][mailbox], PASSWORD, "");
        }
        let proxy = Proxy::start(&text);
        Self { dovecot, proxy, mailboxes, posted: AtomicUsize::new(0), _issuer: issuer }
    }

    fn post(&self, mailbox: usize) {
        for message in messages() {
            let number = self.posted.fetch_add(1, Ordering::Relaxed);
            self.dovecot.post(&self.mailboxes[mailbox], &format!("18{number:08}.M{number}P1.test"), &message);
        }
    }

    /// A device that has logged in and selected its mailbox.
    fn device(&self, login: &str) -> Imap {
        let mut device = self.proxy.imap("implicit");
        device.login(login, PASSWORD);
        device.ok("SELECT INBOX");
        device
    }

    /// The number of Dovecot's logins into the mailbox whose connection is parked.
    fn logins(&self) -> u64 {
        let login = format!("Login: user=<{}>", self.mailboxes[PARKED]);
        self.dovecot.log().lines().filter(|line| line.contains("imap-login") && line.contains(&login)).count() as u64
    }

    /// Empties the mailbox, and lets its device read it. The device's own sessions are counted.
    fn visit<T>(&self, (login, mailbox): (&str, usize), mut read: impl FnMut(&Self, &str) -> T) -> T {
        self.post(mailbox);
        let result = read(self, login);
        // Whatever is left is not there for the next one.
        let mut device = self.device(login);
        let exists = format!("{:?}", device.ok("STATUS INBOX (MESSAGES)"));
        if !exists.contains("(MESSAGES 0)") {
            device.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)");
        }
        device.ok("EXPUNGE");
        device.ok("LOGOUT");
        result
    }

    fn until_parked(&self, count: u64) {
        until_parked(&self.proxy, count);
    }
}

fn messages() -> [Vec<u8>; 2] {
    [support::message(1024), support::message(30_000)]
}

/// Lets the program read without parking, and with it. It makes this number of sessions, one after the other.
fn is_the_same<T: PartialEq + Debug>(sessions: u64, read: impl Fn(&House, &str) -> T) {
    let house = House::new();
    let expected = house.visit(DEVICES[0], &read);
    // The first connection that could be taken is compared with a dialled one.
    for count in [1, 2] {
        house.device("first").ok("LOGOUT");
        house.until_parked(count);
    }
    let taken = || house.proxy.metric("packetboat_parked_taken_total", "");
    let (before, mut parked) = (house.logins(), 2);
    for (visit, device) in [DEVICES[1], DEVICES[2], DEVICES[1]].into_iter().enumerate() {
        let (logins, had) = (house.logins(), taken());
        let result = house.visit(device, |house, login| {
            let result = read(house, login);
            parked += sessions;
            if sessions == 1 {
                house.until_parked(parked);
            }
            result
        });
        parked += 1;
        assert_eq!(result, expected, "visit {visit} of {}", device.0);
        // Each session has a login of its own, or the parked connection.
        let deadline = Instant::now() + PATIENCE;
        while house.logins() - logins + taken() - had != sessions + 1 {
            let (dialled, taken) = (house.logins() - logins, taken() - had);
            assert!(Instant::now() < deadline, "visit {visit}: {dialled} dialled, {taken} taken");
            std::thread::sleep(Duration::from_millis(5));
        }
        if sessions == 1 {
            house.until_parked(parked);
            assert_eq!(house.logins(), before, "{}", house.dovecot.log());
        }
    }
    // Another device has the parked connection.
    let holder = house.device("second");
    let result = house.visit(DEVICES[1], &read);
    assert_eq!(result, expected, "beside another device");
    holder.log_out();
    until(&house.proxy, "packetboat_parked_stale_total", "", 0);
    let is_failed = |line: &str| line.contains("session ended") && !line.contains("\"reason\":\"logged_out\"");
    assert_eq!(house.proxy.log.count(is_failed), 0, "{}", house.proxy.log.all());
}

/// A TLS stack does whole sessions, each through the next entry: it lists, fetches, deletes.
fn stack(stack: Stack) {
    let visits = AtomicUsize::new(0);
    is_the_same(1, |house, login| {
        let (name, starttls) = ENTRIES[visits.fetch_add(1, Ordering::Relaxed) % ENTRIES.len()];
        let start = if starttls { Start::StartTls("imap") } else { Start::Implicit };
        let device = stack.connect(house.proxy.address(name), start);
        let device = if starttls { Imap::over(device) } else { Imap::greeted(device) };
        device.session(login, PASSWORD, &messages().each_ref().map(Vec::as_slice));
    });
}

#[test]
fn openssl_at_tls_1_0() {
    stack(Stack::Openssl { version: Version::Tls1_0, ciphers: "ECDHE-RSA-AES256-SHA" });
}

#[test]
fn openssl_at_tls_1_1() {
    stack(Stack::Openssl { version: Version::Tls1_1, ciphers: "AES128-SHA" });
}

#[test]
fn openssl_at_tls_1_2_with_static_rsa() {
    stack(Stack::Openssl { version: Version::Tls1_2, ciphers: "AES256-SHA256" });
}

#[test]
fn openssl_at_sslv3_with_rc4() {
    stack(Stack::Openssl { version: Version::Ssl3, ciphers: "RC4-SHA" });
}

#[test]
fn s_client_at_tls_1_0() {
    stack(Stack::SClient("-tls1"));
}

#[test]
fn gnutls_at_tls_1_0() {
    stack(Stack::Gnutls);
}

#[test]
fn mbedtls_at_tls_1_0() {
    stack(Stack::Mbedtls);
}

#[test]
fn java_with_a_client_hello_in_sslv2_format() {
    stack(Stack::JavaSslv2Hello);
}

#[test]
fn curl_reads_over_implicit_tls_and_starttls() {
    for (scheme, name, more) in [("imaps", AUTO_SLOW, ""), ("imap", AUTO_FAST, "--ssl-reqd")] {
        is_the_same(1, |house, login| {
            let url = format!("{scheme}://{}/INBOX;MAILINDEX=2", house.proxy.address(name));
            let mut arguments: Vec<&str> = more.split_whitespace().collect();
            arguments.push(&url);
            let output = curl(&house.proxy, [login, PASSWORD], &arguments);
            assert!(output.starts_with(&messages()[1]), "{} octets", output.len());
            output
        });
    }
}

/// A command of the user's own, and an upload.
#[test]
fn curl_asks_and_uploads() {
    is_the_same(1, |house, login| {
        let url = format!("imaps://{}/INBOX", house.proxy.address("implicit"));
        let arguments = ["-X", "FETCH 1:* (FLAGS RFC822.SIZE)", &url];
        let listed = String::from_utf8(curl(&house.proxy, [login, PASSWORD], &arguments)).unwrap();
        listed.replace(" \\Recent", "").replace("\\Recent", "")
    });
    is_the_same(1, |house, login| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("message");
        std::fs::write(&file, b"Subject: uploaded\r\n\r\nx\r\n").unwrap();
        let url = format!("imaps://{}/INBOX", house.proxy.address("implicit"));
        curl(&house.proxy, [login, PASSWORD], &["-T", file.to_str().unwrap(), &url])
    });
}

#[test]
fn python_reads_over_implicit_tls_and_starttls() {
    is_the_same(2, |house, login| {
        let port = house.proxy.address(AUTO_FAST).port().to_string();
        let digests = python(&house.proxy, [port, "-".to_owned()], [login, PASSWORD]);
        assert_eq!(digests, vec![digest(&messages()[0]); 2]);
        digests
    });
}

#[test]
fn jakarta_mail_reads_at_tls_1_0() {
    let security = tempfile::tempdir().unwrap();
    let policy = security.path().join("java.security");
    let path = format!(
        "/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar:{}",
        security.path().display()
    );
    let mut compiler = Command::new("javac");
    compiler.args(["-cp", &path, "-d"]).arg(security.path());
    succeeded(&compiler.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/devices/Read.java")).output().unwrap());
    std::fs::write(&policy, "jdk.tls.disabledAlgorithms=\njdk.certpath.disabledAlgorithms=\n").unwrap();
    for (name, protocol) in [("implicit", "imaps"), ("starttls", "imap")] {
        is_the_same(1, |house, login| {
            let mut command = Command::new("java");
            command.arg(format!("-Djava.security.properties={}", policy.display()));
            command
                .args(["-XX:TieredStopAtLevel=1", "-cp", &path, "Read"])
                .arg(house.proxy.address(name).port().to_string());
            let said = succeeded(&command.args([login, PASSWORD, "TLSv1", protocol]).output().unwrap());
            for message in messages() {
                assert!(said.contains(&digest(&message)), "{said}");
            }
            said
        });
    }
}

/// mutt opens the mailbox, and copies all messages into a folder of its own.
#[test]
fn mutt_reads_over_implicit_tls_and_starttls() {
    for (name, scheme) in [("implicit", "imaps"), ("starttls", "imap")] {
        is_the_same(1, |house, login| {
            let home = tempfile::tempdir().unwrap();
            let (file, folder) = (home.path().join("muttrc"), home.path().join("copies"));
            let text = format!(
                "set imap_user = {login}\nset imap_pass = {PASSWORD}\nset ssl_starttls = yes\nset ssl_force_tls = yes\n\
                 set ssl_use_tlsv1 = yes\nset ssl_ciphers = \"NORMAL:-VERS-ALL:+VERS-TLS1.0:+RSA:+AES-128-CBC:+SHA1\"\n\
                 set certificate_file = {:?}\nset mbox_type = Maildir\nset confirmcreate = no\nset confirmappend = no\n\
                 set delete = yes\nset quit = yes\nset wait_key = no\nset mark_old = no\nset resolve = no\n\
                 push \"<jump>1<enter><copy-message>{folder}<enter><jump>2<enter><copy-message>{folder}<enter>\
                 <delete-pattern>~A<enter><quit>\"\n",
                house.proxy.authority(),
                folder = folder.display()
            );
            std::fs::write(&file, text).unwrap();
            let mutt = format!("mutt -n -F {} -f {scheme}://{}/INBOX", file.display(), house.proxy.address(name));
            let mut command = Command::new("script");
            command.args(["--quiet", "--return", "--command", &mutt]).arg(home.path().join("typescript"));
            command.env("HOME", home.path()).env("LC_ALL", "C.UTF-8").env("TERM", "xterm");
            succeeded(&command.stdin(std::process::Stdio::null()).output().unwrap());
            let mut copies: Vec<Vec<u8>> = files(&folder).iter().map(|file| std::fs::read(file).unwrap()).collect();
            copies.sort();
            let shown = std::fs::read_to_string(home.path().join("typescript")).unwrap_or_default();
            assert_eq!(copies.len(), messages().len(), "{shown}");
            copies
        });
    }
}

/// The messages of a maildir.
fn files(maildir: &Path) -> Vec<PathBuf> {
    let folders = ["cur", "new"].map(|folder| std::fs::read_dir(maildir.join(folder)).unwrap());
    folders.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}
