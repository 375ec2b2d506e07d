//! What an endpoint is, and how the list of them is printed.

use super::Admin;
use super::request::Parameters;
use super::response::Response;
use std::rc::Rc;

/// A request to an endpoint.
pub(super) struct Call<'a> {
    pub admin: &'a Rc<Admin>,
    /// Of the URL.
    pub parameters: &'a Parameters,
    /// Of the body, if it is a form.
    pub form: &'a Parameters,
}

/// Whether an endpoint changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It tells; any method will do.
    Reads,
    /// It changes something: POST only.
    Changes,
}

/// An endpoint.
pub(super) struct Endpoint {
    pub path: &'static str,
    pub effect: Effect,
    pub help: &'static str,
    pub parameters: &'static [Parameter],
    pub answer: fn(&Call<'_>) -> Response,
}

/// A parameter of an endpoint.
pub(super) struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Being there is all that counts.
    Flag,
    Text,
    Choice(&'static [&'static str]),
}

pub(super) const fn flag(name: &'static str, help: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Flag, help }
}

pub(super) const fn text(name: &'static str, help: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Text, help }
}

pub(super) const fn choice(name: &'static str, choices: &'static [&'static str], help: &'static str) -> Parameter {
    Parameter { name, kind: Kind::Choice(choices), help }
}

/// Appends the endpoints and their parameters.
pub(super) fn write_list(out: &mut String, endpoints: &[Endpoint]) {
    for endpoint in endpoints {
        let post = if endpoint.effect == Effect::Changes { " (POST)" } else { "" };
        out.push_str(&format!("  {}{post}: {}\n", endpoint.path, endpoint.help));
        for parameter in endpoint.parameters {
            let choices = match parameter.kind {
                Kind::Choice(choices) => format!("; One of ({})", choices.join(", ")),
                _ => String::new(),
            };
            out.push_str(&format!("      {}: {}{choices}\n", parameter.name, parameter.help));
        }
    }
}
