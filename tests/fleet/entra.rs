//! An application's access token is the password of the database's user, as Azure Database for PostgreSQL takes it. A real
//! PostgreSQL gets it in clear, over TLS, and asks an LDAP server, which asks the pretend Entra.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packetboat::config::Config;
use packetboat::fleet::{Error, Postgres};
use packetboat::token::fleet_password;
use parking_lot::Mutex;
use support::exchange::{BY_SECRET, Exchange};
use support::postgresql::{Database, Postgresql};
use support::proxy::Proxy;
use tempfile::TempDir;

const USER: &str = "entra";
const RESOURCE: &str = "https://ossrdbms-aad.database.windows.net";

/// The passwords that the LDAP server was asked about, and whether it took each.
type Binds = Arc<Mutex<Vec<(String, bool)>>>;

struct Entra {
    exchange: Arc<Exchange>,
    server: Postgresql,
    database: Database,
    binds: Binds,
    directory: TempDir,
}

impl Entra {
    fn new() -> Self {
        let exchange = Arc::new(Exchange::new());
        let server = Postgresql::start();
        let database = server.database();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let binds = Binds::default();
        let (asked, at) = (Arc::clone(&binds), Arc::downgrade(&exchange));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(exchange) = at.upgrade() else { return };
                serve_bind(stream, |password| {
                    let is_good = exchange.simulator.takes_app_token(password, RESOURCE);
                    asked.lock().push((password.to_owned(), is_good));
                    is_good
                });
            }
        });
        server.verify_by_ldap(USER, port);
        server.sql("postgres", &format!("alter database {} owner to {USER}", database.name));
        let directory = tempfile::tempdir().unwrap();
        packetboat::state::write(&directory.path().join("store.key"), &[7; 32], packetboat::state::Access::Private)
            .unwrap();
        Self { exchange, server, database, binds, directory }
    }

    fn section(&self) -> String {
        let address = self.database.url().replace("packetboat@", &format!("{USER}@"));
        let roots = self.server.roots();
        format!(
            "[fleet]\ndatabase = \"{address}\"\npassword_identity = \"office\"\nroots = {roots:?}\ninstance = \"west\"\n"
        )
    }

    fn configuration(&self, section: &str) -> String {
        let key = self.directory.path().join("store.key");
        format!("store_key = {key:?}\n{section}{}", self.exchange.configuration(BY_SECRET))
    }

    fn records(&self, section: &str) -> Postgres {
        let text = self.configuration(section);
        let config = Config::parse(&text, Path::new("x.toml")).unwrap_or_else(|found| panic!("{found:?}")).config;
        Postgres::new(config.fleet.as_ref().unwrap(), &config, fleet_password(&config).unwrap())
    }
}

/// Reads a simple bind (RFC 4511 section 4.2), and answers it. PostgreSQL opens a connection for each.
fn serve_bind(mut stream: TcpStream, takes: impl FnOnce(&str) -> bool) {
    let request = element(&mut stream);
    let (id, rest) = part(&request);
    let (bind, _) = part(rest);
    let (_version, rest) = part(bind);
    let (_name, rest) = part(rest);
    let (password, _) = part(rest);
    let code = if takes(std::str::from_utf8(password).unwrap()) { 0 } else { 49 };
    let id_length = u8::try_from(id.len()).unwrap();
    let result = [0x61, 7, 0x0a, 1, code, 4, 0, 4, 0];
    let answer = [&[0x30, id_length + 2 + 9, 0x02, id_length], id, &result].concat();
    stream.write_all(&answer).unwrap();
    // The client unbinds.
    let _ = stream.read(&mut [0; 16]);
}

/// The content of a BER element that comes by a stream.
fn element(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut length = usize::from(head[1]);
    if length >= 0x80 {
        let mut octets = vec![0; length & 0x7f];
        stream.read_exact(&mut octets).unwrap();
        length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).unwrap();
    content
}

/// The content of the first element, and what is behind it.
fn part(octets: &[u8]) -> (&[u8], &[u8]) {
    let (head, mut length) = (octets[1], usize::from(octets[1]));
    let mut from = 2;
    if head >= 0x80 {
        from += usize::from(head & 0x7f);
        length = octets[2..from].iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    }
    (&octets[from..from + length], &octets[from + length..])
}

