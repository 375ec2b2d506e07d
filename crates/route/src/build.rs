//! Compiling a [`RouteConfigSpec`] into a [`RouteTable`]. Every error is found in one go; messages are Envoy's where Envoy has
//! one, followed by what to do.

mod action;
mod cx;
mod forward;
mod matching;
mod retry;

pub use cx::BuildError;

use crate::host::HostIndexBuilder;
use crate::index::{PathIndex, PathIndexBuilder};
use crate::mutate::{HeaderAddition, HeaderMutations, HeaderValue};
use crate::per_filter::PerFilter;
use crate::policy::{HashPolicy, MirrorPolicy};
use crate::retry::RetryPolicy;
use crate::rewrite::Matched;
use crate::route::{Extras, Route, RouteConfig, VirtualCluster, VirtualHost};
use crate::spec::{
    HeaderMutationsSpec, HeaderValueOptionSpec, PerFilterSpec, RouteConfigSpec, RouteInput, RouteSpec, VirtualHostSpec,
};
use crate::table::{HostRoutes, Lists, RouteList, RouteTable};
use crate::{LegacyFilters, spec};
use cx::Build;
use nuncio_headers::HeaderName;
use nuncio_matcher::{MatchTree, Side, is_inline};
use nuncio_stream_info::{Format, FormatOptions, RouteInfo, VirtualHostInfo};
use std::sync::{Arc, OnceLock};

/// Longest value of a header to add, in bytes (`HeaderValue.value`).
const MAX_HEADER_VALUE: usize = 16384;
/// Routes of one virtual host: the index keeps their numbers in 30 bits.
const MAX_ROUTES: usize = 1 << 30;

/// Compiles.
pub(crate) fn build(spec: RouteConfigSpec, options: &FormatOptions<'_>) -> Result<RouteTable, Vec<BuildError>> {
    let mut cx = Build::new(options, spec.ignore_path_parameters_in_path_matching);
    let table = route_config(&mut cx, spec);
    let (errors, warnings) = cx.finish();
    match table {
        Some(mut table) if errors.is_empty() => {
            table.warnings = warnings.into();
            Ok(table)
        }
        _ => Err(errors),
    }
}

/// Compiles header changes that belong to no route.
pub(crate) fn edits(
    spec: HeaderMutationsSpec,
    side: Side,
    options: &FormatOptions<'_>,
) -> Result<HeaderMutations, Vec<BuildError>> {
    let mut cx = Build::new(options, false);
    let compiled = mutations(&mut cx, side, spec);
    let (errors, _) = cx.finish();
    if errors.is_empty() { Ok(compiled) } else { Err(errors) }
}

/// Compiles hash policies that belong to no route. Errors name fields as in a route: `hash_policy[0].header.header_name`.
pub(crate) fn hash_policies(specs: Vec<spec::HashPolicySpec>) -> Result<Box<[HashPolicy]>, Vec<BuildError>> {
    let options = FormatOptions::default();
    let mut cx = Build::new(&options, false);
    let compiled = forward::hash_policies(&mut cx, specs);
    let (errors, _) = cx.finish();
    compiled.filter(|_| errors.is_empty()).ok_or(errors)
}

fn route_config(cx: &mut Build<'_>, spec: RouteConfigSpec) -> Option<RouteTable> {
    let config = Arc::new(RouteConfig {
        name: spec.name.as_str().into(),
        metadata: spec.metadata,
        request: mutations(cx, Side::Request, spec.request_headers),
        response: mutations(cx, Side::Response, spec.response_headers),
        per_filter: per_filter(cx, spec.per_filter),
        internal_only_headers: header_names(cx, "internal_only_headers", &spec.internal_only_headers),
        least_specific_first: spec.most_specific_header_mutations_wins,
    });
    let mirrors = forward::mirrors(cx, spec.mirror_policies);
    let vhost_header = match spec.vhost_header.as_str() {
        "" => None,
        name => cx.within("vhost_header", |cx| cx.header_name(name)),
    };
    let mut hosts = HostIndexBuilder::default();
    let mut virtual_hosts = Vec::with_capacity(spec.virtual_hosts.len());
    for (at, host) in spec.virtual_hosts.into_iter().enumerate() {
        cx.within_item("virtual_hosts", at, |cx| {
            cx.within("domains", |cx| domains(cx, &mut hosts, &host, at, &spec.name));
            virtual_hosts.extend(virtual_host(cx, host, &config, &mirrors));
        });
    }
    let hosts = hosts.build().or_else(|| cx.error("more domains than can be indexed"))?;
    Some(RouteTable {
        config,
        hosts,
        virtual_hosts: virtual_hosts.into(),
        vhost_header,
        ignore_port: spec.ignore_port_in_host_matching,
        ignore_path_parameters: spec.ignore_path_parameters_in_path_matching,
        warnings: Box::default(),
        discovery: OnceLock::new(),
    })
}

