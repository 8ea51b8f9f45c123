//! These tests prove that no target of the fuzzers breaks in a short run, which is the same each time.
//!
//! Each target plays its seeds, old findings, and mutations of both: changed octets, inserted words, and two inputs
//! joined. `make fuzz` is the long form.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use packetboat::proto::sasl::{Exchange, Mechanism, Next};
use packetboat::transport::detect::hello::{self, ClientHello};
use packetboat::transport::proxy_header;
use support::fuzz::pair::Protocol;
use support::fuzz::random::Random;
use support::fuzz::{parsers, session};

#[test]
fn imap_sessions() {
    run("imap", 8000, |input| drop(session::play(Protocol::Imap, input)));
}

#[test]
fn pop3_sessions() {
    run("pop3", 8000, |input| drop(session::play(Protocol::Pop3, input)));
}

#[test]
fn smtp_sessions() {
    run("smtp", 8000, |input| drop(session::play(Protocol::Smtp, input)));
}

#[test]
fn sasl_exchanges() {
    run("sasl", 40_000, parsers::sasl);
}

#[test]
fn client_hellos() {
    run("client_hello", 20_000, parsers::client_hello);
}

#[test]
fn proxy_headers() {
    run("proxy_header", 20_000, parsers::proxy_header);
}

#[test]
fn token_endpoints() {
    run("endpoint", 6000, parsers::endpoint);
}

#[test]
fn configurations() {
    run("configuration", 4000, parsers::configuration);
}

/// Each seed reaches its purpose, because a target that stops at the first check would find nothing.
#[test]
fn seeds_get_to_where_they_lead() {
    let seed = |target: &str, name: &str| fs::read(folder("seeds").join(target).join(name)).unwrap();
    for name in ["granted", "chunked"] {
        assert!(matches!(parsers::token_of(&seed("endpoint", name)), Some(Ok(_))), "{name}");
    }
    for name in ["denied", "throttled", "skewed"] {
        assert!(matches!(parsers::token_of(&seed("endpoint", name)), Some(Err(_))), "{name}");
    }
    for name in ["tls-1.0", "tls-1.2", "tls-1.3", "in-two-records", "sslv2-format"] {
        let parsed = ClientHello::parse(&seed("client_hello", name));
        assert!(matches!(parsed, hello::Parsed::Complete(_)), "{name}: {parsed:?}");
    }
    for name in ["text", "text6", "unknown", "binary", "local"] {
        let parsed = proxy_header::parse(&seed("proxy_header", name));
        assert!(matches!(parsed, proxy_header::Parsed::Header { .. }), "{name}: {parsed:?}");
    }
    for (name, protocol) in [("login-and-relay", Protocol::Imap), ("user-pass-and-relay", Protocol::Pop3)] {
        let target = if protocol == Protocol::Imap { "imap" } else { "pop3" };
        let heard = session::play(protocol, &seed(target, name)).unwrap();
        assert!(heard.events.iter().any(|event| event == "logged in"), "{heard:?}");
        assert!(heard.server.contains("fetch") || heard.server.contains("RETR"), "{heard:?}");
    }
    for (name, parks) in
        [("parked", true), ("parked-delete-false", true), ("parked-with-other-logins", true), ("not-parked", false)]
    {
        let heard = session::play(Protocol::Imap, &seed("imap", name)).unwrap();
        assert_eq!(heard.events.last().is_some_and(|event| event == "parked"), parks, "{name}: {heard:?}");
    }
    for name in ["exchange", "pipelined", "device-habits"] {
        let heard = session::play(Protocol::Smtp, &seed("smtp", name)).unwrap();
        assert!(heard.events.iter().any(|event| event.starts_with("submitted ")), "{heard:?}");
    }
    for (name, mechanism) in [("plain", Mechanism::Plain), ("xoauth2", Mechanism::Xoauth2)] {
        let line = seed("sasl", name)[1..].trim_ascii().to_vec();
        assert!(matches!(Exchange::new(mechanism).respond(&line), Next::Done(_)), "{name}");
    }
}

/// Every target of cargo-fuzz has its short form here, with a dictionary and seeds.
#[test]
fn no_target_is_forgotten() {
    let here = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzzed.rs")).unwrap();
    let targets: Vec<String> = names(&folder("targets")).iter().map(|one| stem(one)).collect();
    assert_eq!(targets.len(), 8);
    for target in targets {
        assert!(here.contains(&format!("run(\"{target}\"")), "{target}");
        assert!(!seeds(&target).is_empty(), "{target}");
        assert!(!dictionary(&target).is_empty(), "{target}");
    }
}

fn run(target: &str, rounds: usize, play: fn(&[u8])) {
    let seeds = seeds(target);
    let words = dictionary(target);
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    for input in &seeds {
        try_one(target, input, play);
    }
    let mut random = Random(0x7061_636b_6574);
    for _ in 0..rounds {
        let mut input = seeds[random.below(seeds.len())].clone();
        if random.below(4) == 0 {
            let other = &seeds[random.below(seeds.len())];
            let (end, start) = (random.below(input.len() + 1), random.below(other.len() + 1));
            input.truncate(end);
            input.extend(&other[start..]);
        }
        for _ in 0..1 + random.below(4) {
            change(&mut input, &words, &mut random);
        }
        input.truncate(LONGEST);
        try_one(target, &input, play);
    }
}

fn change(input: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 => input.insert(at, random.next_u64().to_le_bytes()[0]),
        1 if at < input.len() => drop(input.remove(at)),
        2 if at < input.len() => input[at] ^= 1 << random.below(8),
        3 if at < input.len() => input[at] = [0, 10, 13, 32, 34, 123, 125, 127, 128, 255][random.below(10)],
        4 => {
            let end = (at + random.below(40)).min(input.len());
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let end = (at + random.below(40)).min(input.len());
            drop(input.drain(at..end));
        }
        _ => drop(input.splice(at..at, random.pick(words).iter().copied())),
    }
}

/// Plays an input. A failure prints the input as a file, which becomes a test by lying in `tests/fuzz/found`.
fn try_one(target: &str, input: &[u8], play: fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(input))) {
        let file = std::env::temp_dir().join(format!("packetboat-{target}-{}", std::process::id()));
        fs::write(&file, input).unwrap();
        eprintln!("this input has done it; keep it: cp {} {}/", file.display(), folder("found").join(target).display());
        resume_unwind(panic);
    }
}

/// The inputs with which a target begins: written by hand, and found.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut files = names(&folder("seeds").join(target));
    files.extend(names(&folder("found").join(target)));
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Parses libFuzzer's dictionaries: `"word"`, with `\\`, `\"` and `\xHH`.
fn dictionary(target: &str) -> Vec<Vec<u8>> {
    let file = folder("dictionaries").join(format!("{target}.dict"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let words = text.lines().filter(|line| line.starts_with('"'));
    words
        .map(|line| {
            let mut word = Vec::new();
            let mut octets = line.strip_prefix('"').unwrap().strip_suffix('"').unwrap().bytes();
            while let Some(octet) = octets.next() {
                word.push(match octet {
                    b'\\' => match octets.next().unwrap() {
                        b'x' => {
                            let digits = [octets.next().unwrap(), octets.next().unwrap()];
                            u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                        }
                        other => other,
                    },
                    other => other,
                });
            }
            word
        })
        .collect()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_owned()
}

const LONGEST: usize = 2000;
