//! `envoy.filters.http.lua`: scripts that see and change requests and responses.
//!
//! One LuaJIT virtual machine per worker runs the scripts of all Lua filters. Each script has globals of its own, which
//! live as long as the script is configured; each side of a stream runs as a coroutine. Where Envoy's behaviour is known it
//! is followed to the text of errors; what follows is what differs, all of it so that a script can't take a worker down:
//!
//! - A coroutine has a [`budget`] of instructions, time and log lines until it ends or waits; then it fails. The JIT compiler
//!   is off, as compiled loops can't be interrupted: LuaJIT's interpreter takes about 4 ns per instruction, and an average
//!   script 1 to 3 µs a call. Patterns that could take long are matched by [`pattern`], whose steps are counted too.
//! - A machine may hold [`vm::MEMORY_LIMIT`] bytes. A script that wants more fails; a machine that stays nearly full, or
//!   fails for want of memory again and again, is replaced, and scripts start with fresh globals.
//! - There is no `ffi`, no `newproxy`, no `module`, of `debug` only `traceback`, no bytecode; C modules
//!   can't be loaded. Of `io`, `os` and the functions that load files, what would block the worker raises an error that says
//!   so, where Envoy lets a script block its worker. The `string` library is one for all scripts of a
//!   worker, the others each script's own.
//! - Not built: `importPublicKey`, `verifySignature` and `setUpstreamOverrideHost`, which raise an error;
//!   `setHttp1ReasonPhrase` and `drainConnectionUponCompletion`, which do nothing and say so in the log.
//!
//! An error of a script is logged and counted, and the message goes on as it is then.
//!
//! *Invariant*: scripts see a stream only through [`exchange::Shared`], which holds it exactly while a coroutine runs.

mod api;
mod budget;
mod config;
mod exchange;
mod filter;
mod pattern;
mod run;
mod script;
#[cfg(test)]
mod tests;
mod values;
mod vm;

pub use config::LuaExtension;
