//! Builds the OpenSSL that packetboat links: `OPENSSL_SOURCE`, a directory or a tarball, or else the tree from
//! crates.io.
//!
//! The types and functions are those of the crate openssl-src that openssl-sys calls. Linux only, as packetboat is.

mod tree;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use tree::{Source, run};

/// Configures, compiles and installs OpenSSL beneath cargo's `OUT_DIR`.
pub struct Build {
    openssl_dir: PathBuf,
}

/// The directories of the built libraries and headers.
pub struct Artifacts {
    include_dir: PathBuf,
    lib_dir: PathBuf,
}

impl Build {
    /// A build with OpenSSL's default directory for configuration files.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { openssl_dir: "/usr/local/ssl".into() }
    }

    /// Sets the directory in which the library looks for configuration files.
    pub fn openssl_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.openssl_dir = directory.as_ref().to_path_buf();
        self
    }

    /// Builds OpenSSL; ends the process with a message if that fails.
    pub fn build(&mut self) -> Artifacts {
        self.try_build().unwrap_or_else(|error| {
            // cargo shows this line of a build script; the rest is in its output file.
            println!("cargo:warning=OpenSSL is not built: {}", error.replace('\n', " "));
            eprintln!("OpenSSL is not built: {error}");
            exit(1)
        })
    }

    fn try_build(&self) -> Result<Artifacts, String> {
        println!("cargo:rerun-if-env-changed={SOURCE}");
        let source = Source::named(env::var_os(SOURCE).as_deref())?;
        if let Some(path) = source.path() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("openssl-build");
        if out.exists() {
            fs::remove_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        }
        let (inner, install) = (out.join("build/src"), out.join("install"));
        source.unpack(&inner)?;
        tree::prepare(&inner)?;
        run(self.configure(&install)?.current_dir(&inner))?;
        let make = |target: &str| {
            let mut make = Command::new("make");
            make.arg(target).current_dir(&inner);
            if let Some(flags) = env::var_os("CARGO_MAKEFLAGS").filter(|_| target == "build_libs") {
                // NUM_JOBS: cargo's number of compilers for this build script.
                make.env("MAKEFLAGS", flags);
            }
            run(&mut make)
        };
        make("depend")?;
        make("build_libs")?;
        make("install_dev")?;
        fs::remove_dir_all(&inner).map_err(|error| format!("{}: {error}", inner.display()))?;
        Ok(Artifacts { include_dir: install.join("include"), lib_dir: install.join("lib") })
    }

    fn configure(&self, install: &Path) -> Result<Command, String> {
        let (target, host) = (cargo("TARGET")?, cargo("HOST")?);
        let platform = match target.as_str() {
            "x86_64-unknown-linux-gnu" | "x86_64-unknown-linux-musl" => "linux-x86_64",
            "aarch64-unknown-linux-gnu" | "aarch64-unknown-linux-musl" => "linux-aarch64",
            _ => return Err(format!("vendor/openssl-src does not know how to configure it for {target}")),
        };
        let perl = ["OPENSSL_SRC_PERL", "PERL"].into_iter().find_map(env::var_os).unwrap_or_else(|| "perl".into());
        let mut configure = Command::new(perl);
        configure.arg("./Configure").arg(platform);
        configure.arg(format!("--prefix={}", install.display()));
        configure.arg(format!("--openssldir={}", self.openssl_dir.display()));
        configure.args(["--libdir=lib", "no-shared", "no-module", "no-tests", "no-comp", "no-zlib", "no-zlib-dynamic"]);
        // Ciphers and hashes that no profile uses, and protocols that packetboat does not speak.
        configure.args(["no-camellia", "no-idea", "no-seed", "no-aria", "no-bf", "no-cast", "no-gost", "no-ocb", "no-siv"]);
        configure.args(["no-blake2", "no-mdc2", "no-rmd160", "no-scrypt", "no-sm2", "no-sm3", "no-sm4", "no-whirlpool"]);
        configure.args(["no-quic", "no-cmp", "no-cms", "no-ct", "no-ocsp", "no-rfc3779", "no-srp", "no-ts"]);
        // Both cost time in each handshake: keys of loadable engines, and jobs that wait for hardware.
        configure.args(["no-engine", "no-async"]);
        configure.args(feature(cfg!(feature = "no-dso"), &["no-dso"], &[]));
        configure.args(feature(cfg!(feature = "legacy"), &[], &["no-legacy"]));
        configure.args(feature(cfg!(feature = "ssl3"), &["enable-ssl3", "enable-ssl3-method"], &["no-ssl3"]));
        let weak = cfg!(feature = "weak-crypto");
        configure.args(feature(weak, &["enable-weak-ssl-ciphers"], &["no-weak-ssl-ciphers"]));
        if target.contains("musl") {
            // musl lacks the headers and functions for this.
            configure.arg("-DOPENSSL_NO_SECURE_MEMORY");
        }
        compiler(&mut configure, &target, &host);
        Ok(configure)
    }
}

impl Artifacts {
    /// The directory with the headers.
    pub fn include_dir(&self) -> &Path {
        &self.include_dir
    }

    /// The directory with the static libraries.
    pub fn lib_dir(&self) -> &Path {
        &self.lib_dir
    }
}

/// The compiler and its arguments, the same as in cargo's other build scripts, with CC and CFLAGS of the environment.
fn compiler(configure: &mut Command, target: &str, host: &str) {
    let mut cc = cc::Build::new();
    cc.target(target).host(host).warnings(false).opt_level(2);
    let compiler = cc.get_compiler();
    let wrapped = compiler.cc_env();
    configure.env("CC", if wrapped.is_empty() { compiler.path().as_os_str() } else { wrapped.as_os_str() });
    // Both cc and Configure would add the prefix.
    configure.env_remove("CROSS_COMPILE");
    for (name, tool) in [("AR", cc.get_archiver()), ("RANLIB", cc.get_ranlib())] {
        let words: Vec<&OsStr> = std::iter::once(tool.get_program()).chain(tool.get_args()).collect();
        configure.env(name, words.join(OsStr::new(" ")));
    }
    configure.args(compiler.args().iter().filter(|argument| *argument != "-static"));
}

fn feature<'a>(is_on: bool, on: &'a [&'a str], off: &'a [&'a str]) -> &'a [&'a str] {
    if is_on { on } else { off }
}

fn cargo(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("cargo sets {name}"))
}

const SOURCE: &str = "OPENSSL_SOURCE";
