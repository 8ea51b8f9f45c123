//! This test proves that the image, started by the compose file, is small, rootless, read-only, and unhealthy when it
//! hangs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::engine::{Engine, alone, binary, root};

/// The compose file in a directory of its own, with secrets and a quick health check.
fn project(directory: &Path) {
    let copied = Command::new("cp").arg("-r").arg(root().join("docker")).arg(directory).status();
    assert!(copied.unwrap().success());
    let secrets = directory.join("docker/secrets");
    fs::create_dir_all(&secrets).unwrap();
    let key = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=packetboat -days 30 -keyout app.key -out app.pem";
    let made = Command::new("sh").args(["-c", &format!("{key} 2>/dev/null")]).current_dir(&secrets).status();
    assert!(made.unwrap().success());
    fs::write(secrets.join("admin-token"), "a-token-of-enough-length\n").unwrap();
    fs::write(secrets.join("application-password"), "k7m2xp9at").unwrap();
    for file in ["app.key", "app.pem", "admin-token"] {
        std::os::unix::fs::chown(secrets.join(file), Some(65532), Some(65532)).unwrap();
    }
    let file = directory.join("docker/config/packetboat.toml");
    let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
    let text = fs::read_to_string(&file).unwrap().replace("$argon2id$...", &hash);
    fs::write(&file, text).unwrap();
    fs::write(
        directory.join("quick.yaml"),
        "services:\n  packetboat:\n    healthcheck:\n      interval: 1s\n      timeout: 4s\n      retries: 2\n      start_period: 1s\n",
    )
    .unwrap();
}

#[test]
fn the_image_as_a_sidecar() {
    let _alone = alone();
    let engine = Engine::start();
    let binary = binary();
    let source = root().to_str().unwrap();
    let file = format!("{source}/docker/Dockerfile");
    assert!(binary.starts_with(source));
    engine.ok(&["build", "-q", "-f", &file, "-t", "packetboat", "--build-arg", "BINARY=prebuilt", source]);
    let size: u64 = engine.ok(&["image", "inspect", "-f", "{{.Size}}", "packetboat"]).parse().unwrap();
    println!("the image has {} octets", size);
    // 25.4 million when connections could be parked, 27.0 with a fleet's database, 27.5 when that told its troubles; the
    // program is 21.1 of them.
    assert!(size <= 27_600_000, "{size}");
    assert!(engine.ok(&["run", "--rm", "--network", "none", "packetboat", "--version"]).starts_with("packetboat "));
    let labels = engine.ok(&["image", "inspect", "-f", "{{json .Config.Labels}} {{.Config.User}}", "packetboat"]);
    assert!(labels.contains("org.opencontainers.image.version") && labels.ends_with("65532:65532"), "{labels}");
    // Scanners find the bill of materials and Debian's package list in the image.
    let directory = tempfile::tempdir().unwrap();
    let container = engine.ok(&["create", "packetboat"]);
    let copied = |path: &str| {
        let to = directory.path().join("copied");
        engine.ok(&["cp", &format!("{container}:{path}"), to.to_str().unwrap()]);
        fs::read_to_string(to).unwrap()
    };
    let bill = fs::read_to_string(binary.with_extension("cdx.json")).unwrap();
    assert_eq!(copied("/usr/share/doc/packetboat/packetboat.cdx.json"), bill);
    assert!(labels.contains("/usr/share/doc/packetboat/packetboat.cdx.json"), "{labels}");
    for package in ["libc6", "libgcc-s1", "ca-certificates"] {
        let status = copied(&format!("/var/lib/dpkg/status.d/{package}"));
        assert!(status.starts_with(&format!("Package: {package}\n")) && status.contains("\nVersion: "), "{status}");
    }

    project(directory.path());
    let compose = |arguments: &[&str]| {
        let mut command = engine.command("docker-compose");
        command.args(["-p", "boat", "-f", "docker/compose.yaml", "-f", "quick.yaml"]).args(arguments);
        command.env("PACKETBOAT_IMAGE", "packetboat").env("APPLICATION_IMAGE", "debian:bookworm-slim");
        let output = command.current_dir(directory.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    compose(&["up", "-d", "--no-build"]);
    let proxy = compose(&["ps", "-q", "packetboat"]).lines().next().unwrap().to_owned();
    let application = compose(&["ps", "-q", "application"]).lines().next().unwrap().to_owned();
    let health = ["inspect", "-f", "{{.State.Health.Status}}", &proxy];
    engine.until("health", &health, "healthy");

    // Only the state directory is writable, and no process is root.
    assert_eq!(
        engine.ok(&["inspect", "-f", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}", &proxy]),
        "true [ALL]"
    );
    let written = engine.docker(&["exec", &proxy, "packetboat", "generate", "man", "/usr/bin"]);
    assert!(String::from_utf8_lossy(&written.stderr).contains("Read-only file system"), "{written:?}");

    // The application beside the proxy speaks TLS 1.0, and appears in the inventory.
    let curl = "curl --silent --show-error --insecure --tlsv1.0 --tls-max 1.0 --ciphers DEFAULT@SECLEVEL=0 --max-time 20 \
                --user application:$(cat /run/secrets/application-password) imaps://packetboat:1993/";
    let asked = engine.docker(&["exec", &application, "sh", "-c", curl]);
    assert!(
        String::from_utf8_lossy(&asked.stderr).contains("Login denied") || asked.status.code() == Some(67),
        "{asked:?}"
    );
    let devices = engine.ok(&["exec", &proxy, "packetboat", "devices"]);
    assert!(devices.contains("needs packetboat: TLS 1.0 only") && devices.contains("application"), "{devices}");
    let page = "curl -s -o /dev/null -w '%{http_code}' http://packetboat:9143/metrics";
    assert_eq!(engine.ok(&["exec", &application, "sh", "-c", page]), "401", "not without the token");
    assert!(engine.ok(&["exec", &proxy, "packetboat", "reload"]).contains("configuration reloaded"));

    // A stopped process makes the container unhealthy, and a continued one makes it healthy again.
    engine.ok(&["kill", "-s", "STOP", &proxy]);
    engine.until("illness", &health, "unhealthy");
    engine.ok(&["kill", "-s", "CONT", &proxy]);
    let begun = std::time::Instant::now();
    while engine.ok(&health) != "healthy" {
        assert!(begun.elapsed() < crate::engine::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    // The proxy is the first process: it receives the signal itself, and saves its state.
    engine.ok(&["stop", "-t", "45", &proxy]);
    assert_eq!(engine.ok(&["inspect", "-f", "{{.State.ExitCode}}", &proxy]), "0");
    engine.ok(&["start", &proxy]);
    engine.until("health", &health, "healthy");
    assert!(engine.ok(&["exec", &proxy, "packetboat", "devices"]).contains("needs packetboat: TLS 1.0 only"), "kept");
}
