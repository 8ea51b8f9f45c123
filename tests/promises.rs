//! These tests prove that every test in SECURITY.md, every name in docs/contributing.md, every reason in
//! docs/operations.md and every link of the pages exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use packetboat::failure::Kind;
use support::bench::records;

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
    // A row has a promise, its test and a figure; or five cells about a resource, with the test at the end.
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

/// Whether the binary's own files have a test of that name, which `make test` runs.
fn is_there(root: &Path, binary: &str, function: &str) -> bool {
    let files = match binary {
        "lib" => below(&root.join("src")),
        _ => [below(&root.join("tests").join(binary)), vec![root.join(format!("tests/{binary}.rs"))]].concat(),
    };
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    // The row names the whole binary.
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

/// Backticks in docs/contributing.md hold paths, functions of the path before them, and targets of the Makefile.
#[test]
fn the_page_for_contributors_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/contributing.md")).unwrap();
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let (mut files, mut functions) = (0, 0);
    let mut file = PathBuf::new();
    for name in page.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
        let is_path = ["src/", "tests/", "benches/", "config/", "docs/"].iter().any(|folder| name.starts_with(folder));
        if is_path || ["CHANGELOG.md", "README.md", "Cargo.toml", "clippy.toml", ".ci/run"].contains(&name) {
            file = root.join(name);
            assert!(file.exists(), "docs/contributing.md names {name}");
            files += 1;
        } else if let Some(function) = name.strip_suffix("()") {
            let text = fs::read_to_string(&file).unwrap();
            let is_there = text
                .split("fn ")
                .skip(1)
                .any(|rest| rest.strip_prefix(function).is_some_and(|rest| rest.starts_with(['(', '<'])));
            assert!(is_there, "docs/contributing.md names {name} in {}", file.display());
            functions += 1;
        } else if let Some(target) = name.strip_prefix("make ") {
            let target = target.split(' ').next().unwrap();
            assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "{name}");
        }
    }
    // The page's table of floors repeats the map of the library.
    let map = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|line| line.contains("[`"));
    let missing: Vec<String> =
        rows.map(|row| row.replace("[`", "`").replace("`]", "`")).filter(|row| !page.contains(row)).collect();
    assert!(missing.is_empty(), "docs/contributing.md lacks {missing:#?}");
    assert!(files > 50 && functions > 20, "{files} files, {functions} functions");
}

#[test]
fn every_reason_is_explained_to_operators() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let missing: Vec<&str> =
        Kind::ALL.iter().map(|kind| kind.label()).filter(|label| !page.contains(&format!("`{label}`"))).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = below(&root.join("docs")).into_iter().filter(|page| page.extension().is_some_and(|one| one == "md"));
    let mut found = 0;
    for page in docs.chain([root.join("README.md"), root.join("SECURITY.md")]) {
        for link in links(&fs::read_to_string(&page).unwrap()) {
            assert!(leads_somewhere(&page, &link), "{} has a dead link: {link}", page.display());
            found += 1;
        }
    }
    assert!(found > 100, "{found} links");
    let readme = root.join("README.md");
    assert!(leads_somewhere(&readme, "docs/install.md#the-debian-package"));
    assert!(!leads_somewhere(&readme, "docs/install.md#the-red-hat-package"));
    assert!(!leads_somewhere(&readme, "docs/uninstall.md"));
}

/// A link leads to the first of two headings that have one anchor, whichever is meant.
#[test]
fn no_page_has_two_headings_of_one_anchor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in below(&root.join("docs")).into_iter().chain([root.join("README.md"), root.join("SECURITY.md")]) {
        let Some("md") = page.extension().and_then(|one| one.to_str()) else { continue };
        let text = fs::read_to_string(&page).unwrap();
        let prose = text.split("```").step_by(2).collect::<String>();
        let mut seen = BTreeSet::new();
        for heading in prose.lines().filter(|line| line.starts_with('#')) {
            let anchor = anchor(heading.trim_start_matches('#').trim());
            assert!(seen.insert(anchor), "{} has twice: {heading}", page.display());
        }
    }
}

/// With `COST_TABLE=write` the test writes README first.
#[test]
fn the_readme_has_the_costs_of_the_newest_records() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("COST_TABLE").is_some_and(|value| value == "write") {
        records::write_readme(root);
    }
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    assert_eq!(text, records::readme(root), "make cost-table writes README's tables from the newest records");
    let row = "session, full handshake, 16 devices at a time, TLS 1.3 out";
    let (figure, unit) = records::newest(root, row)
        .unwrap()
        .figure(row, "packetboat")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!(text.contains(&format!("| {figure} {unit} |")), "{figure} {unit}");
}

/// The targets of a page's links to this repository, outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).collect::<String>().replace('\n', " ");
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::trim);
    targets.filter(|target| !target.starts_with("https://")).map(str::to_owned).collect()
}

/// Whether the file is there, and the heading in it.
fn leads_somewhere(page: &Path, link: &str) -> bool {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(file) };
    if heading.is_empty() {
        return target.exists();
    }
    let Ok(text) = fs::read_to_string(target) else { return false };
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(anchor).any(|anchor| anchor == heading)
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
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
