//! These tests prove that the linked OpenSSL differs from its source in one line, and that a tree without that line is
//! not built.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../vendor/openssl-src/src/tree.rs"]
mod tree;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use openssl::ssl::{SslContext, SslMethod};
use support::process::copy_executable;
use tree::{Source, prepare, replaced};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A record layer has room for one record at a time, and OpenSSL accepts no number of pipelines above 1.
#[test]
fn a_connection_has_room_for_one_pipeline() {
    let context = SslContext::builder(SslMethod::tls_server()).unwrap();
    // SSL_CTX_set_max_pipelines is a macro; SSL_CTRL_SET_MAX_PIPELINES comes from openssl/ssl.h.
    let set = |pipelines| {
        // SAFETY: the context is alive, and this command takes a number and no pointer.
        #[allow(unsafe_code)]
        unsafe {
            openssl_sys::SSL_CTX_ctrl(context.as_ptr(), 126, pipelines, std::ptr::null_mut())
        }
    };
    assert_eq!([0, 1, 2, 32].map(set), [0, 1, 0, 0]);
}

#[test]
fn a_line_is_replaced_where_it_is_there_exactly_once() {
    assert_eq!(replaced("a\n#define X 32\nb\n", "#define X 32", "#define X 1").unwrap(), "a\n#define X 1\nb\n");
    for text in ["", "#define X 320\n", " #define X 32\n", "#define X 32\n#define X 32\n"] {
        let error = replaced(text, "#define X 32", "#define X 1").unwrap_err();
        assert!(error.contains("and not once"), "{text:?}: {error}");
    }
}

/// Prepares a tree that has this version and header, the two files that the preparation reads.
fn prepared(version: &str, header: &str) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("include/openssl")).unwrap();
    fs::write(directory.path().join("VERSION.dat"), version).unwrap();
    let file = directory.path().join("include/openssl/ssl.h.in");
    fs::write(&file, header).unwrap();
    prepare(directory.path()).map(|()| fs::read_to_string(file).unwrap())
}

#[test]
fn a_tree_of_another_kind_is_not_built() {
    let header = "# define A\n#define SSL_MAX_PIPELINES 32\n# define B\n";
    let (three, four) = ("MAJOR=3\nMINOR=5\n", "MAJOR=4\nMINOR=0\n");
    assert_eq!(prepared(three, header).unwrap(), "# define A\n#define SSL_MAX_PIPELINES 1\n# define B\n");
    assert!(prepared(four, header).unwrap_err().contains("SSLv3"));
    assert!(prepared(three, "#define SSL_MAX_PIPELINES 16\n").unwrap_err().contains("0 times"));
}

#[test]
fn a_source_is_a_directory_or_a_file_that_is_there() {
    let named = |name: &str| Source::named(Some(OsStr::new(name)));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("openssl.tar.gz");
    fs::write(&file, "").unwrap();
    assert_eq!(Source::named(None), Ok(Source::Registry));
    assert_eq!(named(""), Ok(Source::Registry));
    assert_eq!(named(directory.path().to_str().unwrap()), Ok(Source::Directory(directory.path().into())));
    assert_eq!(named(file.to_str().unwrap()), Ok(Source::Tarball(file)));
    assert!(named("target/openssl").unwrap_err().contains("not an absolute path"));
    assert!(named("/nowhere/openssl").unwrap_err().contains("No such file"));
}

#[test]
fn a_tarball_is_unpacked_without_its_first_directory() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("openssl-3.5.99");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("VERSION.dat"), "MAJOR=3\n").unwrap();
    let file = directory.path().join("openssl.tar.gz");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&file).arg("-C").arg(directory.path()).arg("openssl-3.5.99");
    assert!(tar.status().unwrap().success());
    for (name, source) in [("a", Source::Tarball(file)), ("b", Source::Directory(tree))] {
        let to = directory.path().join(name);
        source.unpack(&to).unwrap();
        assert_eq!(fs::read_to_string(to.join("VERSION.dat")).unwrap(), "MAJOR=3\n");
    }
}

/// The output of `config/release/openssl.sh` in this environment, in a copy that has fetched nothing yet.
fn script(environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let copy = tempfile::tempdir().unwrap();
    run_in(copy.path(), &fs::read_to_string(format!("{ROOT}/config/release/openssl.sha256")).unwrap(), environment)
}

/// The output of the script in this directory, with these checksums.
fn run_in(copy: &Path, sums: &str, environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let release = copy.join("config/release");
    fs::create_dir_all(&release).unwrap();
    for file in ["openssl.sh", "trixie.sh"] {
        copy_executable(&Path::new(ROOT).join("config/release").join(file), &release.join(file));
    }
    fs::write(release.join("openssl.sha256"), sums).unwrap();
    let mut command = Command::new(release.join("openssl.sh"));
    for name in ["OPENSSL", "OPENSSL_SOURCE", "CARGO_TARGET_DIR"] {
        command.env_remove(name);
    }
    let output = command.envs(environment.iter().copied()).current_dir(ROOT).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_release_takes_no_other_openssl_unasked() {
    // Nothing can be fetched, because apt knows no mirror.
    let empty = tempfile::tempdir().unwrap();
    let apt = empty.path().join("apt.conf");
    let text = "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"-\";\n";
    fs::write(&apt, text).unwrap();
    let (code, said, error) = script(&[("APT_CONFIG", apt.to_str().unwrap())]);
    assert_eq!((code, said.as_str()), (Some(69), ""), "{error}");
    assert!(error.contains("apt knows no mirror of Debian") && error.contains("OPENSSL=registry"), "{error}");
    // The environment may name a directory or the registry; other values are refused.
    let own = script(&[("OPENSSL_SOURCE", "config")]);
    assert_eq!((own.0, own.1), (Some(0), format!("{ROOT}/config\n")));
    let registry = script(&[("OPENSSL", "registry")]);
    assert_eq!((registry.0, registry.1.as_str()), (Some(0), "\n"));
    assert_eq!(script(&[("OPENSSL", "newest")]).0, Some(69));
    assert_eq!(script(&[("OPENSSL_SOURCE", "/nowhere")]).0, Some(69));
}

#[test]
#[ignore = "asks Debian's archive: make advisories"]
fn a_source_of_another_sum_is_not_taken() {
    let sums = fs::read_to_string(format!("{ROOT}/config/release/openssl.sha256")).unwrap();
    let copy = tempfile::tempdir().unwrap();
    // The last checksum is changed, so that all others are right.
    let at = sums.rfind("  openssl_").unwrap() - 1;
    let wrong = if &sums[at..=at] == "0" { "1" } else { "0" };
    let sums = sums[..at].to_owned() + wrong + &sums[at + 1..];
    let (code, said, error) = run_in(copy.path(), &sums, &[]);
    assert_eq!((code, said.as_str()), (Some(69), ""), "{error}");
    assert!(error.contains("the sums are not those"), "{error}");
    assert_eq!(fs::read_dir(copy.path().join("target/openssl")).unwrap().count(), 0);
}
