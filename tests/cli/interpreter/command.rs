//! Commands of PowerShell: arguments, functions of the script, blocks, and the host's commands.

use std::collections::BTreeMap;

use tree_sitter::Node;

use super::super::powershell::SWITCHES;
use super::value::{Value, collapse};
use super::{Arguments, Interpreter, Outcome, Stop, children, find};

impl<'t> Interpreter<'t, '_> {
    pub(super) fn command(&mut self, node: Node<'t>, input: Vec<Value<'t>>) -> Outcome<'t, Vec<Value<'t>>> {
        let parts = children(node);
        let part = |kind: &str| parts.iter().copied().find(|one| one.kind() == kind);
        let arguments = self.arguments(part("command_elements"), input)?;
        if let Some(name) = part("command_name_expr") {
            let name = self.name_of(find(name, "variable")[0]);
            return match self.get(&name) {
                Value::Block(block) => self.block(block, None),
                Value::Text(_) => {
                    let values = arguments.values.into_iter().flat_map(Value::unrolled);
                    let texts: Vec<String> = values.map(|value| value.show()).collect();
                    let code = self.host.process(self.script, &texts);
                    self.set("lastexitcode", Value::Number(code));
                    Ok(Vec::new())
                }
                _ => panic!("& ${name}"),
            };
        }
        let name = self.script.text_of(part("command_name").unwrap());
        match name {
            "Where-Object" | "ForEach-Object" => self.each(name == "Where-Object", arguments),
            _ => match self.functions.get(&name.to_lowercase()).copied() {
                Some(function) => self.function(function, arguments),
                None => self.host.command(name, &arguments).map_err(Stop::Throw),
            },
        }
    }

    fn arguments(&mut self, elements: Option<Node<'t>>, input: Vec<Value<'t>>) -> Outcome<'t, Arguments<'t>> {
        let mut arguments = Arguments { named: BTreeMap::new(), values: Vec::new(), input };
        let mut name: Option<String> = None;
        for element in elements.map(children).unwrap_or_default() {
            match element.kind() {
                "command_parameter" => {
                    let parameter = self.script.text_of(element).trim_start_matches('-').to_owned();
                    arguments.named.insert(parameter.clone(), Value::Bool(true));
                    name = (!SWITCHES.contains(&parameter.as_str())).then_some(parameter);
                }
                "command_argument_sep" => {
                    if self.script.text_of(element) == ":" {
                        let last = element.prev_sibling().unwrap();
                        name = Some(self.script.text_of(last).trim_start_matches('-').to_owned());
                    }
                }
                _ => {
                    let value = self.expression(element)?;
                    match name.take() {
                        Some(name) => drop(arguments.named.insert(name, value)),
                        None => arguments.values.push(value),
                    }
                }
            }
        }
        Ok(arguments)
    }

    fn each(&mut self, is_filter: bool, mut arguments: Arguments<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let block = match (arguments.values.pop(), arguments.named.get("eq")) {
            (Some(Value::Block(block)), None) => block,
            (Some(Value::Text(property)), Some(wanted)) if is_filter => {
                return Ok(arguments.input.into_iter().filter(|one| one.member(&property).equals(wanted)).collect());
            }
            _ => panic!("Where-Object without a block"),
        };
        let mut output = Vec::new();
        // The block runs in the scope of its caller; $_ is its own.
        let outer = self.scopes.iter().rev().find_map(|scope| scope.get("_")).cloned();
        for value in arguments.input {
            self.set("_", value.clone());
            let result = self.statements(block)?;
            if !is_filter {
                output.extend(result);
            } else if collapse(result).is_true() {
                output.push(value);
            }
        }
        if let Some(outer) = outer {
            self.set("_", outer);
        }
        Ok(output)
    }

    fn function(&mut self, function: Node<'t>, arguments: Arguments<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        assert!(arguments.named.is_empty(), "named arguments of {}", self.script.text_of(function));
        let parameters = find(function, "script_parameter");
        assert!(arguments.values.len() <= parameters.len(), "too many arguments: {}", self.script.text_of(function));
        let mut values = arguments.values.into_iter();
        let mut scope = BTreeMap::new();
        for parameter in parameters {
            let value = values.next().unwrap_or(Value::Null);
            let of_type = find(parameter, "type_literal").first().map(|node| self.script.text_of(*node).to_lowercase());
            let value = match of_type.as_deref() {
                Some("[string]") => Value::Text(value.show()),
                Some("[int]") => Value::Number(value.number()),
                _ => value,
            };
            scope.insert(self.name_of(find(parameter, "variable")[0]), value);
        }
        self.block(find(function, "script_block")[0], Some(scope))
    }

    /// Runs a block in a scope of its own.
    fn block(&mut self, block: Node<'t>, scope: Option<BTreeMap<String, Value<'t>>>) -> Outcome<'t, Vec<Value<'t>>> {
        self.scopes.push(scope.unwrap_or_default());
        let result = self.statements(block);
        self.scopes.pop();
        match result {
            Err(Stop::Return(values)) => Ok(values),
            other => other,
        }
    }
}
