//! `envoy.extensions.filters.http.lua.v3.Lua` and `LuaPerRoute`.

use super::filter::{LuaConfig, LuaFactory, LuaRoute, Source, interest};
use super::script::{Script, add_route_hooks};
use super::vm;
use nuncio_api::pb::envoy::config::core::v3::DataSource;
use nuncio_api::pb::envoy::extensions::filters::http::lua::v3::{Lua, LuaPerRoute, lua_per_route::Override};
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_filter::{HttpFilterFactory, Interest};
use nuncio_stats::names::{LuaProcessStats, LuaStats};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The extension's well-known name; metadata for scripts may stand under it.
pub(super) const NAME: &str = "envoy.filters.http.lua";

/// The extension.
pub struct LuaExtension;

impl HttpExtension for LuaExtension {
    type Config = Lua;
    type PerRoute = LuaPerRoute;
    const NAME: &'static str = NAME;

    #[allow(deprecated)]
    fn compile(config: Lua, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let Lua {
            inline_code,
            source_codes,
            default_source_code,
            stat_prefix,
            clear_route_cache,
            filter_context,
            package_paths,
            package_cpaths,
        } = config;
        let path = search_path(&package_paths, &package_cpaths, cx);
        let default = default_script(&inline_code, default_source_code.as_ref(), &path, cx);
        let named = named_scripts(&source_codes.iter().collect(), &path, cx);
        let (default, named) = (default?, named?);
        let scope = cx.scope.child("lua");
        let scope = if stat_prefix.is_empty() { scope } else { scope.child(&stat_prefix) };
        let hooks = default.iter().chain(named.values()).map(|script| interest(script.hooks));
        let interest = hooks.fold(Interest::NONE, Interest::and);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config = LuaConfig {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            default,
            named,
            context: filter_context.as_ref().map(|context| Arc::new(lower::structure(context))),
            clear_route_cache: clear_route_cache.is_none_or(|clear| clear.value),
            stats: LuaStats::register(&scope),
            process: LuaProcessStats::register(&cx.store.scope("lua", &[])),
            scope,
            stat_names: Mutex::default(),
        };
        Ok(Arc::new(LuaFactory { config: Arc::new(config), interest }))
    }

    fn compile_route(config: LuaPerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        let LuaPerRoute { filter_context, package_paths, package_cpaths, r#override } = config;
        let path = search_path(&package_paths, &package_cpaths, cx);
        let mut route = LuaRoute {
            disabled: false,
            source: Source::Default,
            context: filter_context.as_ref().map(|context| Arc::new(lower::structure(context))),
        };
        match r#override {
            None => {}
            Some(Override::Disabled(disabled)) => route.disabled = disabled,
            Some(Override::Name(name)) => route.source = Source::Named(name.into()),
            Some(Override::SourceCode(source)) => {
                let script = source_script(&source, &path, &mut cx.field("source_code"))?;
                add_route_hooks(script.hooks);
                route.source = Source::Own(script);
            }
        }
        Ok(Arc::new(route))
    }
}

/// The patterns as the sandbox wants them: each with a semicolon behind it.
fn search_path(paths: &[String], c_paths: &[String], cx: &mut Compile<'_>) -> String {
    if !c_paths.is_empty() {
        cx.unsupported("package_cpaths");
    }
    paths.iter().flat_map(|path| [path.as_str(), ";"]).collect()
}

fn default_script(
    inline: &str,
    source: Option<&DataSource>,
    path: &str,
    cx: &mut Compile<'_>,
) -> Result<Option<Arc<Script>>, Invalid> {
    match (inline.is_empty(), source) {
        (true, None) => Ok(None),
        (true, Some(source)) => source_script(source, path, &mut cx.field("default_source_code")).map(Some),
        (false, None) => script(inline, path, &mut cx.field("inline_code")).map(Some),
        (false, Some(_)) => {
            let text = "Only one of `inline_code` or `default_source_code` can be set for the Lua filter.";
            Err(cx.field("inline_code").error_hint(text, "inline_code is deprecated: use default_source_code"))
        }
    }
}

fn named_scripts(
    sources: &BTreeMap<&String, &DataSource>,
    path: &str,
    cx: &mut Compile<'_>,
) -> Result<HashMap<String, Arc<Script>>, Invalid> {
    let mut named = HashMap::new();
    let mut failed = None;
    for (name, source) in sources {
        match source_script(source, path, &mut cx.entry("source_codes", name)) {
            Ok(script) => {
                named.insert((*name).clone(), script);
            }
            Err(invalid) => failed = Some(invalid),
        }
    }
    failed.map_or(Ok(named), Err)
}

fn source_script(source: &DataSource, path: &str, cx: &mut Compile<'_>) -> Result<Arc<Script>, Invalid> {
    let text = lower::data_source_text(source, cx)?;
    script(&text, path, cx)
}

/// A script that was run once, so that one that can't be run is found here.
fn script(text: &str, path: &str, cx: &mut Compile<'_>) -> Result<Arc<Script>, Invalid> {
    if text.contains('\0') {
        return Err(cx.error("script load error: the script holds a NUL byte"));
    }
    match vm::check(text, path) {
        Ok(hooks) => {
            if !hooks.request && !hooks.response {
                cx.warn("the script defines neither envoy_on_request() nor envoy_on_response(): it does nothing");
            }
            Ok(Script::new(text, path, hooks))
        }
        Err(message) => {
            let error = format!("script load error: {message}");
            Err(match line_of(&message).and_then(|line| Some((line, text.lines().nth(line.checked_sub(1)?)?))) {
                Some((line, code)) => cx.error_hint(error, format!("line {line} of the script is: {}", code.trim())),
                None => cx.error(error),
            })
        }
    }
}

/// The line in a message of the form `[string "…"]:12: …`.
fn line_of(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once("\"]:")?;
    rest.split(':').next()?.parse().ok()
}
