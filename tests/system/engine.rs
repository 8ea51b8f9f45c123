//! This file starts Debian's Docker engine in its own network namespace, with a small Debian image for the tests.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest time that any step may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The Docker engine; the guard ends it by its own process id.
pub struct Engine {
    process: Child,
    directory: TempDir,
}

impl Engine {
    /// Starts the engine, and imports the small Debian 12 as `debian:bookworm-slim`.
    pub fn start() -> Self {
        Self::with("bookworm", "amd64")
    }

    /// Starts the engine, and imports this Debian, such as `debian:trixie-slim`.
    pub fn with(suite: &str, architecture: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        // Its bridges, firewall rules and ports stay in its own namespace.
        let script = format!(
            "ip link set lo up; exec dockerd --data-root {} --exec-root {} -H unix://{} --pidfile {}",
            path("data"),
            path("exec"),
            path("socket"),
            path("pid")
        );
        let process = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { process, directory };
        let begun = Instant::now();
        while !engine.docker(&["version"]).status.success() {
            let log = fs::read_to_string(engine.directory.path().join("log")).unwrap();
            assert!(begun.elapsed() < PATIENCE, "the engine does not start: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        engine.take(&debian(suite, architecture, PACKAGES), &format!("debian:{suite}-slim"), architecture);
        engine
    }

    /// Imports a Debian 12 with these packages alone as this image.
    pub fn import(&self, packages: &str, image: &str) {
        self.take(&debian("bookworm", "amd64", packages), image, "amd64");
    }

    /// Makes an image of a system's tar.
    fn take(&self, tar: &Path, image: &str, architecture: &str) {
        if architecture == "amd64" {
            self.ok(&["import", tar.to_str().unwrap(), image]);
            return;
        }
        // An import would say amd64 of every image.
        let file = self.directory.path().join("Dockerfile");
        fs::write(&file, format!("FROM scratch\nADD {} /\n", tar.file_name().unwrap().display())).unwrap();
        let (context, platform) = (tar.parent().unwrap().to_str().unwrap(), format!("linux/{architecture}"));
        self.ok(&["build", "-q", "--platform", &platform, "-t", image, "-f", file.to_str().unwrap(), context]);
    }

    /// A command of Debian's own client, because others may lack BuildKit.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.directory.path().join("socket").display()));
        command.env("DOCKER_BUILDKIT", "1").env("HOME", self.directory.path()).stdin(Stdio::null());
        command
    }

    pub fn docker(&self, arguments: &[&str]) -> Output {
        self.command("/usr/bin/docker").args(arguments).output().unwrap()
    }

    /// Runs the client, checks its exit code, and returns its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{arguments:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Waits until the client's output contains these words.
    pub fn until(&self, what: &str, arguments: &[&str], words: &str) -> String {
        let begun = Instant::now();
        loop {
            let output = self.docker(arguments);
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if said.contains(words) {
                return said;
            }
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(begun.elapsed() < PATIENCE, "{what}: {said} {errors}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let containers = self.docker(&["ps", "-aq"]);
        for container in String::from_utf8_lossy(&containers.stdout).split_whitespace() {
            self.docker(&["rm", "-fv", container]);
        }
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Ok(Some(_)) = self.process.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs one engine at a time, because two cores are few.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The release binary, built if it has to be, and its bill of materials beside it.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(None))
}

/// The release binary for another target of Rust, and its bill of materials beside it.
pub fn binary_for(target: &str) -> PathBuf {
    let binary = build(Some(target));
    assert!(fs::read_to_string(binary.with_extension("cdx.json")).unwrap().contains(target));
    binary
}

fn build(target: Option<&str>) -> PathBuf {
    let script = |name: &str| {
        let mut command = Command::new(root().join("config/release").join(name));
        command.envs(target.map(|target| ("TARGET", target)));
        command
    };
    assert!(script("cargo.sh").args(["build", "--locked", "--release"]).status().unwrap().success());
    let binary = root().join("target").join(target.unwrap_or_default()).join("release/packetboat");
    assert!(script("sbom.py").arg(binary.with_extension("cdx.json")).status().unwrap().success());
    binary
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Makes a package with `config/KIND/build.sh`.
pub fn package(kind: &str, program: &Path, directory: &Path) -> PathBuf {
    let script = root().join("config").join(kind).join("build.sh");
    let built = Command::new(script).arg(directory).arg(program).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    PathBuf::from(String::from_utf8(built.stdout).unwrap().trim())
}

/// A tar of a small Debian with these packages, which debootstrap makes once.
fn debian(suite: &str, architecture: &str, packages: &str) -> PathBuf {
    // Another list of packages makes another tar.
    let mut list = DefaultHasher::new();
    packages.hash(&mut list);
    let name = format!("debian-{suite}-{architecture}-{:08x}.tar", list.finish() as u32);
    let tar = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if tar.exists() {
        return tar;
    }
    let directory = tempfile::tempdir().unwrap();
    let mirror = std::env::var("DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned());
    let made = Command::new("debootstrap")
        .args(["--variant=minbase", "--arch", architecture, "--include", packages, suite])
        .arg(directory.path())
        .arg(mirror)
        .stdout(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "debootstrap");
    // A rename makes the file appear whole or not at all.
    let half = tar.with_extension("half");
    let packed = Command::new("tar").arg("-C").arg(directory.path()).arg("-cf").arg(&half).arg(".").status();
    assert!(packed.unwrap().success());
    fs::rename(half, &tar).unwrap();
    tar
}

/// With systemd and Python.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssl,procps,ca-certificates,binutils,curl,python3,rpm";
