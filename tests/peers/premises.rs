//! These tests prove which certificates of on-premises mail servers are accepted: the very one that `roots` names, as
//! itself.
//!
//! Every other kind is refused with words that say what to make, and `check` says so before.

use std::path::{Path, PathBuf};
use std::process::Command;

use openssl::bn::BigNumRef;
use openssl::pkey::PKey;
use openssl::rsa::RsaPrivateKeyBuilder;
use openssl::ssl::SslVersion;
use openssl::x509::X509;

use support::certificates::Certificates;
use support::exchange::{Ran, mode};
use support::imap::status;
use support::proxy::{Proxy, listener};
use support::server;
use support::translated::{DEVICE_PASSWORD, account_of, device};

const MAKE: &str = "make one of X.509 version 3 with subjectAltName = DNS:localhost, CA:FALSE";

/// A directory with a CA, in which openssl(1) makes certificates.
struct Office(tempfile::TempDir);

impl Office {
    fn new() -> Self {
        let office = Self(tempfile::tempdir().unwrap());
        office.openssl("req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=office-CA -keyout ca.key -out ca.pem");
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A certificate that `openssl req -x509` has signed with its own key.
    fn own(&self, name: &str, more: &str) -> Certificates {
        let request = "req -x509 -newkey rsa:2048 -nodes -days 30 -keyout";
        self.openssl(format!("{request} {name}.key -out {name}.pem {more}").trim_end());
        self.read(name)
    }

    /// A certificate that the CA has signed; `more` goes to `openssl x509`.
    fn signed(&self, name: &str, subject: &str, more: &str, extensions: &str) -> Certificates {
        std::fs::write(self.path("extensions"), extensions).unwrap();
        self.openssl(&format!("req -newkey rsa:2048 -nodes -subj {subject} -keyout {name}.key -out {name}.csr"));
        let with = if extensions.is_empty() { "" } else { " -extfile extensions" };
        let sign = format!("x509 -req -in {name}.csr -days 30 -out {name}.pem {more}{with}");
        self.openssl(&sign.replace("BY-CA", "-CA ca.pem -CAkey ca.key -CAcreateserial"));
        self.read(name)
    }

    fn read(&self, name: &str) -> Certificates {
        let pem = |name: String| std::fs::read(self.path(&name)).unwrap();
        let leaf = X509::from_pem(&pem(format!("{name}.pem"))).unwrap();
        let key = PKey::private_key_from_pem(&pem(format!("{name}.key"))).unwrap();
        Certificates { authority: leaf.clone(), leaf, key }
    }

    fn upstream(&self, port: u16, roots: &str) -> String {
        format!(
            "[upstream.x]\nhost = \"127.0.0.1\"\nserver_name = \"localhost\"\nimap_port = {port}\nroots = {:?}\n{}",
            self.path(roots),
            listener("imap", "imap", "implicit", "")
        )
    }

    /// The answer to a login, and its line in the log.
    fn login(&self, server: &Certificates, newest: SslVersion, roots: &str) -> (String, String) {
        let port = server::tls(server, newest, server::agree);
        let proxy = Proxy::start(&self.upstream(port, roots));
        let mut imap = proxy.imap("imap");
        let answer = status(&imap.command("LOGIN somebody secret")).to_owned();
        let told = |line: &str| line.contains("login failed");
        let log =
            if answer.starts_with("NO") { proxy.log.wait_for("line about the login", told) } else { String::new() };
        (answer, log)
    }

    fn check(&self, roots: &str) -> Ran {
        let file = self.path("packetboat.toml");
        let state = self.path("state");
        let text = self.upstream(993, roots);
        std::fs::write(&file, format!("state_directory = {state:?}\n[admin]\nlisten = []\n{text}")).unwrap();
        Ran::of(command(&file).output().unwrap())
    }
}

fn command(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    command.args(["check", "--config"]).arg(file);
    command
}

const SAN: &str = "-subj /CN=x -addext subjectAltName=DNS:localhost";
const SERVER: &str = "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n";

#[test]
fn the_very_certificate_that_roots_names_is_accepted() {
    let office = Office::new();
    for (name, server, said) in [
        ("plain", office.own("plain", SAN), "it is a CA's (CA:TRUE), as openssl req -x509 makes it"),
        ("common-name", office.own("common-name", "-subj /CN=localhost"), "it is a CA's (CA:TRUE)"),
        ("sha1", office.own("sha1", &format!("-sha1 {SAN} -addext basicConstraints=CA:FALSE")), ""),
        ("v1", office.signed("v1", "/CN=localhost", "-signkey v1.key", ""), "of X.509 version 1"),
        ("by-ca", office.signed("by-ca", "/CN=localhost", "BY-CA", SERVER), "name its CA in roots"),
        ("v1-by-ca", office.signed("v1-by-ca", "/CN=localhost", "BY-CA", ""), "of X.509 version 1"),
        (
            "client",
            office.signed("client", "/CN=x", "BY-CA", &format!("{SERVER}extendedKeyUsage=clientAuth\n")),
            "it is not for servers",
        ),
        ("ecdsa", office.own("ecdsa", &format!("-newkey ec -pkeyopt ec_paramgen_curve:P-384 {SAN}")), "CA:TRUE"),
    ] {
        let roots = format!("{name}.pem");
        for newest in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let (answer, log) = office.login(&server, newest, &roots);
            assert!(answer.starts_with("OK "), "{name} {newest:?}: {answer} {log}");
        }
        let checked = office.check(&roots);
        assert_eq!(checked.code, 0, "{}", checked.errors);
        assert!(checked.errors.contains(said), "{name}: {}", checked.errors);
        assert!(!checked.errors.contains("Other("), "{}", checked.errors);
    }
}

