//! `envoy.filters.http.cors`: cross-origin resource sharing. Answers preflight requests, and tells browsers what actual
//! requests allow.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::CorsExtension;
