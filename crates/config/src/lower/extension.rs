//! Extensions by the type of their configuration.

use crate::compile::{Compile, Entry, Invalid, message_of};
use crate::diagnostics::did_you_mean;
use nuncio_api::schema::Schema;
use nuncio_api::wkt::Any;

/// Compiles the extension that `any` configures; `kind` is what errors call it. Without a configuration the name decides.
pub(super) fn compile<T>(
    name: &str,
    any: Option<&Any>,
    entries: &[Entry<T>],
    kind: &str,
    cx: &mut Compile<'_>,
) -> Result<T, Invalid> {
    let Some(any) = any else {
        let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
            let known = did_you_mean(name, entries.iter().map(|entry| entry.name));
            let hint = known.map_or_else(
                || "add a typed_config with the @type of its configuration".to_owned(),
                |known| format!("did you mean {known}? Add a typed_config with the @type of its configuration"),
            );
            return Err(cx.error_hint(format!("the {kind} {name} has no typed_config"), hint));
        };
        let empty = Any { type_url: format!("type.googleapis.com/{}", entry.config), value: Vec::new() };
        return (entry.compile)(&empty, cx);
    };
    let message = message_of(any);
    match entries.iter().find(|entry| entry.config == message) {
        Some(entry) => (entry.compile)(any, &mut cx.field("typed_config")),
        None => Err(unknown(name, message, entries.iter().map(|entry| entry.config.as_str()), kind, cx)),
    }
}

/// Reports at `typed_config` that no extension of this kind has this configuration.
fn unknown<'a>(
    name: &str,
    message: &str,
    known: impl Iterator<Item = &'a str>,
    kind: &str,
    cx: &mut Compile<'_>,
) -> Invalid {
    unknown_here(name, message, known, kind, &mut cx.field("typed_config"))
}

/// The same, at the present path.
pub(super) fn unknown_here<'a>(
    name: &str,
    message: &str,
    known: impl Iterator<Item = &'a str>,
    kind: &str,
    cx: &mut Compile<'_>,
) -> Invalid {
    if cx.registry.disabled.contains(message) {
        return cx.error(format!("the {kind} {name} ({message}) is disabled (--disable-extensions)"));
    }
    let text = match Schema::message(message) {
        Some(_) => format!("the {kind} {name} ({message}) is not built"),
        None => format!("there is no {kind} with the configuration {message}"),
    };
    let guess = did_you_mean(message, known).map(|guess| format!("did you mean {guess}?"));
    match guess {
        Some(guess) => cx.error_hint(text, guess),
        None => cx.error(text),
    }
}
