//! Problems of a configuration: file, line and key, what is wrong, and what to write instead.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Config;
use crate::diagnostic::Diagnostic;

/// A problem that the writer of the file should know, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1; `None` where something is missing rather than wrong.
    pub line: Option<usize>,
    /// The key, as `listener.entry`.
    pub key: String,
    /// The message: what is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A proven configuration, with its warnings and the lines of its keys.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The proven configuration.
    pub config: Config,
    /// Warnings: what the file may say, but its writer should know.
    pub warnings: Vec<Problem>,
    pub(super) file: PathBuf,
    pub(super) positions: BTreeMap<String, Position>,
}

/// The place of a key in the file.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) line: usize,
    /// The key as the file writes it, where a short key stands for a longer one.
    pub(super) key: String,
}

impl Proven {
    /// Something that came to light later about a key, as `certificate.default.chain`: with its line, or that of the
    /// section it would stand in.
    fn problem(&self, found: &Diagnostic) -> Problem {
        let Diagnostic { key, message, .. } = found;
        let written = self.positions.get(key).map_or(key, |position| &position.key);
        let mut section = Some(key.as_str());
        let mut line = None;
        while let (Some(name), None) = (section, line) {
            line = self.positions.get(name).map(|position| position.line);
            section = name.rsplit_once('.').map(|(parent, _)| parent);
        }
        Problem { file: self.file.clone(), line, key: written.clone(), message: message.clone() }
    }

    /// The file that the configuration was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns whether the file has this key or section, as `upstream.exchange`.
    pub fn is_written(&self, key: &str) -> bool {
        self.positions.contains_key(key)
    }

    /// Such diagnostics in the order of the file. One message that stands at several keys is told once, with all of
    /// them, because one file or host is behind it.
    pub fn problems(&self, found: &[Diagnostic]) -> Vec<Problem> {
        let mut problems: Vec<Problem> = found.iter().map(|one| self.problem(one)).collect();
        sort_by_line(&mut problems);
        let mut told: Vec<(Problem, Vec<String>)> = Vec::new();
        for problem in problems {
            let Some((first, others)) = told.iter_mut().find(|(first, _)| first.message == problem.message) else {
                told.push((problem, Vec::new()));
                continue;
            };
            let other = match problem.line {
                Some(line) => format!("{} (line {line})", problem.key),
                None => problem.key.clone(),
            };
            if first.key != problem.key && !others.contains(&other) {
                others.push(other);
            }
        }
        let whole = |(mut problem, others): (Problem, Vec<String>)| {
            if !others.is_empty() {
                problem.message = format!("{}; the same at {}", problem.message, others.join(", "));
            }
            problem
        };
        told.into_iter().map(whole).collect()
    }
}

/// Sorts problems by line. A problem without a line comes last.
pub(super) fn sort_by_line(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_told_once_in_the_order_of_lines() {
        let text = "[identity.b]\nclient_id = \"11111111-2222-3333-4444-555555555555\"\ntenant = \"x.example\"\nclient_secret_file = \"/s\"\n\
                    [identity.a]\nclient_id = \"11111111-2222-3333-4444-555555555555\"\ntenant = \"x.example\"\nclient_secret_file = \"/s\"\n";
        let proven = Config::parse(text, "f".as_ref()).unwrap_or_else(|problems| panic!("{problems:?}"));
        let found = [
            ("identity.a.client_secret_file", "/s is open"),
            ("identity.b.client_secret_file", "/s is open"),
            ("identity.b.client_secret_file", "/s is open"),
            ("identity.b.tenant", "something else"),
            ("", "nowhere"),
            ("", "nowhere"),
        ]
        .map(|(key, message)| Diagnostic::new(key, message));
        let told: Vec<String> = proven.problems(&found).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "f:3: identity.b.tenant: something else",
                "f:4: identity.b.client_secret_file: /s is open; the same at identity.a.client_secret_file (line 8)",
                "f: nowhere",
            ]
        );
    }
}
