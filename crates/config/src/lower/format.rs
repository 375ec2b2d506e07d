//! `SubstitutionFormatString`, header mutations, and the options that all formats are compiled with.

use super::{cel, data_source, value};
use crate::compile::{Compile, Invalid, message_of};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::formatter::cel::v3::Cel;
use nuncio_api::pb::envoy::extensions::formatter::metadata::v3::Metadata;
use nuncio_api::pb::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use nuncio_route::spec::{AppendAction, HeaderMutationsSpec, HeaderValueOptionSpec};
use nuncio_route::{BuildError, HeaderEdits};
use nuncio_stream_info::{DEFAULT_FORMAT, Format, FormatError, FormatOptions};
use prost::Name;

/// What a `SubstitutionFormatString` says beside its format.
#[derive(Debug, Clone, Copy, Default)]
struct Switches {
    omit_empty_values: bool,
    req_without_query: bool,
}

/// The format and the content type of a `SubstitutionFormatString`. The content type's default is `text/plain`, or
/// `application/json` for a JSON format.
pub fn format_string(
    string: &core::SubstitutionFormatString,
    cx: &mut Compile<'_>,
) -> Result<(Format, String), Invalid> {
    use core::substitution_format_string::Format as Kind;
    let core::SubstitutionFormatString { omit_empty_values, content_type, formatters, json_format_options, format } =
        string;
    // Fields are sorted whatever `json_format_options.sort_properties` says, as in Envoy.
    let _ = json_format_options;
    let switches =
        Switches { omit_empty_values: *omit_empty_values, req_without_query: formatter_extensions(formatters, cx)? };
    let (format, default_type) = match format {
        None => return Err(cx.error_hint("has no format", "set text_format_source or json_format")),
        #[allow(deprecated)]
        Some(Kind::TextFormat(text)) => (text_format(text, switches, &mut cx.field("text_format"))?, "text/plain"),
        Some(Kind::TextFormatSource(source)) => {
            let mut cx = cx.field("text_format_source");
            let text = data_source::data_source_text(source, &mut cx)?;
            (text_format(&text, switches, &mut cx)?, "text/plain")
        }
        Some(Kind::JsonFormat(template)) => {
            let template = value::structure(template);
            let compiled = with_options(cx, switches, |options| Format::json(&template, options));
            let format = compiled.map_err(|error| report(&error, &mut cx.field("json_format")))?;
            (format, "application/json")
        }
    };
    let content_type = if content_type.is_empty() { default_type.to_owned() } else { content_type.clone() };
    Ok((format, content_type))
}

/// The format of access logs that have none of their own.
pub fn default_log_format(cx: &mut Compile<'_>) -> Result<Format, Invalid> {
    text_format(DEFAULT_FORMAT, Switches::default(), cx)
}

/// A text format outside a `SubstitutionFormatString`.
pub fn plain_format(text: &str, cx: &mut Compile<'_>) -> Result<Format, Invalid> {
    text_format(text, Switches::default(), cx)
}

fn text_format(text: &str, switches: Switches, cx: &mut Compile<'_>) -> Result<Format, Invalid> {
    let compiled = with_options(cx, switches, |options| Format::text(text, options));
    compiled.map_err(|error| report(&error, cx))
}

fn with_options<T>(cx: &Compile<'_>, switches: Switches, compile: impl FnOnce(&FormatOptions<'_>) -> T) -> T {
    let environment = |name: &str| cx.facts.environment.get(name).map(str::to_owned);
    compile(&FormatOptions {
        omit_empty_values: switches.omit_empty_values,
        header_value: false,
        req_without_query: switches.req_without_query,
        hostname: cx.facts.hostname.clone(),
        environment: &environment,
        time_zone: cx.facts.time_zone.clone(),
        expression: &cel::formatted,
    })
}

/// Calls `compile` with the options for header values.
pub fn with_header_options<T>(cx: &Compile<'_>, compile: impl FnOnce(&FormatOptions<'_>) -> T) -> T {
    let environment = |name: &str| cx.facts.environment.get(name).map(str::to_owned);
    compile(&FormatOptions {
        hostname: cx.facts.hostname.clone(),
        environment: &environment,
        time_zone: cx.facts.time_zone.clone(),
        expression: &cel::formatted,
        ..FormatOptions::for_header_value()
    })
}

