//! `matcher` and `shadow_matcher`: a tree that leads to `envoy.config.rbac.v3.Action`.

use super::Place;
use crate::rbac::engine::{Action, Engine, Matched};
use crate::rbac::input::Input;
use crate::rbac::stats::PolicyName;
use network::dynamic_metadata_input::path_segment::Segment;
use nuncio_api::matchers::{CelMatcher, HttpAttributesCelMatchInput};
use nuncio_api::pb::envoy::config::rbac::v3 as rbac;
use nuncio_api::pb::envoy::extensions::matching::common_inputs::network::v3 as network;
use nuncio_api::pb::envoy::extensions::matching::common_inputs::ssl::v3 as ssl;
use nuncio_api::pb::envoy::extensions::matching::input_matchers::metadata::v3::Metadata;
use nuncio_api::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use nuncio_api::pb::xds::core::v3::TypedExtensionConfig;
use nuncio_api::pb::xds::r#type::matcher::v3::Matcher;
use nuncio_api::wkt::Any;
use nuncio_config::compile::{Compile, Invalid, message_of};
use nuncio_config::lower::{self, MatchInputs};
use nuncio_matcher::Predicate;
use prost::Name;
use std::cell::Cell;

/// Compiles `matcher`.
pub(crate) fn matcher(tree: &Matcher, place: Place, cx: &mut Compile<'_>) -> Result<Engine, Invalid> {
    let logs = Cell::new(false);
    let action = |config: &TypedExtensionConfig, cx: &mut Compile<'_>| {
        let matched = action(config, cx)?;
        logs.set(logs.get() || matched.action == Action::Log);
        Ok(matched)
    };
    let tree = lower::match_tree(tree, &Inputs(place), &action, cx)?;
    Ok(Engine::Matcher { tree: Box::new(tree), logs: logs.get() })
}

fn action(config: &TypedExtensionConfig, cx: &mut Compile<'_>) -> Result<Matched, Invalid> {
    let mut cx = cx.field("typed_config");
    let any = config.typed_config.as_ref().filter(|any| message_of(any) == rbac::Action::full_name());
    let Some(any) = any else {
        return Err(cx.error_hint("is no action of access control", "use envoy.config.rbac.v3.Action"));
    };
    let action: rbac::Action = cx.decode(any)?;
    if action.name.is_empty() {
        return Err(cx.field("name").error("must not be empty"));
    }
    let does = match action.action() {
        rbac::rbac::Action::Allow => Action::Allow,
        rbac::rbac::Action::Deny => Action::Deny,
        rbac::rbac::Action::Log => Action::Log,
    };
    Ok(Matched { name: PolicyName::new(&action.name), action: does })
}

struct Inputs(Place);

impl MatchInputs for Inputs {
    type Input = Input;

    fn input(&self, any: &Any, cx: &mut Compile<'_>) -> Result<Input, Invalid> {
        let message = message_of(any);
        let plain: [(String, fn() -> Input); 9] = [
            (network::DestinationIpInput::full_name(), || Input::DestinationIp),
            (network::DestinationPortInput::full_name(), || Input::DestinationPort),
            (network::SourceIpInput::full_name(), || Input::SourceIp),
            (network::SourcePortInput::full_name(), || Input::SourcePort),
            (network::DirectSourceIpInput::full_name(), || Input::DirectSourceIp),
            (network::ServerNameInput::full_name(), || Input::ServerName),
            (ssl::UriSanInput::full_name(), || Input::UriSan),
            (ssl::DnsSanInput::full_name(), || Input::DnsSan),
            (ssl::SubjectInput::full_name(), || Input::Subject),
        ];
        if let Some((_, input)) = plain.iter().find(|(name, _)| name == message) {
            return Ok(input());
        }
        if message == network::FilterStateInput::full_name() {
            let network::FilterStateInput { key, field } = cx.decode(any)?;
            return Ok(Input::FilterState { key: key.into(), field: field.into() });
        }
        if self.0 == Place::Http && message == HttpRequestHeaderMatchInput::full_name() {
            return lower::header_input(any, cx).map(Input::Header);
        }
        let hint = "inputs are addresses, ports, server name, names of the peer's certificate, filter state, and for \
                    requests headers, metadata and CEL attributes";
        Err(cx.error_hint(format!("the input {message} is not built here"), hint))
    }

    fn custom(&self, input: &Any, matcher: &Any, cx: &mut Compile<'_>) -> Result<Option<Predicate<Input>>, Invalid> {
        let is = |name: String, any: &Any| message_of(any) == name;
        if is(network::DynamicMetadataInput::full_name(), input) && is(Metadata::full_name(), matcher) {
            return metadata(input, matcher, cx).map(|input| Some(Predicate::Present(input)));
        }
        let is_cel = is(HttpAttributesCelMatchInput::full_name(), input) && is(CelMatcher::full_name(), matcher);
        if is_cel && self.0 == Place::Http {
            let mut cx = cx.field("custom_match");
            let mut cx = cx.field("typed_config");
            let CelMatcher { expr_match, description: _ } = cx.decode(matcher)?;
            let Some(expression) = expr_match else { return Err(cx.field("expr_match").error("is required")) };
            let options = nuncio_cel::Options::default();
            let program = lower::cel_expression(&expression, options, &mut cx.field("expr_match"))?;
            return Ok(Some(Predicate::Present(Input::Condition(Box::new(program)))));
        }
        Ok(None)
    }
}

/// `DynamicMetadataInput` with the matcher on its value.
fn metadata(input: &Any, matcher: &Any, cx: &mut Compile<'_>) -> Result<Input, Invalid> {
    let network::DynamicMetadataInput { filter, path } = cx.field("input").field("typed_config").decode(input)?;
    let mut keys = Vec::with_capacity(path.len());
    for segment in path {
        match segment.segment {
            Some(Segment::Key(key)) => keys.push(key),
            None => return Err(cx.field("input").error("has a path segment without a key")),
        }
    }
    let mut cx = cx.field("custom_match");
    let mut cx = cx.field("typed_config");
    let Metadata { value, invert } = cx.decode(matcher)?;
    let Some(value) = value else { return Err(cx.field("value").error("is required")) };
    let value = lower::value(&value, &mut cx.field("value"))?;
    Ok(Input::Metadata { namespace: filter.into(), path: keys.into(), value, invert })
}
