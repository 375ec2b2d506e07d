//! YAML text to JSON values, for case files. Anchors, aliases and merge keys (`<<`) work; tags are ignored.
//!
//! It is apart from the configuration compiler of the proxy on purpose: that one is under test here.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// Reads every document of `text`.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        loader.event(event).map_err(|error| format!("line {}: {error}", span.start.line()))?;
    }
    Ok(loader.documents)
}

#[derive(Default)]
struct Loader {
    documents: Vec<Value>,
    open: Vec<Node>,
    anchors: HashMap<usize, Value>,
}

struct Node {
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Value>),
    Map { entries: Map<String, Value>, merged: Map<String, Value>, key: Option<String> },
}

impl Loader {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias without its anchor")?;
                self.add(value, 0)
            }
            Event::Scalar(text, style, anchor, _) => self.add(scalar(&text, style), anchor),
            Event::SequenceStart(anchor, _) => {
                self.open.push(Node { anchor, kind: Kind::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(anchor, _) => {
                self.open.push(Node { anchor, kind: Kind::Map { entries: Map::new(), merged: Map::new(), key: None } });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = self.open.pop().ok_or("an end without a start")?;
                let value = match node.kind {
                    Kind::List(items) => Value::Array(items),
                    Kind::Map { entries, mut merged, .. } => {
                        merged.extend(entries);
                        Value::Object(merged)
                    }
                };
                self.add(value, node.anchor)
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|node| &mut node.kind) {
            None => self.documents.push(value),
            Some(Kind::List(items)) => items.push(value),
            Some(Kind::Map { entries, merged, key }) => match key.take() {
                None => *key = Some(key_of(value)?),
                Some(name) if name == "<<" => merge_key(merged, value)?,
                Some(name) if entries.contains_key(&name) => {
                    return Err(format!("the key '{name}' stands twice"));
                }
                Some(name) => drop(entries.insert(name, value)),
            },
        }
        Ok(())
    }
}

fn merge_key(merged: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    let Value::Object(entries) = value else { return Err("'<<' takes a mapping".into()) };
    merged.extend(entries);
    Ok(())
}

fn key_of(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err("a key must be a scalar".into()),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
        return None;
    }
    text.parse::<i64>().map(Number::from).ok().or_else(|| Number::from_f64(text.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_anchors_and_merge_keys() {
        let text = "base: &b {x: 1, y: '2'}\nlist: [*b, ~, true, 1.5, 1.5s]\nmerged:\n  <<: *b\n  x: 7\n  z: -3\n";
        let expected = json!({
            "base": {"x": 1, "y": "2"},
            "list": [{"x": 1, "y": "2"}, null, true, 1.5, "1.5s"],
            "merged": {"x": 7, "y": "2", "z": -3},
        });
        assert_eq!(documents(text).unwrap(), [expected]);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        assert!(documents("a: 1\na: 2\n").is_err());
    }
}
