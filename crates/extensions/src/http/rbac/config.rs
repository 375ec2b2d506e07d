//! `envoy.extensions.filters.http.rbac.v3`.

use super::filter::{Access, Judge, Keys, Rbac as Shared, RbacFactory, RoutePolicy};
use crate::rbac::{self, Engine, Place, PolicyStats};
use nuncio_api::pb::envoy::config::rbac::v3::Rbac as Rules;
use nuncio_api::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use nuncio_api::pb::xds::r#type::matcher::v3::Matcher;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_filter::HttpFilterFactory;
use nuncio_stats::names::{RbacShadowStats, RbacStats};
use std::sync::Arc;

/// The extension.
pub struct RbacExtension;

impl HttpExtension for RbacExtension {
    type Config = Rbac;
    type PerRoute = RbacPerRoute;
    const NAME: &'static str = "envoy.filters.http.rbac";

    fn compile(config: Rbac, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let scope = cx.scope.child("rbac");
        let (own, shadow) = (scope.child(&config.rules_stat_prefix), scope.child(&config.shadow_rules_stat_prefix));
        Ok(Arc::new(RbacFactory(Arc::new(Shared {
            stats: RbacStats::register(&own),
            shadow_stats: RbacShadowStats::register(&shadow),
            policies: PolicyStats::new(&own, false),
            shadow_policies: PolicyStats::new(&shadow, true),
            access: access(&config, cx)?,
        }))))
    }

    fn compile_route(config: RbacPerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        let RbacPerRoute { rbac } = config;
        let access = access(&rbac.unwrap_or_default(), &mut cx.field("rbac"));
        Ok(Arc::new(RoutePolicy(access?)))
    }
}

fn access(config: &Rbac, cx: &mut Compile<'_>) -> Result<Access, Invalid> {
    let Rbac {
        rules,
        rules_stat_prefix,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        track_per_rule_stats,
    } = config;
    let enforced = one(rules.as_ref(), matcher.as_ref(), ["rules", "matcher"], cx);
    let shadow = one(shadow_rules.as_ref(), shadow_matcher.as_ref(), ["shadow_rules", "shadow_matcher"], cx);
    Ok(Access {
        enforced: Judge { engine: enforced?, keys: Keys::new(rules_stat_prefix, "enforced") },
        shadow: Judge { engine: shadow?, keys: Keys::new(shadow_rules_stat_prefix, "shadow") },
        count_policies: *track_per_rule_stats,
    })
}

/// Rules or a matcher, which goes before them.
fn one(
    rules: Option<&Rules>,
    matcher: Option<&Matcher>,
    fields: [&'static str; 2],
    cx: &mut Compile<'_>,
) -> Result<Option<Engine>, Invalid> {
    let [rules_field, matcher_field] = fields;
    match (matcher, rules) {
        (Some(tree), rules) => {
            if rules.is_some() {
                cx.field(rules_field).warn_hint("has no effect beside the matcher", "remove one of them");
            }
            rbac::matcher(tree, Place::Http, &mut cx.field(matcher_field)).map(Some)
        }
        (None, Some(rules)) => rbac::engine(rules, Place::Http, &mut cx.field(rules_field)).map(Some),
        (None, None) => Ok(None),
    }
}
