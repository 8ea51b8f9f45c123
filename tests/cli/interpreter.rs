//! Runs packetboat.ps1 without PowerShell: an interpreter of the part of the language that the script uses, over the
//! grammar's tree. It refuses what it does not know, so that nothing passes by chance.
//!
//! It has PowerShell's rules for what the script relies on: dynamic scopes, pipelines that unroll arrays, comparisons
//! without case, members of missing objects, `return` that adds to the output, and errors that `catch` takes.

mod command;
mod expression;
mod value;

use std::collections::BTreeMap;

use tree_sitter::Node;

use super::powershell::{Script, children};
pub(super) use value::Value;
use value::{add, collapse};

/// Why an evaluation stops before its end.
pub(super) enum Stop<'t> {
    Throw(String),
    Return(Vec<Value<'t>>),
    Continue,
    Exit(i64),
}

pub(super) type Outcome<'t, T> = Result<T, Stop<'t>>;

/// The arguments of a command.
pub(super) struct Arguments<'t> {
    pub(super) named: BTreeMap<String, Value<'t>>,
    pub(super) values: Vec<Value<'t>>,
    pub(super) input: Vec<Value<'t>>,
}

/// Commands that are not the script's own.
pub(super) trait Host<'t> {
    fn command(&mut self, name: &str, arguments: &Arguments<'t>) -> Result<Vec<Value<'t>>, String>;
    /// Another process of the same script. Returns its exit code.
    fn process(&mut self, script: &'t Script, arguments: &[String]) -> i64;
}

pub(super) struct Interpreter<'t, 'h> {
    script: &'t Script,
    host: &'h mut dyn Host<'t>,
    functions: BTreeMap<String, Node<'t>>,
    scopes: Vec<BTreeMap<String, Value<'t>>>,
}

impl<'t, 'h> Interpreter<'t, 'h> {
    /// Runs the script with arguments, and returns the exit code and the error that it ended with.
    pub(super) fn run(script: &'t Script, host: &'h mut dyn Host<'t>, arguments: &[String]) -> (i64, Option<String>) {
        let global = BTreeMap::from([
            ("whatifpreference".to_owned(), Value::Bool(arguments.iter().any(|one| one == "-WhatIf"))),
            ("confirmpreference".to_owned(), Value::text("High")),
            ("pscmdlet".to_owned(), Value::Caller),
            ("pscommandpath".to_owned(), Value::text("/home/admin/packetboat.ps1")),
            ("psversiontable".to_owned(), Value::object(&[("PSEdition", Value::text("Core"))])),
        ]);
        let mut interpreter = Self { script, host, functions: BTreeMap::new(), scopes: vec![global] };
        let ended = interpreter.bind(arguments).and_then(|()| interpreter.statements(script.root()));
        match ended {
            Ok(_) | Err(Stop::Return(_)) => (0, None),
            Err(Stop::Exit(code)) => (code, None),
            Err(Stop::Throw(message)) => (1, Some(message)),
            Err(Stop::Continue) => panic!("continue outside of a loop"),
        }
    }

    /// Binds the script's parameters.
    fn bind(&mut self, arguments: &[String]) -> Outcome<'t, ()> {
        let blocks = find(self.script.root(), "param_block");
        let mut rest: Vec<&String> = arguments.iter().filter(|one| *one != "-WhatIf").collect();
        for parameter in blocks.into_iter().flat_map(|block| find(block, "script_parameter")) {
            let name = self.name_of(find(parameter, "variable")[0]);
            let default = find(parameter, "script_parameter_default");
            let mut value = match default.first() {
                Some(node) => self.expression(*children(*node).last().unwrap())?,
                None => Value::Bool(false),
            };
            if let Some(at) = rest.iter().position(|one| one.eq_ignore_ascii_case(&format!("-{name}"))) {
                rest.remove(at);
                value = match value {
                    Value::Bool(_) => Value::Bool(true),
                    Value::Number(_) => Value::Number(rest.remove(at).parse().unwrap()),
                    _ => Value::Text(rest.remove(at).clone()),
                };
            }
            self.set(&name, value);
        }
        assert!(rest.is_empty(), "arguments of the script: {rest:?}");
        Ok(())
    }

    fn name_of(&self, variable: Node<'t>) -> String {
        self.script.text_of(variable).trim_start_matches(['$', '{']).trim_end_matches('}').to_lowercase()
    }

    fn set(&mut self, name: &str, value: Value<'t>) {
        self.scopes.last_mut().unwrap().insert(name.to_owned(), value);
    }

    fn get(&self, name: &str) -> Value<'t> {
        match name {
            "true" => return Value::Bool(true),
            "false" => return Value::Bool(false),
            "null" => return Value::Null,
            _ => {}
        }
        let known = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        // Without a value PowerShell takes $null: here it is a slip of the pen.
        known.cloned().unwrap_or_else(|| panic!("${name} has no value"))
    }

    /// Runs what is below a node, and returns its output.
    fn statements(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let mut output = Vec::new();
        for statement in children(node).into_iter().filter(Node::is_named) {
            match self.statement(statement) {
                Ok(values) => output.extend(values),
                Err(Stop::Return(values)) => {
                    output.extend(values);
                    return Err(Stop::Return(output));
                }
                Err(stop) => return Err(stop),
            }
        }
        Ok(output)
    }

    fn statement(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        match node.kind() {
            "comment" | "param_block" => Ok(Vec::new()),
            "statement_list" | "statement_block" | "script_block" | "script_block_body" => self.statements(node),
            "pipeline" => self.pipeline(node),
            "function_statement" => {
                let name = self.script.text_of(find(node, "function_name")[0]).to_lowercase();
                self.functions.insert(name, node);
                Ok(Vec::new())
            }
            "if_statement" => self.if_statement(node),
            "foreach_statement" => self.foreach_statement(node),
            "for_statement" => self.for_statement(node),
            "try_statement" => self.try_statement(node),
            "flow_control_statement" => self.flow_control(node),
            other => panic!("statement {other}: {}", self.script.text_of(node)),
        }
    }

    fn if_statement(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        for part in children(node) {
            match part.kind() {
                "elseif_clauses" => {
                    for clause in children(part) {
                        if self.condition(clause)? {
                            return self.statements(find(clause, "statement_block")[0]);
                        }
                    }
                }
                "else_clause" => return self.statements(find(part, "statement_block")[0]),
                "pipeline" if self.condition(node)? => return self.statements(find(node, "statement_block")[0]),
                _ => {}
            }
        }
        Ok(Vec::new())
    }

    fn condition(&mut self, node: Node<'t>) -> Outcome<'t, bool> {
        let condition = children(node).into_iter().find(|one| one.kind() == "pipeline").unwrap();
        Ok(collapse(self.pipeline(condition)?).is_true())
    }

    fn foreach_statement(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let parts = children(node);
        let part = |kind: &str| parts.iter().copied().find(|one| one.kind() == kind).unwrap();
        let name = self.name_of(part("variable"));
        let mut output = Vec::new();
        let values = self.pipeline(part("pipeline"))?;
        // foreach over $null does nothing.
        for value in values.into_iter().filter(|value| !matches!(value, Value::Null)) {
            self.set(&name, value);
            match self.statements(part("statement_block")) {
                Ok(values) => output.extend(values),
                Err(Stop::Continue) => {}
                Err(stop) => return Err(stop),
            }
        }
        Ok(output)
    }

    fn for_statement(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let part = |kind: &str| find(node, kind)[0];
        self.statements(part("for_initializer"))?;
        let mut output = Vec::new();
        while collapse(self.statements(part("for_condition"))?).is_true() {
            match self.statements(part("statement_block")) {
                Ok(values) => output.extend(values),
                Err(Stop::Continue) => {}
                Err(stop) => return Err(stop),
            }
            self.statements(part("for_iterator"))?;
        }
        Ok(output)
    }

    fn try_statement(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let parts = children(node);
        let part = |kind: &str| parts.iter().copied().find(|one| one.kind() == kind);
        let mut result = self.statements(part("statement_block").unwrap());
        if let (Err(Stop::Throw(message)), Some(clauses)) = (&result, part("catch_clauses")) {
            let exception = Value::object(&[("Message", Value::text(message))]);
            self.set("_", Value::object(&[("Exception", exception)]));
            result = self.statements(find(clauses, "statement_block")[0]);
        }
        if let Some(clause) = part("finally_clause") {
            self.statements(find(clause, "statement_block")[0])?;
        }
        result
    }

    fn flow_control(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let values = match children(node).into_iter().find(|one| one.kind() == "pipeline") {
            Some(pipeline) => self.pipeline(pipeline)?,
            None => Vec::new(),
        };
        Err(match self.script.text_of(children(node)[0]).to_lowercase().as_str() {
            "return" => Stop::Return(values),
            "continue" => Stop::Continue,
            "exit" => Stop::Exit(collapse(values).number()),
            "throw" if values.is_empty() => Stop::Throw(self.get("_").member("Exception").member("Message").show()),
            "throw" => Stop::Throw(collapse(values).show()),
            other => panic!("{other}"),
        })
    }

    fn pipeline(&mut self, node: Node<'t>) -> Outcome<'t, Vec<Value<'t>>> {
        let parts: Vec<Node<'t>> = children(node).into_iter().filter(Node::is_named).collect();
        if let [part] = parts[..] {
            match part.kind() {
                "assignment_expression" => return self.assign(part).map(|()| Vec::new()),
                "pipeline_chain" => {}
                other => panic!("pipeline of {other}"),
            }
        }
        let mut values = Vec::new();
        for (number, stage) in find_direct(parts[0]).into_iter().enumerate() {
            values = if stage.kind() == "command" {
                self.command(stage, values)?
            } else if number == 0 {
                match self.expression_or_nothing(stage)? {
                    Some(value) => value.unrolled(),
                    None => Vec::new(),
                }
            } else {
                panic!("{} in a pipeline", stage.kind())
            };
        }
        Ok(values)
    }

    /// The value of an expression; none for one that only changes a variable.
    fn expression_or_nothing(&mut self, node: Node<'t>) -> Outcome<'t, Option<Value<'t>>> {
        let inner = innermost(node);
        if inner.kind() != "post_increment_expression" {
            return self.expression(node).map(Some);
        }
        let target = innermost(children(inner)[0]);
        let next = self.expression(target)?.number() + 1;
        self.store(target, Value::Number(next))?;
        Ok(None)
    }

    fn assign(&mut self, node: Node<'t>) -> Outcome<'t, ()> {
        let parts = children(node);
        let target = innermost(parts[0]);
        let right = *parts.last().unwrap();
        let is_statement = right.kind() != "pipeline";
        let mut value = match if is_statement { None } else { self.single(right)? } {
            Some(value) => value,
            None => collapse(if is_statement { self.statement(right)? } else { self.pipeline(right)? }),
        };
        match self.script.text_of(parts[1]) {
            "=" => {}
            "+=" => value = add(self.expression(target)?, value),
            other => panic!("{other}"),
        }
        self.store(target, value)
    }

    /// The value of a pipeline that is one expression: it keeps its array.
    fn single(&mut self, pipeline: Node<'t>) -> Outcome<'t, Option<Value<'t>>> {
        let inner: Vec<Node<'t>> = find_direct(children(pipeline)[0]);
        match inner[..] {
            [one] if one.kind() != "command" => self.expression(one).map(Some),
            _ => Ok(None),
        }
    }

    fn store(&mut self, target: Node<'t>, value: Value<'t>) -> Outcome<'t, ()> {
        match target.kind() {
            "variable" => {
                let name = self.name_of(target);
                self.set(&name, value);
            }
            "member_access" | "element_access" => {
                let parts: Vec<Node<'t>> = children(target).into_iter().filter(Node::is_named).collect();
                let object = self.expression(parts[0])?;
                let key = match parts[1].kind() {
                    "member_name" => self.script.text_of(parts[1]).to_owned(),
                    _ => self.expression(parts[1])?.show(),
                };
                let Value::Object(properties) = object else { panic!("{} is no object", self.script.text_of(target)) };
                properties.borrow_mut().insert(key.to_lowercase(), value);
            }
            other => panic!("assignment to {other}"),
        }
        Ok(())
    }
}

/// The first node below that is not a wrapper of one other.
fn innermost(node: Node<'_>) -> Node<'_> {
    let below = children(node);
    match below[..] {
        [one] if one.is_named() && !matches!(node.kind(), "variable" | "expandable_string_literal") => innermost(one),
        _ => node,
    }
}

/// The stages of a pipeline chain.
fn find_direct(chain: Node<'_>) -> Vec<Node<'_>> {
    children(chain).into_iter().filter(Node::is_named).collect()
}

/// The nearest nodes of a kind below a node.
fn find<'t>(node: Node<'t>, kind: &str) -> Vec<Node<'t>> {
    let below = children(node);
    let nearest = |child: Node<'t>| if child.kind() == kind { vec![child] } else { find(child, kind) };
    below.into_iter().flat_map(nearest).collect()
}
