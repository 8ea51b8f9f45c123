//! docs/reference.md has a row for each command.

use std::collections::VecDeque;

use support::pages;

use super::*;

/// The commands below this one, as its help lists them.
fn below(command: &[String]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat")).args(command).arg("--help").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", err(&output));
    let help = out(&output);
    let Some((_, rest)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let rows = rest.lines().take_while(|line| !line.is_empty());
    // The second line of a description stands further to the right.
    let names = rows.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

#[test]
fn the_page_has_a_row_for_each_command() {
    let page = pages::read("docs/reference.md");
    let (mut waiting, mut missing, mut found) = (VecDeque::from([Vec::new()]), Vec::new(), 0);
    while let Some(command) = waiting.pop_front() {
        let names = below(&command);
        if names.is_empty() {
            let row = format!("| `packetboat {}", command.join(" "));
            let is_there = page.match_indices(&row).any(|(at, row)| page[at + row.len()..].starts_with(['`', ' ']));
            if !is_there {
                missing.push(row);
            }
            found += 1;
        }
        waiting.extend(names.into_iter().map(|name| [command.as_slice(), &[name]].concat()));
    }
    assert!(missing.is_empty(), "docs/reference.md lacks {missing:#?}");
    assert!(found > 30, "{found} commands");
}

#[test]
fn the_page_has_each_exit_code_of_the_help() {
    let output = Command::new(env!("CARGO_BIN_EXE_packetboat")).arg("--help").output().unwrap();
    let help = out(&output);
    let codes: Vec<&str> =
        help.split_once("Exit codes:\n").unwrap().1.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(codes.len() > 6, "{codes:?}");
    let page = pages::read("docs/reference.md");
    let missing: Vec<&&str> = codes.iter().filter(|code| !page.contains(&format!("\n| {code} | "))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
