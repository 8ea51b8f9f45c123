//! This file checks a page for people who use it by keyboard, screen reader or phone, with axe-core in the browser.
//!
//! axe-core comes from npm, by the lock file in `tests/axe`, which has its checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::process::scratch;

/// Asserts that axe-core finds no violation on the page as it is now: on a desk in light and dark, and on a phone, where
/// nothing may be cut off.
#[track_caller]
pub fn assert_accessible(browser: &Browser, what: &str) {
    for (width, height, dark) in [(1280, 900, false), (1280, 900, true), (390, 844, true), (390, 844, false)] {
        browser.resize(width, height);
        browser.dark(dark);
        let fits = format!("innerWidth <= {width} && document.documentElement.scrollWidth <= innerWidth");
        browser.wait_for(what, &fits);
        browser.evaluate(DRAWN);
        let found = violations(browser);
        assert!(found.is_empty(), "{what}, {width} pixels wide, dark: {dark}\n{found:#?}");
    }
    browser.resize(1280, 900);
}

/// The violations on the page, each with the elements that it is about.
pub fn violations(browser: &Browser) -> Vec<String> {
    // The DevTools protocol runs the script beside the page's content security policy, which stays as it is.
    browser.cdp("Runtime.evaluate", &json!({ "expression": script() }));
    let found = browser.evaluate(
        "axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => ({ passes: passes.length, \
         violations: violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(node => `${node.target} \
         ${node.any.concat(node.all, node.none).map(check => check.message).join(' ')}`).join('; ')}`) }))",
    );
    assert!(found["passes"].as_u64().unwrap() > 10, "axe-core has checked nothing: {found}");
    found["violations"].as_array().unwrap().iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
}

/// Presses Tab until the focus comes back to where it began, or leaves the page. Asserts that each stop can be seen, and
/// returns their number.
pub fn walk_by_keyboard(browser: &Browser) -> usize {
    browser.evaluate("(() => { document.activeElement.blur(); scrollTo(0, 0); window.stops = []; return true; })()");
    for _ in 0..300 {
        browser.press("\u{e004}");
        let stop = browser.evaluate(STOP);
        match stop["is_new"].as_bool() {
            Some(true) => assert_eq!(stop["is_seen"], Value::from(true), "the focus cannot be seen: {stop}"),
            Some(false) => {
                return browser.evaluate("window.stops.length").as_u64().and_then(|n| usize::try_from(n).ok()).unwrap();
            }
            None => {}
        }
    }
    panic!("300 presses of Tab do not lead around the page: {}", browser.evaluate("document.activeElement.outerHTML"));
}

/// The script of axe-core, fetched once.
fn script() -> &'static str {
    static SCRIPT: OnceLock<String> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let path = installed().join("node_modules/axe-core/axe.min.js");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}

/// The directory into which npm has installed it.
fn installed() -> PathBuf {
    let locked = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("axe");
    let directory = scratch().join("axe");
    let lock = fs::read(locked.join("package-lock.json")).unwrap();
    if fs::read(directory.join("installed.json")).is_ok_and(|installed| installed == lock) {
        return directory;
    }
    fs::create_dir_all(&directory).unwrap();
    for name in ["package.json", "package-lock.json"] {
        fs::copy(locked.join(name), directory.join(name)).unwrap();
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&directory)
        .output()
        .unwrap_or_else(|error| panic!("npm (package npm): {error}"));
    assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(directory.join("installed.json"), lock).unwrap();
    directory
}

/// Two frames later everything is drawn.
const DRAWN: &str = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))";
/// The element with the focus: whether it is new, and whether it is in view with an outline. Null outside the page.
const STOP: &str = "(() => { const element = document.activeElement; if (element === document.body) return window.stops.length \
    ? { is_new: false } : {}; if (window.stops.includes(element)) return { is_new: false }; window.stops.push(element); \
    const box = element.getBoundingClientRect(); const { outlineStyle, outlineWidth } = getComputedStyle(element); \
    return { is_new: true, element: element.outerHTML.slice(0, 200), is_seen: outlineStyle !== 'none' && \
    parseFloat(outlineWidth) >= 1 && box.width > 0 && box.bottom > 0 && box.top < innerHeight }; })()";
