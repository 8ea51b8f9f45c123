//! These tests prove that an account's access token goes to its cloud's mail server, or to the server that the account
//! names.
//!
//! It never goes to another listener's server, whatever else the file has.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use nix::sched::{CloneFlags, unshare};
use openssl::ssl::SslVersion;

use support::certificates::Certificates;
use support::connection::TlsStream;
use support::exchange::{self, BY_SECRET, Exchange, SCAN, imap_login};
use support::network;
use support::proxy::{listener, translating_listener};
use support::server;

const CLOUD: &str = "outlook.office365.com";

/// A scripted mail server with a record of its input.
struct Heard {
    port: u16,
    roots: std::path::PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    /// Starts a server whose CA file lies beside the identity's secret, so that a confined proxy may read it.
    fn by(exchange: &Exchange, name: &str) -> Self {
        let certificates = Certificates::for_name(name, 30);
        let roots = exchange.file(&format!("{name}.pem"), certificates.authority.to_pem().unwrap());
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&lines);
        let port = server::tls(&certificates, SslVersion::TLS1_3, move |stream| serve(stream, &heard));
        Self { port, roots, lines }
    }

    fn upstream(&self, name: &str, host: &str) -> String {
        let (roots, port) = (&self.roots, self.port);
        format!("[upstream.{name}]\nhost = \"{host}\"\nroots = {roots:?}\nimap_port = {port}\npop3_port = {port}\n")
    }

    /// The number of access tokens since the last call.
    fn tokens(&self) -> usize {
        let heard = std::mem::take(&mut *self.lines.lock().unwrap());
        heard.iter().filter(|line| line.contains("XOAUTH2")).count()
    }

    fn connections(&self) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| *line == "connected").count()
    }
}

/// Accepts every login.
fn serve(mut stream: TlsStream, heard: &Mutex<Vec<String>>) {
    heard.lock().unwrap().push("connected".to_owned());
    let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n");
    loop {
        let line = server::hear(&mut stream);
        let Some((tag, _)) = line.split_once(' ') else { return };
        let _ = stream.write_all(format!("{tag} OK done\r\n").as_bytes());
        heard.lock().unwrap().push(line);
    }
}

/// Makes the cloud's mail server resolve to this computer, for this thread and its children, whose loopback is their own.
fn cloud_is_here() {
    network::alone();
    let hosts = tempfile::NamedTempFile::new().unwrap();
    fs::write(hosts.path(), format!("127.0.0.1 localhost {CLOUD}\n")).unwrap();
    let bind = format!("mount --make-rprivate / && mount --bind {:?} /etc/hosts", hosts.path());
    let is_bound =
        unshare(CloneFlags::CLONE_NEWNS).is_ok() && Command::new("sh").args(["-c", &bind]).status().unwrap().success();
    assert!(
        is_bound,
        "a file cannot be mounted: run this as root, or unshare -U -r -m cargo test --test peers receivers"
    );
}

/// The account has no `upstream`, and the one section belongs to an on-premises pass-through listener. Then an operator
/// changes the file of the running proxy.
#[test]
fn a_token_goes_to_its_cloud_or_where_its_account_says() {
    cloud_is_here();
    let exchange = Exchange::new();
    let (cloud, on_premises) = (Heard::by(&exchange, CLOUD), Heard::by(&exchange, "localhost"));
    let identity = exchange.identity(BY_SECRET);
    let account = |server: &str| exchange::account("scans", SCAN, "").replace("upstream = \"exchange\"\n", server);
    let onprem = on_premises.upstream("onprem", "localhost")
        + &translating_listener("imap", "imap", "implicit", "")
        + &listener("old", "pop3", "implicit", "")
        + &identity;
    let tuned = onprem.clone() + &cloud.upstream("tuned", CLOUD);
    let tuned = tuned.replace("name = \"old\"", "name = \"old\"\nupstream = \"onprem\"");

    // The connection to the cloud's own port fails, because this server's certificate is not Microsoft's.
    let (reached, is_reached) = std::sync::mpsc::channel();
    server::plain_at("127.0.0.1:993", move |_| {
        let _ = reached.send(());
    });
    let proxy = exchange.proxy(&(onprem.clone() + &account("")));
    assert!(imap_login(&proxy).starts_with("NO "));
    is_reached.recv_timeout(support::process::PATIENCE).expect("the cloud's server was not asked");
    assert_eq!((on_premises.connections(), on_premises.tokens()), (0, 0));
    // The check goes to the same server as the service.
    let ran = exchange.run(&["check", "--online"], &(onprem.clone() + &account("")));
    assert!(ran.output.contains(&format!("failed at {CLOUD} port 993")), "{}", ran.output);
    assert_eq!(on_premises.connections(), 0);

    for (server, of_cloud, of_premises) in [("", 1, 0), ("upstream = \"onprem\"\n", 0, 1), ("", 1, 0)] {
        let text = tuned.clone() + &account(server);
        proxy.configure(&text);
        let (code, said) = proxy.reload();
        assert_eq!(code, 0, "{said}");
        assert!(imap_login(&proxy).starts_with("OK "), "{}", proxy.log.all());
        assert_eq!((cloud.tokens(), on_premises.tokens()), (of_cloud, of_premises), "{server}");
        let ran = exchange.run(&["check", "--online"], &text);
        assert_eq!(ran.code, 0, "{}{}", ran.output, ran.errors);
        assert_eq!((cloud.tokens(), on_premises.tokens()), (of_cloud, of_premises), "{server}");
    }
}

