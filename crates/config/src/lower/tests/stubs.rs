//! Extensions that compile what lowering needs to be seen at work, and do nothing.

use crate::compile::{
    AccessLogExtension, Compile, HttpExtension, Invalid, ListenerExtension, NetworkExtension, NetworkFactory, Registry,
    RouteConfig,
};
use crate::lower;
use nuncio_api::pb::envoy::extensions as pb;
use nuncio_filter::{
    AccessLog, Connection, HttpFilterFactory, ListenerFilter, ListenerFilterFactory, NetworkFilter,
    NetworkFilterFactory, PeekStep, Peeked, TerminalFilterFactory, Worker,
};
use nuncio_stream_info::LogContext;
use pb::filters::network::http_connection_manager::v3 as hcm;
use pb::filters::network::tcp_proxy::v3 as tcp;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

pub(super) fn registry() -> Registry {
    Registry::default()
        .network::<Manager>()
        .network::<TcpProxy>()
        .network::<Rbac>()
        .network::<LocalRateLimit>()
        .listener::<OriginalDst>()
        .listener::<TlsInspector>()
        .listener::<HttpInspector>()
        .access_log::<File>()
        .http::<Cors>()
        .http::<HttpLocalRateLimit>()
}

struct Nothing;

impl TerminalFilterFactory for Nothing {
    fn serve(&self, _connection: Connection) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async {})
    }
}

impl NetworkFilter for Nothing {}

impl NetworkFilterFactory for Nothing {
    fn create(&self, _worker: &Rc<Worker>) -> Box<dyn NetworkFilter> {
        Box::new(Nothing)
    }
}

impl ListenerFilter for Nothing {
    fn max_bytes(&self) -> usize {
        0
    }

    fn peek(&mut self, _: &tokio::net::TcpStream, _: &[u8], _: bool, _: &mut Peeked) -> PeekStep {
        PeekStep::Next
    }
}

impl ListenerFilterFactory for Nothing {
    fn create(&self) -> Box<dyn ListenerFilter> {
        Box::new(Nothing)
    }
}

impl AccessLog for Nothing {
    fn log(&self, _record: &LogContext<'_>, _random: u64) {}
}

struct Manager;

impl NetworkExtension for Manager {
    type Config = hcm::HttpConnectionManager;
    const NAME: &'static str = "envoy.filters.network.http_connection_manager";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        use hcm::http_connection_manager::RouteSpecifier;
        let logs = lower::access_logs(&config.access_log, "access_log", cx);
        if let Some(RouteSpecifier::RouteConfig(routes)) = config.route_specifier {
            lower::route_config(&mut cx.field("route_config"), routes)?;
        }
        logs?;
        Ok(NetworkFactory::Terminal(Arc::new(Nothing)))
    }
}

struct TcpProxy;

impl NetworkExtension for TcpProxy {
    type Config = tcp::TcpProxy;
    const NAME: &'static str = "envoy.filters.network.tcp_proxy";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        match config.cluster_specifier {
            Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(name)) => cx.field("cluster").cluster(&name),
            Some(_) => {}
            None => return Err(cx.error("names no cluster")),
        }
        Ok(NetworkFactory::Terminal(Arc::new(Nothing)))
    }
}

struct Rbac;

impl NetworkExtension for Rbac {
    type Config = pb::filters::network::rbac::v3::Rbac;
    const NAME: &'static str = "envoy.filters.network.rbac";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        Ok(NetworkFactory::Filter(Arc::new(Nothing)))
    }
}

struct LocalRateLimit;

impl NetworkExtension for LocalRateLimit {
    type Config = pb::filters::network::local_ratelimit::v3::LocalRateLimit;
    const NAME: &'static str = "envoy.filters.network.local_ratelimit";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<NetworkFactory, Invalid> {
        Ok(NetworkFactory::Filter(Arc::new(Nothing)))
    }
}

struct OriginalDst;

impl ListenerExtension for OriginalDst {
    type Config = pb::filters::listener::original_dst::v3::OriginalDst;
    const NAME: &'static str = "envoy.filters.listener.original_dst";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        Ok(Arc::new(Nothing))
    }
}

struct TlsInspector;

impl ListenerExtension for TlsInspector {
    type Config = pb::filters::listener::tls_inspector::v3::TlsInspector;
    const NAME: &'static str = "envoy.filters.listener.tls_inspector";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        Ok(Arc::new(Nothing))
    }
}

struct HttpInspector;

impl ListenerExtension for HttpInspector {
    type Config = pb::filters::listener::http_inspector::v3::HttpInspector;
    const NAME: &'static str = "envoy.filters.listener.http_inspector";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<Arc<dyn ListenerFilterFactory>, Invalid> {
        Ok(Arc::new(Nothing))
    }
}

struct File;

impl AccessLogExtension for File {
    type Config = pb::access_loggers::file::v3::FileAccessLog;
    const NAME: &'static str = "envoy.access_loggers.file";

    fn compile(config: Self::Config, cx: &mut Compile<'_>) -> Result<Arc<dyn AccessLog>, Invalid> {
        use pb::access_loggers::file::v3::file_access_log::AccessLogFormat;
        if let Some(AccessLogFormat::LogFormat(format)) = &config.access_log_format {
            lower::format_string(format, &mut cx.field("log_format"))?;
        }
        Ok(Arc::new(Nothing))
    }
}

/// Takes a policy that allows credentials to be a mistake, so that tests see errors of extensions.
struct Cors;

impl HttpExtension for Cors {
    type Config = pb::filters::http::cors::v3::Cors;
    type PerRoute = pb::filters::http::cors::v3::CorsPolicy;
    const NAME: &'static str = "envoy.filters.http.cors";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        Err(Invalid)
    }

    fn compile_route(config: Self::PerRoute, cx: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        match config.allow_credentials {
            Some(_) => Err(cx.field("allow_credentials").error("refused")),
            None => Ok(Arc::new(config.max_age)),
        }
    }
}

struct HttpLocalRateLimit;

impl HttpExtension for HttpLocalRateLimit {
    type Config = pb::filters::http::local_ratelimit::v3::LocalRateLimit;
    type PerRoute = Self::Config;
    const NAME: &'static str = "envoy.filters.http.local_ratelimit";

    fn compile(_: Self::Config, _: &mut Compile<'_>) -> Result<Arc<dyn HttpFilterFactory>, Invalid> {
        Err(Invalid)
    }

    fn compile_route(_: Self::PerRoute, _: &mut Compile<'_>) -> Result<RouteConfig, Invalid> {
        Ok(Arc::new(()))
    }
}
