//! PostgreSQL of Debian, as an ordinary user in a temporary directory: what a fleet of packetboats shares. And pgbouncer
//! in front of it, which gives each transaction another connection.
//!
//! A test takes a database of its own from one server: [`Postgresql::database`].

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use packetboat::state::{self, Access};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::free_ports;
use crate::network::{THERE, THERE_TOO};
use crate::process::{PATIENCE, Process};

/// The user to whom the tests' databases belong.
pub const USER: &str = "packetboat";
/// The user's password.
pub const PASSWORD: &str = "fleet-3Kd8wQ1z";
/// The user who logs in by a client certificate alone.
pub const CERTIFIED_USER: &str = "certified";

/// A running server. It listens at 127.0.0.1 and on a Unix socket; a login needs a password or a certificate.
pub struct Postgresql {
    process: Process,
    directory: TempDir,
    pub port: u16,
    client: Certificates,
    settings: String,
    databases: AtomicUsize,
}

/// A statement that was called some times.
#[derive(Clone, Debug)]
pub struct Statement {
    pub calls: u64,
    /// Milliseconds, of all calls together.
    pub time: f64,
    pub text: String,
}

/// A database of a test's own, without tables.
pub struct Database {
    pub name: String,
    port: u16,
    directory: PathBuf,
}

impl Postgresql {
    /// Starts a server with TLS, whose certificate is for `localhost`.
    pub fn start() -> Self {
        Self::start_with("ssl = on\n")
    }

    /// Starts a server that has no TLS.
    pub fn start_without_tls() -> Self {
        Self::start_with("")
    }

    /// Starts a server with these further settings.
    pub fn start_with(settings: &str) -> Self {
        Self::start_in(None, settings)
    }

    /// Starts a server with TLS whose data is in this directory, which is empty, as on a disk of its own.
    pub fn start_on(data: &Path) -> Self {
        own(data);
        fs::set_permissions(data, fs::Permissions::from_mode(0o700)).unwrap();
        Self::start_in(Some(data), "ssl = on\n")
    }

    fn start_in(data: Option<&Path>, settings: &str) -> Self {
        let directory = new_directory();
        let path = directory.path();
        let client = Certificates::for_name(CERTIFIED_USER, 30);
        fs::write(path.join("client-ca.pem"), client.authority.to_pem().unwrap()).unwrap();
        Certificates::for_names(&["localhost", THERE, THERE_TOO], 30).write(path);
        own(&path.join("server.key"));
        state::write(&path.join("password"), PASSWORD.as_bytes(), Access::Private).unwrap();
        if let Some(data) = data {
            symlink(data, path.join("server/data")).unwrap();
        }
        let made = as_user(&program("initdb"))
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres", "--auth=trust", "-D"])
            .arg(path.join("server/data"))
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb has failed");
        fs::write(path.join("server/data/pg_hba.conf"), RULES).unwrap();
        let server = Self::serve_in(directory, client, settings);
        let users = format!("create role {USER} login password '{PASSWORD}'; create role {CERTIFIED_USER} login");
        server.sql("postgres", &users);
        server
    }

    /// A standby of this server, with a copy of its data: it takes over what this server commits, and no changes.
    pub fn standby(&self) -> Self {
        let directory = new_directory();
        let path = directory.path();
        for name in ["ca.pem", "client-ca.pem", "server.pem", "server.key", "password"] {
            fs::copy(self.directory.path().join(name), path.join(name)).unwrap();
        }
        own(&path.join("server.key"));
        let mut command = as_user(&program("pg_basebackup"));
        // It writes standby.signal, and how the primary is reached.
        command.args([
            "--no-sync",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "-U",
            "postgres",
        ]);
        command.arg("-h").arg(self.socket()).args(["-p", &self.port.to_string(), "-D"]).arg(path.join("server/data"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let server = Self::serve_in(directory, self.client.clone(), &self.settings);
        server.databases.store(self.databases.load(Ordering::Relaxed), Ordering::Relaxed);
        server
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "select pg_promote(true, 60)"), "t");
    }

    fn serve_in(directory: TempDir, client: Certificates, settings: &str) -> Self {
        let path = directory.path();
        // Another process may have taken a port that was free a moment ago; the server ends at once then.
        for _ in 0..5 {
            let [port] = free_ports();
            fs::write(path.join("server/data/postgresql.conf"), configuration(path, port) + settings).unwrap();
            if let Some(process) = serve(path, port) {
                let settings = settings.to_owned();
                return Self { process, directory, port, client, settings, databases: AtomicUsize::new(0) };
            }
        }
        panic!("PostgreSQL does not start: {}", log(path));
    }

