//! gRPC-Web clients (browsers) in front of gRPC servers.

mod config;
mod filter;
#[cfg(test)]
mod tests;
mod text;

pub use config::GrpcWebExtension;