/// The certificate is accepted as itself, and its name and dates still count.
#[test]
fn name_and_dates_of_a_certificate_that_roots_names_count() {
    let office = Office::new();
    let other = office.own("other", "-subj /CN=localhost -addext subjectAltName=DNS:mail.other.example");
    let v1 = office.signed("v1", "/CN=mail.other.example", "-signkey v1.key", "");
    let ended = office.signed("ended", "/CN=localhost", "-signkey ended.key -days -1", "");
    for (name, server, logged, checked) in [
        ("other", other, "for another name than localhost: mail.other.example", ""),
        (
            "v1",
            v1,
            "for another name than localhost: mail.other.example",
            "for mail.other.example, and not for localhost",
        ),
        ("ended", ended, "it has expired", "it has expired"),
    ] {
        let roots = format!("{name}.pem");
        let (answer, log) = office.login(&server, SslVersion::TLS1_3, &roots);
        assert!(answer.starts_with("NO [CONTACTADMIN]") && log.contains(logged), "{name}: {answer} {log}");
        assert!(office.check(&roots).errors.contains(checked), "{name}: {}", office.check(&roots).errors);
    }
}

#[test]
fn the_roots_of_a_token_endpoint_are_judged_alike() {
    let office = Office::new();
    let own = office.own("own", SAN);
    let mail = server::tls(&own, SslVersion::TLS1_3, server::agree);
    let tokens = server::tls(&own, SslVersion::TLS1_3, |stream| server::hand_out(stream, "an-access-token"));
    let secret = office.path("secret");
    std::fs::write(&secret, "app secret").unwrap();
    mode(&secret, 0o600);
    let identity = format!(
        "[identity.office]\nroots = {:?}\ntenant = \"contoso.example\"\nclient_id = \"app\"\n\
         client_secret_file = {secret:?}\ntoken_endpoint = \"https://localhost:{tokens}/token\"\n",
        office.path("own.pem")
    );
    let configuration = office.upstream(mail, "own.pem").replace("pass-through", "translate")
        + &device("scanner", "scans", DEVICE_PASSWORD, "")
        + &account_of("scans", "scan@contoso.example", "x", "office")
        + &identity;
    let proxy = Proxy::start(&configuration);
    let mut imap = proxy.imap("imap");
    imap.login("scanner", DEVICE_PASSWORD);
    for key in ["identity.office.roots", "upstream.x.roots"] {
        let is = |line: &str| line.contains(key) && line.contains("CA:TRUE") && line.contains("accepted all the same");
        proxy.log.wait_for("warning", is);
    }
}

