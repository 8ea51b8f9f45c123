//! PowerShell that packetboat prints or writes, read by a grammar: its mistakes, its calls, and the texts in it.
//!
//! The grammar is tree-sitter-powershell, because PowerShell itself is in no package registry that the tests use.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;
use tree_sitter::{Node, Parser, Tree};

/// A parsed text.
pub(super) struct Script {
    text: String,
    tree: Tree,
}

/// A command with its parameters.
pub(super) struct Call {
    pub(super) name: String,
    pub(super) parameters: Vec<String>,
    /// Values without a parameter's name before them.
    pub(super) values: usize,
    pub(super) line: usize,
}

/// The documented commands.
pub(super) struct Documented(BTreeMap<String, Value>);

impl Script {
    pub(super) fn parse(text: &str) -> Self {
        let mut parser = Parser::new();
        parser.set_language(&tree_sitter_powershell::LANGUAGE.into()).unwrap();
        Self { text: text.to_owned(), tree: parser.parse(text, None).unwrap() }
    }

    /// The parts that the grammar does not accept, by line.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let bad = self.nodes().into_iter().filter(|node| node.is_error() || node.is_missing());
        bad.map(|node| format!("line {}: {:?}", node.start_position().row + 1, self.text_of(node))).collect()
    }

    /// Every node, in the order of the text.
    pub(super) fn nodes(&self) -> Vec<Node<'_>> {
        descendants(self.tree.root_node())
    }

    pub(super) fn root(&self) -> Node<'_> {
        self.tree.root_node()
    }

    pub(super) fn text_of(&self, node: Node<'_>) -> &str {
        node.utf8_text(self.text.as_bytes()).unwrap()
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.nodes().into_iter().filter(|node| node.kind() == "command").map(|node| self.call(node)).collect()
    }

    fn call(&self, command: Node<'_>) -> Call {
        let named = |kind: &str| children(command).into_iter().find(|node| node.kind() == kind);
        let name = named("command_name").or_else(|| named("command_name_expr")).unwrap();
        let mut call = Call {
            name: self.text_of(name).to_owned(),
            parameters: Vec::new(),
            values: 0,
            line: command.start_position().row + 1,
        };
        // A value belongs to the parameter before it, unless that is a switch: those take a value by a colon alone.
        let mut is_named = false;
        for element in named("command_elements").map(children).unwrap_or_default() {
            match element.kind() {
                "command_parameter" => {
                    call.parameters.push(self.text_of(element).trim_start_matches('-').to_owned());
                    is_named = !SWITCHES.contains(&call.parameters.last().unwrap().as_str());
                }
                "command_argument_sep" | "redirection" => is_named |= self.text_of(element) == ":",
                _ => {
                    call.values += usize::from(!is_named);
                    is_named = false;
                }
            }
        }
        call
    }

    /// The functions that the text defines.
    pub(super) fn functions(&self) -> BTreeSet<String> {
        let names = self.nodes().into_iter().filter(|node| node.kind() == "function_name");
        names.map(|node| self.text_of(node).to_owned()).collect()
    }

    /// The value of an expression that consists of strings in single quotation marks and characters by number.
    pub(super) fn constant(&self, expression: Node<'_>) -> String {
        let mut units: Vec<u16> = Vec::new();
        for node in descendants(expression) {
            match node.kind() {
                "verbatim_string_characters" => {
                    let text = self.text_of(node);
                    units.extend(text[1..text.len() - 1].replace("''", "'").encode_utf16());
                }
                "hexadecimal_integer_literal" => {
                    units.push(u16::from_str_radix(&self.text_of(node)[2..], 16).unwrap());
                }
                "variable" | "command" | "expandable_string_literal" | "sub_expression" | "invokation_expression" => {
                    panic!("{} is no constant: {}", node.kind(), self.text_of(expression));
                }
                _ => {}
            }
        }
        String::from_utf16(&units).unwrap()
    }
}

impl Documented {
    pub(super) fn read() -> Self {
        let table: BTreeMap<String, Value> = toml::from_str(include_str!("cmdlets.toml")).unwrap();
        for (name, entry) in &table {
            let source = entry["source"].as_str().unwrap();
            assert!(source.ends_with(&name.to_lowercase()), "{name}: {source} is another command's page");
            let parameters = strings(entry, "parameters");
            assert!(strings(entry, "mandatory").iter().all(|one| parameters.contains(one)), "{name}");
        }
        Self(table)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Calls that the documentation does not know. The text's own functions are checked for their parameters' number.
    pub(super) fn unknown(&self, script: &Script) -> Vec<String> {
        let functions = script.functions();
        let mut found = Vec::new();
        for call in script.calls() {
            if functions.contains(&call.name) || call.name.starts_with('$') {
                continue;
            }
            let at = format!("line {}: {}", call.line, call.name);
            let Some(entry) = self.0.get(&call.name) else {
                found.push(format!("{at} is not in cmdlets.toml"));
                continue;
            };
            let known = strings(entry, "parameters");
            for parameter in &call.parameters {
                let is_it = |one: &str| one.eq_ignore_ascii_case(parameter);
                if !known.iter().any(|one| is_it(one)) && !COMMON.iter().any(|one| is_it(one)) {
                    found.push(format!("{at} has no parameter -{parameter}"));
                }
            }
            for parameter in strings(entry, "mandatory") {
                if !call.parameters.contains(&parameter) {
                    found.push(format!("{at} lacks -{parameter}"));
                }
            }
            let positional = entry.get("positional").and_then(Value::as_integer).unwrap_or(0);
            if call.values > usize::try_from(positional).unwrap() {
                found.push(format!("{at} has a value without a name"));
            }
        }
        found
    }
}

fn strings(entry: &Value, key: &str) -> Vec<String> {
    let array = entry.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    array.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

pub(super) fn children(node: Node<'_>) -> Vec<Node<'_>> {
    (0..node.child_count()).filter_map(|index| node.child(index)).collect()
}

fn descendants(node: Node<'_>) -> Vec<Node<'_>> {
    let below = children(node).into_iter().flat_map(descendants);
    std::iter::once(node).chain(below).collect()
}

/// about_CommonParameters.
const COMMON: &[&str] = &["ErrorAction", "Verbose", "WarningAction"];

/// The switches among the parameters that are used.
pub(super) const SWITCHES: &[&str] = &["All", "Confirm", "Leaf", "ListAvailable", "NoWelcome", "ShowBanner", "WhatIf"];
