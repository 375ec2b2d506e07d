//! `envoy.config.rbac.v3`.

use super::engine::{Action, Engine, Policy, Rules};
use super::rule::{AddressOf, MtlsAuthenticated, NameKind, Rule};
use super::stats::PolicyName;
use nuncio_api::pb::envoy::config::core::v3::{CidrRange as PbCidrRange, TypedExtensionConfig};
use nuncio_api::pb::envoy::config::rbac::v3 as pb;
use nuncio_api::pb::envoy::config::route::v3::HeaderMatcher as PbHeaderMatcher;
use nuncio_api::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use nuncio_api::pb::envoy::extensions::rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher;
use nuncio_api::pb::envoy::extensions::rbac::principals::mtls_authenticated::v3::Config as MtlsConfig;
use nuncio_api::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use nuncio_api::pb::envoy::r#type::matcher::v3 as pb_matcher;
use nuncio_config::compile::{Compile, Invalid, message_of};
use nuncio_config::lower;
use nuncio_matcher::{CidrRange, MetadataMatcher, PathMatcher};
use nuncio_route::{FilterStateMatcher, UriTemplate};
use pb::permission::Rule as Permission;
use pb::principal::Identifier;
use prost::Name;

mod matching;

pub(crate) use matching::matcher;

/// Rules inside rules beyond this are refused: asking recurses.
const MAX_DEPTH: usize = 64;

/// What asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A request.
    Http,
    /// A connection, which has no headers.
    Network,
}

/// Compiles `RBAC`.
pub(crate) fn engine(config: &pb::Rbac, place: Place, cx: &mut Compile<'_>) -> Result<Engine, Invalid> {
    let pb::Rbac { action: _, policies, audit_logging_options } = config;
    cx.unsupported_if(audit_logging_options.is_some(), "audit_logging_options");
    let action = match config.action() {
        pb::rbac::Action::Allow => Action::Allow,
        pb::rbac::Action::Deny => Action::Deny,
        pb::rbac::Action::Log => Action::Log,
    };
    let mut sorted: Vec<_> = policies.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| name.as_str());
    let mut compiled = Vec::with_capacity(sorted.len());
    for (name, config) in &sorted {
        compiled.extend(policy(name, config, place, &mut cx.entry("policies", name)));
    }
    if compiled.len() < sorted.len() {
        return Err(Invalid);
    }
    Ok(Engine::Rules(Rules { action, policies: compiled.into() }))
}

fn policy(name: &str, config: &pb::Policy, place: Place, cx: &mut Compile<'_>) -> Result<Policy, Invalid> {
    let pb::Policy { permissions, principals, condition, checked_condition, cel_config } = config;
    if permissions.is_empty() || principals.is_empty() {
        return Err(cx.error_hint("has no permissions or no principals", "set any: true for all of them"));
    }
    let limits = Limits { place, depth: MAX_DEPTH };
    let permissions = lower::list(permissions, "permissions", cx, |rule, cx| permission(rule, limits, cx));
    let principals = lower::list(principals, "principals", cx, |rule, cx| principal(rule, limits, cx));
    let options = lower::cel_options(cel_config.as_ref());
    let condition = match (condition, checked_condition) {
        (Some(_), Some(_)) => {
            let text = "condition and checked_condition exclude each other";
            Err(cx.field("condition").error_hint(text, "remove one of them"))
        }
        (Some(condition), None) => lower::cel_older(condition, options, &mut cx.field("condition")).map(Some),
        (None, Some(checked)) => {
            let mut cx = cx.field("checked_condition");
            let mut cx = cx.field("expr");
            match &checked.expr {
                Some(expr) => lower::cel_older(expr, options, &mut cx).map(Some),
                None => Err(cx.error("is required")),
            }
        }
        (None, None) => Ok(None),
    };
    Ok(Policy {
        name: PolicyName::new(name),
        permissions: permissions?.into(),
        principals: principals?.into(),
        condition: condition?,
    })
}

