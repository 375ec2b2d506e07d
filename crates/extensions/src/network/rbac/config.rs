//! `envoy.extensions.filters.network.rbac.v3.RBAC`.

use super::filter::{Access, Factory};
use crate::rbac::{self, Engine, Place};
use nuncio_api::pb::envoy::config::rbac::v3::Rbac as Rules;
use nuncio_api::pb::envoy::extensions::filters::network::rbac::v3::{Rbac, rbac::EnforcementType};
use nuncio_api::pb::xds::r#type::matcher::v3::Matcher;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_config::lower;
use nuncio_stats::names::{RbacShadowStats, RbacStats};
use std::sync::Arc;

/// The extension.
pub struct RbacExtension;

impl NetworkExtension for RbacExtension {
    type Config = Rbac;
    const NAME: &'static str = "envoy.filters.network.rbac";

    fn compile(config: Rbac, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        let continuous = config.enforcement_type() == EnforcementType::Continuous;
        let Rbac {
            rules,
            matcher,
            shadow_rules,
            shadow_matcher,
            shadow_rules_stat_prefix,
            stat_prefix,
            enforcement_type: _,
            delay_deny,
        } = config;
        if stat_prefix.is_empty() {
            return Err(cx.field("stat_prefix").error("must not be empty"));
        }
        let delay_deny = match &delay_deny {
            None => None,
            Some(delay) => match lower::duration(delay) {
                Some(delay) => Some(delay).filter(|delay| !delay.is_zero()),
                None => return Err(cx.field("delay_deny").error("is not a duration")),
            },
        };
        let prefix = nuncio_stats::sanitize(stat_prefix.trim_end_matches('.'));
        let scope = cx.store.scope(&format!("{prefix}.rbac"), &[]);
        let enforced = one(rules.as_ref(), matcher.as_ref(), ["rules", "matcher"], cx);
        let shadow = one(shadow_rules.as_ref(), shadow_matcher.as_ref(), ["shadow_rules", "shadow_matcher"], cx);
        Ok(NetworkFactory::Filter(Arc::new(Factory(Arc::new(Access {
            enforced: enforced?,
            shadow: shadow?,
            policy_key: format!("{shadow_rules_stat_prefix}shadow_effective_policy_id").into(),
            result_key: format!("{shadow_rules_stat_prefix}shadow_engine_result").into(),
            stats: RbacStats::register(&scope),
            shadow_stats: RbacShadowStats::register(&scope.child(&shadow_rules_stat_prefix)),
            continuous,
            delay_deny,
        })))))
    }
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
        (Some(tree), _) => rbac::matcher(tree, Place::Network, &mut cx.field(matcher_field)).map(Some),
        (None, Some(rules)) => rbac::engine(rules, Place::Network, &mut cx.field(rules_field)).map(Some),
        (None, None) => Ok(None),
    }
}
