//! This test proves `docker/compose.fleet.yaml`: HAProxy, three instances and PostgreSQL, where devices notice the end of
//! neither an instance nor the database.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::engine::{Engine, PATIENCE, alone, binary, root};

const IMAGE: &str = "debian-fleet";
const SUBNET: &str = "172.30.43";

#[test]
fn three_instances_share_a_database_behind_haproxy() {
    let _alone = alone();
    let engine = Engine::start();
    let file = root().join("docker/Dockerfile");
    let source = root().to_str().unwrap();
    assert!(binary().starts_with(source));
    let built =
        ["build", "-q", "-f", file.to_str().unwrap(), "-t", "packetboat", "--build-arg", "BINARY=prebuilt", source];
    engine.ok(&built);
    let directory = tempfile::tempdir().unwrap();
    make_images(&engine, directory.path());
    project(directory.path());
    let compose = |arguments: &[&str]| {
        let mut command = engine.command("docker-compose");
        command.args(["-p", "boat", "-f", "docker/compose.fleet.yaml"]).args(arguments);
        command.env("HAPROXY_IMAGE", IMAGE).env("POSTGRES_IMAGE", "postgres-test");
        let output = command.current_dir(directory.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{}", engine.ok(&["ps", "-a"]));
        said
    };
    compose(&["up", "-d", "--no-build"]);
    let container = |service: &str| compose(&["ps", "-q", service]).lines().next().unwrap().to_owned();
    let instances = ["packetboat-1", "packetboat-2", "packetboat-3"].map(&container);
    for instance in &instances {
        engine.until("health", &["inspect", "-f", "{{.State.Health.Status}}", instance], "healthy");
    }
    // One command has made the tables; each instance is registered, by its host name.
    let status = ["exec", &instances[0], "packetboat", "fleet", "status"];
    let said = engine.until("instances", &status, "3 registered");
    for name in ["packetboat-1", "packetboat-2", "packetboat-3"] {
        assert!(said.contains(name), "{said}");
    }

    // A device reaches an instance, which sees its address. Nothing here leads to Exchange Online, so that no instance is
    // ready: the device is told so, in place of a closed port.
    let reaches = |last: u8, port: u16, scheme: &str| is_served(&engine, last, port, scheme);
    for (port, scheme) in [(993, "imaps"), (143, "imap"), (995, "pop3s"), (110, "pop3"), (465, "smtps"), (587, "smtp")]
    {
        reaches(100, port, scheme);
    }
    let address = format!("{SUBNET}.100");
    // Each instance lists the devices of the others as well, once it has read them.
    let serves = |(number, instance): &(usize, &String)| {
        let list = engine.ok(&["exec", instance, "packetboat", "devices", "--json"]);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let name = format!("packetboat-{}", number + 1);
        let is_own = |one: &serde_json::Value| one["source"] == address && one["instance"].as_str() == Some(&name);
        list["devices"].as_array().unwrap().iter().any(is_own)
    };
    let serving: Vec<&String> = instances.iter().enumerate().filter(serves).map(|(_, instance)| instance).collect();
    assert_eq!(serving.len(), 1, "one instance serves {address}");

    // That instance ends, and then the database: devices are served all the same.
    engine.ok(&["kill", "-s", "KILL", serving[0]]);
    reaches(100, 993, "imaps");
    let database = container("database");
    engine.ok(&["stop", &database]);
    for last in 100..110 {
        reaches(last, 993, "imaps");
    }
    let others: Vec<&String> = instances.iter().filter(|one| *one != serving[0]).collect();
    engine.ok(&["exec", others[0], "packetboat", "health"]);
    let away = engine.docker(&["exec", others[0], "packetboat", "fleet", "status"]);
    assert_eq!(away.status.code(), Some(69), "{away:?}");
    // An instance starts without the database.
    engine.ok(&["restart", "-t", "45", others[0]]);
    engine.until("health", &["inspect", "-f", "{{.State.Health.Status}}", others[0]], "healthy");
    engine.ok(&["start", &database, serving[0]]);
    engine.until("instances", &["exec", others[0], "packetboat", "fleet", "status"], "3 registered");
}

/// Asks for a login as a device at this address does; packetboat must answer, although it cannot let anybody in.
fn is_served(engine: &Engine, last: u8, port: u16, scheme: &str) {
    let begun = std::time::Instant::now();
    let curl = format!(
        "curl --silent --show-error --verbose --insecure --max-time 30 --user scanner3:k7m2xp9at {scheme}://haproxy:{port}/ 2>&1; true"
    );
    let address = format!("{SUBNET}.{last}");
    let device =
        ["run", "--rm", "--network", "boat_fleet", "--ip", &address, "debian:bookworm-slim", "sh", "-c", &curl];
    let said = engine.ok(&device);
    let greeting = match scheme.trim_end_matches('s') {
        "imap" => "* OK ",
        "pop3" => "+OK ",
        _ => "220 ",
    };
    assert!(said.contains(greeting) && begun.elapsed() < PATIENCE, "{scheme} at {port}: {said}");
}

/// The images of HAProxy and PostgreSQL that the compose file names come from a registry. These stand for them: Debian's
/// packages, with the entry point and the user that the usual image of PostgreSQL has.
fn make_images(engine: &Engine, directory: &Path) {
    engine.import("haproxy,postgresql", IMAGE);
    let context = directory.join("postgres");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    fs::write(context.join("entrypoint.sh"), ENTRYPOINT).unwrap();
    engine.ok(&["build", "-q", "-t", "postgres-test", context.to_str().unwrap()]);
}

const DOCKERFILE: &str = "FROM debian-fleet\n\
    RUN usermod -u 999 postgres && groupmod -g 999 postgres && mkdir -p /var/lib/postgresql/data /run/postgresql && \
    chown -R postgres: /var/lib/postgresql /run/postgresql && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/\n\
    COPY entrypoint.sh /\nENTRYPOINT [\"sh\", \"/entrypoint.sh\"]\nSTOPSIGNAL SIGINT\n";

const ENTRYPOINT: &str = r#"set -eu
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    cat "$POSTGRES_PASSWORD_FILE" >/tmp/password && chown postgres /tmp/password
    as initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust -D "$PGDATA"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    as pg_ctl -D "$PGDATA" -o '-clisten_addresses=' -w start
    as psql -U "$POSTGRES_USER" -d postgres -c "create database $POSTGRES_DB"
    as pg_ctl -D "$PGDATA" -w stop
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@" -clisten_addresses='*'
"#;

/// The compose file in a directory of its own, with secrets, as its comment describes them.
fn project(directory: &Path) {
    let copied =
        Command::new("cp").arg("-r").arg(root().join("docker")).arg(root().join("config")).arg(directory).status();
    assert!(copied.unwrap().success());
    let secrets = directory.join("docker/fleet/secrets");
    fs::create_dir_all(&secrets).unwrap();
    let script = "set -e
        pair() { openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=$3 -addext subjectAltName=DNS:$3 \
            -keyout $1 -out $2; }
        pair app.key app.pem packetboat
        pair key.pem chain.pem mail.example.test
        pair database.key database.pem database
        head -c 24 /dev/urandom | base64 >admin-token
        head -c 24 /dev/urandom | base64 >database-password
        head -c 32 /dev/urandom >store.key
        chown 65532 *; chown 999 database.key; chmod 400 *; chmod 444 app.pem chain.pem database.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(&secrets).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = directory.join("docker/fleet/configuration/packetboat.toml");
    let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
    let text = fs::read_to_string(&file).unwrap().replace("$argon2id$...", &hash);
    fs::write(&file, text).unwrap();
}
