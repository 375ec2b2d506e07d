//! The real binary between real sockets: what the acceptance files, the command line, signals, bad input and faults of
//! peers must come to. Everything runs on free ports, or on hosts in network namespaces (those tests need root, `ip` and
//! `nft`); nothing sleeps to wait for a state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acceptance;
mod access_control;
mod bad_input;
mod captured;
mod clients;
mod command_line;
mod descriptors;
mod draining;
mod examples;
mod h2_floods;
mod hot_restart;
mod http;
mod http2;
mod interception;
mod istio;
mod lifecycle;
mod listeners;
mod log_files;
mod names;
mod overload;
mod refused;
mod reload;
mod scopes;
mod services;
mod shared;
mod smuggling;
mod support;
mod tls;
mod tunnels;
mod upgrades;
mod upstreams;
mod xds;
