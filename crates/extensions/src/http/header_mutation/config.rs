//! `envoy.extensions.filters.http.header_mutation.v3.HeaderMutation`.

use super::filter::{Action, HeaderMutationFactory, Mutations, QueryAction};
use nuncio_api::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation as Rule, header_mutation};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::pb::envoy::extensions::filters::http::header_mutation::v3 as pb;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_filter::HttpFilterFactory;
use nuncio_headers::HeaderName;
use std::sync::Arc;

/// The extension.
pub struct HeaderMutationExtension;

impl HttpExtension for HeaderMutationExtension {
    type Config = pb::HeaderMutation;
    type PerRoute = pb::HeaderMutationPerRoute;
    const NAME: &'static str = "envoy.filters.http.header_mutation";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let mutations = mutations(config.mutations, &mut cx.field("mutations"))?;
        Ok(Arc::new(HeaderMutationFactory {
            mutations: Arc::new(mutations),
            most_specific_wins: config.most_specific_header_mutations_wins,
        }))
    }

    fn compile_route(config: Self::PerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Ok(Arc::new(mutations(config.mutations, &mut cx.field("mutations"))?))
    }
}

fn mutations(config: Option<pb::Mutations>, cx: &mut Compile<'_>) -> Result<Mutations, Invalid> {
    let pb::Mutations {
        request_mutations,
        query_parameter_mutations,
        response_mutations,
        response_trailers_mutations,
        request_trailers_mutations,
    } = config.unwrap_or_default();
    let request = actions(&request_mutations, "request_mutations", true, cx);
    let response = actions(&response_mutations, "response_mutations", false, cx);
    let response_trailers = actions(&response_trailers_mutations, "response_trailers_mutations", false, cx);
    let request_trailers = actions(&request_trailers_mutations, "request_trailers_mutations", true, cx);
    let query = query(&query_parameter_mutations, cx);
    Ok(Mutations {
        request: request?,
        response: response?,
        request_trailers: request_trailers?,
        response_trailers: response_trailers?,
        query: query?,
    })
}

fn actions(
    rules: &[Rule],
    field: &'static str,
    of_request: bool,
    cx: &mut Compile<'_>,
) -> Result<Box<[Action]>, Invalid> {
    let mut compiled = Vec::with_capacity(rules.len());
    for (index, rule) in rules.iter().enumerate() {
        compiled.push(action(rule, of_request, &mut cx.element(field, index))?);
    }
    Ok(compiled.into())
}

fn action(rule: &Rule, of_request: bool, cx: &mut Compile<'_>) -> Result<Action, Invalid> {
    match &rule.action {
        Some(header_mutation::Action::Remove(name)) => match HeaderName::new(name) {
            Ok(name) => Ok(Action::Remove(name)),
            Err(error) => Err(cx.field("remove").error(error.to_string())),
        },
        Some(header_mutation::Action::Append(option)) => {
            let options = std::slice::from_ref(option);
            let edits = match of_request {
                true => lower::request_edits(options, &[], "append", cx),
                false => lower::response_edits(options, &[], "append", cx),
            };
            edits.map(Action::Edit)
        }
        Some(header_mutation::Action::RemoveOnMatch(matching)) => {
            let mut cx = cx.field("remove_on_match");
            match &matching.key_matcher {
                Some(matcher) => Ok(Action::RemoveOnMatch(lower::string(matcher, &mut cx.field("key_matcher"))?)),
                None => Err(cx.field("key_matcher").error("is required")),
            }
        }
        None => Err(cx.error_hint("says nothing", "set append, remove or remove_on_match")),
    }
}

fn query(mutations: &[core::KeyValueMutation], cx: &mut Compile<'_>) -> Result<Box<[QueryAction]>, Invalid> {
    use core::key_value_append::KeyValueAppendAction as Kind;
    let mut compiled = Vec::new();
    for (index, mutation) in mutations.iter().enumerate() {
        let mut cx = cx.element("query_parameter_mutations", index);
        if !mutation.remove.is_empty() {
            compiled.push(QueryAction::Remove(mutation.remove.as_str().into()));
        }
        let Some(append) = &mutation.append else { continue };
        let mut cx = cx.field("append");
        let Some((name, value)) = pair(append) else {
            return Err(cx.error_hint("names no parameter", "set record.key and record.value"));
        };
        let value = lower::plain_format(&value, &mut cx.field("record"))?;
        compiled.push(match append.action() {
            Kind::AppendIfExistsOrAdd => QueryAction::Append(name, value),
            Kind::AddIfAbsent => QueryAction::AddIfAbsent(name, value),
            Kind::OverwriteIfExistsOrAdd => QueryAction::Overwrite(name, value),
            Kind::OverwriteIfExists => QueryAction::OverwriteIfExists(name, value),
        });
    }
    Ok(compiled.into())
}

#[allow(deprecated)]
fn pair(append: &core::KeyValueAppend) -> Option<(Box<str>, String)> {
    use nuncio_api::wkt::value::Kind;
    if let Some(record) = &append.record {
        let text = match record.value.as_ref().and_then(|value| value.kind.as_ref()) {
            Some(Kind::StringValue(text)) => text.clone(),
            _ => String::new(),
        };
        return Some((record.key.as_str().into(), text));
    }
    let entry = append.entry.as_ref()?;
    Some((entry.key.as_str().into(), String::from_utf8_lossy(&entry.value).into_owned()))
}
