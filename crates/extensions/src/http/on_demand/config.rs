//! `envoy.extensions.filters.http.on_demand.v3.OnDemand`.

use super::filter::{ClusterDiscovery, OnDemandFactory, OnDemandRoute};
use nuncio_api::pb::envoy::extensions::filters::http::on_demand::v3 as pb;
use nuncio_config::compile::{Compile, HttpExtension, Invalid, RouteConfig};
use nuncio_config::lower;
use nuncio_config::sources::{DynamicUse, OnDemandClustersUse};
use nuncio_filter::HttpFilterFactory;
use nuncio_route::OnDemand;
use std::sync::Arc;
use std::time::Duration;

/// `OnDemandCds.timeout`, where none is given.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The extension.
pub struct OnDemandExtension;

impl HttpExtension for OnDemandExtension {
    type Config = pb::OnDemand;
    type PerRoute = pb::PerRouteConfig;
    const NAME: &'static str = "envoy.filters.http.on_demand";

    fn compile(config: pb::OnDemand, cx: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        let pb::OnDemand { odcds } = config;
        Ok(Arc::new(OnDemandFactory(discovery(odcds, cx)?)))
    }

    fn compile_route(config: pb::PerRouteConfig, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        let pb::PerRouteConfig { odcds } = config;
        Ok(Arc::new(OnDemandRoute(discovery(odcds, cx)?)))
    }
}

fn discovery(odcds: Option<pb::OnDemandCds>, cx: &mut Compile<'_>) -> Result<Option<Arc<ClusterDiscovery>>, Invalid> {
    let Some(pb::OnDemandCds { source, resources_locator, timeout }) = odcds else { return Ok(None) };
    let mut cx = cx.field("odcds");
    if !resources_locator.is_empty() {
        return Err(cx.field("resources_locator").error("xdstp:// names are not built"));
    }
    let Some(source) = source else { return Err(cx.field("source").error("is required")) };
    let source = lower::config_source(&source, &mut cx.field("source"))?;
    let timeout = lower::duration_field(&timeout, "timeout", &mut cx)?.unwrap_or(TIMEOUT);
    let on_demand = Arc::new(OnDemand::default());
    let used = OnDemandClustersUse { source, on_demand: Arc::clone(&on_demand) };
    cx.references.dynamic.push(DynamicUse::OnDemandClusters(Arc::new(used)));
    Ok(Some(Arc::new(ClusterDiscovery { on_demand, timeout })))
}