#[test]
fn the_running_proxy_logs_in_with_a_token_and_renews_it() {
    let entra = Entra::new();
    entra.exchange.quirk(|quirks| quirks.endpoint.expires_in = 12);
    let proxy = Proxy::start(&entra.configuration(&(entra.section() + "migrate = true\n")));
    proxy.logs(1, "an instance of the fleet with the database");
    let taken = || entra.binds.lock().clone();
    assert!(taken().iter().all(|(_, is_good)| *is_good) && !taken().is_empty(), "{:?}", taken().len());
    let first = taken()[0].0.clone();
    // Connections that break later on are made anew with a token that lives.
    let requests = entra.exchange.requests();
    entra.exchange.until("another token", |counts| counts.tokens_issued + counts.token_refusals >= requests + 4);
    entra
        .server
        .sql("postgres", &format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{USER}'"));
    crate::until_now("a login with another token", || taken().iter().any(|(token, _)| *token != first));
    assert!(taken().iter().all(|(_, is_good)| *is_good), "no token was sent that had ended");
    // A reload with another file of the secret goes on with the same fleet, and with that file.
    entra.exchange.file("SECRET-2", support::exchange::SECRET);
    let configuration = entra.configuration(&(entra.section() + "migrate = true\n"));
    proxy.configure(&configuration.replace("SECRET\"", "SECRET-2\""));
    let (code, output) = proxy.reload();
    assert_eq!(code, 0, "{output}");
    entra.exchange.file("SECRET", "is no longer good");
    let known: Vec<String> = taken().into_iter().map(|(token, _)| token).collect();
    let requests = entra.exchange.requests();
    entra.exchange.until("another token", |counts| counts.tokens_issued + counts.token_refusals >= requests + 4);
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{USER}'");
    entra.server.sql("postgres", &end);
    crate::until_now("a login with a later token", || taken().iter().any(|(token, _)| !known.contains(token)));
    let log = proxy.log.all() + &entra.server.log();
    assert!(taken().iter().all(|(token, _)| !log.contains(token.as_str())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_a_verified_server_over_tls_alone() {
    let entra = tokio::task::spawn_blocking(Entra::new).await.unwrap();
    entra.records(&entra.section()).connect().await.unwrap();
    let count = entra.binds.lock().len();
    // The name of another host, and a server without TLS on this computer, where a password of a file would go.
    let error = entra.records(&entra.section().replace("localhost", "127.0.0.1")).connect().await.unwrap_err();
    assert!(error.to_string().contains("its certificate is not accepted"), "{error}");
    let plain = Postgresql::start_without_tls();
    let [with, without] = [&entra.server, &plain].map(|server| server.port.to_string());
    let error = entra.records(&entra.section().replace(&with, &without)).connect().await.unwrap_err();
    assert!(error.to_string().contains("has no TLS"), "{error}");
    assert_eq!(entra.binds.lock().len(), count);
    // The endpoint refuses, and the reason is named.
    entra.exchange.file("SECRET", "another secret");
    let error = entra.records(&entra.section()).connect().await.unwrap_err();
    let cause = if let Error::Again(error) = &error { error.as_ref() } else { &error };
    assert!(matches!(cause, Error::Token(_)) && !error.is_away(), "{error}");
    assert!(error.to_string().contains("fleet.password_identity"), "{error}");
    // The endpoint hangs, and not the database.
    entra.exchange.file("SECRET", support::exchange::SECRET);
    entra.exchange.quirk(|quirks| quirks.endpoint.answer_delay = Duration::from_secs(30));
    let error = entra.records(&entra.section()).connect().await.unwrap_err();
    assert!(error.to_string().contains("the token endpoint has not answered") && error.is_away(), "{error}");
    tokio::task::spawn_blocking(move || drop(entra)).await.unwrap();
}

/// Commands fetch a token of their own.
#[test]
fn commands_log_in_with_a_token() {
    let entra = Entra::new();
    let configuration = entra.configuration(&entra.section());
    for arguments in [&["fleet", "migrate"][..], &["fleet", "status"], &["certificate", "push"]] {
        let ran = entra.exchange.run(arguments, &configuration);
        assert_eq!(ran.code, 0, "{arguments:?}: {} {}", ran.output, ran.errors);
    }
    assert!(entra.binds.lock().len() >= 3);
}
