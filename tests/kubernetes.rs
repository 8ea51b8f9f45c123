//! These tests prove the manifests in `docker/kubernetes`: Kubernetes' own schemas accept them, packetboat accepts the
//! configuration, and both agree about ports, users and times.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use packetboat::config::Config;
use support::network;
use tempfile::TempDir;

const SECRETS: [&str; 5] = ["app.pem", "app.key", "chain.pem", "key.pem", "admin-token"];

/// A copy of `docker/kubernetes` with secrets in it, as an administrator prepares it.
fn prepared() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(folder()).arg(directory.path().join("kubernetes")).status();
    assert!(copied.unwrap().success());
    let secrets = directory.path().join("kubernetes/secrets");
    fs::create_dir_all(&secrets).unwrap();
    for (key, chain) in [("app.key", "app.pem"), ("key.pem", "chain.pem")] {
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=mail.example.test",
            "-days",
            "30",
        ]);
        succeeds(&command.args(["-keyout", key, "-out", chain]).current_dir(&secrets).output().unwrap());
    }
    fs::write(secrets.join("admin-token"), "a-token-of-enough-length\n").unwrap();
    let file = directory.path().join("kubernetes/packetboat.toml");
    let hash = packetboat::device::password::hash(b"k7m2xp9at").unwrap();
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("$argon2id$...", &hash)).unwrap();
    directory
}

fn succeeds(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn validate(files: &[PathBuf]) -> Output {
    Command::new(root().join("config/release/kubernetes.sh")).args(files).output().unwrap()
}

fn manifests() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_manifest = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    files.filter(is_manifest).filter(|path| !path.ends_with("kustomization.yaml")).collect()
}

#[test]
fn the_schemas_accept_every_manifest() {
    let files = manifests();
    assert_eq!(files.len(), 5, "{files:?}");
    let said = succeeds(&validate(&files));
    for kind in ["namespace", "deployment", "service", "poddisruptionbudget", "networkpolicy"] {
        assert_eq!(said.matches(&format!("passed for resource {kind}/packetboat against")).count(), 2, "{said}");
    }
    // The check refuses a key that Kubernetes does not know.
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("service.yaml");
    let text = fs::read_to_string(folder().join("service.yaml")).unwrap();
    fs::write(&wrong, text.replace("externalTrafficPolicy", "externalTraficPolicy")).unwrap();
    assert!(!validate(&[wrong]).status.success());
}

/// kustomization.yaml names every manifest and every secret that the Deployment needs.
#[test]
fn the_kustomization_names_every_file() {
    let text = fs::read_to_string(folder().join("kustomization.yaml")).unwrap();
    for file in manifests() {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(text.contains(&format!("\n  - {name}\n")), "{name}");
    }
    let named: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("- secrets/")).collect();
    assert_eq!(named, SECRETS);
    let configuration = fs::read_to_string(folder().join("packetboat.toml")).unwrap();
    for secret in SECRETS {
        assert!(configuration.contains(&format!("\"/run/secrets/packetboat/{secret}\"")), "{secret}");
    }
}

/// `packetboat check` accepts the file, with the secrets where the Deployment mounts them.
#[test]
fn packetboat_accepts_the_configuration() {
    network::alone();
    let directory = prepared();
    let at = directory.path().join("kubernetes");
    let file = at.join("packetboat.toml");
    let text =
        fs::read_to_string(&file).unwrap().replace("/run/secrets/packetboat", at.join("secrets").to_str().unwrap());
    let text = format!("state_directory = {:?}\n{text}", at.join("state"));
    fs::write(&file, &text).unwrap();
    for secret in SECRETS {
        let modes = Command::new("chmod").arg("600").arg(at.join("secrets").join(secret)).status();
        assert!(modes.unwrap().success());
    }
    let mut check = Command::new(env!("CARGO_BIN_EXE_packetboat"));
    let said = check.arg("check").arg("--config").arg(&file).output().unwrap();
    succeeds(&said);

    // The Deployment opens the ports at which packetboat listens, and waits until it has stopped.
    let config = Config::parse(&text, &file).unwrap().config;
    let deployment = fs::read_to_string(folder().join("deployment.yaml")).unwrap();
    let mut ports: Vec<u16> = config.listeners.iter().flat_map(|one| &one.listen).map(|one| one.port()).collect();
    ports.extend(config.admin.listen.iter().map(std::net::SocketAddr::port));
    let number = |key: &str| {
        let of_key = |line: &str| line.split_once(&format!("{key}: "))?.1.trim_end_matches(" }").parse::<u64>().ok();
        deployment.lines().filter_map(of_key).collect::<Vec<u64>>()
    };
    let mut opened: Vec<u16> = number("containerPort").into_iter().map(|port| u16::try_from(port).unwrap()).collect();
    ports.sort_unstable();
    opened.sort_unstable();
    assert_eq!(ports, opened);
    let stops_within = config.limits.drain_timeout + config.limits.close_timeout;
    let pause = number("seconds")[0];
    assert!(pause + stops_within.as_secs() < number("terminationGracePeriodSeconds")[0]);
    // The image's user.
    let dockerfile = fs::read_to_string(root().join("docker/Dockerfile")).unwrap();
    assert!(dockerfile.contains("USER 65532:65532") && number("runAsUser") == [65532], "{dockerfile}");
    // During an update one instance more runs than otherwise.
    let most = number("replicas")[0] + number("maxSurge")[0];
    assert!(most * config.limits.sessions_per_mailbox as u64 <= 16);
}

/// `kubectl kustomize` makes manifests that the schemas accept. Debian's kubectl or any later one will do.
#[test]
fn kustomize_makes_valid_manifests() {
    let directory = prepared();
    let output = Command::new("kubectl").arg("kustomize").arg(directory.path().join("kubernetes")).output();
    let made = succeeds(&output.expect("kubectl (package kubernetes-client)"));
    assert!(made.contains("image: registry.example.com/packetboat:0.1.0"), "{made}");
    let file = directory.path().join("all.yaml");
    fs::write(&file, &made).unwrap();
    let said = succeeds(&validate(&[file]));
    assert_eq!(said.matches("passed for resource").count(), 2 * 7, "{said}");
}

fn folder() -> PathBuf {
    root().join("docker/kubernetes")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
