//! `ExtensionConfigSource`: filters whose configuration discovery brings.

use super::config_source;
use super::extension::unknown_here;
use crate::compile::{Compile, Entry, Facts, Invalid, NetworkFactory, message_of};
use crate::sources::{DynamicUse, ExtensionUse, LiveExtension};
use nuncio_api::pb::envoy::config::core::v3 as core;
use nuncio_api::wkt::Any;
use std::sync::Arc;

/// Notes that the filter `name` is configured by discovery, and puts its default in its place. `target` is where it stands.
pub fn discovered_extension(
    name: &str,
    discovery: &core::ExtensionConfigSource,
    target: LiveExtension,
    cx: &mut Compile<'_>,
) -> Result<(), Invalid> {
    let core::ExtensionConfigSource {
        config_source: source,
        default_config,
        apply_default_config_without_warming,
        type_urls,
    } = discovery;
    let Some(source) = source else { return Err(cx.field("config_source").error("is required")) };
    if type_urls.is_empty() {
        return Err(cx.field("type_urls").error("is empty: no configuration could be accepted"));
    }
    let source = config_source(source, &mut cx.field("config_source"))?;
    if let Some(default) = default_config {
        put(name, default, &target, true, &mut cx.field("default_config"))?;
    }
    let is_awaited = !*apply_default_config_without_warming || default_config.is_none();
    if !is_awaited {
        target.fall_back();
    }
    cx.references.dynamic.push(DynamicUse::Extension(Arc::new(ExtensionUse {
        name: name.into(),
        source,
        type_urls: type_urls.iter().map(|url| url.rsplit('/').next().unwrap_or_default().to_owned()).collect(),
        is_awaited,
        target,
        facts: Facts::clone(cx.facts),
        scope: cx.scope.clone(),
    })));
    Ok(())
}

/// A configuration that discovery brought, put in force.
pub(super) fn apply(
    used: &ExtensionUse,
    config: &core::TypedExtensionConfig,
    cx: &mut Compile<'_>,
) -> Result<(), Invalid> {
    let Some(any) = &config.typed_config else { return Err(cx.field("typed_config").error("is required")) };
    let message = message_of(any);
    if !used.type_urls.iter().any(|url| url == message) {
        let expected = used.type_urls.join(", ");
        return Err(cx.field("typed_config").error(format!("has the type {message}, expected {expected}")));
    }
    put(&used.name, any, &used.target, false, &mut cx.field("typed_config"))
}

fn put(name: &str, any: &Any, target: &LiveExtension, as_default: bool, cx: &mut Compile<'_>) -> Result<(), Invalid> {
    let registry = cx.registry;
    let message = message_of(any);
    match target {
        LiveExtension::Http(live) => {
            let Some(entry) = registry.http.iter().find(|entry| entry.config == message) else {
                let known = registry.http.iter().map(|entry| entry.config.as_str());
                return Err(unknown_here(name, message, known, "HTTP filter", cx));
            };
            let factory = (entry.compile)(any, cx)?;
            if as_default { live.set_default(factory) } else { live.set(factory) }
        }
        LiveExtension::Network(live) => match compile(name, any, &registry.network, "network filter", cx)? {
            NetworkFactory::Filter(factory) if as_default => live.set_default(factory),
            NetworkFactory::Filter(factory) => live.set(factory),
            NetworkFactory::Terminal(_) => return Err(cx.error("is a terminal filter, and stands before others")),
        },
        LiveExtension::Terminal(live) => match compile(name, any, &registry.network, "network filter", cx)? {
            NetworkFactory::Terminal(factory) if as_default => live.set_default(factory),
            NetworkFactory::Terminal(factory) => live.set(factory),
            NetworkFactory::Filter(_) => return Err(cx.error("is no terminal filter, and stands last")),
        },
        LiveExtension::Listener(live) => {
            let factory = compile(name, any, &registry.listener, "listener filter", cx)?;
            if as_default { live.set_default(factory) } else { live.set(factory) }
        }
    }
    Ok(())
}

fn compile<T>(name: &str, any: &Any, entries: &[Entry<T>], kind: &str, cx: &mut Compile<'_>) -> Result<T, Invalid> {
    let message = message_of(any);
    match entries.iter().find(|entry| entry.config == message) {
        Some(entry) => (entry.compile)(any, cx),
        None => Err(unknown_here(name, message, entries.iter().map(|entry| entry.config.as_str()), kind, cx)),
    }
}