/// Where a rule stands.
#[derive(Debug, Clone, Copy)]
struct Limits {
    place: Place,
    depth: usize,
}

impl Limits {
    fn below(self, cx: &mut Compile<'_>) -> Result<Limits, Invalid> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Limits { depth, ..self }),
            None => Err(cx.error(format!("more than {MAX_DEPTH} rules inside one another"))),
        }
    }
}

fn permission(config: &pb::Permission, limits: Limits, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let limits = limits.below(cx)?;
    let Some(rule) = &config.rule else { return Err(cx.error_hint("has no rule", "set any: true for everything")) };
    #[allow(deprecated)]
    match rule {
        Permission::AndRules(set) => permissions(set, limits, &mut cx.field("and_rules")).map(Rule::All),
        Permission::OrRules(set) => permissions(set, limits, &mut cx.field("or_rules")).map(Rule::OneOf),
        Permission::NotRule(rule) => Ok(Rule::Not(Box::new(permission(rule, limits, &mut cx.field("not_rule"))?))),
        Permission::Any(any) => self::any(*any, cx),
        Permission::Header(config) => header(config, limits, &mut cx.field("header")),
        Permission::UrlPath(config) => url_path(config, limits, &mut cx.field("url_path")),
        Permission::UriTemplate(config) => uri_template(config, limits, &mut cx.field("uri_template")),
        Permission::DestinationIp(range) => {
            Ok(Rule::Ip(AddressOf::Destination, cidr(range, &mut cx.field("destination_ip"))?))
        }
        Permission::DestinationPort(port) if *port <= 65535 => Ok(Rule::Port(*port..*port + 1)),
        Permission::DestinationPort(port) => {
            Err(cx.field("destination_port").error(format!("found {port}, expected 0 to 65535")))
        }
        Permission::DestinationPortRange(range) => {
            port_range(range.start, range.end, &mut cx.field("destination_port_range"))
        }
        Permission::Metadata(config) => metadata(config, &mut cx.field("metadata")).map(Rule::Metadata),
        Permission::SourcedMetadata(config) => sourced_metadata(config, &mut cx.field("sourced_metadata")),
        Permission::RequestedServerName(config) => {
            lower::string(config, &mut cx.field("requested_server_name")).map(Rule::ServerName)
        }
        Permission::Matcher(config) => upstream(config, &mut cx.field("matcher")),
    }
}

fn permissions(set: &pb::permission::Set, limits: Limits, cx: &mut Compile<'_>) -> Result<Box<[Rule]>, Invalid> {
    if set.rules.is_empty() {
        return Err(cx.field("rules").error("is empty"));
    }
    lower::list(&set.rules, "rules", cx, |rule, cx| permission(rule, limits, cx)).map(Vec::into_boxed_slice)
}

fn principal(config: &pb::Principal, limits: Limits, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let limits = limits.below(cx)?;
    let Some(identifier) = &config.identifier else {
        return Err(cx.error_hint("has no identifier", "set any: true for everybody"));
    };
    let ip = |of, range, mut cx: Compile<'_>| Ok(Rule::Ip(of, cidr(range, &mut cx)?));
    #[allow(deprecated)]
    match identifier {
        Identifier::AndIds(set) => principals(set, limits, &mut cx.field("and_ids")).map(Rule::All),
        Identifier::OrIds(set) => principals(set, limits, &mut cx.field("or_ids")).map(Rule::OneOf),
        Identifier::NotId(id) => Ok(Rule::Not(Box::new(principal(id, limits, &mut cx.field("not_id"))?))),
        Identifier::Any(any) => self::any(*any, cx),
        Identifier::Authenticated(config) => {
            let mut cx = cx.field("authenticated");
            let name = config.principal_name.as_ref();
            let name = name.map(|name| lower::string(name, &mut cx.field("principal_name"))).transpose()?;
            Ok(Rule::Authenticated(name))
        }
        Identifier::SourceIp(range) => ip(AddressOf::Connection, range, cx.field("source_ip")),
        Identifier::DirectRemoteIp(range) => ip(AddressOf::Connection, range, cx.field("direct_remote_ip")),
        Identifier::RemoteIp(range) => ip(AddressOf::Client, range, cx.field("remote_ip")),
        Identifier::Header(config) => header(config, limits, &mut cx.field("header")),
        Identifier::UrlPath(config) => url_path(config, limits, &mut cx.field("url_path")),
        Identifier::Metadata(config) => metadata(config, &mut cx.field("metadata")).map(Rule::Metadata),
        Identifier::SourcedMetadata(config) => sourced_metadata(config, &mut cx.field("sourced_metadata")),
        Identifier::FilterState(config) => filter_state(config, &mut cx.field("filter_state")),
        Identifier::Custom(config) => mtls_authenticated(config, &mut cx.field("custom")),
    }
}

