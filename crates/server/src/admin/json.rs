//! JSON as Envoy prints it in admin answers: members in the given order, one blank of indentation a level.

use nuncio_config::json::write_string;
use std::fmt::Write as _;

/// A value to print.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Bool(bool),
    /// A number of 32 bits or less.
    Number(i64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// JSON that is printed already, for this indentation.
    Printed(String),
}

impl Json {
    pub(super) fn text(text: impl Into<String>) -> Json {
        Json::Text(text.into())
    }

    /// A number of 64 bits: protobuf's JSON makes it a string.
    pub(super) fn long(number: u64) -> Json {
        Json::Text(number.to_string())
    }

    pub(super) fn object<const N: usize>(members: [(&str, Json); N]) -> Json {
        Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The value as a document, with a line feed at its end.
    pub(super) fn document(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    /// Appends the value; what is inside is indented by one more than `indentation`.
    pub(super) fn write(&self, out: &mut String, indentation: usize) {
        match self {
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            // Writing to a string does not fail.
            Json::Number(value) => drop(write!(out, "{value}")),
            Json::Text(text) => write_string(out, text),
            Json::Printed(text) => out.push_str(text),
            Json::List(values) => {
                container(out, indentation, ('[', ']'), values, |out, value| value.write(out, indentation + 1));
            }
            Json::Object(members) => container(out, indentation, ('{', '}'), members, |out, (name, value)| {
                write_string(out, name);
                out.push_str(": ");
                value.write(out, indentation + 1);
            }),
        }
    }
}

fn container<T>(
    out: &mut String,
    indentation: usize,
    (open, close): (char, char),
    items: &[T],
    write: impl Fn(&mut String, &T),
) {
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        line(out, indentation + 1);
        write(out, item);
    }
    if !items.is_empty() {
        line(out, indentation);
    }
    out.push(close);
}

fn line(out: &mut String, indentation: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indentation));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_as_envoy_prints() {
        let check = |value: Json, expected: &str| assert_eq!(value.document(), expected);
        check(Json::Object(Vec::new()), "{}\n");
        check(Json::object([("certificates", Json::List(Vec::new()))]), "{\n \"certificates\": []\n}\n");
        check(
            Json::object([
                ("a", Json::List(vec![Json::long(1), Json::Number(2)])),
                ("b", Json::object([("c\"", Json::Bool(true))])),
            ]),
            "{\n \"a\": [\n  \"1\",\n  2\n ],\n \"b\": {\n  \"c\\\"\": true\n }\n}\n",
        );
    }
}
