//! These tests prove that every download for building, checking or measuring a release is pinned by version, checksum
//! or digest.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::process::{copy_executable, executable};

#[test]
fn every_fetch_names_what_it_takes() {
    let files = scripts();
    for known in [
        "Makefile",
        ".ci/run",
        "config/release/sbom.sh",
        "config/release/venv.sh",
        "docker/Dockerfile",
        "docker/compose.yaml",
        "tests/install.sh",
    ] {
        assert!(files.iter().any(|(path, _)| path.ends_with(known)), "{known}");
    }
    let found: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| loose(text).into_iter().map(move |line| format!("{}: {line}", path.display())))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The check finds a planted download without a checksum.
#[test]
fn a_loose_fetch_is_found() {
    for line in [
        "python -m pip install cyclonedx-python-lib==11.12.0",
        "pip install --only-binary :all: --no-deps -r requirements.txt",
        "cargo install --locked cargo-fuzz",
        "cargo install --version 1 cargo-fuzz",
        "curl -fsSL https://example.org/x.tar.gz | tar xz",
        "wget http://example.org/x",
        "git clone https://example.org/x",
        "curl -fsSL https://sh.rustup.rs | \\\n  sh",
        "npm install x",
        "FROM rust:1.95-bookworm AS build",
        "FROM debian",
        "    image: nginx:1",
        "docker build -f docker/Dockerfile .",
    ] {
        assert_eq!(loose(line).len(), 1, "{line}");
    }
    for line in [
        "# curl https://example.org",
        "pip install --only-binary :all: --no-deps --require-hashes -r requirements.txt",
        "cargo install --quiet --locked --version \"$version\" cargo-deny",
        "curl https://example.org/x -o x\necho \"abc x\" | sha256sum --check",
        "curl http://localhost:9143/metrics",
        "git clone --quiet \"$root\" \"$clone\"",
        "FROM scratch",
        "FROM a AS b\nFROM b",
        "FROM debian:bookworm-slim@sha256:0123456789abcdef",
        "images=$$(docker/images.sh) && docker build $$images .",
    ] {
        assert_eq!(loose(line).into_iter().filter(|line| line != "FROM a AS b").collect::<Vec<_>>(), [""; 0], "{line}");
    }
}

#[test]
fn every_package_of_pythons_has_its_sum() {
    let files: Vec<_> = scripts()
        .into_iter()
        .filter(|(path, _)| path.ends_with("requirements.txt") || named_requirements(path))
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for (path, text) in files {
        for requirement in logical_lines(&text) {
            let sums = requirement.matches("--hash=sha256:").count();
            assert!(requirement.contains("==") && sums > 0, "{}: {requirement}", path.display());
        }
    }
}

#[test]
fn base_images_are_taken_by_digest_and_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["images.sh", "Dockerfile"] {
        copy_executable(&root().join("docker").join(name), &at(name));
    }
    fs::write(at("images.lock"), "# digests\n").unwrap();
    let docker = at("docker");
    let digest = "0".repeat(63);
    // The stand-in for the container engine knows the digests of the images that it pulls.
    let fake = format!(
        "#!/bin/sh\necho \"$@\" >>{:?}\ncase \"$*\" in\n*inspect*rust:*) echo rust@sha256:{digest}1 ;;\n\
         *inspect*debian:*) echo debian@sha256:{digest}2 ;;\nesac\n",
        at("asked")
    );
    executable(&docker, &fake);
    let run = || {
        let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
        Command::new(at("images.sh")).env("PATH", path).output().unwrap()
    };
    let expected =
        format!("--build-arg RUST_IMAGE=rust@sha256:{digest}1\n--build-arg DEBIAN_IMAGE=debian@sha256:{digest}2\n");
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let asked = fs::read_to_string(at("asked")).unwrap();
    assert_eq!(asked.matches("pull ").count(), 2, "{asked}");
    // The second run takes the recorded digest, even if the tag has moved.
    assert_eq!(String::from_utf8(run().stdout).unwrap(), expected);
    assert_eq!(fs::read_to_string(at("asked")).unwrap(), asked);
    // The script refuses an image without a recorded digest.
    fs::write(at("images.lock"), "").unwrap();
    executable(&docker, "#!/bin/sh\n");
    assert!(!run().status.success());
    for line in
        fs::read_to_string(root().join("docker/images.lock")).unwrap().lines().filter(|line| !line.starts_with('#'))
    {
        let (image, digest) = line.split_once(" sha256:").unwrap();
        assert!(image.contains(':') && digest.len() == 64, "{line}");
    }
}