fn principals(set: &pb::principal::Set, limits: Limits, cx: &mut Compile<'_>) -> Result<Box<[Rule]>, Invalid> {
    if set.ids.is_empty() {
        return Err(cx.field("ids").error("is empty"));
    }
    lower::list(&set.ids, "ids", cx, |id, cx| principal(id, limits, cx)).map(Vec::into_boxed_slice)
}

fn any(any: bool, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    if any { Ok(Rule::Any) } else { Err(cx.field("any").error("found false, expected true")) }
}

fn header(config: &PbHeaderMatcher, limits: Limits, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    if limits.place == Place::Network {
        let text = format!("Found header({}) rule,not supported by RBAC network filter", config.name);
        return Err(cx.error_hint(text, "use the HTTP filter envoy.filters.http.rbac"));
    }
    lower::header(config, cx).map(Rule::Header)
}

/// A connection has no path: nothing matches, as in Envoy.
fn warn_of_path(limits: Limits, cx: &mut Compile<'_>) {
    if limits.place == Place::Network {
        cx.warn_hint("matches no connection: there is no path", "use the HTTP filter envoy.filters.http.rbac");
    }
}

fn url_path(config: &pb_matcher::PathMatcher, limits: Limits, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    warn_of_path(limits, cx);
    let Some(pb_matcher::path_matcher::Rule::Path(path)) = &config.rule else {
        return Err(cx.field("path").error("is required"));
    };
    let mut cx = cx.field("path");
    let spec = cx.check(lower::string_spec(path))?;
    // Errors name their field below `path` already.
    cx.check(PathMatcher::new(&spec)).map(Rule::UrlPath)
}

fn uri_template(config: &TypedExtensionConfig, limits: Limits, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    warn_of_path(limits, cx);
    let any = config.typed_config.as_ref().filter(|any| message_of(any) == UriTemplateMatchConfig::full_name());
    let Some(any) = any else {
        let text = format!("the path matcher {} is not built", config.name);
        return Err(cx.error_hint(text, "envoy.path.match.uri_template.uri_template_matcher is"));
    };
    let mut cx = cx.field("typed_config");
    let UriTemplateMatchConfig { path_template } = cx.decode(any)?;
    UriTemplate::new(&path_template).map(Rule::UriTemplate).map_err(|error| cx.field("path_template").error(error))
}

fn cidr(range: &PbCidrRange, cx: &mut Compile<'_>) -> Result<CidrRange, Invalid> {
    lower::cidr(&range.address_prefix, range.prefix_len.map_or(0, |length| length.value), cx)
}

fn port_range(start: i32, end: i32, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    match (u32::try_from(start), u32::try_from(end)) {
        (Ok(start), _) if start > 65536 => Err(cx.error(format!("range start {start} is out of bounds"))),
        (_, Ok(end)) if end > 65536 => Err(cx.error(format!("range end {end} is out of bounds"))),
        (Err(_), _) => Err(cx.error(format!("range start {start} is out of bounds"))),
        (_, Err(_)) => Err(cx.error(format!("range end {end} is out of bounds"))),
        (Ok(start), Ok(end)) if start < end => Ok(Rule::Port(start..end)),
        (Ok(start), Ok(end)) => {
            Err(cx.error(format!("range start {start} cannot be greater or equal than range end {end}")))
        }
    }
}

