//! JSON templates: constants rendered once, values with their types.

use super::error::FormatError;
use super::{FormatOptions, Template};
use crate::value::{escape_from, write_number};
use crate::{LogContext, Struct, Value, write_json_string};

/// Deepest nesting of a template.
const MAX_DEPTH: usize = 64;

/// A rendered key with its colon, and its value.
type Field = (Box<[u8]>, Node);

/// A compiled `json_format`.
#[derive(Debug)]
pub(super) struct JsonTemplate {
    fields: Vec<Field>,
    omit_empty: bool,
}

#[derive(Debug)]
enum Node {
    /// JSON known when compiling.
    Constant(Box<[u8]>),
    Null,
    /// A single operator keeps its type.
    Value(Template),
    /// Several segments make a string.
    Text(Template),
    Object(Vec<Field>),
    List(Vec<Node>),
}

impl JsonTemplate {
    pub(super) fn new(template: &Struct, options: &FormatOptions<'_>) -> Result<JsonTemplate, FormatError> {
        let fields = compile_fields(template, options, &mut String::new(), 0)?;
        Ok(JsonTemplate { fields, omit_empty: options.omit_empty_values })
    }

    pub(super) fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) {
        write_object(&self.fields, cx, self.omit_empty, out);
        out.push(b'\n');
    }
}

fn compile_fields(
    template: &Struct,
    options: &FormatOptions<'_>,
    path: &mut String,
    depth: usize,
) -> Result<Vec<Field>, FormatError> {
    let mut fields = Vec::with_capacity(template.len());
    for (name, value) in template.iter() {
        let before = path.len();
        if before > 0 {
            path.push('.');
        }
        path.push_str(name);
        let node = compile_node(value, options, path, depth + 1)?;
        path.truncate(before);
        let mut key = Vec::new();
        write_json_string(name.as_bytes(), &mut key);
        key.push(b':');
        fields.push((key.into(), node));
    }
    Ok(fields)
}

fn compile_node(
    value: &Value,
    options: &FormatOptions<'_>,
    path: &mut String,
    depth: usize,
) -> Result<Node, FormatError> {
    if depth > MAX_DEPTH {
        return Err(FormatError::new("", 0, format!("nested more than {MAX_DEPTH} levels")).at(path));
    }
    Ok(match value {
        Value::Null => Node::Null,
        Value::Bool(true) => Node::Constant((*b"true").into()),
        Value::Bool(false) => Node::Constant((*b"false").into()),
        Value::Number(number) => {
            let mut text = Vec::new();
            write_number(*number, &mut text);
            Node::Constant(text.into())
        }
        Value::String(format) => compile_text(format, options).map_err(|error| error.at(path))?,
        Value::Struct(fields) => Node::Object(compile_fields(fields, options, path, depth)?),
        Value::List(values) => {
            let mut nodes = Vec::with_capacity(values.len());
            for (at, value) in values.iter().enumerate() {
                let before = path.len();
                path.push_str(&format!("[{at}]"));
                nodes.push(compile_node(value, options, path, depth + 1)?);
                path.truncate(before);
            }
            Node::List(nodes)
        }
    })
}

fn compile_text(format: &str, options: &FormatOptions<'_>) -> Result<Node, FormatError> {
    let template = Template::new(format, options)?;
    let Some(constant) = template.constant() else {
        return Ok(match template.single_value() {
            Some(_) => Node::Value(template),
            None => Node::Text(template),
        });
    };
    let mut json = Vec::new();
    write_json_string(constant.as_bytes(), &mut json);
    Ok(Node::Constant(json.into()))
}

impl Node {
    /// Appends the node. False, with nothing appended, if empty values are omitted and this is one.
    fn write(&self, cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
        match self {
            Node::Constant(json) => out.extend_from_slice(json),
            Node::Null => return write_null(omit_empty, out),
            Node::Value(template) => {
                if !template.single_value().is_some_and(|op| op.write_json(cx, out)) {
                    return write_null(omit_empty, out);
                }
            }
            Node::Text(template) => write_text(template, cx, out),
            Node::Object(fields) => {
                let start = out.len();
                let is_empty = write_object(fields, cx, omit_empty, out);
                if is_empty && omit_empty {
                    out.truncate(start);
                    return false;
                }
            }
            Node::List(nodes) => write_list(nodes, cx, omit_empty, out),
        }
        true
    }
}

fn write_null(omit_empty: bool, out: &mut Vec<u8>) -> bool {
    if !omit_empty {
        out.extend_from_slice(b"null");
    }
    !omit_empty
}

/// Each value is escaped by itself: one that is not UTF-8 does not change how the others look.
fn write_text(template: &Template, cx: &LogContext<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    for piece in &template.pieces {
        let start = out.len();
        piece.before.write(out);
        escape_from(out, start);
        let start = out.len();
        template.write_value(&piece.op, cx, out);
        escape_from(out, start);
    }
    let start = out.len();
    out.extend_from_slice(template.tail.as_bytes());
    escape_from(out, start);
    out.push(b'"');
}

/// Tells whether no field was written.
fn write_object(fields: &[Field], cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
    out.push(b'{');
    let mut is_empty = true;
    for (key, node) in fields {
        let start = out.len();
        if !is_empty {
            out.push(b',');
        }
        out.extend_from_slice(key);
        if node.write(cx, omit_empty, out) {
            is_empty = false;
        } else {
            out.truncate(start);
        }
    }
    out.push(b'}');
    is_empty
}

fn write_list(nodes: &[Node], cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) {
    out.push(b'[');
    let mut is_empty = true;
    for node in nodes {
        let start = out.len();
        if !is_empty {
            out.push(b',');
        }
        if node.write(cx, omit_empty, out) {
            is_empty = false;
        } else {
            out.truncate(start);
        }
    }
    out.push(b']');
}
