//! Expressions of PowerShell: strings, hash tables, members, methods, operators.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tree_sitter::Node;

use super::value::{Value, add, collapse};
use super::{Interpreter, Outcome, Stop, children, find, innermost};

impl<'t> Interpreter<'t, '_> {
    pub(super) fn expression(&mut self, node: Node<'t>) -> Outcome<'t, Value<'t>> {
        let node = innermost(node);
        let text = self.script.text_of(node);
        let named: Vec<Node<'t>> = children(node).into_iter().filter(Node::is_named).collect();
        Ok(match node.kind() {
            "variable" => {
                let name = self.name_of(node);
                self.get(&name)
            }
            "verbatim_string_characters" => Value::Text(text[1..text.len() - 1].replace("''", "'")),
            "expandable_string_literal" => Value::Text(self.expand(node)?),
            "decimal_integer_literal" => Value::Number(text.parse().unwrap()),
            "hexadecimal_integer_literal" => Value::Number(i64::from_str_radix(&text[2..], 16).unwrap()),
            "generic_token" => Value::text(text),
            "script_block_expression" => Value::Block(find(node, "script_block")[0]),
            "parenthesized_expression" => match self.single(named[0])? {
                Some(value) => value,
                None => collapse(self.pipeline(named[0])?),
            },
            "sub_expression" => collapse(self.statements(node)?),
            "array_expression" => Value::Array(self.statements(node)?),
            "hash_literal_expression" => {
                let mut properties = BTreeMap::new();
                for entry in find(node, "hash_entry") {
                    let parts: Vec<Node<'t>> = children(entry).into_iter().filter(Node::is_named).collect();
                    let right = parts[1];
                    let value = match self.single(right)? {
                        Some(value) => value,
                        None => collapse(self.pipeline(right)?),
                    };
                    properties.insert(self.script.text_of(parts[0]).to_lowercase(), value);
                }
                Value::Object(Rc::new(RefCell::new(properties)))
            }
            "member_access" => self.expression(named[0])?.member(self.script.text_of(named[1])),
            "element_access" => {
                let (object, key) = (self.expression(named[0])?, self.expression(named[1])?);
                match object {
                    Value::Array(values) => values[usize::try_from(key.number()).unwrap()].clone(),
                    object => object.member(&key.show()),
                }
            }
            "invokation_expression" => self.invoke(node, &named)?,
            "cast_expression" => {
                let value = self.expression(named[1])?;
                match self.script.text_of(named[0]).to_lowercase().as_str() {
                    "[bool]" => Value::Bool(value.is_true()),
                    "[char]" => Value::Text(String::from_utf16(&[u16::try_from(value.number()).unwrap()]).unwrap()),
                    other => panic!("cast {other}"),
                }
            }
            "expression_with_unary_operator" => {
                let value = self.expression(named[0])?;
                match text.split_whitespace().next().unwrap() {
                    "-not" => Value::Bool(!value.is_true()),
                    "," => Value::Array(vec![value]),
                    _ if text.starts_with('-') => Value::Number(-value.number()),
                    other => panic!("operator {other}"),
                }
            }
            "array_literal_expression" => {
                let values: Result<Vec<_>, _> = named.into_iter().map(|one| self.expression(one)).collect();
                Value::Array(values?)
            }
            _ if children(node).len() == 3 => self.operation(node)?,
            other => panic!("expression {other}: {text}"),
        })
    }

    fn operation(&mut self, node: Node<'t>) -> Outcome<'t, Value<'t>> {
        let parts = children(node);
        let operator = self.script.text_of(parts[1]).to_lowercase();
        let left = self.expression(parts[0])?;
        match operator.as_str() {
            "-and" if !left.is_true() => return Ok(Value::Bool(false)),
            "-or" if left.is_true() => return Ok(Value::Bool(true)),
            _ => {}
        }
        let right = self.expression(parts[2])?;
        let holds = |list: &Value<'t>, one: &Value<'t>| list.clone().unrolled().iter().any(|value| value.equals(one));
        Ok(match operator.as_str() {
            "-and" | "-or" => Value::Bool(right.is_true()),
            "+" => add(left, right),
            "-join" => Value::Text(left.unrolled().iter().map(Value::show).collect::<Vec<_>>().join(&right.show())),
            "-contains" => Value::Bool(holds(&left, &right)),
            "-notcontains" => Value::Bool(!holds(&left, &right)),
            "-eq" if !matches!(left, Value::Array(_)) => Value::Bool(left.equals(&right)),
            "-ne" if !matches!(left, Value::Array(_)) => Value::Bool(!left.equals(&right)),
            "-gt" => Value::Bool(left.number() > right.number()),
            "-ge" => Value::Bool(left.number() >= right.number()),
            "-lt" => Value::Bool(left.number() < right.number()),
            "-match" => {
                let Value::Array(values) = left else { panic!("-match of one value") };
                Value::Array(values.into_iter().filter(|value| value.show().contains(&right.show())).collect())
            }
            other => panic!("operator {other}: {}", self.script.text_of(node)),
        })
    }

    fn invoke(&mut self, node: Node<'t>, named: &[Node<'t>]) -> Outcome<'t, Value<'t>> {
        let method = self.script.text_of(named[1]);
        let mut arguments = Vec::new();
        for argument in
            find(node, "argument_list").last().map(|list| find(*list, "argument_expression")).unwrap_or_default()
        {
            arguments.push(self.expression(argument)?);
        }
        if named[0].kind() == "type_literal" {
            assert_eq!((self.script.text_of(named[0]), method), ("[System.Convert]", "FromBase64String"));
            let base64: String = arguments[0].show().split_whitespace().collect();
            return Ok(Value::Octets(openssl::base64::decode_block(&base64).unwrap()));
        }
        let object = self.expression(named[0])?;
        Ok(match (object, method) {
            (Value::Caller, "ShouldProcess") => Value::Bool(true),
            (Value::Text(text), "Replace") => Value::Text(text.replace(&arguments[0].show(), &arguments[1].show())),
            (Value::Text(text), "ToUniversalTime") => Value::Text(text),
            (Value::Object(properties), "ContainsKey") => {
                Value::Bool(properties.borrow().contains_key(&arguments[0].show().to_lowercase()))
            }
            (object, method) => return Err(Stop::Throw(format!("no method {method} of {:?}", object.show()))),
        })
    }

    fn expand(&mut self, node: Node<'t>) -> Outcome<'t, String> {
        let whole = self.script.text_of(node);
        let start = node.start_byte();
        let mut text = String::new();
        let mut at = 1;
        for child in children(node).into_iter().filter(|one| matches!(one.kind(), "variable" | "sub_expression")) {
            text.push_str(&whole[at..child.start_byte() - start]);
            text.push_str(&self.expression(child)?.show());
            at = child.end_byte() - start;
        }
        text.push_str(&whole[at..whole.len() - 1]);
        Ok(text.replace("`n", "\n"))
    }
}
