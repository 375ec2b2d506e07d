//! `envoy.filters.http.header_mutation`: headers, trailers and query parameters changed by configuration.

mod config;
mod filter;
#[cfg(test)]
mod tests;

pub use config::HeaderMutationExtension;
