//! SECURITY.md names a test for each promise: each of them is there, where it says, and is run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_promise_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .split("## Promises")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap()
        .lines()
        .filter(|line| {
            line.starts_with("| ")
                && !line.starts_with("| promise")
                && !line.starts_with("| check")
                && !line.starts_with("| resource")
        })
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    let mut found = 0;
    // A promise, its test and a figure; or a resource, whose test comes last.
    for row in rows.iter().filter(|row| [3, 5].contains(&row.len())) {
        let (figure, tests) = if row.len() == 3 { (row[2].trim(), row[1]) } else { ("", row[4]) };
        let is_open = figure.len() > 2 && figure.chars().all(|c| c.is_ascii_uppercase() || c == '-');
        assert!(!is_open, "{} has no figure", row[0]);
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{} has no test", row[0]);
        for name in named {
            match (name.strip_prefix("make "), name.split_once("::")) {
                (Some(target), _) => {
                    assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "{name}");
                }
                (None, Some((binary, function))) => assert!(is_there(root, binary, function), "{name}"),
                (None, None) => panic!("{name} is no test"),
            }
            found += 1;
        }
    }
    assert!(found > 50, "{found} in {} rows", rows.len());
}

/// A test of that name, in the binary's own files, that `make test` does not leave out.
fn is_there(root: &Path, binary: &str, function: &str) -> bool {
    let files = match binary {
        "lib" => below(&root.join("src")),
        _ => [below(&root.join("tests").join(binary)), vec![root.join(format!("tests/{binary}.rs"))]].concat(),
    };
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    // None in particular: all of that binary.
    if function.is_empty() {
        return texts.into_iter().any(|text| text.contains("#[test]"));
    }
    texts.into_iter().any(|text| {
        text.match_indices(&format!("fn {function}()")).any(|(at, _)| {
            let before = text[..at].trim_end().rsplit("\n\n").next().unwrap();
            (before.contains("#[test]") || before.contains("#[tokio::test")) && !before.contains("#[ignore")
        })
    })
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_test_that_is_not_there_is_missed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(is_there(root, "promises", "a_test_that_is_not_there_is_missed"));
    assert!(!is_there(root, "promises", "is_there"));
    assert!(!is_there(root, "peers", "nobody_ever_wrote_this"));
    assert!(!is_there(root, "peers", "testssl_finds_what_the_profile_says_and_no_more"), "it is left out by make test");
}
