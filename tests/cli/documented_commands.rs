//! These tests run the marked command blocks of README.md and docs/*.md, and compare exit codes and output with the
//! page.
//!
//! A marker is an HTML comment on the line above a block. Markdown hides it:
//!
//! | marker | the block |
//! |---|---|
//! | `<!-- run -->` | has commands after `$ `, and below each the lines that it prints |
//! | `<!-- run: exit 78 -->` | the same; the last command ends with this exit code |
//! | `<!-- file: /etc/packetboat/packetboat.toml -->` | is the content of this file |
//! | `<!-- before: COMMAND -->` | stands above any of them: the command runs first, unseen by readers |
//!
//! In the printed lines `...` stands for any text, and a line of `...` alone for any lines. A command without lines
//! below it may print anything. All blocks of a page share a temporary directory, in which `/etc/packetboat` and
//! `/var/lib/packetboat` lie, too.

use std::process::Stdio;

use support::{network, pages};

use super::*;

/// One marked block, or one unseen command.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Before(String),
    File { path: String, content: String },
    Run { commands: Vec<Documented>, exit: i32, line: usize },
}

/// A command, and the lines that the page shows below it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Documented {
    command: String,
    printed: Vec<String>,
}

#[test]
fn marked_blocks_do_what_the_pages_say() {
    let docs = fs::read_dir(pages::path("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in docs.chain([pages::path("README.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        let steps = steps(&text).unwrap_or_else(|why| panic!("{}: {why}", page.display()));
        count += steps.iter().filter(|step| matches!(step, Step::Run { .. })).count();
        wrong.extend(mistakes(&steps).into_iter().map(|why| format!("{}:{why}", page.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= BLOCKS, "only {count} blocks are marked");
}

#[test]
fn a_wrong_block_is_found() {
    let page = |marker: &str, block: &str| {
        let file = "<!-- file: /etc/packetboat/packetboat.toml -->\n```toml\n[log]\nlevle = 1\n```\n";
        mistakes(&steps(&format!("{file}\n{marker}\n```\n{block}\n```\n")).unwrap())
    };
    let printed = "packetboat.toml:2: unknown key `levle`; did you mean `level`?";
    let check = format!("$ packetboat check\n/etc/packetboat/{printed}");
    assert_eq!(page("<!-- run: exit 78 -->", &check), [""; 0]);
    assert_eq!(page("<!-- run: exit 78 -->", "$ packetboat check\n...unknown key...\n..."), [""; 0]);
    for (marker, block, expected) in [
        ("<!-- run -->", check.as_str(), "ends with 78, and not with 0"),
        ("<!-- run: exit 69 -->", &check, "ends with 78, and not with 69"),
        ("<!-- run: exit 78 -->", "$ packetboat check\nno mistakes found", "prints"),
        ("<!-- run: exit 78 -->", "$ packetboat check\n...unknown key...\none more line", "prints"),
        ("<!-- run: exit 78 -->", "$ packetboat chekc", "ends with 64"),
        ("<!-- run: exit 78 -->", "$ packetboat check\n$ packetboat check", "ends with 78, and not with 0"),
    ] {
        let found = page(marker, block);
        assert!(found.len() == 1 && found[0].contains(expected), "{marker}\n{block}\n{found:?}");
    }
    for (text, expected) in [
        ("<!-- rum -->\n```\n$ true\n```\n", "unknown marker"),
        ("<!-- run -->\n\n```\n$ true\n```\n", "no block follows"),
        ("<!-- run -->\n```\ntrue\n```\n", "no command"),
        ("<!-- run: exit soon -->\n```\n$ true\n```\n", "unknown marker"),
        ("<!-- run -->\n```\n$ true\n", "has no end"),
    ] {
        let why = steps(text).unwrap_err();
        assert!(why.contains(expected), "{text}\n{why}");
    }
}

/// The marked blocks of a page, in its order.
fn steps(page: &str) -> Result<Vec<Step>, String> {
    let mut lines = page.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut steps = Vec::new();
    while let Some((number, line)) = lines.next() {
        let Some(marker) = line.trim().strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let (word, value) = marker.split_once(": ").unwrap_or((marker, ""));
        let exit = match (word, value.strip_prefix("exit ")) {
            ("before", _) => {
                steps.push(Step::Before(value.to_owned()));
                continue;
            }
            // The lines between two of these are written by that command.
            ("make cost-table", _) => continue,
            ("file", _) => 0,
            ("run", None) if value.is_empty() => 0,
            ("run", Some(code)) => code.parse().map_err(|_| format!("{number}: unknown marker: {marker}"))?,
            _ => return Err(format!("{number}: unknown marker: {marker}")),
        };
        let block = block(&mut lines).map_err(|why| format!("{number}: {why}"))?;
        steps.push(if word == "file" {
            Step::File { path: value.to_owned(), content: block.join("\n") + "\n" }
        } else {
            let commands = commands(&block).ok_or_else(|| format!("{number}: no command begins with \"$ \""))?;
            Step::Run { commands, exit, line: number }
        });
    }
    Ok(steps)
}

/// The lines of the block that begins here, without the indentation of its fence.
fn block<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<&'a str>, &'static str> {
    let (_, fence) = lines.next().unwrap_or_default();
    let indentation = fence.find("```").ok_or("no block follows")?;
    let mut block = Vec::new();
    for (_, line) in lines {
        let line = line.get(indentation..).unwrap_or_default();
        if line == "```" {
            return Ok(block);
        }
        block.push(line);
    }
    Err("the block has no end")
}

/// The commands of a block; a line that ends with a backslash goes on in the next one.
fn commands(block: &[&str]) -> Option<Vec<Documented>> {
    let mut commands: Vec<Documented> = Vec::new();
    for line in block {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push(Documented { command: command.to_owned(), printed: Vec::new() });
            continue;
        }
        let last = commands.last_mut()?;
        if last.printed.is_empty() && last.command.ends_with('\\') {
            last.command += &format!("\n{line}");
        } else {
            last.printed.push((*line).to_owned());
        }
    }
    (!commands.is_empty()).then_some(commands)
}

/// Runs the steps in a directory of their own, and returns what differs from the page.
fn mistakes(steps: &[Step]) -> Vec<String> {
    let machine = Machine::new();
    let mut found = Vec::new();
    for step in steps {
        match step {
            Step::File { path, content } => machine.write(path, content),
            Step::Before(command) => {
                let (code, printed) = machine.run(command);
                assert_eq!(code, Some(0), "{command}\n{printed}");
            }
            Step::Run { commands, exit, line } => {
                for (index, documented) in commands.iter().enumerate() {
                    let expected = if index + 1 == commands.len() { *exit } else { 0 };
                    found.extend(machine.judge(documented, expected).map(|why| format!("{line}: {why}")));
                }
            }
        }
    }
    found
}

/// A directory that commands see as the root of the computer, as far as packetboat's own paths go, and a network of its own.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        network::alone();
        let directory = tempfile::tempdir().unwrap();
        for name in ["etc/packetboat", "var/lib", "work"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        Self { directory }
    }

    /// Moves packetboat's paths into the directory.
    fn inside(&self, text: &str) -> String {
        PATHS.iter().fold(text.to_owned(), |text, path| text.replace(path, &format!("{}{path}", self.root())))
    }

    fn root(&self) -> String {
        self.directory.path().display().to_string()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.directory.path().join("work").join(self.inside(path));
        fs::write(path, self.inside(content)).unwrap();
    }

    /// Runs a command by the shell; returns its exit code and all that it prints.
    fn run(&self, command: &str) -> (Option<i32>, String) {
        let program = Path::new(env!("CARGO_BIN_EXE_packetboat")).parent().unwrap();
        let mut shell = Command::new("timeout");
        shell.args(["60", "sh", "-c", &format!("{{ {}\n}} 2>&1", self.inside(command))]);
        shell.current_dir(self.directory.path().join("work")).stdin(Stdio::null());
        shell.env("PATH", format!("{}:{}", program.display(), std::env::var("PATH").unwrap()));
        shell.env("PACKETBOAT_CONFIG", self.inside("/etc/packetboat/packetboat.toml"));
        shell.env("PACKETBOAT_STATE_DIRECTORY", self.inside("/var/lib/packetboat"));
        shell.env("PACKETBOAT_ADMIN_LISTEN", "127.0.0.1:0");
        let output = shell.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).replace(&self.root(), ""))
    }

    /// Runs a documented command, and says what differs.
    fn judge(&self, documented: &Documented, exit: i32) -> Option<String> {
        let command = &documented.command;
        let (code, printed) = self.run(command);
        if code != Some(exit) {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
            return Some(format!("`{command}` ends with {code}, and not with {exit}:\n{printed}"));
        }
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let expected: Vec<&str> = documented.printed.iter().map(|line| line.trim_end()).collect();
        (!expected.is_empty() && !pages::are_as(&expected, &lines)).then(|| format!("`{command}` prints\n{printed}"))
    }
}

/// The directories of packetboat.
const PATHS: [&str; 2] = ["/etc/packetboat", "/var/lib/packetboat"];
/// The least number of marked blocks on all pages.
const BLOCKS: usize = 8;