/// Lines with a download that may change from one day to the next.
fn loose(text: &str) -> Vec<String> {
    let lines = logical_lines(text);
    let mut stages = vec!["scratch".to_owned()];
    let has_sums = text.contains("sha256sum");
    let mut found = Vec::new();
    for line in lines {
        let has = |word: &str| line.contains(word);
        let is_far = ["https://", "http://"].iter().any(|scheme| {
            let mut behind = line.match_indices(scheme).map(|(at, _)| &line[at + scheme.len()..]);
            behind.any(|host| !NEAR.iter().any(|near| host.starts_with(near)))
        });
        let words: Vec<&str> = line.split_whitespace().collect();
        let fetches = ["curl", "wget", "git"].iter().any(|program| words.contains(program));
        let is_loose = if has("pip install") {
            !["--require-hashes", "--only-binary :all:", "--no-deps"].iter().all(|word| has(word))
        } else if has("cargo install") {
            !has("--locked") || !has("--version")
        } else if has("docker build") {
            !has("docker/images.sh") && !has("$images")
        } else if words.first() == Some(&"FROM") {
            let image = words[1];
            let is_stage = stages.iter().any(|stage| stage == image);
            stages.extend(words.iter().skip_while(|word| **word != "AS").nth(1).map(|name| (*name).to_owned()));
            // A variable is an image that docker/images.sh names, or a stage.
            !is_stage && !image.contains("@sha256:") && !image.starts_with("${")
        } else if words.len() > 1 && words[0] == "image:" && !words[1].starts_with('#') {
            !has("@sha256:") && !EXAMPLES.iter().any(|example| line == *example || has(&format!("${{{example}:-")))
        } else {
            (fetches && is_far && !has_sums) || FETCHERS.iter().any(|fetcher| has(fetcher))
        };
        if is_loose {
            found.push(line);
        }
    }
    found
}

/// Lines joined with their continuations, without comments.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let line = line.trim();
        if !goes_on && (line.is_empty() || line.starts_with('#')) {
            continue;
        }
        let part = line.trim_end_matches('\\').trim_end();
        match lines.last_mut().filter(|_| goes_on) {
            Some(last) => *last = format!("{last} {part}"),
            None => lines.push(part.to_owned()),
        }
        goes_on = line.ends_with('\\');
    }
    lines
}

/// The packages that a target of the Makefile would install.
fn packages_of(target: &str) -> String {
    let output = Command::new(root().join("tests/install.sh")).args(["--dry-run", target]).output().unwrap();
    assert!(output.status.success(), "{target}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_target_installs_what_it_needs_and_no_more() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let mut target = "";
    let mut targets = Vec::new();
    for line in makefile.lines() {
        match line.split_once(':') {
            Some((name, _)) if !line.starts_with(['\t', ' ', '#', '.']) => target = name,
            _ if line == "\t@tests/install.sh $@" => targets.push(target),
            _ => assert!(!line.contains("install.sh") || line.starts_with('#'), "{line}"),
        }
    }
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets {
        assert!(packages_of(target).contains("gcc\n"), "{target}");
    }
    assert_eq!(packages_of("build"), packages_of("demo"), "a demo needs the program alone");
    for package in ["chromium", "prometheus", "dovecot-imapd", "faketime"] {
        assert!(packages_of("test").contains(package) && !packages_of("demo").contains(package), "{package}");
    }
}

/// Another machine's program needs a library of Rust and a C compiler for it; a script says which is missing, and what to do.
#[test]
fn a_build_for_another_machine_says_what_is_missing() {
    let fake = tempfile::tempdir().unwrap();
    let rustc = fake.path().join("rustc");
    executable(
        &rustc,
        "#!/bin/sh\ncase $1 in -vV) echo 'host: x86_64-unknown-linux-gnu\nrelease: 9.9.9' ;; *) echo /none ;; esac\n",
    );
    let path = format!("{}:{}", fake.path().display(), std::env::var("PATH").unwrap());
    let fails = |script: &str, compiler: &str| {
        let mut command = Command::new(root().join(script));
        command.arg("aarch64-unknown-linux-gnu").env("PATH", &path).env("TARGET", "aarch64-unknown-linux-gnu");
        let output = command.env("CC_aarch64_unknown_linux_gnu", compiler).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(69), "{said}");
        said
    };
    let said = fails("config/release/std.sh", "cc");
    assert!(
        said.contains("no standard library of Rust for aarch64-unknown-linux-gnu: ") && said.contains("9.9.9"),
        "{said}"
    );
    assert!(said.ends_with("rustup target add aarch64-unknown-linux-gnu\n"), "{said}");
    let said = fails("config/release/cargo.sh", "/none/gcc");
    assert!(
        said.contains("/none/gcc is missing, the C compiler for aarch64-unknown-linux-gnu: apt-get install "),
        "{said}"
    );
    assert!(fails("config/release/cargo.sh", "cc").contains("rustup target add"), "the build goes no further");
}

/// Scripts that build, check and measure, with their text.
fn scripts() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> = ["config", "docker", "benches", ".ci"].map(|folder| root().join(folder)).into();
    let mut paths = vec![root().join("Makefile"), root().join("tests/install.sh")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    paths.retain(|path| is_script(path));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn is_script(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, None | Some("sh" | "py" | "txt" | "yaml" | "service"))
}

fn named_requirements(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with("-requirements.txt"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Hosts on this machine, or, in docker/compose.yaml, a container beside.
const NEAR: [&str; 4] = ["localhost", "127.", "[::1]", "packetboat"];
/// Package managers that nothing here needs.
const FETCHERS: [&str; 6] = ["npm install", "npx ", "go install", "gem install", "rustup ", "pipx "];
/// Our own image in Kubernetes, and variables of the compose files: our own image, the placeholder for the operator's
/// application, and the images of HAProxy and PostgreSQL, which are the operator's choice.
const EXAMPLES: [&str; 5] =
    ["image: packetboat", "PACKETBOAT_IMAGE", "APPLICATION_IMAGE", "HAPROXY_IMAGE", "POSTGRES_IMAGE"];
