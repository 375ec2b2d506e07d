//! gRPC calls of clients that speak HTTP/1.1: the status of the call becomes one of HTTP.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::GrpcHttp1BridgeExtension;
