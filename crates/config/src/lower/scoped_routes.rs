//! `ScopedRoutes` of the HTTP connection manager, and `ScopedRouteConfiguration`.

use super::{config_source, route};
use crate::compile::{Compile, Invalid};
use crate::sources::{DynamicUse, RoutesUse, ScopesUse};
use nuncio_api::pb::envoy::config::route::v3 as pb;
use nuncio_api::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use nuncio_headers::HeaderName;
use nuncio_route::{FragmentBuilder, FragmentExtract, LiveRoutes, LiveScopes, RouteScope, RouteTable, ScopeKey};
use nuncio_stats::Scope;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A scope, as its configuration says.
#[derive(Debug)]
pub struct ScopeConfig {
    /// `name`.
    pub name: Arc<str>,
    /// `key`.
    pub key: ScopeKey,
    /// `on_demand`: its routes are subscribed to when the first request needs them. Default no.
    pub is_on_demand: bool,
    /// Where its routes are.
    pub routes: ScopedRoutes,
}

/// The routes of a scope.
#[derive(Debug)]
pub enum ScopedRoutes {
    /// `route_configuration`.
    Inline(Arc<RouteTable>),
    /// `route_configuration_name`.
    Named(Arc<str>),
}

/// `HttpConnectionManager.scoped_routes`; `manager` is `http.<stat prefix>`. What is not in the message itself is noted as needed.
pub fn scoped_routes(
    config: &hcm::ScopedRoutes,
    manager: &Scope,
    cx: &mut Compile<'_>,
) -> Result<Arc<LiveScopes>, Invalid> {
    use hcm::scoped_routes::ConfigSpecifier;
    let hcm::ScopedRoutes { name, scope_key_builder, rds_config_source, config_specifier } = config;
    let fragments = scope_key_builder.as_ref().map_or(&[][..], |builder| &builder.fragments);
    if fragments.is_empty() {
        return Err(cx.field("scope_key_builder").error("has no fragments: no request would be in a scope"));
    }
    let mut builder = Vec::with_capacity(fragments.len());
    for (index, fragment) in fragments.iter().enumerate() {
        builder.push(self::fragment(fragment, &mut cx.field("scope_key_builder").element("fragments", index))?);
    }
    let scopes = Arc::new(LiveScopes::new(builder));
    let routes_source = match rds_config_source {
        Some(source) => Some(config_source(source, &mut cx.field("rds_config_source"))?),
        None => None,
    };
    match config_specifier {
        Some(ConfigSpecifier::ScopedRouteConfigurationsList(list)) => {
            let mut configs = Vec::new();
            for (index, config) in list.scoped_route_configurations.iter().enumerate() {
                let mut cx = cx.field("scoped_route_configurations_list");
                configs.push(self::scope(config, true, &mut cx.element("scoped_route_configurations", index))?);
            }
            conflict(configs.iter()).map_err(|text| cx.field("scoped_route_configurations_list").error(text))?;
            let mut table = Vec::new();
            for config in configs {
                let routes = Arc::new(LiveRoutes::new());
                match config.routes {
                    ScopedRoutes::Inline(inline) => routes.set(Some(inline)),
                    ScopedRoutes::Named(name) => {
                        let Some(source) = &routes_source else {
                            let text = "is required: scopes name route configurations";
                            return Err(cx.field("rds_config_source").error(text));
                        };
                        let used = RoutesUse::new((name, source.clone()), Arc::clone(&routes), manager);
                        cx.references.dynamic.push(DynamicUse::Routes(Arc::new(used)));
                    }
                }
                table.push((config.key, RouteScope { name: config.name, routes }));
            }
            scopes.set(table);
        }
        Some(ConfigSpecifier::ScopedRds(hcm::ScopedRds { scoped_rds_config_source, srds_resources_locator })) => {
            let mut cx = cx.field("scoped_rds");
            if !srds_resources_locator.is_empty() {
                return Err(cx.field("srds_resources_locator").error("xdstp:// names are not built"));
            }
            let Some(source) = scoped_rds_config_source else {
                return Err(cx.field("scoped_rds_config_source").error("is required"));
            };
            let source = config_source(source, &mut cx.field("scoped_rds_config_source"))?;
            cx.references.dynamic.push(DynamicUse::Scopes(Arc::new(ScopesUse {
                name: name.as_str().into(),
                routes_source: routes_source.unwrap_or_else(|| source.clone()),
                source,
                scopes: Arc::clone(&scopes),
                scope: manager.child(&format!("scoped_rds.{}", nuncio_stats::sanitize(name))),
                manager: manager.clone(),
            })));
        }
        None => {
            let hint = "set scoped_route_configurations_list or scoped_rds";
            return Err(cx.error_hint("has no scopes", hint));
        }
    }
    Ok(scopes)
}