fn report(error: &FormatError, cx: &mut Compile<'_>) -> Invalid {
    let FormatError { path, offset: _, column, message, hint } = error;
    let text = format!("{message}, in column {column} of the format");
    let mut at = cx.below(path);
    if hint.is_empty() { at.error(text) } else { at.error_hint(text, hint.clone()) }
}

/// Whether `formatters` lists `req_without_query`. `metadata` and `cel` are always there.
pub fn formatter_extensions(formatters: &[core::TypedExtensionConfig], cx: &mut Compile<'_>) -> Result<bool, Invalid> {
    let mut req_without_query = false;
    let before = cx.errors();
    for (index, core::TypedExtensionConfig { name, typed_config }) in formatters.iter().enumerate() {
        let message = typed_config.as_ref().map(message_of).unwrap_or_default();
        if message == ReqWithoutQuery::full_name() {
            req_without_query = true;
        } else if message == Cel::full_name() {
            // The operators are always there; only what they allow beyond the default is said here.
            let config = typed_config.as_ref().map(|any| cx.element("formatters", index).decode::<Cel>(any));
            if let Some(Ok(Cel { cel_config: Some(_) })) = config {
                cx.element("formatters", index).field("typed_config").unsupported("cel_config");
            }
        } else if message != Metadata::full_name() {
            let hint = "envoy.formatter.req_without_query, envoy.formatter.metadata and envoy.formatter.cel are";
            cx.element("formatters", index).error_hint(format!("the formatter {name} is not built"), hint);
        }
    }
    cx.unless_errors_since(before)?;
    Ok(req_without_query)
}

/// `…_headers_to_add` and `…_headers_to_remove`; errors are found when they are compiled.
pub fn header_mutations(add: &[core::HeaderValueOption], remove: &[String]) -> HeaderMutationsSpec {
    HeaderMutationsSpec { add: add.iter().map(header_value_option).collect(), remove: remove.to_vec() }
}

fn header_value_option(option: &core::HeaderValueOption) -> HeaderValueOptionSpec {
    use core::header_value_option::HeaderAppendAction as Action;
    #[allow(deprecated)]
    let core::HeaderValueOption { header, append, append_action: _, keep_empty_value } = option;
    let header = header.clone().unwrap_or_default();
    let action = match (append, option.append_action()) {
        // The deprecated switch, where it is set, decides.
        (Some(append), _) if append.value => AppendAction::AppendIfExistsOrAdd,
        (Some(_), _) => AppendAction::OverwriteIfExistsOrAdd,
        (None, Action::AppendIfExistsOrAdd) => AppendAction::AppendIfExistsOrAdd,
        (None, Action::AddIfAbsent) => AppendAction::AddIfAbsent,
        (None, Action::OverwriteIfExistsOrAdd) => AppendAction::OverwriteIfExistsOrAdd,
        (None, Action::OverwriteIfExists) => AppendAction::OverwriteIfExists,
    };
    let value = match header.value.is_empty() {
        true => String::from_utf8_lossy(&header.raw_value).into_owned(),
        false => header.value,
    };
    HeaderValueOptionSpec { name: header.key, value, append_action: action, keep_empty_value: *keep_empty_value }
}

/// Changes to request headers, compiled. `field` is the name of the list to add, such as `request_headers_to_add`.
pub fn request_edits(
    add: &[core::HeaderValueOption],
    remove: &[String],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<HeaderEdits, Invalid> {
    let spec = header_mutations(add, remove);
    let built = with_header_options(cx, |options| HeaderEdits::request(spec, options));
    built.map_err(|errors| report_edits(&errors, field, cx))
}

/// The same for response headers.
pub fn response_edits(
    add: &[core::HeaderValueOption],
    remove: &[String],
    field: &'static str,
    cx: &mut Compile<'_>,
) -> Result<HeaderEdits, Invalid> {
    let spec = header_mutations(add, remove);
    let built = with_header_options(cx, |options| HeaderEdits::response(spec, options));
    built.map_err(|errors| report_edits(&errors, field, cx))
}

/// Reports errors at the fields that they name, with the list to add called `field`.
fn report_edits(errors: &[BuildError], field: &str, cx: &mut Compile<'_>) -> Invalid {
    for BuildError { path, message } in errors {
        let own = ["request_headers_to_add", "response_headers_to_add"];
        let below = own.iter().find_map(|name| path.strip_prefix(name)).map(|rest| format!("{field}{rest}"));
        cx.below(below.as_deref().unwrap_or(path)).error(message.clone());
    }
    Invalid
}