/// `check` names the server before it asks for any token.
#[test]
fn check_names_the_server_of_each_account() {
    let exchange = Exchange::new();
    let on_premises = Heard::by(&exchange, "localhost");
    let text = on_premises.upstream("onprem", "localhost")
        + &translating_listener("imap", "imap", "implicit", "")
        + &translating_listener("pop3", "pop3", "implicit", "")
        + &exchange.identity(BY_SECRET)
        + &exchange::account("scans", SCAN, "").replace("upstream = \"exchange\"\n", "")
        + &exchange::account("fax", "fax@contoso.example", "").replace("\"exchange\"", "\"onprem\"");
    let ran = exchange.run(&["check"], &text);
    let port = on_premises.port;
    for line in [
        format!("account scans: {SCAN}, its access token goes to {CLOUD}:993 (IMAP) {CLOUD}:995 (POP3)"),
        format!(
            "account fax: fax@contoso.example, its access token goes to localhost:{port} (IMAP) localhost:{port} (POP3)"
        ),
    ] {
        assert!(ran.output.contains(&line), "{line}\n{}{}", ran.output, ran.errors);
    }
}

/// The token of a custom endpoint is no JWT of Microsoft's, and the server accepts it.
#[test]
fn advice_fits_who_gives_out_the_tokens() {
    let exchange = Exchange::new();
    let heard = Heard::by(&exchange, "localhost");
    let claims = openssl::base64::encode_block(b"{\"aud\":\"mail\",\"scp\":\"all\"}");
    let token = format!("e30.{}.signature", claims.trim_end_matches('='));
    let certificates = Certificates::for_name("localhost", 30);
    let roots = exchange.file("endpoint.pem", certificates.authority.to_pem().unwrap());
    let endpoint = server::tls(&certificates, SslVersion::TLS1_3, move |stream| server::hand_out(stream, &token));
    let secret = exchange.file("SECRET", "secret");
    let identity = format!(
        "[identity.office]\nclient_id = \"11111111-2222-3333-4444-555555555555\"\nclient_secret_file = {secret:?}\nroots = {roots:?}\n\
         token_endpoint = \"https://localhost:{endpoint}/token\"\n"
    );
    let text = heard.upstream("exchange", "localhost")
        + &translating_listener("imap", "imap", "implicit", "")
        + &identity
        + &exchange::account("scans", SCAN, "");
    // Nothing in this configuration uses a tenant.
    let ran = exchange.run(&["check"], &text);
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let ran = exchange.run(&["check", "--online", "--account", "scans"], &text);
    assert!(ran.code == 0 && ran.output.contains("IMAP   ok"), "{}{}", ran.output, ran.errors);
    assert!(!ran.output.contains("AccessAsApp") && !ran.output.contains("but "), "{}", ran.output);
    // A Microsoft identity gets no warning either, because the server has just accepted the token.
    let microsoft = text.replace("client_id", "cloud = \"worldwide\"\ntenant = \"contoso.example\"\nclient_id");
    let ran = exchange.run(&["check", "--online"], &microsoft);
    assert!(ran.code == 0 && !ran.output.contains("AccessAsApp"), "{}", ran.output);
    // Where the server refuses the token, the missing permission may be the reason.
    let refusing =
        microsoft.replace(&format!("imap_port = {}", heard.port), &format!("imap_port = {}", refusing(&certificates)));
    let refusing =
        refusing.replace(&format!("roots = {:?}\nimap_port", heard.roots), &format!("roots = {roots:?}\nimap_port"));
    let ran = exchange.run(&["check", "--online"], &refusing);
    assert!(ran.code == 69 && ran.output.contains("the permission IMAP.AccessAsApp is missing"), "{}", ran.output);
    let ran = exchange
        .run(&["check", "--online"], &refusing.replace("cloud = \"worldwide\"\ntenant = \"contoso.example\"\n", ""));
    assert!(ran.code == 69 && !ran.output.contains("AccessAsApp"), "{}", ran.output);
    assert!(
        !ran.output.contains("Set-CASMailbox") && ran.output.contains("take tokens of this token endpoint"),
        "{}",
        ran.output
    );
}

/// Starts a mail server that refuses every login; returns its port.
fn refusing(certificates: &Certificates) -> u16 {
    server::tls(certificates, SslVersion::TLS1_3, |mut stream| {
        let _ = stream.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] ready\r\n");
        while let Some((tag, _)) = server::hear(&mut stream).split_once(' ') {
            let _ = stream.write_all(format!("{tag} NO AUTHENTICATE failed.\r\n").as_bytes());
        }
    })
}