    /// Creates a database that belongs to [`USER`].
    pub fn database(&self) -> Database {
        let name = format!("fleet{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name} owner {USER}"));
        Database { name, port: self.port, directory: self.directory.path().to_path_buf() }
    }

    /// Runs statements as the administrator of the server, by psql, and returns what they answer.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// The same for a server that may refuse, or be away: the error is that of psql.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let output = self.psql(database).args(["-c", statements]).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Counts the statements of packetboat's users from here on.
    pub fn count_statements(&self) {
        self.sql("postgres", "create extension if not exists pg_stat_statements; select pg_stat_statements_reset()");
    }

    /// The statements of packetboat's users in a database since [`count_statements`](Self::count_statements), each with the
    /// number of its calls and with their time in milliseconds. Constants are replaced by parameters.
    pub fn statements(&self, database: &str) -> Vec<Statement> {
        let rows = self.sql(
            "postgres",
            &format!(
                "select s.calls, s.total_exec_time, replace(s.query, chr(10), ' ') from pg_stat_statements s \
                 join pg_database d on d.oid = s.dbid join pg_roles r on r.oid = s.userid \
                 where d.datname = '{database}' and r.rolname in ('{USER}', '{CERTIFIED_USER}')"
            ),
        );
        let read = |row: &str| {
            let (calls, rest) = row.split_once('|').unwrap();
            let (time, text) = rest.split_once('|').unwrap();
            Statement { calls: calls.parse().unwrap(), time: time.parse().unwrap(), text: text.to_owned() }
        };
        rows.lines().map(read).collect()
    }

    /// psql as the administrator of the server, for a session that the test ends.
    pub fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(program("psql"));
        let socket = self.directory.path().join("server");
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        command.arg(socket).args(["-p", &self.port.to_string()]);
        command
    }

    /// A dump of a database, by pg_dump.
    pub fn dump(&self, database: &str) -> String {
        let mut command = Command::new(program("pg_dump"));
        command.args(["-U", "postgres", "-p", &self.port.to_string(), "-h"]).arg(self.socket()).arg(database);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Puts a database back from a dump, as an administrator does: ends all connections, creates it anew, and runs psql.
    pub fn restore(&self, database: &str, dump: &str) {
        self.sql("postgres", &format!("drop database {database} with (force)"));
        self.sql("postgres", &format!("create database {database} owner {USER}"));
        let file = self.directory.path().join("restored.sql");
        fs::write(&file, dump).unwrap();
        let output = self.psql(database).arg("-f").arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Lets this user log in by a password that an LDAP server at this port of 127.0.0.1 takes. PostgreSQL gets it in
    /// clear, over TLS, as Azure's does with an access token.
    pub fn verify_by_ldap(&self, user: &str, port: u16) {
        self.sql("postgres", &format!("create role {user} login"));
        let rule = format!(
            "hostssl all {user} 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=\"cn=\" \
             ldapsuffix=\"\"\n"
        );
        fs::write(self.directory.path().join("server/data/pg_hba.conf"), rule + RULES).unwrap();
        self.sql("postgres", "select pg_reload_conf()");
    }

    /// The CA that clients have to trust.
    pub fn roots(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The file with the password of [`USER`].
    pub fn password_file(&self) -> PathBuf {
        self.directory.path().join("password")
    }

    /// The directory of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("server")
    }

    /// Writes certificate and key of [`CERTIFIED_USER`] into a directory: `server.pem` and `server.key`.
    pub fn write_client_certificate(&self, directory: &Path) {
        self.client.write(directory);
    }

    pub fn log(&self) -> String {
        log(self.directory.path())
    }

    /// Stops the server at once, as a crash does: connections break, and what is committed stays.
    pub fn stop(&mut self) {
        self.process.signal("QUIT");
        self.process.wait();
    }

    /// Kills all processes of the server, as when its computer loses power: nothing is written any more.
    pub fn kill(&mut self) {
        let processes = self.processes();
        let _ = Command::new("kill").arg("-KILL").args(&processes).status().unwrap();
        self.process.wait();
        let deadline = Instant::now() + PATIENCE;
        while processes.iter().any(|id| is_running(id)) {
            assert!(Instant::now() < deadline, "processes of PostgreSQL do not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The ids of the server's processes.
    pub fn processes(&self) -> Vec<String> {
        let main = self.process.0.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap();
        [main.to_string()].into_iter().chain(children.split_whitespace().map(str::to_owned)).collect()
    }

    /// Returns whether the server has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.process.0.try_wait().unwrap().is_some()
    }

    /// Starts the stopped server again at the same port.
    pub fn start_again(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.process = loop {
            match serve(self.directory.path(), self.port) {
                Some(process) => break process,
                None => assert!(Instant::now() < deadline, "PostgreSQL does not start again: {}", self.log()),
            }
        };
    }
}

impl Drop for Postgresql {
    /// An end in good order, so that no shared memory is left behind.
    fn drop(&mut self) {
        if matches!(self.process.0.try_wait(), Ok(None)) {
            self.process.signal("QUIT");
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Database {
    /// The address as packetboat's configuration has it, over TLS.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The address behind another port, as that of pgbouncer.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgresql://{USER}@localhost:{port}/{}", self.name)
    }

    /// The section `[fleet]` of an instance with this name, over TLS and with the password.
    pub fn section(&self, instance: &str) -> String {
        self.section_at(self.port, instance)
    }

    /// The same behind another port, as that of pgbouncer.
    pub fn section_at(&self, port: u16, instance: &str) -> String {
        self.section_of(&format!("localhost:{port}"), instance)
    }

    /// The same at these hosts, with commas between them.
    pub fn section_of(&self, hosts: &str, instance: &str) -> String {
        let directory = self.directory.display();
        format!(
            "[fleet]\ndatabase = \"postgresql://{USER}@{hosts}/{}\"\npassword_file = \"{directory}/password\"\n\
             roots = \"{directory}/ca.pem\"\ninstance = \"{instance}\"\n",
            self.name
        )
    }
}

/// pgbouncer in front of a server, with pooling by transaction: two connections for all clients.
pub struct Pgbouncer {
    _process: Process,
    _directory: TempDir,
    pub port: u16,
}

impl Pgbouncer {
    /// Starts pgbouncer with the certificate of the server.
    pub fn start(server: &Postgresql) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["server.pem", "server.key"] {
            fs::copy(server.directory.path().join(name), path.join(name)).unwrap();
        }
        own(&path.join("server.key"));
        fs::write(path.join("users"), format!("\"{USER}\" \"{PASSWORD}\"\n")).unwrap();
        for _ in 0..5 {
            let [port] = free_ports();
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n\
                 auth_type = scram-sha-256\nauth_file = {directory}/users\nclient_tls_sslmode = require\n\
                 client_tls_cert_file = {directory}/server.pem\nclient_tls_key_file = {directory}/server.key\n",
                server.port,
                directory = path.display()
            );
            fs::write(path.join("pgbouncer.ini"), text).unwrap();
            let mut command = as_user(Path::new("/usr/sbin/pgbouncer"));
            let log = fs::File::create(path.join("log")).unwrap();
            let process = Process::start(command.arg(path.join("pgbouncer.ini")).stdout(Stdio::null()).stderr(log));
            if let Some(process) = until_open(process, port) {
                return Self { _process: process, _directory: directory, port };
            }
        }
        panic!("pgbouncer does not start: {}", fs::read_to_string(path.join("log")).unwrap_or_default());
    }
}

/// A directory that the server's user may enter, with one inside that belongs to that user.
fn new_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory.path().join("server")).unwrap();
    own(&directory.path().join("server"));
    directory
}

/// Returns whether a process has not ended; one that nobody has waited for is a zombie, and has (proc_pid_stat(5)).
fn is_running(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

fn serve(path: &Path, port: u16) -> Option<Process> {
    let log = fs::OpenOptions::new().append(true).create(true).open(path.join("log")).unwrap();
    let mut command = as_user(&program("postgres"));
    command.arg("-D").arg(path.join("server/data")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let process = until_open(Process::start(&mut command), port)?;
    // It listens before it takes logins.
    let mut ready = Command::new(program("pg_isready"));
    ready.arg("-q").arg("-h").arg(path.join("server")).args(["-p", &port.to_string()]);
    let deadline = Instant::now() + PATIENCE;
    while !ready.status().unwrap().success() {
        assert!(Instant::now() < deadline, "PostgreSQL takes no logins: {}", self::log(path));
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(process)
}

/// The process once its port is open; none if it has ended.
fn until_open(mut process: Process, port: u16) -> Option<Process> {
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if process.0.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < deadline, "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(process)
}

/// A program of the newest PostgreSQL that is installed.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("tests/install.sh test installs PostgreSQL");
    let newest = versions.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok()).max();
    Path::new("/usr/lib/postgresql").join(newest.unwrap().to_string()).join("bin").join(name)
}

/// A program as Debian's user for PostgreSQL, where the test is root: both programs refuse to run as root.
fn as_user(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program).current_dir("/");
    command
}

fn own(path: &Path) {
    if rustix::process::geteuid().is_root() {
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().expect("tests/install.sh test installs PostgreSQL")
        };
        chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
    }
}

fn log(path: &Path) -> String {
    fs::read_to_string(path.join("log")).unwrap_or_default()
}

fn configuration(path: &Path, port: u16) -> String {
    let directory = path.display();
    format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{directory}/server'\n\
         max_connections = 120\nfsync = off\npassword_encryption = 'scram-sha-256'\n\
         ssl_cert_file = '{directory}/server.pem'\nssl_key_file = '{directory}/server.key'\n\
         ssl_ca_file = '{directory}/client-ca.pem'\nlog_statement = 'none'\n\
         shared_preload_libraries = 'pg_stat_statements'\n"
    )
}

/// The users that may log in, and their ways. The administrator comes by the socket alone.
const RULES: &str = "local all postgres trust\n\
    local replication postgres trust\n\
    local all all scram-sha-256\n\
    hostssl all certified 127.0.0.1/32 cert\n\
    host all all 127.0.0.1/32 scram-sha-256\n\
    host all all 10.77.0.0/24 scram-sha-256\n";
