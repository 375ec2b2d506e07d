//! `envoy.filters.network.local_ratelimit`: connections beyond the rate are closed.

use super::token_bucket::TokenBucket;
use nuncio_api::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit;
use nuncio_config::compile::{Compile, Invalid, NetworkExtension, NetworkFactory};
use nuncio_config::lower;
use nuncio_filter::{Connection, NetworkFilter, NetworkFilterFactory, OpenStep, Worker};
use nuncio_stats::names::LocalRateLimitStats;
use nuncio_stream_info::ResponseFlags;
use std::rc::Rc;
use std::sync::Arc;

/// The extension.
pub struct LocalRateLimitExtension;

impl NetworkExtension for LocalRateLimitExtension {
    type Config = LocalRateLimit;
    const NAME: &'static str = "envoy.filters.network.local_ratelimit";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        let LocalRateLimit { stat_prefix, token_bucket, runtime_enabled, share_key } = config;
        let Some(bucket) = token_bucket else { return Err(cx.field("token_bucket").error("is required")) };
        cx.unsupported_if(!share_key.is_empty(), "share_key");
        let interval = bucket.fill_interval.as_ref().and_then(lower::duration);
        let Some(interval) = interval else {
            return Err(cx.field("token_bucket").error("fill_interval is required"));
        };
        let per_fill = bucket.tokens_per_fill.map_or(1, |value| value.value);
        let enabled = runtime_enabled.as_ref().map(|flag| {
            let default = flag.default_value.as_ref().is_none_or(|value| value.value);
            (flag.runtime_key.clone(), default)
        });
        let prefix = nuncio_stats::sanitize(&stat_prefix);
        let scope = cx.store.scope(&format!("local_rate_limit.{prefix}"), &[]);
        let shared = Shared {
            bucket: TokenBucket::new(bucket.max_tokens, per_fill, interval),
            enabled,
            stats: LocalRateLimitStats::register(&scope),
        };
        Ok(NetworkFactory::Filter(Arc::new(Factory(Arc::new(shared)))))
    }
}

struct Shared {
    bucket: TokenBucket,
    enabled: Option<(String, bool)>,
    stats: LocalRateLimitStats,
}

struct Factory(Arc<Shared>);

impl NetworkFilterFactory for Factory {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn NetworkFilter> {
        Box::new(Filter(Arc::clone(&self.0)))
    }
}

struct Filter(Arc<Shared>);

impl NetworkFilter for Filter {
    fn on_open(&mut self, connection: &Connection) -> OpenStep {
        let Filter(shared) = self;
        if let Some((key, default)) = &shared.enabled
            && !connection.worker.with_runtime(|runtime| runtime.boolean(key, *default))
        {
            return OpenStep::Next;
        }
        if shared.bucket.take(connection.worker.now()) {
            return OpenStep::Next;
        }
        shared.stats.rate_limited().inc();
        if let Some(log) = &connection.log {
            // The flag that Envoy gives to connections over the limit.
            log.note(|info| info.flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED));
        }
        OpenStep::Close("local_ratelimit_close_over_limit")
    }
}