fn domains(cx: &mut Build<'_>, hosts: &mut HostIndexBuilder, host: &VirtualHostSpec, at: usize, config: &str) {
    if host.domains.is_empty() {
        cx.error::<()>("must have at least one domain; `*` is every host");
    }
    for (n, domain) in host.domains.iter().enumerate() {
        let Err(taken) = hosts.add(domain, u32::try_from(at).unwrap_or(u32::MAX)) else { continue };
        let by = match taken.by as usize {
            by if by == at => "it is in this virtual host already".to_owned(),
            by => format!("virtual_hosts[{by}] has it already"),
        };
        cx.within_index(n, |cx| match domain.as_str() {
            "*" => cx.error::<()>(format!("Only a single wildcard domain is permitted in route {config}; {by}")),
            domain => cx.error(format!(
                "Only unique values for domains are permitted. Duplicate entry of domain {} in route {config}; {by}",
                domain.to_ascii_lowercase()
            )),
        });
    }
}

fn virtual_host(
    cx: &mut Build<'_>,
    spec: VirtualHostSpec,
    config: &Arc<RouteConfig>,
    mirrors: &Arc<[MirrorPolicy]>,
) -> Option<HostRoutes> {
    if spec.name.is_empty() {
        cx.within("name", |cx| cx.error::<()>("must not be empty"));
    }
    let retry = spec.retry_policy.and_then(|policy| cx.within("retry_policy", |cx| retry::policy(cx, policy)));
    let own_mirrors = forward::mirrors(cx, spec.mirror_policies);
    let legacy = (spec.cors.is_some() || spec.rate_limits.is_some()).then(|| {
        Box::new(LegacyFilters { cors: spec.cors, rate_limits: spec.rate_limits, include_vh_rate_limits: false })
    });
    let info = Arc::new(VirtualHostInfo { name: spec.name.as_str().into(), metadata: spec.metadata });
    let virtual_host = Arc::new(VirtualHost {
        info: info.clone(),
        config: config.clone(),
        require_tls: spec.require_tls,
        request: mutations(cx, Side::Request, spec.request_headers),
        response: mutations(cx, Side::Response, spec.response_headers),
        per_filter: per_filter(cx, spec.per_filter),
        virtual_clusters: virtual_clusters(cx, spec.virtual_clusters),
        request_body_buffer_limit: spec.request_body_buffer_limit,
        include_request_attempt_count: spec.include_request_attempt_count,
        include_attempt_count_in_response: spec.include_attempt_count_in_response,
        include_is_timeout_retry_header: spec.include_is_timeout_retry_header,
        legacy,
    });
    let inherited = Inherited {
        unnamed: Arc::new(RouteInfo { name: Arc::default(), metadata: None, virtual_host: info }),
        virtual_host,
        retry: retry.map(Arc::new),
        mirrors: if own_mirrors.is_empty() { mirrors.clone() } else { own_mirrors },
    };
    let mut compiled = Vec::new();
    let lists = match spec.matcher {
        None => Lists::One(route_list(cx, spec.routes, &inherited, &mut compiled)?),
        Some(_) if !spec.routes.is_empty() => {
            return cx.error("cannot set both matcher and routes on virtual host");
        }
        Some(tree) => cx.within("matcher", |cx| route_tree(cx, tree, &inherited, &mut compiled))?,
    };
    Some(HostRoutes { virtual_host: inherited.virtual_host, routes: compiled.into(), lists })
}

