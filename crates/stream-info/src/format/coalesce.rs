//! `COALESCE`: the first of several operators that is set.

use super::data::cut;
use super::error::Refusal;
use super::op::Op;
use super::parse::Command;
use super::{FormatOptions, json_input, operators};
use crate::{LogContext, Struct, Value};

/// The operators to try, in order.
#[derive(Debug)]
pub(super) struct Coalesce {
    operators: Vec<Op>,
    /// Cuts text; JSON only where it is a string.
    max_length: Option<usize>,
}

/// Most levels of `COALESCE` in `COALESCE`.
const MAX_NESTING: u8 = 4;

impl Coalesce {
    /// Reads `{"operators": ["NAME", {"command": "NAME", "param": "…", "max_length": 8}]}`.
    pub(super) fn new(command: &Command<'_>, options: &FormatOptions<'_>, depth: u8) -> Result<Coalesce, Refusal> {
        if depth >= MAX_NESTING {
            return Err(Refusal::new(format!("COALESCE is nested more than {MAX_NESTING} times")));
        }
        let parsed = json_input::parse(command.parameters)
            .map_err(|error| Refusal::new(format!("COALESCE: its parameter is not valid JSON: {error}")))?;
        let listed = match &parsed {
            Value::Struct(fields) => fields.get("operators"),
            _ => None,
        };
        let Some(listed) = listed else {
            return Err(Refusal::hinted(
                "COALESCE: the JSON lacks its \"operators\" list",
                "for example %COALESCE({\"operators\":[\"REQUESTED_SERVER_NAME\",{\"command\":\"REQ\",\"param\":\":authority\"}]})%",
            ));
        };
        let Value::List(entries) = listed else {
            return Err(Refusal::new("COALESCE: \"operators\" is not a list"));
        };
        if entries.is_empty() {
            return Err(Refusal::new("COALESCE: \"operators\" is empty"));
        }
        let operators = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| operator(entry, options, depth).map_err(|refusal| at_index(at, refusal)))
            .collect::<Result<_, _>>()?;
        Ok(Coalesce { operators, max_length: command.max_length })
    }

    pub(super) fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let is_set = self.operators.iter().any(|op| op.write(cx, out));
        cut(out, start, self.max_length);
        is_set
    }

    pub(super) fn write_json(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if !self.operators.iter().any(|op| op.write_json(cx, out)) {
            return false;
        }
        let is_string = out.get(start) == Some(&b'"');
        if is_string && self.max_length.is_some() {
            // The length counts bytes of the text, not of its JSON.
            out.truncate(start);
            out.push(b'"');
            self.write(cx, out);
            crate::value::escape_from(out, start + 1);
            out.push(b'"');
        }
        true
    }
}

fn at_index(at: usize, refusal: Refusal) -> Refusal {
    Refusal { message: format!("COALESCE: operators[{at}]: {}", refusal.message), hint: refusal.hint }
}

fn operator(entry: &Value, options: &FormatOptions<'_>, depth: u8) -> Result<Op, Refusal> {
    let command = match entry {
        Value::String(name) => Command { name, parameters: "", max_length: None },
        Value::Struct(fields) => command(fields)?,
        _ => return Err(Refusal::new("an entry is a command name, or an object with \"command\"")),
    };
    // Formatter extensions are not available inside of COALESCE.
    let options = FormatOptions { req_without_query: false, ..options.clone() };
    operators::build_nested(&command, &options, depth + 1)
}

fn command(fields: &Struct) -> Result<Command<'_>, Refusal> {
    let Some(Value::String(name)) = fields.get("command") else {
        return Err(Refusal::new("\"command\" is missing or not a string"));
    };
    let parameters = match fields.get("param") {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => return Err(Refusal::new("\"param\" is not a string")),
    };
    let max_length = match fields.get("max_length") {
        None => None,
        Some(Value::Number(number)) if number.fract() == 0.0 && *number >= 1.0 => Some(*number as usize),
        Some(_) => return Err(Refusal::new("\"max_length\" is not a positive integer")),
    };
    Ok(Command { name, parameters, max_length })
}