/// The certificate is public, so its owner has to prove possession of the key.
#[test]
fn the_certificate_without_its_key_is_refused() {
    let office = Office::new();
    for server in [office.own("plain", SAN), office.signed("v1", "/CN=localhost", "-signkey v1.key", "")] {
        let name = if server.leaf.version() == 0 { "v1.pem" } else { "plain.pem" };
        let real = server.key.rsa().unwrap();
        // The public half is right, so OpenSSL accepts the key; its signatures are wrong.
        let copy = |number: &BigNumRef| number.to_owned().unwrap();
        let mut wrong = copy(real.d());
        wrong.sub_word(2).unwrap();
        let forged = RsaPrivateKeyBuilder::new(copy(real.n()), copy(real.e()), wrong).unwrap().build();
        let server = Certificates { key: PKey::from_rsa(forged).unwrap(), ..server };
        for newest in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let (answer, log) = office.login(&server, newest, name);
            assert!(answer.starts_with("NO [CONTACTADMIN]"), "{name} {newest:?}: {answer}");
            assert!(log.contains("the server does not have its key"), "{log}");
        }
    }
}

/// `roots` accepts that certificate alone: not one that it has signed, and not another one of the same key.
#[test]
fn every_other_kind_is_refused_in_plain_words() {
    let office = Office::new();
    let named = |more: &str| format!("{SERVER}{more}");
    let by_ca = |name: &str, more: &str, extensions: &str| office.signed(name, "/CN=localhost", more, extensions);
    let intermediate = office.signed("intermediate", "/CN=between", "BY-CA", "basicConstraints=CA:TRUE\n");
    assert!(intermediate.leaf.issued(&intermediate.leaf) != openssl::x509::X509VerifyResult::OK);
    for (server, roots, said) in [
        (office.own("own", SAN), "ca.pem", "it is a CA's (CA:TRUE), as openssl"),
        (by_ca("sha1", "-sha1 BY-CA", SERVER), "ca.pem", "signed with SHA-1, which can be forged; "),
        (
            by_ca("cn", "BY-CA", "basicConstraints=CA:FALSE\n"),
            "ca.pem",
            "it has no subjectAltName, and a name in CN alone",
        ),
        (by_ca("v1", "BY-CA", ""), "ca.pem", "is of X.509 version 1; "),
        (
            by_ca("client", "BY-CA", &named("extendedKeyUsage=clientAuth\n")),
            "ca.pem",
            "it is not for servers (extended",
        ),
        (by_ca("ca-true", "BY-CA", &SERVER.replace("FALSE", "TRUE")), "ca.pem", "it is a CA's (CA:TRUE), as openssl"),
        (by_ca("critical", "BY-CA", &named("1.2.3.4=critical,DER:0500\n")), "ca.pem", "has a critical extension"),
        (
            by_ca("elsewhere", "BY-CA", &SERVER.replace("localhost", "b.example")),
            "ca.pem",
            "than localhost: b.example; set",
        ),
        (by_ca("anew", "-signkey anew.key", SERVER), "own.pem", "its issuer is not among the trusted roots"),
    ] {
        let (answer, log) = office.login(&server, SslVersion::TLS1_3, roots);
        assert!(answer.starts_with("NO [CONTACTADMIN]"), "{said}: {answer}");
        let message = serde_json::from_str::<serde_json::Value>(&log).unwrap()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(said), "{said}: {message}");
        assert!(said.contains("issuer") || message.contains(MAKE), "{message}");
        let names_a_way_out = message.ends_with("; or name this very certificate in roots");
        assert!(names_a_way_out || said.contains("issuer") || said.contains("than localhost"), "{message}");
        assert!(message.len() < 600 && !message.contains("Other(") && !message.contains("Unsupported"), "{message}");
    }
    // A certificate signed by an intermediate CA in `roots` is accepted.
    office.openssl("req -newkey rsa:2048 -nodes -subj /CN=x -keyout below.key -out below.csr");
    std::fs::write(office.path("extensions"), SERVER).unwrap();
    office.openssl(
        "x509 -req -in below.csr -days 30 -out below.pem -CA intermediate.pem -CAkey intermediate.key -CAcreateserial \
         -extfile extensions",
    );
    let (answer, log) = office.login(&office.read("below"), SslVersion::TLS1_3, "intermediate.pem");
    assert!(answer.starts_with("OK "), "{answer} {log}");
    // `roots` is meant for CAs, so `check` has no remark about them.
    for roots in ["ca.pem", "intermediate.pem", "/etc/ssl/certs/ca-certificates.crt"] {
        let checked = office.check(roots);
        assert!(checked.code == 0 && !checked.errors.contains("roots"), "{}", checked.errors);
    }
}