/// What routes get from their virtual host.
struct Inherited {
    virtual_host: Arc<VirtualHost>,
    /// Shared by the routes that have neither name nor metadata.
    unnamed: Arc<RouteInfo>,
    retry: Option<Arc<RetryPolicy>>,
    mirrors: Arc<[MirrorPolicy]>,
}

/// `matcher`: every action is a list of routes.
fn route_tree(
    cx: &mut Build<'_>,
    tree: MatchTree<RouteInput, Vec<RouteSpec>>,
    inherited: &Inherited,
    compiled: &mut Vec<Arc<Route>>,
) -> Option<Lists> {
    cx.check(tree.check())?;
    let (mut actions, mut complete) = (0, true);
    let tree = tree.map(&mut |specs| {
        let list = cx.within_item("action", actions, |cx| route_list(cx, specs, inherited, compiled));
        actions += 1;
        complete &= list.is_some();
        list.unwrap_or_else(|| RouteList { index: PathIndex::default(), connect: Box::default() })
    });
    complete.then(|| Lists::Tree(Box::new(tree)))
}

fn route_list(
    cx: &mut Build<'_>,
    specs: Vec<RouteSpec>,
    inherited: &Inherited,
    compiled: &mut Vec<Arc<Route>>,
) -> Option<RouteList> {
    if compiled.len().saturating_add(specs.len()) > MAX_ROUTES {
        return cx.error(format!("more than {MAX_ROUTES} routes"));
    }
    let mut index = PathIndexBuilder::default();
    let mut connect = Vec::new();
    compiled.reserve_exact(specs.len());
    for (at, spec) in specs.into_iter().enumerate() {
        let Some((route, key)) = cx.within_item("routes", at, |cx| route(cx, spec, inherited)) else { continue };
        let at = u32::try_from(compiled.len()).ok()?;
        index.add(&key.bytes, key.fit, key.case_sensitive, at);
        if route.conditions.as_ref().is_some_and(|conditions| conditions.connect) {
            connect.push(at);
        }
        compiled.push(Arc::new(route));
    }
    let index = index.build().or_else(|| cx.error("more routes than can be indexed"))?;
    Some(RouteList { index, connect: connect.into() })
}

fn route(cx: &mut Build<'_>, spec: RouteSpec, inherited: &Inherited) -> Option<(Route, matching::Key)> {
    let template = match &spec.matching.path {
        spec::PathSpec::UriTemplate(template) => Some(template.clone()),
        _ => None,
    };
    let matched = cx.within("match", |cx| matching::compile(cx, spec.matching));
    let of_path = action::PathMatch {
        template: template.as_deref(),
        matched: matched.as_ref().map_or(Matched::Path, |compiled| compiled.matched.clone()),
    };
    let action = action::compile(cx, spec.action, of_path, inherited);
    let info = match spec.name.is_empty() && spec.metadata.is_none() {
        true => inherited.unnamed.clone(),
        false => Arc::new(RouteInfo {
            name: spec.name.as_str().into(),
            metadata: spec.metadata,
            virtual_host: inherited.virtual_host.info.clone(),
        }),
    };
    let plain = spec.decorator.is_none()
        && spec.tracing.is_none()
        && spec.stat_prefix.is_empty()
        && spec.request_body_buffer_limit.is_none();
    let extras = (!plain).then(|| {
        Box::new(Extras {
            decorator: spec.decorator,
            tracing: spec.tracing,
            stat_prefix: spec.stat_prefix.as_str().into(),
            stats: OnceLock::new(),
            request_body_buffer_limit: spec.request_body_buffer_limit,
        })
    });
    let request = mutations(cx, Side::Request, spec.request_headers);
    let response = mutations(cx, Side::Response, spec.response_headers);
    let per_filter = per_filter(cx, spec.per_filter);
    let matched = matched?;
    let route = Route {
        info,
        virtual_host: inherited.virtual_host.clone(),
        action: action?,
        regex: matched.regex,
        conditions: matched.conditions,
        request,
        response,
        per_filter,
        extras,
    };
    Some((route, matched.key))
}