fn fragment(
    fragment: &hcm::scoped_routes::scope_key_builder::FragmentBuilder,
    cx: &mut Compile<'_>,
) -> Result<FragmentBuilder, Invalid> {
    use hcm::scoped_routes::scope_key_builder::fragment_builder as pb;
    use pb::header_value_extractor::{ExtractType, KvElement};
    let Some(pb::Type::HeaderValueExtractor(extractor)) = &fragment.r#type else {
        return Err(cx.error_hint("has no type", "set header_value_extractor"));
    };
    let mut cx = cx.field("header_value_extractor");
    let pb::HeaderValueExtractor { name, element_separator, extract_type } = extractor;
    let header = HeaderName::new(name).map_err(|_| cx.field("name").error("is no name of a header"))?;
    let extract = match extract_type {
        Some(ExtractType::Index(index)) => {
            if element_separator.is_empty() && *index > 0 {
                return Err(cx.field("index").error("Index > 0 for empty string element separator."));
            }
            FragmentExtract::Index(usize::try_from(*index).unwrap_or(usize::MAX))
        }
        Some(ExtractType::Element(KvElement { separator, key })) => {
            if separator.is_empty() {
                return Err(cx.field("element").field("separator").error("must not be empty"));
            }
            FragmentExtract::Element { separator: separator.as_bytes().into(), key: key.as_bytes().into() }
        }
        None => return Err(cx.error_hint("HeaderValueExtractor extract_type not set", "set index or element")),
    };
    Ok(FragmentBuilder { header, element_separator: element_separator.as_bytes().into(), extract })
}

/// A scope. Clusters that its own routes name must be there only where it stands in the configuration itself.
pub(super) fn scope(
    config: &pb::ScopedRouteConfiguration,
    is_static: bool,
    cx: &mut Compile<'_>,
) -> Result<ScopeConfig, Invalid> {
    use pb::scoped_route_configuration::key::fragment::Type;
    let pb::ScopedRouteConfiguration { on_demand, name, route_configuration_name, route_configuration, key } = config;
    let fragments = key.as_ref().map_or(&[][..], |key| &key.fragments);
    if fragments.is_empty() {
        return Err(cx.field("key").error("has no fragments"));
    }
    let routes = match (route_configuration_name.as_str(), route_configuration) {
        ("", Some(inline)) => {
            let mut cx = cx.field("route_configuration");
            ScopedRoutes::Inline(match is_static {
                true => route::route_config(&mut cx, inline.clone())?,
                false => route::discovered(inline.clone(), &mut cx)?,
            })
        }
        ("", None) => return Err(cx.error_hint("has no routes", "set route_configuration_name or route_configuration")),
        (_, Some(_)) => {
            let text = "route_configuration_name and route_configuration exclude each other";
            return Err(cx.error_hint(text, "set one of them"));
        }
        (name, None) => ScopedRoutes::Named(name.into()),
    };
    let text = |fragment: &pb::scoped_route_configuration::key::Fragment| match &fragment.r#type {
        Some(Type::StringKey(text)) => text.clone(),
        None => String::new(),
    };
    let key = fragments.iter().map(text).collect();
    Ok(ScopeConfig { name: name.as_str().into(), key, is_on_demand: *on_demand, routes })
}

/// What is wrong with scopes that are each good: two of one name, or of one key.
///
/// # Errors
/// In Envoy's words.
pub fn conflict<'a>(scopes: impl Iterator<Item = &'a ScopeConfig>) -> Result<(), String> {
    let mut names = HashSet::new();
    let mut keys: HashMap<&ScopeKey, &str> = HashMap::new();
    for scope in scopes {
        if !names.insert(&scope.name) {
            return Err(format!("duplicate scoped route configuration '{}' found", scope.name));
        }
        if let Some(first) = keys.insert(&scope.key, &scope.name) {
            return Err(format!(
                "scope key conflict found, first scope is '{first}', second scope is '{}'",
                scope.name
            ));
        }
    }
    Ok(())
}
