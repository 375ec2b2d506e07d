//! One directory per Envoy extension, and the registry that lists them.
//!
//! An extension is a type that implements a trait of `nuncio_config::compile`, one line in [`registry`], and an example.
//! Its `config.rs` knows the protobuf messages, its `filter.rs` does not.

pub mod access_loggers;
mod base64;
pub mod http;
mod istio;
pub mod listener;
pub mod network;
mod rbac;
#[cfg(test)]
mod testing;

use nuncio_config::compile::Registry;

/// All extensions of the program.
pub fn registry() -> Registry {
    Registry::default()
        .access_log::<access_loggers::file::File>()
        .access_log::<access_loggers::stream::Stdout>()
        .access_log::<access_loggers::stream::Stderr>()
        .http::<http::alpn::AlpnExtension>()
        .http::<http::buffer::BufferExtension>()
        .http::<http::compressor::CompressorExtension>()
        .http::<http::cors::CorsExtension>()
        .http::<http::fault::FaultExtension>()
        .http::<http::grpc_http1_bridge::GrpcHttp1BridgeExtension>()
        .http::<http::grpc_stats::GrpcStatsExtension>()
        .http::<http::grpc_web::GrpcWebExtension>()
        .http::<http::header_mutation::HeaderMutationExtension>()
        .http::<http::health_check::HealthCheckExtension>()
        .http::<http::local_ratelimit::LocalRateLimitExtension>()
        .http::<http::istio_stats::IstioStatsExtension>()
        .http::<http::lua::LuaExtension>()
        .http::<http::peer_metadata::PeerMetadataExtension>()
        .http::<http::on_demand::OnDemandExtension>()
        .http::<http::rbac::RbacExtension>()
        .listener::<listener::http_inspector::HttpInspectorExtension>()
        .listener::<listener::original_dst::OriginalDstExtension>()
        .listener::<listener::proxy_protocol::ProxyProtocolExtension>()
        .listener::<listener::tls_inspector::TlsInspectorExtension>()
        .network::<network::direct_response::DirectResponseExtension>()
        .network::<network::echo::EchoExtension>()
        .network::<network::http_connection_manager::HttpConnectionManager>()
        .network::<network::istio_stats::IstioStatsExtension>()
        .network::<network::local_ratelimit::LocalRateLimitExtension>()
        .network::<network::metadata_exchange::MetadataExchangeExtension>()
        .upstream::<network::metadata_exchange::UpstreamMetadataExchange>()
        .network::<network::rbac::RbacExtension>()
        .network::<network::tcp_proxy::TcpProxyExtension>()
}