fn metadata(config: &pb_matcher::MetadataMatcher, cx: &mut Compile<'_>) -> Result<MetadataMatcher, Invalid> {
    lower::metadata_matcher(config, cx)
}

fn sourced_metadata(config: &pb::SourcedMetadata, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let Some(wanted) = &config.metadata_matcher else { return Err(cx.field("metadata_matcher").error("is required")) };
    let wanted = metadata(wanted, &mut cx.field("metadata_matcher"))?;
    Ok(match config.metadata_source() {
        pb::MetadataSource::Dynamic => Rule::Metadata(wanted),
        pb::MetadataSource::Route => Rule::RouteMetadata(wanted),
    })
}

fn filter_state(config: &pb_matcher::FilterStateMatcher, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let spec = lower::filter_state_spec(config, cx)?;
    cx.check(FilterStateMatcher::new(&spec)).map(Rule::FilterState)
}

fn mtls_authenticated(config: &TypedExtensionConfig, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let any = config.typed_config.as_ref().filter(|any| message_of(any) == MtlsConfig::full_name());
    let Some(any) = any else {
        let text = format!("the principal {} is not built", config.name);
        return Err(cx.error_hint(text, "envoy.rbac.principals.mtls_authenticated is"));
    };
    let mut cx = cx.field("typed_config");
    let MtlsConfig { san_matcher, any_validated_client_certificate } = cx.decode(any)?;
    let Some(wanted) = san_matcher else {
        if any_validated_client_certificate {
            return Ok(Rule::MtlsAuthenticated(MtlsAuthenticated { name: None }));
        }
        let hint = "set any_validated_client_certificate: true for any certificate";
        return Err(cx.error_hint("envoy.rbac.principals.mtls_authenticated did not have any configuration", hint));
    };
    if any_validated_client_certificate {
        let text = "any_validated_client_certificate and san_matcher exclude each other";
        return Err(cx.error_hint(text, "remove one of them"));
    }
    let mut cx = cx.field("san_matcher");
    let kind = match wanted.san_type() {
        SanType::Email => NameKind::Email,
        SanType::Dns => NameKind::Dns,
        SanType::Uri => NameKind::Uri,
        SanType::IpAddress => NameKind::Ip,
        SanType::OtherName if wanted.oid.is_empty() => NameKind::Other,
        SanType::OtherName => return Err(cx.refuse("oid", "names of other kinds would match")),
        SanType::Unspecified => return Err(cx.field("san_type").error("is required")),
    };
    let Some(text) = &wanted.matcher else { return Err(cx.field("matcher").error("is required")) };
    let text = lower::string(text, &mut cx.field("matcher"))?;
    Ok(Rule::MtlsAuthenticated(MtlsAuthenticated { name: Some((kind, text)) }))
}

fn upstream(config: &TypedExtensionConfig, cx: &mut Compile<'_>) -> Result<Rule, Invalid> {
    let any = config.typed_config.as_ref().filter(|any| message_of(any) == UpstreamIpPortMatcher::full_name());
    let Some(any) = any else {
        let text = format!("the matcher {} is not built", config.name);
        return Err(cx.error_hint(text, "envoy.rbac.matchers.upstream_ip_port is"));
    };
    let mut cx = cx.field("typed_config");
    let UpstreamIpPortMatcher { upstream_ip, upstream_port_range } = cx.decode(any)?;
    if upstream_ip.is_none() && upstream_port_range.is_none() {
        let text = "Invalid UpstreamIpPortMatcher configuration - missing `upstream_ip` and/or `upstream_port_range`";
        return Err(cx.error(text));
    }
    let ip = upstream_ip.map(|range| cidr(&range, &mut cx.field("upstream_ip"))).transpose()?;
    Ok(Rule::Upstream { ip, ports: upstream_port_range.map(|range| range.start..range.end) })
}