fn virtual_clusters(cx: &mut Build<'_>, specs: Vec<spec::VirtualClusterSpec>) -> Box<[VirtualCluster]> {
    let mut compiled = Vec::with_capacity(specs.len());
    for (at, spec) in specs.into_iter().enumerate() {
        cx.within_item("virtual_clusters", at, |cx| {
            if spec.headers.is_empty() {
                return cx.error::<()>("virtual clusters must define 'headers'");
            }
            let headers = cx.header_matchers("headers", &spec.headers)?;
            compiled.push(VirtualCluster::new(&spec.name, headers));
            Some(())
        });
    }
    if !compiled.is_empty() {
        compiled.push(VirtualCluster::new(VirtualCluster::OTHER, Box::default()));
    }
    compiled.into()
}

/// `typed_per_filter_config`: a name that occurs twice is an error, since one of the two would be lost.
fn per_filter(cx: &mut Build<'_>, entries: Vec<PerFilterSpec>) -> PerFilter {
    for (at, entry) in entries.iter().enumerate() {
        if entries.iter().take(at).any(|before| before.name == entry.name) {
            cx.within("typed_per_filter_config", |cx| cx.error::<()>(format!("{} occurs twice", entry.name)));
        }
    }
    PerFilter::new(entries)
}

fn header_names(cx: &mut Build<'_>, field: &str, names: &[String]) -> Box<[HeaderName]> {
    let mut compiled = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        compiled.extend(cx.within_item(field, at, |cx| cx.header_name(name)));
    }
    compiled.into()
}

/// `request_headers_to_add` and its kin.
fn mutations(cx: &mut Build<'_>, side: Side, spec: HeaderMutationsSpec) -> HeaderMutations {
    let message = match side {
        Side::Request => "request",
        Side::Response => "response",
    };
    let mut add = Vec::with_capacity(spec.add.len());
    for (at, option) in spec.add.into_iter().enumerate() {
        add.extend(cx.within_item(&format!("{message}_headers_to_add"), at, |cx| addition(cx, side, option)));
    }
    let mut remove = Vec::with_capacity(spec.remove.len());
    for (at, name) in spec.remove.iter().enumerate() {
        remove.extend(cx.within_item(&format!("{message}_headers_to_remove"), at, |cx| {
            if !is_modifiable(name) {
                return cx.error(":-prefixed or host headers may not be removed");
            }
            cx.header_name(name)
        }));
    }
    HeaderMutations { add: add.into(), remove: remove.into() }
}

fn addition(cx: &mut Build<'_>, side: Side, option: HeaderValueOptionSpec) -> Option<HeaderAddition> {
    let name = cx.within("header.key", |cx| {
        if !is_modifiable(&option.name) {
            return cx.error(
                ":-prefixed or host headers may not be modified; use prefix_rewrite or host_rewrite_literal of the route",
            );
        }
        cx.header_name(&option.name)
    });
    let value = cx.within("header.value", |cx| header_value(cx, &option.value));
    let name = name?;
    let joins = is_inline(side, name.as_str());
    Some(HeaderAddition {
        name,
        value: value?,
        action: option.append_action,
        keep_empty_value: option.keep_empty_value,
        joins,
    })
}

fn header_value(cx: &mut Build<'_>, text: &str) -> Option<HeaderValue> {
    if text.len() > MAX_HEADER_VALUE {
        return cx.error(format!("has {} bytes; {MAX_HEADER_VALUE} is the most", text.len()));
    }
    if let Some(bad) = text.bytes().find(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return cx.error(format!("holds the byte {bad:#04x}, which no header value may hold"));
    }
    if !text.contains('%') {
        return Some(HeaderValue::Literal(text.as_bytes().into()));
    }
    match Format::text(text, cx.formats()) {
        Ok(format) => Some(match format.constant() {
            Some(literal) => HeaderValue::Literal(literal.as_bytes().into()),
            None => HeaderValue::Format(Box::new(format)),
        }),
        Err(error) => cx.error(error.to_string()),
    }
}

fn is_modifiable(name: &str) -> bool {
    !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}
