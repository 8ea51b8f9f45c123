//! Values of PowerShell, and the rules by which it compares, shows and unrolls them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tree_sitter::Node;

#[derive(Clone)]
pub(in super::super) enum Value<'t> {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    Octets(Vec<u8>),
    Array(Vec<Value<'t>>),
    /// A hash table, or an object with properties.
    Object(Rc<RefCell<BTreeMap<String, Value<'t>>>>),
    Block(Node<'t>),
    /// `$PSCmdlet`.
    Caller,
}

impl<'t> Value<'t> {
    pub(in super::super) fn text(text: &str) -> Self {
        Value::Text(text.to_owned())
    }

    pub(in super::super) fn object(properties: &[(&str, Value<'t>)]) -> Self {
        let lower = properties.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
        Value::Object(Rc::new(RefCell::new(lower.collect())))
    }

    pub(in super::super) fn is_true(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => *number != 0,
            Value::Text(text) => !text.is_empty(),
            Value::Octets(octets) => !octets.is_empty(),
            Value::Array(values) => values.len() > 1 || values.first().is_some_and(Value::is_true),
            Value::Object(_) | Value::Block(_) | Value::Caller => true,
        }
    }

    /// As PowerShell puts it into a string.
    pub(in super::super) fn show(&self) -> String {
        match self {
            Value::Null => String::new(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            Value::Array(values) => values.iter().map(Value::show).collect::<Vec<_>>().join(" "),
            Value::Octets(_) | Value::Object(_) | Value::Block(_) | Value::Caller => "System.Object".to_owned(),
        }
    }

    /// The values that it puts into a pipeline.
    pub(in super::super) fn unrolled(self) -> Vec<Value<'t>> {
        match self {
            Value::Null => vec![Value::Null],
            Value::Array(values) => values,
            other => vec![other],
        }
    }

    pub(in super::super) fn member(&self, name: &str) -> Value<'t> {
        let count = |number: usize| Value::Number(number.try_into().unwrap());
        match (self, name.to_lowercase().as_str()) {
            (Value::Object(properties), name) => match properties.borrow().get(name) {
                Some(value) => value.clone(),
                None if name == "count" => count(properties.borrow().len()),
                None => Value::Null,
            },
            (Value::Array(values), "count") => count(values.len()),
            (Value::Array(values), name) => collapse(values.iter().map(|one| one.member(name)).collect()),
            (Value::Null, "count") => count(0),
            (_, "count") => count(1),
            _ => Value::Null,
        }
    }

    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Null, _) | (_, Value::Null) => false,
            (Value::Bool(one), other) => *one == other.is_true(),
            (one, other) => one.show().eq_ignore_ascii_case(&other.show()),
        }
    }

    pub(super) fn number(&self) -> i64 {
        match self {
            Value::Number(number) => *number,
            other => other.show().parse().unwrap_or(0),
        }
    }
}

/// The value of several outputs: nothing, one, or an array.
pub(super) fn collapse(mut outputs: Vec<Value<'_>>) -> Value<'_> {
    match outputs.len() {
        0 => Value::Null,
        1 => outputs.remove(0),
        _ => Value::Array(outputs),
    }
}

/// The operator `+`.
pub(super) fn add<'t>(left: Value<'t>, right: Value<'t>) -> Value<'t> {
    match (left, right) {
        (Value::Array(mut values), right) => {
            values.extend(right.unrolled());
            Value::Array(values)
        }
        (Value::Number(one), Value::Number(other)) => Value::Number(one + other),
        (Value::Text(one), other) => Value::Text(one + &other.show()),
        (one, _) => panic!("+ of {}", one.show()),
    }
}
